"""The pipeline file: datasets, the spaces to learn from them, and how they are judged."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedders.base import Embedder
from embedders.errors import InputError
from embedders.registry import embedder_class
from storage.inputs.specs import AnyDataset, DatasetSpec
from storage.paths import check_name
from storage.store import VectorStore

LATER = {
    "gates": "Every version is released as it is.",
    "outputs": "Read the vectors with `polyvec files`.",
    "schedule": "Put the schedule into deployments/prefect.yaml.",
    "keep": "Every version is kept.",
}
LATER_KINDS = {"interactions": "edges of a graph can stand for them", "table": "only corpus, images and graph are read"}


class Frozen(BaseModel):
    """Base of what the pipeline file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(Frozen):
    """Where training begins instead of at random."""

    space: str = Field(description="a space of this file; rows with equal ids begin at its vectors")


class SpaceSpec(Frozen):
    """One space: a dataset, an embedder, its parameters."""

    dataset: str
    embedder: str
    params: dict[str, Any] = Field(default_factory=dict)
    start: Start | None = None


class LabelProbe(Frozen):
    """Logistic regression on the vectors predicts a label, 5-fold."""

    name: str
    metric: Literal["label_probe"]
    path: str = Field(description="a .tsv or .csv file with a header")
    id: str = Field("id", description="the column of ids")
    label: str = Field("label", description="the column of labels")


class Neighbours(Frozen):
    """How often a row's nearest neighbours have its label."""

    name: str
    metric: Literal["neighbours"]
    path: str = Field(description="a .tsv or .csv file with a header")
    id: str = Field("id", description="the column of ids")
    label: str = Field("label", description="the column of labels")
    k: int = Field(10, ge=1, description="neighbours looked at")


class WordSimilarity(Frozen):
    """Rank correlation with people's judgements of word pairs."""

    name: str
    metric: Literal["word_similarity"]
    path: str = Field(description="word, word, score on each line")


class Analogies(Frozen):
    """a is to b as c is to ... (Mikolov et al. 2013)."""

    name: str
    metric: Literal["analogies"]
    path: str = Field(description="four words on each line, sections start with ':'")
    restrict: int | None = Field(None, ge=2, description="only the most frequent words")


Evaluation = Annotated[LabelProbe | Neighbours | WordSimilarity | Analogies, Field(discriminator="metric")]


