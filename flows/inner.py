"""Evaluations that can judge a recipe inside its training data, so that trials never see what is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evaluation.base import Report
from flows.pipeline import Pipeline

Judge = Callable[[Pipeline, str, Any], Report]
"""Of a pipeline, a space and an entry of `evaluate:`: judges `pipeline.recipe(space)`, and commits nothing."""


def _ranking(pipeline: Pipeline, space: str, evaluation: Any) -> Report:
    from flows.ranking import rank

    return rank(pipeline, space, pipeline.recipe(space), evaluation, inner=True)


INSIDE: Mapping[str, Judge] = {"ranking": _ranking}
"""By the metric of the entry. A trial judged by any other is made into a version, which is judged and deleted."""
