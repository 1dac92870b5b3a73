"""Nearest rows of a matrix, exactly and in bounded memory; and whether neighbours share a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Similarity, Vectors
from embedders.errors import InputError
from evaluation.base import Report, Score
from evaluation.matching import labelled

SCORES_AT_ONCE = 4_000_000
ROWS_AT_ONCE = 16_384
SPARE = 16
"""Candidates beyond k whose l2 distance is computed again without cancellation."""


def neighbours(
    vectors: Vectors, labels: Mapping[str, str], *, k: int = 10, similarity: Similarity = "cosine"
) -> Report:
    """The share of the k nearest neighbours of a row that have its label; only labelled rows take part.

    Parameters
    ----------
    vectors : rows without a label are left out.
    labels : the label of each id.
    k : neighbours of a row, itself not among them; reduced where there are fewer than k + 1 rows.
    similarity : how rows are compared.

    Returns
    -------
    Scores `same_label` and `chance` (what random neighbours would give). Notes: k as used, and `k_asked`.

    Raises
    ------
    InputError : fewer than two ids have both a vector and a label, or k is less than 1.
    """
    found = labelled(vectors, labels)
    n = len(found.rows)
    if n < 2:
        raise InputError("Got 1 labelled vector; expected at least 2, so that it has a neighbour. Label more rows.")
    matrix = vectors.matrix[found.rows]
    near, _ = nearest(matrix, matrix, similarity, k, exclude=np.arange(n))
    same = float((found.codes[near] == found.codes[:, None]).mean())
    sizes = found.sizes.astype(np.float64)
    chance = float((sizes * (sizes - 1)).sum() / (n * (n - 1.0)))
    notes = {**found.notes, "k": near.shape[1], "k_asked": k, "similarity": similarity}
    return Report((Score("same_label", same), Score("chance", chance)), notes)


def nearest(
    vectors_matrix: NDArray[Any],
    query_matrix: NDArray[Any],
    similarity: Similarity,
    k: int,
    exclude: NDArray[Any] | None = None,
) -> tuple[NDArray[np.int64], Matrix]:
    """The k nearest rows of each query by exhaustive comparison in float32 blocks; equal scores in row order.

    Parameters
    ----------
    vectors_matrix : (n, dim) the rows that are searched.
    query_matrix : (q, dim).
    similarity : "cosine" (a zero vector scores 0), "dot" or "l2".
    k : at least 1; reduced to the rows that are left after `exclude`.
    exclude : (q,) or (q, m) rows that a query must not find, -1 for none.

    Returns
    -------
    Rows (q, k) int64, the nearest first, and scores (q, k) float32: the cosine, the dot product, or the Euclidean
    distance (small is near).

    Raises
    ------
    InputError : the widths differ, k is less than 1, the similarity is unknown, or the products overflow float32.
    """
    matrix, queries = np.asarray(vectors_matrix), np.asarray(query_matrix, np.float32)
    if matrix.ndim != 2 or queries.ndim != 2 or matrix.shape[1] != queries.shape[1]:
        raise InputError(
            f"Got vectors of shape {matrix.shape} and queries of shape {queries.shape}; expected (n, dim) and (q, dim) of one dim."
        )
    if k < 1:
        raise InputError(f"Got k={k}; expected at least 1.")
    if similarity not in get_args(Similarity):
        raise InputError(f"Got similarity={similarity!r}; expected one of {', '.join(get_args(Similarity))}.")
    n = len(matrix)
    banned = np.full((len(queries), 0), -1) if exclude is None else np.asarray(exclude, np.int64)
    banned = banned.reshape(len(queries), -1) if banned.size else banned.reshape(len(queries), 0)
    k = max(0, min(k, n - banned.shape[1]))
    rows, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    if k == 0 or not len(queries):
        return rows, scores

    pool = min(n - banned.shape[1], k + SPARE) if similarity == "l2" else k
    size = max(1, SCORES_AT_ONCE // n)
    if similarity == "l2":
        size = max(1, min(size, SCORES_AT_ONCE // (pool * max(1, matrix.shape[1]))))
    compare = _Comparison(matrix, similarity)
    for first in range(0, len(queries), size):
        block = slice(first, first + size)
        products = compare.scores(queries[block])
        at, column = np.nonzero(banned[block] >= 0)
        products[at, banned[block][at, column]] = -np.inf
        found, best = _top(products, pool)
        if similarity == "l2":
            found, best = _by_distance(matrix, queries[block], found, k)
        rows[block], scores[block] = found, np.clip(best, -1, 1) if similarity == "cosine" else best
    return rows, scores


def unit_rows(matrix: NDArray[Any]) -> Matrix:
    """A copy (n, dim) float32 whose rows have length 1; zero rows stay zero."""
    return np.asarray(matrix, np.float32) * _inverse(_norms(matrix))[:, None]


class _Comparison:
    """What is computed once for a searched matrix, so that a block of scores is one matrix product."""

    def __init__(self, matrix: NDArray[Any], similarity: Similarity) -> None:
        self.matrix, self.similarity = matrix, similarity
        if similarity == "cosine":
            self.scale = _inverse(_norms(matrix))
        if similarity == "l2":  # moving the origin to the mean changes no distance, and the rounding error shrinks
            self.centre = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
            self.squares = (_norms(matrix, self.centre) ** 2).astype(np.float32)

    def scores(self, queries: Matrix) -> Matrix:
        """(q, n) float32, large is near: cosine, dot product, or |query|^2 - distance^2 about the centre."""
        if self.similarity == "cosine":
            queries = unit_rows(queries)
        if self.similarity == "l2":
            queries = 2 * (queries - self.centre)
        scores = np.empty((len(queries), len(self.matrix)), np.float32)
        for first in range(0, len(self.matrix), ROWS_AT_ONCE):
            block = slice(first, first + ROWS_AT_ONCE)
            rows = np.asarray(self.matrix[block], np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # told below, where the best scores are not finite
                np.matmul(queries, (rows - self.centre if self.similarity == "l2" else rows).T, out=scores[:, block])
                if self.similarity == "cosine":
                    scores[:, block] *= self.scale[block]
                if self.similarity == "l2":
                    scores[:, block] -= self.squares[block]
        return scores


def _top(scores: Matrix, k: int) -> tuple[NDArray[np.int64], Matrix]:
    """Columns (q, k) and values (q, k) of the k largest of each row, largest first, equal ones in column order."""
    q, n = scores.shape
    best = np.partition(scores, n - k, axis=1)[:, n - k :]
    if not np.isfinite(best).all():
        raise InputError("The similarity of two vectors overflows float32. Scale the vectors down, or use cosine.")
    row, column = np.divmod(np.flatnonzero(scores >= best[:, :1]), n)  # k a row, or more where the last place is shared
    value = scores[row, column]
    order = np.lexsort((column, -value, row))
    start = np.searchsorted(row, np.arange(q))
    chosen = order[start[:, None] + np.arange(k)]
    return column[chosen].astype(np.int64), value[chosen]


def _by_distance(
    matrix: NDArray[Any], queries: Matrix, found: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], Matrix]:
    """The k nearest of the found rows (q, pool) by distances from plain differences."""
    found = np.sort(found, axis=1)
    apart = matrix[found].astype(np.float64) - queries[:, None, :]
    distance = np.sqrt(np.einsum("qkd,qkd->qk", apart, apart)).astype(np.float32)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(distance, order, axis=1)


def _norms(matrix: NDArray[Any], centre: Matrix | None = None) -> NDArray[np.float64]:
    """(n,) lengths of the rows, taken from `centre` where given; summed in float64, in blocks."""
    lengths = np.empty(len(matrix), np.float64)
    for first in range(0, len(matrix), ROWS_AT_ONCE):
        rows = matrix[first : first + ROWS_AT_ONCE].astype(np.float64)
        rows = rows if centre is None else rows - centre
        lengths[first : first + ROWS_AT_ONCE] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths


def _inverse(lengths: NDArray[np.float64]) -> Matrix:
    """(n,) float32, 1 / length, and 0 where the length is (nearly) zero."""
    zero = lengths < 1e-37
    return np.where(zero, 0, 1 / np.where(zero, 1, lengths)).astype(np.float32)
