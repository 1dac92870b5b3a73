"""The largest scores of each row, kept as its columns come by in tiles; some columns are passed over."""

from __future__ import annotations

import numpy as np
from numba import njit

STEP = 16  # columns that are compared with the least kept score together


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def keep_largest(scores, first, indptr, indices, columns, values) -> None:
    """Take a tile of scores into the k largest of each row, largest first, equal ones in column order.

    scores : (rows, width) float32, of the columns from `first` on; not NaN. What is passed over becomes -inf in it.
    indptr, indices : for each row, the columns that are passed over, ascending (CSR).
    columns : (rows, k) int32, -1 where nothing is kept yet. values : (rows, k) float32, -inf there.
    """
    width, k = scores.shape[1], columns.shape[1]
    whole = width - width % STEP
    nothing = np.float32(-np.inf)
    for row in range(len(scores)):
        line, best, at = scores[row], values[row], columns[row]
        for j in range(_first_from(indices, indptr[row], indptr[row + 1], first), indptr[row + 1]):
            if indices[j] >= first + width:
                break
            line[indices[j] - first] = nothing
        least = best[k - 1]
        for start in range(0, whole, STEP):
            above = False
            for j in range(start, start + STEP):
                above |= line[j] > least
            if above:
                for j in range(start, start + STEP):
                    if line[j] > least:
                        least = _put(line[j], first + j, best, at)
        for j in range(whole, width):
            if line[j] > least:
                least = _put(line[j], first + j, best, at)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _first_from(indices, begin, end, least):
    """The first place from `begin` on whose index is at least `least`; they ascend."""
    while begin < end:
        middle = (begin + end) // 2
        if indices[middle] < least:
            begin = middle + 1
        else:
            end = middle
    return begin


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _put(value, column, best, at):
    """Insert a score, behind those that equal it; what is now the least of those kept."""
    place = len(best) - 1
    while place > 0 and best[place - 1] < value:
        best[place], at[place] = best[place - 1], at[place - 1]
        place -= 1
    best[place], at[place] = value, column
    return best[len(best) - 1]
