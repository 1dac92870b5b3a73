"""What of earlier work a new version can take over: the part of an incremental run that decides, and copies.

The key is a row's content digest, under one recipe and one encoder. Parts whose rows all stay are kept as they are;
a part that lost rows is written anew without them (copy on write); rows that only got another id are copied; the rest is
embedded. Rows that change go to the end, so that those that change often gather in few parts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.layout import COLUMNS, SCHEMA, read_table, rows_per_file
from storage.manifest import FileEntry
from storage.places import AnyPath

FAN = 8
"""So many small parts of about one size become one: a row is then written again a logarithmic number of times."""


@dataclass(frozen=True, eq=False)
class Known:
    """A part whose rows may be taken over. entry: its place in the parent's manifest; None: rows of a cut-off encode."""

    place: AnyPath
    rows: int
    ids: pa.Array
    digests: pa.Array
    entry: FileEntry | None = None

    @classmethod
    def read(cls, place: AnyPath, rows: int, entry: FileEntry | None = None) -> Known:
        found = read_table([place], [rows], ["id", "digest"]).combine_chunks()
        ids, digests = (
            pa.concat_arrays(found.column(name).chunks) if rows else pa.array([], pa.string())
            for name in ("id", "digest")
        )
        return cls(place, rows, ids, digests, entry)


@dataclass(frozen=True, eq=False)
class Copy:
    """Rows of a part that are written again, under `ids`."""

    part: Known
    rows: NDArray[np.int64]
    ids: pa.Array

    def table(self) -> pa.Table:
        """The rows in the layout of a part."""
        found = read_table([self.part.place], [self.part.rows], COLUMNS).take(pa.array(self.rows))
        return found.set_column(COLUMNS.index("id"), SCHEMA.field("id"), self.ids)


@dataclass(frozen=True, eq=False)
class Reuse:
    """How the rows of a dataset are answered.

    Parameters
    ----------
    kept : parts of the parent that stay as they are, in its order.
    settled : rows of other parts of the parent that stay.
    moved : rows whose content is known under another id, or from an encode that was cut off.
    fresh : (k,) int64 rows of the dataset that have to be embedded, ascending.
    reused, resumed : how many rows come from the parent, and from encodes that were cut off.
    """

    kept: tuple[FileEntry, ...] = ()
    settled: tuple[Copy, ...] = ()
    moved: tuple[Copy, ...] = ()
    fresh: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    reused: int = 0
    resumed: int = 0


NOTHING = Reuse()


def plan_reuse(ids: Sequence[str], digests: Sequence[str], known: Sequence[Known], dim: int) -> Reuse:
    """Decide for each row of a dataset where its vector comes from.

    ids, digests : (n,) of the dataset, ids unique. known : the parts of the parent in their order, then others.
    """
    wanted = pa.array(ids, pa.string())
    content = pa.array(digests, pa.string())
    answered = np.zeros(len(wanted), bool)
    stay: list[tuple[Known, NDArray[np.int64]]] = []
    for part, place in _places(wanted, [part for part in known if part.entry]):
        here = place >= 0
        here[here] = _equal(part.digests.filter(pa.array(here)), content.take(pa.array(place[here])))
        answered[place[here]] = True
        stay.append((part, np.flatnonzero(here)))
    whole = [part for part, rows in stay if part.rows and len(rows) == part.rows]
    merged = set(map(id, _too_small(whole, dim)))
    kept = [part for part in whole if id(part) not in merged]
    settled = [
        Copy(part, rows, part.ids.take(pa.array(rows)))
        for part, rows in stay
        if len(rows) and not any(part is other for other in kept)
    ]
    reused = int(answered.sum())
    moved, counts = _by_content(wanted, content, answered, known)
    return Reuse(
        tuple(part.entry for part in kept if part.entry), tuple(settled), tuple(moved), np.flatnonzero(~answered),
        reused + counts[True], counts[False],
    )  # fmt: skip


def copies(found: Sequence[Copy]) -> Iterator[pa.Table]:
    """The rows of all copies, a part at a time."""
    for copy in found:
        yield copy.table()


def _places(wanted: pa.Array, parts: Sequence[Known]) -> Iterator[tuple[Known, NDArray[np.int64]]]:
    """For each part, where its ids stand in `wanted`; -1 for those that do not."""
    if parts:
        found = _index(pa.concat_arrays([part.ids for part in parts]), wanted)
        ends = np.cumsum([part.rows for part in parts])
        yield from zip(parts, np.split(found, ends[:-1]), strict=True)


def _by_content(
    wanted: pa.Array, content: pa.Array, answered: NDArray[np.bool_], known: Sequence[Known]
) -> tuple[list[Copy], Mapping[bool, int]]:
    """Copies for rows whose content is known under any id; `answered` is brought up to date."""
    counts: Counter[bool] = Counter()
    if not known or answered.all():
        return [], counts
    rest = np.flatnonzero(~answered)
    found = _index(content.take(pa.array(rest)), pa.concat_arrays([part.digests for part in known]))
    ends = np.cumsum([part.rows for part in known])
    owner = np.searchsorted(ends, found, side="right")
    out = []
    for number, part in enumerate(known):
        mine = (found >= 0) & (owner == number)
        if mine.any():
            rows = found[mine] - (ends[number] - part.rows)
            out.append(Copy(part, rows.astype(np.int64), wanted.take(pa.array(rest[mine]))))
            counts[part.entry is not None] += len(rows)
    answered[rest[found >= 0]] = True
    return out, counts


def _index(values: pa.Array, among: pa.Array) -> NDArray[np.int64]:
    """Where each value stands in `among`, -1 where it does not; null stands nowhere."""
    found = pc.index_in(values, value_set=among, skip_nulls=True)
    place: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return place


def _equal(one: pa.Array, other: pa.Array) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = pc.fill_null(pc.equal(one, other), False).to_numpy(zero_copy_only=False)
    return same


def _too_small(parts: Sequence[Known], dim: int) -> list[Known]:
    """Parts to be merged: all of a size class (by factors of FAN, less than half full) that has FAN members or more."""
    full = rows_per_file(dim)
    classes: dict[int, list[Known]] = {}
    for part in parts:
        if part.rows <= full // 2:
            classes.setdefault(int(math.log(part.rows, FAN)), []).append(part)
    return [part for members in classes.values() if len(members) >= FAN for part in members]
