"""Labels of pictures: the names of their folders, files beside them in an archive (WebDataset), or a table."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedders.errors import InputError
from embedders.image.opening import DecodeError
from embedders.labels import read_labels, text_of
from storage.digests import File
from storage.inputs.images_place import Entry, read
from storage.inputs.images_spec import LabelColumn, LabelFile, key

Labels = list[str | None]
Option = str | LabelFile | LabelColumn | None
_LIMIT = 1 << 20
"""Most bytes of a file of one label."""


def sidecars(option: Option) -> tuple[str, ...]:
    """The suffix of the files in an archive that hold labels."""
    return (".cls",) if option == "cls" else (".json",) if isinstance(option, LabelColumn) else ()


def folder(path: str) -> str | None:
    """The name of the folder that a picture lies in; None in none."""
    return posixpath.basename(posixpath.dirname(path)) or None


def beside(container: File, entries: Sequence[Entry], files: Mapping[str, Entry], option: Option) -> Labels | None:
    """What KEY.cls, or a field of KEY.json, says of each picture KEY.*; None where there is no such file or field.

    Raises
    ------
    InputError : such a file cannot be read, or no picture has one.
    """
    suffixes = sidecars(option)
    if not suffixes:
        return None
    known = {name.removesuffix(suffixes[0]): entry for name, entry in files.items()}
    labels: Labels = []
    for entry in entries:
        at, _, name = entry.name.rpartition("/")
        found = known.get(posixpath.join(at, key(name)))
        labels.append(None if found is None else _said(container, found, option))
    if not any(labels):
        wanted = (
            "KEY.cls"
            if option == "cls"
            else f"{option.column!r} in KEY.json"
            if isinstance(option, LabelColumn)
            else ""
        )
        raise InputError(f"Got no label in {container.path!r}; expected {wanted} beside pictures KEY.*. Mend `labels`.")
    return labels


def _said(container: File, entry: Entry, option: Option) -> str | None:
    name = f"{container.path}/{entry.name}"
    try:
        if entry.place is None:
            raise ValueError(entry.message)
        if entry.place.length > _LIMIT:
            raise ValueError(f"{entry.place.length:,} bytes")
        text = read(container, entry.place, name).decode().strip()
        value = json.loads(text).get(option.column) if isinstance(option, LabelColumn) else text
    except (DecodeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"Got the label {name!r}, which cannot be read ({error}). Mend it.") from error
    if isinstance(value, dict | list):
        raise InputError(f"Got {value!r} as the label in {name!r}; expected text or a number. Name another field.")
    return text_of(value).strip() or None


def table(option: LabelFile, path: Path, ids: Sequence[str]) -> Labels:
    """The labels of ids from a table; ids that only it knows are passed over, as is an empty label.

    Raises
    ------
    InputError : it cannot be read, an id has two labels, or it knows none of the ids.
    """
    known = read_labels(path, option.id, option.label)
    labels = [known.get(name) for name in ids]
    if not any(labels):
        raise InputError(
            f"Got labels of {next(iter(known), 'nothing')!r} and others in {str(path)!r}, and none of the pictures, as {ids[0]!r}; expected their ids. Mend the column, or set `id`."
        )
    return labels
