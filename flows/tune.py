"""`tune:` of a space: a grid of parameters, of which trials choose."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LIMIT = 1000
"""Trials of one space, at most."""


class Tune(BaseModel):
    """Parameters that are chosen by trials: one of each combination of the grid, judged by one score."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(
        min_length=1,
        description="what trials are judged by: an evaluation of the space and one of its scores, such as wordsim.spearman; the name alone: its headline",
    )
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        min_length=1, description="values to try, by parameter; one in another is written with a dot: train.lr"
    )
    direction: Literal["maximize", "minimize"] = Field("maximize", description="which score is the better one")
    trials: int | None = Field(
        None, ge=1, le=LIMIT, strict=True, description="at most so many combinations, drawn at random; without it, all"
    )
    seed: int = Field(0, ge=0, strict=True, description="of the draw")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.size > sys.maxsize:
            raise ValueError(f"at most {sys.maxsize:,} combinations to draw from; take values out")
        if self.trials is None and self.size > LIMIT:
            raise ValueError(f"at most {LIMIT:,} combinations; add trials: N to draw some of these {self.size:,}")
        return self

    @property
    def size(self) -> int:
        """Combinations in the grid."""
        return math.prod(map(len, self.grid.values()))

    def combinations(self) -> list[dict[str, Any]]:
        """The values of each trial, by parameter; the last parameter changes fastest.

        >>> Tune(metric="m", grid={"dim": [2, 3], "lr": [0.1]}).combinations()
        [{'dim': 2, 'lr': 0.1}, {'dim': 3, 'lr': 0.1}]
        """
        numbers: Any = range(self.size)
        if self.trials is not None and self.trials < self.size:  # random search (Bergstra and Bengio 2012)
            numbers = sorted(random.Random(self.seed).sample(numbers, self.trials))
        return [self._at(number) for number in numbers]

    def first(self) -> dict[str, Any]:
        """The first combination of the grid."""
        return self._at(0)

    def _at(self, number: int) -> dict[str, Any]:
        found = {}
        for name, values in reversed(self.grid.items()):
            number, place = divmod(number, len(values))
            found[name] = values[place]
        return dict(reversed(found.items()))


def merged(params: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with the values of a trial in them.

    >>> merged({"train": {"epochs": 2}}, {"train.lr": 0.1, "dim": 3})
    {'train': {'epochs': 2, 'lr': 0.1}, 'dim': 3}
    """
    found = deepcopy(dict(params))
    for name, value in values.items():
        *folders, last = name.split(".")
        inner = found
        for folder in folders:
            below = inner.get(folder)
            inner[folder] = inner = below if isinstance(below, dict) else {}
        inner[last] = value
    return found


def split_metric(metric: str, evaluations: Mapping[str, Any]) -> tuple[str, str] | None:
    """The evaluation that `NAME.METRIC` names, and the score, "" for its headline; None when none is so called.

    >>> split_metric("ranking.ndcg@10", {"ranking": ...}), split_metric("a.b", {"a": ..., "a.b": ...})
    (('ranking', 'ndcg@10'), ('a.b', ''))
    """
    named = [name for name in evaluations if metric == name or metric.startswith(f"{name}.")]
    if not named:
        return None
    name = max(named, key=len)
    return name, metric[len(name) + 1 :]


def shown(values: Mapping[str, Any]) -> str:
    """The values of a trial for people.

    >>> shown({"dim": 2, "model": "cbow"})
    'dim=2, model=cbow'
    """
    return ", ".join(f"{name}={value}" for name, value in values.items())
