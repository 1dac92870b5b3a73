"""Which pictures a network learns from: their classes, what is held out, and what early stopping looks at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.data import Images
from embedders.errors import InputError
from embedders.image.options import DATASET, HoldOut, Training
from embedders.labels import read_labels
from embedders.reading import lines


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
        wanted = set(lines(rule.file)) - {""}
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
        found = read_labels(str(options.labels), options.id, options.label)
        known = found.keys() & set(data.ids)
        counts["labels_without_picture"] = len(found) - len(known)
        return {id: found[id] for id in known}
    if data.labels is None:
        raise InputError(
            "Got labels: dataset, and a dataset that names none. Give the dataset labels, or train: {labels: FILE}, a .csv of id,label."
        )
    return {id: label for id, label in zip(data.ids, data.labels, strict=True) if label is not None}


def taught(data: Images, options: Training) -> NDArray[np.uint64]:
    """(n, 2) a number for each picture's id and one for its label, of those that training may see.

    What is kept of the dataset's own labels, to tell later that a picture has another one. Of labels from a file nothing
    is kept, (0, 2): its content is in the recipe's fingerprint.
    """
    if options.labels != DATASET or data.labels is None:
        return np.empty((0, 2), np.uint64)
    held = held_out(data.ids, options.hold_out)
    pairs = [(_number(id), _number(label or "")) for id, label in zip(data.ids, data.labels, strict=True) if id not in held]  # fmt: skip
    return np.array(pairs, np.uint64).reshape(-1, 2)


def relabelled(before: NDArray[np.uint64], data: Images) -> int:
    """How many pictures of `data` that training knew, as `taught` says, have another label since, or none any more."""
    known = dict(before.tolist())
    labels = data.labels or [None] * len(data)
    found = ((known.get(_number(id)), label or "") for id, label in zip(data.ids, labels, strict=True))
    return sum(then is not None and then != _number(label) for then, label in found)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")


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
