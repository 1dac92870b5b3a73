"""Skip-gram and CBOW over words that are made of subwords (Bojanowski et al. 2017, arXiv:1607.04606), as fastText trains.

A word is the mean of a row of its own and the rows of its n-grams. It is put together once for all its contexts and
the sum of its gradients is handed to its rows once: in skip-gram when it is the centre, in CBOW while it stands in a
window. In skip-gram the noise words are a pool of which each centre word replaces `negative`, so that each of them
serves `window` centre words while it is in the cache; all contexts of a centre share them (Ji et al. 2016,
arXiv:1604.04661), and together they weigh as much as `negative` of its own for each context would. Threads write the same matrices without locks (Hogwild,
Niu et al. 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.base import Matrix, Progress, silent
from embedders.kernels.alias import alias_table
from embedders.kernels.initial import chances_to_stay, put_known
from embedders.kernels.offsets import prefetch
from embedders.kernels.rows import TARGETS, WIDTH, add_rows, add_to_rows, learn, products
from embedders.kernels.subwords import Subwords
from embedders.kernels.threads import run_threads

CACHE_LINE = 16  # int64 counters between two threads' own, so that they do not share a cache line
CHUNK = 4096  # kept tokens looked at together; a document longer than that is cut, its contexts with it
SEGMENT = 1 << 16  # tokens between two looks at the clock and at a request to stop


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _kept(tokens, position, end, keep, buffer, state):
    """Fill `buffer` with tokens that are words and outlive subsampling. Returns how many, where it stopped, state."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    unit = np.float32(1.0 / (1 << 24))
    n = 0
    while position < end and n < len(buffer):
        row = tokens[position]
        position += 1
        if 0 <= row < len(keep):
            state = state * multiply + add
            buffer[n] = row
            n += np.float32(state >> np.uint64(40)) * unit < keep[row]
    return n, position, state


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _draw(noise, other, pool, oldest, count, state, c):
    """Put `count` new noise words into the pool, in place of the oldest. Returns which is oldest now, state."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    unit = np.float32(1.0 / (1 << 24))
    for _ in range(count):
        state = state * multiply + add
        row = int(((state >> np.uint64(32)) * np.uint64(len(noise))) >> np.uint64(32))
        state = state * multiply + add
        row += (np.float32(state >> np.uint64(40)) * unit >= noise[row]) * (other[row] - row)
        pool[oldest] = row
        oldest = oldest + 1 if oldest + 1 < len(pool) else 0
        prefetch(c, row * c.shape[1])
    return oldest, state


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _against(pool, target, positives, stamp, number):
    """Put the words of the pool behind target[:positives], those that stand there left out. Returns the end."""
    for k in range(positives):
        stamp[target[k]] = number
    m = positives
    for row in pool:
        target[m] = row
        m += stamp[row] != number
    return m


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _learn(work, c, target, positives, count, rate, weight, mixed, room):
    """Logistic regression: work[0] against the rows target[:count] of c, the first of which it should find.

    The rows are taken in groups of TARGETS, those to find dealt out evenly, and work[0] moves after each group. Leaves
    in work[1] how far it moved. weight : of a noise word, beside 1 of the others. mixed, room : as long as `target`.
    """
    h, g, before = work[0], work[1], work[2]
    goal, step, f = room[0], room[1], room[2]
    for d in range(len(h)):
        before[d] = h[d]
    groups = (count + TARGETS - 1) // TARGETS
    place = group = 0
    for k in range(groups * TARGETS):
        mixed[place] = target[k] if k < count else target[0]
        goal[place] = np.float32(1) if k < positives else np.float32(0)
        step[place] = rate if k < positives else rate * weight if k < count else np.float32(0)
        place += TARGETS
        if place >= groups * TARGETS:
            group += 1
            place = group
    for first in range(0, groups * TARGETS, TARGETS):
        products(h, c, mixed, first, f)
        for k in range(first, first + TARGETS):
            # 1 / (1 + exp(-f)) = (1 + tanh(f / 2)) / 2 by a Pade approximant, within 2e-5 up to 8, the bound of fastText
            x = min(max(f[k], np.float32(-8)), np.float32(8)) * np.float32(0.5)
            y = x * x
            top = x * (np.float32(135135) + y * (np.float32(17325) + y * (np.float32(378) + y)))
            low = np.float32(135135) + y * (np.float32(62370) + y * (np.float32(3150) + y * np.float32(28)))
            f[k] = (goal[k] - np.float32(0.5) * (np.float32(1) + top / low)) * step[k]
        for d in range(len(g)):
            g[d] = 0
        learn(h, g, c, mixed, first, f)
        for d in range(len(h)):
            h[d] += g[d]
    for d in range(len(h)):
        g[d] = h[d] - before[d]


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _skip_gram(
    buffer, n, noise, other, indptr, rows, ends, learning, w, c, work, pool, stamp, start, window, negative, rate, state
):  # fmt: skip
    """Train on the words buffer[:n], each the centre once."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    h, g = work[0], work[1]
    targets = np.zeros((2, 2 * window + len(pool) + TARGETS), np.int64)  # of this centre word, and of the next
    mixed, room = np.zeros(targets.shape[1], np.int64), np.zeros((3, targets.shape[1]), np.float32)
    positives, counts = np.zeros(2, np.int64), np.zeros(2, np.int64)
    oldest, state = _draw(noise, other, pool, 0, len(pool), state, c)
    for i in range(-1, n):
        if i + 1 < n:  # its rows are on their way while this one is trained
            ahead = (i + 1) & 1
            target = targets[ahead]
            state = state * multiply + add
            reach = window - int((state >> np.uint64(33)) % np.uint64(window))
            m = 0
            for j in range(max(0, i + 1 - reach), min(n, i + 2 + reach)):
                target[m] = buffer[j]
                m += j != i + 1
            positives[ahead] = m
            oldest, state = _draw(noise, other, pool, oldest, negative, state, c)
            counts[ahead] = _against(pool, target, m, stamp, start + i + 1)
            if i + 1 + window < n:
                prefetch(c, buffer[i + 1 + window] * c.shape[1])
            for place in range(indptr[buffer[i + 1]], indptr[buffer[i + 1] + 1]):
                prefetch(w, rows[place] * w.shape[1])
        now = i & 1
        if i < 0 or not positives[now]:
            continue
        first, last = indptr[buffer[i]], indptr[buffer[i] + 1]
        h[:] = 0
        add_rows(h, w, rows, first, last)
        h *= np.float32(1) / np.float32(last - first)
        weight = np.float32(negative * positives[now]) / np.float32(len(pool))
        _learn(work, c, targets[now], positives[now], counts[now], rate, weight, mixed, room)
        add_to_rows(w, learning, ends[buffer[i]], ends[buffer[i] + 1], g)
    return state


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _cbow(
    buffer, n, noise, other, indptr, rows, ends, learning, w, c, work, pool, stamp, start, window, negative, rate, state
):  # fmt: skip
    """Train on the words buffer[:n], each found from the mean of the rows of the words around it."""
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    ring = 2 * window + 1
    h, g = work[0], work[1]
    sums, gradients = work[3 : 3 + ring], work[3 + ring :]  # of the words in reach, by position modulo `ring`
    target, places = np.zeros(negative + 1 + TARGETS, np.int64), np.zeros(ring, np.int64)
    mixed, room = np.zeros(len(target), np.int64), np.zeros((3, len(target)), np.float32)
    gradients[:] = 0
    for i in range(-window, n + window + 1):
        if 0 <= i - window - 1 < n:  # leaves: its place is taken by the one that enters
            word, place = buffer[i - window - 1], (i - window - 1) % ring
            add_to_rows(w, learning, ends[word], ends[word + 1], gradients[place])
            gradients[place] = 0
        if i + window < n:
            word, place = buffer[i + window], (i + window) % ring
            sums[place] = 0
            add_rows(sums[place], w, rows, indptr[word], indptr[word + 1])
            if i + window + 1 < n:
                word = buffer[i + window + 1]
                for entry in range(indptr[word], indptr[word + 1]):
                    prefetch(w, rows[entry] * w.shape[1])
        if not 0 <= i < n:
            continue
        state = state * multiply + add
        reach = window - int((state >> np.uint64(33)) % np.uint64(window))
        m = parts = 0
        for j in range(max(0, i - reach), min(n, i + reach + 1)):
            if j != i:
                places[m] = j % ring
                parts += indptr[buffer[j] + 1] - indptr[buffer[j]]
                m += 1
        if not m:
            continue
        target[0] = buffer[i]
        _, state = _draw(noise, other, pool, 0, negative, state, c)
        count = _against(pool, target, 1, stamp, start + i)
        h[:] = 0
        add_rows(h, sums, places, 0, m)
        h *= np.float32(1) / np.float32(parts)
        _learn(work, c, target, 1, count, rate, np.float32(1), mixed, room)
        add_to_rows(gradients, places, 0, m, g)
    return state


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _words(indptr, rows, w, out):
    """Write the mean of the rows of each word into `out`, which holds zeros."""
    for word in range(len(out)):
        add_rows(out[word], w, rows, indptr[word], indptr[word + 1])
        out[word] /= np.float32(indptr[word + 1] - indptr[word])


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _segment(
    tokens, offsets, first, last, document, keep, noise, other, indptr, rows, ends, learning, w, c, work,
    cbow, window, negative, lr, total, done, slot, state,
):  # fmt: skip
    """Train on tokens[first:last]; `document` holds `first`. Rows below 0 and from len(keep) on are skipped.

    ends, learning : CSR as `indptr` and `rows`, without the rows that stay as they are.
    """
    buffer, pool = np.empty(CHUNK, np.int32), np.zeros(negative * (1 if cbow else window), np.int64)
    stamp = np.full(len(keep), -1, np.int64)
    position = first
    while position < last:
        start, end = position, min(offsets[document + 1], last)
        n, position, state = _kept(tokens, position, end, keep, buffer, state)
        if position == offsets[document + 1]:
            document += 1
        trained = 0
        for i in range(0, len(done), CACHE_LINE):
            trained += done[i]
        rate = np.float32(lr * max(1.0 - trained / total, 1e-4))
        done[slot] += position - start
        if cbow:
            state = _cbow(
                buffer, n, noise, other, indptr, rows, ends, learning, w, c, work, pool, stamp, start, window, negative,
                rate, state,
            )  # fmt: skip
        else:
            state = _skip_gram(
                buffer, n, noise, other, indptr, rows, ends, learning, w, c, work, pool, stamp, start, window, negative,
                rate, state,
            )  # fmt: skip
    return state


