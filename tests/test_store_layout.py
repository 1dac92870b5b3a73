"""Parts as they are written and read: the rows that were written, or an error, whatever bit is flipped."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from embedders.base import Batch, Vectors
from storage import layout, pages, seal, splice, thrift
from storage.errors import DamagedError
from storage.parts import read_batches, read_matrix, read_table
from tests.helpers_store import matrix_of

LEAF = "vector.list.element"
PLAIN = {"use_dictionary": False, "compression": "none", "store_schema": False}


def batches_of(matrix: np.ndarray, size: int = 1000) -> list[Batch]:
    ids = [f"n{i}" for i in range(len(matrix))]
    starts = range(0, len(matrix), size)
    return [Batch(Vectors("node", ids[i : i + size], matrix[i : i + size])) for i in starts]


def write(folder: Path, matrix: np.ndarray) -> tuple[list[Path], list[int]]:
    entries = layout.write_parts([batches_of(matrix)], folder / "v1", {"dim": matrix.shape[1]})
    return [folder / entry.path for entry in entries], [entry.rows for entry in entries]


def table_of(matrix: np.ndarray) -> pa.Table:
    return pa.concat_tables([layout.batch_table(batch) for batch in batches_of(matrix)])


def with_vectors(table: pa.Table, column: pa.Array) -> pa.Table:
    field = pa.field("vector", column.type, nullable=column.null_count > 0)
    return table.set_column(1, field, column)


def from_pages(path: Path, out: np.ndarray, change: int = 0, shrink: int = 0) -> bool:
    """Read the chunk of the vectors; from `change` bytes further on, up to `shrink` bytes before its end."""
    chunk = pq.read_metadata(path).row_group(0).column(1)
    begin, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
    with path.open("rb", buffering=0) as file:
        return pages.fill_from_pages(file, begin + change, end - shrink, out)


@pytest.mark.parametrize(
    ("n", "dim", "rows", "parts"),
    [(1, 1, 9, 1), (7, 1, 9, 1), (1000, 3, 9999, 1), (1000, 3, 300, 4), (70000, 8, 30000, 3), (300, 4096, 9999, 1)]
    + [(3000, dim, 1100, 3) for dim in (2, 5, 7, 9, 12, 15, 16, 17, 64, 100)],
)
def test_our_parts_are_read_from_their_pages(tmp_path, monkeypatch, n, dim, rows, parts):
    matrix = matrix_of(n, dim)
    matrix[0, 0] = -0.0
    monkeypatch.setattr(layout, "ROWS_PER_FILE", rows)
    paths, counts = write(tmp_path, matrix)
    assert len(paths) == parts
    arrow = pa.concat_tables([pq.read_table(path) for path in paths])["vector"].combine_chunks().flatten()
    for path, count in zip(paths, counts, strict=True):
        assert from_pages(path, np.empty((count, dim), np.float32))
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    found = read_matrix(paths, counts, dim)
    assert found.dtype == np.float32 and found.shape == (n, dim) and not found.flags.writeable
    assert found.tobytes() == arrow.to_numpy().tobytes() == matrix.tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 7},
        {"data_page_size": 100, "write_batch_size": 3},
        {"write_page_checksum": True, "write_statistics": True},
        {"compression": "snappy"},
        {"compression": {LEAF: "zstd"}},
        {"use_dictionary": True},
        {"use_dictionary": True, "dictionary_pagesize_limit": 200, "data_page_size": 100, "write_batch_size": 4},
        {"data_page_version": "2.0"},
        {"column_encoding": {LEAF: "BYTE_STREAM_SPLIT"}},
        {"row_group_size": 30, "compression": "zstd", "data_page_version": "2.0"},
    ],
    ids=str,
)
def test_files_of_others_are_left_to_pyarrow(tmp_path, monkeypatch, options):
    """They have no seal, and a bit that is flipped there is pyarrow's to find."""
    table, path = table_of(matrix_of(100, 5)), tmp_path / "part.parquet"
    pq.write_table(table, path, **(PLAIN | options))
    monkeypatch.setattr("storage.parts.fill_from_pages", None)
    found = read_matrix([path], [100], 5)
    assert np.array_equal(found, matrix_of(100, 5)) and not found.flags.writeable
    assert read_table([path], [100], layout.COLUMNS).equals(table)
    assert read_table([path], [100], ["origin", "id"]).equals(table.select(["origin", "id"]))


