"""Releases are committed, names are moved.

Each commit states what it builds on, so that of two at once one fails and looks again. A lock keeps versions from being
taken out meanwhile; of a store in a bucket it holds on one machine.
"""

from __future__ import annotations

import getpass
import json
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError
from filelock import FileLock

from storage import delta, logs
from storage.errors import BusyError, MovedError, NotFoundError
from storage.paths import Paths, check_name
from storage.places import check_writable
from storage.releases import PRODUCTION, SCHEMA, Move, Release, State, move_of, read, release_of

TRIES = 50


def commit(
    paths: Paths, versions: Mapping[str, int], run: str, *, promote: bool = True, who: str | None = None, why: str = ""
) -> Release:
    """Commit the next release, and move `production` to it, in one step.

    versions : of the spaces that the run brought up to date. One that was in a release before comes in only where
    `production` has none of its space: if `production` has another, a rollback or --no-promote left it there. What is
    made of such a version is left with it: another release holds all that the run brought up to date, and no name moves
    there. The other spaces stay as `production` has them, as long as the store has them.

    Returns
    -------
    The release that `production` moved to, if it moved; else the one that holds all.

    Raises
    ------
    BusyError : another run took one of the versions out in between, or made anew what one of them is made of.
    """
    why = why or (f"run {run}" if run else "made up for a run that ended before its release")
    with lock(paths):
        found = {s: delta.find(paths.space(s), v) for s, v in versions.items()}
        if lost := [f"{s}@{v}" for s, v in versions.items() if found[s] is None]:
            raise BusyError(
                f"Got {', '.join(lost)} to release, which another run took out in between (`keep:` in the pipeline file). Run again."
            )
        made_of = {s: one[1].upstream for s, one in found.items() if one is not None}
        if mixed := _beside_others(versions, made_of, versions):
            raise BusyError(
                f"Got {', '.join(f'{s}@{versions[s]}' for s in mixed)} to release, made of versions that another run made in between. Run again."
            )
        for attempt in range(TRIES):
            state = read(paths)
            held = state.pointed(PRODUCTION)
            stays = {s: v for s, v in (held.spaces if held else {}).items() if delta.is_table(paths.space(s))}
            known = {pair for release in state.releases for pair in release.spaces.items()}
            new = {s: v for s, v in versions.items() if s not in stays or (s, v) not in known}
            left: set[str] = set()
            while mixed := _beside_others(new, made_of, dict.fromkeys(left, 0) | stays | new):
                left |= set(mixed)
                new = {s: v for s, v in new.items() if s not in left}
            number = 1 + max((release.number for release in state.releases), default=0)
            moves = promote and bool(new or not left)
            maps = [stays | new] if moves or not left else []
            maps += [stays | dict(versions)] if left else []  # the newest one, which `polyvec promote` takes
            rows = [
                _row(state.sequence + 1 + i, "release", number + i, None, None, spaces, run, who, why)
                for i, spaces in enumerate(maps)
            ]
            if moves:
                before, last = held.number if held else None, state.sequence + len(rows)
                rows.append(_row(last + 1, "move", number, PRODUCTION, before, None, None, who, why))
            if _put(paths, state, rows):
                return release_of(rows[0])
            _pause(attempt)
    raise BusyError(f"Other runs committed releases {TRIES} times while this one tried. Run again.")


def _beside_others(
    versions: Mapping[str, int], made_of: Mapping[str, Mapping[str, int]], spaces: Mapping[str, int]
) -> list[str]:
    """Those of `versions` that are made of other versions than `spaces` has."""
    return [s for s in versions if any(spaces.get(u, v) != v for u, v in made_of[s].items())]


