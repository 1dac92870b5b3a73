"""Places of a store: paths on disk, or `Bucket` paths of an object store that behave like them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from storage.bucket import Bucket
from storage.errors import NotWritableError
from storage.room import room

AnyPath = Path | Bucket
T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 16  # requests


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


def check_writable(root: AnyPath) -> None:
    """Make the store's folder and try to write in it.

    Raises
    ------
    NotWritableError : it cannot be made or written.
    FullError : the disk is full.
    """
    try:
        if isinstance(root, Path):
            with room(root):
                root.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=root).close()
        else:
            root.is_dir()  # a server that hangs is given up sooner when it is asked than when it is written to
            (root / "_cache" / "writable").write_bytes(b"")
    except OSError as error:
        raise NotWritableError(
            f"Got the store path {str(root)!r}, which cannot be written ({error.strerror or error}). Name another folder under `store:`, or change its rights."
        ) from error


@contextmanager
def source(place: AnyPath) -> Iterator[Any]:
    """A file as pyarrow reads it at random.

    Raises
    ------
    UnreachableError : the object store does not answer; also while it is read.
    """
    with pa.memory_map(str(place)) if isinstance(place, Path) else place.source() as file:
        yield file


@contextmanager
def asking(place: AnyPath) -> Iterator[None]:
    """Around what delta-rs does in a place.

    Raises
    ------
    UnreachableError : the object store does not answer, or refuses.
    FullError : the disk is full.
    """
    with room(place) if isinstance(place, Path) else place.asking():
        yield


def together(place: AnyPath, ask: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Answers in order; those of an object store are waited for at once."""
    if isinstance(place, Path):
        return [ask(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket") as pool:
        return list(pool.map(ask, items))


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


def remove_empty(folder: AnyPath) -> None:
    """Delete a folder that nothing lies in any more; of a prefix, the mark that pyarrow left in its place."""
    if isinstance(folder, Path):
        with suppress(OSError):
            folder.rmdir()
    elif not folder.is_dir():
        folder.remove()


def size(place: AnyPath) -> int | None:
    """Bytes of a file; None where there is none."""
    if isinstance(place, Bucket):
        return place.size()
    try:
        return place.stat().st_size
    except OSError:
        return None


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
        together(place, lambda path: (place / path.name).upload(path), sorted(folder.iterdir()))
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
        together(place, lambda found: found[0].download(Path(folder) / found[0].name), place.walk())
        yield Path(folder)
