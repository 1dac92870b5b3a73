"""Content digests of files, cached by (path, size, mtime_ns) so that an unchanged file is not read again."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from embedders.errors import InputError


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({error.strerror}). Check that it exists and its rights."
        ) from error


class DigestCache:
    """Digests by path, kept in SQLite under the store's `_cache` once the store exists; harmless to delete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def digests(self, paths: Sequence[Path]) -> list[str]:
        """The digest of each file; only those that changed since last time are read, on four threads."""
        stats = [_stat(path) for path in paths]
        known = self._read()
        keys = [(os.fspath(path.absolute()), s.st_size, s.st_mtime_ns) for path, s in zip(paths, stats, strict=True)]
        missing = [i for i, key in enumerate(keys) if key not in known]
        with ThreadPoolExecutor(4) as pool:
            fresh = dict(
                zip((keys[i] for i in missing), pool.map(file_digest, [paths[i] for i in missing]), strict=True)
            )
        self._write(fresh)
        return [known.get(key) or fresh[key] for key in keys]

    def _read(self) -> dict[tuple[str, int, int], str]:
        file = self._folder / "digests.sqlite"
        if not file.is_file():
            return {}
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as base,
        ):
            return {
                (path, size, mtime): digest
                for path, size, mtime, digest in base.execute("SELECT path, size, mtime_ns, digest FROM files")
                if digest
            }
        return {}

    def _write(self, fresh: dict[tuple[str, int, int], str]) -> None:
        if not fresh or not self._folder.parent.is_dir():  # planning makes no store
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


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({error.strerror}). Check that it exists and its rights."
        ) from error
