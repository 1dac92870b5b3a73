"""What is wrong in a pipeline file beyond its form: names that lead nowhere, parameters that an embedder does not take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from embedders.base import Embedder
from embedders.errors import InputError
from embedders.fusion.shared import projects
from embedders.interactions import Interactions
from embedders.registry import embedder_class
from embedders.views import Views
from flows.evaluations import CrossModal, Downstream, Labelled, LinkPrediction, Ranking
from flows.output_plan import sides
from flows.tune_checks import of_grid, tune_problems
from flows.yaml_file import explain, unknown_name
from storage.inputs.specs import TableSpec
from storage.paths import check_name

if TYPE_CHECKING:
    from flows.outputs import Recommend
    from flows.pipeline import Pipeline, SpaceSpec

Problem = tuple[tuple[str | int, ...], str]
"""Where in the file, and what."""


def problems(pipeline: Pipeline) -> Iterator[Problem]:
    """What is wrong with names and parameters, each with its place in the file."""
    yield from _named(pipeline)
    for name, spec in pipeline.spaces.items():
        yield from _space(pipeline, name, spec)
    for name, evaluations in pipeline.evaluate.items():
        if name not in pipeline.spaces and name not in pipeline.entries:
            yield ("evaluate", name), unknown_name("space", name, pipeline.entries)
            continue
        for place, evaluation in enumerate(evaluations):
            yield from _evaluation(pipeline, name, place, evaluation)
    for name, output in pipeline.derived.items():
        yield from _output(pipeline, name, output)
    for space in pipeline.entries:
        seen: set[str] = set()
        for evaluation in pipeline.evaluations(space):
            if evaluation.name in seen:
                yield (
                    ("evaluate", space),
                    f"got the evaluation name {evaluation.name!r} twice; expected unique names. Rename one.",
                )
            seen.add(evaluation.name)


def _named(pipeline: Pipeline) -> Iterator[Problem]:
    """Datasets and spaces can be called so, also those that are called after columns."""
    written = {name: (name, *pipeline.outputs(name)) for name in pipeline.spaces}
    for what, names in (("dataset", {name: (name,) for name in pipeline.datasets}), ("space", written)):
        for name, all_names in names.items():
            try:
                for one in all_names:
                    check_name(one, what)
            except InputError as error:
                yield (f"{what}s", name), str(error)


def _evaluation(pipeline: Pipeline, name: str, place: int, evaluation: Any) -> Iterator[Problem]:
    asks = isinstance(evaluation, LinkPrediction) or (isinstance(evaluation, Labelled) and evaluation.labels)
    if asks and pipeline.spec(name).fuse:
        yield (
            ("evaluate", name, place),
            f"got {evaluation.metric} with what a dataset tells, and {name} is fused of {pipeline.spec(name).source}, without one. "
            "Give a file of labels: path, id, label; or judge the spaces that it is made of.",
        )
    if isinstance(evaluation, CrossModal) and not _projects(pipeline, name):
        yield (
            ("evaluate", name, place, "metric"),
            f"got cross_modal, and {name} is made by {pipeline.spec(name).embedder!r}, which projects no views into one space; "
            "expected a space that contrastive or cca makes. Take it out.",
        )
    if isinstance(evaluation, Ranking):
        yield from _ranking(pipeline, name, place)
    if isinstance(evaluation, LinkPrediction):
        yield from _links(pipeline, name, place)
    if isinstance(evaluation, Labelled) and evaluation.labels:
        yield from _labels(pipeline, name, place)
    if isinstance(evaluation, Downstream):
        yield from _downstream(pipeline, name, place)


def _projects(pipeline: Pipeline, name: str) -> bool:
    """Whether an embedder leaves a head for each view; of an unknown one, which is said elsewhere, it is not asked."""
    try:
        return projects(embedder_class(pipeline.spec(name).embedder))
    except InputError:
        return True


def _ranking(pipeline: Pipeline, name: str, place: int) -> Iterator[Problem]:
    """Items are ranked for users, by vectors of both."""
    entry = pipeline.entries.get(name, name)
    if {f"{entry}.users", f"{entry}.items"} <= set(pipeline.outputs(entry)):
        return
    yield (
        ("evaluate", name, place, "metric"),
        f"got ranking, and {pipeline.spec(name).embedder!r} of {name} does not learn users and items. Take it out, or judge a space of "
        "a dataset of kind interactions.",
    )


def _output(pipeline: Pipeline, name: str, output: Recommend) -> Iterator[Problem]:
    """It is made of a space of users and items, and nothing else is called so."""
    try:
        check_name(name, "output")
    except InputError as error:
        yield ("outputs", name), str(error)
    if name in {*pipeline.spaces, *pipeline.entries}:
        yield ("outputs", name), f"got {name!r}, which is a space as well. Rename one."
    if output.space not in pipeline.spaces:
        yield ("outputs", name, "space"), unknown_name("space", output.space, pipeline.spaces)
    elif not set(sides(pipeline, output)) <= set(pipeline.outputs(output.space)):
        yield (
            ("outputs", name, "space"),
            f"got {output.space!r}, of which {pipeline.spec(output.space).embedder!r} does not learn users and items. Name a space of "
            "a dataset of kind interactions.",
        )


def _links(pipeline: Pipeline, name: str, place: int) -> Iterator[Problem]:
    """Links are predicted of a graph, and of edges that it held out."""
    dataset = pipeline.spec(name).dataset
    spec = pipeline.datasets.get(dataset)
    if spec is not None and spec.holds_out and (seen := _seen_by(pipeline, name)):
        yield (
            ("evaluate", name, place, "metric"),
            f"got link_prediction, and {name} begins at {seen!r}, a space of the graph {pipeline.spec(seen).dataset!r}, which may "
            f"have seen the edges held out. Let {seen} be of {dataset}, too.",
        )
    if spec is None or spec.holds_out:
        return
    remedy = "Take it out" if spec.kind != "graph" else f"Add hold_out: {{share: 0.1, seed: 0}} to {dataset}"
    yield (
        ("evaluate", name, place, "metric"),
        f"got link_prediction, and {name} is of {dataset!r}, a dataset of kind {spec.kind} that holds no edges out. {remedy}.",
    )


def _downstream(pipeline: Pipeline, name: str, place: int) -> Iterator[Problem]:
    """The rows of a table that names a target are judged, not its values."""
    dataset = pipeline.spec(name).dataset
    spec = pipeline.datasets.get(dataset)
    what = ("evaluate", name, place, "metric")
    if not isinstance(spec, TableSpec):
        yield (
            what,
            f"got downstream, and {name} is of {pipeline.spec(name).source!r}; expected a dataset of kind table. Take it out.",
        )
    elif spec.target is None:
        yield what, f"got downstream, and the dataset {dataset!r} names no target. Add target: COLUMN to it."
    entry = pipeline.entries.get(name, name)
    if name not in (entry, pipeline.outputs(entry)[0]):
        yield what, f"got downstream for {name}, whose rows are values of a column. Give it to {entry}."


def _seen_by(pipeline: Pipeline, name: str) -> str | None:
    """The space of another graph that a space begins at, by way of others, too."""
    dataset, passed = pipeline.spec(name).dataset, {name}
    while (start := pipeline.spec(name).start) and start.space in pipeline.entries and start.space not in passed:
        name = start.space
        passed.add(name)
        other = pipeline.spec(name).dataset
        if other != dataset and getattr(pipeline.datasets.get(other), "kind", None) == "graph":
            return name
    return None


def _labels(pipeline: Pipeline, name: str, place: int) -> Iterator[Problem]:
    """Only some datasets have labels."""
    dataset = pipeline.spec(name).dataset
    spec = pipeline.datasets.get(dataset)
    if spec is None or getattr(spec, "labels", None) is not None:
        return
    able = "labels" in type(spec).model_fields
    remedy = f"Add labels to {dataset}, or give" if able else "Give"
    yield (
        ("evaluate", name, place, "labels"),
        f"got labels: dataset, and {name} is of {dataset!r}, a dataset of kind {spec.kind} that names none. "
        f"{remedy} a file of labels here: path, id, label.",
    )


def _space(pipeline: Pipeline, name: str, spec: SpaceSpec) -> Iterator[Problem]:
    yield from _names(pipeline, name, spec)
    try:
        kind = embedder_class(spec.embedder)
    except InputError as error:
        yield ("spaces", name, "embedder"), str(error)
        return
    if kind.needs_start and spec.start is None:
        yield (
            ("spaces", name, "embedder"),
            f"got {spec.embedder!r} without a start, which it learns nothing without. Add start: {{space: NAME}}.",
        )
    if spec.start is not None and kind.data is Interactions:
        yield (
            ("spaces", name, "start"),
            f"got {spec.start.name!r} with {spec.embedder!r}, which goes on from the version before by itself. Leave start out.",
        )
    if spec.fold_in and not kind.folds_in:
        yield (
            ("spaces", name, "fold_in"),
            f"got {spec.fold_in:g} with {spec.embedder!r}, which folds no rows in. Leave fold_in out.",
        )
    if bool(spec.fuse) != issubclass(kind.data, Views):
        expected = "fuse: [SPACE, ...]" if issubclass(kind.data, Views) else "dataset: NAME"
        yield ("spaces", name, "embedder"), f"got {spec.embedder!r} of {spec.source!r}; expected {expected} with it."
    elif spec.dataset in pipeline.datasets and kind.data not in pipeline.datasets[spec.dataset].gives:
        got = pipeline.datasets[spec.dataset].kind
        yield (
            ("spaces", name, "dataset"),
            f"got {spec.dataset!r}, a dataset of kind {got}; {spec.embedder} reads {kind.data.__name__}.{_instead(pipeline, spec)}",
        )
    yield from tune_problems(pipeline, name, spec, kind)
    try:
        recipe = kind.model_validate(spec.all_params)
        yield from _start(pipeline, name, spec, recipe)
    except ValidationError as error:
        for found in error.errors():
            if spec.tune and (not found["loc"] or of_grid(spec.tune, found["loc"])):
                continue  # said of the grid
            place = ("spaces", name, "params", *map(str, found["loc"]))
            yield place, explain(found, kind, found["loc"])


def _instead(pipeline: Pipeline, spec: SpaceSpec) -> str:
    """The embedder that has the place of another one for a table."""
    if spec.embedder == "one-hot" and isinstance(pipeline.datasets[spec.dataset], TableSpec):
        return " Rows are embedded by one-hot-rows."
    return ""


def _names(pipeline: Pipeline, name: str, spec: SpaceSpec) -> Iterator[Problem]:
    """What it is made of is there, and what it makes is made by nothing else."""
    if spec.dataset and spec.dataset not in pipeline.datasets:
        yield ("spaces", name, "dataset"), unknown_name("dataset", spec.dataset, pipeline.datasets)
    for upstream in pipeline.upstreams(name):
        if upstream not in pipeline.entries:
            key = ("fuse",) if spec.fuse else ("start", "space")
            yield ("spaces", name, *key), unknown_name("space", upstream, pipeline.entries)
    if pipeline.entries.get(name, name) != name and name not in pipeline.outputs(name):
        yield (
            ("spaces", name),
            f"got {name}, which is also what a space of {pipeline.entries[name]} is called. Rename one.",
        )
    for space in pipeline.outputs(name):
        if pipeline.entries[space] != name:
            yield ("spaces", name), f"got the space {space}, which {pipeline.entries[space]} makes as well. Rename one."


def _start(pipeline: Pipeline, name: str, spec: SpaceSpec, recipe: Embedder[Any]) -> Iterator[Problem]:
    """A start must be as wide as the space; where one of both is not known here, fitting says so."""
    if spec.start is None or spec.start.space not in (None, *pipeline.entries):
        return
    try:
        if spec.start.space is not None:
            theirs = getattr(pipeline.recipe(spec.start.space), "dim", None)
        else:
            theirs = spec.start.source(pipeline.base).dim
    except (InputError, ValidationError) as error:
        if spec.start.space is None:  # else it is said at that space
            yield ("spaces", name, "start", "file" if spec.start.file else "package"), str(error)
        return
    ours = getattr(recipe, "dim", None)
    if any("dim" in found.tune.grid for found in (spec, pipeline.spec(spec.start.space or name)) if found.tune):
        return  # as wide as trials choose
    if None not in (ours, theirs) and ours != theirs:
        yield (
            ("spaces", name, "start"),
            f"got {spec.start.name!r} of dim {theirs}; expected dim {ours}. Make both alike.",
        )
