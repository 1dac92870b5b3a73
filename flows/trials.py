"""What trials of a space's parameters there are, what is known of them, and which parameters they chose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedders.errors import InputError
from flows.inner import INSIDE
from flows.pipeline import Pipeline
from flows.starts import given
from flows.tune import Tune, merged, shown, split_metric
from storage import trials
from storage.digests import DigestCache
from storage.manifest import made_from
from storage.space import Version


@dataclass(frozen=True)
class Trial:
    """One combination of a grid. number: from 1; recipe: its fingerprint; record: what came of it, None before."""

    number: int
    values: Mapping[str, Any]
    key: str
    recipe: str
    record: trials.Record | None = None


@dataclass(frozen=True)
class Tuning:
    """The trials of one entry of the pipeline file.

    space : the one that is judged, of those that the entry writes. evaluation : by which entry of `evaluate:`.
    score : which of its scores; "" is the headline. notes : what all trials have in common, as recorded.
    """

    spec: Tune
    space: str
    evaluation: Any
    score: str
    notes: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def pending(self) -> tuple[Trial, ...]:
        """Trials to be made. One that failed is made again only while none is any better."""
        again = self.best is None
        return tuple(t for t in self.trials if t.record is None or (again and t.record.error))

    @property
    def settled(self) -> bool:
        """Whether it is known which parameters are chosen."""
        return self.best is not None and not self.pending

    @property
    def best(self) -> Trial | None:
        """The best trial so far, the first of equal ones; None while there is none with a score."""
        found, sign = None, -1 if self.spec.direction == "minimize" else 1
        for trial in self.trials:
            value = self.value(trial)
            if value is not None and (found is None or sign * value > sign * (self.value(found) or 0)):
                found = trial
        return found

    def value(self, trial: Trial) -> float | None:
        """The score of a trial; None where it has none."""
        if trial.record is None or trial.record.error:
            return None
        return trial.record.value_of(self.score)

    def chosen(self) -> Trial:
        """The best trial, once all are made.

        Raises
        ------
        InputError : some are not made yet; all failed; or none has the score that is asked for.
        """
        missing = sum(trial.record is None for trial in self.trials)
        if missing:
            raise InputError(
                f"Got {missing} of {len(self.trials)} trials that were not made on what the space is made of now; expected all. Do: polyvec run."
            )
        if self.best is None:
            first = self.trials[0]
            assert first.record is not None
            if first.record.error:
                raise InputError(
                    f"All {len(self.trials)} trials failed, the first ({shown(first.values)}) with: {first.record.error}"
                )
            raise InputError(
                f"Got tune.metric {self.spec.metric!r}; the evaluation {self.evaluation.name!r} gives {', '.join(first.record.scores)}. "
                "Name one of these; no trial has to be made again."
            )
        return self.best

    def __str__(self) -> str:
        if self.settled and self.best:
            value = self.value(self.best)
            return f"tuned: {shown(self.best.values)} ({self.spec.metric} {value:.3f}, the best of {len(self.trials)} trials)"
        return f"tune: {len(self.trials)} trials, {len(self.trials) - len(self.pending)} done"

    def as_dict(self) -> dict[str, Any]:
        """Counts, and what was chosen, for JSON."""
        chosen = dict(self.best.values) if self.settled and self.best else None
        return {
            "metric": self.spec.metric,
            "trials": len(self.trials),
            "done": len(self.trials) - len(self.pending),
            "chosen": chosen,
        }


def tuning_of(pipeline: Pipeline, name: str, digest: str, upstream: Mapping[str, int] | None) -> Tuning | None:
    """The trials of an entry, and what is known of each; None where nothing of it is tuned.

    digest : of its dataset. upstream : versions of the spaces it is made from; None where they will change, so that no
    trial is known.
    """
    from flows.plan import evaluation_fingerprint  # which asks here in turn

    spec = pipeline.spaces[name]
    if spec.tune is None:
        return None
    paths = pipeline.vectors.paths
    cache = DigestCache(paths.cache)
    space, evaluation, score = judged_by(pipeline, name)
    notes = {
        "metric": score,
        "direction": spec.tune.direction,
        "dataset": digest,
        "made_from": made_from(upstream or {}, given(pipeline, name, cache)),
        "evaluation": evaluation_fingerprint(pipeline, evaluation, cache),
        "inner": evaluation.metric in INSIDE,
    }
    known = {} if upstream is None else trials.records(paths, name)
    found = []
    for number, values in enumerate(spec.tune.combinations(), 1):
        recipe = _with(pipeline, name, values).recipe(name).fingerprint
        key = _key(recipe, space, notes)
        found.append(Trial(number, values, key, recipe, known.get(key)))
    return Tuning(spec.tune, space, evaluation, score, notes, tuple(found))


def _key(recipe: str, space: str, notes: Mapping[str, Any]) -> str:
    told = [recipe, space, *(notes[name] for name in ("dataset", "made_from", "evaluation", "inner"))]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def judged_by(pipeline: Pipeline, name: str) -> tuple[str, Any, str]:
    """The space, the evaluation and the score that trials of an entry are judged by; the score is "" for its headline.

    Raises
    ------
    InputError : the entry has no such evaluation.
    """
    tune = pipeline.spaces[name].tune
    assert tune is not None
    there: dict[str, tuple[str, Any]] = {}
    for space in pipeline.outputs(name):  # the first side that has it
        for evaluation in pipeline.evaluations(space):
            there.setdefault(evaluation.name, (space, evaluation))
    found = split_metric(tune.metric, there)
    if found is None:
        known = f"one of {', '.join(there)}, a dot, and a score of it" if there else "an evaluation of it"
        raise InputError(
            f"got {tune.metric!r}, which no evaluation of {name} gives; expected {known}. Name one, or add it under evaluate."
        )
    return *there[found[0]], found[1]


def with_values(pipeline: Pipeline, name: str, trial: Trial) -> Pipeline:
    """The pipeline with the parameters of a trial for an entry."""
    return _with(pipeline, name, trial.values)


def _with(pipeline: Pipeline, name: str, values: Mapping[str, Any]) -> Pipeline:
    return pipeline.with_params(name, merged(pipeline.spaces[name].params, values))


def tuned(pipeline: Pipeline, name: str, tuning: Tuning | None) -> Pipeline:
    """The pipeline with the parameters that trials chose for an entry; the same where nothing is, or not yet, chosen."""
    if tuning is None or not tuning.settled or tuning.best is None:
        return pipeline
    return with_values(pipeline, name, tuning.best)


def as_made(pipeline: Pipeline, version: Version) -> Pipeline:
    """The pipeline with the parameters that a version was made with, where trials choose them."""
    name = pipeline.entries[version.manifest.space]
    if pipeline.spaces[name].tune is None:
        return pipeline
    return pipeline.with_params(name, version.manifest.recipe.params)
