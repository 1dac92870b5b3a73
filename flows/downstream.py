"""The evaluation `downstream`: what the rows of a table tell of its target, against one-hot, learned anew in each fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedders.base import Embedder, Sides
from embedders.errors import InputError
from embedders.table.coding import Coding
from embedders.table.one_hot import OneHotRows, OneHotVectors
from embedders.tables import Table
from evaluation.base import Report
from evaluation.downstream import Features
from evaluation.downstream import downstream as score
from storage.digests import DigestCache
from storage.space import Version

if TYPE_CHECKING:
    from flows.evaluations import Downstream
    from flows.pipeline import Pipeline


def downstream(pipeline: Pipeline, version: Version, evaluation: Downstream) -> Report:
    """Judge the recipe of a version on the dataset it was made from, beside one-hot rows.

    The vectors of the version are not looked at, as they may have learned from every row's target: in each fold the recipe
    learns from the training rows alone, and from no start.

    Raises
    ------
    InputError : the dataset has changed since.
    """
    space = version.manifest.space
    spec, cache = pipeline.dataset(space), version.paths.cache
    scan = spec.scan(pipeline.base, DigestCache(cache))
    if scan.digest != version.manifest.dataset_digest:
        raise InputError(
            f"Got {space} @ {version.number}, made from the dataset {version.manifest.dataset!r} before it changed; expected what it "
            "is now. Do: polyvec run."
        )
    recipe = pipeline.recipe(space)
    features = {"vectors": learned(recipe, version.manifest.side)}
    if not isinstance(recipe, OneHotRows) or recipe.buckets:
        features["one_hot"] = one_hot
    data = spec.read(scan, Table, cache=cache)
    return score(data, features, folds=evaluation.folds, rows=evaluation.rows, seed=evaluation.seed)


def learned(recipe: Embedder[Any], side: str) -> Features:
    """The vectors of rows by what a recipe learns from others."""

    def features(known: Table, new: Table) -> tuple[Any, Any]:
        encoder = recipe.fit(known)
        if isinstance(encoder, Sides):
            encoder = encoder.sides[side]
        if isinstance(encoder, OneHotVectors):  # mostly zeros, which would not fit into memory
            return encoder.sparse(known), encoder.sparse(new)
        found = []
        for data in (known, new):
            place = {row: i for i, row in enumerate(data.ids)}
            matrix = np.zeros((len(data), encoder.dim), np.float32)  # of a rejected row they stay 0
            for batch in encoder.encode(data):
                matrix[[place[row] for row in batch.vectors.ids]] = batch.vectors.matrix
            found.append(matrix)
        return found[0], found[1]

    return features


def one_hot(known: Table, new: Table) -> tuple[Any, Any]:
    """Sparse one-hot rows, of any width."""
    encoder = OneHotVectors(OneHotRows.model_validate({}), Coding.of(known, 1))
    return encoder.sparse(known), encoder.sparse(new)
