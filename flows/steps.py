"""The steps of a run as plain functions; no Prefect here. They exchange references, never matrices."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from embedders.base import Progress, silent
from embedders.errors import PolyvecError
from embedders.kernels.threads import cores
from flows import starts
from flows.budget import Budget
from flows.judging import judge
from flows.looks import look
from flows.made import made
from flows.pipeline import Pipeline
from flows.plan import NO_FILES, evaluation_fingerprint
from flows.progress import board
from flows.trials import Tuning, as_made, tuning_of, with_values
from flows.work import commit, read
from storage import promotion, releases, retention, tables
from storage.digests import DigestCache
from storage.space import Space, Version
from storage.store import VectorStore
from storage.writer import Source, writing

LOCK_WAIT = 3600.0  # seconds a run waits for another one that writes the same space


class Reference(BaseModel):
    """What one step tells the next."""

    model_config = ConfigDict(frozen=True)


class DatasetRef(Reference):
    """A dataset as it was found."""

    name: str
    digest: str
    files: int
    bytes: int


class VersionRef(Reference):
    """A committed version. fresh: it was made by this run."""

    space: str
    version: int
    rows: int
    dim: int
    seconds: float
    path: str
    fresh: bool
    quarantined: int = 0
    reused: int = 0


class ScoreRef(Reference):
    """What an evaluation found, headline first.

    n : rows, pairs or questions it was measured on. sizes : what the vectors and the baselines cost, by name: "dim",
        "bytes" and, of a sparse matrix, "sparse_bytes". views: of a fused space, those that stand beside it.
    """

    space: str
    version: int
    evaluation: str
    scores: dict[str, float]
    n: int | None = None
    sizes: dict[str, dict[str, int]] = {}
    views: tuple[str, ...] = ()


class ReleaseRef(Reference):
    """A committed release. promoted: `production` points at it."""

    number: int
    spaces: dict[str, int]
    promoted: bool


@cache
def budget() -> Budget:
    """The cores of this process, shared by all its steps."""
    return Budget(cores())


def scan_dataset(pipeline: Pipeline, name: str, run: str) -> DatasetRef:
    """Find a dataset's files and their digests."""
    scan = look(pipeline, name, run)
    return DatasetRef(name=name, digest=scan.digest, files=len(scan.files), bytes=scan.bytes)


def tuning_now(pipeline: Pipeline, name: str, run: str) -> Tuning:
    """The trials of an entry that is tuned, on what it is made of now."""
    dataset = pipeline.spaces[name].dataset
    scan = look(pipeline, dataset, run) if dataset else NO_FILES
    upstream = {space: pipeline.vectors.space(space).version("latest").number for space in pipeline.upstreams(name)}
    found = tuning_of(pipeline, name, scan.digest, upstream)
    assert found is not None, f"nothing of {name} is tuned"
    return found


def embed(
    pipeline: Pipeline, name: str, run: str, *, force: bool = False, replace: bool = False, progress: Progress = silent, into: VectorStore | None = None
) -> dict[str, VersionRef]:  # fmt: skip
    """Fit the embedder of an entry of the file, encode what it is made of and commit the next version of its space, or
    of each of its spaces; then let old versions go.

    If another run has just done the same, its version is taken. An inductive embedder goes on from the version before,
    or from an encode that was cut off: only rows that are new or changed are embedded. Of an entry that is tuned, the
    parameters are those of the best trial.

    into : the store to commit to, if not the pipeline's.
    """
    if pipeline.spaces[name].tune is not None:
        pipeline = with_values(pipeline, name, tuning_now(pipeline, name, run).chosen())
    spec, recipe, store = pipeline.spaces[name], pipeline.recipe(name), pipeline.vectors
    dataset = pipeline.datasets.get(spec.dataset)
    with ExitStack() as held:
        writers = {
            space: held.enter_context(writing((into or store).space(space), run, wait=LOCK_WAIT, waiting=board().say))
            for space in sorted(pipeline.outputs(name))  # in one order, or two runs could wait for each other
        }
        writers = {space: writers[space] for space in pipeline.outputs(name)}
        started = time.monotonic()
        scan = look(pipeline, spec.dataset, run) if spec.dataset else NO_FILES
        upstream = {space: store.space(space).version("latest") for space in pipeline.upstreams(name)}
        source = Source(
            spec.source, scan.digest, 0, {space: version.number for space, version in upstream.items()},
            options=dataset.options_digest if dataset else None, start=starts.given(pipeline, name, DigestCache(store.paths.cache)),
        )  # fmt: skip
        before = made({space: writer.parent for space, writer in writers.items()})
        if (
            before
            and not force
            and (before.manifest.fingerprint, before.manifest.dataset_digest, before.manifest.made_from)
            == (recipe.fingerprint, scan.digest, source.made_from)
            and not before.missing()
        ):
            return {space: version_ref(version, fresh=False) for space, version in before.versions.items()}
        data = read(pipeline, name, recipe, scan, upstream, progress)
        asked = time.monotonic()
        with budget().take(getattr(recipe, "threads", 1)):
            started += time.monotonic() - asked  # waiting for cores is not the space's work
            versions = commit(
                pipeline, name, writers, before, data, source, upstream, started, force, replace, progress
            )
        for writer in writers.values():
            let_go(writer.space, pipeline.kept)
    return {space: version_ref(version, fresh=True) for space, version in versions.items()}


