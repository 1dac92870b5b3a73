"""A full disk, told as such: Python, delta-rs and safetensors each say it in their own way."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import FullError

LEAST = 1 << 20  # bytes without which a table of a few rows is not begun: delta-rs is loud when it has to stop
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TEXTS = tuple(os.strerror(code) for code in CODES)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Around what writes below a folder.

    Raises
    ------
    FullError : it failed because the disk is full.
    """
    try:
        yield
    except FullError:
        raise
    except Exception as error:
        if (why := _full(error)) is None:
            raise
        raise _error(folder, why) from error


def check_room(folder: Path) -> None:
    """Refuse to begin on a disk that is as good as full.

    Raises
    ------
    FullError : there are less than LEAST bytes free.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < LEAST:
        raise _error(folder, f"{free:,} bytes are free")


def _full(error: BaseException | None) -> str | None:
    """How an error, or one that it came from, says that the disk is full; None where it does not."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in CODES:
            return error.strerror
        if found := next((text for text in TEXTS if text in str(error)), None):
            return found
        error = error.__cause__
    return None


def _error(folder: Path, why: str) -> FullError:
    return FullError(
        f"Got a full disk at {folder} ({why}); expected room to write. What was committed stands. Make room there, then run again."
    )
