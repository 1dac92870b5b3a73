"""What runs of fused spaces need beside their vectors: what weights are chosen by, the single views, held-out entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedders.base import Embedder, Similarity, Vectors
from embedders.errors import InputError
from embedders.registry import embedder_class
from embedders.views import Views
from evaluation.base import Report, Score
from storage.space import Version

if TYPE_CHECKING:
    from flows.evaluations import CrossModal
    from flows.pipeline import Pipeline

Judge = Callable[[Vectors, Similarity], Report]


def read_views(recipe: Embedder[Any], upstream: Mapping[str, Version]) -> Views:
    """The spaces that a recipe fuses, with what it chooses weights by.

    Raises
    ------
    InputError : they do not join, or the file that weights are chosen by cannot be read.
    """
    from embedders.labels import read_label_sets, read_labels

    views = Views.of({space: version.vectors for space, version in upstream.items()})
    by = getattr(recipe, "weigh_by", None)
    if by is None:
        return views
    if by.links:
        return replace(views, told=read_label_sets(by.path, *by.columns))
    return replace(views, told={name: (label,) for name, label in read_labels(by.path, *by.columns).items()})


def upstream_of(pipeline: Pipeline, version: Version) -> dict[str, Version]:
    """The versions that a fused one was made of; they are in the pipeline's store, wherever it is itself."""
    return {space: pipeline.vectors.space(space).version(n) for space, n in version.manifest.upstream.items()}


def beside(pipeline: Pipeline, version: Version, judge: Judge) -> Report:
    """A report on a fused version, with the headline of each of its views beside, a mean over rows.

    A row that a view lacks counts as missed: so a view of few easy rows does not look better than one of all.
    """
    report = judge(version.vectors, version.manifest.similarity)
    scores, headline = list(report.scores), report.headline.metric
    views: list[str] = []
    for space, view in upstream_of(pipeline, version).items():
        held = set(version.ids)
        rows = np.flatnonzero([name in held for name in view.ids])
        some = Vectors(view.manifest.entity, [str(view.ids[row]) for row in rows], view.matrix[rows])
        try:
            found = judge(some, view.manifest.similarity)
        except InputError:  # too few of its rows have a label
            continue
        share = min(1.0, found.notes["n"] / report.notes["n"])
        scores.append(Score(f"{headline}[{space}]", found.headline.value * share))
        views.append(space)
    return Report(tuple(scores), {**report.notes, "views": views})


def views_of(pipeline: Pipeline, version: Version, vectors: Vectors) -> dict[str, Any]:
    """What a space was fused from, each alone; zeros where an entity is not in it."""
    found = {}
    for space, view in upstream_of(pipeline, version).items():
        place = {row: i for i, row in enumerate(view.ids)}
        rows = np.array([place.get(row, -1) for row in vectors.ids])
        found[space] = np.where(rows[:, None] >= 0, view.matrix[rows], np.float32(0))
    return found


def with_views(report: Report, version: Version) -> Report:
    """A report that has a score of each view among its own, told which they are."""
    metric = report.headline.metric
    views = [name for name in version.manifest.upstream if f"{metric}[{name}]" in {s.metric for s in report.scores}]
    return replace(report, notes={**report.notes, "views": views}) if views else report


def refitted(pipeline: Pipeline, version: Version) -> Callable[[Sequence[str]], Any] | None:
    """Of a space whose weights are chosen by labels: its vectors with weights chosen by the labels of some ids alone.

    A probe that asks labels must not be helped by those it asks. None where no label was used.
    """
    recipe = pipeline.recipe(version.manifest.space)
    by = getattr(recipe, "weigh_by", None)
    if by is None or by.labels is None:
        return None
    views = read_views(recipe, upstream_of(pipeline, version))

    def fit(ids: Sequence[str]) -> Any:
        told = {name: views.told[name] for name in ids if views.told and name in views.told}
        found: Any = recipe.fit(replace(views, told=told))
        place = {name: row for row, name in enumerate(found.ids)}
        rows = np.array([place.get(name, -1) for name in version.ids])
        return np.where(rows[:, None] >= 0, found.matrix[rows], np.float32(0))

    return fit


def no_better(scores: Mapping[str, float], views: tuple[str, ...]) -> str:
    """Why a fused space is not worth it by these scores, headline first; empty when it beats each view.

    >>> no_better({"accuracy": 0.7, "macro_f1": 0.6, "accuracy[a]": 0.72, "accuracy[b]": 0.5}, ("a", "b"))
    'accuracy 0.700 is not better than 0.720 of a alone'
    >>> no_better({"accuracy": 0.73, "accuracy[a]": 0.72}, ("a",))
    ''
    """
    headline = next(iter(scores), "")
    alone = {view: scores[key] for view in views if (key := f"{headline}[{view}]") in scores}
    best = max(alone, key=lambda view: alone[view], default="")
    if not best or scores[headline] > alone[best]:
        return ""
    return f"{headline} {scores[headline]:.3f} is not better than {alone[best]:.3f} of {best} alone"


def cross_modal_report(pipeline: Pipeline, version: Version, asked: CrossModal) -> Report:
    """Fit the recipe of a version again without some entities, and let one view of each find the others.

    Raises
    ------
    InputError : too few entities are in two spaces or more.
    """
    from evaluation.cross_modal import cross_modal

    m = version.manifest
    views = Views.of({space: found.vectors for space, found in upstream_of(pipeline, version).items()})
    several = np.flatnonzero(np.sum([rows >= 0 for rows in views.rows.values()], axis=0) > 1)
    if len(several) < 2 * asked.held_out:
        raise InputError(
            f"Got held_out: {asked.held_out}, and {len(several):,} entities of {m.space} are in two spaces or more; expected "
            "at least twice as many as are held out. Set held_out lower."
        )
    held = np.sort(np.random.default_rng(asked.seed).permutation(several)[: asked.held_out])
    rest = np.ones(len(views), bool)
    rest[held] = False
    encoder: Any = embedder_class(m.recipe.kind).model_validate(m.recipe.params).fit(views.select(rest))
    projected = {}
    for space, found in views.vectors.items():
        rows = views.rows[space][held]
        made = np.zeros((len(held), encoder.dim), np.float32)
        made[rows >= 0] = encoder.project(space, found.matrix[rows[rows >= 0]])
        projected[space] = (made, rows >= 0)
    report = cross_modal(projected)
    learned = {"trained_on": int(rest.sum()), "held_out": len(held), "seed": asked.seed}
    return replace(report, notes={**report.notes, **learned})
