"""Co-occurring pairs in the order of training: cut into blocks of words by words, so that both sides stay in the cache.

A part holds consecutive words. A block holds the pairs of two parts, row after row: the row (of the rarer word) stays in
the nearest cache while the columns of its block go by.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.kernels.cooccurrence import SCALE, Cooccurrence, cut_rows
from embedders.kernels.threads import run_threads
from embedders.spill import Held, Spill

PAIR = np.dtype([("row", np.uint16), ("column", np.uint16), ("log", np.float32), ("weight", np.float32)])
PARTS = 64  # 16 are 30 % faster, but the cost then falls later than with pairs in random order
WORDS = 4096  # words a part on average, in large vocabularies
WIDEST = 1 << 16  # words a part at most: places within one are 16 bits wide


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _tally(columns, ends, bounds, first, counts):
    """Count the pairs of each part of columns; how many pairs lie on the diagonal, `first` being the first row."""
    diagonal, k = 0, 0
    for row in range(len(ends)):
        part = 0
        while k < ends[row]:
            column = columns[k]
            while column >= bounds[part + 1]:
                part += 1
            counts[part] += 1
            diagonal += column == first + row
            k += 1
    return diagonal


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _arrange(columns, ends, bounds, base, logs, weights, place, pairs):
    """Write each pair where its block goes on; base: place of the first row in its part."""
    k = 0
    for row in range(len(ends)):
        part = 0
        while k < ends[row]:
            column = columns[k]
            while column >= bounds[part + 1]:
                part += 1
            pair = pairs[place[part]]
            place[part] += 1
            pair.row, pair.column = base + row, column - bounds[part]
            pair.log, pair.weight = logs[k], weights[k]
            k += 1


def partition(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of the parts: about equal numbers of pairs in each, if a word meets count^0.65 others."""
    n = len(counts)
    mass = np.cumsum(np.asarray(counts, np.float64) ** 0.65)
    parts = max(PARTS, -(-n // WORDS))
    cuts = np.searchsorted(mass, mass[-1] * np.arange(1, parts) / parts) + 1
    return np.unique(np.concatenate([[0], cuts, np.arange(0, n, WIDEST), [n]])).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Segment:
    """Some rows of a part. ends: where the pairs of each part of columns end."""

    ends: NDArray[np.int64]
    pairs: Held


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs, in blocks.

    Parameters
    ----------
    bounds : where each part of the vocabulary begins, and the number of words.
    segments : the rows of each part, in their order.
    stored, count : pairs that lie here, and pairs of the whole matrix; one pair (i, j) stands also for (j, i) where
        the matrix is symmetric.
    """

    bounds: NDArray[np.int64]
    segments: list[list[_Segment]]
    stored: int
    count: int

    def size(self, row: int, column: int) -> int:
        """Pairs of a block."""
        return sum(int(s.ends[column] - (s.ends[column - 1] if column else 0)) for s in self.segments[row])

    def block(self, row: int, column: int) -> list[NDArray[np.void]]:
        """The pairs of a block, in a few arrays of PAIR."""
        found = [
            s.pairs.read(int(s.ends[column - 1]) if column else 0, int(s.ends[column])) for s in self.segments[row]
        ]
        return [pairs for pairs in found if len(pairs)]


def arrange(counted: Cooccurrence, counts: NDArray[np.int64], x_max: float, alpha: float, store: Spill) -> Pairs:
    """Pairs with log X and f(X) = min(1, (X / x_max)^alpha), equations 8 and 9 of the paper.

    counts : of the words, to cut them into parts.
    """
    bounds = partition(counts)
    most = max(1 << 16, counted.memory // (128 * counted.threads))  # pairs at once: about 64 bytes each, half of memory
    sizes = counted.sizes()
    pieces: list[tuple[int, int, int]] = []  # part, first row, last row
    for part, (a, b) in enumerate(itertools.pairwise(bounds)):
        pieces += [(part, first, last) for first, last in itertools.pairwise((a + cut_rows(sizes[a:b], most)).tolist())]
    made: list[_Segment | None] = [None] * len(pieces)
    diagonal = np.zeros(len(pieces), np.int64)

    def work(thread: int, number: int) -> None:
        part, first, last = pieces[number]
        columns, sums, ends = counted.rows(first, last)
        logs = np.log((sums / SCALE).astype(np.float32))
        weights = np.exp(np.minimum(0, np.float32(alpha) * (logs - np.float32(np.log(x_max)))))
        tally = np.zeros(len(bounds) - 1, np.int64)
        diagonal[number] = _tally(columns, ends, bounds, first, tally)
        until = np.cumsum(tally)
        pairs = np.empty(len(columns), PAIR)
        _arrange(columns, ends, bounds, first - int(bounds[part]), logs, weights, until - tally, pairs)
        made[number] = _Segment(until, store.put(pairs))

    run_threads(work, len(pieces), counted.threads, lambda: None)
    segments: list[list[_Segment]] = [[] for _ in range(len(bounds) - 1)]
    for (part, _, _), segment in zip(pieces, made, strict=True):
        assert segment is not None
        segments[part].append(segment)
    stored = sum(int(segment.ends[-1]) for segment in made if segment is not None)
    count = 2 * stored - int(diagonal.sum()) if counted.symmetric else stored
    return Pairs(bounds, segments, stored, count)
