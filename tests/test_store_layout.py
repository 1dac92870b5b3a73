"""Parts as they are written, and vectors read straight from their pages: the same numbers as pyarrow's, or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from embedders.base import Batch, Vectors
from storage import layout, pages, thrift
from storage.errors import DamagedError
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


def from_pages(path: Path, out: np.ndarray) -> bool:
    with path.open("rb", buffering=0) as file:
        return pages.fill_from_pages(file, pq.read_metadata(path), 1, out)


@pytest.fixture
def only_pages(monkeypatch):
    """Reading by pyarrow fails, so that what is read comes from the pages."""

    def read(*_args, **_more):
        raise AssertionError("read by pyarrow")

    monkeypatch.setattr(pq.ParquetFile, "read", read)


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
    found = layout.read_matrix(paths, counts, dim)
    assert found.dtype == np.float32 and found.shape == (n, dim) and not found.flags.writeable
    assert found.tobytes() == arrow.to_numpy().tobytes() == matrix.tobytes()


@pytest.mark.usefixtures("only_pages")
@pytest.mark.parametrize("more", [{"row_group_size": 7}, {"data_page_size": 100, "write_batch_size": 3}])
def test_plain_files_of_others_are_read_from_their_pages(tmp_path, more):
    matrix, path = matrix_of(100, 5), tmp_path / "part.parquet"
    pq.write_table(table_of(matrix), path, **PLAIN, **more)
    assert np.array_equal(layout.read_matrix([path], [100], 5), matrix)


@pytest.mark.parametrize(
    "options",
    [
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
def test_other_encodings_are_left_to_pyarrow(tmp_path, options):
    matrix, path = matrix_of(100, 5), tmp_path / "part.parquet"
    pq.write_table(table_of(matrix), path, **(PLAIN | options))
    assert not from_pages(path, np.empty((100, 5), np.float32))
    found = layout.read_matrix([path], [100], 5)
    assert np.array_equal(found, matrix) and not found.flags.writeable


@pytest.mark.parametrize("options", [{}, {"write_page_checksum": True}], ids=str)
def test_page_checksums_and_statistics_do_not_stand_in_the_way(tmp_path, only_pages, options):
    matrix, path = matrix_of(100, 5), tmp_path / "part.parquet"
    pq.write_table(table_of(matrix), path, **PLAIN, **options, write_statistics=True)
    assert np.array_equal(layout.read_matrix([path], [100], 5), matrix)


def test_fixed_size_lists_of_others(tmp_path):
    """Parquet knows no such type: without a stored Arrow schema they are lists, with one they are not our schema."""
    matrix, path = matrix_of(40, 5), tmp_path / "part.parquet"
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 5)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind)
    pq.write_table(with_vectors(table_of(matrix), fixed), path, **PLAIN)
    assert np.array_equal(layout.read_matrix([path], [40], 5), matrix)
    pq.write_table(with_vectors(table_of(matrix), fixed), path, **(PLAIN | {"store_schema": True}))
    with pytest.raises(DamagedError, match=r"part\.parquet"):
        layout.read_matrix([path], [40], 5)


@pytest.mark.parametrize("element", [None, 1.5])
@pytest.mark.parametrize("value", [pa.float32(), pa.float64(), pa.float16()])
def test_nullable_elements_and_other_numbers_are_refused(tmp_path, element, value):
    vectors = pa.array([[1.0, 2.0], [element, 3.0]], pa.list_(pa.field("element", value)))
    path = tmp_path / "part.parquet"
    pq.write_table(with_vectors(table_of(matrix_of(2, 2)), vectors), path, **PLAIN)
    assert not from_pages(path, np.empty((2, 2), np.float32))
    with pytest.raises(DamagedError, match=r"part\.parquet"):
        layout.read_matrix([path], [2], 2)


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
            assert not from_pages(path, np.empty((n, width), np.float32))
            with pytest.raises(DamagedError, match=rf"part\.parquet.*{n} of {width}"):
                layout.read_matrix([path], [n], width)


@pytest.mark.parametrize(("rows", "dim"), [(6, 4), (8, 3), (12, 2), (24, 1), (1, 24), (3, 8)])
def test_another_shape_of_the_same_size_is_refused(tmp_path, rows, dim):
    paths, counts = write(tmp_path, matrix_of(4, 6))
    assert not from_pages(paths[0], np.empty((rows, dim), np.float32))
    with pytest.raises(DamagedError, match=r"part-00000\.parquet"):
        layout.read_matrix(paths, [rows], dim)
    with pytest.raises(DamagedError, match=rf"4 vectors of 6 to 6 numbers; expected 4 of {dim}"):
        layout.read_matrix(paths, counts, dim)


def test_any_flipped_bit_of_the_vectors_is_told_or_harms_one_value(tmp_path):
    """All bits of the chunk: headers, levels and values of its pages."""
    matrix, path = matrix_of(24, 3), tmp_path / "part.parquet"
    pq.write_table(table_of(matrix), path, **PLAIN, data_page_size=100, write_batch_size=4, write_statistics=False)
    chunk, content = pq.read_metadata(path).row_group(0).column(1), path.read_bytes()
    told = harmless = harmed = 0
    for place in range(chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            out = np.zeros_like(matrix)
            if from_pages(path, out):
                different = int((out.view(np.uint32) != matrix.view(np.uint32)).sum())
                assert different <= 1
                harmed, harmless = harmed + different, harmless + (not different)
            else:
                told += 1
    assert harmed == 8 * matrix.nbytes
    assert told > 5 * harmless


def test_pages_that_begin_or_end_elsewhere_are_refused(tmp_path, monkeypatch):
    """A footer whose offset or size is off by some bytes, without one that pyarrow would refuse before."""
    matrix, path = matrix_of(30, 4), tmp_path / "part.parquet"
    pq.write_table(table_of(matrix), path, **PLAIN, row_group_size=10)
    real = pq.read_metadata(path)

    class Chunk:
        def __init__(self, chunk, **other):
            self.chunk, self.other = chunk, other

        def __getattr__(self, name):
            return self.other.get(name, getattr(self.chunk, name))

    class Group:
        def __init__(self, number, **other):
            self.group, self.other = real.row_group(number), other
            self.num_rows = self.group.num_rows

        def column(self, place):
            return Chunk(self.group.column(place), **self.other)

    class Meta:
        schema, num_rows, num_row_groups = real.schema, real.num_rows, real.num_row_groups

        def __init__(self, **other):
            self.other = other

        def row_group(self, number):
            return Group(number, **(self.other if number == 1 else {}))

    chunk, out = real.row_group(1).column(1), np.empty((30, 4), np.float32)
    with path.open("rb", buffering=0) as file:
        assert pages.fill_from_pages(file, Meta(), 1, out) and np.array_equal(out, matrix)
        for change in (-1, 1, 8, -8, 200, -200, 10**6):
            for name in ("data_page_offset", "total_compressed_size", "num_values"):
                value = max(0, getattr(chunk, name) + change)
                assert not pages.fill_from_pages(file, Meta(**{name: value}), 1, out), (name, change)


def test_levels_are_told_by_their_meaning():
    """RLE and bit-packed runs in any mixture (Encodings.md), here of 16 values."""

    def levels(repetition: bytes, definition: bytes = b"\x20\x01") -> bytes:
        return len(repetition).to_bytes(4, "little") + repetition + len(definition).to_bytes(4, "little") + definition

    ones = bytes([0x05, 0b11111110, 0b11111110])  # two packed groups: 0, then seven 1, twice
    runs = bytes([0x02, 0, 0x0E, 1, 0x02, 0, 0x0E, 1])
    for good in (ones, runs, runs[:4] + b"\x03\xfe", b"\x03\xfe" + runs[:4]):
        assert pages.equal_lists(levels(good), 16, 8)
        assert not pages.equal_lists(levels(good), 16, 4)
        assert not pages.equal_lists(levels(good), 16, 16)
        assert not pages.equal_lists(levels(good), 16, 5)
        assert not pages.equal_lists(levels(good, b"\x20\x00"), 16, 8)  # empty lists
        assert not pages.equal_lists(levels(good, b"\x1e\x01\x02\x00"), 16, 8)  # the last one empty
        assert not pages.equal_lists(levels(good, b"\x20\x02"), 16, 8)
        assert not pages.equal_lists(levels(good) + b"\x00", 16, 8)
        for cut in range(len(levels(good))):
            assert not pages.equal_lists(levels(good)[:cut], 16, 8)
    for bad in (b"\x05\xfe\x7e", b"\x05\xff\xfe", b"\x00\x00", b"\x01", b"\xff" * 40, runs + b"\x02\x00"):
        assert not pages.equal_lists(levels(bad), 16, 8)


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
