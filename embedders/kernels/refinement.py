"""Hashes of neighbourhoods: one round of the refinement of B. Weisfeiler and A. Leman (1968), over edge weights, too."""

from __future__ import annotations

import numpy as np
from numba import njit

from embedders.kernels.noise import GOLDEN, mixed


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def refine(indptr, indices, weights, labels, out) -> None:
    """Hash of each node's label with the labels of its neighbours and the weights to them, in whatever order they stand.

    weights : (nnz,) float32 as uint32, or none. labels, out : (n, 2) uint64. Neighbours are summed, in two lanes, after
    a hash of their own.
    """
    golden, lane = np.uint64(GOLDEN), np.uint64(0xD1B54A32D192ED03)
    for i in range(len(labels)):
        low = high = np.uint64(indptr[i + 1] - indptr[i])
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            weight = mixed(np.uint64(weights[e]) + golden) if len(weights) else np.uint64(0)
            joined = mixed(labels[j, 0] + mixed(labels[j, 1] + weight))
            low += mixed(joined + golden)
            high += mixed(joined + mixed(labels[j, 1] ^ weight) + lane)
        out[i, 0] = mixed(labels[i, 0] + mixed(low + golden) + lane)
        out[i, 1] = mixed(labels[i, 1] + mixed(high + lane) + golden)