def let_go(space: Space, keep: retention.Keep | None) -> None:
    """Take out the versions that no rule keeps; what cannot be done now is left to the next run, or to `gc`."""
    try:
        if gone := retention.retire(space, keep):
            retention.sweep(retention.garbage(space, gone))
    except PolyvecError as error:
        board().say(f"{space.name}: its new version stands, old ones could not be cleared away. {error}")


def forget_attempts(store: VectorStore, version: Version) -> None:
    """Take rows out of the quarantine that a later attempt put there, which failed and whose input is gone again."""
    name = version.manifest.space
    rows = tables.quarantined(store.paths, name)
    stay = [row for row in rows if row["version"] <= version.number]
    if len(stay) < len(rows):
        with suppress(PolyvecError, OSError):  # a store that can only be read keeps them
            tables.settle(store.paths, name, stay)


def release(pipeline: Pipeline, versions: Mapping[str, int], run: str, *, promote: bool) -> ReleaseRef:
    """Commit the versions of a run as a release, and point `production` at it."""
    paths = pipeline.vectors.paths
    made = promotion.commit(paths, versions, run, promote=promote)
    promoted = promote and any(move.release == made.number for move in releases.read(paths).moves)
    return ReleaseRef(number=made.number, spaces=dict(made.spaces), promoted=promoted)


def version_ref(version: Version, *, fresh: bool) -> VersionRef:
    """A version in a few words."""
    m = version.manifest
    return VersionRef(
        space=m.space, version=m.version, rows=len(version), dim=m.dim, seconds=m.seconds, path=str(version.paths.space(m.space)), fresh=fresh,
        quarantined=m.counts.quarantined + m.dataset_rejected, reused=m.counts.reused,
    )  # fmt: skip


def evaluate_space(pipeline: Pipeline, ref: VersionRef, name: str) -> ScoreRef:
    """Run one evaluation of a version and record what it found."""
    store = pipeline.vectors
    evaluation = next(e for e in pipeline.evaluations(ref.space) if e.name == name)
    version = store.space(ref.space).version(ref.version)
    pipeline = as_made(pipeline, version)
    with budget().take(evaluation.threads):
        report = judge(pipeline, version, evaluation)
    fingerprint = evaluation_fingerprint(pipeline, evaluation, DigestCache(store.paths.cache))
    scores = [(s.metric, s.value, s.low, s.high) for s in report.scores]
    tables.record_metrics(store.paths, ref.space, ref.version, name, fingerprint, scores, report.notes)
    values = {s.metric: s.value for s in report.scores}
    return _score_ref(ref.space, ref.version, name, report.notes, values)


def _score_ref(space: str, version: int, name: str, notes: Mapping[str, Any], scores: dict[str, float]) -> ScoreRef:
    return ScoreRef(
        space=space, version=version, evaluation=name, scores=scores, n=notes.get("n"), sizes=notes.get("sizes", {}),
        views=notes.get("views", ()),
    )  # fmt: skip


def recorded_scores(pipeline: Pipeline, version: Version) -> list[ScoreRef]:
    """The newest recorded scores of the evaluations that the pipeline asks for now, in its order."""
    asked = pipeline.evaluations(version.manifest.space)
    cache = DigestCache(pipeline.vectors.paths.cache)
    current = {e.name: evaluation_fingerprint(pipeline, e, cache) for e in asked}
    newest: dict[str, ScoreRef] = {}
    for row in tables.metrics(version.paths, version.manifest.space, version.number):
        name = row["evaluation"]
        if current.get(name) != row["fingerprint"]:
            continue  # of an evaluation that was changed or taken out since
        if row["notes"] is not None:  # the headline opens a new round
            newest[name] = _score_ref(row["space"], row["version"], name, json.loads(row["notes"]), {})
        newest[name].scores[row["metric"]] = row["value"]
    return [newest[e.name] for e in asked if e.name in newest]
