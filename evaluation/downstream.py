"""How well a linear model tells the target of a table from the vectors of its rows, learned anew in each fold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.tables import Table
from evaluation.base import Report, Score, size, wilson
from evaluation.knn import macro_f1

Features = Callable[[Table, Table], tuple[Any, Any]]
"""From rows to learn from and others, the features of both, (n, d) arrays or sparse matrices in compressed rows.
It must take nothing else from the others: they are given without a target."""
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Of the penalty on the weights; for each fold and kind of features the one that tells a fifth of its training rows best,
learned from the rest of them."""
MAX_ITERATIONS = 300
FEWEST = 10
"""Rows that are judged: of fewer, no fifth could be set aside."""


def downstream(
    data: Table, features: Mapping[str, Features], *, folds: int = 5, rows: int = 100_000, seed: int = 0
) -> Report:
    """Ridge regression, or logistic regression where the target is a class, on rows that nothing was learned from.

    In each fold, features are learned from its training rows alone and the others are encoded by what was learned: a
    space that learned from the target knows it of the rows it was trained on, and scored on these would only show that.
    The strength of the penalty is chosen in the same way within the training rows, so that features are learned twice a
    fold.

    Parameters
    ----------
    data : with a target; rows without one are left out.
    features : by name; the first are judged, the others are the baselines.
    folds : at least 2; of classes each holds its share.
    rows : looked at most; drawn where there are more.
    seed : of the folds and the draw.

    Returns
    -------
    Numbers: scores `r2` and `rmse` (in units of the target), `rmse[mean]`, and both for each baseline. Classes:
    `accuracy` (with Wilson's 95 % interval), `macro_f1`, `majority`, and `accuracy[NAME]` for each baseline. Taken from
    the predictions of all folds together. Notes: `n`, `sizes` of features, `strengths` chosen in each fold.

    Raises
    ------
    InputError : there is no target, or it does not vary enough for the folds.
    """
    chosen = np.flatnonzero(data.answered)
    dropped: dict[str, int] = {}
    if data.classes is not None and data.target is not None:
        counts = np.bincount(data.target[chosen], minlength=len(data.classes))
        few = np.flatnonzero((counts > 0) & (counts < folds)).tolist()
        dropped = {data.classes[i]: int(counts[i]) for i in few}
        chosen = chosen[counts[data.target[chosen]] >= folds]
    if len(chosen) > rows:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, rows, replace=False))
    target = np.zeros(0) if data.target is None else data.target[chosen]
    least = max(2 * folds, FEWEST)
    if len(target) < least or (target == target[0]).all():
        raise InputError(
            f"Got {len(target):,} rows with {len(np.unique(target)):,} values of the target {data.target_column!r} to judge; expected at "
            f"least {least} rows and two values, each class in {folds} rows. Name another target, or give more rows."
        )
    model = _Classes(folds) if data.classes is not None else _Numbers(folds)
    found = {name: _out_of_fold(data, chosen, target, of, model, folds, seed) for name, of in features.items()}
    names = list(features)
    notes = {
        "n": len(target), "rows_without_target": int((~data.answered).sum()), "folds": folds, "dropped_classes": dropped,
        "baselines": names[1:],
        "sizes": {("vectors" if i == 0 else name): _whole(found[name].sizes, len(data)) for i, name in enumerate(names)},
        "strengths": {name: found[name].strengths for name in names},
    }  # fmt: skip
    return Report(tuple(model.scores(target, {name: fold.guess for name, fold in found.items()})), notes)


@dataclass(frozen=True, eq=False)
class _Found:
    """Out-of-fold predictions, what features cost, and the strengths chosen."""

    guess: NDArray[Any]
    sizes: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)


