"""What graph networks know of a node beforehand: its features, or what the graph alone says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.degrees import degrees
from embedders.graph.node2vec import Node2Vec, NodeVectors

WALK_DIM = 64
STRUCTURE = 3 + WALK_DIM


def given_features(graph: Graph, *, normalise: bool) -> Any:
    """(n, d) float32, an array or a SciPy matrix in compressed rows: the features of the nodes.

    normalise : the absolute values of a row sum to 1 (rows of zeros stay), as Kipf and Welling (2017) do.

    Raises
    ------
    InputError : there are not as many rows as nodes, a number is not finite, or all are 0.
    """
    from scipy.sparse import csr_array, issparse

    features, sparse = graph.features, issparse(graph.features)
    if features.shape[0] != len(graph):
        raise InputError(f"Got features of {features.shape[0]:,} nodes; expected a row for each of {len(graph):,}.")
    if not sparse:
        dense = np.asarray(features, np.float32)
        _check(graph, dense)
        sums = np.abs(dense).sum(axis=1, keepdims=True)
        return dense / np.where(sums > 0, sums, 1) if normalise else dense
    rows = csr_array(features, dtype=np.float32)
    _check(graph, rows.data, rows.indptr)
    if not normalise:
        return rows
    sums = np.asarray(abs(rows).sum(axis=1)).ravel()
    values = rows.data / np.repeat(np.where(sums > 0, sums, 1), np.diff(rows.indptr))
    return csr_array((values, rows.indices, rows.indptr), shape=rows.shape)


def _check(graph: Graph, values: NDArray[np.float32], indptr: NDArray[Any] | None = None) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row = bad[0, 0] if indptr is None else np.searchsorted(indptr, bad[0, 0], side="right") - 1
        raise InputError(f"Got a feature of node {graph.ids[row]!r} that is NaN or infinite. Mend the node table.")
    if len(graph) and not values.any():
        raise InputError(
            "Got features that are all 0, which tell no node from another. Mend the node table, or leave features out."
        )


def structure(graph: Graph, *, seed: int, threads: int, start: NodeVectors | None = None) -> Matrix:
    """(n, 67) float32, for nodes without features: `degrees`, and vectors of short walks, each of the same length.

    start : holds the vectors of walks that those of the same nodes begin at.
    """
    short = {"dim": WALK_DIM, "walks": 5, "length": 20, "window": 5, "seed": seed, "threads": threads}
    walks = Node2Vec.model_validate(short).fit(graph, start=start).matrix
    walks = walks * (WALK_DIM**0.5 / np.maximum(np.linalg.norm(walks, axis=1, keepdims=True), 1e-12))
    return np.concatenate([degrees(graph), walks], axis=1)


def features_or_structure(
    graph: Graph, *, normalise: bool, seed: int, threads: int, start: NodeVectors | None = None
) -> Any:
    """The features of the nodes, or `structure` where they have none."""
    if graph.features is None:
        return structure(graph, seed=seed, threads=threads, start=start)
    return given_features(graph, normalise=normalise)
