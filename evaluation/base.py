"""What every evaluation answers: a report of named scores, the headline first, and JSON-able notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from embedders.errors import InputError


@dataclass(frozen=True)
class Score:
    """One measured number. low, high: its 95 % interval, None where none is given."""

    metric: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Report:
    """What one evaluation measured.

    Parameters
    ----------
    scores : the first is the headline.
    notes : JSON-able: what was counted, what was left out, the names of baselines.
    """

    scores: tuple[Score, ...]
    notes: Mapping[str, Any]

    @property
    def headline(self) -> Score:
        return self.scores[0]

    def value(self, metric: str) -> float:
        """The value of the score of that name.

        Raises
        ------
        InputError : no score has that name.
        """
        for score in self.scores:
            if score.metric == metric:
                return score.value
        raise InputError(f"Got the metric {metric!r}; expected one of {', '.join(s.metric for s in self.scores)}.")


def size(matrix: Any) -> dict[str, int]:
    """What vectors cost, for the notes: numbers a row, bytes as float32, and those that a sparse matrix takes.

    matrix : (n, dim), an array or a sparse matrix in compressed rows (CSR).
    """
    rows, dim = matrix.shape
    cost = {"dim": dim, "bytes": 4 * rows * dim}
    if hasattr(matrix, "indptr"):
        cost["sparse_bytes"] = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    return cost


def one_hot_size(words: int) -> dict[str, int]:
    """What one-hot vectors of words cost; the cosine of any two of them is 0, so there is nothing else to measure.

    >>> one_hot_size(1000)
    {'dim': 1000, 'bytes': 4000000, 'sparse_bytes': 12004}
    """
    return {"dim": words, "bytes": 4 * words * words, "sparse_bytes": 12 * words + 4}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` in `n` >= 1 trials (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    z = 1.959963984540054
    share = hits / n
    centre = share + z * z / (2 * n)
    spread = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