def _out_of_fold(
    data: Table, chosen: NDArray[np.int64], target: NDArray[Any], features: Features, model: Any, folds: int, seed: int
) -> _Found:
    """Predictions of each fold; its strength is chosen among its training rows as it is then used, on rows that are new."""

    def learned(known: NDArray[np.int64], new: NDArray[np.int64]) -> tuple[Any, Any]:
        return features(data.select(chosen[known]), replace(data.select(chosen[new]), target=None, classes=None))

    found = _Found(np.empty(len(target), target.dtype))
    for train, test in model.split(target, seed):
        order = train[np.random.default_rng([seed, 1]).permutation(len(train))]
        inner, outer = model.aside(order, target)
        strength = STRENGTHS[len(STRENGTHS) // 2]
        if len(outer):
            known, new = _scaled(*learned(inner, outer))
            with one_thread():
                losses = [
                    model.loss(model.fit(known, target[inner], strength), new, target[outer]) for strength in STRENGTHS
                ]
            strength = STRENGTHS[int(np.argmin(losses))]
        known, new = learned(train, test)
        found.sizes.append((known.shape[0], size(known)))
        known, new = _scaled(known, new)
        with one_thread():
            found.guess[test] = model.fit(known, target[train], strength).predict(new)
        found.strengths.append(strength)
    return found


def _scaled(known: Any, new: Any) -> tuple[Any, Any]:
    """Features whose rows have a mean square of 1, dense ones around their mean, so that a strength means the same to all.

    One scale for all columns: the lengths of vectors mean something.
    """
    if hasattr(known, "indptr"):
        scale = max(float(np.sqrt(np.square(known.data, dtype=np.float64).sum() / known.shape[0])), 1e-12)
        return known / scale, new / scale
    known, new = known.astype(np.float64), new.astype(np.float64)
    mean = known.mean(axis=0)
    scale = max(float(np.sqrt(((known - mean) ** 2).sum(axis=1).mean())), 1e-12)
    return (known - mean) / scale, (new - mean) / scale


def _whole(sizes: list[tuple[int, dict[str, int]]], rows: int) -> dict[str, int]:
    """What the features of the widest fold would cost for all rows."""
    trained, cost = max(sizes, key=lambda found: found[1]["dim"])
    grown = {name: round(value * rows / max(trained, 1)) for name, value in cost.items() if name != "dim"}
    return {"dim": cost["dim"], **grown}


class _Numbers:
    """Ridge regression."""

    def __init__(self, folds: int) -> None:
        self.folds = folds

    def split(self, target: NDArray[Any], seed: int) -> Any:
        from sklearn.model_selection import KFold

        return KFold(self.folds, shuffle=True, random_state=seed).split(target)

    def aside(self, order: NDArray[np.int64], target: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to learn from while the strength is chosen, and the first fifth, which says how well; both sorted."""
        return np.sort(order[len(order) // 5 :]), np.sort(order[: len(order) // 5])

    def fit(self, known: Any, target: NDArray[Any], strength: float) -> Any:
        from sklearn.linear_model import Ridge

        solver = "sparse_cg" if hasattr(known, "indptr") else "auto"
        return Ridge(alpha=strength, solver=solver).fit(known, target.astype(np.float64))

    def loss(self, model: Any, rows: Any, target: NDArray[Any]) -> float:
        return float(((model.predict(rows) - target) ** 2).mean())

    def scores(self, target: NDArray[Any], guesses: Mapping[str, NDArray[Any]]) -> list[Score]:
        wide = target.astype(np.float64)
        spread = float(wide.var())
        squares = {name: float(((guess - wide) ** 2).mean()) for name, guess in guesses.items()}
        first, *others = squares
        found = [Score("r2", 1 - squares[first] / spread), Score("rmse", squares[first] ** 0.5)]
        for name in others:
            found.append(Score(f"r2[{name}]", 1 - squares[name] / spread))
            found.append(Score(f"rmse[{name}]", squares[name] ** 0.5))
        return [*found, Score("rmse[mean]", spread**0.5)]


class _Classes:
    """Logistic regression."""

    def __init__(self, folds: int) -> None:
        self.folds = folds

    def split(self, target: NDArray[Any], seed: int) -> Any:
        from sklearn.model_selection import StratifiedKFold

        return StratifiedKFold(self.folds, shuffle=True, random_state=seed).split(target, target)

    def aside(self, order: NDArray[np.int64], target: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As of numbers; but a class that only the fifth would hold gives one row back, so that all are learned."""
        cut = len(order) // 5
        held = np.isin(target[order[:cut]], target[order[cut:]], invert=True)
        _, first = np.unique(target[order[:cut]], return_index=True)
        back = np.zeros(cut, bool)
        back[first] = held[first]
        return np.sort(np.concatenate([order[cut:], order[:cut][back]])), np.sort(order[:cut][~back])

    def fit(self, known: Any, target: NDArray[Any], strength: float) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=1 / strength, max_iter=MAX_ITERATIONS).fit(known, target)

    def loss(self, model: Any, rows: Any, target: NDArray[Any]) -> float:
        shares = np.full((len(target), int(max(target.max(), model.classes_.max())) + 1), 1e-12)
        shares[:, model.classes_] = model.predict_proba(rows)
        return float(-np.log(np.maximum(shares[np.arange(len(target)), target], 1e-12)).mean())

    def scores(self, target: NDArray[Any], guesses: Mapping[str, NDArray[Any]]) -> list[Score]:
        first, *others = guesses
        hits = {name: int((guess == target).sum()) for name, guess in guesses.items()}
        found = [
            Score("accuracy", hits[first] / len(target), *wilson(hits[first], len(target))),
            Score("macro_f1", macro_f1(target.astype(np.int64), guesses[first].astype(np.int64))),
            Score("majority", float(np.bincount(target).max() / len(target))),
        ]
        for name in others:
            found.append(Score(f"accuracy[{name}]", hits[name] / len(target), *wilson(hits[name], len(target))))
        return found
