"""Small matrix work runs on one thread: many small products lose more to waiting threads than they gain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

_lock = Lock()
_inside = 0
_before: list[tuple[Any, int]] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread; only libraries that are loaded by now, so import scikit-learn before.

    Measured for the label probe (1,900 x 1,280, two busy cores): 0.9 s, and 135 s without it. OpenMP's limit belongs to
    the calling thread; that of BLAS to the process, so it is lifted when the last of several evaluations at the same
    time leaves.
    """
    global _inside
    from threadpoolctl import ThreadpoolController

    pools = ThreadpoolController()  # (threadpool_limits(user_api=...) restores the libraries it did not limit, too)
    with pools.select(user_api="openmp").limit(limits=1):
        with _lock:
            if not _inside:
                _before[:] = [(pool, pool.num_threads) for pool in pools.select(user_api="blas").lib_controllers]
                for pool, _ in _before:
                    pool.set_num_threads(1)
            _inside += 1
        try:
            yield
        finally:
            with _lock:
                _inside -= 1
                if not _inside:
                    for pool, threads in _before:
                        pool.set_num_threads(threads)
