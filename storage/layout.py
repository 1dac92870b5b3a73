"""The Parquet layout of a space: how parts are written and read.

Chosen by measurement (`benchmarks/store.py`): required list elements, PLAIN without dictionary, statistics or
compression on the vector, no stored Arrow schema (polars.read_delta cannot take a stored FixedSizeList), at most
64k rows and 32 MiB of vectors a file. Parts are encoded and hashed page by page, by two threads, while the embedder
goes on; their vectors are read back straight from the pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from embedders.base import Batch, Matrix
from embedders.errors import InputError
from storage.errors import DamagedError
from storage.manifest import KEY, FileEntry
from storage.pages import LEAF, fill_from_pages
from storage.places import AnyPath, source
from storage.seal import TAIL, BrokenSealError, digest, footer_length, open_seal
from storage.splice import write_spliced

ROWS_PER_FILE = 65_536
BYTES_PER_FILE = 32 << 20  # of vectors
VECTOR = pa.list_(pa.field("element", pa.float32(), nullable=False))
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("vector", VECTOR, nullable=False),
        pa.field("digest", pa.string()),
        pa.field("origin", pa.string(), nullable=False),
    ]
)
COLUMNS = tuple(SCHEMA.names)
REMEDY = "Restore it from a copy, or run the pipeline with --force."


def vector_column(matrix: Matrix) -> pa.Array:
    """(n, dim) float32 as a list column, without a copy."""
    n, dim = matrix.shape
    ends = np.arange(0, (n + 1) * dim, dim, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.ascontiguousarray(matrix).reshape(-1)), type=VECTOR)


def batch_table(batch: Batch) -> pa.Table:
    """A batch as rows of the layout."""
    n = len(batch.vectors)
    digests = pa.nulls(n, pa.string()) if batch.digests is None else pa.array(batch.digests, pa.string())
    if isinstance(batch.origin, str):
        origin = pa.repeat(pa.scalar(batch.origin), n)
    else:
        origin = pa.array(batch.origin, pa.string())
    ids = pa.array(batch.vectors.ids, pa.string())
    return pa.Table.from_arrays([ids, vector_column(batch.vectors.matrix), digests, origin], schema=SCHEMA)


def rows_per_file(dim: int) -> int:
    """How many vectors of `dim` numbers go into a part, at least one."""
    return max(1, min(ROWS_PER_FILE, BYTES_PER_FILE // (4 * dim)))


def rechunk(pieces: Iterable[Batch | pa.Table], dim: int) -> Iterator[pa.Table]:
    """Tables of the rows of a part, the last one of what is left; pieces without a row add nothing."""
    held: list[pa.Table] = []
    count, rows = 0, rows_per_file(dim)
    for piece in pieces:
        held.append(batch_table(piece) if isinstance(piece, Batch) else piece)
        count += held[-1].num_rows
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def write_part(table: pa.Table, path: AnyPath, relative: str, summary: Mapping[str, Any]) -> FileEntry:
    """Write one part whole; its entry holds the digest of its bytes."""
    column = table.column("vector")
    flat = [chunk.flatten().to_numpy() for chunk in column.chunks]
    numbers = flat[0] if len(flat) == 1 else np.concatenate(flat)
    hasher, size = xxhash.xxh3_128(), 0
    with path.open("xb", buffering=0) as file:

        def out(piece: bytes | memoryview) -> None:
            nonlocal size
            hasher.update(piece)
            size += len(piece)
            while len(piece := memoryview(piece)[file.write(piece) :]):  # a raw file may take less than it is given
                pass

        write_spliced(
            table, table.schema.get_field_index("vector"), LEAF, numbers.reshape(table.num_rows, -1), out,
            metadata={KEY: json.dumps(summary, ensure_ascii=False)},
            store_schema=False, use_dictionary=["origin"], compression="zstd", write_statistics=["id"], write_page_checksum=True,
        )  # fmt: skip
    return FileEntry(path=relative, rows=table.num_rows, size=size, xxh128=hasher.hexdigest())


def write_parts(
    streams: Sequence[Iterable[Batch | pa.Table]], folder: AnyPath, summary: Mapping[str, Any]
) -> list[FileEntry]:
    """Write all rows of all streams into new files under `folder`, two at a time; without a row, nothing is made.

    Paths in the entries are relative to `folder`'s parent, the space. streams : each begins a file of its own.
    """
    whole = chain.from_iterable(rechunk(stream, summary["dim"]) for stream in streams)
    entries: list[Future[FileEntry]] = []
    with ThreadPoolExecutor(2, thread_name_prefix="parquet") as pool:
        for number, table in enumerate(whole):
            if number == 0:
                folder.mkdir(parents=True, exist_ok=True)
            if number >= 2:
                entries[number - 2].result()  # bounds memory to three parts, and raises early
            name = f"part-{number:05d}.parquet"
            entries.append(pool.submit(write_part, table, folder / name, f"{folder.name}/{name}", summary))
    return [entry.result() for entry in entries]


@dataclass(frozen=True, eq=False)
class Part:
    """A part that is open, of as many rows as were asked for.

    Parameters
    ----------
    metadata : its footer.
    seal : digests of the bytes of its small columns, by name; None where another tool wrote the file.
    """

    path: AnyPath
    file: Any
    metadata: pq.FileMetaData
    seal: Mapping[str, bytes] | None

    def fill(self, out: Matrix) -> None:
        """Read the vectors into (rows, dim) float32; of a sealed part straight from its pages."""
        if self.seal is None:
            _flatten(self._decode(self.file, ["vector"]).column("vector"), self.path, out)
            return
        numbers = self._chunk("vector").num_values
        if numbers != out.size:
            raise DamagedError(
                f"The part {self.path} holds {len(out)} vectors of {numbers // len(out)} numbers; "
                f"expected {len(out)} of {out.shape[1]}. {REMEDY}"
            )
        with self.path.open("rb", buffering=0) as file:
            if not fill_from_pages(file, *self._place("vector"), out):
                raise DamagedError(f"The part {self.path} is damaged in the pages of its vectors. {REMEDY}")

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows."""
        if self.seal is None:
            return self._decode(self.file, columns)
        found = {}
        if "vector" in columns:
            rows = self.metadata.num_rows
            matrix = np.empty((rows, self._chunk("vector").num_values // rows), np.float32)
            self.fill(matrix)
            found["vector"] = vector_column(matrix)
        if small := [name for name in dict.fromkeys(columns) if name != "vector"]:
            decoded = self._decode(self._small(small), small)
            found |= {name: decoded.column(name) for name in small}
        return pa.Table.from_arrays([found[name] for name in columns], schema=_schema(columns))

    def _small(self, columns: Sequence[str]) -> pa.BufferReader:
        """The file up to the end of some small columns, which lie before the vectors, after a look at their digests."""
        places = {name: self._place(name) for name in columns}
        held = self.file.read_at(max(end for _, end in places.values()), 0)
        for name, (begin, end) in places.items():
            if self.seal is not None and self.seal.get(name) != digest(memoryview(held)[begin:end]):
                raise DamagedError(f"The part {self.path} is damaged in its column {name!r}. {REMEDY}")
        return pa.BufferReader(held)

    def _decode(self, file: Any, columns: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(file, metadata=self.metadata, page_checksum_verification=True) as part:
            # on this thread: one of Arrow's that lets go of Python's bytes as the process ends takes it down
            found = part.read(columns=list(columns), use_threads=False)
        found.validate(full=True)
        if found.num_rows != self.metadata.num_rows:
            raise DamagedError(
                f"The part {self.path} gives {found.num_rows} of its {self.metadata.num_rows} rows. {REMEDY}"
            )
        return found

    def _chunk(self, column: str) -> pq.ColumnChunkMetaData:
        return self.metadata.row_group(0).column(COLUMNS.index(column))

    def _place(self, column: str) -> tuple[int, int]:
        """Where a column begins and ends in the file."""
        chunk = self._chunk(column)
        begin = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at is not None)
        return begin, begin + chunk.total_compressed_size


@contextmanager
def open_part(path: AnyPath, rows: int) -> Iterator[Part]:
    """One part, ready to read.

    Raises
    ------
    DamagedError : it is missing, is no whole Parquet file, or does not hold `rows` rows; also while it is read.
    """
    try:
        with source(path) as file:
            metadata, seal = _footer(file)
            schema = pq.ParquetFile(file, metadata=metadata).schema_arrow
            if metadata.num_rows != rows or not schema.equals(SCHEMA):
                raise DamagedError(
                    f"The part {path} holds {metadata.num_rows} rows of {', '.join(schema.names)}; "
                    f"expected {rows} of {', '.join(COLUMNS)}. {REMEDY}"
                )
            yield Part(path, file, metadata, seal)
    except FileNotFoundError as error:
        raise DamagedError(
            f"The part {path} is missing: taken out since by `keep:` or `gc`, or lost. Open the version again; if it is there, restore the part from a copy, or run the pipeline with --force."
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, BrokenSealError) as error:
        raise DamagedError(f"The part {path} cannot be read ({error}). {REMEDY}") from error


def _footer(file: Any) -> tuple[pq.FileMetaData, Mapping[str, bytes] | None]:
    """A file's footer, once its seal is looked at, and the seal's digests by column."""
    size = file.size()
    tail = file.read_at(min(size, TAIL), max(0, size - TAIL))
    if len(tail) < (whole := footer_length(tail) + 8) <= size:
        tail = file.read_at(whole, size - whole)
    digests = open_seal(tail)
    small = [name for name in COLUMNS if name != "vector"]
    return pq.read_metadata(pa.BufferReader(tail)), None if digests is None else dict(zip(small, digests, strict=False))


def read_matrix(paths: Sequence[AnyPath], rows: Sequence[int], dim: int) -> Matrix:
    """The vectors of several parts, in order.

    Returns
    -------
    (sum(rows), dim) float32, read-only.

    Raises
    ------
    DamagedError : a part does not hold `rows` vectors of `dim` numbers.
    """
    out = np.empty((sum(rows), dim), np.float32)
    starts = np.cumsum([0, *rows])

    def fill(number: int) -> None:
        with open_part(paths[number], rows[number]) as part:
            part.fill(out[starts[number] : starts[number + 1]])

    with ThreadPoolExecutor(2, thread_name_prefix="parquet") as pool:
        list(pool.map(fill, range(len(paths))))
    out.flags.writeable = False
    return out


def _flatten(column: pa.ChunkedArray, path: AnyPath, out: Matrix) -> None:
    """Copy lists that pyarrow decoded."""
    rows, dim = out.shape
    lengths = pc.list_value_length(column)
    if len(column) != rows or pc.any(pc.not_equal(lengths, dim)).as_py():
        raise DamagedError(
            f"The part {path} holds {len(column)} vectors of {pc.min(lengths)} to {pc.max(lengths)} numbers; "
            f"expected {rows} of {dim}. {REMEDY}"
        )
    at = 0
    for chunk in column.chunks:
        out[at : at + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dim)
        at += len(chunk)


def _schema(columns: Sequence[str]) -> pa.Schema:
    """The fields of some columns.

    Raises
    ------
    InputError : there is no such column.
    """
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"Got the column {name!r}; expected some of {', '.join(COLUMNS)}.")
    return pa.schema([SCHEMA.field(name) for name in columns])


def read_table(paths: Sequence[AnyPath], rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some columns of all parts.

    Raises
    ------
    DamagedError : a part cannot be read, or does not hold as many rows.
    """
    tables = [_schema(columns).empty_table()]
    for path, expected in zip(paths, rows, strict=True):
        with open_part(path, expected) as part:
            tables.append(part.table(columns))
    return pa.concat_tables(tables[1:] or tables)


def read_batches(
    paths: Sequence[AnyPath], rows: Sequence[int], columns: Sequence[str], size: int
) -> Iterator[pa.RecordBatch]:
    """Some columns of all parts, at most `size` rows at a time; memory is bounded by a part."""
    for path, expected in zip(paths, rows, strict=True):
        yield from read_table([path], [expected], columns).to_batches(max_chunksize=size)
