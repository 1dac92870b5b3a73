"""How many threads torch may use, for runs that go on beside each other in one process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_RUNS: list[int] = []
"""The number of torch's threads before the first of the runs going on now, once for each of them."""
_LOCK = threading.Lock()


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Let this thread's work in torch run on `count` threads, if given; torch must be installed.

    Beside each thread's own number, torch keeps one for threads yet to come; the last run to end puts it back.
    """
    import torch

    with _LOCK:
        _RUNS.append(torch.get_num_threads() if not _RUNS else _RUNS[0])
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        with _LOCK:
            before = _RUNS.pop()
            if count is not None or not _RUNS:
                torch.set_num_threads(before)
