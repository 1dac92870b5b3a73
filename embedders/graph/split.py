"""Edges held out of a graph before training, so that link prediction is judged on pairs no embedder has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedders.data import Graph, HeldOut
from embedders.errors import InputError

Pairs = NDArray[np.int64]  # codes: first * nodes + second


def hold_out(graph: Graph, share: float, seed: int) -> tuple[Graph, HeldOut]:
    """Split a graph into one to train on and pairs to judge on. The same seed draws the same pairs.

    graph : undirected: an edge is one pair, its two rows go together; directed: u -> v is a pair of its own and stays
        apart from v -> u. All parallel edges of a held-out pair go. Self loops are never held out.
    share : of the joined pairs, above 0 and below 1; at least one is held out and at least one is left.
    seed : of the draws.

    Returns the training graph, with all nodes, features and types (nodes may have lost their last neighbour), and the
    pairs held out beside as many others, drawn uniformly of the pairs that are not joined in the whole graph; where nodes
    have types, as many of each two types, as pairs of types that are never joined are no question.
    Raises InputError where fewer than two pairs are joined, or too few are not.
    """
    if not 0 < share < 1:
        raise InputError(
            f"Got share {share}; expected a number above 0 and below 1. 0.1 holds out a tenth of the edges."
        )
    n = len(graph)
    entries, counted = _codes(graph)
    joined = entries[counted]
    joined = joined[np.append(True, joined[1:] != joined[:-1])[: len(joined)]]  # parallel edges are one pair
    if len(joined) < 2:
        raise InputError(
            f"Got a graph with {len(joined)} joined pairs of nodes; expected at least 2, one to hold out and one to train on. "
            "Remove hold_out, or give more edges."
        )
    rng = np.random.default_rng(seed)
    count = min(max(round(share * len(joined)), 1), len(joined) - 1)
    held = np.sort(joined[rng.choice(len(joined), count, replace=False, shuffle=False)])
    apart = _apart(graph, joined, held, rng)
    return _without(graph, entries, held), HeldOut(graph.ids, _as_rows(held, n), _as_rows(apart, n))


def _codes(graph: Graph) -> tuple[Pairs, NDArray[np.bool_]]:
    """(nnz,) the pair of each entry, and the entries that list every pair once, in order.

    Undirected: both rows of an edge give one pair, the smaller node first, and that node's row lists it.
    """
    n = len(graph)
    row = np.repeat(np.arange(n, dtype=np.int64), np.diff(graph.indptr))
    column = graph.indices.astype(np.int64)
    if graph.directed:
        return row * n + column, row != column
    return np.minimum(row, column) * n + np.maximum(row, column), row < column


def _apart(graph: Graph, joined: Pairs, held: Pairs, rng: np.random.Generator) -> Pairs:
    """As many pairs that are not joined as are held out, sorted; of nodes with types, as many of each two types."""
    n = len(graph)
    if graph.types is None:
        every = np.arange(n)
        return _not_joined(joined, n, every, every, len(held), graph.directed, rng)
    kinds, found = len(graph.type_names), []
    of_joined, of_held = (_kinds(graph, pairs) for pairs in (joined, held))
    for kind, count in zip(*np.unique(of_held, return_counts=True), strict=True):
        one, two = (np.flatnonzero(graph.types == it) for it in divmod(kind, kinds))
        found.append(_not_joined(joined[of_joined == kind], n, one, two, int(count), graph.directed, rng))
    return np.sort(np.concatenate(found))


def _kinds(graph: Graph, pairs: Pairs) -> Pairs:
    """The types of both nodes of each pair as one number; undirected: in no order."""
    assert graph.types is not None
    first, second = (graph.types[rows].astype(np.int64) for rows in np.divmod(pairs, len(graph)))
    if not graph.directed:
        first, second = np.minimum(first, second), np.maximum(first, second)
    return first * len(graph.type_names) + second


def _not_joined(
    joined: Pairs, n: int, one: Pairs, two: Pairs, count: int, directed: bool, rng: np.random.Generator
) -> Pairs:
    """`count` distinct pairs of a node of `one` and one of `two` that are not in `joined` (sorted), sorted.

    one, two : rows, the same or none in common. Uniform, in memory of the graph's own size.
    """
    alike = one[0] == two[0]
    total = len(one) * (len(two) - alike) // (1 if directed or not alike else 2)
    if total - len(joined) < count:
        raise InputError(
            f"Got a graph with {total - len(joined)} pairs of nodes that are not joined; expected at least {count}, one for "
            "each edge held out, of the same types. Hold out a smaller share; a complete graph has none to judge on."
        )

    def codes(first: Pairs, second: Pairs) -> Pairs:
        if not directed:
            first, second = np.minimum(first, second), np.maximum(first, second)
        pairs: Pairs = (first * n + second)[first != second]
        return pairs[~_contains(joined, pairs)]

    if total <= 4 * (len(joined) + count):  # dense: all pairs are hardly more than the edges
        free = np.unique(codes(np.repeat(one, len(two)), np.tile(two, len(one))))
        return np.sort(free[rng.choice(len(free), count, replace=False, shuffle=False)])
    found = np.empty(0, np.int64)
    while len(found) < count:  # three draws of four, or more, are new
        size = 2 * (count - len(found)) + 8
        first, second = one[rng.integers(0, len(one), size)], two[rng.integers(0, len(two), size)]
        found = np.union1d(found, codes(first, second))
    return np.sort(found[rng.choice(len(found), count, replace=False, shuffle=False)])


def _contains(ordered: Pairs, asked: Pairs) -> NDArray[np.bool_]:
    """Which of `asked` stand in `ordered` (sorted, not empty)."""
    place = np.searchsorted(ordered, asked)
    found: NDArray[np.bool_] = ordered[np.minimum(place, len(ordered) - 1)] == asked
    return found


def _without(graph: Graph, entries: Pairs, held: Pairs) -> Graph:
    kept = ~_contains(held, entries)
    before = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept, out=before[1:])
    return replace(
        graph,
        indptr=before[graph.indptr],
        indices=graph.indices[kept],
        weights=None if graph.weights is None else graph.weights[kept],
        edge_types=None if graph.edge_types is None else graph.edge_types[kept],
    )


def _as_rows(codes: Pairs, n: int) -> NDArray[np.int32]:
    return np.stack(np.divmod(codes, n), axis=1).astype(np.int32)
