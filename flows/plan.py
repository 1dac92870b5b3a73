"""The DAG of datasets, spaces and evaluations, and what of it has to run, with the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import networkx as nx

from embedders.base import Embedder
from embedders.data import Rows
from embedders.errors import InputError, PolyvecError
from flows.checks import problems
from flows.made import Made, made
from flows.output_plan import OutputPlan, plan_output, sides
from flows.pipeline import Pipeline
from flows.starts import folds_into, given, goes_on_from
from flows.trials import Tuning, tuned, tuning_of
from storage.changes import recipe_changes, start_change
from storage.digests import DigestCache
from storage.errors import NotFoundError
from storage.incremental import to_embed
from storage.inputs.specs import Scan
from storage.manifest import Manifest, Recipe, Start
from storage.space import Version
from storage.store import VectorStore
from storage.writer import check_replaced

Node = tuple[str, str]
CHANGED = "the dataset changed"
NO_FILES = Scan((), (), (), "", 0)
"""What a space is learned from that is made of other spaces."""


@dataclass(frozen=True)
class SpacePlan:
    """What happens to one space. entry: of the pipeline file, which may write several; latest: the version it has now;
    tuning: the trials that choose its parameters.
    """

    name: str
    entry: str
    action: Literal["embed", "up to date"]
    reason: str
    fingerprint: str
    scan: Scan
    latest: Version | None
    evaluations: tuple[str, ...] = ()
    forced: bool = False
    tuning: Tuning | None = None

    @property
    def idle(self) -> bool:
        """Nothing is to be done."""
        return self.action == "up to date" and not self.evaluations


@dataclass(frozen=True)
class Plan:
    """The DAG and a decision for each space, in an order in which they can run.

    released : the latest version of each of these spaces is in a release, promoted or not.
    """

    graph: nx.DiGraph[Node]
    spaces: tuple[SpacePlan, ...]
    scans: Mapping[str, Scan] = field(default_factory=dict)
    released: bool = True
    outputs: tuple[OutputPlan, ...] = ()

    @property
    def idle(self) -> bool:
        """Nothing is to be done at all."""
        return all(one.idle for one in self.steps)

    @property
    def steps(self) -> tuple[SpacePlan | OutputPlan, ...]:
        """Spaces and outputs."""
        return *self.spaces, *self.outputs


def build_graph(pipeline: Pipeline) -> nx.DiGraph[Node]:
    """Nodes ("dataset" | "space" | "evaluation" | "output", name); an edge leads to what depends on it.

    Raises
    ------
    InputError : spaces depend on each other in a circle.
    """
    graph: nx.DiGraph[Node] = nx.DiGraph()
    for name in pipeline.datasets:
        graph.add_node(("dataset", name))
    for name, spec in pipeline.spaces.items():
        graph.add_node(("space", name))
        if spec.dataset:
            graph.add_edge(("dataset", spec.dataset), ("space", name))
        for upstream in pipeline.upstreams(name):
            graph.add_edge(("space", pipeline.entries[upstream]), ("space", name))
        for space in pipeline.outputs(name):
            for evaluation in pipeline.evaluations(space):
                graph.add_edge(("space", name), ("evaluation", f"{space}/{evaluation.name}"))
    for name, output in pipeline.derived.items():
        graph.add_edge(("space", output.space), ("output", name))
    try:
        circle = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return graph
    names = [edge[0][1] for edge in circle]
    raise InputError(
        f"Got a cycle among the spaces: {' -> '.join([*names, names[0]])}; expected an order in which each can be made. Remove one `start`, or one of `fuse`."
    )


def selected(graph: nx.DiGraph[Node], pipeline: Pipeline, only: Sequence[str]) -> list[str]:
    """Entries of `spaces:` in running order: all, or those of `only` with the spaces they are made from.

    Raises
    ------
    InputError : `only` names a space that is not in the file.
    """
    for name in only:
        if name not in {*pipeline.spaces, *pipeline.entries, *pipeline.derived}:
            known = f"the spaces {', '.join(pipeline.entries)}"
            known += f" and the outputs {', '.join(pipeline.derived)}" if pipeline.derived else ""
            raise InputError(f"Got --only {name}; the pipeline has {known}.")
    names = [pipeline.derived[name].space if name in pipeline.derived else name for name in only]
    wanted = {("space", pipeline.entries.get(name, name)) for name in names or pipeline.spaces}
    wanted |= {ancestor for node in set(wanted) for ancestor in nx.ancestors(graph, node)}
    place = {name: i for i, name in enumerate(pipeline.spaces)}
    order = nx.lexicographical_topological_sort(graph, key=lambda node: (node[0], place.get(node[1], 0)))
    return [name for kind, name in order if kind == "space" and (kind, name) in wanted]


def make_plan(
    pipeline: Pipeline, *, only: Sequence[str] = (), force: bool = False, replace: bool = False, extent: bool = False
) -> Plan:
    """Look at files and versions, and decide. Reads digests, makes and trains nothing.

    extent : also say how many rows of a changed dataset are to be embedded.

    Raises
    ------
    ReplacedError : a space would get another dimension or similarity, and `replace` is not set.
    InputError : a name or parameter is wrong, a file is missing, ids are double, or the pipeline has a cycle.
    """
    if wrong := [f"{'.'.join(map(str, place))}: {message}" for place, message in problems(pipeline)]:
        raise InputError("\n".join(wrong))  # Pipeline.load has said so with line numbers
    graph = build_graph(pipeline)
    names = selected(graph, pipeline, only)
    chosen = {pipeline.entries.get(name, name) for name in only}
    store = pipeline.vectors
    cache = DigestCache(store.paths.cache)
    used = dict.fromkeys(pipeline.spaces[name].dataset for name in names if pipeline.spaces[name].dataset)
    scans = {name: _scan(pipeline, name, cache) for name in used}
    decided: dict[str, SpacePlan] = {}
    for name in names:
        scan = scan_of(pipeline, name, scans)
        newest = {space: store.space(space).latest() for space in pipeline.outputs(name)}
        upstream = [decided[space] for space in pipeline.upstreams(name)]
        tuning = tuning_of(pipeline, name, scan.digest, _numbers(upstream))
        unsettled = tuning is not None and not tuning.settled
        now = tuned(pipeline, name, tuning)
        recipe = now.recipe(name)
        upstream_only = bool(pipeline.spaces[name].fuse)
        start = given(pipeline, name, cache)
        forced = force and (not chosen or name in chosen)
        reason = _reason(None if unsettled else recipe, scan, newest, upstream, start, forced=forced)
        if tuning is not None and (unsettled or forced):
            reason = "; ".join(
                filter(None, (reason, f"tune: {len(tuning.trials)} trials again" if forced else str(tuning)))
            )
        if reason and extent:
            extended = reason + _extent(now, name, scan, made(newest), upstream, start, reason)
        for space, latest in newest.items():
            if reason and latest is not None:  # where the width is known only after fitting, the step says so
                for version in _read_from(store, space, latest):
                    width = (None if unsettled else getattr(recipe, "dim", None)) or version.dim
                    entity = recipe.entity if space == name and not upstream_only else version.manifest.entity
                    check_replaced(version, entity, width, recipe.similarity, replace=replace)
            scored = set() if latest is None or reason else {row["fingerprint"] for row in store.metrics(latest)}
            asked = pipeline.evaluations(space)
            due = tuple(e.name for e in asked if evaluation_fingerprint(pipeline, e, cache) not in scored)
            action: Literal["embed", "up to date"] = "embed" if reason else "up to date"
            said = (extended if extent else reason) if reason else _idle_reason(due, tuning)
            decided[space] = SpacePlan(space, name, action, said, recipe.fingerprint, scan, latest, due, forced, tuning)
    outputs = tuple(
        plan_output(pipeline, name, decided, forced=force and (not chosen or name in chosen))
        for name, output in pipeline.derived.items()
        if name in chosen or (not chosen and set(sides(pipeline, output)) <= set(decided))
    )
    plan = Plan(graph, tuple(decided.values()), scans, outputs=outputs)
    versions = {one.name: one.latest.number for one in plan.steps if one.latest is not None}
    return dataclasses.replace(plan, released=len(versions) == len(plan.steps) and holds(store, versions))


def scan_of(pipeline: Pipeline, name: str, scans: Mapping[str, Scan]) -> Scan:
    """The files that an entry is learned from; of one that fuses spaces, none."""
    spec = pipeline.spec(name)
    return scans[spec.dataset] if spec.dataset else NO_FILES


def holds(store: VectorStore, versions: Mapping[str, int]) -> bool:
    """Whether each of these versions is in a release, promoted or not."""
    return set(versions.items()) <= {held for release in store.releases() for held in release.spaces.items()}


def _read_from(store: VectorStore, name: str, latest: Version) -> list[Version]:
    """What a new version takes the place of: the newest one, and the one that readers have."""
    try:
        found = store.find(name)
    except NotFoundError:  # production's was deleted by hand
        return [latest]
    return [latest] if found.number == latest.number else [latest, found]


def _scan(pipeline: Pipeline, name: str, cache: DigestCache) -> Scan:
    try:
        scan = pipeline.datasets[name].scan(pipeline.base, cache)
    except InputError as error:
        raise InputError(f"dataset {name!r}: {error}") from error
    store = f"{pipeline.vectors.root}/"
    if inside := next((path for path in scan.paths if path.startswith(store)), None):
        raise InputError(
            f"dataset {name!r}: got {inside!r}, a file of the store, among its files; expected none, or each run would change "
            "its own input. Narrow the path, or put the store elsewhere."
        )
    return scan


def evaluation_fingerprint(pipeline: Pipeline, evaluation: Any, cache: DigestCache) -> str:
    """16 hex digits over an evaluation's options and the bytes of its file, if it has one."""
    files = []
    if getattr(evaluation, "path", None) is not None:
        files = [pipeline.base / evaluation.path]
        if not files[0].is_file():
            raise InputError(
                f"evaluation {evaluation.name!r}: got path {evaluation.path!r} ({files[0]}), where there is no such file. Mend the path (it is relative to the pipeline file)."
            )
    options = evaluation.model_dump(mode="json", exclude={"path"})
    if options.get("labels", "") is None:  # an option that came later changes no old fingerprint
        del options["labels"]
    return hashlib.sha256(json.dumps([options, cache.digests(files)], sort_keys=True).encode()).hexdigest()[:16]


