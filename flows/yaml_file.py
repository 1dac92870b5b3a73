"""A YAML file with its line numbers, and pydantic's errors as got / expected on those lines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from embedders.errors import InputError


def read_yaml(path: Path) -> tuple[dict[str, Any], Any]:
    """The contents of a YAML 1.2 file as plain values, and the same with line marks, for `line_of`.

    Raises
    ------
    InputError : it is missing, not UTF-8, no YAML, no mapping, or has a key twice; the message names the line.
    """
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


def line_of(marked: Any, place: Sequence[str | int]) -> int:
    """The line of the innermost key on the way to `place`."""
    return [1, *(line for _, line in _walk(marked, place))][-1]


def messages(path: Path, lines: Any, model: type[BaseModel], error: ValidationError) -> list[str]:
    """Each of pydantic's errors as one line: file:line: place: got, expected."""
    found = []
    for item in error.errors():
        held = [step for step, _ in _walk(lines, item["loc"])]
        missing = [item["loc"][-1]] if item["type"] == "missing" else []
        place = ".".join(map(str, held + missing)) or "the file"
        found.append(f"{path}:{line_of(lines, item['loc'])}: {place}: {explain(item, model, item['loc'])}")
    return found


TAGS = {
    "kind": ("corpus", "images", "graph", "interactions"),
    "metric": (
        "label_probe",
        "knn",
        "neighbours",
        "retrieval",
        "near_duplicates",
        "node_classification",
        "link_prediction",
        "cross_modal",
        "ranking",
        "word_similarity",
        "analogies",
    ),
}


def explain(item: Any, model: type[BaseModel], place: Sequence[str | int]) -> str:
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
            return fields_of(annotation)
        field = next((f for n, f in annotation.model_fields.items() if (f.alias or n) == str(place[0])), None)
        return _known(field.annotation, place[1:]) if field else set()
    return set()


def fields_of(model: type[BaseModel]) -> set[str]:
    """The keys of a model that a file may hold."""
    internal = {
        n
        for n, f in model.model_fields.items()
        if isinstance(f.json_schema_extra, dict) and f.json_schema_extra.get("internal")
    }
    return {f.alias or n for n, f in model.model_fields.items() if n not in internal}


def _tag_values(model: Any) -> set[Any]:
    fields = getattr(model, "model_fields", {})
    return {value for name in ("kind", "metric") if name in fields for value in get_args(fields[name].annotation)}


def unknown_name(what: str, got: str, known: Mapping[str, Any]) -> str:
    """The message for a name that is not among those known."""
    close = difflib.get_close_matches(got, list(known), 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"got the {what} {got!r}, which the file does not name; expected one of {', '.join(known)}.{hint}"
