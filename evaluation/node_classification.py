"""Which labels a node has, read from its vector: the protocol of DeepWalk (Perozzi et al. 2014, arXiv:1403.6652)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from evaluation.base import Report, Score, size, wilson
from evaluation.matching import memberships

PARTS = ("train", "val", "test")

Marks = NDArray[np.bool_]
Rows = NDArray[np.int64]


def node_classification(
    vectors: Vectors,
    labels: Mapping[str, Sequence[str]],
    *,
    train: float | Sequence[float] = 0.5,
    repeats: int = 10,
    seed: int = 0,
    split: Mapping[str, str] | None = None,
    trivial: Mapping[str, NDArray[np.floating]] | None = None,
) -> Report:
    """Micro and macro F1 of one-vs-rest logistic regression (L2, C=1, intercept regularised as in liblinear).

    Vectors are taken as they are, not scaled. Where no id has two labels, the likeliest is predicted, and micro F1 is
    accuracy. Else the protocol tells how many labels a node has, and that many of the likeliest are predicted.

    Parameters
    ----------
    vectors : n rows; those without a label are left out.
    labels : the labels of each id, at least one.
    train : share or shares of the labelled rows to train on; the rest is tested.
    repeats : random splits for each share. seed : of the splits; the same seed, the same numbers.
    split : the part of each id, "train", "val" or "test", instead of random splits; "val" and ids without a part are
        not used.
    trivial : baselines by name ("degrees"), each (n, d) and finite, aligned with `vectors.ids`.

    Returns
    -------
    Scores `micro_f1` and `macro_f1` (means over repeats), `majority` (micro F1 of always predicting the labels most
    frequent in training), `micro_f1[NAME]` for each baseline; of several shares all these are of the largest, and
    `micro_f1[SHARE]`, `macro_f1[SHARE]` stand beside for each. Intervals (95 %) are of the mean over random splits that
    overlap (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366); Wilson's for one split of single labels. Macro F1 is
    the mean over classes as scikit-learn's: of several labels, a class neither had nor predicted counts 0. Notes: the
    counts, `multi_label`, what was asked, `spread` (standard deviation of micro F1 over repeats, by share),
    `not_converged` where a solver stopped early, and the `sizes` of the vectors and the baselines.

    Raises
    ------
    InputError : no id has both a vector and a label; fewer than two classes; a share is not between 0 and 1; a part has
        another name or no row; a baseline has the wrong shape.
    """
    found = memberships(vectors, labels)
    if len(found.classes) < 2:
        raise InputError(
            f"Got {len(found.classes)} class, {found.classes[0]!r}, in {len(found.rows)} labelled vectors; expected at least two."
        )
    asked: dict[str, Any]
    ways: dict[float, list[tuple[Rows, Rows]]]
    if split is None:
        shares = sorted({train} if isinstance(train, int | float) else set(train))
        ways = {share: list(_random(len(found.rows), share, repeats, seed)) for share in shares}
        asked = {"train": shares, "repeats": repeats, "seed": seed}
    else:
        parts = _given([vectors.ids[row] for row in found.rows], split)
        ways = {1.0: [(parts["train"], parts["test"])]}
        asked = {"split": {name: len(rows) for name, rows in parts.items()}}
    multi_label = bool((found.marks.sum(axis=1) > 1).any())
    unfinished: dict[str, int] = {}

    def measured(name: str, matrix: NDArray[np.floating], share: float) -> NDArray[np.float64]:
        scores, stopped = _scores(matrix[found.rows], found.marks, ways[share], multi_label)
        if stopped:
            unfinished[name] = unfinished.get(name, 0) + stopped
        return scores

    every = {share: measured("vectors", vectors.matrix, share) for share in ways}
    top = max(ways)
    scores = [*_summary("", every[top], ways[top], multi_label)]
    scores.append(Score("majority", float(np.mean([_majority(found.marks, *way, multi_label) for way in ways[top]]))))
    baselines = {name: _checked(name, matrix, len(vectors)) for name, matrix in (trivial or {}).items()}
    for name, matrix in baselines.items():
        scores += _summary(f"[{name}]", measured(name, matrix, top), ways[top], multi_label)[:1]
    if len(ways) > 1:
        for share, values in every.items():
            scores += _summary(f"[{share:g}]", values, ways[share], multi_label)
    notes = {
        **found.notes,
        **asked,
        "multi_label": multi_label,
        "baselines": list(baselines),
        "sizes": {"vectors": size(vectors.matrix)} | {name: size(matrix) for name, matrix in baselines.items()},
    }
    if split is None and repeats > 1:
        notes["spread"] = {f"{share:g}": float(values[:, 0].std(ddof=1)) for share, values in every.items()}
    if unfinished:
        notes["not_converged"] = unfinished
    return Report(tuple(scores), notes)


def _random(n: int, share: float, repeats: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Rows to train on and to test; of each repeat, smaller shares are parts of larger ones."""
    if not 0 < share < 1:
        raise InputError(f"Got train {share}; expected a share above 0 and below 1, such as 0.9.")
    if repeats < 1:
        raise InputError(f"Got repeats {repeats}; expected at least 1.")
    cut = round(share * n)
    if not 0 < cut < n:
        raise InputError(
            f"Got {n} labelled vectors, of which {share:g} are {cut}; expected some to train on and some to test."
        )
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(n)
        yield order[:cut], order[cut:]


