"""Which versions stay, and what lies in a store that no version needs."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from storage import delta, promotion, releases
from storage.errors import BusyError, FullError, NotWritableError
from storage.lock import written_by
from storage.paths import MODEL, NAME, PARTS, Paths
from storage.places import AnyPath, Stored, check_writable, inside, remove, remove_empty, walk
from storage.space import Space, Version
from storage.writer import last_number, writing

AGE = 24 * 3600.0  # seconds after which what nobody needs goes, where a writer elsewhere may still be at work on it
READERS = 3600.0  # seconds that readers of a log table are given
UNFINISHED = 7 * 24 * 3600.0  # seconds that rows of a cut-off encode wait for a space that no pipeline has any more
_PART = re.compile(rf"{PARTS.pattern}/part-\d{{5,}}\.parquet")
_STAGED = re.compile(r"_delta_log/[^/]+#\d+")  # a file of the log that was not yet moved to its place
ORPHAN = "left by a run that did not finish"


@dataclass(frozen=True)
class Keep:
    """What stays: the newest `versions`, and those younger than `days`; a rule that is None keeps nothing by itself."""

    versions: int | None = None
    days: float | None = None

    def __str__(self) -> str:
        rules = [] if self.versions is None else [f"the newest {self.versions}" if self.versions > 1 else "the newest"]
        rules += [] if self.days is None else [f"those of the last {self.days:g} days"]
        return " and ".join(rules) or "all"


@dataclass(frozen=True)
class Garbage:
    """A file that nothing needs any more. version: the one that needed it; None where none ever did."""

    place: AnyPath
    size: int
    why: str
    version: int | None = None


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


def outdated(space: Space, keep: Keep | None) -> list[Version]:
    """The versions of a space that no rule, no release and no fused space keeps."""
    protected = releases.read(space.paths).protected()
    gone = expired(space.versions(), keep, protected.get(space.name, ()))
    needed = _fused(space, protected) if gone else ()
    return [version for version in gone if version.number not in needed]


def _fused(space: Space, protected: Mapping[str, Collection[int]]) -> set[int]:
    """The versions that fused ones which stay were made of: a question is encoded by them, and views are judged."""
    found = set()
    for name in spaces_ever(space.paths):
        other = Space(space.paths, name)
        latest = other.latest()
        numbers = {*protected.get(name, ()), *([latest.number] if latest else [])}
        for version in other.versions() if numbers else ():
            m = version.manifest
            if version.number in numbers and not m.dataset_digest and space.name in m.upstream:
                found.add(m.upstream[space.name])
    return found


def retire(space: Space, keep: Keep | None) -> list[Version]:
    """Take out the versions that no rule keeps; done by who holds the space's lock. Their files stand until `sweep`."""
    if keep is None:
        return []
    with promotion.lock(space.paths):
        if gone := outdated(space, keep):
            delta.retire(space.folder, [version.number for version in gone])
    return gone


def garbage(space: Space, gone: Sequence[Version] = ()) -> list[Garbage]:
    """Files of a space that only the versions in `gone`, or none, need."""
    left = {version.number for version in gone}
    stay = [version for version in space.versions() if version.number not in left]
    folder, models = space.folder, space.paths.models(space.name)
    parts = {entry.path for version in stay for entry in version.manifest.files}
    encoders = {_model(version) for version in stay}
    was = {entry.path: version.number for version in gone for entry in version.manifest.files}
    learned = {_model(version): version.number for version in gone}
    before = delta.retired(folder)
    found: list[tuple[Stored, int | None]] = []
    for stored in walk(folder):
        path = inside(stored.place, folder)
        if path not in parts and (part := _PART.fullmatch(path)):
            found.append((stored, was.get(path) or _taken_out(part, before)))
        elif _STAGED.fullmatch(path):
            found.append((stored, None))
    for stored in walk(models):
        name = inside(stored.place, models).partition("/")[0]
        if name not in encoders and (model := MODEL.fullmatch(name)):
            found.append((stored, learned.get(name) or _taken_out(model, before)))
    return [
        Garbage(stored.place, stored.size, f"of version {number}" if number else ORPHAN, number)
        for stored, number in found
        if number or _at_rest(stored)
    ]


