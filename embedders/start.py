"""Warm start: where training begins when a previous or pretrained encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embedders.base import Encoder, Matrix
from embedders.errors import InputError

LONGEST = 0.5
"""Mean length that vectors begin at. Scores of what is trained further are best when they begin between the 0.04 of a
random start and the 2 that skip-gram ends at; longer ones hold against what is to be learned, and grow with each
training that goes on from the one before (benchmarks/NOTES.md)."""


def start_rows(start: Encoder[Any], data: Any, ids: Sequence[str], dim: int, *, longest: float | None = None) -> Matrix:
    """(len(ids), dim) float32: the start encoder's vector of each id, NaN where it knows none.

    longest : if their mean length is more, all of them are scaled by one number, which changes no cosine.

    Raises
    ------
    InputError : its dimension is not `dim`, or it encodes data of another kind.
    """
    if start.recipe.inductive and not isinstance(data, start.recipe.data):
        raise InputError(
            f"Got a start that makes {start.entity} vectors of {start.recipe.data.__name__}; expected one that holds vectors, "
            "such as a space of words. Choose another start."
        )
    if start.dim != dim:
        raise InputError(
            f"Got a start of dimension {start.dim}; expected {dim}. Set dim: {start.dim}, or choose another start."
        )
    rows = np.full((len(ids), dim), np.nan, np.float32)
    place = {name: i for i, name in enumerate(ids)}
    for batch in start.encode(data):
        pairs = [(place[name], i) for i, name in enumerate(batch.vectors.ids) if name in place]
        if pairs:
            into, out_of = np.array(pairs).T
            rows[into] = batch.vectors.matrix[out_of]
    known = ~np.isnan(rows[:, 0])
    if longest is not None and known.any():
        mean = float(np.sqrt(np.einsum("ij,ij->i", rows, rows)[known]).mean())
        rows *= np.float32(min(1.0, longest / max(mean, 1e-30)))
    return rows


def check_freeze(freeze: bool, start: Encoder[Any] | None) -> None:
    """Refuse to keep vectors that are not given.

    Raises
    ------
    InputError : `freeze` without a start.
    """
    if freeze and start is None:
        raise InputError("Got freeze: true and no start; expected vectors to keep. Give a start, or leave freeze out.")


def picked(names: Sequence[Any], rows: Matrix, wanted: Sequence[Any]) -> Matrix:
    """(len(wanted), dim) the row of each wanted name, NaN where there is none."""
    place = {name: i for i, name in enumerate(names)}
    out = np.full((len(wanted), rows.shape[1]), np.nan, np.float32)
    pairs = np.array([(i, place[name]) for i, name in enumerate(wanted) if name in place], np.int64).reshape(-1, 2)
    out[pairs[:, 0]] = rows[pairs[:, 1]]
    return out
