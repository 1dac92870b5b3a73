"""The Parquet layout of recommendations: lists of items, one a user, a row an item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.errors import InputError
from storage.errors import DamagedError
from storage.manifest import KEY, FileEntry
from storage.places import AnyPath, source

ROWS_PER_FILE = 1 << 20
ROWS_PER_GROUP = 1 << 17
SCHEMA = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
COLUMNS = tuple(SCHEMA.names)


def list_table(users: pa.Array, items: pa.Array, places: NDArray[np.int32], scores: Matrix) -> pa.Table:
    """The rows of some lists.

    users : (n,) strings. items : (m,) strings. places : (n, k) of items, -1 from where a list has ended. scores : (n, k).
    """
    row, column = np.nonzero(places >= 0)
    return pa.Table.from_arrays(
        [
            users.take(pa.array(row)), items.take(pa.array(places[row, column])),
            pa.array((column + 1).astype(np.int32)), pa.array(scores[row, column]),
        ],
        schema=SCHEMA,
    )  # fmt: skip


def write_lists(tables: Iterable[pa.Table], folder: AnyPath, summary: Mapping[str, object]) -> list[FileEntry]:
    """Write all rows into new files under `folder`, one at a time; without a row, nothing is made.

    Paths in the entries are relative to `folder`'s parent.
    """
    entries: list[FileEntry] = []
    for table in _rechunk(tables):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"part-{len(entries):05d}.parquet"
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(
            sink, SCHEMA, store_schema=False, use_dictionary=["user", "item", "rank"], compression="zstd", write_statistics=False,
            write_page_checksum=True,
        ) as writer:  # fmt: skip
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            writer.add_key_value_metadata({KEY: json.dumps(dict(summary), ensure_ascii=False)})
        content = sink.getvalue()
        (folder / name).write_bytes(content)
        digest = xxhash.xxh3_128(content).hexdigest()
        path = f"{folder.name}/{name}"
        entries.append(FileEntry(path=path, rows=table.num_rows, size=content.size, xxh128=digest))
    return entries


def _rechunk(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held, count = [SCHEMA.empty_table()], 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= ROWS_PER_FILE:
            whole = pa.concat_tables(held)
            yield whole.slice(0, ROWS_PER_FILE)
            held, count = [whole.slice(ROWS_PER_FILE)], count - ROWS_PER_FILE
    if count:
        yield pa.concat_tables(held)


def read_lists(place: AnyPath, rows: int, columns: Sequence[str], size: int | None = None) -> Iterator[pa.RecordBatch]:
    """Some columns of a part, at most `size` rows at a time.

    Raises
    ------
    InputError : there is no such column.
    DamagedError : the part cannot be read, or does not hold `rows` rows.
    """
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"Got the column {name!r} of recommendations; expected some of {', '.join(COLUMNS)}.")
    remedy = "Restore it from a copy, or run the pipeline with --force."
    try:
        with source(place) as file, pq.ParquetFile(file, page_checksum_verification=True) as part:
            if part.metadata.num_rows != rows or not part.schema_arrow.equals(SCHEMA):
                raise DamagedError(
                    f"The part {place} holds {part.metadata.num_rows} rows of {', '.join(part.schema_arrow.names)}; expected "
                    f"{rows} of {', '.join(COLUMNS)}. {remedy}"
                )
            for batch in part.iter_batches(size or ROWS_PER_GROUP, columns=list(columns), use_threads=False):
                yield batch.select(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"The part {place} cannot be read ({error}). {remedy}") from error
