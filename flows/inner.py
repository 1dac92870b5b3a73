"""Evaluations that can judge a recipe inside its training data, so that trials never see what is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evaluation.base import Report
from flows.pipeline import Pipeline

Judge = Callable[[Pipeline, str, Any], Report]
"""Of a pipeline, a space and an entry of `evaluate:`: judges `pipeline.recipe(space)` and commits nothing."""

INSIDE: Mapping[str, Judge] = {}
"""By the metric of the entry. Trials judged by any other are made into a version, which is judged and deleted."""
