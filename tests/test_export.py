"""Versions handed over: every format gives back the same ids, in the same order, and the same bits."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest

from embedders.base import Batch, Vectors
from embedders.errors import InputError
from embedders.graph.node2vec import Node2Vec
from storage import export as module
from storage import layout
from storage.errors import DamagedError, NotWritableError
from storage.export import FORMATS, MANIFEST, export
from storage.names import percent_encoded
from storage.store import VectorStore
from tests.flow_helpers import command_line
from tests.helpers_store import AWKWARD, Given, batch_of, encoder_of, given, matrix_of, process, put, write_project

MORE = [
    "line\r\nend",
    "\nfirst",
    "nul\0inside",
    "no\u00a0break",
    "next\u0085line",
    "paragraph\u2029",
    "\u3000",
    "\ufeffmark",
    "\ufeff",
    "100%",
    "a%41b",
    "a%2520b",
    "unit\x1fseparator",
    "vertical\x0btab",
    "NA",
    "null",
    "=1+1",
    "-0",
    "comma,semicolon;",
    '"',
    "''",
    "e\u0301",
    "\u00e9",
    "\ue000\U0010ffff",
    "x" * 5000,
]
IDS = [name for name in AWKWARD if name] + MORE
ASCII_SPACE = set(" \t\n\r\v\f\0")
DIM = 9
HARD = [0.1, -0.0, 1e-45, 1.17549435e-38, 3.4028235e38, -3.4028235e38, 16777216.0, 1 / 3, 9.8e-5]  # of float32


def numbers(rows: int, dim: int = DIM) -> np.ndarray:
    """Any bits that are a finite number, and some that are hard to print."""
    bits = np.random.default_rng(1).integers(0, 2**32, (rows, dim), dtype=np.uint64).astype(np.uint32)
    bits[(bits >> 23) & 0xFF == 0xFF] ^= 1 << 23
    matrix = bits.view(np.float32)
    matrix[0] = HARD
    matrix[1:4] = matrix_of(3, dim)
    assert np.isfinite(matrix).all()
    return matrix


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Awkward ids, in parts of five rows; the same space has another version."""
    store = VectorStore(tmp_path_factory.mktemp("export") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", 5)
        put(store, encoder_of(IDS, numbers(len(IDS))))
        put(store, encoder_of(["other"], matrix_of(1, DIM)))
    found = store.find("s@1")
    assert len(found.files) > 5
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def words(version) -> list[str]:
    return [percent_encoded(name) if set(name) & ASCII_SPACE else name for name in version.ids.tolist()]


def assert_bits(found: np.ndarray, version) -> None:
    assert found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), version.matrix.view(np.uint32))


def small(folder: Path, ids: list[str], space: str = "s"):
    return put(VectorStore(folder / "store"), encoder_of(ids), space=space)


# Formats


def test_the_ids_are_awkward_and_so_are_the_numbers(version):
    assert version.ids.tolist() == IDS
    assert sum(bool(set(name) & ASCII_SPACE) for name in IDS) == 8
    assert np.signbit(version.matrix[0, 1]) and version.matrix[0, 2] > 0


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_says_what_it_wrote(version, out, form):
    done = export(version, out, form)
    assert done.folder == out
    assert sorted(done.files) == sorted(path.name for path in out.iterdir())
    assert done.bytes == sum(path.stat().st_size for path in out.iterdir())
    assert [path for path in out.parent.iterdir() if path != out] == []
    assert json.loads((out / MANIFEST).read_text(encoding="utf-8")) == version.manifest.model_dump(mode="json")
    assert done.encoded == {"word2vec": 8, "word2vec-bin": 8, "tensorboard": 7}.get(form, 0)


