"""What trainings of skip-gram begin with: known rows, and the chances of tokens to be kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix


def put_known(matrix: Matrix, start: Matrix | None) -> None:
    """Write the rows of `start` that are finite into the matrix, which may be wider."""
    if start is not None:
        known = np.flatnonzero(np.isfinite(start).all(axis=1))
        matrix[known, : start.shape[1]] = start[known]


def chances_to_stay(weights: NDArray[Any], sample: float) -> NDArray[np.float64]:
    """(n,) float64, the chance of each row's tokens to outlive subsampling (Mikolov et al. 2013, section 2.3).

    weights : counts of the rows. sample : the threshold, in word2vec.c's form; 0 keeps all.

    >>> chances_to_stay(np.array([90, 10]), 0.1).round(3).tolist()
    [0.444, 1.0]
    """
    share = weights / max(1, weights.sum())
    with np.errstate(divide="ignore"):
        stay = (np.sqrt(share / sample) + 1) * (sample / share) if sample else np.ones(len(weights))
    return np.minimum(1.0, stay)
