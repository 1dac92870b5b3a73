"""How the rows of a table become numbers: values by their place in a list of known ones, numbers standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError
from embedders.tables import UNKNOWN, Table

ROWS_AT_ONCE = 65536
SHARED = f"rare or new: stands for {UNKNOWN}"


@dataclass(frozen=True, eq=False)
class Coding:
    """What is known of the columns of a table.

    Parameters
    ----------
    columns, number_columns : their names.
    values : of each column, its known values, the most frequent first; place 0 is `unknown` in all of them.
    mean, scale : (number columns,) float32, taken from numbers, and what they are then divided by.
    """

    columns: tuple[str, ...]
    values: tuple[Sequence[str], ...]
    number_columns: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, data: Table, min_count: int, *, numbers: bool = True) -> Self:
        """Learn it from the rows of `data`. min_count : values that come less often are not known; numbers : whether to code them."""
        values: list[Sequence[str]] = []
        for names, codes in zip(data.values, data.codes.T, strict=True):
            counts = np.bincount(codes[codes >= 0], minlength=len(names))
            chosen = [place for place in np.flatnonzero(counts >= min_count).tolist() if names[place] != UNKNOWN]
            chosen.sort(key=lambda place: (-counts[place], names[place]))
            values.append([UNKNOWN, *(names[place] for place in chosen)])
        wide = data.numbers.astype(np.float64) if numbers else np.zeros((len(data), 0))
        there = ~np.isnan(wide)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, wide, 0).sum(axis=0) / count
        scale = np.sqrt(np.where(there, (wide - mean) ** 2, 0).sum(axis=0) / count)
        scale[scale <= np.maximum(1e-12 * np.abs(mean), 1e-38)] = 1  # a constant
        return cls(
            data.columns, tuple(values), data.number_columns if numbers else (), mean.astype(np.float32),
            scale.astype(np.float32),
        )  # fmt: skip

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each column, `unknown` with them."""
        return tuple(map(len, self.values))

    def codes(self, data: Table) -> NDArray[np.int32]:
        """(n, columns) int32 places of the values of each row, 0 where one is missing or not known."""
        self.check(data)
        found = np.zeros((len(data), len(self.columns)), np.int32)
        for column, (name, values) in enumerate(zip(self.columns, self.values, strict=True)):
            place = {value: i for i, value in enumerate(values)}
            at = data.columns.index(name)
            lookup = np.array([*(place.get(value, 0) for value in data.values[at]), 0], np.int32)
            found[:, column] = lookup[data.codes[:, at]]  # the last is of -1
        return found

    def numbers(self, data: Table) -> NDArray[np.float32]:
        """(n, number columns) float32, mean 0 and deviation 1 on what it was learned from; 0 where one is missing."""
        self.check(data)
        order = [data.number_columns.index(name) for name in self.number_columns]
        found: NDArray[np.float32] = (data.numbers[:, order] - self.mean) / self.scale
        found[np.isnan(found)] = 0
        return found

    def check(self, data: Table) -> None:
        """Refuse a table that lacks one of the columns.

        Raises
        ------
        InputError : it does.
        """
        lack = [*(it for it in self.columns if it not in data.columns)]
        lack += [it for it in self.number_columns if it not in data.number_columns]
        if lack:
            raise InputError(
                f"Got a table of {', '.join((*data.columns, *data.number_columns))}; expected {', '.join(lack)} among them, which was "
                "there when the vectors were learned. Learn them anew: polyvec run --force --replace."
            )

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What `restored` needs, but for the texts."""
        return {"mean": self.mean, "scale": self.scale}

    def texts(self) -> Mapping[str, Sequence[str]]:
        """Its lists of strings, by name."""
        named = {f"values {i}": values for i, values in enumerate(self.values)}
        return {"columns": self.columns, "number_columns": self.number_columns, **named}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, Sequence[str]]) -> Self:
        """From what `arrays` and `texts` gave."""
        columns = tuple(texts["columns"])
        values = tuple(texts[f"values {i}"] for i in range(len(columns)))
        return cls(columns, values, tuple(texts["number_columns"]), arrays["mean"], arrays["scale"])
