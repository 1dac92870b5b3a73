"""Which pictures a network learns from: their classes, what is held out, and what early stopping looks at."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.data import Images
from embedders.errors import InputError
from embedders.image.options import DATASET, HoldOut, Training


@dataclass(frozen=True, eq=False)
class Chosen:
    """Pictures to learn from. rows : (n,) int64 of the dataset. labels : of each, without labels None. counts : what was left out, for the manifest."""

    rows: NDArray[np.int64]
    labels: list[str] | None
    counts: Mapping[str, Any]


def chosen(data: Images, options: Training) -> Chosen:
    """The pictures that are not held out and, if labels count, have one.

    Raises
    ------
    InputError : the dataset has no labels; a file is malformed; no picture is left.
    """
    held = held_out(data.ids, options.hold_out)
    counts: dict[str, Any] = {"held_out": len(held)}
    if options.hold_out is not None:
        counts["hold_out"] = (
            options.hold_out.model_dump(exclude_none=True, exclude={"file"}) if options.hold_out.share else "file"
        )
    names = None if options.labels is None else _labels(data, options, counts)
    rows = [row for row, id in enumerate(data.ids) if id not in held and (names is None or names.get(id))]
    if not rows:
        raise InputError(
            f"Got {len(data):,} pictures, of which {len(held):,} are held out{'' if names is None else f' and {len(names):,} have a label'}; expected some to learn from. "
            "Check that the ids of the labels are those of the dataset (`id:` of the dataset: path, stem or name)."
        )
    if names is not None:
        counts["unlabelled"] = len(data) - len(held) - len(rows)
    return Chosen(np.array(rows, np.int64), None if names is None else [names[data.ids[row]] for row in rows], counts)


def held_out(ids: Any, rule: HoldOut | None) -> set[str]:
    """The ids that training must not see; by a share, whether an id is one depends on nothing but itself and the seed."""
    if rule is None:
        return set()
    if rule.file is not None:
        wanted = set(_text(Path(rule.file), "train.hold_out").split("\n")) - {""}
        if not (found := wanted.intersection(ids)):
            raise InputError(
                f"Got the file {rule.file!r} of {len(wanted):,} ids to hold out, none of which is a picture's; expected one id on each line. Check the ids."
            )
        return found
    return {id for id in ids if _draw(rule.seed, id) < (rule.share or 0)}


def _draw(seed: int, id: str) -> float:
    """A number from 0 to 1 that belongs to an id."""
    digest = hashlib.sha256(f"{seed}:{id}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _labels(data: Images, options: Training, counts: dict[str, Any]) -> dict[str, str]:
    if options.labels != DATASET:
        found = read_labels(Path(str(options.labels)), options.id, options.label)
        known = found.keys() & set(data.ids)
        counts["labels_without_picture"] = len(found) - len(known)
        return {id: found[id] for id in known}
    if data.labels is None:
        raise InputError(
            "Got labels: dataset, and a dataset that names none. Give the dataset labels, or train: {labels: FILE}, a .csv of id,label."
        )
    return {id: label for id, label in zip(data.ids, data.labels, strict=True) if label is not None}


def read_labels(path: Path, id: str, label: str) -> dict[str, str]:
    """The label of each id in a `.csv` (commas) or any other table (tabs) with a header; rows with an empty label are skipped.

    Raises
    ------
    InputError : the file is missing, not UTF-8 or malformed, lacks a column, or gives an id two labels.
    """
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    reader = csv.reader(_text(path, "train.labels").splitlines(keepends=True), delimiter=delimiter)
    header = next(reader, [])
    if missing := [name for name in (id, label) if header.count(name) != 1]:
        raise InputError(
            f"Got labels {str(path)!r} with the columns {', '.join(header) or 'none'}; expected {missing[0]!r} once. Name the columns with train: {{id: ..., label: ...}}."
        )
    at_id, at_label = header.index(id), header.index(label)
    found: dict[str, str] = {}
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(
                f"Got {len(row)} fields on line {reader.line_num} of {str(path)!r}; expected {len(header)}, as in the header. Quote fields that hold a separator."
            )
        if row[at_label].strip() and found.setdefault(row[at_id], row[at_label]) != row[at_label]:
            raise InputError(
                f"Got the labels {found[row[at_id]]!r} and {row[at_label]!r} of {row[at_id]!r} in {str(path)!r}; expected one. Drop one."
            )
    return found


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Got {name} {str(path)!r}, which cannot be read ({error}); expected a text file in UTF-8. Check the path."
        ) from error


def classes(labels: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct labels in order, and the place of each among them.

    Raises
    ------
    InputError : there is one class.
    """
    names = sorted(set(labels))
    if len(names) < 2:
        raise InputError(
            f"Got {len(labels):,} pictures that can be read and have a label, all {names[0]!r}; expected at least two classes. Label others too, or use method: simclr."
        )
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([place[label] for label in labels], np.int64)


def split(codes: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places to learn from and places to look at: about `share` of each class, never all of one."""
    rng = np.random.default_rng([seed, 0])
    look = []
    for code in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == code))
        look.append(members[: min(round(share * len(members)), len(members) - 1)])
    seen = np.sort(np.concatenate(look))
    return np.setdiff1d(np.arange(len(codes)), seen), seen
