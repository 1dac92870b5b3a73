"""Small graphs with features, and Cora, for the tests of graph networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embedders.data import Graph


def features(n: int, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, width), np.float32)


def random_graph(n: int = 40, edges: int = 90, seed: int = 0, *, weights: bool = False, width: int = 5) -> Graph:
    """Undirected, without loops; the last node has no neighbour."""
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, n - 1, (2, edges))
    source, target = source[source != target], target[source != target]
    weight = rng.random(len(source)) + 0.5 if weights else None
    graph = Graph.from_edges([f"n{i}" for i in range(n)], source, target, weight)
    return replace(graph, features=features(n, width, seed))


def cora(shared_data) -> tuple[Graph, np.ndarray, np.ndarray, np.ndarray]:
    """The graph with its sparse features; labels; rows to train on and to test on."""
    from scipy.sparse import csr_array

    z = np.load(shared_data("graph_cora") / "cora.npz")
    words = csr_array((z["x_data"].astype(np.float32), z["x_indices"], z["x_indptr"]), shape=tuple(z["x_shape"]))
    ids = [str(i) for i in range(len(z["labels"]))]
    graph = replace(Graph.from_edges(ids, *z["edges"].T), features=words)
    return graph, z["labels"], z["train_index"], z["test_index"]
