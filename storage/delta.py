"""The Delta log of a space: commits of finished parts, and the manifests in them. delta-rs does the work."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from storage.errors import BusyError
from storage.layout import SCHEMA
from storage.manifest import KEY, FileEntry, Manifest, read_manifest

FOREVER = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
LONGEST_BOUND = 200  # characters of an id that go into the log as its bound
_hooks = PostCommitHookProperties(cleanup_expired_logs=False)


def is_table(folder: Path) -> bool:
    """Whether a Delta table lies in `folder`."""
    return (folder / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(folder))


def newest(folder: Path) -> int | None:
    """The newest Delta version in `folder`, ours or not; None when there is no table."""
    return DeltaTable(str(folder)).version() if is_table(folder) else None


def _add_action(folder: Path, entry: FileEntry) -> AddAction:
    stats: dict[str, Any] = {"numRecords": entry.rows, "nullCount": {"id": 0}}
    column = pq.read_metadata(folder / entry.path).row_group(0).column(0).statistics
    if column is not None and column.has_min_max and max(len(column.min), len(column.max)) <= LONGEST_BOUND:
        stats |= {"minValues": {"id": column.min}, "maxValues": {"id": column.max}}
    return AddAction(entry.path, entry.size, {}, int(time.time() * 1000), True, json.dumps(stats, ensure_ascii=False))


def commit(folder: Path, manifest: Manifest, base: int | None) -> None:
    """Make the manifest's files the table's contents, in one atomic step.

    base : the Delta version it was built on; None when there was no table.

    Raises
    ------
    BusyError : somebody else committed in between; nothing of ours is visible.
    """
    adds = [_add_action(folder, entry) for entry in manifest.files]
    properties = CommitProperties(custom_metadata={KEY: manifest.model_dump_json()}, max_commit_retries=0)
    schema = Schema.from_arrow(SCHEMA)
    try:
        if base is None:
            create_table_with_add_actions(
                str(folder), schema, adds, mode="error", configuration=FOREVER, commit_properties=properties
            )
        else:
            table = DeltaTable(str(folder), version=base)
            actions: list[AddAction | RemoveAction] = [*adds]
            table.create_write_transaction(
                actions,
                mode="overwrite",
                schema=schema,
                commit_properties=properties,
                post_commithook_properties=_hooks,
            )
    except (CommitFailedError, DeltaError) as error:
        if holds(folder, manifest.version, manifest.run):
            return  # committed; what failed came after it
        raise BusyError(
            f"Somebody else committed to {folder.name!r} while version {manifest.version} was made ({error}). Run again: it goes on from there."
        ) from error


def holds(folder: Path, version: int, run: str) -> bool:
    """Whether a run's commit of a version stands."""
    return any((manifest.version, manifest.run) == (version, run) for _, manifest in manifests(folder))


def manifests(folder: Path) -> list[tuple[int, Manifest]]:
    """(Delta version, manifest) of every polyvec version, oldest first."""
    if not is_table(folder):
        return []
    history = DeltaTable(str(folder)).history()
    found = [
        (entry["version"], read_manifest(entry[KEY], f"{folder} at Delta version {entry['version']}"))
        for entry in history
        if KEY in entry
    ]
    return sorted(found, key=lambda pair: pair[1].version)


def data_files(folder: Path, delta_version: int) -> list[Path]:
    """The Parquet files of one Delta version, in row order."""
    table = DeltaTable(str(folder), version=delta_version)
    return [folder / path for path in sorted(pa.table(table.get_add_actions())["path"].to_pylist())]


def append(folder: Path, rows: pa.Table) -> None:
    """Add rows to a log table (metrics, quarantine), made when missing.

    Unlike in a space, two appends at once are both wanted, so conflicts are tried again.
    """
    for attempt in range(10):
        try:
            write_deltalake(str(folder), rows, mode="append", configuration=FOREVER)
            return
        except DeltaError:
            if attempt == 9:
                raise
            time.sleep(0.05 * (attempt + 1))


def read_rows(folder: Path, schema: pa.Schema, filters: Sequence[tuple[str, str, Any]] = ()) -> list[dict[str, Any]]:
    """The rows of a log table that match all filters, in no particular order; none when there is no table."""
    if not is_table(folder):
        return []
    paths = DeltaTable(str(folder)).file_uris()
    table = pa.concat_tables(
        [pq.read_table(path, columns=schema.names, filters=list(filters) or None) for path in paths]
        or [schema.empty_table()]
    )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
