"""Random walks: evenly or by weight, biased by p and q, or along a pattern of node types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.kernels.alias import alias_rows
from embedders.kernels.first_order import first_order
from embedders.kernels.second_order import second_order
from embedders.kernels.threads import run_threads

PIECE = 4096  # walks between two looks at a request to stop


class Walker:
    """Draws walks of node2vec on one graph; what it looks up, if the graph has weights, is built once."""

    _kernel: Any
    _graph: tuple[Any, ...]

    def __init__(self, graph: Graph, *, p: float, q: float, threads: int) -> None:
        self.threads = threads
        weights, alias, totals = graph.weights, None, None
        if weights is not None:
            alias = alias_rows(graph.indptr, graph.indices, weights)
            totals, some = np.zeros(len(graph)), np.diff(graph.indptr) > 0
            totals[some] = np.add.reduceat(weights, graph.indptr[:-1][some], dtype=np.float64) if some.any() else 0
        self._kernel, self._graph = first_order, (graph.indptr, graph.indices, alias, np.zeros(1, np.int64), 1)
        if p != 1 or q != 1:
            single = not graph.directed and weights is None and graph.edge_types is None
            self._kernel = second_order
            self._graph = (graph.indptr, graph.indices, alias, weights, totals, single, float(p), float(q))

    def walks(self, starts: NDArray[np.int32], *, length: int, seed: int, first: int = 0) -> NDArray[np.int32]:
        """Walks from `starts`.

        Parameters
        ----------
        starts : (n,) node rows.
        length : nodes in a walk, at least 1.
        first : the number of the first walk; a walk depends on the graph, its start, its number and the seed.

        Returns
        -------
        (n, length) int32 node rows; a walk that reaches a node without neighbours ends, the rest of its row is -1.
        """
        out = np.empty((len(starts), length), np.int32)
        stream = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

        def work(thread: int, piece: int) -> None:
            begin = piece * PIECE
            self._kernel(*self._graph, starts, begin, min(begin + PIECE, len(starts)), first, out, stream)

        run_threads(work, -(-len(starts) // PIECE), self.threads, lambda: None)
        return out


class TypedWalker(Walker):
    """Draws walks whose nodes follow a pattern of types, evenly or by weight among the neighbours of the type wanted.

    Parameters
    ----------
    graph : its rows are read by type.
    types : (n,) the type of each node, below `kinds`.
    pattern : the types of a walk's nodes, repeated: node i is of type pattern[i % len(pattern)].
    """

    def __init__(self, graph: Graph, types: NDArray[Any], pattern: Sequence[int], *, threads: int) -> None:
        self.threads = threads
        kinds = max(pattern) + 1
        rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr)) * kinds + types[graph.indices]
        order = np.argsort(rows, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(graph) * kinds))])
        indices = graph.indices[order]
        alias = None if graph.weights is None else alias_rows(indptr, indices, graph.weights[order])
        self._kernel, self._graph = first_order, (indptr, indices, alias, np.asarray(pattern, np.int64), kinds)