def _aligned(rows: int, width: int) -> Matrix:
    """(rows, width) float32 zeros that begin at a cache line, so that no vector load straddles two."""
    raw = np.zeros(rows * width + 16, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + rows * width].reshape(rows, width)


@dataclass(eq=False)
class SubwordGram:
    """The matrices and the schedule of one training.

    Parameters
    ----------
    weights : counts of the words; count^0.75 is the noise distribution.
    subwords : the rows that make up each word.
    dim, window, negative, lr : as in the paper; lr falls linearly to lr / 10,000 over `total` tokens.
    total : tokens that will be seen in all rounds.
    sample : subsampling threshold of frequent words (Mikolov et al. 2013, section 2.3, in word2vec.c's form); 0 is off.
    cbow : the mean of all rows of the contexts finds the centre; else the centre finds its contexts.
    start, start_ngrams, start_context : (n, dim), (n_buckets, dim) and (n, dim) vectors of words, rows of buckets and
        rows that answer to begin with; NaN rows and None begin at random (answers: at zero).
    frozen : (n,) bool, words that keep their vectors: none of the rows that make them up learns.
    """

    weights: NDArray[Any]
    subwords: Subwords
    dim: int
    window: int
    negative: int
    lr: float
    total: int
    threads: int
    seed: int
    sample: float = 0.0
    cbow: bool = False
    start: Matrix | None = None
    start_ngrams: Matrix | None = None
    start_context: Matrix | None = None
    frozen: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        n, table = len(self.weights), self.subwords
        width = -(-self.dim // WIDTH) * WIDTH
        rng = np.random.default_rng(self.seed)
        first = (rng.random((n + len(table.buckets), self.dim), np.float32) * 2 - 1) / np.float32(self.dim)
        self._rows, self._context = _aligned(len(first), width), _aligned(n, width)
        self._rows[:, : self.dim] = first
        put_known(self._rows[n:], self.start_ngrams)
        put_known(self._context, self.start_context)
        if self.start is not None:  # a word's own row makes up for what its n-grams say otherwise
            known = np.flatnonzero(np.isfinite(self.start).all(axis=1))
            missing = (self.start[known] - self.matrix[known]) * np.diff(table.indptr)[known, None]
            self._rows[known, : self.dim] += missing
        self._learning = (table.indptr, table.rows) if self.frozen is None else table.without(self.frozen)
        self._keep = chances_to_stay(self.weights, self.sample).astype(np.float32)
        self._noise, self._other = alias_table(np.asarray(self.weights, np.float64) ** 0.75)
        self._done = np.zeros(self.threads * CACHE_LINE, np.int64)
        self._segments = 0

    @property
    def matrix(self) -> Matrix:
        """(n, dim) float32 vectors of the words: the means of their rows."""
        table, out = self.subwords, _aligned(len(self.weights), self._rows.shape[1])
        _words(table.indptr, table.rows, self._rows, out)
        return np.ascontiguousarray(out[:, : self.dim])

    @property
    def ngrams(self) -> Matrix:
        """(n_buckets, dim) float32 rows of the buckets, in the order of `subwords.buckets`."""
        return np.ascontiguousarray(self._rows[len(self.weights) :, : self.dim])

    @property
    def context(self) -> Matrix:
        """(n, dim) float32, the rows that answer."""
        return np.ascontiguousarray(self._context[:, : self.dim])

    def train(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], *, progress: Progress = silent) -> None:
        """One pass over `tokens`: numbers of words; documents end at `offsets`; other numbers are skipped."""
        starts = np.arange(0, len(tokens), SEGMENT)
        documents = np.searchsorted(offsets, starts, side="right") - 1
        base = self._segments
        self._segments += len(starts)
        table = self.subwords
        spaces = [_aligned(4 * self.window + 5, self._rows.shape[1]) for _ in range(self.threads)]

        def work(slot: int, number: int) -> None:
            begin = int(starts[number])
            state = np.random.SeedSequence([self.seed, base + number]).generate_state(1, np.uint64)[0]
            _segment(
                tokens, offsets, begin, min(begin + SEGMENT, len(tokens)), int(documents[number]),
                self._keep, self._noise, self._other, table.indptr, table.rows, *self._learning, self._rows, self._context,
                spaces[slot],
                self.cbow, self.window, self.negative, self.lr, float(self.total),
                self._done, slot * CACHE_LINE, state,
            )  # fmt: skip

        run_threads(work, len(starts), self.threads, lambda: progress(float(self._done.sum()), self.total, "words"))
