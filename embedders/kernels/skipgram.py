"""Word2vec's loop, which words and nodes share (Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546).

Skip-gram teaches every context of a centre word to answer for the centre, CBOW the mean of the contexts. The targets
are the centre and its negatives, which its contexts share (Ji et al. 2016, arXiv:1604.04661), or the nodes on the
centre's path in a Huffman tree. They are taken six at a time, see `block`. Threads write the same matrices without
locks (Hogwild, Niu et al. 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.base import Matrix, Progress, silent
from embedders.kernels.block import (
    LANES,
    average,
    judge,
    learn,
    learn_one,
    pass_on,
    prefetch,
    products,
    products_of_one,
)  # fmt: skip
from embedders.kernels.huffman import huffman
from embedders.kernels.noise import GOLDEN, STRIDE, draw, mixed, noise_table
from embedders.kernels.simd import BOUND, TARGETS, WIDTH
from embedders.kernels.threads import run_threads

CACHE_LINE = 16  # int64 counters between two threads' own, so that they do not share a cache line
CHUNK = 4096  # kept tokens looked at together; a document longer than that is cut, its contexts with it
AHEAD = 3  # centre words between choosing targets and their turn, in which their rows arrive
RING = AHEAD + 1
BATCH = 16  # contexts that learn at once: of many more the summed steps of a large window would be too long
SPARE = 4  # rows a thread has for itself: zeros, what is thrown away, the mean of the contexts before and after
LOOK = 256  # of a large corpus, one centre word in so many is looked at for the loss
SEEN = 8192  # of a smaller one about as many centre words as this, or all
LEAST = 1 / (1 + np.exp(BOUND))  # the smallest probability that the loss believes


@njit(inline="always")
def _ask(c, targets, first, groups):
    for group in range(groups):
        for k in range(TARGETS):
            prefetch(c, targets[first + group * LANES + k])


@njit(inline="always")
def _choose(centre, negative, noise, targets, goals, first, counter, c):
    """Choose the targets of one centre word, itself and its negatives, and ask for their rows."""
    groups = (negative + TARGETS) // TARGETS
    for group in range(groups):
        left = negative - max(0, group * TARGETS - 1)
        draw(noise, counter, centre, group == 0, left, c.shape[1], targets, goals, first + group * LANES)
        counter += np.uint64(STRIDE)
    _ask(c, targets, first, groups)
    return counter


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _loss(errors, n, rate):
    """The summed cross-entropy of n rows and six targets: an error is lr * (goal - probability), 0 where none counts."""
    total = 0.0
    for i in range(n):
        product = 1.0
        for k in range(TARGETS):
            product *= max(1.0 - abs(errors[i * LANES + k]) / rate, LEAST)
        total -= np.log(product)
    return total


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _segment(
    tokens, offsets, first, last, document, keep, frozen, noise, paths, w, c, words, line, sinks, errors, targets, goals,
    window, negative, lr, total, done, slot, losses, look, counter, alone,
):  # fmt: skip
    """Train on tokens[first:last]; `document` holds `first`. Rows below 0 and from len(keep) on are skipped.

    frozen : None, or the rows to be kept. paths : None, or where the targets of each row stand.
    alone : None, or of CBOW the offset of its thread's row `fresh`. None makes numba leave the branch out.
    words : room for a chunk's kept rows; line and sinks : for their offsets, see below.
    """
    width, groups = w.shape[1], (negative + TARGETS) // TARGETS
    spare = len(keep) + slot // CACHE_LINE * SPARE
    zeros, trash, mean, fresh = spare * width, (spare + 1) * width, (spare + 2) * width, (spare + 3) * width
    position = first
    while position < last:
        start, end = position, min(offsets[document + 1], last)
        n = 0
        while position < end and n < CHUNK:
            row = tokens[position]
            position += 1
            if 0 <= row < len(keep):
                counter += np.uint64(GOLDEN)
                words[n] = row
                line[n + 1] = sinks[n + 1] = row * width
                n += np.uint32(mixed(counter) >> np.uint64(32)) <= keep[row]
        if position == offsets[document + 1]:
            document += 1
        trained = 0
        for i in range(0, len(done), CACHE_LINE):
            trained += done[i]
        rate = np.float32(lr * max(1.0 - trained / total, 1e-4))
        done[slot] += position - start
        if frozen is not None:
            for i in range(n):
                if frozen[words[i]]:
                    sinks[i + 1] = trash
        line[n + 1] = sinks[n + 1] = zeros
        if paths is None:
            for i in range(min(n, AHEAD)):
                counter = _choose(words[i] * width, negative, noise, targets, goals, i * groups * LANES, counter, c)
        for i in range(min(n, window + AHEAD)):
            prefetch(w, line[i + 1])
        # the centre's place in the line is taken by the word before it, so that its contexts stand side by side
        before, before_sink = zeros, zeros
        for i in range(n):
            line[i + 1], before = before, line[i + 1]
            if frozen is not None:
                sinks[i + 1], before_sink = before_sink, sinks[i + 1]
            counter += np.uint64(GOLDEN)
            bits = mixed(counter)
            reach = 1 + np.int64(((bits >> np.uint64(32)) * np.uint64(window)) >> np.uint64(32))
            low: Any = max(0, i - reach)
            m: Any = min(n, i + reach + 1) - low - 1
            at = low + 2
            if i + window + AHEAD < n:
                prefetch(w, line[i + window + AHEAD + 1])
            place = i % RING * groups * LANES
            if paths is not None:
                place = paths[words[i]]
                groups = (paths[words[i] + 1] - place) // LANES
            if alone is not None:
                if m:
                    average(w, line, at, m, np.float32(1) / np.float32(m), mean, fresh)
            following = words[min(i + AHEAD, n - 1)] if paths is None else words[min(i + 1, n - 1)]
            rows = m
            if alone is not None:
                rows = min(m, 1)
            for group in range(groups):
                for part in range(0, max(rows, 1), BATCH):
                    size = min(BATCH, rows - part)
                    if m:
                        if alone is not None:
                            products_of_one(w, alone, 0, 1, c, targets, place, errors)
                            judge(errors, 1, goals, place, rate)
                        else:
                            products(w, line, at + part, size, c, targets, place, errors)
                            judge(errors, size, goals, place, rate)
                    if group == 0 and part == 0:  # here, because the processor still waits for the errors
                        if paths is not None:  # the upper nodes, in the first block, are always near
                            block = paths[following]
                            _ask(c, targets, block + LANES, (paths[following + 1] - block) // LANES - 1)
                        elif i + AHEAD < n:
                            ring = (i + AHEAD) % RING * groups * LANES
                            counter = _choose(following * width, negative, noise, targets, goals, ring, counter, c)
                    if m:
                        if bits & look == 0:
                            losses[slot] += _loss(errors, size, rate)
                        if alone is not None:
                            learn_one(w, alone, alone, 0, 1, c, targets, place, errors)
                        else:
                            learn(w, line, sinks, at + part, size, c, targets, place, errors)
                place += LANES
            if alone is not None:
                if m:
                    pass_on(w, line, sinks, at, m, fresh, mean)
            if bits & look == 0:
                losses[slot + 1] += rows
    return counter


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


def _tree_targets(counts: NDArray[Any], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Where each row's path begins, and the paths: offsets of nodes, six to a group of LANES, and goals.

    A group that is not full begins with copies of its last node, whose goal is -1.
    """
    offsets, nodes, bits = huffman(counts)
    lengths = np.diff(offsets)
    groups = np.maximum(1, -(-lengths // TARGETS))
    paths = np.concatenate([[0], np.cumsum(groups * LANES)])
    targets, goals = np.zeros(paths[-1], np.int64), np.full(paths[-1], -1, np.float32)
    row = np.repeat(np.arange(len(counts)), lengths)
    lacking = groups * TARGETS - lengths  # in the first group
    k = np.arange(len(nodes)) - offsets[row] + lacking[row]
    place = paths[row] + k // TARGETS * LANES + k % TARGETS
    targets[place], goals[place] = nodes.astype(np.int64) * width, 1 - bits
    for k in range(TARGETS):
        pad = paths[:-1][k < lacking] + k
        targets[pad] = targets[pad - k + TARGETS - 1]
    return paths, targets, goals


@dataclass(eq=False)
class SkipGram:
    """The two matrices and the schedule of one training.

    Parameters
    ----------
    weights : counts of the rows; count^0.75 is the noise distribution.
    dim, window, negative, lr : as in the paper; lr falls linearly to lr / 10,000 over `total` tokens.
    total : tokens that will be seen in all rounds.
    sample : subsampling threshold of frequent rows (Mikolov et al. 2013, section 2.3, in word2vec.c's form); 0 is off.
    start : (n, dim) rows to begin with; NaN rows and None begin at random.
    start_context : the same for the rows that answer; NaN rows and None begin at zero.
    frozen : (n,) bool; rows that stay as they are.
    cbow : the mean of the contexts learns, as in word2vec.c with cbow_mean; else each context does.
    hs : hierarchical softmax stands in for negative sampling; `negative` is of no account.
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
    start_context: Matrix | None = None
    frozen: NDArray[np.bool_] | None = None
    cbow: bool = False
    hs: bool = False

    def __post_init__(self) -> None:
        n = len(self.weights)
        width = -(-self.dim // WIDTH) * WIDTH
        rng = np.random.default_rng(self.seed)
        first = (rng.random((n, self.dim), np.float32) - np.float32(0.5)) / np.float32(self.dim)
        self._rows, self._context = _aligned(n + self.threads * SPARE, width), _aligned(n, width)
        self._rows[:n, : self.dim] = first
        for matrix, start in ((self._rows, self.start), (self._context, self.start_context)):
            if start is not None:
                known = np.flatnonzero(np.isfinite(start).all(axis=1))
                matrix[known, : self.dim] = start[known]
        share = self.weights / max(1, self.weights.sum())
        with np.errstate(divide="ignore"):
            keep = (np.sqrt(share / self.sample) + 1) * (self.sample / share) if self.sample else np.ones(n)
        self._keep = (np.minimum(1.0, keep) * (2**32 - 1)).astype(np.uint32)
        self._frozen = self.frozen if self.frozen is not None and self.frozen.any() else None
        self._done = np.zeros(self.threads * CACHE_LINE, np.int64)
        self._losses = np.zeros(self.threads * CACHE_LINE, np.float64)
        self._groups = (self.negative + TARGETS) // TARGETS
        self._paths: NDArray[np.int64] | None = None
        if self.hs:
            self._noise = np.zeros(0, np.uint64)
            self._paths, self._targets, self._goals = _tree_targets(self.weights, width)
        else:
            self._noise = noise_table(np.asarray(self.weights, np.float64) ** 0.75)
        self._segments = 0
        self.loss: list[float] = []

    @property
    def matrix(self) -> Matrix:
        """(n, dim) float32, the rows as they stand."""
        return np.ascontiguousarray(self._rows[: len(self.weights), : self.dim])

    @property
    def context(self) -> Matrix:
        """(n, dim) float32, the rows that answer: of words as centres, or of the tree's nodes."""
        return np.ascontiguousarray(self._context[:, : self.dim])

    def _space(self) -> tuple[Any, ...]:
        """What a thread needs for itself."""
        line = np.zeros(CHUNK + 2, np.int64)
        errors = _aligned(BATCH + 2, LANES).reshape(-1)
        if self.hs:
            chosen = self._targets, self._goals
        else:
            size = RING * self._groups * LANES
            chosen = np.zeros(size, np.int64), np.zeros(size, np.float32)
        return np.zeros(CHUNK + 1, np.int64), line, line.copy() if self._frozen is not None else line, errors, *chosen

    def train(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], *, progress: Progress = silent, unit: str = "words"
    ) -> None:
        """One pass over `tokens`: rows of the matrix; documents end at `offsets`; other numbers are skipped.

        `loss` gets the mean cross-entropy of the pass, a (context, centre) pair or, of CBOW, a centre; it is taken from
        a sample of them, as they are met, and NaN when there was none.
        """
        starts = np.arange(0, len(tokens), SEGMENT)
        documents = np.searchsorted(offsets, starts, side="right") - 1
        base = self._segments
        self._segments += len(starts)
        self._losses[:] = 0
        look = np.uint64(min(LOOK, 1 << max(0, (len(tokens) // SEEN).bit_length() - 1)) - 1)
        spaces = [self._space() for _ in range(self.threads)]
        fresh = [(len(self.weights) + slot * SPARE + 3) * self._rows.shape[1] for slot in range(self.threads)]
        alone = [np.array([place]) if self.cbow else None for place in fresh]

        def work(slot: int, number: int) -> None:
            begin = int(starts[number])
            _segment(
                tokens, offsets, begin, min(begin + SEGMENT, len(tokens)), int(documents[number]),
                self._keep, self._frozen, self._noise, self._paths, self._rows, self._context, *spaces[slot],
                self.window, self.negative, self.lr, float(self.total),
                self._done, slot * CACHE_LINE, self._losses, look, _stream(self.seed, base + number), alone[slot],
            )  # fmt: skip

        run_threads(work, len(starts), self.threads, lambda: progress(float(self._done.sum()), self.total, unit))
        pairs = self._losses[1::CACHE_LINE].sum()
        self.loss.append(float(self._losses[::CACHE_LINE].sum() / pairs) if pairs else float("nan"))
