"""Baskets of items that stood beside each other: all of a user's, or those of a session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PositiveFloat

from embedders.errors import InputError
from embedders.interactions import Interactions

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> Any:
    """A length of time such as 30min as seconds; what is no text stays.

    >>> seconds("30min"), seconds("1.5 h"), seconds(90)
    (1800.0, 5400.0, 90)
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(s|min|h|d)", value.strip())
    if found is None:
        raise ValueError(f"got {value!r}; expected seconds, or a number and one of {', '.join(UNITS)}, such as 30min")
    return float(found[1]) * UNITS[found[2]]


Duration = Annotated[PositiveFloat, BeforeValidator(seconds)]


@dataclass(frozen=True, eq=False)
class Baskets:
    """Items of baskets, one after the other. items: (n,) int32; offsets: (baskets + 1,) int64, where each begins."""

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]


def baskets(data: Interactions, gap: float | None, *, ordered: bool) -> Baskets:
    """The baskets of two items and more.

    Parameters
    ----------
    gap : seconds without an event of its user after which a basket ends; None: each user has one basket.
    ordered : in order of time, no item twice in a row; else no item twice.

    Raises
    ------
    InputError : there is a gap and no time, or no basket holds two items.
    """
    if gap is not None and data.time is None:
        raise InputError(
            "Got session_gap for events without a time; expected one. Name its column under `columns:`, or leave session_gap out."
        )
    order = np.argsort(data.user, kind="stable")
    user, item = data.user[order], data.item[order]
    begins = np.ones(len(order), bool)
    begins[1:] = user[1:] != user[:-1]
    if gap is not None and data.time is not None:
        begins[1:] |= np.diff(data.time[order]) > gap
    basket = np.cumsum(begins) - 1
    if ordered:
        begins[1:] |= item[1:] != item[:-1]
        basket, item = basket[begins], item[begins]
    else:
        pairs = np.unique(basket * len(data.items) + item)
        basket, item = pairs // len(data.items), (pairs % len(data.items)).astype(np.int32)
    counts = np.bincount(basket)
    kept = counts[basket] > 1
    if not kept.any():
        what = "of one user" if gap is None else f"of one user, no longer than {gap:g} seconds apart,"
        raise InputError(f"Got no two items {what}; expected some. Vectors come from items that stand together.")
    offsets = np.concatenate([[0], np.cumsum(counts[counts > 1])]).astype(np.int64)
    return Baskets(np.ascontiguousarray(item[kept]), offsets)
