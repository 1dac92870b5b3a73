"""Edges held out: what goes, what stays, what stands against it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.split import hold_out

EDGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


def graph(edges, n=10, weights=None, directed=False):
    source, target = np.array(edges).reshape(-1, 2).T
    return Graph.from_edges([f"n{i}" for i in range(n)], source, target, weights, directed=directed)


def entries(graph):
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr)).tolist()
    return list(zip(rows, graph.indices.tolist(), strict=True))


def pairs(rows):
    return [tuple(pair) for pair in rows.tolist()]


@given(EDGES, st.booleans(), st.floats(0.05, 0.95), st.integers(0, 3))
def test_the_parts_make_the_whole(edges, directed, share, seed):
    whole = graph(edges, directed=directed)
    every = set(entries(whole))
    joined = {(a, b) for a, b in every if (a != b if directed else a < b)}
    count = min(max(round(share * len(joined)), 1), len(joined) - 1)
    assume(len(joined) > 1 and len(joined) + count <= (90 if directed else 45))

    training, held = hold_out(whole, share, seed)

    out, apart = pairs(held.edges), pairs(held.non_edges)
    both = set(out) if directed else set(out) | {(b, a) for a, b in out}
    assert set(out) <= joined and len(set(out)) == len(out) == count  # so no self loop is among them
    assert sorted(entries(training)) == sorted(every - both)
    assert len(set(apart)) == len(apart) == count
    assert not set(apart) & every and all(a != b if directed else a < b for a, b in apart)
    assert list(training.ids) == list(held.ids) == list(whole.ids)
    assert (held.edges.dtype, held.non_edges.dtype) == (np.int32, np.int32)
    assert (training.indptr.dtype, training.indices.dtype) == (np.int64, np.int32)


def test_the_seed_decides():
    whole = graph(np.random.default_rng(0).integers(0, 300, (900, 2)), 300)
    (_, first), (_, again), (_, other) = (hold_out(whole, 0.1, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.edges, again.edges) and np.array_equal(first.non_edges, again.non_edges)
    assert not np.array_equal(first.edges, other.edges) and not np.array_equal(first.non_edges, other.non_edges)


@pytest.mark.parametrize("n", [12, 40])  # all pairs listed, and drawn until there are enough
@pytest.mark.parametrize("directed", [False, True])
def test_pairs_are_drawn_evenly(n, directed):
    ring = graph([(i, (i + 1) % n) for i in range(n)], n, directed=directed)
    counts = np.zeros((2, n, n))
    for seed in range(1500):
        for count, drawn in zip(counts, (lambda h: (h.edges, h.non_edges))(hold_out(ring, 0.34, seed)[1]), strict=True):
            count[tuple(drawn.T)] += 1
    for count, possible in zip(counts, (n, n * (n - 1) // (1 if directed else 2) - n), strict=True):
        seen = count[count > 0]
        assert len(seen) == possible
        mean = seen.mean()
        assert np.square(seen - mean).sum() / mean < possible + 4 * np.sqrt(2 * possible)  # chi squared


def test_weights_features_and_types_stay_with_their_edges_and_nodes():
    whole = graph([(0, 1), (1, 2), (2, 3), (3, 4)], 6, weights=[1, 2, 3, 4])
    types = np.arange(6, dtype=np.int16) % 2
    whole = replace(whole, features=np.eye(6, dtype=np.float32), types=types, type_names=("a", "b"))
    for seed in range(6):
        training, held = hold_out(whole, 0.5, seed)
        assert training.features is whole.features and training.types is types and training.type_names == ("a", "b")
        assert training.weights.tolist() == [min(a, b) + 1 for a, b in entries(training)]
        assert len(training.weights) == 4 and len(held.edges) == 2


def test_all_parallel_edges_of_a_pair_go_together():
    indices = np.array([1, 1, 2, 0, 0, 0], np.int32)  # 0-1 twice, by types 0 and 1; 0-2 by type 1
    kinds = np.array([0, 1, 1, 0, 1, 1], np.int16)
    whole = Graph(
        list("abcdef"), np.array([0, 3, 5, 6, 6, 6, 6]), indices, edge_types=kinds, edge_type_names=("x", "y")
    )
    for seed in range(8):
        training, held = hold_out(whole, 0.5, seed)
        left = list(zip(entries(training), training.edge_types.tolist(), strict=True))
        if pairs(held.edges) == [(0, 1)]:
            assert left == [((0, 2), 1), ((2, 0), 1)]
        else:
            assert left == [((0, 1), 0), ((0, 1), 1), ((1, 0), 0), ((1, 0), 1)]


def test_one_way_of_a_directed_pair_may_stay():
    both = graph([(0, 1), (1, 0)], 4, directed=True)
    training, held = hold_out(both, 0.5, 0)
    assert sorted(entries(training) + pairs(held.edges)) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_outside_is_refused(share):
    with pytest.raises(InputError, match="share"):
        hold_out(graph([(0, 1), (1, 2)]), share, 0)


@pytest.mark.parametrize("edges", [[], [(3, 3)], [(0, 1)], [(0, 1), (1, 0), (2, 2)]])
def test_too_few_edges_are_refused(edges):
    with pytest.raises(InputError, match="joined pairs"):
        hold_out(graph(edges), 0.1, 0)


def test_no_nodes_are_refused():
    with pytest.raises(InputError, match="0 joined pairs"):
        hold_out(Graph([], np.zeros(1, np.int64), np.empty(0, np.int32)), 0.1, 0)


@pytest.mark.parametrize("directed", [False, True])
def test_a_complete_graph_is_refused(directed):
    complete = graph([(a, b) for a in range(10) for b in range(10) if a != b], directed=directed)
    with pytest.raises(InputError, match=r"0 pairs of nodes that are not joined.*complete"):
        hold_out(complete, 0.1, 0)


def test_the_last_free_pairs_are_found():
    every = [(a, b) for a in range(10) for b in range(a)]
    training, held = hold_out(graph(every[3:]), 0.07, 0)  # 42 joined, 3 held out, 3 free
    assert sorted(pairs(held.non_edges)) == sorted((b, a) for a, b in every[:3])
    assert len(training.indices) == 2 * 39


def of_types(n, kinds, edges, directed=False):
    """Nodes whose types take turns."""
    names = tuple("abcdef"[:kinds])
    types = (np.arange(n) % kinds).astype(np.int16)
    return replace(graph(edges, n, directed=directed), types=types, type_names=names)


def kinds_of(graph, rows):
    names = [tuple(graph.type_names[t] for t in graph.types[pair]) for pair in rows]
    return sorted(names if graph.directed else (tuple(sorted(pair)) for pair in names))


@given(EDGES, st.booleans(), st.integers(1, 4), st.integers(0, 3))
def test_pairs_that_are_not_joined_are_of_the_same_types(edges, directed, kinds, seed):
    whole = of_types(30, kinds, edges, directed)  # 30: of each two types many are not joined
    assume(len({pair for pair in entries(whole) if len(set(pair)) > 1}) > 3)
    training, held = hold_out(whole, 0.4, seed)
    every, apart = set(entries(whole)), pairs(held.non_edges)
    assert kinds_of(whole, held.edges) == kinds_of(whole, held.non_edges)
    assert len(set(apart)) == len(apart) == len(held.edges) and not set(apart) & every
    assert all(a != b if directed else a < b for a, b in apart)
    untyped = hold_out(replace(whole, types=None, type_names=()), 0.4, seed)
    assert np.array_equal(held.edges, untyped[1].edges) and np.array_equal(training.indices, untyped[0].indices)


@pytest.mark.parametrize("n", [12, 60])
def test_pairs_of_two_types_are_drawn_evenly(n):
    """A ring in which types take turns: only a and b are joined."""
    ring = of_types(n, 2, [(i, (i + 1) % n) for i in range(n)])
    count, runs = np.zeros((n, n)), 1500
    for seed in range(runs):
        count[tuple(hold_out(ring, 0.34, seed)[1].non_edges.T)] += 1
    seen, possible = count[count > 0], n * n // 4 - n
    assert len(seen) == possible
    mean = seen.mean()
    assert np.square(seen - mean).sum() / mean < possible + 4 * np.sqrt(2 * possible)  # chi squared


def test_two_types_that_are_all_joined():
    """Pairs of a and a are not joined, but are no question."""
    full = of_types(8, 2, [(a, b) for a in range(0, 8, 2) for b in range(1, 8, 2)])
    with pytest.raises(
        InputError, match=r"Got a graph with 0 pairs .* at least 4, one for each edge held out, of the same"
    ):
        hold_out(full, 0.25, 0)
    assert len(hold_out(replace(full, types=None, type_names=()), 0.25, 0)[1].edges) == 4
