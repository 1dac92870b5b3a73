"""Commands that do the work: init, plan, run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load, print_json, print_table, say, settings, shown_board, size

if TYPE_CHECKING:
    from flows.pipeline import Pipeline
    from flows.plan import Plan
    from flows.report import Results

Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only this space or output (and what it is made of); may be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Embed again even if nothing changed.")]
Replace = Annotated[bool, typer.Option("--replace", help="Let a space get another dimension or similarity.")]


def init(folder: Annotated[Path, typer.Argument(help="An empty or new folder.")]) -> None:
    """Write a starter pipeline with sample data: emoji drawings, emoji keywords, Wikipedia summaries."""
    from flows.progress import reporting_to
    from flows.starter import write_starter

    with shown_board() as board, reporting_to(board), board.step("write the sample data") as progress:
        lines = write_starter(folder, progress=progress)
    for line in lines:
        say(line)
    say(f"next: cd {folder} && polyvec run")


def plan(
    file: File = DEFAULT_FILE,
    only: Only = None,
    force: Force = False,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Show the DAG: what would run, what is up to date, and why."""
    from flows.estimates import costs
    from flows.plan import make_plan

    pipeline = load(file)
    found = make_plan(pipeline, only=only or [], force=force, replace=replace, extent=True)
    expected = {cost.space: cost for cost in costs(pipeline, found)}
    if as_json:
        print_json([{"space": s.name, "action": s.action, "reason": s.reason, "dataset": pipeline.spec(s.name).source, "files": len(s.scan.files), "bytes": s.scan.bytes,
                     "version": s.latest.number if s.latest else None, "evaluate": list(s.evaluations),
                     "tune": s.tuning.as_dict() if s.tuning else None,
                     "estimate": expected[s.name].as_dict() if s.name in expected else None} for s in found.spaces]
                   + [{"name": o.name, "action": o.action, "reason": o.reason, "space": pipeline.derived[o.name].space,
                       "version": o.latest.number if o.latest else None} for o in found.outputs])  # fmt: skip
        return
    rows = []
    for s in found.spaces:
        spec = pipeline.spec(s.name)
        start = f" + {spec.start.name}" if spec.start else ""
        current = f"@{s.latest.number}" if s.latest else ""
        rows.append(
            [
                s.name,
                f"{spec.source}{start} -> {spec.embedder}",
                f"{len(s.scan.files):,}",
                size(s.scan.bytes),
                current,
                s.action,
                s.reason,
            ]
        )
    for o in found.outputs:
        output, current = pipeline.derived[o.name], f"@{o.latest.number}" if o.latest else ""
        rows.append([o.name, f"{output.space} -> {output.kind}", "", "", current, o.action, o.reason])
    print_table(["space", "from", "files", "size", "now", "action", "why"], rows, ["files", "size"])
    for cost in expected.values():
        say(str(cost))
    todo = [s.name for s in found.steps if not s.idle] or ([] if found.released else ["release"])
    _say_behind(pipeline, found)
    say(f"to run: {', '.join(todo)}" if todo else "nothing to do")


def run(
    file: File = DEFAULT_FILE,
    only: Only = None,
    force: Force = False,
    no_promote: Annotated[
        bool, typer.Option("--no-promote", help="Commit a release, and leave `production` where it is.")
    ] = False,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Bring every space up to date: the main job."""
    from flows.plan import make_plan
    from flows.report import RunFailedError
    from storage.places import check_writable

    pipeline = load(file)
    found = make_plan(pipeline, only=only or [], force=force, replace=replace)
    if found.idle:
        results = _idle_results(pipeline, found, promote=not no_promote)
        if not as_json:
            _say_behind(pipeline, found)
    else:
        check_writable(pipeline.vectors.root)
        try:
            results = _run_flow(file, only, force, promote=not no_promote, replace=replace)
        except RunFailedError as error:
            _print_results(error.results, as_json, idle=False)
            raise
    _print_results(results, as_json, idle=found.idle)


def _run_flow(file: Path, only: list[str] | None, force: bool, *, promote: bool, replace: bool) -> Results:
    from flows.settings import apply

    apply(quiet=not settings.debug)
    import httpx

    from embedders.errors import InputError
    from flows.flow import run_pipeline
    from flows.progress import reporting_to
    from flows.report import Results

    with shown_board() as board, reporting_to(board), _stopping(board):
        where = os.environ.get("PREFECT_API_URL", "its own embedded server (set PREFECT_API_URL to watch it in a UI)")
        board.say(f"starting the flow on {where}")
        try:
            return Results.model_validate(run_pipeline(str(file.absolute()), only, force, promote, replace))
        except httpx.TransportError as error:
            raise InputError(
                f"Got no answer from the Prefect server at {where} ({error}). Start it (make ui), or unset PREFECT_API_URL to use an embedded one."
            ) from error


@contextmanager
def _stopping(board: Any) -> Iterator[None]:
    """Ctrl-C also ends the steps that run in other threads."""

    def stop(*_: object) -> None:
        board.stopped.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _say_behind(pipeline: Pipeline, found: Plan) -> None:
    """Say where readers of production do not get what is newest: after a rollback, or --no-promote."""
    production = (pipeline.vectors.release() if found.released else None) or {}
    for s in found.steps:
        if s.latest and production.get(s.name, s.latest.number) != s.latest.number:
            say(
                f"production holds {s.name}@{production[s.name]}, the newest is {s.latest.number}; to move it: polyvec promote"
            )


def _idle_results(pipeline: Pipeline, found: Plan, *, promote: bool) -> Results:
    """What stands already; if a run before this one ended before its release, the release is made up for."""
    from flows.report import Results, Row
    from flows.steps import forget_attempts, recorded_scores, release, version_ref

    rows = [
        Row.of(version_ref(s.latest, fresh=False), recorded_scores(pipeline, s.latest))
        for s in found.spaces
        if s.latest
    ]
    rows += [Row.of(version_ref(o.latest, fresh=False), ()) for o in found.outputs if o.latest]
    for s in found.spaces:
        if s.latest:
            forget_attempts(pipeline.vectors, s.latest)
    made = None
    if not found.released:
        made = release(pipeline, {row.space: row.version for row in rows if row.version}, "", promote=promote)
    return Results(run="", rows=tuple(rows), release=made)


def _print_results(results: Results, as_json: bool, *, idle: bool) -> None:
    from flows.report import cells, warnings

    cautions = warnings(results.rows)
    if as_json:
        print_json(results.model_dump() | {"idle": idle, "warnings": cautions})
        return
    columns = ["space", "version", "rows", "dim", "seconds", "rows/s", "score (baseline)", "status", "path"]
    lines = [cells(row) for row in results.rows]
    print_table(
        columns, [[line[name] for name in columns] for line in lines], ["version", "rows", "dim", "seconds", "rows/s"]
    )
    for text in cautions:
        say(f"warning: {text}")
    if idle:
        say("everything is up to date; no flow was started")
    if results.release:
        how = "production points at it" if results.release.promoted else "not promoted; production stays where it is"
        say(f"release {results.release.number}: {how}")
    if results.report:
        say(f"report: {results.report}")
