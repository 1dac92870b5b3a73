"""What is wrong with `tune:` in a pipeline file, beyond its form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from embedders.base import Embedder
from embedders.errors import InputError
from flows.trials import judged_by
from flows.tune import Tune, merged
from flows.yaml_file import explain

if TYPE_CHECKING:
    from flows.pipeline import Pipeline, SpaceSpec

Problem = tuple[tuple[str | int, ...], str]

SCORES: Mapping[str, tuple[str, ...]] = {
    "label_probe": ("accuracy", "macro_f1", "majority"),
    "neighbours": ("same_label", "chance"),
    "knn": ("accuracy", "macro_f1", "majority"),
    "retrieval": ("map", "r_precision", "chance"),
    "near_duplicates": ("share", "exact_share", "pairs", "exact_groups"),
    "node_classification": ("micro_f1", "macro_f1", "majority"),
    "link_prediction": ("auc", "average_precision"),
    "word_similarity": ("spearman", "coverage"),
    "analogies": ("accuracy", "coverage", "section"),
}
"""What evaluations give, by their metric, without what may stand in brackets; the first trial finds out of others."""


def tune_problems(pipeline: Pipeline, name: str, spec: SpaceSpec, kind: type[Embedder[Any]]) -> Iterator[Problem]:
    """What is wrong with the metric and with the grid of an entry; kind : its embedder."""
    if spec.tune is None:
        return
    place = ("spaces", name, "tune")
    try:
        _space, evaluation, score = judged_by(pipeline, name)
        gives = SCORES.get(evaluation.metric, ())
        if score and gives and re.split(r"[\[]", score)[0] not in gives:
            yield (
                (*place, "metric"),
                f"got {spec.tune.metric!r}; the evaluation {evaluation.name!r} gives {', '.join(gives)}. Name one of these.",
            )
    except InputError as error:
        yield (*place, "metric"), str(error)
    grid = spec.tune.grid
    for parameter, values in grid.items():
        at = (*place, "grid", parameter)
        if parameter in spec.params:
            yield at, f"got {parameter} in params, too; expected it in one of both. Take it out of params."
        written = [json.dumps(value, sort_keys=True, default=str) for value in values]
        if twice := next((text for text in written if written.count(text) > 1), None):
            yield at, f"got {twice} twice; expected different values. Take one out."
    found = dict(_invalid(place, spec, kind))
    yield from found.items()
    if not found:
        yield from _idle(pipeline, name, spec, kind)


def _invalid(place: tuple[str, ...], spec: SpaceSpec, kind: type[Embedder[Any]]) -> Iterator[Problem]:
    """Values that the embedder does not take, each parameter once."""
    assert spec.tune is not None
    for values in reversed(spec.tune.combinations()):  # of several messages about a parameter, the first one stays
        try:
            kind.model_validate(merged(spec.params, values))
        except ValidationError as error:
            for found in error.errors():
                if parameter := of_grid(spec.tune, found["loc"]):
                    yield (*place, "grid", parameter), explain(found, kind, found["loc"])
                elif not found["loc"]:  # each alone is right
                    yield (*place, "grid"), explain({**found, "input": values}, kind, ())


def of_grid(tune: Tune, place: Sequence[str | int]) -> str | None:
    """The parameter of the grid that an error of a recipe is about; None where it is about no one parameter of it.

    place : pydantic's.
    """
    path = ".".join(map(str, place))
    about = (name for name in tune.grid if path and (f"{path}.".startswith(f"{name}.") or name.startswith(f"{path}.")))
    return next(about, None)


def _idle(pipeline: Pipeline, name: str, spec: SpaceSpec, kind: type[Embedder[Any]]) -> Iterator[Problem]:
    """Parameters that change nothing of what is learned."""
    assert spec.tune is not None
    runs_only = kind.execution_only() | ({"seed"} if kind.deterministic else set())
    for parameter in spec.tune.grid:
        if parameter not in runs_only:
            continue
        first = spec.tune.first()
        try:  # the weights of a network are named here and known by their content
            prints = {
                pipeline.with_params(name, merged(spec.params, {**first, parameter: value})).recipe(name).fingerprint
                for value in spec.tune.grid[parameter]
            }
        except InputError:  # a file is missing, which is said where it is read
            continue
        if len(prints) == 1 or parameter == "seed":
            yield (
                ("spaces", name, "tune", "grid", parameter),
                f"got {parameter}, which changes nothing of what {kind.kind} learns. Take it out of the grid.",
            )
