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
from embedders.kernels.threads import run_threads

LANES = 16  # rows are padded to whole AVX-512 registers of float32
GROUP = 6  # targets handled together: the centre and 5 negatives, or the next 6 negatives
CHUNK = 4096  # kept tokens looked at together; a document longer than that is cut, its contexts with it
TABLE, BOUND = 1024, 6.0
_sigmoid_table = (1.0 / (1.0 + np.exp(-((np.arange(TABLE) + 0.5) / TABLE * 2 - 1) * BOUND))).astype(np.float32)
# past the bound the answer counts as reached, as in word2vec.c: a rest of gradient there would add up without end
_sigmoid_table[0], _sigmoid_table[-1] = 0, 1


# fmt: off
@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _pair(w, a, b, t, g, base, dim, c, lr, real, sigmoid, solo):
    """Contexts a and b against six targets from row `base` of the block t: update w[a], w[b] and the gradients g.

    real[k]: 1 for the centre, 0 for a negative, -1 for a target to leave alone. solo: b is a spare row of zeros, and
    stays one. c: room for 12 coefficients.
    """
    dim = dim // LANES * LANES  # tells the compiler that no remainder loop is needed
    bound, scale = np.float32(BOUND), np.float32(TABLE / (2 * BOUND))
    a0 = a1 = a2 = a3 = a4 = a5 = b0 = b1 = b2 = b3 = b4 = b5 = np.float32(0)
    for d in range(dim):
        x, y = w[a, d], w[b, d]
        t0, t1, t2, t3, t4, t5 = t[base, d], t[base + 1, d], t[base + 2, d], t[base + 3, d], t[base + 4, d], t[base + 5, d]
        a0 += x * t0; a1 += x * t1; a2 += x * t2; a3 += x * t3; a4 += x * t4; a5 += x * t5
        b0 += y * t0; b1 += y * t1; b2 += y * t2; b3 += y * t3; b4 += y * t4; b5 += y * t5
    c[0] = a0; c[1] = a1; c[2] = a2; c[3] = a3; c[4] = a4; c[5] = a5
    c[6] = b0; c[7] = b1; c[8] = b2; c[9] = b3; c[10] = b4; c[11] = b5
    for k in range(2 * GROUP):
        f = min(max(c[k], -bound), bound - np.float32(0.001))
        goal = real[base + k % GROUP]  # below, "&" keeps a NaN inside the table
        c[k] = (goal - sigmoid[int((f + bound) * scale) & (TABLE - 1)]) * lr if goal >= 0 else np.float32(0)
    if solo:
        c[GROUP:] = 0
    a0 = c[0]; a1 = c[1]; a2 = c[2]; a3 = c[3]; a4 = c[4]; a5 = c[5]
    b0 = c[6]; b1 = c[7]; b2 = c[8]; b3 = c[9]; b4 = c[10]; b5 = c[11]
    for d in range(dim):
        x, y = w[a, d], w[b, d]
        t0, t1, t2, t3, t4, t5 = t[base, d], t[base + 1, d], t[base + 2, d], t[base + 3, d], t[base + 4, d], t[base + 5, d]
        w[a, d] = x + (a0 * t0 + a1 * t1 + a2 * t2 + a3 * t3 + a4 * t4 + a5 * t5)
        w[b, d] = y + (b0 * t0 + b1 * t1 + b2 * t2 + b3 * t3 + b4 * t4 + b5 * t5)
        g[base, d] += a0 * x + b0 * y
        g[base + 1, d] += a1 * x + b1 * y
        g[base + 2, d] += a2 * x + b2 * y
        g[base + 3, d] += a3 * x + b3 * y
        g[base + 4, d] += a4 * x + b4 * y
        g[base + 5, d] += a5 * x + b5 * y
