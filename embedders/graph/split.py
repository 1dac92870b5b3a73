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
    pairs held out beside as many others, drawn uniformly of the pairs that are not joined in the whole graph.
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
    apart = _not_joined(joined, n, count, graph.directed, rng)
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


def _not_joined(joined: Pairs, n: int, count: int, directed: bool, rng: np.random.Generator) -> Pairs:
    """`count` distinct pairs that are not in `joined` (sorted), sorted. Uniform, in memory of the graph's own size."""
    total = n * (n - 1) // (1 if directed else 2)
    if total - len(joined) < count:
        raise InputError(
            f"Got a graph with {total - len(joined)} pairs of nodes that are not joined; expected at least {count}, one for "
            "each edge held out. Hold out a smaller share; a complete graph has none to judge on."
        )
    if total <= 4 * (len(joined) + count):  # dense: all pairs are hardly more than the edges
        first, second = np.divmod(np.arange(n * n), n)
        every = np.flatnonzero(first != second if directed else first < second)
        free = every[~_contains(joined, every)]
        return np.sort(free[rng.choice(len(free), count, replace=False, shuffle=False)])
    found = np.empty(0, np.int64)
    while len(found) < count:  # three draws of four, or more, are new
        first, second = rng.integers(0, n, (2, 2 * (count - len(found)) + 8))
        if not directed:
            first, second = np.minimum(first, second), np.maximum(first, second)
        drawn = (first * n + second)[first != second]
        found = np.union1d(found, drawn[~_contains(joined, drawn)])
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
