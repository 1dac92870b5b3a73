"""What of earlier work a new version can take over: the part of an incremental run that decides, and copies.

The key is a row's content digest, under one recipe and one encoder. Parts whose rows all stay are kept as they are;
a part that lost rows is written anew without them (copy on write); rows that only got another id are copied; the rest is
embedded. Rows that change go to the end, so that those that change often gather in few parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.digests import compare
from storage.errors import DamagedError
from storage.layout import COLUMNS, SCHEMA, rows_per_file
from storage.manifest import FileEntry
from storage.parts import read_table
from storage.places import AnyPath

FAN = 8
"""So many small parts of about one size become one: a row is then written again a logarithmic number of times."""
TEXT = pa.large_string()
"""Of the ids and digests of a whole space, which may take more than the 2 GiB that 32-bit offsets reach."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Known:
    """A part whose rows may be taken over.

    xxh128 : of its bytes. entry : its place in the parent's manifest; None: rows of a cut-off encode.
    """

    place: AnyPath
    rows: int
    ids: pa.Array
    digests: pa.Array
    xxh128: str
    entry: FileEntry | None = None

    @classmethod
    def read(cls, place: AnyPath, rows: int, entry: FileEntry | None = None, *, xxh128: str = "") -> Known:
        """A part with its ids and digests; the vectors stay on disk.

        Raises
        ------
        DamagedError : it is missing or damaged.
        """
        found = read_table([place], [rows], ["id", "digest"])
        ids, digests = (found.column(name).cast(TEXT).combine_chunks() for name in found.schema.names)
        return cls(place, rows, ids, digests, xxh128 if entry is None else entry.xxh128, entry)

    def check(self) -> None:
        """Read it whole.

        Raises
        ------
        DamagedError : its bytes are not those that were written.
        """
        if problem := compare(self.place, self.xxh128):
            raise DamagedError(f"The part {self.place} {problem}.")


@dataclass(frozen=True, eq=False)
class Copy:
    """Rows of a part that are written again, under `ids`."""

    part: Known
    rows: Numbers
    ids: pa.Array

    def table(self) -> pa.Table:
        """The rows in the layout of a part."""
        found = read_table([self.part.place], [self.part.rows], COLUMNS).take(pa.array(self.rows))
        return found.set_column(COLUMNS.index("id"), SCHEMA.field("id"), self.ids.cast(pa.string()))


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
    fresh: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    reused: int = 0
    resumed: int = 0

    @property
    def copied(self) -> list[Known]:
        """The parts that are copied from, each once."""
        return list({id(copy.part): copy.part for copy in (*self.settled, *self.moved)}.values())


NOTHING = Reuse()


def plan_reuse(ids: Sequence[str], digests: Sequence[str], known: Sequence[Known], dim: int) -> Reuse:
    """Decide for each row of a dataset where its vector comes from.

    ids, digests : (n,) of the dataset, ids unique. known : the parts of the parent in their order, and others.
    """
    wanted, content = pa.array(ids, TEXT), pa.array(digests, TEXT)
    parent = [part for part in known if part.entry is not None]
    stays, answered = _staying(wanted, content, parent)
    merged = {id(part) for part in _too_small([part for part, mask in stays if mask.all()], dim)}
    kept, settled = [], []
    for part, mask in stays:
        if part.entry is not None and mask.all() and id(part) not in merged:
            kept.append(part.entry)
        elif mask.any():
            rows = np.flatnonzero(mask)
            settled.append(Copy(part, rows, part.ids.take(pa.array(rows))))
    reused = int(answered.sum())
    moved = _by_content(wanted, content, answered, [*parent, *(part for part in known if part.entry is None)], dim)
    resumed = sum(len(copy.rows) for copy in moved if copy.part.entry is None)
    reused += sum(len(copy.rows) for copy in moved) - resumed
    return Reuse(tuple(kept), tuple(settled), tuple(moved), np.flatnonzero(~answered), reused, resumed)


def copies(found: Sequence[Copy]) -> Iterator[pa.Table]:
    """The rows of all copies, at most a part at a time."""
    for copy in found:
        yield copy.table()


def _staying(
    wanted: pa.Array, content: pa.Array, parts: Sequence[Known]
) -> tuple[list[tuple[Known, NDArray[np.bool_]]], NDArray[np.bool_]]:
    """For each part, which of its rows stay, as id and content are as they were; and which rows of the dataset that
    answers. A row that stands twice stays once.
    """
    if not parts:
        return [], np.zeros(len(wanted), bool)
    place = _index(pa.concat_arrays([part.ids for part in parts]), wanted)
    rows = np.flatnonzero(place >= 0)
    now = content.take(pa.array(place[rows]))
    then = pa.concat_arrays([part.digests for part in parts]).take(pa.array(rows))
    rows = rows[pc.fill_null(pc.equal(now, then), False).to_numpy(zero_copy_only=False)]
    owner = np.full(len(wanted), -1)
    owner[place[rows[::-1]]] = rows[::-1]  # of several, the first is written last
    stays = np.zeros(len(place), bool)
    stays[owner[owner >= 0]] = True
    return list(zip(parts, np.split(stays, _ends(parts)[:-1]), strict=True)), owner >= 0


def _by_content(
    wanted: pa.Array, content: pa.Array, answered: NDArray[np.bool_], known: Sequence[Known], dim: int
) -> list[Copy]:
    """Copies for rows whose content is known under any id; `answered` is brought up to date.

    A copy has no more rows than a part, though many ids may ask for one content.
    """
    rest = np.flatnonzero(~answered)
    if not known or not len(rest):
        return []
    asked, every = content.take(pa.array(rest)), pa.concat_arrays([part.digests for part in known])
    among = np.flatnonzero(pc.is_in(every, value_set=asked, skip_nulls=True))  # few, where little changed
    place = _index(asked, every.take(pa.array(among)))
    rest, at = rest[place >= 0], among[place[place >= 0]]
    ends = _ends(known)
    owner = np.searchsorted(ends, at, side="right")
    order = np.argsort(owner, kind="stable")
    found = []
    for mine in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []:
        number = owner[mine[0]]
        for first in range(0, len(mine), rows_per_file(dim)):
            some = mine[first : first + rows_per_file(dim)]
            rows = at[some] - (ends[number] - known[number].rows)
            found.append(Copy(known[number], rows, wanted.take(pa.array(rest[some]))))
    answered[rest] = True
    return found


def _ends(parts: Sequence[Known]) -> Numbers:
    """Where each part ends among the rows of all."""
    return np.cumsum([part.rows for part in parts], dtype=np.int64)


def _index(values: pa.Array, among: pa.Array) -> Numbers:
    """Where each value stands first in `among`, -1 where it does not; null stands nowhere."""
    found = pc.index_in(values, value_set=among, skip_nulls=True)
    place: Numbers = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return place


def _too_small(parts: Sequence[Known], dim: int) -> list[Known]:
    """Parts to be merged: all of a size class (by factors of FAN, at most half full) that has FAN members or more."""
    half = rows_per_file(dim) // 2
    classes: dict[int, list[Known]] = {}
    for part in parts:
        if part.rows <= half:
            classes.setdefault(_size_class(part.rows), []).append(part)
    return [part for members in classes.values() if len(members) >= FAN for part in members]


def _size_class(rows: int) -> int:
    """The logarithm to base FAN, without its fraction."""
    size = 0
    while rows >= FAN:
        rows, size = rows // FAN, size + 1
    return size
