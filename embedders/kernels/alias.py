"""Alias tables: draw from a discrete distribution in constant time (Walker 1977; Vose 1991)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def _fill(scaled, keep, other, small, large):
    n_small = n_large = 0
    for i in range(len(scaled)):
        keep[i], other[i] = 1.0, i
        if scaled[i] < 1.0:
            small[n_small] = i
            n_small += 1
        else:
            large[n_large] = i
            n_large += 1
    while n_small and n_large:
        n_small -= 1
        low, high = small[n_small], large[n_large - 1]
        keep[low], other[low] = scaled[low], high
        scaled[high] -= 1.0 - scaled[low]
        if scaled[high] < 1.0:
            n_large -= 1
            small[n_small] = high
            n_small += 1


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Tables of one distribution.

    weights : (n,) not negative, their sum positive.

    Returns keep (n,) float32 and other (n,) int32: draw a row i evenly and a number u in [0, 1);
    the outcome is i when u < keep[i], else other[i].
    """
    n = len(weights)
    keep, other = np.empty(n, np.float32), np.empty(n, np.int32)
    _fill(
        np.asarray(weights, np.float64) * (n / weights.sum()), keep, other, np.empty(n, np.int32), np.empty(n, np.int32)
    )
    return keep, other


@njit(nogil=True, cache=True)
def _rows(indptr, indices, weights, packed, small, large, other, scaled, keep):
    for row in range(len(indptr) - 1):
        first, last = indptr[row], indptr[row + 1]
        n, total = last - first, 0.0
        for i in range(first, last):
            total += weights[i]
        for i in range(n):
            scaled[i] = weights[first + i] * n / total
        _fill(scaled[:n], keep, other, small, large)
        for i in range(n):
            chance = np.uint64(min(keep[i] * 4294967296.0, 4294967295.0))
            packed[first + i] = chance << np.uint64(32) | np.uint64(indices[first + other[i]])


def alias_rows(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.uint64]:
    """One alias table a CSR row, laid out like its entries.

    Returns (nnz,) uint64: draw an entry of the row evenly; its high half is the chance (of 2^32) that the outcome is
    the entry's own index, the low half the index that it is otherwise.
    """
    packed = np.empty(len(weights), np.uint64)
    widest = int(np.diff(indptr).max(initial=0))
    room = [np.empty(widest, kind) for kind in (np.int32, np.int32, np.int32, np.float64, np.float64)]
    _rows(indptr, indices, weights, packed, *room)
    return packed