def test_fixed_size_lists_of_others(tmp_path):
    """Parquet knows no such type: without a stored Arrow schema they are lists, with one they are not our schema."""
    matrix, path = matrix_of(40, 5), tmp_path / "part.parquet"
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 5)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind)
    pq.write_table(with_vectors(table_of(matrix), fixed), path, **PLAIN)
    assert np.array_equal(read_matrix([path], [40], 5), matrix)
    pq.write_table(with_vectors(table_of(matrix), fixed), path, **(PLAIN | {"store_schema": True}))
    with pytest.raises(DamagedError, match=r"part\.parquet"):
        read_matrix([path], [40], 5)


@pytest.mark.parametrize("element", [None, 1.5])
@pytest.mark.parametrize("value", [pa.float32(), pa.float64(), pa.float16()])
def test_nullable_elements_and_other_numbers_are_refused(tmp_path, element, value):
    vectors = pa.array([[1.0, 2.0], [element, 3.0]], pa.list_(pa.field("element", value)))
    path = tmp_path / "part.parquet"
    pq.write_table(with_vectors(table_of(matrix_of(2, 2)), vectors), path, **PLAIN)
    with pytest.raises(DamagedError, match=r"part\.parquet"):
        read_matrix([path], [2], 2)


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}], ids=["pages", "pyarrow"])
@pytest.mark.parametrize("lengths", [(3, 5), (4, 4, 4, 1, 7), (8, 0), (0, 4, 8), (2, 2), (1, 1, 1, 1, 4)])
def test_ragged_lists_are_refused(tmp_path, lengths, options):
    n, dim, path = len(lengths), sum(lengths) // len(lengths), tmp_path / "part.parquet"
    ends = np.cumsum([0, *lengths]).astype(np.int32)
    values = np.arange(ends[-1], dtype=np.float32)
    vectors = pa.ListArray.from_arrays(pa.array(ends), pa.array(values), type=layout.VECTOR)
    pq.write_table(with_vectors(table_of(matrix_of(n, 1)), vectors), path, **(PLAIN | options))
    for width in {dim, 4}:
        if set(lengths) != {width}:
            with pytest.raises(DamagedError, match=rf"part\.parquet.*{n} of {width}"):
                read_matrix([path], [n], width)


@pytest.mark.parametrize(("rows", "dim"), [(6, 4), (8, 3), (12, 2), (24, 1), (1, 24), (3, 8)])
def test_another_shape_of_the_same_size_is_refused(tmp_path, rows, dim):
    paths, counts = write(tmp_path, matrix_of(4, 6))
    assert not from_pages(paths[0], np.empty((rows, dim), np.float32))
    with pytest.raises(DamagedError, match=r"part-00000\.parquet"):
        read_matrix(paths, [rows], dim)
    with pytest.raises(DamagedError, match=rf"4 vectors of 6 numbers; expected 4 of {dim}"):
        read_matrix(paths, counts, dim)


def part_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, pa.Table]:
    """A part of several pages, with digests, nulls and two origins."""
    monkeypatch.setattr(splice, "PAGE", 100)
    n = 24
    digests = [f"{7919 * i:016x}" if i % 5 else None for i in range(n)]
    origin = ["embedded" if i % 3 else "isolated" for i in range(n)]
    vectors = Vectors("node", [f"n{i}" for i in range(n)], matrix_of(n, 3))
    table = layout.batch_table(Batch(vectors, digests=digests, origin=origin))
    layout.write_part(table, folder / "part.parquet", "part.parquet", {"dim": 3, "space": "s"})
    return folder / "part.parquet", table


