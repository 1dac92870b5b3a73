"""The Delta log of a space: commits of finished parts, and the manifests in them. delta-rs does the work."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from storage import lists
from storage.errors import BusyError, DamagedError, brief
from storage.layout import SCHEMA
from storage.manifest import KEY, FileEntry, Manifest, read_manifest
from storage.places import AnyPath, asking, options, size, source, together

RETIRED = "polyvec.retired"  # metadata of a commit that takes versions out of the space: their numbers
PROPERTIES = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.checkpointInterval": "10",  # as other writers have it; it bounds what a commit reads of the log
}
_ENTRY = re.compile(r"(\d{20})\.json")  # of the log, by its Delta version
SEAL = "polyvec.seal"  # metadata: the digest of what the others hold
LONGEST_BOUND = 200  # characters of an id that go into the log as its bound
_SCHEMAS = {"vectors": SCHEMA, "recommendations": lists.SCHEMA}  # by Manifest.table
_hooks = PostCommitHookProperties(cleanup_expired_logs=False)


def table(folder: AnyPath, version: int | None = None) -> DeltaTable:
    """A Delta table, now or as of a Delta version."""
    with asking(folder):
        return DeltaTable(str(folder), version=version, storage_options=options(folder))


def open_table(folder: AnyPath, version: int | None = None) -> DeltaTable:
    """A Delta table, now or as of a Delta version.

    Raises
    ------
    DamagedError : its log cannot be read.
    """
    try:
        return table(folder, version)
    except DeltaError as error:
        raise DamagedError(
            f"The Delta log of {folder} cannot be read ({brief(error)}). Restore it from a copy; a checkpoint that is "
            "damaged can be deleted, with _last_checkpoint, as the entries hold all."
        ) from error


def check_newest(folder: AnyPath) -> None:
    """Look at the newest entries of a log: one that is empty is none to delta-rs, and what it held would be gone.

    Raises
    ------
    DamagedError : one is empty.
    """
    if isinstance(folder, Path) and (last := newest(folder)) is not None:
        for number in range(max(0, last - 10), last + 1):
            if size(_entry(folder, number)) == 0:
                raise _damaged(_entry(folder, number), "it is empty")


def is_table(folder: AnyPath) -> bool:
    """Whether a Delta table lies in `folder`."""
    return newest(folder) is not None


def newest(folder: AnyPath) -> int | None:
    """The newest Delta version in `folder`, ours or not; None when there is no table."""
    log = folder / "_delta_log"
    if isinstance(log, Path) and not log.is_dir():
        return None
    return max((int(found[1]) for found in _entries(folder)), default=None)


def _add_action(folder: AnyPath, entry: FileEntry) -> AddAction:
    with source(folder / entry.path) as file:
        first = pq.read_metadata(file).row_group(0).column(0)
    name, column = first.path_in_schema, first.statistics
    stats: dict[str, Any] = {"numRecords": entry.rows, "nullCount": {name: 0}}
    if column is not None and column.has_min_max and max(len(column.min), len(column.max)) <= LONGEST_BOUND:
        stats |= {"minValues": {name: column.min}, "maxValues": {name: column.max}}
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
    UnreachableError : the object store did not answer; whether it stands is not known.
    """
    metadata = _sealed({KEY: manifest.model_dump_json(), RETIRED: spans(retired(folder))})
    properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
    schema = Schema.from_arrow(_SCHEMAS[manifest.table])
    try:
        with asking(folder):
            if base is None:
                create_table_with_add_actions(
                    str(folder), schema, [_add_action(folder, entry) for entry in manifest.files], mode="error",
                    configuration=PROPERTIES, storage_options=options(folder), commit_properties=properties,
                )  # fmt: skip
                return 0
            before = open_table(folder, base)
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
        stands = committed(folder, manifest.version, manifest.run)
        if stands is not None:
            return stands  # what failed came after the commit
        raise BusyError(
            f"Somebody else committed to {folder.name!r} while version {manifest.version} was made ({brief(error)}). Run again: it goes on from there."
        ) from error


def retire(folder: AnyPath, numbers: Sequence[int]) -> None:
    """Take versions out of the space, in one atomic step; their files can go afterwards.

    Raises
    ------
    BusyError : somebody else committed in between; nothing was taken out.
    """
    found = latest(folder)
    schema = _SCHEMAS[found[1].table if found else "vectors"]
    try:
        with asking(folder):
            open_table(folder).create_write_transaction(
                [], mode="append", schema=Schema.from_arrow(schema), post_commithook_properties=_hooks,
                commit_properties=CommitProperties(
                    custom_metadata=_sealed({RETIRED: spans(retired(folder) | set(numbers))}), max_commit_retries=0
                ),
            )  # fmt: skip
    except DeltaError as error:
        if set(numbers) <= retired(folder):
            return  # what failed came after the commit
        raise BusyError(
            f"Somebody else committed to {folder.name!r} while versions were taken out ({brief(error)}). Try again."
        ) from error