def test_parquet_hands_over_the_same_files_in_row_order(version, out):
    import duckdb
    import pandas
    import polars
    import pyarrow.parquet as pq

    done = export(version, out, "parquet")
    assert [name for name in done.files if name != MANIFEST] == [
        f"part-{i:05d}.parquet" for i in range(len(version.files))
    ]
    for name, file in zip(sorted(path for path in out.glob("*.parquet")), version.files, strict=True):
        assert name.samefile(file)  # a hard link
    table = pq.read_table(out)  # as a folder: the manifest is passed over
    assert table.column("id").to_pylist() == IDS
    assert_bits(np.stack(table.column("vector").to_numpy()), version)
    assert pandas.read_parquet(out)["id"].tolist() == IDS
    assert polars.read_parquet(out / "*.parquet")["id"].to_list() == IDS
    assert duckdb.sql(f"SELECT count(*) FROM '{out}/*.parquet'").fetchall() == [(len(IDS),)]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_parquet_is_copied_where_links_cannot_be(version, out, monkeypatch, code):
    def no_link(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_link)
    export(version, out, "parquet")
    for path, file in zip(sorted(out.glob("*.parquet")), version.files, strict=True):
        assert not path.samefile(file)
        assert path.read_bytes() == Path(file).read_bytes()


def test_parquet_is_copied_out_of_an_object_store(version, out):
    class Remote:
        """A place that is no path of this machine."""

        def __init__(self, place):
            self.open, self.read_bytes = place.open, place.read_bytes

    far = dataclasses.replace(version)
    far.__dict__["parts"] = [Remote(place) for place in version.parts]
    export(far, out, "parquet")
    for path, file in zip(sorted(out.glob("*.parquet")), version.files, strict=True):
        assert not path.samefile(file)
        assert path.read_bytes() == Path(file).read_bytes()


def test_parts_of_one_name_in_several_folders(version, out):
    other = VectorStore(version.paths.root).find("s@2")
    picked = [(version, 3), (other, 0), (version, 0)]
    mixed = dataclasses.replace(version, manifest=version.manifest.model_copy(
        update={"files": tuple(one.manifest.files[i] for one, i in picked)}
    ))  # fmt: skip
    assert len({Path(file).name for file in mixed.files}) == 2
    out.mkdir()
    module.write_parquet(mixed, (), out)
    assert [path.name for path in sorted(out.iterdir())] == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    assert all(path.samefile(file) for path, file in zip(sorted(out.iterdir()), mixed.files, strict=True))


def test_word2vec_text(version, out):
    done = export(version, out, "word2vec")
    head, *lines = (out / "vectors.txt").read_bytes().split(b"\n")
    assert head == f"{len(IDS)} {DIM}".encode() and lines.pop() == b""
    fields = [line.split() for line in lines]  # bytes.split(): at ASCII white space
    assert [row[0].decode() for row in fields] == words(version)
    assert_bits(np.array([row[1:] for row in fields]).astype("U").astype(np.float64).astype(np.float32), version)
    assert done.encoded == sum(one != other for one, other in zip(words(version), IDS, strict=True))


def test_word2vec_text_has_no_needless_digits(version, out):
    export(version, out, "word2vec")
    for line, row in zip((out / "vectors.txt").read_text("utf-8").split("\n")[1:], version.matrix, strict=False):
        for text, number in zip(line.split(" ")[1:], row, strict=True):
            shortest = np.format_float_scientific(number, unique=True).partition("e")[0].strip("-0.").replace(".", "")
            mantissa = text.lower().partition("e")[0].replace(".", "").strip("-0")
            assert mantissa == shortest.strip("0"), (text, number)


def test_word2vec_binary(version, out):
    export(version, out, "word2vec-bin")
    data = (out / "vectors.bin").read_bytes()
    head, data = data.split(b"\n", 1)
    assert head == f"{len(IDS)} {DIM}".encode()
    found, matrix = [], []
    while data:  # as word2vec.c's own readers do
        name, data = data.split(b" ", 1)
        found.append(name.decode())
        matrix.append(np.frombuffer(data[: 4 * DIM], "<f4"))
        assert data[4 * DIM : 4 * DIM + 1] == b"\n"
        data = data[4 * DIM + 1 :]
    assert found == words(version)
    assert_bits(np.stack(matrix), version)


@pytest.mark.parametrize(("form", "name"), [("word2vec", "vectors.txt"), ("word2vec-bin", "vectors.bin")])
def test_gensim_reads_word2vec(version, out, form, name):
    from gensim.models import KeyedVectors

    export(version, out, form)
    found = KeyedVectors.load_word2vec_format(str(out / name), binary=form.endswith("bin"))
    assert found.index_to_key == words(version)
    assert_bits(found.vectors, version)


