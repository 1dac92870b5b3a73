"""Releases: atomic maps space -> version, and the names that point at them ("production").

A join over spaces of one release never mixes versions. The table `_releases` holds every release and every move of a
name, with who, when and why; a commit states what it builds on, so that of two moves at once one fails and looks again.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError
from filelock import FileLock

from storage import delta, logs
from storage.errors import BusyError, MovedError, NotFoundError
from storage.paths import Paths, check_name
from storage.tables import TIME

PRODUCTION = "production"
SCHEMA = pa.schema(
    [
        ("sequence", pa.int64()), ("event", pa.string()), ("release", pa.int64()), ("name", pa.string()),
        ("previous", pa.int64()), ("spaces", pa.string()), ("run", pa.string()), ("who", pa.string()),
        ("why", pa.string()), ("time", TIME),
    ]
)  # fmt: skip
TRIES = 20


@dataclass(frozen=True)
class Release:
    """A map space -> version that was good at one time. run: the run that made it."""

    number: int
    spaces: Mapping[str, int]
    run: str
    who: str
    why: str
    time: datetime


@dataclass(frozen=True)
class Move:
    """A name came to point at another release. previous: where it pointed before."""

    name: str
    release: int
    previous: int | None
    who: str
    why: str
    time: datetime


@dataclass(frozen=True)
class State:
    """All releases and moves, oldest first. base: the Delta version they were read at."""

    base: int | None
    sequence: int
    releases: tuple[Release, ...]
    moves: tuple[Move, ...]

    @property
    def pointers(self) -> dict[str, int]:
        """Name to release, as they are now."""
        return {move.name: move.release for move in self.moves}

    def release(self, number: int) -> Release:
        """A release by number.

        Raises
        ------
        NotFoundError : there is none of that number.
        """
        for release in self.releases:
            if release.number == number:
                return release
        known = ", ".join(str(release.number) for release in self.releases[-20:]) or "none yet; do: polyvec run"
        raise NotFoundError(f"Got release {number}; expected one of: {known}. See: polyvec releases.")

    def pointed(self, name: str) -> Release | None:
        """The release that a name points at; None when nothing was ever promoted to it."""
        number = self.pointers.get(name)
        return None if number is None else self.release(number)

    def before(self, name: str) -> int | None:
        """Where a rollback leads: the release that `name` left last, moves back not counted."""
        trail: list[int] = []
        for move in self.moves:
            if move.name != name:
                continue
            if len(trail) > 1 and move.release == trail[-2]:
                trail.pop()
            elif not trail or move.release != trail[-1]:
                trail.append(move.release)
        return trail[-2] if len(trail) > 1 else None

    def protected(self) -> dict[str, set[int]]:
        """Space to versions that must stay: those the names point at, those a rollback leads to, the newest release."""
        numbers = set(self.pointers.values()) | {before for name in self.pointers if (before := self.before(name))}
        numbers |= {release.number for release in self.releases[-1:]}
        found: dict[str, set[int]] = {}
        for number in numbers:
            for space, version in self.release(number).spaces.items():
                found.setdefault(space, set()).add(version)
        return found


def read(paths: Paths) -> State:
    """The releases of a store."""
    base, rows = logs.read_rows_at(paths.releases, SCHEMA)
    rows.sort(key=lambda row: row["sequence"])
    releases = [
        Release(row["release"], json.loads(row["spaces"]), row["run"], row["who"], row["why"], row["time"])
        for row in rows
        if row["event"] == "release"
    ]
    moves = [
        Move(row["name"], row["release"], row["previous"], row["who"], row["why"], row["time"])
        for row in rows
        if row["event"] == "move"
    ]
    return State(base, rows[-1]["sequence"] if rows else 0, tuple(releases), tuple(moves))


def commit(
    paths: Paths, versions: Mapping[str, int], run: str, *, promote: bool = True, who: str | None = None, why: str = ""
) -> Release:
    """Commit the next release, and move `production` to it, in one step.

    versions : of the spaces that the run brought up to date; the other spaces stay as `production` has them.
    """
    for _ in range(TRIES):
        state = read(paths)
        held = state.pointed(PRODUCTION)
        spaces = dict(held.spaces if held else {}) | dict(versions)
        number = 1 + max((release.number for release in state.releases), default=0)
        rows = [_row(state.sequence + 1, "release", number, None, None, spaces, run, who, why or "run")]
        if promote:
            before = held.number if held else None
            rows.append(_row(state.sequence + 2, "move", number, PRODUCTION, before, None, run, who, why or "run"))
        if _put(paths, state, rows):
            logs.compact(paths.releases)
            return Release(number, spaces, run, rows[0]["who"], rows[0]["why"], rows[0]["time"])
    raise BusyError(f"Other runs committed releases {TRIES} times while this one tried. Run again.")


def move(
    paths: Paths,
    number: int,
    *,
    name: str = PRODUCTION,
    expected: int | None = None,
    who: str | None = None,
    why: str = "",
) -> Move:
    """Point a name at a release.

    expected : the release it must point at now; None takes it wherever it is when the move begins.

    Raises
    ------
    NotFoundError : there is no such release.
    MovedError : the name points elsewhere than expected; nothing was moved.
    """
    check_name(name, "release")
    if name == "latest" or name.isdigit():
        raise NotFoundError(f"Got the name {name!r}, which stands for a version already; expected another one.")
    state = read(paths)
    if expected is None:
        expected = state.pointers.get(name)
    for _ in range(TRIES):
        now = state.pointers.get(name)
        if now != expected:
            raise MovedError(
                f"{name!r} points at release {now or 'none'} by now; expected {expected or 'none'}. Look at `polyvec releases`, then decide again."
            )
        state.release(number)
        row = _row(state.sequence + 1, "move", number, name, now, None, None, who, why)
        if _put(paths, state, [row]):
            return Move(name, number, now, row["who"], why, row["time"])
        state = read(paths)
    raise BusyError(f"Others changed the releases {TRIES} times while {name!r} was moved. Try again.")


def rollback(
    paths: Paths, *, name: str = PRODUCTION, expected: int | None = None, who: str | None = None, why: str = ""
) -> Move:
    """Point a name at the release that it left last.

    Raises
    ------
    NotFoundError : there is none.
    MovedError : the name points elsewhere than expected; nothing was moved.
    """
    state = read(paths)
    before = state.before(name)
    if before is None:
        raise NotFoundError(f"Got no release before the one {name!r} points at; nothing to roll back to.")
    return move(paths, before, name=name, expected=expected or state.pointers[name], who=who, why=why)


@contextmanager
def lock(paths: Paths) -> Iterator[None]:
    """Held while versions are taken out or a name is moved, so that no name comes to point at what is going."""
    path = paths.local / "_locks" / "_releases.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def _put(paths: Paths, state: State, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Append rows if nothing changed since `state` was read."""
    try:
        logs.append_to(paths.releases, pa.Table.from_pylist(list(rows), schema=SCHEMA), state.base)
    except DeltaError:
        if delta.newest(paths.releases) == state.base:
            raise  # no race: something else is wrong
        return False
    return True


def _row(
    sequence: int, event: str, release: int, name: str | None, previous: int | None, spaces: Mapping[str, int] | None,
    run: str | None, who: str | None, why: str,
) -> dict[str, Any]:  # fmt: skip
    return {
        "sequence": sequence, "event": event, "release": release, "name": name, "previous": previous, "run": run,
        "spaces": None if spaces is None else json.dumps(dict(sorted(spaces.items()))),
        "who": who or f"{_user()}@{socket.gethostname()}", "why": why, "time": datetime.now(UTC),
    }  # fmt: skip


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