def reads(path: Path, table: pa.Table) -> dict[str, Callable[[], bool]]:
    """Each way to read a part, and whether it gives the table's rows."""
    rows, dim = table.num_rows, len(table["vector"][0])
    numbers = table["vector"].combine_chunks().flatten().to_numpy()

    def batches() -> bool:
        found = list(read_batches([path], [rows], ["id", "vector"], 7))
        return pa.Table.from_batches(found, table.select(["id", "vector"]).schema).equals(
            table.select(["id", "vector"])
        )

    return {
        "ids": lambda: read_table([path], [rows], ["id"]).equals(table.select(["id"])),
        "matrix": lambda: read_matrix([path], [rows], dim).tobytes() == numbers.tobytes(),
        "table": lambda: read_table([path], [rows], layout.COLUMNS).equals(table),
        "batches": batches,
    }


def flip_and_read(path: Path, table: pa.Table, flips: Iterable[tuple[int, int]]) -> Counter[str]:
    """Flip one bit after the other, (byte, bit); every read is right, or a DamagedError that names the part."""
    content, counts = path.read_bytes(), Counter()
    for place, bit in flips:
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        for name, read in reads(path, table).items():
            try:
                assert read(), (name, place, bit)
                counts["harmless"] += 1
            except DamagedError as error:
                assert str(path) in str(error) and "Restore" in str(error)
                counts["told"] += 1
    path.write_bytes(content)
    assert all(read() for read in reads(path, table).values())
    return counts


def test_any_flipped_bit_is_told_or_harmless(tmp_path, monkeypatch):
    """Ids, digests, origins, vectors, their headers and levels, the footer with statistics and offsets: bits at random."""
    path, table = part_of(tmp_path, monkeypatch)
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    bits = rng.choice(8 * path.stat().st_size, 800, replace=False)
    counts = flip_and_read(path, table, ((int(bit) // 8, int(bit) % 8) for bit in bits))
    assert counts["told"] > 800


@pytest.mark.slow
def test_every_flipped_bit_is_told_or_harmless(tmp_path, monkeypatch):
    """All bits of a part; those that are read by a way of reading are told, but for the name of the seal."""
    path, table = part_of(tmp_path, monkeypatch)
    size = path.stat().st_size
    counts = flip_and_read(path, table, itertools.product(range(size), range(8)))
    assert counts["told"] > 8 * size


def test_flips_that_pyarrow_does_not_tell(tmp_path, monkeypatch):
    """Of a page's kind, so that the page is passed over, and of the codec, where pyarrow ends the process."""
    path, table = part_of(tmp_path, monkeypatch)
    content = path.read_bytes()
    metadata = pq.read_metadata(path)
    kinds = [metadata.row_group(0).column(column).data_page_offset + 1 for column in range(4)]
    footer = range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content))
    flips = [(place, bit) for place in kinds for bit in range(8)] + [(place, 6) for place in footer]
    assert flip_and_read(path, table, flips)["told"] > 3 * len(footer)


@pytest.mark.parametrize("many", [2, 5, 40])
def test_several_damaged_bytes_are_told_or_harmless(tmp_path, monkeypatch, many):
    path, table = part_of(tmp_path, monkeypatch)
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    content = path.read_bytes()
    for _ in range(30):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.choice(len(content), many, replace=False)] ^= rng.integers(1, 256, many).astype(np.uint8)
        path.write_bytes(damaged.tobytes())
        for name, read in reads(path, table).items():
            with suppress(DamagedError):
                assert read(), name


def test_the_seal_is_that_of_the_file(tmp_path, monkeypatch):
    """A footer of another part with the same columns and offsets is told by the columns' digests."""
    path, table = part_of(tmp_path, monkeypatch)
    content = path.read_bytes()
    assert pq.read_metadata(path).metadata[b"polyvec"] == b'{"dim": 3, "space": "s"}'
    assert len(seal.open_seal(content)) == 3
    chunk = pq.read_metadata(path).row_group(0).column(0)
    other = bytearray(content)
    begin, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
    other[begin:end] = other[begin:end][::-1]
    path.write_bytes(other)
    with pytest.raises(DamagedError, match="damaged in its column 'id'"):
        reads(path, table)["ids"]()
    assert reads(path, table)["matrix"]()
    without = pq.read_metadata(path).metadata
    assert set(without) == {b"polyvec", b"polyvec.seal"}


