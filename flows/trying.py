"""One trial of parameters: a version in a store of its own is made, judged and deleted; the score is written down."""

from __future__ import annotations

import math
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from embedders.base import Progress, silent
from embedders.errors import InputError
from embedders.kernels.threads import cores
from evaluation.base import Report
from flows.budget import Budget
from flows.inner import INSIDE
from flows.judging import judge
from flows.pipeline import Pipeline
from flows.progress import board
from flows.steps import LOCK_WAIT, budget, embed, tuning_now
from flows.trials import Trial, Tuning, with_values
from flows.tune import shown
from storage import trials
from storage.errors import BusyError, FullError, NotWritableError, UnreachableError
from storage.lock import locked, written_by
from storage.overlay import overlay
from storage.store import VectorStore

NOT_ITS_FAULT = (BusyError, FullError, NotWritableError, UnreachableError)
"""Errors that say nothing of the parameters: they end a trial, which a later run makes."""


@cache
def places() -> Budget:
    """As many trials hold their data in memory at once as have cores to train on at once."""
    return Budget(cores())


def attempt(
    pipeline: Pipeline, name: str, number: int, run: str, *, force: bool = False, progress: Progress = silent
) -> trials.Record:
    """Make trial `number` of an entry and record what came of it; one that is recorded already is taken from there.

    An error of the training or of the evaluation is recorded as well, and is no reason to make no other trials.

    force : make it again, as is done with one that failed.

    Raises
    ------
    StoreError : the store cannot be written; nothing is recorded, and what was done is kept for the next attempt.
    InputError : the dataset or the evaluation's file changed meanwhile; nothing is recorded.
    """
    tuning = tuning_now(pipeline, name, run)
    trial = tuning.trials[number - 1]
    tried = with_values(pipeline, name, trial)
    paths = pipeline.vectors.paths
    folder = paths.trials(tuning.space)  # and in it a store for each trial
    with (  # fmt: skip
        places().take(getattr(tried.recipe(name), "threads", 1)),
        locked(
            VectorStore(folder).space(trial.key),
            run,
            LOCK_WAIT,
            lambda said: board().say(f"{name}: trial {number}: {said}"),
        ),
    ):
        known = trials.records(paths, name).get(trial.key)
        meanwhile = known != trial.record  # another run made it
        if known and (meanwhile or not (force or known.error)):
            return known
        scratch = overlay(folder / trial.key, pipeline.vectors, pipeline.outputs(name))
        scores, notes = _made(tried, name, tuning, trial, scratch, run, force, progress)
        if tuning_now(pipeline, name, "").trials[number - 1].key != trial.key:  # as it is now, not as the run saw it
            raise InputError(
                f"Got other input for {name}, trial {number}, than when it began; expected the same until its end. Do: polyvec run."
            )
        trials.record(paths, name, tuning.evaluation.name, trial.key, scores, notes)
        shutil.rmtree(folder / trial.key, ignore_errors=True)
        _sweep(folder, keep={other.key for other in tuning.pending})
        with suppress(OSError):  # who waits for it opens it anew
            VectorStore(folder).paths.lock(trial.key).unlink()
    return trials.records(paths, name)[trial.key]


def _made(
    pipeline: Pipeline, name: str, tuning: Tuning, trial: Trial, scratch: VectorStore, run: str, force: bool, progress: Progress
) -> tuple[list[Any], dict[str, Any]]:  # fmt: skip
    """Embed and judge: scores and notes to record. What a killed attempt left in the scratch store is gone on from."""
    notes: dict[str, Any] = {**tuning.notes, "params": dict(trial.values), "recipe": trial.recipe}
    scores: list[Any] = []
    try:
        report, notes["seconds"] = _judged(pipeline, name, tuning, scratch, run, force, progress)
        scores = [(s.metric, s.value, s.low, s.high) for s in report.scores]
        if any(s.metric == (tuning.score or report.headline.metric) and math.isnan(s.value) for s in report.scores):
            notes["error"] = "the score is not a number"
    except NOT_ITS_FAULT:
        raise
    except Exception as error:
        notes["error"] = str(error) or type(error).__name__
    if "error" in notes:
        board().say(f"{name}: trial {trial.number} ({shown(trial.values)}) failed: {notes['error']}")
    return scores, notes


def _judged(
    pipeline: Pipeline, name: str, tuning: Tuning, scratch: VectorStore, run: str, force: bool, progress: Progress
) -> tuple[Report, float]:
    """What the evaluation says, and the seconds of the work, without those it waited for cores."""
    evaluation, seconds = tuning.evaluation, 0.0
    inside = INSIDE.get(evaluation.metric)
    if inside is None:
        ref = embed(pipeline, name, run, force=force, progress=progress, into=scratch)[tuning.space]
        version, seconds = scratch.space(ref.space).version(ref.version), ref.seconds
    with budget().take(evaluation.threads):
        started = time.monotonic()
        report = inside(pipeline, tuning.space, evaluation) if inside else judge(pipeline, version, evaluation)
    return report, round(seconds + time.monotonic() - started, 3)


def _sweep(trials: Path, keep: set[str]) -> None:
    """Delete what killed attempts left that nobody is at, nor will go on from."""
    for folder in trials.iterdir():
        at_work = folder.name == "_locks" or folder.name in keep or written_by(VectorStore(trials).space(folder.name))
        if not at_work:
            shutil.rmtree(folder, ignore_errors=True)