def test_npy(version, out):
    export(version, out, "npy")
    assert json.loads((out / "ids.json").read_text(encoding="utf-8")) == IDS
    assert_bits(np.load(out / "vectors.npy"), version)
    mapped = np.load(out / "vectors.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap) and mapped.flags.c_contiguous
    assert_bits(np.asarray(mapped), version)


def test_tensorboard(version, out):
    export(version, out, "tensorboard")
    vectors = (out / "vectors.tsv").read_bytes().decode().split("\n")
    assert vectors.pop() == ""
    matrix = np.array(
        [[float(field) for field in line.split("\t")] for line in vectors], np.float32
    )  # as its plug-in does
    assert_bits(matrix, version)
    labels = (out / "metadata.tsv").read_bytes().decode().split("\n")
    assert labels.pop() == ""
    assert all(label.strip("\ufeff \u3000") for label in labels)
    assert not any("\t" in label for label in labels)  # a tab in the first line would make it a header
    for label, name in zip(labels, IDS, strict=True):
        altered = bool(set(name) & set("\t\r\n\0")) or not name.strip(" \ufeff\u3000")
        assert label == (percent_encoded(name) if altered else name)
    config = (out / "projector_config.pbtxt").read_text()
    assert (
        'tensor_name: "s@1"' in config
        and 'tensor_path: "vectors.tsv"' in config
        and 'metadata_path: "metadata.tsv"' in config
    )


def test_csv(version, out):
    export(version, out, "csv")
    with (out / "vectors.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["id", *(f"v{i}" for i in range(DIM))]
    assert [row[0] for row in rows] == IDS
    assert_bits(np.array([row[1:] for row in rows], np.float64).astype(np.float32), version)


def test_csv_in_pandas_pyarrow_and_duckdb(version, out):
    import duckdb
    import pandas
    import pyarrow.csv

    export(version, out, "csv")
    path = out / "vectors.csv"
    columns = {f"v{i}": np.float32 for i in range(DIM)}
    frame = pandas.read_csv(path, keep_default_na=False, dtype={"id": str, **columns})
    assert frame["id"].tolist() == IDS
    assert_bits(frame[list(columns)].to_numpy(), version)

    types = {name: pa.float32() for name in columns} | {"id": pa.string()}
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )
    assert table.column("id").to_pylist() == IDS
    assert_bits(np.stack([table.column(name).to_numpy() for name in columns], axis=1), version)

    kinds = {"id": "VARCHAR"} | dict.fromkeys(columns, "FLOAT")
    rows = duckdb.sql(
        f"SELECT * FROM read_csv('{path}', header=true, quote='\"', escape='\"', columns={kinds})"
    ).fetchall()
    assert [row[0] for row in rows] == IDS
    assert_bits(np.array([row[1:] for row in rows], np.float32), version)


# Ids


def test_only_ids_that_would_split_are_encoded(tmp_path, out):
    ids = ["new york", "new%20york!", "50%", "http://x/a%20b", "日 本"]
    done = export(small(tmp_path, ids), out, "word2vec")
    found = [line.split(" ")[0] for line in (out / "vectors.txt").read_text("utf-8").splitlines()[1:]]
    assert found == ["new%20york", "new%20york!", "50%", "http://x/a%20b", "日%20本"]
    assert done.encoded == 2
    assert unquote(found[4]) == ids[4]


def test_every_ascii_space_is_encoded_and_comes_back(tmp_path, out):
    ids = [f"a{mark}%41{mark}" for mark in " \t\n\r\v\f\0"]
    export(small(tmp_path, ids), out, "word2vec")
    found = [line.split(b" ")[0].decode() for line in (out / "vectors.txt").read_bytes().split(b"\n")[1:-1]]
    assert [unquote(name) for name in found] == ids
    assert not any(set(name) & ASCII_SPACE for name in found)


@pytest.mark.parametrize("form", ["word2vec", "word2vec-bin", "tensorboard"])
@pytest.mark.parametrize("ids", [["a\tb", "a%09b"], ["a%09b", "x", "a\tb"]])
def test_an_encoded_id_that_is_another_id_is_refused(tmp_path, out, form, ids):
    with pytest.raises(InputError, match=r"'a\\tb' and 'a%09b'.*parquet, npy or csv"):
        export(small(tmp_path, ids), out, form)
    assert not out.exists()


def test_ids_that_look_alike_in_other_parts_are_seen(tmp_path, out, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 2)
    with pytest.raises(InputError, match="both be 'a%20b'"):
        export(small(tmp_path, ["a b", "1", "2", "3", "a%20b"]), out, "word2vec")


@pytest.mark.parametrize("form", ["word2vec", "word2vec-bin", "tensorboard"])
def test_an_empty_id_is_refused(tmp_path, out, form):
    with pytest.raises(InputError, match="empty id"):
        export(small(tmp_path, ["a", ""]), out, form)
    assert not out.exists()


@pytest.mark.parametrize("form", ["npy", "csv", "parquet"])
def test_other_formats_carry_an_empty_id(tmp_path, out, form):
    export(small(tmp_path, ["a", ""]), out, form)
    found = {
        "npy": lambda: json.loads((out / "ids.json").read_text()),
        "csv": lambda: [row[0] for row in csv.reader((out / "vectors.csv").read_text().splitlines())][1:],
        "parquet": lambda: __import__("pyarrow.parquet").parquet.read_table(out).column("id").to_pylist(),
    }
    assert found[form]() == ["a", ""]


# Whole or not at all


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_folder_is_taken(version, out):
    out.mkdir()
    export(version, out, "npy")
    assert entries(out) == [MANIFEST, "ids.json", "vectors.npy"]


def test_folders_above_are_made(version, tmp_path):
    assert export(version, tmp_path / "a" / "b", "npy").folder == tmp_path / "a" / "b"
    assert entries(tmp_path / "a") == ["b"]


def test_a_link_to_an_empty_folder_is_followed(version, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(version, tmp_path / "link", "npy")
    assert (tmp_path / "link").is_symlink() and "ids.json" in entries(tmp_path / "real")


def test_the_folder_is_open_to_whom_the_umask_lets_in(version, out):
    before = os.umask(0o022)
    try:
        export(version, out, "npy")
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_holds_something_is_refused(version, out):
    out.mkdir()
    (out / ".hidden").touch()
    with pytest.raises(InputError, match=r"holds '\.hidden'; expected a new or empty folder"):
        export(version, out, "npy")
    assert entries(out) == [".hidden"] and entries(out.parent) == ["out"]


def test_a_file_in_the_way_is_refused(version, out):
    out.write_text("mine")
    with pytest.raises(InputError, match="which is a file"):
        export(version, out, "npy")
    assert out.read_text() == "mine"


def test_the_folder_one_is_in_is_refused(version, out, monkeypatch):
    out.mkdir()
    monkeypatch.chdir(out)
    with pytest.raises(InputError, match="the one you are in"):
        export(version, ".", "npy")


def test_a_folder_below_a_file_cannot_be_made(version, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotWritableError, match="cannot be written"):
        export(version, tmp_path / "file" / "out", "npy")


def test_an_unknown_format_names_the_known(version, out):
    with pytest.raises(
        InputError, match=r"'excel'; expected one of parquet, word2vec, word2vec-bin, npy, tensorboard, csv"
    ):
        export(version, out, "excel")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")]
)
@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"parquet"}))
@pytest.mark.parametrize("there", [False, True])
def test_an_export_that_ends_early_leaves_nothing(version, out, form, error, there):
    if there:
        out.mkdir()

    def progress(done, total, unit):
        assert (done <= total, unit) == (True, "rows")
        assert len(entries(out.parent)) == 1 + there  # the work is done beside
        if done > len(version) // 2:
            raise error

    with pytest.raises(NotWritableError if isinstance(error, OSError) else type(error)):
        export(version, out, form, progress=progress)
    assert entries(out.parent) == ["out"] * there
    assert not there or entries(out) == []


