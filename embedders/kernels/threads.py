"""Our own threads for compiled loops that release the GIL: shared work list, progress, a clean stop."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable

TICK = 0.2  # seconds between two reports of progress


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_threads(work: Callable[[int, int], None], pieces: int, threads: int, tick: Callable[[], None]) -> None:
    """Call `work(thread, piece)` for each piece in order, on `threads` threads, and `tick()` now and then.

    The first exception stops the others after their current piece and is raised here; so does Ctrl-C.
    """
    numbers = itertools.count()
    failures: list[BaseException] = []

    def loop(thread: int) -> None:
        try:
            while not failures and (piece := next(numbers)) < pieces:
                work(thread, piece)
        except BaseException as failure:
            failures.append(failure)

    team = [threading.Thread(target=loop, args=(i,), daemon=True) for i in range(min(threads, max(pieces, 1)))]
    for member in team:
        member.start()
    try:
        for member in team:
            while member.is_alive():
                member.join(TICK)
                tick()
    except BaseException as failure:
        failures.append(failure)
        raise
    finally:
        for member in team:
            member.join()
    if failures:
        raise failures[0]
    tick()