def committed(folder: AnyPath, version: int, run: str) -> int | None:
    """The Delta version of a run's commit of a version; None when it does not stand."""
    found = find(folder, version)
    return found[0] if found and found[1].run == run else None


def latest(folder: AnyPath) -> tuple[int, Manifest] | None:
    """(Delta version, manifest) of the newest polyvec version; looks at no more of the log than it must."""
    return next(_backwards(folder, newest(folder)), None)


def find(folder: AnyPath, version: int) -> tuple[int, Manifest] | None:
    """(Delta version, manifest) of one polyvec version, unless it was taken out."""
    last = latest(folder)
    if last is None or version > last[1].version or version in retired(folder):
        return None
    begin = last[0] - (last[1].version - version)  # a Delta version holds one of ours at most
    found = next((found for found in _backwards(folder, begin) if found[1].version <= version), None)
    return found if found and found[1].version == version else None


def manifests(folder: AnyPath) -> list[tuple[int, Manifest]]:
    """(Delta version, manifest) of every polyvec version that was not taken out, oldest first."""
    gone = retired(folder)
    begin = newest(folder)
    found = together(folder, lambda number: _manifest(folder, number), range(0 if begin is None else begin + 1))
    return [one for one in found if one is not None and one[1].version not in gone]


def _backwards(folder: AnyPath, begin: int | None) -> Iterator[tuple[int, Manifest]]:
    for number in range(-1 if begin is None else begin, -1, -1):
        if found := _manifest(folder, number):
            yield found


def _manifest(folder: AnyPath, number: int) -> tuple[int, Manifest] | None:
    """(Delta version, manifest) of an entry of the log, if it is of a polyvec version."""
    info = _info(folder, number)
    return (number, read_manifest(info[KEY], f"{folder} at Delta version {number}")) if KEY in info else None


def retired(folder: AnyPath) -> set[int]:
    """Versions that were taken out. Each of our entries repeats those before it, so that the newest one tells all."""
    for number in range(-1 if (begin := newest(folder)) is None else begin, -1, -1):
        if RETIRED in (info := _info(folder, number)):
            return members(info[RETIRED])
    return set()


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in few characters.

    >>> spans({1, 2, 3, 7, 9, 10})
    '1-3,7,9-10'
    """
    ends: list[list[int]] = []
    for number in sorted(numbers):
        if ends and number == ends[-1][1] + 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def members(text: str) -> set[int]:
    """What `spans` wrote.

    >>> sorted(members("1-3,7"))
    [1, 2, 3, 7]
    """
    ends = [span.partition("-") for span in text.split(",") if span]
    return {number for first, _, last in ends for number in range(int(first), int(last or first) + 1)}


def _info(folder: AnyPath, number: int) -> dict[str, Any]:
    """What an entry of the log says of its commit; read as it stands, since `DeltaTable.history` mislabels entries
    while others commit (delta-rs 1.6). Entries are kept for ever (PROPERTIES).
    """
    path = _entry(folder, number)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        if any(int(found[1]) < number for found in _entries(folder)):
            raise _damaged(path, "it is missing") from error
        return {}  # cleaned away by another tool, with all before it
    if not lines:
        raise _damaged(path, "it is empty")
    try:
        found: dict[str, Any] = next((e["commitInfo"] for e in map(json.loads, lines) if "commitInfo" in e), {})
        if SEAL in found and found != found | _sealed(found):
            raise ValueError("its bytes have another digest")
    except (ValueError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    return found


def _sealed(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a commit, with a digest by which damage is told."""
    text = json.dumps([metadata.get(KEY), metadata.get(RETIRED)], ensure_ascii=False)
    return metadata | {SEAL: xxhash.xxh3_64_hexdigest(text.encode())}


def _damaged(path: AnyPath, why: str) -> DamagedError:
    return DamagedError(
        f"The log entry {path} cannot be read ({why}). Restore it from a copy: it may hold the manifest of a version."
    )


def _entry(folder: AnyPath, number: int) -> AnyPath:
    return folder / "_delta_log" / f"{number:020d}.json"


def _entries(folder: AnyPath) -> Iterator[re.Match[str]]:
    """The names of a log's entries, matched."""
    for path in (folder / "_delta_log").iterdir():
        if found := _ENTRY.fullmatch(path.name):
            yield found


def paths(folder: AnyPath, delta_version: int | None = None) -> list[str]:
    """The files that the log names, relative to `folder`.

    Raises
    ------
    DamagedError : the log cannot be read.
    """
    found: list[str] = pa.table(open_table(folder, delta_version).get_add_actions())["path"].to_pylist()
    return found


def needless(folder: AnyPath, seconds: float) -> set[str]:
    """Files in `folder` that the log has not named for so many seconds, or that are as old and were never in it.

    Raises
    ------
    DamagedError : the log cannot be read.
    """
    hours = math.ceil(seconds / 3600)
    with asking(folder):
        found = open_table(folder)
        return set(found.vacuum(retention_hours=hours, dry_run=True, enforce_retention_duration=False, full=True))