def test_a_parquet_export_that_ends_early_leaves_nothing(version, out, monkeypatch):
    link, done = os.link, []

    def some(source, target):
        done.append(target)
        if len(done) == 3:
            raise KeyboardInterrupt
        link(source, target)

    monkeypatch.setattr(os, "link", some)
    with pytest.raises(KeyboardInterrupt):
        export(version, out, "parquet")
    assert entries(out.parent) == []
    assert all(Path(file).is_file() for file in version.files)


def test_somebody_else_was_faster(version, out):
    def progress(done, total, unit):
        out.mkdir(exist_ok=True)
        (out / "theirs").touch()

    with pytest.raises(NotWritableError):
        export(version, out, "npy", progress=progress)
    assert entries(out) == ["theirs"] and entries(out.parent) == ["out"]


def test_a_killed_export_does_not_look_whole(version, out):
    code = f"""
import os, signal
from storage.export import export
from storage.store import VectorStore
def progress(done, total, unit):
    if done > total // 2:
        os.kill(os.getpid(), signal.SIGKILL)
export(VectorStore({str(version.paths.root)!r}).find("s@1"), {str(out)!r}, "word2vec", progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], timeout=60)
    assert done.returncode == -9
    assert not out.exists()
    [left] = entries(out.parent)
    assert left.startswith(".out.") and left.endswith(".partial")
    export(version, out, "word2vec")


@pytest.mark.parametrize("form", FORMATS)
def test_a_missing_part_is_told(tmp_path, out, form):
    version = small(tmp_path, ["a", "b c"])
    Path(version.files[0]).unlink()
    with pytest.raises(DamagedError, match="missing"):
        export(version, out, form)
    assert entries(tmp_path) == ["store"]


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"parquet"}))
def test_a_broken_part_is_told(tmp_path, out, form):
    version = small(tmp_path, ["a", "b c"])
    Path(version.files[0]).write_bytes(Path(version.files[0]).read_bytes()[:-20])
    with pytest.raises(DamagedError):
        export(version, out, form)
    assert entries(tmp_path) == ["store"]


@pytest.mark.parametrize(
    ("vectors", "message"), [([[1.0, 2.0], [3.0, 4.0, 5.0, 6.0]], "other lengths"), ([[1.0, 2.0, 3.0]], "Got 1 rows")]
)
def test_rows_that_are_not_as_the_manifest_says(tmp_path, out, monkeypatch, vectors, message):
    version = small(tmp_path, ["a", "b"])
    arrays = [pa.array(["a", "b"][: len(vectors)]), pa.array(vectors, layout.VECTOR)]
    batch = pa.RecordBatch.from_arrays(arrays, names=["id", "vector"])
    monkeypatch.setattr(type(version), "batches", lambda *_, **__: iter([batch]))
    with pytest.raises(DamagedError, match=message):
        export(version, out, "npy")
    assert not out.exists()


# Size


def test_few_rows_at_once_when_they_are_wide(tmp_path, out, monkeypatch):
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 7)
    steps = []
    version = put(VectorStore(tmp_path / "store"), encoder_of(list("abcde"), matrix_of(5, 3)))
    export(version, out, "word2vec", progress=lambda done, total, unit: steps.append(done))
    assert steps == [2, 4, 5]
    found = [line.split(" ") for line in (out / "vectors.txt").read_text().splitlines()[1:]]
    assert [row[0] for row in found] == list("abcde")
    assert_bits(np.array([row[1:] for row in found], np.float32), version)


PEAK = """
import shutil, sys
from pathlib import Path
from storage.export import export
from storage.store import VectorStore
peaks = []
for space in ("little", "little", "much"):
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    export(VectorStore(sys.argv[1]).find(space), sys.argv[2], sys.argv[3])
    [peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    peaks.append(peak)
print(*peaks[1:])
"""


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """A space and one of ten times the rows, both of several parts."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc, which this system has not")
    store = VectorStore(tmp_path_factory.mktemp("sizes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", 8192)
        for space, rows in (("little", 30_000), ("much", 300_000)):
            batches = [
                Batch(Vectors("node", [f"a row {i}" for i in range(at, at + 10_000)], matrix_of(10_000, 128, at)))
                for at in range(0, rows, 10_000)
            ]
            put(store, Given(Node2Vec(dim=128), batches, 128, mode={"threads": 1}), space=space)
    return store.root


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_memory_does_not_grow_with_the_rows(sizes, out, form):
    args = [sys.executable, "-c", PEAK, str(sizes), str(out), form]
    done = subprocess.run(args, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    little, much = map(int, done.stdout.split())
    assert much <= 1.2 * little


# The command


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    from flows.pipeline import Pipeline

    file = write_project(tmp_path_factory.mktemp("project"))
    store = Pipeline.load(file).vectors
    put(store, given(batch_of(["old"])), space="words")
    put(store, given(batch_of(["king", "new york", "río"])), space="words")
    return file.parent


@pytest.fixture
def cli(project, monkeypatch, capsys):
    return command_line(project, monkeypatch, capsys)


def test_help_lists_the_command_and_its_formats(cli):
    assert "export" in cli("--help").out
    text = " ".join(cli("export", "--help").out.split())
    for part in (*FORMATS, "--to DIR", "SPACE[@V]", "--json"):
        assert part in text, part


@pytest.mark.parametrize("form", FORMATS)
def test_the_command(cli, out, form):
    answer = cli("export", "words", "--format", form, "--to", str(out))
    assert answer.code == 0
    assert answer.out.startswith("words @ 2: 3 vectors of 3 numbers, ") and str(out) in answer.out
    assert ("1 ids that" in answer.out) == form.startswith("word2vec")
    assert "export words @ 2: done" in answer.err
    assert MANIFEST in entries(out)


def test_the_command_takes_a_version_and_a_relative_folder(cli, project, tmp_path):
    relative = os.path.relpath(tmp_path / "out", project)
    assert cli("export", "words@1", "--format", "npy", "--to", relative).code == 0
    assert json.loads((tmp_path / "out" / "ids.json").read_text()) == ["old"]


def test_the_command_as_json(cli, out):
    found = json.loads(cli("export", "words", "--format", "word2vec", "--to", str(out), "--json").out)
    size = sum(path.stat().st_size for path in out.iterdir())
    assert found == {"space": "words", "version": 2, "rows": 3, "dim": 3, "format": "word2vec", "folder": str(out),
                     "files": [MANIFEST, "vectors.txt"], "bytes": size, "encoded": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["wrods", "--format", "npy", "--to", "x"], "Spaces there: words"),
        (["words@9", "--format", "npy", "--to", "x"], "it has 1, 2"),
        (["words", "--format", "excel", "--to", "x"], "expected one of parquet, word2vec"),
        (["words", "--format", "npy", "--to", "vectors/words-npy"], "inside the store"),
        (["words", "--format", "npy", "--to", "vectors"], "inside the store"),
        (["words", "--format", "npy", "--to", "."], "expected a new or empty folder"),
    ],
)
def test_what_the_command_refuses(cli, project, args, message):
    before = entries(project), entries(project / "vectors")
    answer = cli("export", *args)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err and "error: Got " in answer.err and "Traceback" not in answer.err
    assert (entries(project), entries(project / "vectors")) == before


