"""The trivial view of a node: how many neighbours it has. A baseline, not an embedder."""

from __future__ import annotations

import numpy as np

from embedders.base import Matrix
from embedders.data import Graph


def degrees(graph: Graph) -> Matrix:
    """(n, 3) float32: log(1 + degree), the mean of it over the neighbours, and 1 / degree (0 without neighbours).

    >>> degrees(Graph.from_edges(["a", "b"], np.array([0]), np.array([1])))[:, 2].tolist()
    [1.0, 1.0]
    """
    degree = np.diff(graph.indptr).astype(np.float64)
    log = np.log1p(degree)
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    around = np.bincount(rows, weights=log[graph.indices], minlength=len(graph)) / np.maximum(degree, 1)
    return np.stack([log, around, np.divide(1.0, degree, out=np.zeros_like(degree), where=degree > 0)], axis=1).astype(
        np.float32
    )
