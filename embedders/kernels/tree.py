"""Word2vec by hierarchical softmax: a centre word's targets are the nodes on its path in a Huffman tree.

A path is cut into blocks of BIG and SMALL nodes. All products of a centre word's contexts with its path are taken
first, so that the processor waits for sigmoids once; then the blocks learn one after the other. Threads write copies of
the nodes near the root, which lie on every path (see `copies`), and the others without locks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.kernels.block import (
    LANES,
    judge,
    learn,
    learn_eight,
    learn_one,
    learn_one_eight,
    products,
    products_of_eight,
    products_of_one,
    products_of_one_eight,
)  # fmt: skip
from embedders.kernels.centres import AHEAD, BATCH, CACHE_LINE, RING, SPARE, cross_entropy, falling, read
from embedders.kernels.copies import share
from embedders.kernels.huffman import huffman
from embedders.kernels.mean import average, pass_on
from embedders.kernels.noise import GOLDEN, mixed
from embedders.kernels.offsets import prefetch

BIG, SMALL = 8, 6
SPAN = LANES * (
    BATCH + 2
)  # errors of a block: of up to BATCH contexts, of one that is none, and room for a vector's end


def tree_paths(counts: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where the blocks of each row's path begin, and the nodes with their goals.

    counts : (n,) n at least 1.

    Returns places (n + 1, 2): the BIG blocks of row i begin at places[i, 0], its SMALL ones at places[i, 1], LANES
    numbers each; and the numbers, int32: 4 * node + goal + 1. If the path is shorter than its blocks, the first one
    begins with copies of its last node, whose goal is -1.
    """
    offsets, nodes, bits = huffman(counts)
    lengths = np.diff(offsets)
    cuts = np.array([_cut(length) for length in range(int(lengths.max()) + 1)])[lengths]
    big, small = cuts.T
    places = np.zeros((len(counts) + 1, 2), np.int64)
    places[1:, 0] = np.cumsum((big + small) * LANES)
    places[:-1, 1] = places[:-1, 0] + big * LANES
    numbers = np.zeros(places[-1, 0], np.int32)

    def at(row: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of the k-th node, copies counted."""
        after = k - big[row] * BIG
        there = places[row, 1] + after // SMALL * LANES + after % SMALL
        found: NDArray[np.int64] = np.where(after < 0, places[row, 0] + k // BIG * LANES + k % BIG, there)
        return found

    row = np.repeat(np.arange(len(counts)), lengths)
    lacking = big * BIG + small * SMALL - lengths
    k = np.arange(len(nodes)) - offsets[row] + lacking[row]
    numbers[at(row, k)] = nodes << 2 | 2 - bits
    row = np.repeat(np.arange(len(counts)), lacking)
    last = np.where(big[row] > 0, BIG, SMALL) - 1
    k = np.arange(len(row)) - np.repeat(np.cumsum(lacking) - lacking, lacking)
    numbers[at(row, k)] = numbers[at(row, last)] & ~3
    return places, numbers


def _cut(length: int) -> tuple[int, int]:
    """How many BIG and SMALL blocks hold a path, with the least room to spare, then the fewest.

    >>> _cut(0), _cut(7), _cut(13), _cut(17)
    ((0, 1), (1, 0), (1, 1), (0, 3))
    """
    most = length // SMALL + 1
    fits = [(b, s) for b in range(most + 1) for s in range(most + 1) if b * BIG + s * SMALL >= max(length, 1)]
    return min(fits, key=lambda cut: (cut[0] * BIG + cut[1] * SMALL, sum(cut)))


@njit(inline="always")
def _follow(word, places, numbers, shift, hot, c, targets, goals, first):
    """Write offsets and goals of a word's path from `first` on, and ask for the rows below the nodes near the root."""
    begin, small, end = places[word, 0], places[word, 1], places[word + 1, 0]
    for k in range(end - begin):
        number = numbers[begin + k]
        node = np.int64(number >> 2)
        offset = node * c.shape[1]
        if shift is not None:
            offset += shift * np.int64(node < hot)
        targets[first + k] = offset
        goals[first + k] = np.float32((number & 3) - 1)
    for block in range(LANES, small - begin, LANES):
        for k in range(BIG):
            prefetch(c, targets[first + block + k])
    for block in range(max(LANES, small - begin), end - begin, LANES):
        for k in range(SMALL):
            prefetch(c, targets[first + block + k])


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def train_tree(
    tokens, offsets, first, last, document, keep, frozen, w, words, line, sinks, errors, window, lr, done, total, slot,
    losses, look, counter, alone, c, places, numbers, targets, goals, shift, levels, locks, turns,
) -> Any:  # fmt: skip
    """Train on tokens[first:last]; `document` holds `first`; see `centres.read` and `copies.share`.

    words, line, sinks, errors, targets, goals : room of the thread's own.
    alone : None, or of CBOW the offset of its thread's row `fresh`. None makes numba leave the branch out.
    shift : None, or the offset from a row of c to its thread's copy.
    """
    width, ring = w.shape[1], len(targets) // RING
    zeros = (len(keep) + slot // CACHE_LINE * SPARE) * width
    mean, fresh = zeros + 2 * width, zeros + 3 * width
    hot = (1 << levels) - 1
    position = first
    while position < last:
        start = position
        n, position, document, counter = read(
            tokens, offsets, position, last, document, keep, frozen, width, zeros, words, line, sinks, counter
        )
        rate = falling(lr, done, total, slot, position - start)
        for i in range(min(n, window + AHEAD)):
            prefetch(w, line[i + 1])
        for i in range(min(n, AHEAD)):
            _follow(words[i], places, numbers, shift, hot, c, targets, goals, i * ring)
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
            if i + AHEAD < n:
                _follow(words[i + AHEAD], places, numbers, shift, hot, c, targets, goals, (i + AHEAD) % RING * ring)
            if shift is not None:
                share(c, shift, levels, locks, turns, slot)
            if m == 0:
                continue
            word, mine = words[i], i % RING * ring
            big = (places[word, 1] - places[word, 0]) // LANES
            blocks = (places[word + 1, 0] - places[word, 0]) // LANES
            if alone is not None:
                average(w, line, at, m, np.float32(1) / np.float32(m), mean, fresh)
                for b in range(big):
                    products_of_one_eight(w, alone, 0, 1, c, targets, mine + b * LANES, errors, b * SPAN)
                for b in range(big, blocks):
                    products_of_one(w, alone, 0, 1, c, targets, mine + b * LANES, errors, b * SPAN)
                for b in range(blocks):
                    judge(errors, b * SPAN, 1, goals, mine + b * LANES, rate)
                if bits & look == 0:
                    for b in range(blocks):
                        losses[slot] += cross_entropy(errors, b * SPAN, 1, rate)
                    losses[slot + 1] += 1
                for b in range(big):
                    learn_one_eight(w, alone, alone, 0, 1, c, targets, mine + b * LANES, errors, b * SPAN)
                for b in range(big, blocks):
                    learn_one(w, alone, alone, 0, 1, c, targets, mine + b * LANES, errors, b * SPAN)
                pass_on(w, line, sinks, at, m, fresh, mean)
            else:
                for part in range(at, at + m, BATCH):
                    size = min(BATCH, at + m - part)
                    for b in range(big):
                        products_of_eight(w, line, part, size, c, targets, mine + b * LANES, errors, b * SPAN)
                    for b in range(big, blocks):
                        products(w, line, part, size, c, targets, mine + b * LANES, errors, b * SPAN)
                    for b in range(blocks):
                        judge(errors, b * SPAN, size, goals, mine + b * LANES, rate)
                    if bits & look == 0:
                        for b in range(blocks):
                            losses[slot] += cross_entropy(errors, b * SPAN, size, rate)
                        losses[slot + 1] += size
                    for b in range(big):
                        learn_eight(w, line, sinks, part, size, c, targets, mine + b * LANES, errors, b * SPAN)
                    for b in range(big, blocks):
                        learn(w, line, sinks, part, size, c, targets, mine + b * LANES, errors, b * SPAN)
    return counter
