"""Who meets whom when: pairs of parts in rounds, so that threads that work on different pairs never share a part."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np


def tournament(parts: int, rng: np.random.Generator) -> list[list[tuple[int, int]]]:
    """Rounds of pairs (a, b), a >= b, in which each part plays at most once; all pairs once, (a, a) too.

    >>> tournament(3, np.random.default_rng(0))
    [[(2, 2), (1, 0)], [(2, 0), (1, 1)], [(2, 1), (0, 0)]]
    """
    seats = parts + 1 - parts % 2  # in round r the seats i and r - i meet
    name = rng.permutation(seats)
    rounds = []
    for r in range(seats):
        meetings = [(name[i], name[(r - i) % seats]) for i in range(seats) if i <= (r - i) % seats]
        rounds.append([(int(max(m)), int(min(m))) for m in meetings if max(m) < parts])
    return rounds


class Turns:
    """Lets a visit begin when the visits before it that share a part with it are over.

    Visits must be begun in their order, each by a thread of its own that does not wait for a later one; what is then
    done to the parts is the same on any number of threads.
    """

    def __init__(self, visits: Sequence[tuple[int, int]], parts: int) -> None:
        self._over, self._free = [0] * parts, threading.Condition()
        self._before: list[list[tuple[int, int]]] = []  # of each visit: its parts, and the visits to them before it
        so_far = [0] * parts
        for visit in visits:
            self._before.append([(part, so_far[part]) for part in set(visit)])
            for part in set(visit):
                so_far[part] += 1

    @contextmanager
    def visit(self, number: int) -> Iterator[None]:
        """Wait for the turn of a visit; its parts are free again when the block is left, also by an error."""
        mine = self._before[number]
        with self._free:
            self._free.wait_for(lambda: all(self._over[part] == before for part, before in mine))
        try:
            yield
        finally:
            with self._free:
                for part, _ in mine:
                    self._over[part] += 1
                self._free.notify_all()