class Pipeline(Frozen):
    """A pipeline file's contents; also a Python API of the same names.

    base : the folder that relative paths start from.
    """

    store: str = "./vectors"
    datasets: dict[str, AnyDataset] = Field(min_length=1)
    spaces: dict[str, SpaceSpec] = Field(min_length=1)
    evaluate: dict[str, list[Evaluation]] = Field(default_factory=dict)
    base: Path = Field(default_factory=Path.cwd, exclude=True, json_schema_extra={"internal": True})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a pipeline file.

        Raises
        ------
        InputError : it is missing, no YAML, or holds something that is not expected; the message names the line.
        """
        path = Path(path)
        content, lines = _read_yaml(path)
        _refuse_later(path, content, lines)
        if "base" in content:
            raise InputError(
                f"{path}:{_line(lines, ('base',))}: got the unknown key 'base'; expected one of {', '.join(sorted(_fields(cls)))}."
            )
        try:
            pipeline = cls.model_validate(content | {"base": path.absolute().parent})
        except ValidationError as error:
            raise InputError("\n".join(_messages(path, lines, cls, error))) from None
        problems = [
            f"{path}:{_line(lines, place)}: {'.'.join(map(str, place))}: {message}"
            for place, message in pipeline.problems()
        ]
        if problems:
            raise InputError("\n".join(problems))
        return pipeline

    def problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
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
                yield ("evaluate", name), _unknown("space", name, self.spaces)
            seen: set[str] = set()
            for evaluation in evaluations:
                if evaluation.name in seen:
                    yield (
                        ("evaluate", name),
                        f"got the evaluation name {evaluation.name!r} twice; expected unique names. Rename one.",
                    )
                seen.add(evaluation.name)

    def _space_problems(self, name: str, spec: SpaceSpec) -> Iterator[tuple[tuple[str, ...], str]]:
        if spec.dataset not in self.datasets:
            yield ("spaces", name, "dataset"), _unknown("dataset", spec.dataset, self.datasets)
        if spec.start is not None and spec.start.space not in self.spaces:
            yield ("spaces", name, "start", "space"), _unknown("space", spec.start.space, self.spaces)
        try:
            kind = embedder_class(spec.embedder)
        except InputError as error:
            yield ("spaces", name, "embedder"), str(error)
            return
        if spec.dataset in self.datasets and self.datasets[spec.dataset].data is not kind.data:
            got = self.datasets[spec.dataset].kind
            yield (
                ("spaces", name, "dataset"),
                f"got {spec.dataset!r}, a dataset of kind {got}; {spec.embedder} reads {kind.data.__name__}.",
            )
        try:
            kind.model_validate(spec.params)
        except ValidationError as error:
            for found in error.errors():
                place = ("spaces", name, "params", *map(str, found["loc"]))
                yield place, _explain(found, kind, found["loc"])

    @property
    def vectors(self) -> VectorStore:
        """The store it writes."""
        return VectorStore(self.store if "://" in self.store else self.base / Path(self.store).expanduser())

    def recipe(self, space: str) -> Embedder[Any]:
        """The embedder of a space."""
        spec = self.spaces[space]
        return embedder_class(spec.embedder).model_validate(spec.params).located(self.base)

    def dataset(self, space: str) -> DatasetSpec:
        """The dataset of a space."""
        return self.datasets[self.spaces[space].dataset]


def schema() -> dict[str, Any]:
    """The JSON schema of the pipeline file, for editors."""
    found = Pipeline.model_json_schema()
    found["properties"].pop("base")
    return found | {"title": "polyvec pipeline", "description": "What a polyvec.yaml holds."}


def _read_yaml(path: Path) -> tuple[dict[str, Any], Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"Got the pipeline file {str(path)!r}, which does not exist. Do: polyvec init DIR, or name one with -f FILE."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Got the pipeline file {str(path)!r}, which cannot be read ({error}); expected UTF-8 text."
        ) from error
    try:
        marked = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1]
        raise InputError(
            f"{path}:{error.problem_mark.line + 1}: got the key {key!r} twice; expected it once. Remove one."
        ) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).splitlines()[0]
        raise InputError(f"{path}:{line}: got YAML that cannot be read: {problem}. Mend the line.") from None
    except YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        problem = str(error).splitlines()[0]
        raise InputError(f"{path}:{line}: got YAML that cannot be read: {problem}. Mend the line.") from None
    except RecursionError:
        raise InputError(
            f"{path}: got YAML that is nested too deeply; expected the keys store, datasets, spaces."
        ) from None
    if not isinstance(marked, dict):
        got = "an empty file" if marked is None else "a list" if isinstance(marked, list) else repr(str(marked)[:60])
        raise InputError(f"{path}:1: got {got}; expected the keys store, datasets, spaces.")
    return _plain(marked), marked


def _plain(value: Any) -> Any:
    """The value without the loader's own types."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _walk(marked: Any, place: Sequence[str | int]) -> Iterator[tuple[str | int, int]]:
    """The steps of `place` that the file holds, each with its line; a union's tag is not in the file.

    A key that a merge (`<<`) brings has the line of what it is merged into.
    """
    line = 1
    for step in place:
        if isinstance(marked, dict):
            key = next((key for key in marked if str(key) == str(step)), None)  # 2024 may be a key, and "2024" a name
            if key is None:
                continue
            line = marked.lc.data[key][0] + 1 if key in (marked.lc.data or {}) else line  # type: ignore[attr-defined]
            marked = marked[key]
        elif isinstance(marked, list) and isinstance(step, int) and step < len(marked):
            line = marked.lc.item(step)[0] + 1  # type: ignore[attr-defined]
            marked = marked[step]
        else:
            continue
        yield step, line


def _line(marked: Any, place: Sequence[str | int]) -> int:
    """The line of the innermost key on the way to `place`."""
    return [1, *(line for _, line in _walk(marked, place))][-1]


