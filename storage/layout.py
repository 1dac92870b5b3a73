"""The Parquet layout of a space: how parts are written and read.

Chosen by measurement (`benchmarks/layout.py`): required list elements, PLAIN without dictionary, statistics or
compression on the vector, no stored Arrow schema (polars.read_delta cannot take a stored FixedSizeList), at most
64k rows a file. Parts are encoded and hashed by two threads while the embedder goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedders.base import Batch, Matrix
from storage.errors import DamagedError
from storage.manifest import KEY, FileEntry

ROWS_PER_FILE = 65_536
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


def rechunk(batches: Iterable[Batch], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly `rows` rows, but for the last one; batches without a row add nothing."""
    held: list[pa.Table] = []
    count = 0
    for batch in batches:
        if not len(batch.vectors):
            continue
        held.append(batch_table(batch))
        count += held[-1].num_rows
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def write_part(table: pa.Table, path: Path, relative: str, summary: Mapping[str, Any]) -> FileEntry:
    """Write one part whole; its entry holds the digest of its bytes."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        store_schema=False,
        use_dictionary=["origin"],
        compression={"id": "zstd", "digest": "zstd", "origin": "zstd", "vector.list.element": "none"},
        write_statistics=["id"],
    ) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_FILE)
        writer.add_key_value_metadata({KEY: json.dumps(summary, ensure_ascii=False)})
    buffer = sink.getvalue()
    digest = hashlib.sha256(buffer).hexdigest()
    with path.open("xb") as file:
        file.write(buffer)
    return FileEntry(path=relative, rows=table.num_rows, size=buffer.size, sha256=digest)


def write_parts(batches: Iterable[Batch], folder: Path, summary: Mapping[str, Any]) -> list[FileEntry]:
    """Write all rows of `batches` into new files under `folder`, two at a time.

    Paths in the entries are relative to `folder`'s parent, the space.
    """
    folder.mkdir(parents=True)
    entries: list[Future[FileEntry]] = []
    with ThreadPoolExecutor(2, thread_name_prefix="parquet") as pool:
        for number, table in enumerate(rechunk(batches, ROWS_PER_FILE)):
            if number >= 2:
                entries[number - 2].result()  # bounds memory to three parts, and raises early
            name = f"part-{number:05d}.parquet"
            entries.append(pool.submit(write_part, table, folder / name, f"{folder.name}/{name}", summary))
    return [entry.result() for entry in entries]


@contextmanager
def open_part(path: Path, rows: int) -> Iterator[pq.ParquetFile]:
    """One part, ready to read.

    Raises
    ------
    DamagedError : it is missing, is no whole Parquet file, or does not hold `rows` rows; also while it is read.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as part:
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


def read_matrix(paths: Sequence[Path], rows: Sequence[int], dim: int) -> Matrix:
    """The vectors of several parts, in order.

    Returns
    -------
    (sum(rows), dim) float32; of a single part without a copy.

    Raises
    ------
    DamagedError : a part does not hold `rows` vectors of `dim` numbers.
    """
    if len(paths) == 1:
        return _part_matrix(paths[0], rows[0], dim)
    out = np.empty((sum(rows), dim), np.float32)
    starts = np.cumsum([0, *rows])

    def fill(number: int) -> None:
        out[starts[number] : starts[number + 1]] = _part_matrix(paths[number], rows[number], dim)

    with ThreadPoolExecutor(2, thread_name_prefix="parquet") as pool:
        list(pool.map(fill, range(len(paths))))
    return out


def _part_matrix(path: Path, rows: int, dim: int) -> Matrix:
    with open_part(path, rows) as part:
        column = part.read(columns=["vector"], use_threads=False).column("vector")
    pieces = [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks]
    flat = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.float32), *pieces])
    if flat.size != rows * dim or len(column) != rows:
        raise DamagedError(
            f"The part {path} holds {len(column)} vectors and {flat.size} numbers; expected {rows} of {dim}. "
            "Restore it from a copy, or run the pipeline with --force."
        )
    return flat.reshape(rows, dim)


def read_table(paths: Sequence[Path], rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some columns of all parts."""
    tables = []
    for path, expected in zip(paths, rows, strict=True):
        with open_part(path, expected) as part:
            table = part.read(columns=list(columns))
            table.validate(full=True)
        tables.append(table)
    return pa.concat_tables(tables) if tables else pa.schema([SCHEMA.field(c) for c in columns]).empty_table()


def read_batches(
    paths: Sequence[Path], rows: Sequence[int], columns: Sequence[str], size: int
) -> Iterator[pa.RecordBatch]:
    """Some columns of all parts, at most `size` rows at a time; memory is bounded by a row group."""
    for path, expected in zip(paths, rows, strict=True):
        with open_part(path, expected) as part:
            yield from part.iter_batches(size, columns=list(columns))
