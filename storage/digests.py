"""Digests of files: of inputs, cached by (path, size, mtime_ns) so that an unchanged file is not read again; of the store's own."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import xxhash

from embedders.errors import InputError
from storage.places import AnyPath

SETTLED = 2_000_000_000
"""Nanoseconds. A younger file may be written again under the same time (clocks of file systems tick every 4 ms, 1 s or
2 s) without a sign of it, so its digest is not kept; git calls such entries racy."""


class File(NamedTuple):
    """A file as it was found; the same three values later mean the same bytes. path: absolute."""

    path: str
    size: int
    mtime_ns: int


_HELD: dict[File, str] = {}
"""Digests of this process for a store that is not made yet: the first run plans, makes the store, and looks again."""


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def _digest_or_nothing(path: Path) -> str:
    try:
        return file_digest(path)
    except InputError:
        return ""


def unreadable(path: str | Path, error: OSError) -> InputError:
    """What to say of a file that the system refuses."""
    return InputError(
        f"Got {str(path)!r}, which cannot be read ({error.strerror}). Check that it exists and its rights."
    )


def compare(place: AnyPath, digest: str) -> str:
    """What is wrong with the bytes of a file, as one may go on after its name; nothing is ""."""
    try:
        found = xxhash.xxh3_128(place.read_bytes()).hexdigest()
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
    return "" if found == digest else "is not what was written: its bytes have another digest"


class DigestCache:
    """Digests by path, kept in SQLite under the store's `_cache` once the store exists; harmless to delete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def digests(self, paths: Sequence[Path]) -> list[str]:
        """The digest of each file; only those that changed since last time are read."""
        return self.of(list(map(look, paths)))

    def of(self, files: Sequence[File], *, lenient: bool = False) -> list[str]:
        """The same for files that were looked at already. What has to be read is read on four threads.

        lenient : the digest of a file that cannot be read is "", and no error.
        """
        now = time.time_ns()
        known = self._read(files)
        missing = [file for file in files if file not in known]
        with ThreadPoolExecutor(4) as pool:
            read = _digest_or_nothing if lenient else file_digest
            fresh = dict(zip(missing, pool.map(read, [Path(file.path) for file in missing]), strict=True))
        self._write({file: digest for file, digest in fresh.items() if digest and file.mtime_ns < now - SETTLED})
        return [known.get(file) or fresh[file] for file in files]

    def _read(self, files: Sequence[File]) -> dict[tuple[str, int, int], str]:
        """What is kept of files from the first to the last path: a dataset's rows, few others, never the whole table."""
        base = self._folder / "digests.sqlite"
        held: dict[tuple[str, int, int], str] = {file: _HELD[file] for file in files if file in _HELD}
        if not files or not base.is_file():
            return held
        paths = [file.path for file in files]
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{base.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection,
        ):
            rows = connection.execute(
                "SELECT path, size, mtime_ns, digest FROM files WHERE path BETWEEN ? AND ? AND digest IS NOT NULL",
                (min(paths), max(paths)),
            )
            return held | {(path, size, mtime): digest for path, size, mtime, digest in rows}
        return held

    def _write(self, fresh: Mapping[File, str]) -> None:
        if not self._folder.parent.is_dir():  # planning makes no store
            _HELD.update(fresh)
            return
        fresh = {**_HELD, **fresh}
        _HELD.clear()
        if not fresh:
            return
        file = self._folder / "digests.sqlite"
        try:  # a cache that cannot be written costs time, nothing else
            self._folder.mkdir(exist_ok=True)
            with closing(sqlite3.connect(file, timeout=5)) as base, base:
                base.execute(
                    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT)"
                )
                base.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                    [(*key, digest) for key, digest in fresh.items()],
                )
        except (sqlite3.OperationalError, OSError):  # busy, read-only or full
            return
        except sqlite3.DatabaseError:  # damaged: begin anew
            with suppress(OSError):
                file.unlink()


def look(path: Path) -> File:
    """A file as it is.

    Raises
    ------
    InputError : it cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return File(str(path.absolute()), found.st_size, found.st_mtime_ns)
