"""The Huffman tree of a vocabulary: hierarchical softmax's paths (Mikolov et al. 2013, arXiv:1310.4546, section 2.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def _tree(weight, parent, bit):
    """Join the two lightest nodes until one is left; weight[:n] are the leaves, lightest first."""
    n = (len(weight) + 1) // 2
    leaf, inner = 0, n
    for node in range(n, 2 * n - 1):
        for side in range(2):
            if leaf < n and (inner >= node or weight[leaf] <= weight[inner]):
                child = leaf
                leaf += 1
            else:
                child = inner
                inner += 1
            weight[node] += weight[child]
            parent[child], bit[child] = node, side


@njit(nogil=True, cache=True)
def _walk_up(order, parent, bit, offsets, nodes, bits):
    n = len(order)
    root = 2 * n - 2
    for leaf in range(n):
        word = order[leaf]
        place, node = offsets[word + 1], leaf
        while node != root:
            place -= 1
            nodes[place], bits[place] = root - parent[node], bit[node]
            node = parent[node]


@njit(nogil=True, cache=True)
def _depths(parent, depth):
    for node in range(len(parent) - 2, -1, -1):
        depth[node] = depth[parent[node]] + 1


def huffman(counts: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int8]]:
    """The path of every word in the tree that makes the mean path as short as can be.

    counts : (n,) n at least 1.

    Returns offsets (n + 1,), and nodes and bits: word i passes the inner nodes `nodes[offsets[i]:offsets[i + 1]]`,
    root (0) first, and turns by `bits`. There are n - 1 inner nodes.

    >>> offsets, nodes, bits = huffman(np.array([5, 2, 1]))
    >>> offsets.tolist(), nodes.tolist(), bits.tolist()
    ([0, 1, 3, 5], [0, 0, 1, 0, 1], [1, 0, 1, 0, 0])
    """
    n = len(counts)
    order = np.argsort(counts, kind="stable").astype(np.int64)
    weight = np.zeros(2 * n - 1, np.float64)
    weight[:n] = np.asarray(counts, np.float64)[order]
    parent, bit, depth = np.zeros(2 * n - 1, np.int64), np.zeros(2 * n - 1, np.int8), np.zeros(2 * n - 1, np.int64)
    _tree(weight, parent, bit)
    _depths(parent, depth)
    offsets = np.zeros(n + 1, np.int64)
    offsets[1:][order] = depth[:n]
    np.cumsum(offsets, out=offsets)
    nodes, bits = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int8)
    _walk_up(order, parent, bit, offsets, nodes, bits)
    return offsets, nodes, bits
