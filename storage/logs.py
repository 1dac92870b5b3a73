"""Log tables (metrics, quarantine, releases): small Delta tables of rows that many runs add to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from storage import delta
from storage.errors import DamagedError, FullError, brief
from storage.places import AnyPath, asking, options, together
from storage.room import check_room

FILES = 16  # a table of more is written anew as one file
TRIES = 20


def append(folder: AnyPath, rows: pa.Table) -> None:
    """Add rows; the table is made when missing. Two appends at once are both wanted, so conflicts are tried again."""
    _again(
        folder,
        lambda: write_deltalake(
            str(folder), rows, mode="append", configuration=delta.PROPERTIES, storage_options=options(folder)
        ),
    )
    compact(folder)


def append_to(folder: AnyPath, rows: pa.Table, base: int | None) -> None:
    """Add rows to the table as it was at Delta version `base` (None: there was none).

    Raises
    ------
    DeltaError : somebody else changed it since; nothing was added.
    """
    once = CommitProperties(max_commit_retries=0)
    _check_room(folder)
    with asking(folder):
        if base is None:
            write_deltalake(
                str(folder), rows, mode="error", configuration=delta.PROPERTIES, storage_options=options(folder), commit_properties=once
            )  # fmt: skip
        else:
            write_deltalake(delta.open_table(folder, base), rows, mode="append", commit_properties=once)


def replace(folder: AnyPath, rows: pa.Table, predicate: str) -> None:
    """Put rows in the place of those that match an SQL predicate, in one atomic step."""

    def write() -> None:
        if delta.is_table(folder):
            write_deltalake(str(folder), rows, mode="overwrite", predicate=predicate, storage_options=options(folder))
        else:
            write_deltalake(
                str(folder), rows, mode="error", configuration=delta.PROPERTIES, storage_options=options(folder)
            )

    _again(folder, write)


def read_rows(
    folder: AnyPath, schema: pa.Schema, filters: Mapping[str, Any] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """The rows whose columns equal all filters, in no particular order; none when there is no table."""
    return read_rows_at(folder, schema, filters)[1]


def read_rows_at(
    folder: AnyPath, schema: pa.Schema, filters: Mapping[str, Any] = MappingProxyType({})
) -> tuple[int | None, list[dict[str, Any]]]:
    """The Delta version of the table (None: there is none), and its rows.

    Raises
    ------
    DamagedError : the table cannot be read.
    """
    if not delta.is_table(folder):
        if (
            folder.is_dir() and sum(path.name.endswith(".parquet") for path in folder.iterdir()) > 1
        ):  # one: a first write was cut off
            raise DamagedError(
                f"The table {folder} has lost its log. Restore _delta_log from a copy, or delete the folder to begin anew."
            )
        return None, []
    delta.check_newest(folder)
    for _ in range(TRIES):
        try:
            log = delta.table(folder)
            rows = chain.from_iterable(part.to_pylist() for part in _parts(log, folder, schema.names))
            return log.version(), [row for row in rows if all(row[name] == value for name, value in filters.items())]
        except FileNotFoundError as error:  # written anew as one file, and swept, since the log was read
            problem: Exception = error
        except (DeltaError, pa.ArrowException, OSError) as error:
            problem = error
            break
    raise DamagedError(f"The table {folder} cannot be read ({brief(problem)}). Restore it from a copy.") from problem


def _parts(log: DeltaTable, folder: AnyPath, columns: Sequence[str] | None = None) -> list[pa.Table]:
    """The files of a table; all columns without `columns`."""

    def read(name: str) -> pa.Table:
        file = pa.BufferReader((folder / name).read_bytes())  # small: one request, not two, where it lies in a bucket
        # not by a dataset's scanner (pq.read_table): it lets go of Python's bytes on a thread of its own, maybe when
        # Python has ended, and then the process aborts (apache/arrow#36389)
        with pq.ParquetFile(file) as part:
            return part.read(columns=columns, use_threads=False)

    return together(folder, read, pa.table(log.get_add_actions())["path"].to_pylist())


def _check_room(folder: AnyPath) -> None:
    if isinstance(folder, Path):
        check_room(folder)


def _again(folder: AnyPath, write: Callable[[], None]) -> None:
    _check_room(folder)
    for attempt in range(TRIES):
        try:
            with asking(folder):
                return write()
        except DeltaError:
            if delta.is_table(folder):
                delta.open_table(folder)  # a damaged one stays so
            if attempt == TRIES - 1:
                raise
            time.sleep(0.05 * (attempt + 1))


def compact(folder: AnyPath) -> None:
    """Write many small files anew as one; whoever comes second leaves it to the first.

    Not by delta-rs's own compaction, which tries again after a conflict: two at once could leave every row twice.
    """
    log = delta.table(folder)
    if len(log.file_uris()) > FILES:
        with suppress(DeltaError, FullError, FileNotFoundError), asking(folder):
            _check_room(folder)
            once = CommitProperties(max_commit_retries=0)
            write_deltalake(log, pa.concat_tables(_parts(log, folder)), mode="overwrite", commit_properties=once)