# fmt: on


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _segment(
    tokens,
    offsets,
    first,
    last,
    document,
    keep,
    noise,
    other,
    w,
    c,
    window,
    negative,
    lr,
    dim,
    total,
    done,
    slot,
    state,
    sigmoid,
):
    """Train on tokens[first:last]; `document` is the one that holds `first`. Rows below 0 and from len(keep) on are skipped."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    unit = np.float32(1.0 / (1 << 24))
    words, scratch = len(keep), len(keep) + slot
    groups = (negative + GROUP) // GROUP
    dim = dim // LANES * LANES  # tells the compiler that no remainder loop is needed
    block, gradient = np.zeros((groups * GROUP, dim), np.float32), np.zeros((groups * GROUP, dim), np.float32)
    target, real = np.zeros(groups * GROUP, np.int64), np.full(groups * GROUP, np.float32(-1))
    coefficient = np.empty(2 * GROUP, np.float32)
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
                if np.float32(state >> np.uint64(40)) * unit < keep[row]:
                    buffer[n] = row
                    n += 1
        if position == offsets[document + 1]:
            document += 1
        trained = 0
        for i in range(0, len(done), LANES):
            trained += done[i]
        rate = np.float32(lr * max(1.0 - trained / total, 1e-4))
        done[slot] += position - start
        for i in range(n):
            centre = buffer[i]
            state = state * multiply + add
            reach = window - int((state >> np.uint64(33)) % np.uint64(window))
            low, high = max(0, i - reach), min(n, i + reach + 1)
            if high - low < 2:
                continue
            target[0], real[0] = centre, 1
            for k in range(1, negative + 1):
                state = state * multiply + add
                row = int(((state >> np.uint64(32)) * np.uint64(words)) >> np.uint64(32))
                state = state * multiply + add
                if np.float32(state >> np.uint64(40)) * unit >= noise[row]:
                    row = other[row]
                target[k] = row
                real[k] = -1 if row == centre else 0
            for k in range(negative + 1):
                row = target[k]
                for d in range(dim):
                    block[k, d] = c[row, d]
                    gradient[k, d] = 0
            j = low
            while j < high:
                if j == i:
                    j += 1
                    continue
                a = buffer[j]
                j += 1
                if j == i:
                    j += 1
                b = scratch
                if j < high and buffer[j] != a:
                    b = buffer[j]
                    j += 1
                for group in range(groups):
                    _pair(w, a, b, block, gradient, group * GROUP, dim, coefficient, rate, real, sigmoid, b == scratch)
            for k in range(negative + 1):
                row = target[k]
                for d in range(dim):
                    c[row, d] += gradient[k, d]
    return state


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
        width = -(-self.dim // LANES) * LANES
        rng = np.random.default_rng(self.seed)
        first = (rng.random((n, self.dim), np.float32) - np.float32(0.5)) / np.float32(self.dim)
        if self.start is not None:
            known = np.isfinite(self.start).all(axis=1)
            first[known] = self.start[known]
        self._rows = np.zeros((n + self.threads * LANES, width), np.float32)  # the rows past n stay zero: see _pair
        self._rows[:n, : self.dim] = first
        self._context = np.zeros((n, width), np.float32)
        share = self.weights / max(1, self.weights.sum())
        with np.errstate(divide="ignore"):
            keep = (np.sqrt(share / self.sample) + 1) * (self.sample / share) if self.sample else np.ones(n)
        self._keep = np.minimum(1.0, keep).astype(np.float32)
        self._noise, self._other = alias_table(np.asarray(self.weights, np.float64) ** 0.75)
        self._done = np.zeros(self.threads * LANES, np.int64)  # one cache line or more a thread
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

        def work(slot: int, number: int) -> None:
            begin = int(starts[number])
            _segment(
                tokens, offsets, begin, min(begin + SEGMENT, len(tokens)), int(documents[number]),
                self._keep, self._noise, self._other, self._rows, self._context,
                self.window, self.negative, self.lr, self._rows.shape[1], float(self.total),
                self._done, slot * LANES, _stream(self.seed, base + number), _sigmoid_table,
            )  # fmt: skip

        run_threads(work, len(starts), self.threads, lambda: progress(float(self._done.sum()), self.total, unit))
