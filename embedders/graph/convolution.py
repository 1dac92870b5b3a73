"""What a graph convolution reads: features of nodes and the normalised adjacency, whole or of a sampled neighbourhood.

Source: T. Kipf and M. Welling, "Semi-supervised classification with graph convolutional networks", ICLR 2017, equation 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from embedders.data import Graph
from embedders.graph.geometric import tensor

if TYPE_CHECKING:
    import torch

    from embedders.kernels.neighbours import Sampler

LARGE = 50_000  # nodes, above which `batch: auto` takes mini-batches
USUAL_BATCH = 4096
FANS = (25, 10)  # neighbours of a node in a mini-batch, and of each of those

Size = Annotated[
    Literal["auto", "full"] | PositiveInt,
    Field(
        "auto",
        description="what a step sees: full, the whole graph; a number: a mini-batch of so many; auto: full up to 50,000 nodes, else 4,096",
    ),
]


def batch_size(batch: Literal["auto", "full"] | int, nodes: int) -> int | None:
    """The size of a mini-batch; None for the whole graph."""
    if batch == "auto":
        return None if nodes <= LARGE else USUAL_BATCH
    return None if batch == "full" else batch


def undirected(graph: Graph) -> Graph:
    """The graph with every edge in both rows and none twice, without loops and types. Weights of both ways are summed."""
    rows = np.repeat(np.arange(len(graph), dtype=np.int32), np.diff(graph.indptr))
    keep = graph.indices != rows
    if graph.edge_types is None and not graph.directed and keep.all():
        return graph
    if not graph.directed:
        keep &= rows < graph.indices
    weights = None if graph.weights is None else graph.weights[keep]
    plain = Graph.from_edges(graph.ids, rows[keep], graph.indices[keep], weights)
    return replace(plain, features=graph.features)


@dataclass(frozen=True, eq=False)
class Part:
    """What a network of as many layers as `blocks` reads at once.

    x : (nodes, d), dense or in compressed rows. blocks : the adjacency of each layer, the first layer first, in
        compressed rows; the columns of one are the rows of the one before.
    """

    x: torch.Tensor
    blocks: Sequence[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A graph as `GCNConv` reads it.

    graph : undirected, without loops. features : (n, d) float32, an array or a SciPy matrix in compressed rows.
    layers : how many convolutions follow each other.
    """

    graph: Graph
    features: Any
    layers: int
    device: str

    @cached_property
    def _values(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(nnz,) and (n,): D^-1/2 (A + I) D^-1/2 at the edges and on the diagonal."""
        graph, counts = self.graph, np.diff(self.graph.indptr)
        rows = np.repeat(np.arange(len(graph)), counts)
        weights = np.ones(len(rows), np.float32) if graph.weights is None else graph.weights
        root = (1 + np.bincount(rows, weights, len(graph))) ** -0.5
        return (root[rows] * weights * root[graph.indices]).astype(np.float32), (root**2).astype(np.float32)

    @cached_property
    def sampler(self) -> Sampler:
        """Of the graph's neighbourhoods."""
        from embedders.kernels.neighbours import Sampler

        return Sampler(self.graph)

    @cached_property
    def whole(self) -> Part:
        """All nodes."""
        values, diagonal = self._values
        block = tensor(
            _with_diagonal(self.graph.indptr, self.graph.indices, values, diagonal, len(self.graph)), self.device
        )
        return Part(tensor(self.features, self.device), [block] * self.layers)

    def part(self, nodes: NDArray[np.int32], *, seed: int | Sequence[int]) -> Part:
        """Enough of the neighbourhood of `nodes` (each once) for their rows of the last layer.

        Of many neighbours some are drawn; their values grow so that the sum over them is what it is on the whole.
        """
        values, diagonal = self._values
        drawn = self.sampler.sample(nodes, FANS[: self.layers], seed=seed)
        expanded, taken = drawn.nodes[: drawn.sizes[-2]], np.diff(drawn.indptr)
        degree = np.diff(self.graph.indptr)[expanded]
        scaled = values[drawn.edges] * np.repeat(degree / np.maximum(taken, 1), taken).astype(np.float32)
        blocks = [
            _with_diagonal(indptr, columns, scaled[: len(columns)], diagonal[drawn.nodes[: len(indptr) - 1]], width)
            for indptr, columns, width in drawn.layers()
        ]
        return Part(tensor(self.features[drawn.nodes], self.device), [tensor(block, self.device) for block in blocks])


def _with_diagonal(
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    diagonal: NDArray[np.float32],
    width: int,
) -> Any:
    """The SciPy matrix of these rows, each with its entry of the diagonal ahead of the others."""
    from scipy.sparse import csr_array

    rows = len(indptr) - 1
    moved = indptr + np.arange(rows + 1)
    others = np.ones(moved[-1], bool)
    others[moved[:-1]] = False
    indices, data = np.empty(moved[-1], np.int32), np.empty(moved[-1], np.float32)
    indices[moved[:-1]], data[moved[:-1]] = np.arange(rows), diagonal
    indices[others], data[others] = columns, values
    return csr_array((data, indices, moved), shape=(rows, width))
