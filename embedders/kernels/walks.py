"""Second-order random walks on CSR (node2vec: Grover and Leskovec 2016, arXiv:1607.00653, section 3.2).

A neighbour is drawn in constant time (evenly, or by the node's alias table) and accepted with a probability that
depends on p and q (rejection sampling; Yang et al. 2019, KnightKing), so no table per edge is needed. Each walk has
a random stream of its own, so walks do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.kernels.alias import alias_rows
from embedders.kernels.threads import run_threads

PIECE = 4096  # walks between two looks at a request to stop


@njit(nogil=True, cache=True, boundscheck=False)
def _holds(indices, low, high, node):
    """Whether the sorted indices[low:high] hold `node`."""
    end = high
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < node:
            low = middle + 1
        else:
            high = middle
    return low < end and indices[low] == node


@njit(nogil=True, cache=True, fastmath=True, boundscheck=False, error_model="numpy")
def _walk(indptr, indices, keep, other, starts, first, last, out, p, q, seed):
    multiply, add = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    unit = 1.0 / 9007199254740992.0
    weighted = len(keep) > 0
    biased = p != 1.0 or q != 1.0
    back, away = 1.0 / p, 1.0 / q
    most = max(back, 1.0, away)
    low_bar, high_bar = min(1.0, away), max(1.0, away)
    for walk in range(first, last):
        state = (np.uint64(walk) + seed) * np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(31)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        node, previous = starts[walk], -1
        out[walk, 0] = node
        for step in range(1, out.shape[1]):
            begin = indptr[node]
            degree = indptr[node + 1] - begin
            if degree == 0:
                out[walk, step:] = -1
                break
            while True:
                state = state * multiply + add
                entry = np.int64(((state >> np.uint64(32)) * np.uint64(degree)) >> np.uint64(32))
                if weighted:
                    state = state * multiply + add
                    if np.float64(state >> np.uint64(11)) * unit >= keep[begin + entry]:
                        entry = np.int64(other[begin + entry])
                following = indices[begin + entry]
                if previous < 0 or not biased or degree == 1:
                    break
                state = state * multiply + add
                draw = np.float64(state >> np.uint64(11)) * unit * most
                if following == previous:
                    if draw < back:
                        break
                elif draw < low_bar:
                    break
                elif draw < high_bar:
                    near = _holds(indices, indptr[previous], indptr[previous + 1], following)
                    if near == (away < 1.0):
                        break
            previous = node
            node = following
            out[walk, step] = node


class Walker:
    """Draws walks on one graph; its alias tables, if the graph has weights, are built once."""

    def __init__(self, graph: Graph, *, p: float, q: float, threads: int) -> None:
        self.graph, self.p, self.q, self.threads = graph, p, q, threads
        none = np.empty(0, np.float32), np.empty(0, np.int32)
        self._alias = none if graph.weights is None else alias_rows(graph.indptr, graph.weights)

    def walks(self, starts: NDArray[np.int32], *, length: int, seed: int) -> NDArray[np.int32]:
        """Walks from `starts`.

        Parameters
        ----------
        starts : (n,) node rows.
        length : nodes in a walk, at least 1.

        Returns
        -------
        (n, length) int32 node rows; a walk that reaches a node without neighbours ends, the rest of its row is -1.
        """
        out = np.empty((len(starts), length), np.int32)
        graph, stream = self.graph, np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

        def work(thread: int, piece: int) -> None:
            first = piece * PIECE
            last = min(first + PIECE, len(starts))
            _walk(graph.indptr, graph.indices, *self._alias, starts, first, last, out, self.p, self.q, stream)

        run_threads(work, -(-len(starts) // PIECE), self.threads, lambda: None)
        return out
