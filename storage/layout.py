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
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from embedders.base import Batch, Matrix
from storage.errors import DamagedError
from storage.manifest import KEY, FileEntry
from storage.pages import LEAF, fill_from_pages
from storage.places import AnyPath, source
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


@contextmanager
def open_part(path: AnyPath, rows: int) -> Iterator[pq.ParquetFile]:
    """One part, ready to read.

    Raises
    ------
    DamagedError : it is missing, is no whole Parquet file, or does not hold `rows` rows; also while it is read.
    """
    try:
        with pq.ParquetFile(source(path), page_checksum_verification=True) as part:
            if part.metadata.num_rows != rows or not part.schema_arrow.equals(SCHEMA):
                raise DamagedError(
                    f"The part {path} holds {part.metadata.num_rows} rows of {', '.join(part.schema_arrow.names)}; "
                    f"expected {rows} of {', '.join(COLUMNS)}. Restore it from a copy, or run the pipeline with --force."
                )
            yield part
    except FileNotFoundError as error:
        raise DamagedError(
            f"The part {path} is missing. Restore it from a copy, or run the pipeline with --force."
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedError(
            f"The part {path} cannot be read ({error}). Restore it from a copy, or run the pipeline with --force."
        ) from error


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
        _fill_part(paths[number], out[starts[number] : starts[number + 1]])

    with ThreadPoolExecutor(2, thread_name_prefix="parquet") as pool:
        list(pool.map(fill, range(len(paths))))
    out.flags.writeable = False
    return out


def _fill_part(path: AnyPath, out: Matrix) -> None:
    """Read a part of len(out) vectors into `out`, by its pages where they are as `write_part` makes them."""
    rows, dim = out.shape
    with open_part(path, rows) as part:
        with path.open("rb", buffering=0) as file:
            if fill_from_pages(file, part.metadata, COLUMNS.index("vector"), out):
                return
        column = part.read(columns=["vector"], use_threads=False).column("vector")
        column.validate(full=True)
    lengths = pc.list_value_length(column)
    if len(column) != rows or pc.any(pc.not_equal(lengths, dim)).as_py():
        raise DamagedError(
            f"The part {path} holds {len(column)} vectors of {pc.min(lengths)} to {pc.max(lengths)} numbers; "
            f"expected {rows} of {dim}. Restore it from a copy, or run the pipeline with --force."
        )
    at = 0
    for chunk in column.chunks:
        out[at : at + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dim)
        at += len(chunk)


def read_table(paths: Sequence[AnyPath], rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some columns of all parts."""
    tables = []
    for path, expected in zip(paths, rows, strict=True):
        with open_part(path, expected) as part:
            table = part.read(columns=list(columns))
            table.validate(full=True)
        tables.append(table)
    return pa.concat_tables(tables) if tables else pa.schema([SCHEMA.field(c) for c in columns]).empty_table()


def read_batches(
    paths: Sequence[AnyPath], rows: Sequence[int], columns: Sequence[str], size: int
) -> Iterator[pa.RecordBatch]:
    """Some columns of all parts, at most `size` rows at a time; memory is bounded by a row group."""
    for path, expected in zip(paths, rows, strict=True):
        with open_part(path, expected) as part:
            yield from part.iter_batches(size, columns=list(columns))
