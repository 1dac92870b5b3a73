"""Vectors for nodes that appear after training: the weighted mean of their neighbours' vectors.

New nodes are neighbours of new nodes too, so the means are taken again until they stand: trained vectors are held, and
the others become harmonic on the graph (Zhu, Ghahramani and Lafferty 2003).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.data import Graph

if TYPE_CHECKING:
    from embedders.graph.node2vec import NodeVectors

    N = TypeVar("N", bound=NodeVectors)

SWEEPS = 1000  # at most; a chain of new nodes that are joined to nothing else takes the most
STILL = 1e-6  # of the largest number: the change at which means stand


def fold_in(encoder: N, data: Graph) -> N:
    """The encoder with a row for each node of `data`, without training.

    Trained nodes keep their vectors and origins, unless they were isolated and now have a neighbour; nodes that are
    gone vanish; the others get the mean of their neighbours in both directions. Nodes that no path joins to a trained
    one are isolated and get small random vectors, as untrained nodes do. What was folded in before is folded in anew,
    so that the result depends on the training and on `data` alone.
    """
    from embedders.graph.node2vec import isolated

    n, trained = len(data), np.ones(len(encoder.ids), bool) if encoder.folded is None else ~encoder.folded
    place = {name: row for row, name in enumerate(encoder.ids) if trained[row]}
    old = np.array([place.get(name, -1) for name in data.ids], np.int64)
    known = old >= 0
    known[known] = ~encoder.isolated[old[known]] | isolated(data)[known]
    matrix, alone = np.empty((n, encoder.dim), np.float32), np.zeros(n, bool)
    matrix[known], alone[known] = encoder.matrix[old[known]], encoder.isolated[old[known]]
    new = np.flatnonzero(~known)
    means, reached = _means(data, matrix, known, new)
    matrix[new] = np.where(
        reached[:, None], means, _random([data.ids[row] for row in new.tolist()], encoder.dim, encoder.recipe.seed)
    )
    alone[new] = ~reached
    return replace(encoder, ids=data.ids, matrix=matrix, isolated=alone, folded=~known)


def _means(
    data: Graph, matrix: Matrix, held: NDArray[np.bool_], new: NDArray[np.int64]
) -> tuple[Matrix, NDArray[np.bool_]]:
    """The means of the new nodes, and which of them a path joins to one whose vector is held."""
    from scipy.sparse import csr_array

    n, weights = len(data), np.ones(len(data.indices)) if data.weights is None else data.weights.astype(np.float64)
    edges: Any = csr_array((weights, data.indices, data.indptr), shape=(n, n))
    rows = edges[new]
    if data.directed:
        rows = csr_array(rows + edges.T.tocsr()[new])
    among = csr_array(rows[:, new])
    near = np.unique(rows.indices[held[rows.indices]])
    outside = csr_array(rows[:, near])
    sums, weight = outside @ matrix[near].astype(np.float64), outside.sum(axis=1)
    found, reached = np.zeros((len(new), matrix.shape[1])), np.zeros(len(new), bool)
    for _ in range(SWEEPS):
        total = weight + among @ reached
        before, found = found, (sums + among @ found) / np.where(total > 0, total, 1)[:, None]
        grown = (total > 0).sum() > reached.sum()
        reached = total > 0
        if not grown and np.abs(found - before).max(initial=0) <= STILL * np.abs(found).max(initial=0):
            break
    return found.astype(np.float32), reached


def _random(ids: Sequence[str], dim: int, seed: int) -> Matrix:
    """(len(ids), dim) float32, small, by the node's name: the same one in each version."""
    rows = np.empty((len(ids), dim), np.float32)
    for row, name in zip(rows, ids, strict=True):
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        row[:] = (np.random.default_rng([seed, int.from_bytes(digest)]).random(dim) - 0.5) / dim
    return rows
