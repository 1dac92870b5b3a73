"""A user, an item that was met, and one that was not: what learning to rank begins with, drawn in bulk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.kernels.noise import GOLDEN, mixed, noise_table

TRIES = 16  # at drawing an item that the user has not met
STRIDE = (TRIES + 2) * GOLDEN % 2**64  # how far one triple moves the counter


@njit(inline="always")
def _below(counter, n):
    """A number below n < 2^32."""
    return np.int64(((mixed(counter) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(inline="always")
def _bit(user, item, size):
    """Where the pair is marked among 2^size bits."""
    return mixed(np.uint64(user) << np.uint64(32) | np.uint64(item)) >> np.uint64(64 - size)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def mark(rows, indices, size):  # noqa: ANN201
    """(2^size / 64,) uint64: a bit set for each pair; a pair whose bit is not set was not met."""
    marks = np.zeros(max(1, 1 << (size - 6)), np.uint64)
    for at in range(len(indices)):
        bit = _bit(rows[at], indices[at], size)
        marks[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    return marks


@njit(inline="always")
def _holds(indices, first, last, item):
    """Whether the sorted indices[first:last] hold the item."""
    end = last
    while first < last:
        middle = (first + last) >> 1
        if indices[middle] < item:
            first = middle + 1
        else:
            last = middle
    return first < end and indices[first] == item


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def draw_triples(rows, indptr, indices, marks, size, table, items, counter, out):  # noqa: ANN201
    """Fill `out` (n, 3) int32: a pair that was met, and an item that its user has not met; -1 where none was found.

    rows, indices : (pairs,) users and items of the pairs, those of a user in order. marks, size : see `mark`.
    table : (pairs,) as `noise_table` gives, by which pairs are drawn, or none.
    """
    pairs = len(indices)
    for s in range(len(out)):
        bits = counter + np.uint64(GOLDEN)
        at = _below(bits, pairs)
        if len(table):
            entry = table[at]
            if mixed(counter) & np.uint64(0xFFFFFFFF) >= entry >> np.uint64(32):
                at = np.int64(entry & np.uint64(0xFFFFFFFF))
        user = rows[at]
        out[s, 0], out[s, 1], out[s, 2] = user, indices[at], -1
        for _ in range(TRIES):
            bits += np.uint64(GOLDEN)
            item = _below(bits, items)
            bit = _bit(user, item, size)
            if marks[bit >> np.uint64(6)] >> (bit & np.uint64(63)) & np.uint64(1):
                if _holds(indices, indptr[user], indptr[user + 1], item):
                    continue
            out[s, 2] = item
            break
        counter += np.uint64(STRIDE)


class Triples:
    """Pairs of users and items, to draw from."""

    def __init__(
        self, indptr: NDArray[Any], indices: NDArray[np.int32], items: int, weights: NDArray[np.float32] | None = None
    ) -> None:
        """Look through the pairs.

        Parameters
        ----------
        indptr, indices : the items of each user, in order, as compressed rows.
        items : the first so many are drawn as not met.
        weights : (pairs,) how often a pair is drawn as met; None: all as often.
        """
        self._rows = np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))
        self._indptr, self._indices, self._items = indptr, indices, items
        self._size = max(6, (16 * len(indices)).bit_length())
        self._marks = mark(self._rows, indices, self._size)
        self._table = np.empty(0, np.uint64) if weights is None else noise_table(weights.astype(np.float64))

    def fill(self, out: NDArray[np.int32], *seed: int) -> None:
        """Write into `out` (n, 3) a user, an item it met and one it did not, each as likely; -1 where it met (nearly) all."""
        counter = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        draw_triples(
            self._rows, self._indptr, self._indices, self._marks, self._size, self._table, self._items, counter, out
        )
