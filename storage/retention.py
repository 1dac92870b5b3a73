"""Which versions stay, and what lies in a store that no version needs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage import delta, releases
from storage.paths import NAME, Paths
from storage.places import AnyPath, Stored, inside, remove, walk
from storage.space import Space, Version

AGE = 24 * 3600.0  # seconds after which what nobody needs goes, where a writer elsewhere may still be at work on it
READERS = 3600.0  # seconds that readers of a log table are given


@dataclass(frozen=True)
class Keep:
    """What stays: the newest `versions`, and those younger than `days`; a rule that is None keeps nothing by itself."""

    versions: int | None = None
    days: float | None = None


@dataclass(frozen=True)
class Garbage:
    """A file that nothing needs any more."""

    place: AnyPath
    size: int
    why: str


def expired(
    versions: Sequence[Version], keep: Keep | None, protected: Collection[int], now: datetime | None = None
) -> list[Version]:
    """The versions (given oldest first) that no rule keeps; never the newest, nor one that a release needs."""
    if keep is None or (keep.versions, keep.days) == (None, None):
        return []
    stay = {version.number for version in versions[-(keep.versions or 1) :]} | set(protected)
    since = None if keep.days is None else (now or datetime.now(UTC)) - timedelta(days=keep.days)
    return [
        version
        for version in versions
        if version.number not in stay and (since is None or version.manifest.created < since)
    ]


def retire(space: Space, keep: Keep | None) -> list[Version]:
    """Take out the versions that no rule keeps; done by who holds the space's lock. Their files stand until `sweep`."""
    if keep is None:
        return []
    with releases.lock(space.paths):
        gone = expired(space.versions(), keep, releases.read(space.paths).protected().get(space.name, ()))
        if gone:
            delta.retire(space.folder, [version.number for version in gone])
    return gone


def garbage(space: Space, gone: Sequence[Version] = ()) -> list[Garbage]:
    """Files of a space that only the versions in `gone`, or none, need."""
    left = {version.number for version in gone}
    stay = [version for version in space.versions() if version.number not in left]
    parts = {f"{space.folder}/{entry.path}" for version in stay for entry in version.manifest.files}
    models = {version.manifest.model.rsplit("/", 1)[-1] for version in stay}
    was = {f"{space.folder}/{entry.path}": version.number for version in gone for entry in version.manifest.files}
    was |= {str(space.paths.root / version.manifest.model): version.number for version in gone}
    found = []
    for stored in walk(space.folder):
        if _ours(inside(stored.place, space.folder)) and str(stored.place) not in parts:
            found.append((stored, was.get(str(stored.place))))
    for stored in walk(space.paths.models(space.name)):
        if stored.place.parent.name not in models:
            found.append((stored, was.get(str(stored.place.parent))))
    return [
        Garbage(stored.place, stored.size, f"of version {number}" if number else "left by a run that did not finish")
        for stored, number in found
        if number or _at_rest(stored)
    ]


def log_garbage(paths: Paths) -> list[Garbage]:
    """Files of the log tables that were written anew since, and that no reader can be at any more."""
    found = []
    for folder in (paths.metrics, paths.quarantine, paths.releases):
        if delta.is_table(folder):
            stand = set(delta.paths(folder))
            found += [
                Garbage(stored.place, stored.size, f"old file of {folder.name}")
                for stored in walk(folder)
                if stored.place.parent == folder and stored.place.name not in stand
                and time.time() - stored.modified > READERS
            ]  # fmt: skip
    return found


def sweep(found: Iterable[Garbage]) -> None:
    """Delete files, and the folders that they leave empty."""
    folders = set()
    for one in found:
        remove(one.place)
        folders.add(one.place.parent)
    for folder in folders:
        if isinstance(folder, Path):
            with suppress(OSError):
                folder.rmdir()


def spaces_ever(paths: Paths) -> list[str]:
    """Names of all spaces that a run began, with a version or not."""
    names = {
        path.name for folder in (paths.root, paths.root / "_models") if folder.is_dir() for path in folder.iterdir()
    }
    return sorted(name for name in names if NAME.fullmatch(name))


def _ours(path: str) -> bool:
    """Whether a path in a space's folder is of a part: v00007-<run>/..."""
    folder, _, rest = path.partition("/")
    return bool(rest) and folder[:1] == "v" and folder[1:].split("-")[0].isdigit()


def _at_rest(stored: Stored) -> bool:
    """Whether nobody can be at work on it: the lock says so on disk, only time does in a bucket."""
    return isinstance(stored.place, Path) or time.time() - stored.modified > AGE