def _extent(
    pipeline: Pipeline, name: str, scan: Scan, latest: Made | None, upstream: Sequence[SpacePlan], start: Start | None, reason: str
) -> str:  # fmt: skip
    """How much of a changed dataset is to be embedded, where rows are embedded one by one; else where training begins."""
    if reason != CHANGED or latest is None or _start_change(latest.manifest, upstream, start):
        return ""
    recipe = pipeline.recipe(name)
    if not recipe.inductive:
        spec = pipeline.spaces[name]
        dataset = pipeline.dataset(name)
        before = goes_on_from(spec, recipe, latest, dataset, scan.digest, force=False)
        on = "" if before is None else f": goes on from version {before.number}"
        if folds_into(spec, recipe, latest, dataset, scan.digest, force=False) is None:
            return on
        return f": at most {spec.fold_in:g} of the rows new: folded in; else trained{on.replace(': ', ', ')}"
    rows = pipeline.dataset(name).rows(scan, pipeline.vectors.paths.cache)
    if rows is None:
        return ""
    if getattr(rows, "labels", None) is not None and (why := _outdated(latest, recipe, rows)):
        return f": learned anew, as {why}"
    return f": {to_embed(latest.first, rows):,} of {len(rows.ids):,} rows to embed"


def _outdated(latest: Made, recipe: Embedder[Any], rows: Rows) -> str:
    try:
        return latest.encoder(recipe).outdated(rows)
    except (PolyvecError, OSError):  # the run says so, and learns anew
        return ""


