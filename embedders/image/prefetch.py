"""Decoding ahead of the network: a bounded number of pictures in flight, handed over in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
MOST_WORKERS = 32
"""More decoders than this only cost memory: each may hold a picture of 50 million pixels."""


def workers(threads: int) -> int:
    """Decoding threads for a recipe's `threads` (0: every core this process may use)."""
    if threads == 0:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(threads, MOST_WORKERS)


def ahead(function: Callable[[A], B], items: Iterable[A], *, threads: int, window: int) -> Iterator[B]:
    """`map` in threads, in order, at most `window` results ahead of the reader.

    >>> list(ahead(len, ["a", "bb", ""], threads=2, window=1))
    [1, 2, 0]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="polyvec-decode")
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
