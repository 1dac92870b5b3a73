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
FAR = 1 << 48  # between the numbers of walks of two patterns
Edges = tuple[NDArray[Any], NDArray[Any], NDArray[np.float32] | None]


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
        return self._drawn(self._graph, starts, length, seed, first)

    def _drawn(
        self, graph: tuple[Any, ...], starts: NDArray[np.int32], length: int, seed: int, first: int
    ) -> NDArray[np.int32]:
        """Walks on what the kernel takes a graph as."""
        out = np.empty((len(starts), length), np.int32)
        stream = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

        def work(thread: int, piece: int) -> None:
            begin = piece * PIECE
            self._kernel(*graph, starts, begin, min(begin + PIECE, len(starts)), first, out, stream)

        run_threads(work, -(-len(starts) // PIECE), self.threads, lambda: None)
        return out


class TypedWalker(Walker):
    """Draws walks each of whose steps takes an edge of the kind that is next in a pattern, evenly or by weight.

    Parameters
    ----------
    nodes : how many there are.
    kinds : for each kind of step, its edges: rows of the nodes that they leave and lead to, and weights or None.
    patterns : the kind that leads to each node of a walk, repeated: to node i > 0 kind pattern[i % len(pattern)]; walk i
        follows pattern i modulo their number.
    """

    def __init__(self, nodes: int, kinds: Sequence[Edges], patterns: Sequence[Sequence[int]], *, threads: int) -> None:
        self.threads = threads
        rows = np.concatenate([source * np.int64(len(kinds)) + kind for kind, (source, *_) in enumerate(kinds)])
        order = np.argsort(rows, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=nodes * len(kinds)))])
        indices = np.concatenate([target for _, target, _ in kinds])[order]
        weights = [own for *_, own in kinds if own is not None]
        alias = alias_rows(indptr, indices, np.concatenate(weights)[order]) if weights else None
        self._kernel = first_order
        self._patterns = [(indptr, indices, alias, np.array(pattern), len(kinds)) for pattern in patterns]

    def walks(self, starts: NDArray[np.int32], *, length: int, seed: int, first: int = 0) -> NDArray[np.int32]:
        out, turns = np.empty((len(starts), length), np.int32), len(self._patterns)
        for turn, graph in enumerate(self._patterns):
            begin = (turn - first) % turns
            number = (first + begin) // turns + turn * FAR
            out[begin::turns] = self._drawn(graph, starts[begin::turns].copy(), length, seed, number)
        return out
