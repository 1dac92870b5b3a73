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
def _rows(indptr, weights, keep, other):
    widest = 0
    for row in range(len(indptr) - 1):
        widest = max(widest, indptr[row + 1] - indptr[row])
    small, large, scaled = np.empty(widest, np.int32), np.empty(widest, np.int32), np.empty(widest, np.float64)
    for row in range(len(indptr) - 1):
        first, last = indptr[row], indptr[row + 1]
        total = 0.0
        for i in range(first, last):
            total += weights[i]
        for i in range(first, last):
            scaled[i - first] = weights[i] * (last - first) / total
        _fill(scaled[: last - first], keep[first:last], other[first:last], small, large)


def alias_rows(
    indptr: NDArray[np.int64], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """One alias table a CSR row, laid out like its entries; `other` counts from the row's first entry."""
    keep, other = np.empty(len(weights), np.float32), np.empty(len(weights), np.int32)
    _rows(indptr, weights, keep, other)
    return keep, other