def _refuse_later(path: Path, content: Mapping[str, Any], lines: Any) -> None:
    """A feature of the design that is not built yet is refused by name, never ignored."""
    for key, instead in LATER.items():
        if key in content:
            raise InputError(f"{path}:{_line(lines, (key,))}: {key}: not available yet. {instead} Remove the key.")
    for name, spec in _entries(content, "spaces"):
        if "fuse" in spec:
            raise InputError(
                f"{path}:{_line(lines, ('spaces', name, 'fuse'))}: spaces.{name}.fuse: not available yet. Join the spaces by id where you read them."
            )
    for name, spec in _entries(content, "datasets"):
        if (kind := spec.get("kind")) in LATER_KINDS:
            raise InputError(
                f"{path}:{_line(lines, ('datasets', name, 'kind'))}: datasets.{name}.kind: {kind}: not available yet; {LATER_KINDS[kind]}."
            )


def _entries(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    section = content.get(key)
    if isinstance(section, dict):
        yield from ((name, spec) for name, spec in section.items() if isinstance(spec, dict))


def _messages(path: Path, lines: Any, model: type[BaseModel], error: ValidationError) -> list[str]:
    found = []
    for item in error.errors():
        held = [step for step, _ in _walk(lines, item["loc"])]
        missing = [item["loc"][-1]] if item["type"] == "missing" else []
        place = ".".join(map(str, held + missing)) or "the file"
        found.append(f"{path}:{_line(lines, item['loc'])}: {place}: {_explain(item, model, item['loc'])}")
    return found


TAGS = {
    "kind": ("corpus", "images", "graph"),
    "metric": ("label_probe", "neighbours", "word_similarity", "analogies"),
}


def _explain(item: Any, model: type[BaseModel], place: Sequence[str | int]) -> str:
    """One pydantic error as got / expected."""
    kind, got = item["type"], item["input"]
    if kind == "extra_forbidden":
        known = sorted(_known(model, place[:-1]))
        close = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"got the unknown key {str(place[-1])!r}; expected one of {', '.join(known)}.{hint}"
    if kind == "missing":
        return "got nothing; expected a value. Add the key."
    if kind == "union_tag_not_found":
        tag = item["ctx"]["discriminator"].strip("'")
        return f"got no {tag}; expected {tag}: one of {', '.join(TAGS[tag])}."
    if kind == "union_tag_invalid":
        return f"got {item['ctx']['tag']!r}; expected one of {item['ctx']['expected_tags']}."
    if kind == "too_short":
        return "got nothing in it; expected at least one. Add one."
    shown = json.dumps(got, ensure_ascii=False, default=str)
    message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        message = "keys with values"
    return f"got {shown if len(shown) <= 80 else shown[:77] + '...'}; expected {message}."


def _known(annotation: Any, place: Sequence[str | int]) -> set[str]:
    """The keys that are allowed at `place` below a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _known(get_args(annotation)[0], place)
    if origin in (Union, UnionType):
        if place and place[0] in {tag for tags in TAGS.values() for tag in tags}:
            matching = [t for t in get_args(annotation) if place[0] in _tag_values(t)]
            return set().union(*(_known(t, place[1:]) for t in matching))
        return set().union(*(_known(t, place) for t in get_args(annotation)))
    if origin in (dict, list):
        return _known(get_args(annotation)[-1], place[1:])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not place:
            return _fields(annotation)
        field = annotation.model_fields.get(str(place[0]))
        return _known(field.annotation, place[1:]) if field else set()
    return set()


def _fields(model: type[BaseModel]) -> set[str]:
    internal = {
        n
        for n, f in model.model_fields.items()
        if isinstance(f.json_schema_extra, dict) and f.json_schema_extra.get("internal")
    }
    return set(model.model_fields) - internal


def _tag_values(model: Any) -> set[Any]:
    fields = getattr(model, "model_fields", {})
    return {value for name in ("kind", "metric") if name in fields for value in get_args(fields[name].annotation)}


def _unknown(what: str, got: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(got, list(known), 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"got the {what} {got!r}, which the file does not name; expected one of {', '.join(known)}.{hint}"
