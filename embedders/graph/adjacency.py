"""Which nodes are joined, and how strongly: what the spectral embedders see of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.data import Graph

if TYPE_CHECKING:
    from embedders.kernels.eigen import Operator
    from embedders.kernels.sparse import Csr


@dataclass(frozen=True, eq=False)
class Adjacency:
    """A symmetric matrix without loops. edges: its CSR. degree: (n,) float64, sums of the rows."""

    edges: Csr
    degree: NDArray[np.float64]


def adjacency(graph: Graph) -> Adjacency:
    """Edges in both directions; weights of opposite and of parallel edges are summed, loops left out."""
    from scipy.sparse import csr_array

    from embedders.kernels.sparse import Csr

    n = len(graph)
    weights = np.ones(len(graph.indices), np.float32) if graph.weights is None else graph.weights
    matrix = csr_array((weights, graph.indices, graph.indptr), shape=(n, n))
    if graph.edge_types is not None:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if graph.directed:
        matrix = (matrix + matrix.T).tocsr()
    if matrix.diagonal().any():
        matrix = matrix.copy()
        matrix.setdiag(0)
        matrix.eliminate_zeros()
    degree = np.asarray(matrix.sum(axis=1, dtype=np.float64))
    plain = bool((matrix.data == 1).all())
    indices = matrix.indices.astype(np.int32, copy=False)
    return Adjacency(Csr(matrix.indptr, indices) if plain else Csr(matrix.indptr, indices, matrix.data), degree)


def inverse_root(degree: NDArray[np.float64]) -> NDArray[np.float32]:
    """1 / sqrt(degree), 0 where nothing is joined."""
    return np.divide(1, np.sqrt(degree), out=np.zeros(len(degree)), where=degree > 0).astype(np.float32)


def fill(matrix: Matrix) -> None:
    """Give rows of zeros the mean of the other rows, scaled to length 1; all ones where there is no other row."""
    empty = ~matrix.any(axis=1)
    if empty.any():
        mean = matrix.sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(mean))
        spread = np.full(matrix.shape[1], matrix.shape[1] ** -0.5)
        matrix[empty] = mean / length if length > 1e-6 * len(matrix) else spread


def normalised(joined: Adjacency, tau: float = 0.0, *, trivial: bool = True) -> Operator:
    """D^-1/2 A D^-1/2 of a graph with faint edges between all nodes, `tau` mean degrees in all at each node.

    trivial : False moves the eigenvector whose eigenvalue is known to be 1, D^1/2 1, to the other end, -1.
    """
    from embedders.kernels.eigen import Operator
    from embedders.kernels.sparse import Csr, edge_products

    n, edges = len(joined.degree), joined.edges
    faint = tau * joined.degree.mean()
    degree = joined.degree + faint
    root = inverse_root(degree)
    values = edge_products(edges.indptr, edges.indices, edges.values, root)
    low, weights = [], []
    if faint > 0:
        low.append(root)
        weights.append(faint / n)
    if not trivial:
        low.append(np.sqrt(degree / degree.sum()))
        weights.append(-2.0)
    columns = np.column_stack(low).astype(np.float32) if low else np.empty((n, 0), np.float32)
    return Operator(Csr(edges.indptr, edges.indices, values), columns, np.array(weights, np.float32))
