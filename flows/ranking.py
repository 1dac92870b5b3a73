"""Ranking: a recipe is trained anew on part of the events, and judged by the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedders.base import Embedder, Encoder, Sides, Vectors
from embedders.errors import InputError
from embedders.interactions import Interactions
from evaluation.base import Report
from flows.labels import read_dataset

if TYPE_CHECKING:
    from flows.evaluations import Ranking
    from flows.pipeline import Pipeline

SIDES = ("users", "items")


def rank(
    pipeline: Pipeline, space: str, recipe: Embedder[Any], evaluation: Ranking, *, inner: bool = False, data: Interactions | None = None
) -> Report:  # fmt: skip
    """Judge what a recipe learns from part of the events of a space's dataset by the events held out.

    No version is needed, and none is looked at: a vector that was learned from all events would know the answers. So
    training begins at random, also where the space has a `start`.

    Parameters
    ----------
    space : it or its entry tells the dataset.
    recipe : of that space, or another of users and items. The i-th repeat has the seed `recipe.seed + i`, and the split
        `evaluation.seed + i`.
    inner : split what is left to train on once more by the same rule, and judge by that, so that who chooses by it never
        sees the events that are reported.
    data : the dataset, where it is read already.

    Returns
    -------
    The report of `evaluation.ranking.ranking`, averaged over the repeats.

    Raises
    ------
    InputError : the dataset cannot be split, or the recipe does not learn users and items.
    """
    from evaluation.holding_out import hold_out, trimmed
    from evaluation.ranking import averaged, ranking

    events = read_dataset(pipeline, space, Interactions) if data is None else data
    reports = []
    for turn in range(evaluation.repeats):
        seed = evaluation.seed + turn
        split = hold_out(events, evaluation.split, share=evaluation.share, seed=seed)
        if inner:
            split = hold_out(split.train, evaluation.split, share=evaluation.share, seed=seed)
        train = trimmed(split.train)
        fitted = recipe.model_copy(update={"seed": recipe.seed + turn}).fit(train)
        if not isinstance(fitted, Sides) or set(fitted.sides) != set(SIDES):
            raise InputError(f"Got {recipe.kind!r}; expected an embedder of users and items, as ranking compares both.")
        users, items = (_vectors(fitted.sides[side], train) for side in SIDES)
        similarity = fitted.sides[SIDES[0]].similarity
        reports.append(
            ranking(users, items, split, k=evaluation.k, similarity=similarity, at_most=evaluation.users, seed=seed)
        )
    return averaged(reports)


def _vectors(encoder: Encoder[Any], data: Interactions) -> Vectors:
    """All rows of a side."""
    batches = [batch.vectors for batch in encoder.encode(data) if len(batch.vectors)]
    ids = [name for batch in batches for name in batch.ids]
    matrix = np.concatenate([batch.matrix for batch in batches]) if batches else np.empty((0, encoder.dim), np.float32)
    return Vectors(encoder.entity, ids, matrix)
