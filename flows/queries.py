"""Vectors of pictures that are in no version: a question's own picture, through the encoder of the version it is put to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedders.base import Matrix
from embedders.data import Images
from embedders.errors import InputError
from embedders.image.opening import DecodeError, read
from embedders.registry import embedder_class, known
from storage.space import Version


def takes_pictures(version: Version) -> bool:
    """Whether the encoder of a version can encode a new picture."""
    kind = version.manifest.recipe.kind
    return kind in known() and embedder_class(kind).inductive and issubclass(embedder_class(kind).data, Images)


def embed_pictures(version: Version, files: Sequence[str]) -> Matrix:
    """(files, dim) vectors of picture files, in float32; needs the store and the files, nothing else.

    Raises
    ------
    InputError : some of them cannot be decoded; each is named with its reason code.
    DamagedError : a file of the encoder is not what was written.
    """
    names = list(dict.fromkeys(files))
    place = {name: row for row, name in enumerate(names)}
    matrix = np.empty((len(names), version.dim), np.float32)
    problems = []
    for batch in version.encoder().encode(_images(names)):
        matrix[[place[name] for name in batch.vectors.ids]] = batch.vectors.matrix
        problems += [f"{rejected.code}: {rejected.message}" for rejected in batch.rejected]
    if problems:
        raise InputError("\n".join(problems))
    return matrix[[place[name] for name in files]]


def _images(names: Sequence[str]) -> Images:
    """Files as a dataset; one that cannot be read is left to the encoder to reject."""
    digests = []
    for name in names:
        try:
            digests.append(hashlib.sha256(read(Path(name))).hexdigest())
        except DecodeError:
            digests.append("")
    return Images(names, [Path(name) for name in names], digests)
