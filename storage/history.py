"""How a space became what it is: what each version added, how two versions differ, where a row was and when it changed.

A part never changes, so what lies in a part of both versions is the same in both and is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.errors import InputError
from storage.changes import Changes, changes
from storage.manifest import FileEntry
from storage.parts import read_matrix, read_table
from storage.space import Version

ROWS_AT_ONCE = 16_384
Ids = NDArray[np.object_]


# The log


@dataclass(frozen=True, eq=False)
class Entry:
    """One version in the log. changes: against its parent; added: bytes of parts the parent does not have.

    Both are None where the parent is gone; changes also for a version without one.
    """

    version: Version
    changes: Changes | None
    added: int | None


def log(versions: Sequence[Version]) -> list[Entry]:
    """What each of a space's versions brought, in the order given; reads no vectors."""
    known = {version.number: version.manifest for version in versions}
    entries = []
    for version in versions:
        m = version.manifest
        parent = known.get(m.parent) if m.parent is not None else None
        old = {entry.path for entry in parent.files} if parent else set()
        added = sum(entry.size for entry in m.files if entry.path not in old)
        gone = m.parent is not None and parent is None
        entries.append(Entry(version, changes(parent, m) if parent else None, None if gone else added))
    return entries


# Two versions


@dataclass(frozen=True, eq=False)
class Diff:
    """What is different between two versions of a space.

    Parameters
    ----------
    changes : of recipe, shape and data.
    added, removed : ids that only `after` or only `before` has, in row order.
    common : how many ids both have.
    changed : (m,) ids of both whose vectors differ in a bit, in the row order of `after`; all of `common` where the
        dimension changed.
    moved : (m,) bool, changed rows whose content did not change, or is not known (the embedder keeps no digests):
        the space itself moved under them.
    old, new : (m, dim) float32, the vectors of `changed` in both versions; None where the dimension changed.
    """

    before: Version
    after: Version
    changes: Changes
    added: Ids
    removed: Ids
    common: int
    changed: Ids
    moved: NDArray[np.bool_]
    old: Matrix | None
    new: Matrix | None

    @property
    def turned(self) -> bool:
        """Whether most common rows moved although their contents did not: `old` and `new` stand in other coordinates."""
        return int(self.moved.sum()) * 2 > self.common


def diff(before: Version, after: Version) -> Diff:
    """Compare two versions by id; memory for the vectors of the parts they do not share, once each.

    Raises
    ------
    InputError : the versions are of different spaces.
    DamagedError : a part cannot be read.
    """
    if before.manifest.space != after.manifest.space or before.paths != after.paths:
        raise InputError(
            f"Got {before.manifest.space} @ {before.number} and {after.manifest.space} @ {after.number}; expected two "
            f"versions of one space. Do: polyvec diff {before.manifest.space}@{before.number} {before.manifest.space}@latest"
        )
    before.check_vectors()
    after.check_vectors()
    shared = {entry.path for entry in before.manifest.files} & {entry.path for entry in after.manifest.files}
    left = [entry for entry in before.manifest.files if entry.path not in shared]
    right = [entry for entry in after.manifest.files if entry.path not in shared]
    old, new = (_table(*side, ["id", "digest"]) for side in ((before, left), (after, right)))
    place = pc.fill_null(pc.index_in(new.column("id"), value_set=old.column("id")), -1).to_numpy()
    new_rows = np.flatnonzero(place >= 0)
    old_rows = place[new_rows]
    gone = np.ones(len(old), bool)
    gone[old_rows] = False
    old_vectors = new_vectors = None
    differs = np.ones(len(new_rows), bool)
    if before.dim == after.dim:
        old_vectors, new_vectors = _gather(before, left, old_rows), _gather(after, right, new_rows)
        differs = _differ(old_vectors, new_vectors)
        if not differs.all():
            old_vectors = old_vectors[differs]
            new_vectors = new_vectors[differs]
    changed = new.take(new_rows[differs])
    same = pc.equal(changed.column("digest"), old.column("digest").take(pa.array(old_rows[differs])))
    return Diff(
        before, after, changes(before.manifest, after.manifest),
        added=_strings(new.column("id").filter(pa.array(place < 0))), removed=_strings(old.column("id").filter(pa.array(gone))),
        common=len(new_rows) + sum(entry.rows for entry in after.manifest.files if entry.path in shared),
        changed=_strings(changed.column("id")), moved=_booleans(pc.fill_null(same, True)), old=old_vectors, new=new_vectors,
    )  # fmt: skip


