"""The items of each basket in a random order."""

from __future__ import annotations

import numpy as np
from numba import njit

from embedders.kernels.noise import GOLDEN, mixed


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def shuffle_within(tokens, offsets, counter):  # noqa: ANN201
    """Put tokens[offsets[i]:offsets[i + 1]] in random order, for each i (Fisher and Yates)."""
    for basket in range(len(offsets) - 1):
        first = offsets[basket]
        for last in range(offsets[basket + 1] - 1, first, -1):
            counter += np.uint64(GOLDEN)
            other = first + np.int64(((mixed(counter) >> np.uint64(32)) * np.uint64(last - first + 1)) >> np.uint64(32))
            tokens[last], tokens[other] = tokens[other], tokens[last]
