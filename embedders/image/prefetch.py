"""Work ahead of the reader in threads: a bounded number of pieces in flight, handed over in their order, of bounded size."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
MOST_WORKERS = 32
"""More threads than this only cost memory."""


def workers(threads: int) -> int:
    """Threads for a recipe's `threads` (0: every core this process may use)."""
    if threads == 0:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(threads, MOST_WORKERS)


def ahead(
    function: Callable[[A], B],
    items: Iterable[A],
    *,
    threads: int,
    window: int,
    initializer: Callable[[], None] | None = None,
) -> Generator[B, None, None]:
    """`map` in threads, in order, at most `window` results ahead of the reader; `initializer` runs once a thread.

    >>> list(ahead(len, ["a", "bb", ""], threads=2, window=1))
    [1, 2, 0]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="polyvec-image", initializer=initializer)
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Budget:
    """Bounds what all threads hold at once; whoever wants more than there is waits, and more than `limit` is held alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._changed = limit, 0, threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Within the block, `size` of the budget is taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()
