"""Nearest rows of a matrix, exactly and in bounded memory; and whether neighbours share a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Similarity, Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores, run_threads
from evaluation.base import Report, Score
from evaluation.matching import labelled

SCORES_AT_ONCE = 4_000_000
ROWS_AT_ONCE = 16_384
STRIDES = 64  # columns that are looked at together for a first bound of the best scores


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

    All cores take part, each with blocks of its own; how many there are changes no bit.

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

    size = max(1, SCORES_AT_ONCE // n)
    compare = Comparison(matrix, similarity)

    def search(_: int, piece: int) -> None:
        block = slice(piece * size, (piece + 1) * size)
        products = compare.scores(queries[block])
        at, column = np.nonzero(banned[block] >= 0)
        products[at, banned[block][at, column]] = -np.inf
        if similarity == "l2":
            found, best = compare.by_distance(queries[block], products, k)
        else:
            found, best = _top(products, k)
        rows[block], scores[block] = found, np.clip(best, -1, 1) if similarity == "cosine" else best

    with one_thread():
        run_threads(search, -(-len(queries) // size), cores(), lambda: None)
    return rows, scores


def similarities(matrix: Matrix, queries: Matrix, similarity: Similarity) -> Matrix:
    """(q, n) float32, large is near: the cosine, the dot product, or minus the Euclidean distance; for few queries.

    matrix : (n, dim) float32. queries : (q, dim) float32. The cosine of a zero vector is 0.
    """
    if similarity == "l2":
        return np.stack([-_lengths(matrix - query) for query in queries])
    with np.errstate(over="ignore", invalid="ignore"):  # told by `best`
        if similarity == "dot":
            return queries @ matrix.T
        scores: Matrix = unit_rows(queries) @ matrix.T
        scores *= _inverse(_lengths(matrix))
    return scores.clip(-1, 1, out=scores)


def best(scores: Matrix, k: int, exclude: Sequence[int] = ()) -> list[tuple[int, float]]:
    """The k largest of (n,) scores, without some rows: row and score, largest first, equal ones in row order.

    Raises
    ------
    InputError : a score is not finite.
    """
    scores = scores.copy()
    scores[list(exclude)] = -np.inf
    k = min(k, len(scores) - len(set(exclude)))
    if k <= 0:
        return []
    [rows], [values] = _top(scores[None], k)
    return list(zip(rows.tolist(), values.tolist(), strict=True))


def unit_rows(matrix: NDArray[Any]) -> Matrix:
    """A copy (n, dim) float32 whose rows have length 1; zero rows stay zero."""
    return np.asarray(matrix, np.float32) * inverse_lengths(matrix)[:, None]


def inverse_lengths(matrix: NDArray[Any]) -> Matrix:
    """(n,) float32, 1 / length of each row, 0 of a zero row."""
    return _inverse(_norms(matrix))


class Comparison:
    """What is computed once for a searched matrix (n, dim), so that a block of scores is one matrix product."""

    def __init__(self, matrix: NDArray[Any], similarity: Similarity) -> None:
        self.matrix, self.similarity = matrix, similarity
        if similarity == "cosine":
            self.scale = inverse_lengths(matrix)
        if similarity == "l2":  # moving the origin to the mean changes no distance, and the rounding error shrinks
            self.centre = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
            with np.errstate(over="ignore"):
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

    def by_distance(self, queries: Matrix, scores: Matrix, k: int) -> tuple[NDArray[np.int64], Matrix]:
        """Rows and distances (q, k) of the k nearest by plain differences in float64, smallest distance first.

        The scores suffer from cancellation, so every row that rounding may have kept from the first k takes part: a
        score is off by at most `unit * (|query|^2 + 2 |row|^2)`, both about the centre.
        """
        unit = np.float32(8 * np.sqrt(queries.shape[1] + 1) * np.finfo(np.float32).eps)
        with np.errstate(over="ignore", invalid="ignore"):
            off = 2 * unit * self.squares
            least = _kth(scores - off, k) - 2 * unit * (_norms(queries, self.centre)[:, None] ** 2).astype(np.float32)
            row, column = _above(scores + off, least)
        distance = np.empty(len(row), np.float32)
        size = max(1, SCORES_AT_ONCE // max(1, queries.shape[1]))
        for first in range(0, len(row), size):
            part = slice(first, first + size)
            distance[part] = _norms(self.matrix[column[part]].astype(np.float64) - queries[row[part]])
        chosen = _firsts(row, column, distance, len(queries), k)
        return column[chosen], distance[chosen]


def _top(scores: Matrix, k: int) -> tuple[NDArray[np.int64], Matrix]:
    """Columns (q, k) and values (q, k) of the k largest of each row, largest first, equal ones in column order."""
    row, column = _above(scores, _bound(scores, k))  # k a row, or somewhat more
    value = scores[row, column]
    chosen = _firsts(row, column, -value, len(scores), k)
    return column[chosen], value[chosen]


def _bound(scores: Matrix, k: int) -> Matrix:
    """(q, 1) a number that at least k scores of each row reach, in one quick pass.

    Columns are looked at `STRIDES` at a time: the k-th largest of their maxima is such a number, since each is a score.
    """
    q, n = scores.shape
    width = n // STRIDES
    if width < 4 * k:
        return _kth(scores, k)
    whole = width * STRIDES
    maxima = np.concatenate([scores[:, :whole].reshape(q, STRIDES, width).max(axis=1), scores[:, whole:]], axis=1)
    best = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, maxima.shape[1] - k :]
    return best[:, :1] if np.isfinite(best).all() else _kth(scores, k)


def _kth(scores: Matrix, k: int) -> Matrix:
    """(q, 1) the k-th largest score of each row."""
    best = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k :]
    if not np.isfinite(best).all():
        raise InputError("The similarity of two vectors overflows float32. Scale the vectors down, or use cosine.")
    return best[:, :1]


def _above(scores: Matrix, least: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each score that is at least `least` (q, 1), row by row."""
    row, column = np.divmod(np.flatnonzero(scores >= least), scores.shape[1])
    return row, column


