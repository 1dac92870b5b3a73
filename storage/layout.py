"""The Parquet layout of a space: what a part holds, and how it is written; `storage.parts` reads it.

Chosen by measurement (`benchmarks/store.py`): required list elements, PLAIN without dictionary, statistics or
compression on the vector, no stored Arrow schema (polars.read_delta cannot take a stored FixedSizeList), at most
64k rows and 32 MiB of vectors a file. Parts are encoded and hashed page by page, by two threads, while the embedder
goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from embedders.base import Batch, Matrix
from storage.manifest import KEY, FileEntry
from storage.pages import LEAF
from storage.places import AnyPath
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
