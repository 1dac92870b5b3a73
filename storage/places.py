"""Places of a store: paths on disk, or `Bucket` paths of an object store that behave like them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.bucket import Bucket

AnyPath = Path | Bucket


@dataclass(frozen=True)
class Stored:
    """A file that lies in a store. modified: seconds since 1970."""

    place: AnyPath
    size: int
    modified: float


def place_of(root: str | PathLike[str]) -> AnyPath:
    """The folder that a path or an s3:// address names.

    Raises
    ------
    InputError : an address of another kind.
    """
    if "://" in str(root):
        return Bucket.parse(str(root))
    path = Path(root).absolute()
    return path.resolve() if ".." in path.parts else path


def source(place: AnyPath) -> Any:
    """A file as pyarrow reads it at random."""
    return pa.memory_map(str(place)) if isinstance(place, Path) else place.source()


def options(place: AnyPath) -> dict[str, str] | None:
    """What delta-rs has to know to read and write there."""
    return None if isinstance(place, Path) else place.options


def inside(place: AnyPath, folder: AnyPath) -> str:
    """The path of a place within a folder, with slashes."""
    return str(place.relative_to(folder).as_posix())  # type: ignore[arg-type]


def remove(place: AnyPath) -> None:
    """Delete a file, or a folder with all that is in it; what is not there is no error."""
    if isinstance(place, Bucket):
        place.remove()
    elif place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def walk(folder: AnyPath) -> Iterator[Stored]:
    """All files below a folder, by name; none where there is no folder."""
    if isinstance(folder, Bucket):
        yield from (Stored(*found) for found in folder.walk())
        return
    for path in sorted(folder.rglob("*")):
        try:
            found = path.lstat()
        except FileNotFoundError:  # gone since it was listed
            continue
        if not path.is_dir():
            yield Stored(path, found.st_size, found.st_mtime)


def put_folder(folder: Path, place: AnyPath) -> None:
    """Move a finished folder of this machine to its place, whole."""
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)
    else:
        for path in sorted(folder.iterdir()):
            (place / path.name).write_bytes(path.read_bytes())
        shutil.rmtree(folder)


@contextmanager
def building(place: AnyPath) -> Iterator[Path]:
    """A folder of this machine to write into, near `place`; it is gone afterwards if it still stands."""
    if isinstance(place, Path):
        fresh = place.with_name(place.name + ".tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
    else:
        fresh = Path(tempfile.mkdtemp(prefix="polyvec-")) / place.name
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(place, Bucket):
            shutil.rmtree(fresh.parent, ignore_errors=True)


@contextmanager
def on_disk(place: AnyPath) -> Iterator[Path]:
    """A folder of the store as a folder of this machine, for those who read files: itself, or a copy for the while."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="polyvec-") as folder:
        for found in place.walk():
            (Path(folder) / found[0].name).write_bytes(found[0].read_bytes())
        yield Path(folder)
