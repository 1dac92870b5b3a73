"""Two coordinates for each row, for a picture of a space."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.errors import InputError
from embedders.kernels.blas import one_thread

WIDEST = 50
FEWEST = 30


def project(
    matrix: NDArray[Any], *, seed: int = 0, limit: int = 1000, quick: bool = False
) -> tuple[NDArray[np.int64], Matrix]:
    """PCA to at most 50 dimensions, then t-SNE (van der Maaten and Hinton 2008) to 2, on at most `limit` rows.

    Fewer than 30 rows, and rows on a line, are projected by PCA alone; a missing dimension is 0.

    Parameters
    ----------
    matrix : (n, dim), finite.
    seed : of the sample of rows and of t-SNE; the same seed gives the same numbers.
    limit : rows that are projected, at least 1.
    quick : PCA alone, which takes milliseconds.

    Returns
    -------
    The rows (m,) int64, ascending, and their places (m, 2) float32.

    Raises
    ------
    InputError : the matrix is not two-dimensional and finite, or the limit is less than 1.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or limit < 1:
        raise InputError(f"Got shape {matrix.shape} and limit={limit}; expected (n, dim) and a limit of at least 1.")
    rows = np.arange(len(matrix), dtype=np.int64)
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))
    chosen = matrix[rows].astype(np.float64)
    if not np.isfinite(chosen).all():
        raise InputError("Got NaN or infinity in the matrix; expected finite numbers. Check the vectors.")
    return rows, _places(chosen, seed, quick)


def _places(matrix: NDArray[np.float64], seed: int, quick: bool) -> Matrix:
    """(m, 2) float32 places of the rows (m, dim)."""
    with one_thread():
        components = _components(matrix)
    if quick or len(matrix) < FEWEST or components.shape[1] < 2:
        places = np.zeros((len(matrix), 2), np.float32)
        places[:, : components.shape[1]] = components[:, :2]
        return places

    from sklearn.manifold import TSNE

    tsne = TSNE(init=components[:, :2] * 1e-4, perplexity=min(30.0, (len(matrix) - 1) / 3), random_state=seed)
    with one_thread():  # entered after the import, which brings the OpenMP library that is limited
        return np.asarray(tsne.fit_transform(components), np.float32)


def _components(matrix: NDArray[np.float64]) -> Matrix:
    """(m, at most 50) float32 principal components; the first has deviation 1, those of no variance are left out.

    The sign is chosen so that the largest entry of each component is positive.
    """
    largest = np.abs(matrix).max(initial=0)
    if largest == 0 or len(matrix) < 2:
        return np.zeros((len(matrix), 0), np.float32)
    matrix = matrix / largest
    left, size, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    kept = min(WIDEST, int((size > 1e-7 * np.sqrt(len(matrix))).sum()))
    if kept == 0:
        return np.zeros((len(matrix), 0), np.float32)
    components = left[:, :kept] * (size[:kept] / size[0] * np.sqrt(len(matrix)))
    peak = components[np.abs(components).argmax(axis=0), np.arange(kept)]
    return np.asarray(components * np.sign(peak), np.float32)