def log_garbage(paths: Paths) -> list[Garbage]:
    """Files of the log tables that were written anew since, and that nobody can be at any more."""
    found: list[Garbage] = []
    for folder in (paths.metrics, paths.quarantine, paths.near_duplicates, paths.releases):
        needless = delta.needless(folder, READERS) if delta.is_table(folder) else ()
        for stored in walk(folder):
            path = inside(stored.place, folder)
            staged = _STAGED.fullmatch(path) and time.time() - stored.modified > READERS
            if path in needless or staged:
                found.append(Garbage(stored.place, stored.size, ORPHAN if staged else f"old file of {folder.name}"))
    return found


def unfinished(paths: Paths, space: str, now: float | None = None) -> list[Garbage]:
    """Rows of encodes of a space that were cut off, and of trials, if none of them is younger than a week."""
    found = [*walk(paths.unfinished(space)), *walk(paths.trials(space))]
    if max((stored.modified for stored in found), default=0) > (now or time.time()) - UNFINISHED:
        return []
    return [Garbage(stored.place, stored.size, "of an encode that was cut off over a week ago") for stored in found]


def collect(
    space: Space, keep: Keep | None, *, abandoned: bool = False, dry_run: bool = False
) -> tuple[list[Version], list[Garbage]]:
    """Take out what no rule keeps, and delete what no version needs; holds the space's lock meanwhile.

    abandoned : no pipeline has the space any more, so that encodes that were cut off go too, after a week.
    dry_run : only say what would go.

    Raises
    ------
    BusyError : a run is writing the space; the message says which.
    NotWritableError : the store cannot be written.
    FullError : the disk is full; what needs no commit went all the same.
    """
    if dry_run:
        if who := written_by(space):
            raise BusyError(f"It is being written by {who}.")
        last_number(space, space.latest())  # says so where the log is gone
        gone = outdated(space, keep)
        return gone, _of_space(space, gone, abandoned)
    with writing(space, "gc", wait=0, waiting=lambda _: None, tidy=False):
        first: list[Garbage] = []
        try:
            gone = retire(space, keep)
        except FullError:  # what needs no commit may make room for it
            sweep(first := _of_space(space, [], abandoned))
            gone = retire(space, keep)
        found = _of_space(space, gone, abandoned)
        sweep(found)
    return gone, first + found


def _of_space(space: Space, gone: Sequence[Version], abandoned: bool) -> list[Garbage]:
    return garbage(space, gone) + (unfinished(space.paths, space.name) if abandoned else [])


def collect_logs(paths: Paths, *, dry_run: bool = False) -> list[Garbage]:
    """Delete the old files of the log tables, or only say which would go."""
    found = log_garbage(paths)
    if found and not dry_run:
        check_writable(paths.root)
        sweep(found)
    return found


def sweep(found: Iterable[Garbage]) -> None:
    """Delete files, and the folders that they leave empty.

    Raises
    ------
    NotWritableError : some cannot be deleted; all others are.
    """
    folders: Counter[AnyPath] = Counter()
    refused: list[OSError] = []
    for one in found:
        try:
            remove(one.place)
        except OSError as error:
            refused.append(error)
        folders[one.place.parent] += 1
    for folder in folders:
        remove_empty(folder)
    if refused:
        raise NotWritableError(
            f"Got {len(refused):,} of {sum(folders.values()):,} needless files that cannot be deleted; the first: {refused[0]}. Change their rights."
        )


def spaces_ever(paths: Paths) -> list[str]:
    """Names of all spaces that a run of this machine began, and of all that have a version."""
    names = {path.name for path in _entries(paths.root) if NAME.fullmatch(path.name) and delta.is_table(path)}
    names |= {path.name for path in _entries(paths.models("x").parent)}
    names |= {path.stem for path in paths.lock("x").parent.glob("*.lock")}
    names |= {path.name for of in (paths.unfinished, paths.trials) for path in of("x").parent.glob("*")}
    return sorted(name for name in names if NAME.fullmatch(name))


def _entries(folder: AnyPath) -> Iterable[AnyPath]:
    return folder.iterdir() if folder.is_dir() else ()


def _model(version: Version) -> str:
    return PurePosixPath(version.manifest.model).name


def _taken_out(made: re.Match[str], before: Collection[int]) -> int | None:
    """The version that a folder was made for, if it was taken out before and its files were not."""
    return int(made[1]) if int(made[1]) in before else None


def _at_rest(stored: Stored) -> bool:
    """Whether nobody can be at work on it: the lock says so on disk, only time does in a bucket."""
    return isinstance(stored.place, Path) or time.time() - stored.modified > AGE
