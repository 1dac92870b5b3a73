"""The items that a user may like best, by the vectors of both, without those that are passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Similarity
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores, run_threads
from evaluation.neighbours import unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

USERS = 256  # whose scores are computed in one product
ITEMS = 4096  # of one product, so that its scores stay in the cache
AT_ONCE = 16_384  # users whose lists are given together

Places = NDArray[np.int32]


def best_items(
    users: Matrix, items: Matrix, k: int, *, seen: csr_array | None = None, similarity: Similarity = "dot", threads: int = 0
) -> Iterator[tuple[Places, Matrix]]:  # fmt: skip
    """The k items that score highest with each user, equal scores in the order of the items; in bounded memory.

    How many threads there are changes no bit.

    Parameters
    ----------
    users, items : (n, dim) and (m, dim) float32.
    seen : (n, m) what of it is stored is passed over, whatever its value; indices sorted.
    similarity : how they are compared; of "l2" the score is minus the distance.
    threads : 0 takes all cores.

    Yields
    ------
    For some thousand users at a time, in order: places of items (users, k) int32, the best first, -1 where a user has
    nothing left, and scores (users, k) float32, -inf there.

    Raises
    ------
    InputError : the widths differ, k is less than 1, or the scores overflow float32.
    """
    if users.shape[1] != items.shape[1]:
        raise InputError(
            f"Got users of {users.shape[1]} numbers and items of {items.shape[1]}; expected as many. Take both of one space."
        )
    if k < 1:
        raise InputError(f"Got k={k}; expected at least 1.")
    compared = _Items(items, similarity)
    for first in range(0, len(users), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        yield _lists(compared, users[part], k, None if seen is None else seen[part], threads or cores())


class _Items:
    """Items so prepared that a score is a dot product."""

    def __init__(self, matrix: Matrix, similarity: Similarity) -> None:
        self.similarity = similarity
        matrix = np.asarray(matrix, np.float32)
        if similarity == "cosine":
            matrix = unit_rows(matrix)
        if similarity == "l2":  # about the mean, which changes no distance and lessens the rounding
            self.centre = matrix.mean(axis=0, dtype=np.float64).astype(np.float32) if len(matrix) else np.float32(0)
            matrix = matrix - self.centre
            squares = np.einsum("ij,ij->i", matrix, matrix)
            matrix = np.concatenate([2 * matrix, -squares[:, None]], axis=1)
        self.columns = np.ascontiguousarray(matrix.T)  # (dim, m)
        self.longest = _longest(matrix)

    def questions(self, users: Matrix) -> Matrix:
        """Users as they are multiplied.

        Raises
        ------
        InputError : a product could overflow.
        """
        users = np.asarray(users, np.float32)
        if self.similarity == "cosine":
            users = unit_rows(users)
        if self.similarity == "l2":
            users = np.concatenate([users - self.centre, np.ones((len(users), 1), np.float32)], axis=1)
        if not _longest(users) * self.longest < float(np.finfo(np.float32).max):
            raise InputError("The scores of users and items overflow float32. Scale the vectors down.")
        return users

    def answers(self, questions: Matrix, values: Matrix) -> Matrix:
        """Scores as they are told."""
        if self.similarity == "cosine":
            return np.where(np.isfinite(values), values.clip(-1, 1), values)
        if self.similarity == "dot":
            return values
        squares = np.einsum("ij,ij->i", questions[:, :-1], questions[:, :-1])[:, None]
        told: Matrix = -np.sqrt(np.maximum(squares - values, 0))
        return told


def _longest(matrix: Matrix) -> float:
    """The greatest length of a row; no sum within a dot product of two rows exceeds the product of their lengths."""
    squares = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64) if matrix.size else np.zeros(1)
    return float(np.sqrt(squares.max()))


def _lists(items: _Items, users: Matrix, k: int, seen: csr_array | None, threads: int) -> tuple[Places, Matrix]:
    """What `best_items` yields of some users."""
    from embedders.kernels.top import keep_largest

    questions = items.questions(users)
    n, m = len(users), items.columns.shape[1]
    columns, values = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    indptr = np.zeros(n + 1, np.int32) if seen is None else seen.indptr
    indices = np.empty(0, np.int32) if seen is None else seen.indices

    def fill(_: int, piece: int) -> None:
        rows = slice(piece * USERS, min(n, (piece + 1) * USERS))
        bounds = indptr[rows.start : rows.stop + 1]
        for first in range(0, m, ITEMS):
            scores = questions[rows] @ items.columns[:, first : first + ITEMS]
            keep_largest(scores, first, bounds, indices, columns[rows], values[rows])

    with one_thread():
        run_threads(fill, -(-n // USERS), threads, lambda: None)
    return columns, items.answers(questions, values)


def places(known: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """(wanted,) where each of them stands in `known`, -1 for those that do not."""
    at = {name: place for place, name in enumerate(known)}
    return np.fromiter((at.get(name, -1) for name in wanted), np.int64, len(wanted))
