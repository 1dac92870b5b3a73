"""Walks against the exact probabilities of node2vec and of typed steps, whatever p, q, graph, chunk and threads."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from embedders.data import Graph
from embedders.kernels import second_order
from embedders.kernels.walks import PIECE, TypedWalker, Walker

EDGES = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (5, 6)]  # a clique of four with a tail
TREE = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 6), (2, 7), (7, 8)]  # no triangle


def graph(edges, *, weights=None, directed=False, nodes=None):
    source, target = np.array(edges).T
    n = nodes or int(max(source.max(), target.max())) + 1
    return Graph.from_edges([str(i) for i in range(n)], source, target, weights, directed=directed)


def exact(g, p, q):
    """(n, n, n): from, at, to; section 3.2.2 of the paper."""
    full = np.zeros((len(g), len(g)))
    rows = np.repeat(np.arange(len(g)), np.diff(g.indptr))
    np.add.at(full, (rows, g.indices), 1 if g.weights is None else g.weights)
    share = np.zeros((len(g),) * 3)
    for previous, node in zip(*np.nonzero(full), strict=True):
        alpha = np.where(full[previous] > 0, 1, 1 / q)
        alpha[previous] = 1 / p
        share[previous, node] = alpha * full[node]
    return share / np.maximum(share.sum(axis=2, keepdims=True), 1e-300)


def check(g, p, q, *, seed=0, each=3000):
    starts = np.tile(np.arange(len(g), dtype=np.int32), each)
    walks = Walker(g, p=p, q=q, threads=1).walks(starts, length=12, seed=seed)
    counts, share, judged = np.zeros((len(g),) * 3), exact(g, p, q), 0
    for i in range(2, 12):
        alive = walks[:, i] >= 0
        np.add.at(counts, tuple(walks[alive, i - 2 : i + 1].T), 1)
    for place in zip(*np.nonzero(counts.sum(axis=2) >= 500), strict=True):
        seen, chance = counts[place], share[place]
        assert not seen[chance == 0].any()
        often = chance * seen.sum() >= 5
        assert abs(seen[~often].sum() - chance[~often].sum() * seen.sum()) < 25  # too few for chi-square
        if often.sum() > 1:
            assert chisquare(seen[often], chance[often] / chance[often].sum() * seen[often].sum()).pvalue > 1e-6, place
            judged += 1
    return judged


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])
@pytest.mark.parametrize("edges", [EDGES, TREE], ids=["triangles", "tree"])
@pytest.mark.parametrize(
    ("p", "q"), [(p, q) for p in (1e-4, 0.3, 1, 1e4) for q in (1e-4, 0.3, 5, 1e4)] + [(1e-2, 1), (20, 1)]
)
def test_steps_have_the_exact_probabilities(p, q, edges, directed, weighted):
    if directed:
        edges = [*edges, *((b, a) for a, b in edges[::2]), (6, 3), (5, 3)]
    weights = np.resize(np.array([1, 2, 3, 0.5, 4, 1, 2, 0.25, 1], np.float32), len(edges))
    check(graph(edges, weights=weights if weighted else None, directed=directed), p, q, each=1000)


def test_such_a_comparison_is_made_in_many_places():
    assert check(graph(EDGES), 0.5, 2) >= 10


@pytest.mark.parametrize(("tries", "share"), [(0, 10**9), (10**9, 1)], ids=["rows looked through", "only rejections"])
@pytest.mark.parametrize(("p", "q"), [(0.3, 2), (4, 0.5)])
def test_both_ways_to_draw_are_exact(p, q, tries, share, monkeypatch):
    """A kernel of its own, compiled with other bounds."""
    from numba import njit

    from embedders.kernels import walks

    monkeypatch.setattr(second_order, "TRIES", tries)
    monkeypatch.setattr(second_order, "SHARE", share)
    other = njit(nogil=True, boundscheck=False, error_model="numpy")(second_order.second_order.py_func)
    monkeypatch.setattr(walks, "second_order", other)
    assert check(graph(EDGES), p, q) >= 10


def test_edges_of_several_types_count_each():
    """Two entries of a row may name the same neighbour."""
    g = Graph(
        ["a", "b", "c"], np.array([0, 3, 6, 8]), np.array([1, 1, 2, 0, 0, 2, 0, 1], np.int32),
        edge_types=np.array([0, 1, 0, 0, 1, 0, 0, 0], np.int16), edge_type_names=("likes", "knows"),
    )  # fmt: skip
    for p, q in ((1, 1), (0.05, 1), (3, 0.5)):
        check(g, p, q)


@pytest.mark.parametrize(("p", "q"), [(1e4, 1e4), (1, 1e4), (1e-4, 1), (1e4, 1e-4), (1e-4, 1e-4)])
def test_a_step_costs_no_more_than_its_row(p, q):
    """A star has no triangle: by rejections alone the 2,000 steps at its hub would take an hour, and this not end."""
    star = graph([(0, i) for i in range(1, 10_001)])
    walker = Walker(star, p=p, q=q, threads=1)
    starts = np.ones(200, np.int32)
    walks = walker.walks(starts, length=20, seed=0)
    assert (walks[:, 1::2] == 0).all() and (walks[:, ::2] > 0).all()


@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.25, 4), (4, 0.25)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_walk_depends_on_its_number_not_on_its_chunk(p, q, weighted):
    weights = np.arange(1, 10, dtype=np.float32) if weighted else None
    walker = Walker(graph(EDGES, weights=weights), p=p, q=q, threads=2)
    starts = np.resize(np.arange(7, dtype=np.int32), PIECE + 100)
    whole = walker.walks(starts, length=15, seed=3)
    for size in (1, 33, 1000):
        first = range(0, 2000, size) if size > 1 else range(40, 60)
        for at in first:
            part = walker.walks(starts[at : at + size], length=15, seed=3, first=at)
            assert np.array_equal(part, whole[at : at + size])


def typed(weights=None, directed=False):
    """Two authors (0, 1), three papers (2, 3, 4), two venues (5, 6); paper 4 has no venue."""
    edges = [(0, 2), (0, 3), (1, 3), (1, 4), (2, 5), (3, 5), (3, 6)]
    return graph(edges, weights=weights, directed=directed), np.array([0, 0, 1, 1, 1, 2, 2])


def by_type(g, types, *patterns):
    """Steps are told apart by the type that they lead to."""
    rows = np.repeat(np.arange(len(g)), np.diff(g.indptr))
    kinds = [types[g.indices] == kind for kind in range(max(types) + 1)]
    edges = [(rows[at], g.indices[at], None if g.weights is None else g.weights[at]) for at in kinds]
    return TypedWalker(len(g), edges, patterns, threads=1)


@pytest.mark.parametrize("weights", [None, np.array([1, 3, 2, 1, 1, 5, 0.5], np.float32)], ids=["even", "weighted"])
def test_typed_steps_have_the_exact_probabilities(weights):
    g, types = typed(weights)
    walks = by_type(g, types, [0, 1, 2, 1]).walks(np.tile(np.array([0, 1], np.int32), 4000), length=9, seed=1)
    full = np.zeros((7, 7))
    np.add.at(full, (np.repeat(np.arange(7), np.diff(g.indptr)), g.indices), 1 if g.weights is None else g.weights)
    for i in range(8):
        wanted = [0, 1, 2, 1][(i + 1) % 4]
        for node in range(7):
            here = walks[walks[:, i] == node, i + 1]
            share = np.where(types == wanted, full[node], 0)
            if not share.any():
                assert (here == -1).all()
                continue
            if len(here):
                seen = np.bincount(here, minlength=7)
                assert not seen[share == 0].any()
                possible = share > 0
                if possible.sum() > 1:
                    assert chisquare(seen[possible], share[possible] / share.sum() * len(here)).pvalue > 1e-5


def test_typed_walks_end_where_the_wanted_type_is_not_near():
    g, types = typed()
    walks = by_type(g, types, [0, 1, 2, 1]).walks(np.ones(500, np.int32), length=5, seed=0)
    ended = walks[:, 1] == 4
    assert ended.any() and (walks[ended, 2:] == -1).all() and (walks[~ended, 2] >= 5).all()


def test_patterns_take_turns_whatever_is_drawn_together():
    """Of two patterns odd walks go to venues, even ones do not; a chunk may begin anywhere."""
    g, types = typed()
    walker = by_type(g, types, [0, 1], [0, 1, 2, 1])
    starts = np.tile(np.array([0, 1, 0], np.int32), 40)
    walks = walker.walks(starts, length=9, seed=2)
    venues = (types[walks] == 2).any(axis=1)
    assert not venues[::2].any() and venues[1::2].any()
    for cut in (1, 2, 77):
        parts = walker.walks(starts[:cut], length=9, seed=2), walker.walks(starts[cut:], length=9, seed=2, first=cut)
        assert np.array_equal(np.concatenate(parts), walks)


def test_patterns_have_streams_of_their_own():
    g, types = typed()
    walks = by_type(g, types, [0, 1], [0, 1]).walks(np.zeros(400, np.int32), length=9, seed=2)
    assert 0 < (walks[::2] == walks[1::2])[:, 1].mean() < 0.7


def test_a_pattern_of_one_type_is_a_walk_of_first_order():
    g = graph(EDGES)
    starts = np.arange(7, dtype=np.int32)
    plain = Walker(g, p=1, q=1, threads=1).walks(starts, length=30, seed=4)
    assert np.array_equal(by_type(g, np.zeros(7, int), [0]).walks(starts, length=30, seed=4), plain)


def test_tiny_and_huge_parameters_stay_finite():
    g = graph(EDGES)
    for p, q in ((1e-300, 1e-300), (1e300, 1e300), (5e-324, 1)):
        walks = Walker(replace(g), p=p, q=q, threads=1).walks(np.arange(7, dtype=np.int32), length=20, seed=0)
        assert (walks >= 0).all()


def test_a_row_of_small_weights_beside_one_of_huge_ones():
    """Sums of rows are of these rows alone."""
    g = graph([(0, 1), (2, 3), (3, 4), (4, 5)], weights=[1e30, 1, 1, 1])
    walks = Walker(g, p=0.5, q=2, threads=1).walks(np.full(20_000, 3, np.int32), length=3, seed=1)
    back = walks[walks[:, 1] == 4, 2] == 3
    assert abs(back.mean() - 0.8) < 0.02  # 2 of 2 + 1/2