def move(
    paths: Paths,
    number: int,
    *,
    name: str = PRODUCTION,
    expected: int | None = None,
    who: str | None = None,
    why: str = "",
) -> Move:
    """Point a name at a release; where it points there already, nothing is recorded.

    expected : the release it must point at now, 0 for none; None takes it wherever it is when the move begins.

    Returns
    -------
    The move that brought it there.

    Raises
    ------
    NotFoundError : there is no such release, or one of its versions was taken out since.
    MovedError : the name points elsewhere than expected; nothing was moved.
    NotWritableError : the store cannot be written.
    """
    check_name(name, "release")
    if name == "latest" or name.isdigit():
        raise NotFoundError(f"Got the name {name!r}, which stands for a version already; expected another one.")
    read(paths).release(number)  # before the store is touched
    with lock(paths):
        return _point(paths, read(paths), number, name, expected, who, why)


def rollback(
    paths: Paths, *, name: str = PRODUCTION, expected: int | None = None, who: str | None = None, why: str = ""
) -> Move:
    """Point a name at the release that it left last.

    Raises
    ------
    NotFoundError : there is none, or one of its versions was taken out since.
    MovedError : the name points elsewhere than expected; nothing was moved.
    NotWritableError : the store cannot be written.
    """
    _before(read(paths), name, expected)  # before the store is touched
    with lock(paths):
        state = read(paths)
        return _point(paths, state, _before(state, name, expected), name, state.pointers[name], who, why, back=True)


def _before(state: State, name: str, expected: int | None) -> int:
    _expect(state, name, expected)
    before = state.before(name)
    if before is None:
        now = state.pointers.get(name)
        where = f"is at release {now} and left none before it" if now else "points at no release"
        raise NotFoundError(
            f"Got {name!r} to roll back, which {where}; expected a name that moved. See: polyvec releases --moves."
        )
    return before


def _expect(state: State, name: str, expected: int | None) -> None:
    now = state.pointers.get(name, 0)
    if expected is not None and now != expected:
        raise MovedError(
            f"{name!r} points at release {now or 'none'} by now; expected {expected or 'none'}. Nothing was moved. "
            "Look at `polyvec releases`, then decide again."
        )


def _point(
    paths: Paths, state: State, number: int, name: str, expected: int | None, who: str | None, why: str, *, back: bool = False
) -> Move:  # fmt: skip
    _check_versions(paths, state.release(number))
    if expected is None:
        expected = state.pointers.get(name, 0)
    for attempt in range(TRIES):
        _expect(state, name, expected)
        if state.pointers.get(name) == number:
            return next(move for move in reversed(state.moves) if move.name == name)
        event = "rollback" if back else "move"
        row = _row(state.sequence + 1, event, number, name, expected or None, None, None, who, why)
        if _put(paths, state, [row]):
            return move_of(row)
        _pause(attempt)
        state = read(paths)
    raise BusyError(f"Others changed the releases {TRIES} times while {name!r} was moved. Try again.")


def _check_versions(paths: Paths, release: Release) -> None:
    """Refuse a release of which something is gone."""
    gone = [f"{s}@{v}" for s, v in release.spaces.items() if delta.find(paths.space(s), v) is None]
    if gone:
        raise NotFoundError(
            f"Got release {release.number}, of which {', '.join(gone)} was taken out since (`keep:` in the pipeline file); "
            "expected a release whose versions are all there. See: polyvec releases."
        )


@contextmanager
def lock(paths: Paths) -> Iterator[None]:
    """Held while versions are taken out or a name is moved, so that no name comes to point at what is going.

    Raises
    ------
    NotWritableError : the store cannot be written.
    """
    check_writable(paths.root)
    path = paths.local / "_locks" / "_releases.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def _put(paths: Paths, state: State, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Append rows if nothing changed since `state` was read."""
    try:
        logs.append_to(paths.releases, pa.Table.from_pylist(list(rows), schema=SCHEMA), state.base)
    except DeltaError:
        now = read(paths)
        if release_of(rows[0]) not in now.releases and move_of(rows[-1]) not in now.moves:
            if now.base == state.base:
                raise  # no race: something else is wrong
            return False
    logs.compact(paths.releases)
    return True


def _pause(attempt: int) -> None:
    """Let another go first; never two for the same time."""
    time.sleep(random.uniform(0, 0.02 * (attempt + 1)))


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
