"""Small graphs, and what an embedder of nodes must do on odd ones."""

import numpy as np

from embedders.data import Graph


def graph(edges, *, nodes=None, weights=None, directed=False):
    source, target = np.array(edges, np.int64).reshape(-1, 2).T
    n = nodes or int(max(source.max(), target.max())) + 1
    return Graph.from_edges([f"n{i}" for i in range(n)], source, target, weights, directed=directed)


def cliques(size=8, count=2):
    return [(size * c + i, size * c + j) for c in range(count) for i in range(size) for j in range(i)]


def random_graph(n=60, m=240, seed=3):
    source, target = np.random.default_rng(seed).integers(0, n, (2, m))
    ring = np.arange(n)
    return graph(np.c_[np.r_[source, ring], np.r_[target, (ring + 1) % n]], nodes=n)


def dense(data):
    """(n, n) weights in both directions, loops left out."""
    n = len(data)
    out = np.zeros((n, n))
    rows = np.repeat(np.arange(n), np.diff(data.indptr))
    np.add.at(out, (rows, data.indices), 1 if data.weights is None else data.weights)
    if data.directed:
        out = out + out.T
    np.fill_diagonal(out, 0)
    return out


def likeness(matrix):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit @ unit.T


def agreement(matrix, groups):
    """Share of nodes whose nearest other node is of the same group."""
    near = likeness(np.asarray(matrix, np.float64))
    np.fill_diagonal(near, -2)
    return np.mean(np.asarray(groups)[near.argmax(axis=1)] == np.asarray(groups))


def check_odd_graphs(recipe):
    """Graphs with loops, directions, weights, several components, and nodes without edges."""
    groups = np.repeat(np.arange(3), 6)
    plain = graph([*cliques(6, 3), (0, 6), (6, 12)])
    base = recipe.fit(plain).matrix
    assert agreement(base, groups) >= 16 / 18
    looped = recipe.fit(graph([*cliques(6, 3), (0, 6), (6, 12), (4, 4)])).matrix
    np.testing.assert_array_equal(looped, base)
    arrows = recipe.fit(graph([*cliques(6, 3), (0, 6), (6, 12)], directed=True)).matrix
    np.testing.assert_array_equal(arrows, base)
    ones = recipe.fit(graph([*cliques(6, 3), (0, 6), (6, 12)], weights=np.ones(47))).matrix
    np.testing.assert_array_equal(ones, base)
    apart = graph(cliques(6, 3), nodes=20)
    (batch,) = recipe.fit(apart).encode(apart)
    assert list(batch.origin) == ["embedded"] * 18 + ["isolated"] * 2
    assert agreement(batch.vectors.matrix[:18], groups) == 1
    np.testing.assert_allclose(np.linalg.norm(batch.vectors.matrix, axis=1), 1, rtol=1e-5)
    bare = graph([(0, 0)], nodes=4)
    (batch,) = recipe.fit(bare).encode(bare)
    assert set(batch.origin) == {"isolated"}
    np.testing.assert_allclose(np.linalg.norm(batch.vectors.matrix, axis=1), 1, rtol=1e-5)
    (batch,) = recipe.model_copy(update={"dim": 1}).fit(graph([(0, 0)])).encode(graph([(0, 0)]))
    assert len(batch.vectors) == 1 and np.isfinite(batch.vectors.matrix).all()


def check_weights(recipe):
    """A complete graph whose heavy edges form two halves: only the weights can tell them apart."""
    pairs = [(i, j) for i in range(16) for j in range(i)]
    halves = np.arange(16) // 8
    weights = np.array([50.0 if halves[i] == halves[j] else 0.5 for i, j in pairs])
    assert agreement(recipe.fit(graph(pairs, weights=weights)).matrix, halves) == 1