def _idle_reason(due: Sequence[str], tuning: Tuning | None) -> str:
    idle = f"to be judged: {', '.join(due)}" if due else "same data, same recipe"
    return f"{idle}; {tuning}" if tuning else idle


def _numbers(upstream: Sequence[SpacePlan]) -> dict[str, int] | None:
    """The versions of the spaces that an entry is made from; None where one of them will change."""
    found = {space.name: space.latest.number for space in upstream if space.latest and space.action != "embed"}
    return found if len(found) == len(upstream) else None


def _reason(
    recipe: Embedder[Any] | None, scan: Scan, newest: Mapping[str, Version | None], upstream: Sequence[SpacePlan], start: Start | None, *, forced: bool
) -> str:  # fmt: skip
    """Why an entry has to be embedded; empty when it need not. recipe : None while it is to be chosen."""
    lack = [space for space, version in newest.items() if version is None]
    if lack:
        return "no version yet" if len(lack) == len(newest) else f"no version of {', '.join(lack)} yet"
    if forced:
        return "forced"
    latest = made(newest)
    if latest is None:
        return "its spaces are not of one training"
    manifest = latest.manifest
    if recipe is not None and manifest.fingerprint != recipe.fingerprint:
        return _recipe_change(recipe, manifest.recipe)
    if manifest.dataset_digest != scan.digest:
        return CHANGED
    if lost := latest.missing():
        return f"{len(lost)} of its Parquet files are missing or cut short"
    return _start_change(manifest, upstream, start)


def _start_change(manifest: Manifest, upstream: Sequence[SpacePlan], start: Start | None) -> str:
    """What is another with what a version is made from; empty when nothing is."""
    if change := start_change(manifest.start, start):
        return change
    for space in upstream:
        if space.action == "embed" or space.latest is None:
            return f"{space.name} will change"
        if manifest.upstream.get(space.name) != space.latest.number:
            return f"{space.name} changed"
    if gone := sorted(set(manifest.upstream) - {space.name for space in upstream}):
        return "starts from no space any more" if not upstream else f"{', '.join(gone)} left out"
    return ""


def _recipe_change(recipe: Embedder[Any], before: Recipe) -> str:
    now = Recipe(kind=recipe.kind, version=recipe.version, params=recipe.model_dump(mode="json"))
    return ", ".join(recipe_changes(before, now, recipe.execution_only())) or "weights, labels or precision changed"
