"""Principal directions of a matrix, and its scale: what the embedders of this folder begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix

EQUAL = 1e-5
"""Vectors that differ from their mean by less than so much of their length are equal but for rounding."""


def centred(matrix: Matrix) -> tuple[Matrix, Matrix, float]:
    """(n, d) the matrix without its mean, (d,) the mean, and the root mean square length of what is left.

    Of rows that are equal but for rounding nothing is left: zeros, and a length of 0.
    """
    mean = matrix.mean(axis=0, dtype=np.float64)
    rest = (matrix - mean).astype(np.float32)
    length = float(np.sqrt(np.einsum("ij,ij->i", rest, rest, dtype=np.float64).mean())) if len(rest) else 0.0
    if length <= EQUAL * float(np.sqrt((mean**2).sum())):
        return np.zeros_like(rest), mean.astype(np.float32), 0.0
    return rest, mean.astype(np.float32), length


def directions(matrix: NDArray[Any], most: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances, falling, and directions (d, k) of a centred matrix (n, d), as far as they are more than rounding.

    Each has the sign that makes its largest number positive.

    most : how many at most.
    """
    n, d = matrix.shape
    exact = matrix.astype(np.float64)
    values, vectors = np.linalg.eigh(exact @ exact.T if d > n else exact.T @ exact)
    values, vectors = values[::-1], vectors[:, ::-1]
    some = int((values > 1e-10 * max(values[0], 1e-300)).sum()) if len(values) else 0
    some = some if most is None else min(some, most)
    values, vectors = values[:some], vectors[:, :some]
    if d > n:
        vectors = exact.T @ vectors / np.sqrt(values)
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values / max(n, 1), vectors * np.where(peaks < 0, -1, 1)