@pytest.mark.parametrize(
    "args", [["words", "--format", "npy"], ["words", "--to", "x"], ["--format", "npy", "--to", "x"]]
)
def test_the_command_needs_a_space_a_format_and_a_folder(cli, args):
    assert cli("export", *args).code == 2


def test_the_command_loads_nothing_heavy(project, out):
    code = f"""
import sys
from flows.cli.main import app
sys.argv = ["polyvec", "export", "words", "--format", "npy", "--to", {str(out)!r}]
try:
    app()
except SystemExit as leave:
    assert not leave.code, leave.code
heavy = {{"torch", "numba", "prefect", "dask", "sklearn", "matplotlib", "gensim"}} & set(sys.modules)
assert not heavy, heavy
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupted_command(cli, out, monkeypatch):
    def interrupted(version, pieces, folder):
        (folder / "begun").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "FORMATS", {"npy": interrupted})
    assert cli("export", "words", "--format", "npy", "--to", str(out)).code == 130
    assert entries(out.parent) == []


def test_a_process_of_its_own(project, tmp_path, out):
    with process(
        "export", "words", "--format", "csv", "--to", str(out), cwd=project, home=tmp_path / "home"
    ) as running:
        said, wrong = running.communicate(timeout=60)
    assert running.returncode == 0, wrong
    assert "3 vectors of 3 numbers" in said
    assert (out / "vectors.csv").read_text(encoding="utf-8").splitlines()[0].replace('"', "") == "id,v0,v1,v2"


def test_a_damaged_part_is_not_handed_over(tmp_path, out):
    version = put(VectorStore(tmp_path / "vectors"), encoder_of("abc"))
    part = Path(version.files[0])
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(DamagedError, match=r"part-00000\.parquet is not what was written"):
        export(version, out, "parquet")
    assert not out.exists()


def test_an_export_into_the_store_is_refused(version):
    with pytest.raises(InputError, match="inside the store"):
        export(version, version.paths.root / "s" / "v00099-x", "csv")