def _firsts(row: NDArray[np.int64], column: NDArray[np.int64], key: Matrix, q: int, k: int) -> NDArray[np.int64]:
    """(q, k) positions of the k smallest keys of each row, smallest first, equal ones in column order."""
    order = np.lexsort((column, key, row))
    start = np.searchsorted(row, np.arange(q))
    return np.asarray(order[start[:, None] + np.arange(k)], np.int64)


def _norms(matrix: NDArray[Any], centre: Matrix | None = None) -> NDArray[np.float64]:
    """(n,) lengths of the rows, taken from `centre` where given; summed in float64, in blocks."""
    lengths = np.empty(len(matrix), np.float64)
    for first in range(0, len(matrix), ROWS_AT_ONCE):
        rows = matrix[first : first + ROWS_AT_ONCE].astype(np.float64)
        rows = rows if centre is None else rows - centre
        lengths[first : first + ROWS_AT_ONCE] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths


def _lengths(matrix: Matrix) -> NDArray[np.float64]:
    """(n,) lengths of float32 rows, summed in float32 where that neither overflows nor loses small numbers."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    lengths: NDArray[np.float64] = np.sqrt(squares, dtype=np.float64)
    odd = np.flatnonzero(~((squares > 1e-25) & (squares < 1e35)))
    lengths[odd] = _norms(matrix[odd])
    return lengths


def _inverse(lengths: NDArray[np.float64]) -> Matrix:
    """(n,) float32, 1 / length, and 0 where the length is (nearly) zero."""
    zero = lengths < 1e-37
    return np.where(zero, 0, 1 / np.where(zero, 1, lengths)).astype(np.float32)
