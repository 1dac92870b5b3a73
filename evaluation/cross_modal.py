"""How well one view of an entity finds another view of it, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from evaluation.base import Report, Score, wilson


def cross_modal(projected: Mapping[str, tuple[Matrix, NDArray[np.bool_]]]) -> Report:
    """Recall at 1 and 10 and the median rank of the own counterpart among those of all entities, by cosine.

    Candidates with the same cosine stand before the right one as often as behind it: half of them count.

    Parameters
    ----------
    projected : of each view, (n, dim) vectors of the same n entities in one space, and (n,) which of them it has.

    Returns
    -------
    Scores, each the mean over all directions `A>B` (a query in A, candidates in B), then of each direction:
    `recall@10` (headline), `recall@1`, `median_rank`; `chance` is that of recall@10. Notes: n of each direction.

    Raises
    ------
    InputError : no two views have two entities in common.
    """
    ranks: dict[str, NDArray[np.float64]] = {}
    for a, b in permutations(projected, 2):
        (left, has), (right, have) = projected[a], projected[b]
        both = has & have
        if both.sum() > 1:
            ranks[f"{a}>{b}"] = _ranks(left[both], right[both])
    if not ranks:
        raise InputError(
            f"Got the views {', '.join(projected)}, no two of which have two entities in common; expected counterparts to find."
        )
    chances = [min(1.0, 10 / len(found)) for found in ranks.values()]
    scores = [
        Score("recall@10", _mean([_recall(found, 10) for found in ranks.values()])),
        Score("chance", _mean(chances)),
        Score("recall@1", _mean([_recall(found, 1) for found in ranks.values()])),
        Score("median_rank", _mean([float(np.median(found)) for found in ranks.values()])),
    ]
    for way, found in ranks.items():
        for k in (10, 1):
            hits = int((found <= k).sum())
            scores.append(Score(f"recall@{k}[{way}]", hits / len(found), *wilson(hits, len(found))))
        scores.append(Score(f"median_rank[{way}]", float(np.median(found))))
    counts = {way: len(found) for way, found in ranks.items()}
    return Report(tuple(scores), {"n": max(counts.values()), "directions": counts})


def _ranks(queries: Matrix, candidates: Matrix) -> NDArray[np.float64]:
    """(n,) the rank of row i among the candidates of query i, from 1."""
    left, right = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (queries, candidates)
    )
    found = np.empty(len(left))
    with one_thread():
        for first in range(0, len(left), 1024):
            likeness = left[first : first + 1024] @ right.T
            own = likeness[np.arange(len(likeness)), first + np.arange(len(likeness))][:, None]
            equal = np.abs(likeness - own) <= 1e-6
            above = ((likeness > own) & ~equal).sum(axis=1)
            found[first : first + 1024] = 1 + above + (equal.sum(axis=1) - 1) / 2
    return found


def _recall(ranks: NDArray[np.float64], k: int) -> float:
    return float((ranks <= k).mean())


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
