"""The steps as Prefect tasks: one line each, plus what a server shows (progress, results, report).

Caching is off: whether work is done is the store's answer (`flows.plan`), and Prefect's own policies miss changes in
nested code.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from embedders.base import Progress
from flows import report, steps, trying
from flows.pipeline import Pipeline
from flows.progress import board
from flows.tune import shown
from storage.room import room
from storage.trials import Record

F = TypeVar("F", bound=Callable[..., Any])
ARTIFACT_AFTER = 2.0  # seconds a step must take before the server is told how far it is, and between two updates


def step(name: str) -> Callable[[F], Any]:
    """The project's one task decorator. name: of the task run, with the parameters' values."""

    def wrap(function: F) -> Any:
        return task(task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(function)

    return wrap


def slug(text: str) -> str:
    """An artifact key: lower case, digits, dashes.

    >>> slug("ratings.Users")
    'ratings-users'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


@step("read {name}")
def read(pipeline: Pipeline, name: str, run: str) -> steps.DatasetRef:
    """Find a dataset's files and digests."""
    with board().step(f"read {name}"):
        return steps.scan_dataset(pipeline, name, run)


@step("embed {name}")
def embed(pipeline: Pipeline, name: str, run: str, force: bool, replace: bool) -> dict[str, steps.VersionRef]:
    """Learn an entry of the file and commit the next version of its spaces."""
    with board().step(f"embed {name}") as show, shown_on_server(name) as tell:

        def progress(done: float, total: float, unit: str) -> None:
            show(done, total, unit)
            tell(done, total, unit)

        made = steps.embed(pipeline, name, run, force=force, replace=replace, progress=progress)
    for ref in made.values():
        get_run_logger().info(
            "%s @ %d: %d rows of %d, %d of them reused, %d quarantined, %.1f s",
            ref.space, ref.version, ref.rows, ref.dim, ref.reused, ref.quarantined, ref.seconds,
        )  # fmt: skip
    return made


@step("tune {name} {number}/{of}")
def tune(pipeline: Pipeline, name: str, number: int, of: int, run: str, force: bool) -> Record:
    """Try some parameters of an entry of the file."""
    with board().step(f"tune {name} {number}/{of}") as show, shown_on_server(f"{name} {number}/{of}", "tune") as tell:

        def progress(done: float, total: float, unit: str) -> None:
            show(done, total, unit)
            tell(done, total, unit)

        made = trying.attempt(pipeline, name, number, run, force=force, progress=progress)
    get_run_logger().info("%s, trial %d of %d: %s: %s", name, number, of, shown(made.notes["params"]), made.told)
    return made


@step("evaluate {space}/{name}")
def evaluate(pipeline: Pipeline, made: dict[str, steps.VersionRef], space: str, name: str) -> steps.ScoreRef:
    """Judge a version."""
    ref = made[space]
    with board().step(f"evaluate {space}/{name}"):
        scores = steps.evaluate_space(pipeline, ref, name)
    get_run_logger().info("%s @ %d: %s", ref.space, ref.version, report.headline(scores))
    return scores


@step("release")
def release(pipeline: Pipeline, versions: dict[str, int], run: str, promote: bool) -> steps.ReleaseRef:
    """Commit the versions of the run as a release."""
    with board().step("release"):
        made = steps.release(pipeline, versions, run, promote=promote)
    get_run_logger().info("release %d: %s", made.number, made.spaces)
    return made


@step("report")
def write_report(pipeline: Pipeline, run: str, rows: list[report.Row], released: steps.ReleaseRef | None) -> str:
    """Write the run report and show it on the server."""
    with board().step("report"), room(pipeline.vectors.paths.local):
        path = report.write_report(pipeline, run, rows, released)
    try:
        create_table_artifact(
            key="polyvec-results", table=[report.cells(row) for row in rows], description=f"Results of run {run}"
        )
        create_markdown_artifact(key="polyvec-report", markdown=report.inline(path), description=f"Report of run {run}")
    except Exception as error:  # the report lies in the store all the same
        board().say(f"report: the Prefect server did not take it ({error})")
    return str(path)


@contextmanager
def shown_on_server(name: str, what: str = "embed") -> Iterator[Progress]:
    """A progress artifact for a step that takes long; short steps make none."""
    artifact: UUID | None = None
    last = time.monotonic()
    lost = False

    def progress(done: float, total: float, unit: str) -> None:
        nonlocal artifact, last, lost
        if lost or time.monotonic() - last < ARTIFACT_AFTER:
            return
        percent = min(100.0, 100.0 * done / max(total, 1))
        try:
            if artifact is None:
                artifact = create_progress_artifact(
                    percent, key=f"progress-{slug(name)}", description=f"{what} {name} ({total:,.0f} {unit})"
                )  # type: ignore[assignment]
            else:
                update_progress_artifact(artifact, percent)
        except Exception as error:  # telling is not the work: a lost server must not end it
            lost = True
            board().say(f"{what} {name}: the Prefect server does not answer ({error}); going on without telling it")
        last = time.monotonic()

    yield progress
    if artifact is not None and not lost:
        with suppress(Exception):
            update_progress_artifact(artifact, 100.0)
