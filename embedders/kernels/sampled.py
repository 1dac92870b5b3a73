"""Word2vec by negative sampling: the targets of a centre word are itself and its noise words, six at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from embedders.kernels.block import (
    LANES,
    judge,
    learn,
    learn_one,
    products,
    products_of_one,
)  # fmt: skip
from embedders.kernels.centres import AHEAD, BATCH, CACHE_LINE, RING, SPARE, cross_entropy, falling, read
from embedders.kernels.mean import average, pass_on
from embedders.kernels.noise import GOLDEN, STRIDE, draw, mixed
from embedders.kernels.offsets import prefetch
from embedders.kernels.pool import USES, renew
from embedders.kernels.simd import TARGETS


@njit(inline="always")
def _choose(word, negative, noise, spans, targets, goals, first, counter, c):
    """Choose the targets of one centre word, itself and its negatives, and ask for their rows."""
    groups, shift = (negative + TARGETS) // TARGETS, 0
    if spans is not None:
        noise, shift = noise[spans[word, 0] : spans[word, 1]], spans[word, 0]
    centre = (word - shift) * c.shape[1]
    for group in range(groups):
        left = negative - max(0, group * TARGETS - 1)
        draw(noise, counter, centre, group == 0, left, c.shape[1], targets, goals, first + group * LANES)
        counter += np.uint64(STRIDE)
    if spans is not None:
        for k in range(groups * LANES):
            targets[first + k] += shift * c.shape[1]
    for group in range(groups):
        for k in range(TARGETS):
            prefetch(c, targets[first + group * LANES + k])
    return counter


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def train_sampled(
    tokens, offsets, first, last, document, keep, frozen, w, words, line, sinks, errors, window, lr, done, total, slot,
    losses, look, counter, alone, c, noise, spans, negative, targets, goals, pool,
) -> Any:  # fmt: skip
    """Train on tokens[first:last]; `document` holds `first`; see `centres.read`.

    words, line, sinks, errors, targets, goals : room of the thread's own.
    alone : None, or of CBOW the offset of its thread's row `fresh`. None makes numba leave the branch out.
    noise : see `noise_table`. spans : None, or (n, 2), of each word the part of `noise` that is a table of its own.
    pool : None, or room for the rows that negatives are drawn from meanwhile; see `pool.renew`.
    """
    width, groups = w.shape[1], (negative + TARGETS) // TARGETS
    zeros = (len(keep) + slot // CACHE_LINE * SPARE) * width
    mean, fresh = zeros + 2 * width, zeros + 3 * width
    position, drawn = first, 0
    source, oldest = noise, 0
    if pool is not None:
        source = pool
        oldest, counter = renew(pool, len(pool), oldest, noise, counter, c)
    while position < last:
        start = position
        n, position, document, counter = read(
            tokens, offsets, position, last, document, keep, frozen, width, zeros, words, line, sinks, counter
        )
        rate = falling(lr, done, total, slot, position - start)
        if pool is not None:
            drawn += n * negative
            oldest, counter = renew(pool, drawn // USES, oldest, noise, counter, c)
            drawn %= USES
        for i in range(min(n, AHEAD)):
            counter = _choose(words[i], negative, source, spans, targets, goals, i * groups * LANES, counter, c)
        for i in range(min(n, window + AHEAD)):
            prefetch(w, line[i + 1])
            if pool is not None:
                prefetch(c, line[i + 1])
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
                if pool is not None:  # the centre's row is the only target that is not near
                    prefetch(c, line[i + window + AHEAD + 1])
            place = i % RING * groups * LANES
            if alone is not None:
                if m:
                    average(w, line, at, m, np.float32(1) / np.float32(m), mean, fresh)
            following = words[min(i + AHEAD, n - 1)]
            rows = m
            if alone is not None:
                rows = min(m, 1)
            for group in range(groups):
                for part in range(0, max(rows, 1), BATCH):
                    size = min(BATCH, rows - part)
                    if m:
                        if alone is not None:
                            products_of_one(w, alone, 0, 1, c, targets, place, errors, 0)
                            judge(errors, 0, 1, goals, place, rate)
                        else:
                            products(w, line, at + part, size, c, targets, place, errors, 0)
                            judge(errors, 0, size, goals, place, rate)
                    if group == 0 and part == 0 and i + AHEAD < n:  # here, while the processor waits for the errors
                        ring = (i + AHEAD) % RING * groups * LANES
                        counter = _choose(following, negative, source, spans, targets, goals, ring, counter, c)
                    if m:
                        if bits & look == 0:
                            losses[slot] += cross_entropy(errors, 0, size, rate)
                        if alone is not None:
                            learn_one(w, alone, alone, 0, 1, c, targets, place, errors, 0)
                        else:
                            learn(w, line, sinks, at + part, size, c, targets, place, errors, 0)
                place += LANES
            if alone is not None:
                if m:
                    pass_on(w, line, sinks, at, m, fresh, mean)
            if bits & look == 0:
                losses[slot + 1] += rows
    return counter
