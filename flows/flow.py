"""The Prefect flow: it wires the tasks of a plan and gathers what they say."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from flows import settings

settings.apply()

from prefect import flow  # noqa: E402  (the settings must come first)
from prefect.exceptions import TerminationSignal  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402

from embedders.errors import InputError, PolyvecError  # noqa: E402
from flows import looks, tasks  # noqa: E402
from flows.estimates import costs  # noqa: E402
from flows.pipeline import Pipeline  # noqa: E402
from flows.plan import Plan, SpacePlan, holds, make_plan  # noqa: E402
from flows.progress import board  # noqa: E402
from flows.report import Results, Row, RunFailedError  # noqa: E402
from flows.steps import ScoreRef, VersionRef, recorded_scores, version_ref  # noqa: E402
from storage.places import check_writable  # noqa: E402


def _run_name() -> str:
    """The pipeline file with its folder: enough to know it by."""
    path = Path(flow_run.parameters["file"]).absolute()
    return f"{path.parent.name}/{path.name}"


_runner: Any = ThreadPoolTaskRunner(max_workers=16)  # steps that wait for cores hold a thread


@flow(name="polyvec", flow_run_name=_run_name, task_runner=_runner, persist_result=False)
def run_pipeline(
    file: str = "polyvec.yaml",
    only: list[str] | None = None,
    force: bool = False,
    promote: bool = True,
    replace: bool = False,
) -> dict[str, Any]:
    """Bring every space of a pipeline file up to date.

    Parameters
    ----------
    file : path of the pipeline file, as the worker sees it.
    only : the spaces to look at; all when empty.
    force : embed them again even if nothing changed.
    promote : point `production` at the release of this run.
    replace : let a space get another dimension or similarity.
    """
    pipeline = Pipeline.load(file)
    check_writable(pipeline.vectors.root)
    plan = make_plan(pipeline, only=only or [], force=force, replace=replace)
    for cost in costs(pipeline, plan):
        if cost.notable:
            board().say(str(cost))
    run = uuid.uuid4().hex[:8]
    looks.hand_over(run, plan.scans)
    try:
        return _wire(pipeline, plan, run, promote=promote, replace=replace).model_dump()
    except TerminationSignal:
        board().stopped.set()  # ends the steps that run in other threads
        raise
    finally:
        looks.forget(run)


def _wire(pipeline: Pipeline, plan: Plan, run: str, *, promote: bool, replace: bool) -> Results:
    """Submit the tasks in the plan's order, wait for all, and put their answers together."""
    embedded = [space for space in plan.spaces if space.action == "embed"]
    needed = dict.fromkeys(pipeline.spec(space.name).dataset for space in embedded)
    datasets = {name: tasks.read.submit(pipeline, name, run) for name in needed if name}
    entries: dict[str, Any] = {}
    trials: dict[str, list[Any]] = {}
    for space in embedded:
        if space.entry in entries:
            continue
        name = pipeline.spec(space.name).dataset
        before = [datasets[name]] if name else []
        above = (pipeline.entries[upstream] for upstream in pipeline.upstreams(space.entry))
        before += [entries[entry] for entry in above if entry in entries]
        trials[space.entry] = _try(pipeline, space, run, before)
        entries[space.entry] = tasks.embed.submit(
            pipeline, space.entry, run, force=space.forced, replace=replace, wait_for=before + trials[space.entry]
        )
    versions = {space.name: entries[space.entry] for space in embedded}
    scores = {
        space.name: [
            tasks.evaluate.submit(pipeline, versions.get(space.name) or {space.name: _current(space)}, space.name, name)
            for name in space.evaluations
        ]
        for space in plan.spaces
    }
    return _gather(pipeline, plan, run, datasets, trials, versions, scores, promote=promote)


def _try(pipeline: Pipeline, space: SpacePlan, run: str, before: list[Any]) -> list[Any]:
    """Submit the trials of an entry that are to be made."""
    if space.tuning is None:
        return []
    of = len(space.tuning.trials)
    return [
        tasks.tune.submit(pipeline, space.entry, trial.number, of, run, force=space.forced, wait_for=before)
        for trial in (space.tuning.trials if space.forced else space.tuning.pending)
    ]


def _gather(
    pipeline: Pipeline,
    plan: Plan,
    run: str,
    datasets: dict[str, Any],
    trials: dict[str, list[Any]],
    versions: dict[str, Any],
    scores: dict[str, list[Any]],
    *,
    promote: bool,
) -> Results:
    rows: list[Row] = []
    failures: list[tuple[str, str, BaseException]] = []  # space, what of it, error
    for space in plan.spaces:
        ref = _answer(versions[space.name]) if space.name in versions else _current(space)
        if isinstance(ref, dict):
            ref = ref[space.name]
        if space.name in versions and space.name == pipeline.outputs(space.entry)[0]:  # of several sides said once
            steps = [datasets.get(pipeline.spec(space.name).dataset), *trials[space.entry], versions[space.name]]
            broken = [answer for step in steps if step and isinstance(answer := _answer(step), BaseException)]
            failures += [(space.entry, "", error) for error in broken[:1]]
        found = {name: _answer(future) for name, future in zip(space.evaluations, scores[space.name], strict=True)}
        wrong = {name: answer for name, answer in found.items() if isinstance(answer, BaseException)}
        failures += [(space.name, f"evaluation {name!r}: ", error) for name, error in wrong.items()]
        if isinstance(ref, VersionRef):
            row = Row.of(ref, _scores(pipeline, space, ref, found))
            rows.append(row.model_copy(update={"status": f"{row.status}, {len(wrong)} not judged"}) if wrong else row)
        else:
            rows.append(Row(space=space.name, status="not run" if ref is None else "failed"))
    released = None
    made = {row.space: row.version for row in rows if row.version}
    if not failures and not holds(pipeline.vectors, made):
        released = _answer(tasks.release.submit(pipeline, made, run, promote))
        if isinstance(released, BaseException):
            failures.append(("release", "", released))
            released = None
    report = _answer(tasks.write_report.submit(pipeline, run, rows, released))
    if isinstance(report, BaseException):
        failures.append(("report", "", report))
    errors: dict[str, list[str]] = {}
    for name, what, error in failures:
        errors.setdefault(name, []).append(what + _message(error))
    results = Results(
        run=run, rows=tuple(rows), errors=errors, release=released, report=report if isinstance(report, str) else ""
    )
    if failures:
        raise RunFailedError(results, 2 if all(isinstance(error, InputError) for *_, error in failures) else 1)
    return results


def _scores(pipeline: Pipeline, space: SpacePlan, ref: VersionRef, found: dict[str, Any]) -> list[ScoreRef]:
    """The scores of a row: what this run found, and what stood already, in the pipeline's order."""
    old = space.latest is not None and space.latest.number == ref.version
    held = (
        {score.evaluation: score for score in recorded_scores(pipeline, space.latest)} if old and space.latest else {}
    )
    held |= {name: answer for name, answer in found.items() if isinstance(answer, ScoreRef)}
    return [held[e.name] for e in pipeline.evaluations(space.name) if e.name in held]


def _current(space: SpacePlan) -> VersionRef:
    assert space.latest is not None  # a space without a version is embedded
    return version_ref(space.latest, fresh=False)


def _answer(future: Any) -> Any:
    """A task's result, the exception it ended with, or None when it never began because one before it failed."""
    future.wait()
    return future.result(raise_on_failure=False) if future.state.is_final() else None


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, PolyvecError) else f"{type(error).__name__}: {error}"