def _gather(version: Version, entries: Sequence[FileEntry], rows: NDArray[np.int64]) -> Matrix:
    """(len(rows), dim) the vectors of some rows of some parts, one part after the other."""
    out = np.empty((len(rows), version.dim), np.float32)
    order = np.argsort(rows, kind="stable")
    ends = np.searchsorted(rows[order], np.cumsum([0, *(entry.rows for entry in entries)]))
    first = 0
    for number, entry in enumerate(entries):
        wanted = order[ends[number] : ends[number + 1]]
        if len(wanted):
            out[wanted] = _matrix(version, entry)[rows[wanted] - first]
        first += entry.rows
    return out


def _differ(old: Matrix, new: Matrix) -> NDArray[np.bool_]:
    """(n,) whether a row differs in a bit; in blocks."""
    out = np.empty(len(old), bool)
    for first in range(0, len(old), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        out[rows] = (old[rows].view(np.uint32) != new[rows].view(np.uint32)).any(axis=1)
    return out


# One row


@dataclass(frozen=True, eq=False)
class Stored:
    """A row as one version holds it. row: its place in the version; digest: of its content, where the embedder keeps one."""

    version: Version
    row: int
    vector: NDArray[np.float32]
    digest: str | None
    origin: str


What = Literal["there before", "appeared", "changed", "disappeared"]


@dataclass(frozen=True, eq=False)
class Event:
    """A version that made something of a row. before, now: the row in the previous version and in this one.

    "there before": the oldest version that is left has it, so it came then or in one that was taken out since.
    """

    version: Version
    what: What
    before: Stored | None
    now: Stored | None


@dataclass(frozen=True, eq=False)
class RowHistory:
    """One row through the versions of its space.

    Parameters
    ----------
    states : the row in each version, oldest first; None where the version does not have it.
    versions : these versions.
    """

    id: str
    versions: tuple[Version, ...]
    states: tuple[Stored | None, ...]

    @property
    def now(self) -> Stored | None:
        """The row in the newest of the versions."""
        return self.states[-1]

    @property
    def last(self) -> Stored | None:
        """The row in the newest version that has it."""
        return next((state for state in reversed(self.states) if state is not None), None)

    @property
    def events(self) -> list[Event]:
        """Where it appeared, changed in a bit of its vector, or disappeared, oldest first."""
        found: list[Event] = []
        before: Stored | None = None
        for number, (version, state) in enumerate(zip(self.versions, self.states, strict=True)):
            what: What | None = None
            if before is None and state is not None:
                older = number == 0 and version.manifest.parent is not None
                what = "there before" if older else "appeared"
            elif before is not None and state is None:
                what = "disappeared"
            elif before is not None and state is not None and before.vector.tobytes() != state.vector.tobytes():
                what = "changed"
            if what:
                found.append(Event(version, what, before, state))
            before = state
        return found


def row_history(versions: Sequence[Version], id: str) -> RowHistory:
    """Look for a row in versions of one space, oldest first; each part is read once, however many versions share it.

    Raises
    ------
    DamagedError : a part cannot be read.
    """
    places: dict[str, int] = {}  # of parts that were looked at; -1 where the row is not
    held: dict[str, dict[str, Any]] = {}
    states: list[Stored | None] = []
    for version in versions:
        version.check_vectors()
        entries = version.manifest.files
        found = next((entry for entry in entries if entry.path in held), None) or next(
            (entry for entry in entries if _place(version, entry, id, places) >= 0), None
        )
        if found is None:
            states.append(None)
            continue
        if found.path not in held:
            place = places[found.path]
            [facts] = _table(version, [found], ["digest", "origin"]).slice(place, 1).to_pylist()
            held[found.path] = {**facts, "vector": _matrix(version, found)[place].copy()}
        before = sum(entry.rows for entry in entries[: entries.index(found)])
        states.append(Stored(version, before + places[found.path], **held[found.path]))
    return RowHistory(id, tuple(versions), tuple(states))


def _place(version: Version, entry: FileEntry, id: str, places: dict[str, int]) -> int:
    if entry.path not in places:
        ids = _table(version, [entry], ["id"]).column("id")
        places[entry.path] = pc.index(ids, pa.scalar(id, ids.type)).as_py()
    return places[entry.path]


# Parts


def _table(version: Version, entries: Sequence[FileEntry], columns: Sequence[str]) -> pa.Table:
    """Some columns of some parts of a version."""
    folder = version.paths.space(version.manifest.space)
    return read_table([folder / entry.path for entry in entries], [entry.rows for entry in entries], columns)


def _matrix(version: Version, entry: FileEntry) -> Matrix:
    """The vectors of one part of a version."""
    return read_matrix([version.paths.space(version.manifest.space) / entry.path], [entry.rows], version.dim)


def _strings(column: Any) -> Ids:
    return column.to_numpy() if len(column) else np.empty(0, object)


def _booleans(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(), bool) if len(column) else np.empty(0, bool)