def test_a_footer_longer_than_the_tail_that_is_read_first(tmp_path):
    table = table_of(matrix_of(40, 5))
    path = tmp_path / "part.parquet"
    layout.write_part(table, path, "part.parquet", {"dim": 5, "text": "é" * 3 * seal.TAIL})
    assert flip_and_read(path, table, [(path.stat().st_size - 9, 0), (path.stat().st_size - 300_000, 3)])["told"] == 8


def test_pages_that_begin_or_end_elsewhere_are_refused(tmp_path, monkeypatch):
    path, table = part_of(tmp_path, monkeypatch)
    out = np.empty((24, 3), np.float32)
    assert from_pages(path, out)
    assert np.array_equal(out.reshape(-1), table["vector"].combine_chunks().flatten().to_numpy())
    for change, shrink in itertools.product((-1, 0, 1, 30, 124), (-1, 0, 1, 8, 124, 10**6)):
        assert from_pages(path, out, change, shrink) == (change == shrink == 0), (change, shrink)
    for shape in ((23, 3), (25, 3), (24, 2), (24, 4), (36, 2), (12, 6), (72, 1), (1, 72)):
        assert not from_pages(path, np.empty(shape, np.float32)), shape


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x15", b"\x15\x00", b"\xff" * 300, b"\x1c" * 300, b"\x19\x00"])
def test_a_header_that_is_none(data):
    assert pages.page_header(data) is None


@pytest.mark.parametrize(
    ("dim", "rows"), [(1, 65536), (128, 65536), (129, 65027), (1024, 8192), (8 << 20, 1), (9 << 20, 1)]
)
def test_rows_of_a_part(dim, rows):
    assert layout.rows_per_file(dim) == rows


def test_entries_tell_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "BYTES_PER_FILE", 4 * 6 * 500)
    matrix = matrix_of(1200, 6)
    entries = layout.write_parts([batches_of(matrix, 130)], tmp_path / "v1", {"dim": 6, "a": "é"})
    assert [entry.rows for entry in entries] == [500, 500, 200]
    for entry in entries:
        content = (tmp_path / entry.path).read_bytes()
        metadata = pq.read_metadata(tmp_path / entry.path)
        assert (len(content), xxhash.xxh3_128(content).hexdigest()) == (entry.size, entry.xxh128)
        assert (metadata.num_rows, metadata.num_row_groups) == (entry.rows, 1)
        assert metadata.metadata[b"polyvec"] == '{"dim": 6, "a": "é"}'.encode()


def test_a_full_disk_is_told_as_such(tmp_path):
    """A limit on the size of files stands for a full disk: the kernel refuses the bytes past it."""
    script = (
        "import resource, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from embedders.base import Batch, Vectors\n"
        "from storage import layout\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "batch = Batch(Vectors('node', [str(i) for i in range(1000)], np.ones((1000, 100), np.float32)))\n"
        "try:\n"
        "    layout.write_parts([[batch]], Path(sys.argv[1]), {'dim': 100})\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "v1"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "File too large"


@pytest.mark.parametrize("metadata", [{}, {"a": "é" * 300}])
def test_a_footer_read_and_written_again_is_the_same(tmp_path, metadata):
    path = tmp_path / "p.parquet"
    with pq.ParquetWriter(path, layout.SCHEMA, compression="zstd", write_page_index=True) as writer:
        writer.write_table(table_of(matrix_of(40, 5)), row_group_size=3)  # more than 15 row groups: the long list form
        writer.add_key_value_metadata(metadata)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert thrift.struct(thrift.Reader(footer).struct()) == footer


@pytest.mark.parametrize("data", [b"", b"\x15", b"\x18\xff\xff\xff\xff\x0fab", b"\x1d\x00", b"\x15" + b"\xff" * 11])
def test_bytes_that_are_no_struct_are_refused(data):
    with pytest.raises((ValueError, IndexError)):
        thrift.Reader(data).struct()
