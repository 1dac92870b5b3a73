"""Warm start: where training begins when a previous or pretrained encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embedders.base import Encoder, Matrix
from embedders.errors import InputError


def start_rows(start: Encoder[Any], data: Any, ids: Sequence[str], dim: int) -> Matrix:
    """(len(ids), dim) float32: the start encoder's vector of each id, NaN where it knows none.

    Raises
    ------
    InputError : its dimension is not `dim`.
    """
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
    return rows
