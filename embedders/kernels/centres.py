"""The centre words of a corpus, their contexts and what they cost: word2vec's loop outside of its answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from embedders.base import Matrix
from embedders.kernels.block import LANES
from embedders.kernels.noise import GOLDEN, mixed
from embedders.kernels.simd import BOUND

CACHE_LINE = 16  # int64 counters between two threads' own, so that they do not share a cache line
CHUNK = 4096  # kept tokens looked at together; a document longer than that is cut, its contexts with it
AHEAD = 3  # centre words between choosing targets and their turn, in which their rows arrive
RING = AHEAD + 1  # centre words whose targets are kept
BATCH = 16  # contexts that learn at once: of many more the summed steps of a large window would be too long
SPARE = 4  # rows a thread has for itself: zeros, what is thrown away, the mean of the contexts before and after
LEAST = 1 / (1 + np.exp(BOUND))  # the smallest probability that the loss believes


def aligned(rows: int, width: int) -> Matrix:
    """(rows, width) float32 zeros that begin at a cache line, so that no vector load straddles two."""
    raw = np.zeros(rows * width + 16, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + rows * width].reshape(rows, width)


@njit(inline="always")
def read(tokens, offsets, position, last, document, keep, frozen, width, spare, words, line, sinks, counter) -> Any:  # fmt: skip
    """The next kept rows of the document that `position` is in, at most CHUNK of them.

    keep : of 2^32, how often a row is kept; tokens below 0 and from len(keep) on are skipped.
    words : gets the rows. line, sinks : get their offsets from 1 on, and after the last that of the row of zeros;
    sinks those of rows to be thrown away for frozen ones.

    Returns how many there are, where the next ones begin, in which document, and the random counter.
    """
    end = min(offsets[document + 1], last)
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
    if frozen is not None:
        for i in range(n):
            if frozen[words[i]]:
                sinks[i + 1] = spare + width
    line[n + 1] = sinks[n + 1] = spare
    return n, position, document, counter


@njit(inline="always")
def falling(lr, done, total, slot, tokens) -> Any:
    """The learning rate after what all threads have done; `tokens` more are done then."""
    trained = 0
    for i in range(0, len(done), CACHE_LINE):
        trained += done[i]
    done[slot] += tokens
    return np.float32(lr * max(1.0 - trained / total, 1e-4))


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def cross_entropy(errors, first, n, rate) -> Any:
    """The summed cross-entropy of n rows and a block of targets: an error is lr * (goal - probability), 0 where none counts."""
    total = 0.0
    for i in range(n):
        product = 1.0
        for k in range(LANES):
            product *= max(1.0 - abs(errors[first + i * LANES + k]) / rate, LEAST)
        total -= np.log(product)
    return total
