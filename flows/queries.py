"""Vectors of what is in no version: a question's own picture or text, through the encoder of the version it is put to.

A space that others were projected into (contrastive, cca) takes what any of those takes: the version that it was made of
encodes the question, and its head projects it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedders.base import Matrix
from embedders.data import Documents, Images
from embedders.errors import InputError
from embedders.fusion.shared import projects, unit
from embedders.image.opening import DecodeError, read
from embedders.registry import embedder_class, known
from storage.space import Space, Version


@dataclass(frozen=True)
class Answered:
    """Vectors (n, dim) of questions, and a line that says how each was made."""

    vectors: Matrix
    told: Sequence[str]


def _class_of(version: Version) -> Any:
    kind = version.manifest.recipe.kind
    return embedder_class(kind) if kind in known() else None


def _views(version: Version) -> dict[str, Version]:
    """The versions that a shared space was made of; none of other spaces."""
    found = _class_of(version)
    if not projects(found):
        return {}
    return {space: Space(version.paths, space).version(number) for space, number in version.manifest.upstream.items()}


def takes_pictures(version: Version) -> bool:
    """Whether the encoder of a version can encode a new picture."""
    return _takes(version, Images)


def takes_texts(version: Version) -> bool:
    """Whether the encoder of a version can encode a new text."""
    return _takes(version, Documents)


def _takes(version: Version, data: type) -> bool:
    found = _class_of(version)
    if found is not None and found.inductive and issubclass(found.data, data):
        return True
    return any(_takes(view, data) for view in _views(version).values())


def tokens_of(file: Path) -> dict[str, dict[str, Any]]:
    """How the datasets of a pipeline file cut texts into words; nothing of one that cannot be read now."""
    from flows.yaml_file import read_yaml

    found = {}
    for name, spec in (read_yaml(file)[0].get("datasets") or {}).items():
        if isinstance(spec, dict) and spec.get("kind") == "corpus":
            options = {key: spec[key] for key in ("tokens", "stop_words") if key in spec}
            if "stop_words" in options:
                options["stop_words"] = str(file.absolute().parent / Path(options["stop_words"]).expanduser())
            found[name] = options
    return found


def embed_queries(version: Version, queries: Sequence[str], tokens: dict[str, dict[str, Any]]) -> Answered:
    """Vectors of picture files and texts: what is a file is a picture where the space takes any, all else is a text.

    tokens : how datasets cut texts into words (options of a corpus), by the name of the dataset.

    Raises
    ------
    InputError : one of them is neither, cannot be decoded, or has no word that is known.
    DamagedError : a file of an encoder is not what was written.
    """
    pictures, texts = takes_pictures(version), takes_texts(version)
    files = [query for query in queries if pictures and (query.startswith("./") or is_file(query) or not texts)]
    words = [query for query in queries if query not in files]
    matrix = np.empty((len(queries), version.dim), np.float32)
    told = []
    for some, data, what in ((files, Images, "a picture file"), (words, Documents, "a text")):
        if some:
            places = [place for place, query in enumerate(queries) if query in some]
            matrix[places] = _encoded(version, [queries[place] for place in places], data, tokens)
            how = " + ".join(_encoders(version, data))
            told += [
                f"{query!r} is {what}; its vector was made with the encoder of {how}." for query in dict.fromkeys(some)
            ]
    return Answered(matrix, told)


def is_file(name: str) -> bool:
    """Whether there is a file of that name; a question may be longer than names of files may be."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def _encoders(version: Version, data: type) -> list[str]:
    """The versions whose own encoders take it."""
    views = [view for view in _views(version).values() if _takes(view, data)]
    return [name for view in views for name in _encoders(view, data)] or [
        f"{version.manifest.space} @ {version.number}"
    ]


def _encoded(version: Version, queries: Sequence[str], data: type, tokens: dict[str, dict[str, Any]]) -> Matrix:
    """(n, dim) vectors; in a shared space the mean direction of those of all views that take it."""
    views = _views(version)
    if not views:
        return embed_pictures(version, queries) if data is Images else embed_texts(version, queries, tokens)
    encoder: Any = version.encoder()
    total = np.zeros((len(queries), version.dim), np.float32)
    for space, view in views.items():
        if _takes(view, data):
            total += encoder.project(space, _encoded(view, queries, data, tokens))
    return unit(total)


def embed_pictures(version: Version, files: Sequence[str]) -> Matrix:
    """(files, dim) vectors of picture files, in float32; needs the store and the files, nothing else.

    Raises
    ------
    InputError : some of them cannot be decoded; each is named with its reason code.
    DamagedError : a file of the encoder is not what was written.
    """
    names = list(dict.fromkeys(files))
    return _answered(version, _images(names), names, files)


def embed_texts(version: Version, texts: Sequence[str], tokens: dict[str, dict[str, Any]]) -> Matrix:
    """(texts, dim) vectors of texts, cut into words as those of the version's dataset.

    Raises
    ------
    InputError : one of them holds no word that has a vector.
    """
    from storage.inputs.corpus import read_documents

    names = list(dict.fromkeys(texts))
    options = tokens.get(version.manifest.dataset, {})
    with tempfile.TemporaryDirectory(prefix="polyvec-") as folder:
        files = []
        for row, text in enumerate(names):
            path = Path(folder) / f"{row}.txt"
            path.write_text(text, encoding="utf-8")
            files.append((str(row), path))
        try:
            data = read_documents(files, **{**options, "document": "file"})
        except InputError as error:  # not one of them holds a word
            raise _no_word(names[0]) from error
        place = {str(row): text for row, text in enumerate(names)}
        if lost := [place[row] for row in place if row not in set(data.ids)]:
            raise _no_word(lost[0])
        return _answered(version, data, names, texts, place)


def _no_word(text: str) -> InputError:
    return InputError(f"Got {text!r}, which is no id and holds no word; expected an id or a text.")


def _answered(
    version: Version, data: Any, names: Sequence[str], asked: Sequence[str], called: dict[str, str] | None = None
) -> Matrix:
    """(asked, dim) the vectors of the rows of `data`. called : what a row's id stands for.

    Raises
    ------
    InputError : some have none.
    """
    place = {name: row for row, name in enumerate(names)}
    matrix = np.empty((len(names), version.dim), np.float32)
    problems = []
    of = version.manifest.space
    for batch in version.encoder().encode(data):
        ids = [name if called is None else called[name] for name in batch.vectors.ids]
        matrix[[place[name] for name in ids]] = batch.vectors.matrix
        for rejected in batch.rejected:
            what = (
                ""
                if called is None
                else f"Got {called[rejected.id]!r}, of which {of} @ {version.number} has no vector. "
            )
            problems.append(f"{what}{rejected.code}: {rejected.message}")
    if problems:
        raise InputError("\n".join(problems))
    return matrix[[place[name] for name in asked]]


def _images(names: Sequence[str]) -> Images:
    """Files as a dataset; one that cannot be read is left to the encoder to reject."""
    digests = []
    for name in names:
        try:
            digests.append(hashlib.sha256(read(Path(name))).hexdigest())
        except DecodeError:
            digests.append("")
    return Images(names, [Path(name) for name in names], digests)