def _given(ids: Sequence[str], split: Mapping[str, str]) -> dict[str, Rows]:
    if strange := sorted(set(split.values()) - set(PARTS)):
        raise InputError(f"Got the part {strange[0]!r} of a split; expected one of {', '.join(PARTS)}.")
    mine = np.array([split.get(name, "") for name in ids])
    parts = {name: np.flatnonzero(mine == name) for name in PARTS}
    for name in ("train", "test"):
        if not len(parts[name]):
            raise InputError(f"Got no labelled vector in the part {name!r} of the split; expected some. Check the ids.")
    return parts


def _scores(
    matrix: NDArray[np.floating], marks: Marks, ways: Sequence[tuple[Rows, Rows]], multi_label: bool
) -> tuple[NDArray[np.float64], int]:
    """(splits, 2) micro and macro F1, and in how many splits the solver stopped early."""
    import scipy.linalg
    import scipy.optimize  # noqa: F401  (so that the limit finds its BLAS)

    from evaluation.one_vs_rest import fit

    scores = np.empty((len(ways), 2))
    stopped = 0
    with one_thread():
        for i, (train, test) in enumerate(ways):
            model = fit(matrix[train], marks[train])
            stopped += not model.converged
            scores[i] = _f1(marks[test], _predicted(model.decide(matrix[test]), marks[test], multi_label), multi_label)
    return scores, stopped


def _predicted(likely: NDArray[np.floating], truth: Marks, multi_label: bool) -> Marks:
    """(n, classes): as many of the likeliest as the row has; ties go to the first."""
    best = np.argsort(-likely, axis=1, kind="stable")
    rank = np.empty_like(best)
    np.put_along_axis(rank, best, np.arange(likely.shape[1])[None, :], axis=1)
    guess: Marks = rank < (truth.sum(axis=1, keepdims=True) if multi_label else 1)
    return guess


def _f1(truth: Marks, guess: Marks, multi_label: bool) -> tuple[float, float]:
    hits, both = (truth & guess).sum(axis=0), truth.sum(axis=0) + guess.sum(axis=0)
    each = np.divide(2 * hits, both, out=np.zeros(len(both)), where=both > 0)
    return float(2 * hits.sum() / both.sum()), float((each if multi_label else each[both > 0]).mean())


def _majority(marks: Marks, train: Rows, test: Rows, multi_label: bool) -> float:
    often = np.broadcast_to(marks[train].sum(axis=0, dtype=np.float64), (len(test), marks.shape[1]))
    return _f1(marks[test], _predicted(often, marks[test], multi_label), multi_label)[0]


def _summary(
    suffix: str, values: NDArray[np.float64], ways: Sequence[tuple[Rows, Rows]], multi_label: bool
) -> list[Score]:
    n = len(ways[0][1])
    ends: list[tuple[float | None, float | None]]
    if len(ways) > 1:
        ends = [_interval(column, n / len(ways[0][0])) for column in values.T]
    else:
        ends = [(None, None) if multi_label else wilson(round(values[0, 0] * n), n), (None, None)]
    means = values.mean(axis=0).tolist()
    return [
        Score(name + suffix, mean, *end) for name, mean, end in zip(("micro_f1", "macro_f1"), means, ends, strict=True)
    ]


def _interval(values: NDArray[np.float64], test_to_train: float) -> tuple[float, float]:
    """The 95 % interval of the mean over random splits, whose training rows overlap."""
    from scipy.stats import t

    j = len(values)
    reach = float(t.ppf(0.975, j - 1)) * sqrt((1 / j + test_to_train) * values.var(ddof=1))
    mean = float(values.mean())
    return max(0.0, mean - reach), min(1.0, mean + reach)


def _checked(name: str, matrix: NDArray[np.floating], n: int) -> NDArray[np.floating]:
    if matrix.ndim != 2 or len(matrix) != n or not matrix.shape[1] or not np.isfinite(matrix).all():
        raise InputError(
            f"Got the baseline {name!r} of shape {matrix.shape}; expected ({n}, d) finite numbers, one row for each vector."
        )
    return matrix
