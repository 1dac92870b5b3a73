"""A layer for some nodes of a graph, from all their neighbours: a bounded number of nodes at a time, in threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.data import Graph
from embedders.graph.geometric import tensor
from embedders.image.prefetch import ahead, workers
from embedders.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch

STEP = 1024  # nodes that go through a layer together


@dataclass(frozen=True, eq=False)
class Means:
    """A graph whose nodes take the mean of their neighbours. graph: undirected; weights are shares of the mean."""

    graph: Graph
    device: str
    threads: int

    @cached_property
    def _matrix(self) -> Any:
        from scipy.sparse import csr_array

        graph, n = self.graph, len(self.graph)
        weights = np.ones(len(graph.indices), np.float32) if graph.weights is None else graph.weights
        return csr_array((weights, graph.indices, graph.indptr), shape=(n, n))

    def around(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nodes `rows` and their neighbours, ascending."""
        found = np.zeros(len(self.graph), bool)
        found[rows] = True
        found[self._matrix[rows].indices] = True
        return np.flatnonzero(found)

    def each(
        self, rows: NDArray[np.int64], function: Callable[[NDArray[np.int64]], torch.Tensor], width: int
    ) -> Matrix:
        """(len(rows), width) float32: what `function` gives of `STEP` of the rows at a time.

        Each piece is computed by one thread alone, so that the number of threads changes nothing.
        """
        import torch

        def work(first: int) -> Matrix:
            with torch.inference_mode():
                piece: Matrix = function(rows[first : first + STEP]).cpu().numpy()
            return piece

        out = np.empty((len(rows), width), np.float32)
        threads = workers(self.threads)
        pieces = ahead(
            work, range(0, len(rows), STEP), threads=threads, window=2 * threads, initializer=lambda: torch.set_num_threads(1)
        )  # fmt: skip
        with torch_threads(), closing(pieces):
            for number, piece in enumerate(pieces):
                out[number * STEP : number * STEP + len(piece)] = piece
        return out

    def layer(
        self, layer: Callable[..., torch.Tensor], rows: NDArray[np.int64], known: NDArray[np.int64], values: Matrix, width: int
    ) -> Matrix:  # fmt: skip
        """(len(rows), width) float32: what `layer` (a `SAGEConv` that sums) gives of the rows.

        known : nodes, `rows` and their neighbours among them. values : (len(known), any) of each.
        """
        place = np.full(len(self.graph), -1, np.int32)
        place[known] = np.arange(len(known), dtype=np.int32)
        every = tensor(values, self.device)

        def work(some: NDArray[np.int64]) -> torch.Tensor:
            found = self._matrix[some]
            block = shares(found.data, place[found.indices], found.indptr, len(known))
            return layer((every, tensor(values[place[some]], self.device)), tensor(block, self.device))

        return self.each(rows, work, width)


def shares(weights: NDArray[np.float32], columns: NDArray[np.int32], indptr: NDArray[Any], width: int) -> Any:
    """The SciPy matrix of these rows, each divided by its sum."""
    from scipy.sparse import csr_array

    counts = np.diff(indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    sums = np.bincount(rows, weights, len(counts))
    return csr_array(((weights / sums[rows]).astype(np.float32), columns, indptr), shape=(len(counts), width))
