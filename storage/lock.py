"""One writer a space: who holds it, and until when."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from storage.errors import BusyError
from storage.space import Space


@contextmanager
def locked(space: Space, run: str, wait: float, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a space; parameters and errors are those of `storage.writer.writing`."""
    path = space.paths.lock(space.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting(f"space {space.name!r} is being written by {_who(holder)}; waiting up to {wait:.0f} s")
        try:
            lock.acquire(timeout=wait, poll_interval=0.2)
        except Timeout:
            raise BusyError(
                f"Space {space.name!r} is still being written by {_who(holder)} after {wait:.0f} s. Wait for that run, or stop it."
            ) from None
    since = datetime.now(UTC).isoformat(timespec="seconds")
    told = json.dumps({"run": run, "pid": os.getpid(), "host": socket.gethostname(), "since": since})
    try:
        with suppress(OSError):  # on a full disk `gc` can work, though nobody can say who it is
            holder.write_text(told)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def written_by(space: Space) -> str | None:
    """Who has the right to write a space on this machine; None when nobody has. Looks, and leaves no trace."""
    path = space.paths.lock(space.name)
    try:
        import fcntl

        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _who(path.with_suffix(".json"))
    except ImportError:  # Windows has no such look: a killed run that left its name is taken for one that goes on
        return _who(path.with_suffix(".json")) if path.with_suffix(".json").exists() else None
    return None


def _who(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        return f"run {found['run']} (process {found['pid']} on {found['host']}, since {found['since']})"
    except (OSError, ValueError, KeyError):
        return "another run"
