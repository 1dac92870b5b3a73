"""How far rows moved from one version to another, also when the turn of the whole space is taken out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Similarity
from embedders.errors import InputError
from embedders.kernels.blas import one_thread

ROWS_AT_ONCE = 16_384
ROWS_FOR_CHANCE = 65_536
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Motion:
    """A rigid motion of space: a row becomes `(row - start) @ turn + end`.

    Parameters
    ----------
    turn : (dim, dim) float64, orthogonal.
    start, end : (dim,) float64, zero unless the similarity ignores shifts.
    """

    turn: Doubles
    start: Doubles
    end: Doubles

    def __call__(self, rows: Doubles) -> Doubles:
        return (rows - self.start) @ self.turn + self.end


@dataclass(frozen=True, eq=False)
class Aligned:
    """Displacements that are left after the motion that fits best.

    Parameters
    ----------
    distances : (n,) float64.
    chance : the mean that is left of rows paired at random (of at most ROWS_FOR_CHANCE, drawn with seed 0); a mean of
        `distances` near it says that the two versions have nothing in common.
    """

    distances: Doubles
    chance: float


def measure(similarity: Similarity) -> str:
    """What a displacement is measured by.

    >>> measure("cosine"), measure("l2")
    ('1 - cosine', 'Euclidean distance')
    """
    return "1 - cosine" if similarity == "cosine" else "Euclidean distance"


def displacement(
    before: Matrix, after: Matrix, similarity: Similarity, motion: Motion | None = None
) -> NDArray[np.float64]:
    """How far each row moved: 1 - cosine where rows are compared by cosine, else the Euclidean distance.

    Parameters
    ----------
    before, after : (n, dim) float32, row i of both belongs to the same id; read in blocks.
    similarity : how the space compares rows. Under "cosine" a zero vector is at distance 1 from any other vector.
    motion : applied to `before` first; none where both stand in the same coordinates.

    Returns
    -------
    (n,) float64, at least 0; computed in float64, so that a change of the last bit of a cosine shows.

    Raises
    ------
    InputError : the shapes differ, or the similarity is unknown.
    """
    _check(before, after, similarity)
    return _distances(before, after, similarity, motion, None)


@one_thread()
def procrustes(before: Matrix, after: Matrix, similarity: Similarity) -> Motion:
    """The motion of `before` that comes nearest to `after` among those that change no similarity within a version.

    Orthogonal Procrustes (Schoenemann 1966, doi:10.1007/BF02289451): rotations and reflections, of rows scaled to
    length 1 under "cosine" (so that every row weighs the same), of rows as they are under "dot", and about the means
    under "l2", which sees no shift either. With few rows for its dim (dim + 1) / 2 angles the fit follows noise.

    Parameters
    ----------
    before, after : (n, dim) float32, row i of both belongs to the same id; read in blocks.

    Raises
    ------
    InputError : the shapes differ, the similarity is unknown, or there is no row.
    """
    _check(before, after, similarity)
    if not len(before):
        raise InputError("Got no row to align; expected at least 1. Compare versions that have ids in common.")
    return _fit(before, after, similarity, None)


@one_thread()
def aligned(before: Matrix, after: Matrix, similarity: Similarity, fit: NDArray[np.bool_]) -> Aligned:
    """Displacements after Procrustes alignment, beside what chance gives.

    Parameters
    ----------
    before, after : (n, dim) float32, row i of both belongs to the same id.
    similarity : how the space compares rows.
    fit : (n,) bool, the rows that the motion is fitted on: those whose contents are the same.

    Raises
    ------
    InputError : the shapes differ, the similarity is unknown, or `fit` marks no row.
    """
    _check(before, after, similarity)
    left, right = (before, after) if fit.all() else (before[fit], after[fit])
    distances = _distances(before, after, similarity, procrustes(left, right, similarity), None)
    rng = np.random.default_rng(0)
    if len(left) > ROWS_FOR_CHANCE:
        some = np.sort(rng.choice(len(left), ROWS_FOR_CHANCE, replace=False))
        left, right = left[some], right[some]
    strangers = rng.permutation(len(left))
    chance = _distances(left, right, similarity, _fit(left, right, similarity, strangers), strangers)
    return Aligned(distances, float(chance.mean()))


def _check(before: NDArray[Any], after: NDArray[Any], similarity: str) -> None:
    if before.shape != after.shape or before.ndim != 2:
        raise InputError(
            f"Got matrices of shape {before.shape} and {after.shape}; expected two of one shape (n, dim). Match the rows by id."
        )
    if similarity not in get_args(Similarity):
        raise InputError(f"Got similarity={similarity!r}; expected one of {', '.join(get_args(Similarity))}.")


def _pairs(
    before: Matrix, after: Matrix, partner: NDArray[np.int64] | None
) -> Iterator[tuple[slice, Doubles, Doubles]]:
    """Blocks of both matrices in float64; row i of `before` goes with row partner[i] of `after`."""
    for first in range(0, len(before), ROWS_AT_ONCE):
        block = slice(first, first + ROWS_AT_ONCE)
        other = after[block] if partner is None else after[partner[block]]
        yield block, before[block].astype(np.float64), other.astype(np.float64)


def _distances(
    before: Matrix, after: Matrix, similarity: Similarity, motion: Motion | None, partner: NDArray[np.int64] | None
) -> Doubles:
    out = np.empty(len(before), np.float64)
    for block, left, right in _pairs(before, after, partner):
        if motion is not None:
            left = motion(left)
        if similarity == "cosine":
            left, right = _unit(left), _unit(right)
            alone = left.any(axis=1) != right.any(axis=1)  # a zero vector beside another one
        left -= right
        squares = np.einsum("ij,ij->i", left, left)
        out[block] = np.where(alone, 1, squares / 2) if similarity == "cosine" else np.sqrt(squares)
    return out


def _unit(rows: Doubles) -> Doubles:
    """The rows scaled to length 1; zero rows stay zero."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return rows / np.where(lengths == 0, 1, lengths)[:, None]


def _fit(before: Matrix, after: Matrix, similarity: Similarity, partner: NDArray[np.int64] | None) -> Motion:
    dim = before.shape[1]
    start, end, cross = np.zeros(dim), np.zeros(dim), np.zeros((dim, dim))
    if similarity == "l2":
        start, end = before.mean(axis=0, dtype=np.float64), after.mean(axis=0, dtype=np.float64)
    for _, left, right in _pairs(before, after, partner):
        if similarity == "cosine":
            left, right = _unit(left), _unit(right)
        cross += (left - start).T @ (right - end)
    left_vectors, _, right_vectors = np.linalg.svd(cross)
    return Motion(left_vectors @ right_vectors, start, end)
