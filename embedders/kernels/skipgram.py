"""Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546), the loop that words and nodes share.

The negatives of one centre word are shared by its contexts (Ji et al. 2016, arXiv:1604.04661): the centre and its
negatives are copied into a small local block of target rows, the contexts run against that block two at a time, so
that one load of a target row serves two contexts, and the block's summed gradients are added back at the end.
Threads write the same matrices without locks (Hogwild, Niu et al. 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.base import Matrix, Progress, silent
from embedders.kernels.alias import alias_table
from embedders.kernels.simd import TARGETS, WIDTH, pair_step, prefetch_row
from embedders.kernels.threads import run_threads

CACHE_LINE = 16  # int64 counters between two threads' own, so that they do not share a cache line
CHUNK = 4096  # kept tokens looked at together; a document longer than that is cut, its contexts with it


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _draw(centre, noise, other, target, goals, state, c):
    """Choose the targets of one centre word, itself and its negatives, and ask for their rows."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    unit = np.float32(1.0 / (1 << 24))
    target[0] = centre
    prefetch_row(c, centre)
    for k in range(1, len(target)):
        state = state * multiply + add
        row = int(((state >> np.uint64(32)) * np.uint64(len(noise))) >> np.uint64(32))
        state = state * multiply + add
        row += (np.float32(state >> np.uint64(40)) * unit >= noise[row]) * (other[row] - row)
        target[k] = row
        prefetch_row(c, row)
        place = k // TARGETS * WIDTH + k % TARGETS
        goals[place] = goals[place + TARGETS] = np.float32(-1) if row == centre else np.float32(0)
    return state


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _segment(
    tokens, offsets, first, last, document, keep, noise, other, w, c, work, window, negative, lr, total, done, slot, state,
):  # fmt: skip
    """Train on tokens[first:last]; `document` holds `first`. Rows below 0 and from len(keep) on are skipped."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    unit = np.float32(1.0 / (1 << 24))
    words, spare, dim = len(keep), len(keep) + slot // CACHE_LINE, w.shape[1]
    groups = len(work) // (2 * TARGETS)
    block, gradient = work[: groups * TARGETS], work[groups * TARGETS :]
    targets = np.zeros((2, negative + 1), np.int64)  # of this centre word and of the next one, which are on their way
    goals = np.full((2, groups * WIDTH), np.float32(-1))
    goals[:, 0] = goals[:, TARGETS] = 1
    buffer = np.empty(CHUNK, np.int32)
    position = first
    while position < last:
        start, end = position, min(offsets[document + 1], last)
        n = 0
        while position < end and n < CHUNK:
            row = tokens[position]
            position += 1
            if 0 <= row < words:
                state = state * multiply + add
                buffer[n] = row
                n += np.float32(state >> np.uint64(40)) * unit < keep[row]
        if position == offsets[document + 1]:
            document += 1
        trained = 0
        for i in range(0, len(done), CACHE_LINE):
            trained += done[i]
        rate = np.float32(lr * max(1.0 - trained / total, 1e-4))
        done[slot] += position - start
        if n:
            state = _draw(buffer[0], noise, other, targets[0], goals[0], state, c)
        for i in range(n):
            target, goal = targets[i & 1], goals[i & 1]
            if i + 1 < n:
                state = _draw(buffer[i + 1], noise, other, targets[1 - (i & 1)], goals[1 - (i & 1)], state, c)
            state = state * multiply + add
            reach = window - int((state >> np.uint64(33)) % np.uint64(window))
            low, high = max(0, i - reach), min(n, i + reach + 1)
            if high - low < 2:
                continue
            for k in range(negative + 1):
                row = target[k]
                for d in range(dim):
                    block[k, d] = c[row, d]
                    gradient[k, d] = 0
            j = low + (low == i)
            while j < high:
                a = buffer[j]
                j += 1 + (j + 1 == i)
                b = spare
                if j < high and buffer[j] != a:
                    b = buffer[j]
                    j += 1 + (j + 1 == i)
                for group in range(groups):
                    pair_step(w, a, b, block, gradient, group * TARGETS, goal, rate, b == spare)
            for k in range(negative + 1):
                row = target[k]
                for d in range(dim):
                    c[row, d] += gradient[k, d]
    return state


def _aligned(rows: int, width: int) -> Matrix:
    """(rows, width) float32 zeros that begin at a cache line, so that no vector load straddles two."""
    raw = np.zeros(rows * width + 16, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + rows * width].reshape(rows, width)


SEGMENT = 1 << 16  # tokens between two looks at the clock and at a request to stop


def _stream(seed: int, number: int) -> np.uint64:
    """The random state of one segment (splitmix64), so that streams do not depend on which thread runs them."""
    mixed = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return np.uint64(mixed)


@dataclass(eq=False)
class SkipGram:
    """The two matrices and the schedule of one training.

    Parameters
    ----------
    weights : counts of the rows; count^0.75 is the noise distribution.
    dim, window, negative, lr : as in the paper; lr falls linearly to lr / 10,000 over `total` tokens.
    sample : subsampling threshold of frequent rows (Mikolov et al. 2013, section 2.3, in word2vec.c's form); 0 is off.
    total : tokens that will be seen in all rounds.
    start : (n, dim) rows to begin with; NaN rows and None begin at random.
    """

    weights: NDArray[Any]
    dim: int
    window: int
    negative: int
    lr: float
    total: int
    threads: int
    seed: int
    sample: float = 0.0
    start: Matrix | None = None

    def __post_init__(self) -> None:
        n = len(self.weights)
        width = -(-self.dim // WIDTH) * WIDTH
        rng = np.random.default_rng(self.seed)
        first = (rng.random((n, self.dim), np.float32) - np.float32(0.5)) / np.float32(self.dim)
        if self.start is not None:
            known = np.isfinite(self.start).all(axis=1)
            first[known] = self.start[known]
        self._rows = _aligned(n + self.threads, width)  # a spare row of zeros a thread: see pair_step
        self._rows[:n, : self.dim] = first
        self._context = _aligned(n, width)
        share = self.weights / max(1, self.weights.sum())
        with np.errstate(divide="ignore"):
            keep = (np.sqrt(share / self.sample) + 1) * (self.sample / share) if self.sample else np.ones(n)
        self._keep = np.minimum(1.0, keep).astype(np.float32)
        self._noise, self._other = alias_table(np.asarray(self.weights, np.float64) ** 0.75)
        self._done = np.zeros(self.threads * CACHE_LINE, np.int64)
        self._groups = (self.negative + TARGETS) // TARGETS
        self._segments = 0

    @property
    def matrix(self) -> Matrix:
        """(n, dim) float32, the rows as they stand."""
        return np.ascontiguousarray(self._rows[: len(self.weights), : self.dim])

    def train(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], *, progress: Progress = silent, unit: str = "words"
    ) -> None:
        """One pass over `tokens`: rows of the matrix; documents end at `offsets`; other numbers are skipped."""
        starts = np.arange(0, len(tokens), SEGMENT)
        documents = np.searchsorted(offsets, starts, side="right") - 1
        base = self._segments
        self._segments += len(starts)

        spaces = [_aligned(2 * self._groups * TARGETS, self._rows.shape[1]) for _ in range(self.threads)]

        def work(slot: int, number: int) -> None:
            begin = int(starts[number])
            _segment(
                tokens, offsets, begin, min(begin + SEGMENT, len(tokens)), int(documents[number]),
                self._keep, self._noise, self._other, self._rows, self._context, spaces[slot],
                self.window, self.negative, self.lr, float(self.total),
                self._done, slot * CACHE_LINE, _stream(self.seed, base + number),
            )  # fmt: skip

        run_threads(work, len(starts), self.threads, lambda: progress(float(self._done.sum()), self.total, unit))
