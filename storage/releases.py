"""Releases: atomic maps space -> version, and the names that point at them ("production"). `promotion` makes them.

A join over spaces of one release never mixes versions. The table `_releases` holds every release and every move of a
name, with who, when and why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from storage import logs
from storage.errors import NotFoundError
from storage.paths import Paths
from storage.tables import TIME

PRODUCTION = "production"
SCHEMA = pa.schema(
    [
        ("sequence", pa.int64()), ("event", pa.string()), ("release", pa.int64()), ("name", pa.string()),
        ("previous", pa.int64()), ("spaces", pa.string()), ("run", pa.string()), ("who", pa.string()),
        ("why", pa.string()), ("time", TIME),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Release:
    """A map space -> version that was good at one time. run: the run that made it."""

    number: int
    spaces: Mapping[str, int]
    run: str
    who: str
    why: str
    time: datetime

    def __str__(self) -> str:
        return ", ".join(f"{space}@{version}" for space, version in self.spaces.items())


@dataclass(frozen=True)
class Move:
    """A name came to point at another release. previous: where it pointed before; back: by a rollback."""

    name: str
    release: int
    previous: int | None
    who: str
    why: str
    time: datetime
    back: bool = False


@dataclass(frozen=True)
class State:
    """All releases and moves, oldest first. base: the Delta version they were read at."""

    base: int | None
    sequence: int
    releases: tuple[Release, ...]
    moves: tuple[Move, ...]

    @cached_property
    def pointers(self) -> Mapping[str, int]:
        """Name to release, as they are now."""
        return {move.name: move.release for move in self.moves}

    def names(self, number: int) -> list[str]:
        """The names that point at a release."""
        return [name for name, release in self.pointers.items() if release == number]

    def holding(self, space: str) -> dict[int, str]:
        """Versions of a space to the releases that hold them, newest first: {7: "3 (production), 2"}."""
        found: dict[int, list[str]] = {}
        for release in reversed(self.releases):
            if (version := release.spaces.get(space)) is not None:
                names = ", ".join(self.names(release.number))
                found.setdefault(version, []).append(f"{release.number} ({names})" if names else str(release.number))
        return {version: ", ".join(texts) for version, texts in found.items()}

    def release(self, number: int | None = None) -> Release:
        """A release by number; the newest one without.

        Raises
        ------
        NotFoundError : there is none of that number, or none at all.
        """
        if number is None and self.releases:
            return self.releases[-1]
        for release in self.releases:
            if release.number == number:
                return release
        if not self.releases:
            raise NotFoundError(f"Got {_called(number)}; there is none yet. Do: polyvec run.")
        known = ", ".join(str(release.number) for release in self.releases[-20:])
        raise NotFoundError(f"Got {_called(number)}; expected one of: {known}. See: polyvec releases.")

    def pointed(self, name: str) -> Release | None:
        """The release that a name points at; None when nothing was ever promoted to it."""
        number = self.pointers.get(name)
        return None if number is None else self.release(number)

    def named(self, name: str) -> Release:
        """The release that a name points at.

        Raises
        ------
        NotFoundError : it points at none.
        """
        release = self.pointed(name)
        if release is None:
            known = ", ".join(self.pointers) or "none yet; do: polyvec run"
            raise NotFoundError(f"Got the name {name!r}, which points at no release. Names that do: {known}.")
        return release

    def before(self, name: str) -> int | None:
        """Where a rollback leads: the release that `name` left last, moves back not counted."""
        trail: list[int] = []
        for move in self.moves:
            if move.name != name:
                continue
            if move.back:
                trail.pop()
            elif trail[-1:] != [move.release]:
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
    releases = tuple(release_of(row) for row in rows if row["event"] == "release")
    moves = tuple(move_of(row) for row in rows if row["event"] in {"move", "rollback"})
    return State(base, rows[-1]["sequence"] if rows else 0, releases, moves)


def release_of(row: Mapping[str, Any]) -> Release:
    """What a row of the table says of a release."""
    spaces = json.loads(row["spaces"] or "{}")
    return Release(row["release"], spaces, row["run"], row["who"], row["why"], row["time"])


def move_of(row: Mapping[str, Any]) -> Move:
    """What a row of the table says of a move."""
    return Move(
        row["name"], row["release"], row["previous"], row["who"], row["why"], row["time"], row["event"] == "rollback"
    )


def _called(number: int | None) -> str:
    return "the newest release" if number is None else f"release {number}"
