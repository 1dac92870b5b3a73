"""What `categories` learned: a table of vectors for each column, and the vectors of rows, which are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedders.base import Batch, Encoder, Matrix, Origin, Progress, Vectors, batches, silent
from embedders.table.coding import ROWS_AT_ONCE, SHARED, Coding
from embedders.tables import UNKNOWN, Table


@dataclass(frozen=True, eq=False)
class ValueVectors(Encoder[Table]):
    """The values of one column, `unknown` first.

    matrix : (n, dim) float32.
    """

    ids: Sequence[str]
    matrix: Matrix

    @property
    def entity(self) -> str:
        return str(self.mode["column"])

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def rows(self, data: Table) -> int:
        return len(self.ids) + sum(self.excluded(data).values())

    def excluded(self, data: Table) -> Mapping[str, int]:
        """The values of `data` that have no vector of their own."""
        column = data.columns.index(self.entity)
        codes = data.codes[:, column]
        there = np.unique(codes[codes >= 0]).tolist()
        known = {*self.ids, UNKNOWN}
        left = sum(data.values[column][code] not in known for code in there)
        return {SHARED: left} if left else {}

    def fold_in(self, data: Table) -> Self:
        """As it is: new values stand for `unknown` until the next training."""
        return self

    def encode(self, data: Table, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors it holds."""
        yield from batches(Vectors(self.entity, self.ids, self.matrix))


@dataclass(frozen=True, eq=False)
class RowVectors(Encoder[Table]):
    """A row is its values' vectors side by side, then its numbers; or the network's last hidden layer over these.

    Parameters
    ----------
    tables : (values, width) float32 of each column.
    network : the other weights by name, for the next training and the hidden layers.
    trained : (rows,) uint64, sorted keys of the rows that it was trained on.
    classes : names of the classes it tells; none where it tells no classes.
    new : rows of the dataset it was folded into that it was not trained on.
    """

    coding: Coding
    tables: Sequence[Matrix]
    network: Mapping[str, NDArray[Any]]
    trained: NDArray[np.uint64]
    classes: Sequence[str] = ()
    new: int = field(default=0, kw_only=True)

    @property
    def hidden(self) -> Sequence[tuple[Matrix, Matrix]]:
        """Weight and bias of the hidden layers that rows pass; none where they are the values themselves."""
        if self.mode["rows"] == "values":
            return ()
        count = sum(name.startswith("layer ") for name in self.network) // 2
        return [(self.network[f"layer {i} weight"], self.network[f"layer {i} bias"]) for i in range(count)]

    @property
    def dim(self) -> int:
        if self.hidden:
            return len(self.hidden[-1][1])
        return sum(int(table.shape[1]) for table in self.tables) + len(self.coding.number_columns)

    @property
    def untrained(self) -> int:
        return self.new

    def fold_in(self, data: Table) -> Self:
        """Rows are encoded by what was learned; those that are new count."""
        return replace(self, new=int((~self._known(data)).sum()))

    def encode(self, data: Table, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of rows, of any table with these columns; those it was not trained on are `folded_in`."""
        codes, numbers, known = self.coding.codes(data), self.coding.numbers(data), self._known(data)
        for first in range(0, len(data), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            parts = [table[column] for table, column in zip(self.tables, codes[some].T, strict=True)]
            matrix = np.concatenate([*parts, numbers[some]], axis=1)
            for weight, bias in self.hidden:
                matrix = np.maximum(matrix @ weight.T + bias, 0)
            origin: list[Origin] = np.where(known[some], "embedded", "folded_in").tolist()
            yield Batch(Vectors(self.entity, data.ids[some], matrix), origin=origin)
            progress(first + len(matrix), len(data), "rows")

    def _known(self, data: Table) -> NDArray[np.bool_]:
        """(n,) whether it was trained on each row, under this id, with these values and, if it learned from it, this target."""
        return np.isin(row_keys(data, target=self.mode["learned"] != "columns"), self.trained)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        tables = {f"table {i}": table for i, table in enumerate(self.tables)}
        return {**self.coding.arrays(), **tables, **self.network, "trained": self.trained}

    def texts(self) -> Mapping[str, Sequence[str]]:
        return {**self.coding.texts(), "classes": self.classes}


def row_keys(data: Table, *, target: bool) -> NDArray[np.uint64]:
    """(n,) uint64, of ids and contents. target : with it."""
    from xxhash import xxh3_64_intdigest

    def hashed(texts: Sequence[str]) -> NDArray[np.uint64]:
        return np.fromiter((xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))

    keys: NDArray[np.uint64] = hashed(data.ids) ^ data.keys[:, 0]
    if not target or data.target is None:
        return keys
    names, places = data.classes, data.target
    if names is None:
        distinct, places = np.unique(data.target, return_inverse=True)
        names = list(map(repr, distinct.tolist()))
    keys ^= hashed([f"target\0{name}" for name in (*names, "")])[places]  # the last is of -1
    return keys


def restored(
    recipe: Any, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, Sequence[str]], mode: Mapping[str, Any]
) -> ValueVectors | RowVectors:
    """What `save` wrote."""
    if "column" in mode:
        return ValueVectors(recipe, texts["ids"], arrays["matrix"], mode=mode)
    coding = Coding.restored(arrays, texts)
    tables = [arrays[f"table {i}"] for i in range(len(coding.columns))]
    network = {name: array for name, array in arrays.items() if name.startswith(("layer ", "direct ", "head "))}
    return RowVectors(recipe, coding, tables, network, arrays["trained"], texts.get("classes", ()), mode=mode)
