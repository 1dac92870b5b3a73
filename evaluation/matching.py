"""Which row an id or a word has, and which rows have a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Vectors
from embedders.errors import InputError


def rows_by_id(ids: Iterable[str]) -> dict[str, int]:
    """The row of every id.

    Raises
    ------
    InputError : an id occurs twice.
    """
    rows: dict[str, int] = {}
    for row, name in enumerate(ids):
        first = rows.setdefault(name, row)
        if first != row:
            raise InputError(f"Got the id {name!r} in rows {first} and {row}; expected unique ids. Drop one of them.")
    return rows


def row_of(rows: Mapping[str, int], word: str) -> int | None:
    """The row of a word as given, else of its lower-case form, else None.

    >>> row_of({"paris": 4}, "Paris")
    4
    """
    row = rows.get(word)
    return rows.get(word.lower()) if row is None else row


@dataclass(frozen=True, eq=False)
class Labelled:
    """The rows of some vectors that have a label.

    Parameters
    ----------
    rows : (n,) int64, ascending.
    classes : the distinct labels, sorted.
    codes : (n,) int64, the class of each row, as a position in `classes`.
    missing : labelled ids without a vector.
    unlabelled : vectors without a label.
    """

    rows: NDArray[np.int64]
    classes: Sequence[str]
    codes: NDArray[np.int64]
    missing: int
    unlabelled: int

    @property
    def notes(self) -> dict[str, Any]:
        """The counts that every report on labels gives."""
        return {
            "n": len(self.rows),
            "missing": self.missing,
            "unlabelled": self.unlabelled,
            "classes": len(self.classes),
        }

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(classes,) members of each class."""
        return np.bincount(self.codes, minlength=len(self.classes)).astype(np.int64)

    def shared(self) -> NDArray[np.int64]:
        """Positions in `rows` of those that are not alone in their class.

        Raises
        ------
        InputError : all are.
        """
        found = np.flatnonzero(self.sizes[self.codes] > 1)
        if not len(found):
            raise InputError(
                f"Got {len(self.rows)} labelled vectors of {len(self.classes)} classes, each alone in its class; expected "
                "at least two of one class. Use a coarser label, or label more rows."
            )
        return found

    def keep(self, classes: NDArray[np.bool_]) -> Labelled:
        """Only the members of the classes marked in `classes` (one mark a class)."""
        kept = classes[self.codes]
        renumbered = np.cumsum(classes) - 1
        return Labelled(
            self.rows[kept],
            [name for name, mark in zip(self.classes, classes, strict=True) if mark],
            renumbered[self.codes[kept]],
            self.missing,
            self.unlabelled,
        )


def labelled(vectors: Vectors, labels: Mapping[str, str]) -> Labelled:
    """Match labels to vectors by id.

    Raises
    ------
    InputError : no id has both a vector and a label, or two vectors share an id.
    """
    rows = _rows_of(vectors, labels)
    names = [labels[vectors.ids[row]] for row in rows]
    classes = sorted(set(names))
    code = {name: i for i, name in enumerate(classes)}
    return Labelled(
        np.array(rows, np.int64),
        classes,
        np.array([code[name] for name in names], np.int64),
        len(labels) - len(rows),
        len(vectors) - len(rows),
    )


@dataclass(frozen=True, eq=False)
class Memberships:
    """The rows of some vectors that have labels, one or several each.

    rows : (n,) int64, ascending. classes : the distinct labels, sorted. marks : (n, classes) bool. missing, unlabelled :
    as in `Labelled`.
    """

    rows: NDArray[np.int64]
    classes: Sequence[str]
    marks: NDArray[np.bool_]
    missing: int
    unlabelled: int

    @property
    def notes(self) -> dict[str, Any]:
        """The counts that a report gives. labels: how many a row has, in the mean."""
        n = len(self.rows)
        counts = {"n": n, "missing": self.missing, "unlabelled": self.unlabelled, "classes": len(self.classes)}
        return counts | {"labels": float(self.marks.sum() / n)}


def memberships(vectors: Vectors, labels: Mapping[str, Sequence[str]]) -> Memberships:
    """Match labels, at least one an id, to vectors by id.

    Raises
    ------
    InputError : no id has both a vector and a label, or two vectors share an id.
    """
    rows = _rows_of(vectors, labels)
    names = [labels[vectors.ids[row]] for row in rows]
    classes = sorted({name for line in names for name in line})
    code = {name: i for i, name in enumerate(classes)}
    marks = np.zeros((len(rows), len(classes)), bool)
    marks[np.repeat(np.arange(len(rows)), list(map(len, names))), [code[name] for line in names for name in line]] = (
        True
    )
    return Memberships(np.array(rows, np.int64), classes, marks, len(labels) - len(rows), len(vectors) - len(rows))


def _rows_of(vectors: Vectors, labels: Mapping[str, Any]) -> list[int]:
    rows = [row for name, row in rows_by_id(vectors.ids).items() if name in labels]
    if not rows:
        vector_id = repr(vectors.ids[0]) if len(vectors) else "none"
        label_id = repr(next(iter(labels))) if labels else "none"
        raise InputError(
            f"Got no id that has both a vector and a label: {len(vectors)} vectors (such as {vector_id}), "
            f"{len(labels)} labels (such as {label_id}). Check the id column of the labels."
        )
    return rows
