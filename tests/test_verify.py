"""A version is checked to the byte, and rows of it are embedded again; damage of every kind is found."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from embedders.base import Batch, Vectors
from embedders.errors import InputError
from flows.pipeline import Pipeline
from storage import layout
from storage.digests import DigestCache
from storage.errors import DamagedError
from storage.store import VectorStore
from storage.verify import Sample, resample, sample_problem, verify
from storage.writer import Source, writing
from tests import helpers_incremental
from tests.helpers_incremental import BAD, HashedEncoder, embed, installed, write_pipeline, write_rows
from tests.helpers_store import AWKWARD, encoder_of, matrix_of, put


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


@pytest.fixture
def version(store, monkeypatch):
    """Three parts."""
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)
    return put(store, encoder_of(AWKWARD, matrix_of(len(AWKWARD))))


def again(version):
    """The version as a new process reads it."""
    return VectorStore(version.paths.root).find(f"{version.manifest.space}@{version.number}")


def found(version):
    return [(Path(finding.place).name, finding.problem) for finding in verify(again(version))]


def test_what_was_written_is_fine(store, version):
    assert len(version.files) == 3
    assert found(version) == []
    put(store, encoder_of("a"))
    assert found(version) == []  # an older version is as good
    assert found(again(store.find("s"))) == []


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("part", [0, 2])
def test_a_flipped_bit_is_found(version, part, place):
    path = Path(version.files[part])
    data = bytearray(path.read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[place]] ^= 1
    path.write_bytes(data)
    assert found(version) == [(path.name, "is not what was written: its bytes have another digest")]


def test_a_missing_and_a_cut_off_part_are_found(version):
    first, second, third = map(Path, version.files)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    assert found(version) == [
        (first.name, "is missing"),
        (second.name, "is not what was written: its bytes have another digest"),
    ]
    third.unlink()
    third.mkdir()
    assert found(version)[2][1].startswith("cannot be read (")


def test_a_damaged_encoder_is_found(version):
    folder = version.paths.root / version.manifest.model
    (folder / "weights.safetensors").write_bytes(b"other")
    (folder / "encoder.json").unlink()
    assert sorted(found(version)) == [
        ("encoder.json", "is missing"),
        ("weights.safetensors", "is not what was written: its bytes have another digest"),
    ]
    shutil.rmtree(folder)
    assert {problem for _, problem in found(version)} == {"is missing"}


def with_manifest(version, **changes):
    return dataclasses.replace(version, manifest=version.manifest.model_copy(update=changes))


def test_counts_that_are_not_those_of_the_rows_are_found(version):
    counts = version.manifest.counts.model_copy(update={"embedded": 11})
    [finding] = verify(with_manifest(version, counts=counts))
    assert finding.problem == "holds 10 rows; its counts say 11"


def test_ids_that_stand_twice_are_found(store):
    version = put(store, encoder_of(["a", "b", "a", "a"]))
    [finding] = verify(version)
    assert (finding.place, finding.problem) == (str(store.root / "s"), "holds 2 ids more than once")


def test_a_log_and_a_manifest_that_differ_are_found(version):
    files = version.manifest.files
    counts = version.manifest.counts.model_copy(update={"embedded": 6})
    [finding] = verify(with_manifest(version, files=files[1:], counts=counts))
    assert finding.place.endswith(files[0].path) and finding.problem == "is in the Delta log and not in the manifest"
    other = files[0].model_copy(update={"path": "v00009-x/part-00000.parquet"})
    problems = {one.problem for one in verify(with_manifest(version, files=(*files, other)))}
    assert problems >= {"is missing", "is in the manifest and not in the Delta log"}


def test_a_delta_log_that_cannot_be_read_is_found(version):
    entry = version.paths.root / "s/_delta_log/00000000000000000000.json"
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    entry.write_text("\n".join(json.dumps(line) for line in lines if "protocol" not in line and "metaData" not in line))
    [(name, problem)] = found(version)
    assert name == "_delta_log" and "cannot be read" in problem


def test_vectors_with_nan_are_found(store):
    """Written so by another tool: our own types refuse them."""
    vectors = Vectors("node", ["a", "b"], matrix_of(2))
    vectors.matrix[1, 0] = np.nan
    with writing(store.space("s"), "r", wait=0, waiting=print) as writer:
        source = Source("d", "0" * 64, 2, {})
        version = writer.commit(source, encoder_of("ab"), [Batch(vectors)], {}, time.monotonic())
    [finding] = verify(version)
    assert finding.problem == "holds 1 vectors with NaN or infinity"


def test_files_that_versions_share_are_read_once(tmp_path, monkeypatch):
    from storage import verify as module

    with installed(tmp_path / "site"):
        file = write_pipeline(tmp_path, rows={name: name.encode() for name in "abc"})
        embed(file)
        write_rows(tmp_path / "rows", {name: name.encode() for name in "abcd"})
        embed(file)
        read, real = [], module.compare
        monkeypatch.setattr(module, "compare", lambda place, digest: read.append(str(place)) or real(place, digest))
        one, two = Pipeline.load(file).vectors.space("s").versions()
        shared = set(one.files) & set(two.files)
        assert shared
        Path(one.files[0]).write_bytes(b"x")
        seen: dict[str, str] = {}
        findings = [list(verify(version, seen)) for version in (one, two)]
    assert len(read) == len(set(read)) and shared < set(read)
    assert [[finding.place for finding in each] for each in findings] == [[one.files[0]]] * 2  # told of both


# Rows embedded again


ROWS = {f"n{i}": f"content {i}".encode() for i in range(40)}


@pytest.fixture
def file(tmp_path):
    with installed(tmp_path / "site"):
        yield write_pipeline(tmp_path, rows=ROWS)


def data_of(file):
    pipeline = Pipeline.load(file)
    dataset = pipeline.dataset("s")
    cache = file.parent / "none"
    return dataset.read(dataset.scan(pipeline.base, DigestCache(cache)), dataset.gives[0], cache=cache)


def test_a_sample_is_the_same(file):
    version = embed(file).version
    sample = resample(version, data_of(file), 15)
    assert sample == Sample(15, 15, 0.0, 1.0)
    assert sample_problem(version, sample) == ""
    assert resample(version, data_of(file), 1000).rows == 40


def test_a_sample_is_drawn_by_its_seed(file, monkeypatch):
    version = embed(file).version
    asked, data, real = [], data_of(file), HashedEncoder.encode
    monkeypatch.setattr(HashedEncoder, "encode", lambda self, rows: asked.append(list(rows.ids)) or real(self, rows))
    for seed in (0, 0, 1):
        resample(version, data, 10, seed=seed)
    assert asked[0] == asked[1] != asked[2] and all(len(set(rows)) == 10 for rows in asked)


def test_rows_whose_input_changed_are_not_compared(file):
    version = embed(file).version
    write_rows(file.parent / "rows", {**ROWS, "n0": b"changed", "new": b"new", "n1": BAD})
    assert resample(version, data_of(file), 1000) == Sample(38, 38, 0.0, 1.0)
    write_rows(file.parent / "rows", {name: b"other" + content for name, content in ROWS.items()})
    with pytest.raises(InputError, match=r"Got no row of s @ 1 whose input is the same today"):
        resample(version, data_of(file), 10)
    write_rows(file.parent / "rows", {"new": b"new"})
    with pytest.raises(InputError, match="Got no row of s @ 1"):
        resample(version, data_of(file), 10)


def test_rows_over_many_parts(file, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 7)
    assert len(embed(file).version.files) == 6
    write_rows(file.parent / "rows", {name: content for name, content in ROWS.items() if name != "n3"})
    version = embed(file).version
    assert resample(version, data_of(file), 30, seed=3) == Sample(30, 30, 0.0, 1.0)


def shift(monkeypatch, change):
    """Make the encoder answer beside what stands: `change(vector, content)`."""
    real = HashedEncoder.vector
    monkeypatch.setattr(HashedEncoder, "vector", lambda encoder, content: change(real(encoder, content), content))


def test_rows_that_come_out_otherwise_are_measured(file, monkeypatch):
    version = embed(file).version
    shift(monkeypatch, lambda vector, content: vector + np.float32(0.25) * (content == ROWS["n7"]))
    sample = resample(version, data_of(file), 1000)
    row = version.matrix[version.ids.tolist().index("n7")].astype(float)
    assert (sample.rows, sample.same) == (40, 39)
    assert sample.worst == pytest.approx(max(0.25 / max(1, abs(x)) for x in row), rel=1e-5)
    moved = row + 0.25
    assert sample.cosine == pytest.approx(row @ moved / np.linalg.norm(row) / np.linalg.norm(moved), rel=1e-5)
    assert sample_problem(version, sample).startswith("embedded again, 1 of 40 rows are not the same bits")


def test_a_row_without_direction_has_no_cosine(file, monkeypatch):
    version = embed(file).version
    shift(monkeypatch, lambda vector, content: vector * (content != ROWS["n7"]))
    assert resample(version, data_of(file), 1000).cosine == 0.0


def test_rows_that_get_no_vector_any_more_are_told(file, monkeypatch):
    version = embed(file).version
    monkeypatch.setattr(helpers_incremental, "BAD", b"content 7")
    sample = resample(version, data_of(file), 1000)
    assert (sample.rows, sample.lost) == (40, ("n7",))
    assert sample_problem(version, sample) == "1 of 40 rows cannot be embedded again, the first 'n7'"
    monkeypatch.setattr(helpers_incremental, "BAD", b"content")
    assert len(resample(version, data_of(file), 1000).lost) == 40


def test_an_encoder_of_another_width_is_damage(file, monkeypatch):
    version = embed(file).version
    monkeypatch.setattr(type(version.encoder()), "dim", 4)
    with pytest.raises(DamagedError, match="gives 4 numbers a row; expected 3"):
        resample(version, data_of(file), 10)


def test_a_space_that_depends_on_all_rows_is_refused(version, file):
    with pytest.raises(
        InputError, match=r"Got a sample of 's', whose vectors depend on the whole dataset \(node2vec\)"
    ):
        resample(version, data_of(file), 10)


@pytest.mark.parametrize(
    ("machine", "libraries", "same", "worst", "cosine", "fine"),
    [
        ({"reproducible": "same bits"}, {}, 10, 0.0, 1.0, True),
        ({"reproducible": "same bits"}, {}, 9, 1e-9, 1.0, False),
        ({"reproducible": "same bits with the same batch_size", "precision": "bf16"}, {}, 9, 1e-9, 1.0, False),
        ({"reproducible": "bytes"}, {}, 9, 1e-9, 1.0, False),
        ({"reproducible": "same bits"}, {"numpy": "0.1"}, 9, 1e-6, 1.0, True),  # libraries of another time
        ({"reproducible": "same bits", "precision": "fp32"}, {"torch": None}, 9, 1e-4, 1.0, False),
        ({"reproducible": "no", "precision": "fp32"}, {}, 0, 1e-5, 0.5, True),
        ({"reproducible": "no", "precision": "fp32"}, {}, 0, 1.1e-5, 1.0, False),
        ({"precision": "bf16"}, {}, 0, 0.5, 0.999, True),
        ({"precision": "bf16"}, {}, 0, 1e-9, 0.9989, False),
        ({}, {}, 10, 0.0, 1.0, True),
        ({}, {}, 9, float("nan"), float("nan"), False),
    ],
)
def test_how_near_is_near_enough(version, machine, libraries, same, worst, cosine, fine):
    was = {**version.manifest.libraries, **libraries}
    told = with_manifest(
        version, machine=machine, libraries={name: value for name, value in was.items() if value is not None}
    )
    problem = sample_problem(told, Sample(10, same, worst, cosine))
    assert (problem == "") == fine, problem
