"""The Delta log of a space: commits of finished parts, and the manifests in them. delta-rs does the work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from storage.errors import BusyError
from storage.layout import SCHEMA
from storage.manifest import KEY, FileEntry, Manifest, read_manifest
from storage.places import AnyPath, options, source

RETIRED = "polyvec.retired"  # metadata of a commit that takes versions out of the space: their numbers
FOREVER = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
LONGEST_BOUND = 200  # characters of an id that go into the log as its bound
_hooks = PostCommitHookProperties(cleanup_expired_logs=False)


def table(folder: AnyPath, version: int | None = None) -> DeltaTable:
    """A Delta table, now or as of a Delta version."""
    return DeltaTable(str(folder), version=version, storage_options=options(folder))


def is_table(folder: AnyPath) -> bool:
    """Whether a Delta table lies in `folder`."""
    return (folder / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(folder), options(folder))


def newest(folder: AnyPath) -> int | None:
    """The newest Delta version in `folder`, ours or not; None when there is no table."""
    return table(folder).version() if is_table(folder) else None


def _add_action(folder: AnyPath, entry: FileEntry) -> AddAction:
    stats: dict[str, Any] = {"numRecords": entry.rows, "nullCount": {"id": 0}}
    with pq.ParquetFile(source(folder / entry.path)) as part:
        column = part.metadata.row_group(0).column(0).statistics
    if column is not None and column.has_min_max and max(len(column.min), len(column.max)) <= LONGEST_BOUND:
        stats |= {"minValues": {"id": column.min}, "maxValues": {"id": column.max}}
    return AddAction(entry.path, entry.size, {}, int(time.time() * 1000), True, json.dumps(stats, ensure_ascii=False))


def commit(folder: AnyPath, manifest: Manifest, base: int | None) -> int:
    """Make the manifest's files the table's contents, in one atomic step; files that stand there already stay.

    base : the Delta version it was built on; None when there was no table.

    Returns
    -------
    The Delta version.

    Raises
    ------
    BusyError : somebody else committed in between; nothing of ours is visible.
    """
    properties = CommitProperties(custom_metadata={KEY: manifest.model_dump_json()}, max_commit_retries=0)
    schema = Schema.from_arrow(SCHEMA)
    try:
        if base is None:
            create_table_with_add_actions(
                str(folder), schema, [_add_action(folder, entry) for entry in manifest.files], mode="error",
                configuration=FOREVER, storage_options=options(folder), commit_properties=properties,
            )  # fmt: skip
            return 0
        before = table(folder, base)
        stand = set(pa.table(before.get_add_actions())["path"].to_pylist())
        wanted = {entry.path: entry for entry in manifest.files}
        now = int(time.time() * 1000)
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(path, True, now) for path in sorted(stand - set(wanted))
        ]
        actions += [_add_action(folder, entry) for path, entry in wanted.items() if path not in stand]
        before.create_write_transaction(
            actions, mode="append", schema=schema, commit_properties=properties, post_commithook_properties=_hooks
        )
        return base + 1
    except (CommitFailedError, DeltaError) as error:
        found = next((d for d, m in manifests(folder) if (m.version, m.run) == (manifest.version, manifest.run)), None)
        if found is not None:
            return found  # committed; what failed came after it
        raise BusyError(
            f"Somebody else committed to {folder.name!r} while version {manifest.version} was made ({error}). Run again: it goes on from there."
        ) from error


def retire(folder: AnyPath, numbers: Sequence[int]) -> None:
    """Take versions out of the space, in one atomic step; their files can go afterwards.

    Raises
    ------
    CommitFailedError : somebody else committed in between.
    """
    table(folder).create_write_transaction(
        [], mode="append", schema=Schema.from_arrow(SCHEMA), post_commithook_properties=_hooks,
        commit_properties=CommitProperties(custom_metadata={RETIRED: json.dumps(list(numbers))}, max_commit_retries=0),
    )  # fmt: skip


def holds(folder: AnyPath, version: int, run: str) -> bool:
    """Whether a run's commit of a version stands."""
    return any((manifest.version, manifest.run) == (version, run) for _, manifest in manifests(folder))


def latest(folder: AnyPath) -> tuple[int, Manifest] | None:
    """(Delta version, manifest) of the newest polyvec version; looks at no more of the log than it must."""
    if not is_table(folder):
        return None
    log, reach, seen = table(folder), 1, -1
    while True:
        history = log.history(reach)
        retired = _retired(history)  # the newest version is never taken out, unless by hand
        for entry in history:
            if KEY in entry and (manifest := _manifest(folder, entry)).version not in retired:
                return entry["version"], manifest
        if len(history) == seen:
            return None
        seen, reach = len(history), reach * 16


def manifests(folder: AnyPath) -> list[tuple[int, Manifest]]:
    """(Delta version, manifest) of every polyvec version that was not taken out, oldest first."""
    if not is_table(folder):
        return []
    history = table(folder).history()
    retired = _retired(history)
    found = [(entry["version"], _manifest(folder, entry)) for entry in history if KEY in entry]
    return sorted((pair for pair in found if pair[1].version not in retired), key=lambda pair: pair[1].version)


def _manifest(folder: AnyPath, entry: dict[str, Any]) -> Manifest:
    return read_manifest(entry[KEY], f"{folder} at Delta version {entry['version']}")


def _retired(history: Sequence[dict[str, Any]]) -> set[int]:
    return {number for entry in history if RETIRED in entry for number in json.loads(entry[RETIRED])}


def paths(folder: AnyPath, delta_version: int | None = None) -> Iterator[str]:
    """The files that the log names, relative to `folder`."""
    yield from pa.table(table(folder, delta_version).get_add_actions())["path"].to_pylist()
