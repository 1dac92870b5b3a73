"""Rows of categories and numbers, with or without a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedders.data import Rejected
from embedders.errors import InputError

UNKNOWN = "unknown"
"""What stands for every value of a column that is missing, rare or new; a value of this very name, too."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows, each with a value in some columns.

    Parameters
    ----------
    ids : (n,) unique.
    columns : names of the columns of categories.
    values : of each of these, its distinct values; also those of rows that `select` left out.
    codes : (n, columns) int32, places in `values`; -1 where a value is missing.
    number_columns : names of the columns of numbers.
    numbers : (n, number columns) float32; NaN where one is missing.
    target : (n,) float32, NaN where it is missing, or of classes int32, -1 where it is missing; None without one.
    target_column : its name.
    classes : the names of the classes; None where the target is a number.
    rejected : rows that could not be read.
    """

    ids: Sequence[str]
    columns: tuple[str, ...]
    values: tuple[Sequence[str], ...]
    codes: NDArray[np.int32]
    number_columns: tuple[str, ...] = ()
    numbers: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    target: NDArray[Any] | None = None
    target_column: str = ""
    classes: Sequence[str] | None = None
    rejected: tuple[Rejected, ...] = ()

    def __post_init__(self) -> None:
        if not self.number_columns and not self.numbers.size:
            object.__setattr__(self, "numbers", np.zeros((len(self.ids), 0), np.float32))
        shapes = self.codes.shape, self.numbers.shape
        expected = (len(self.ids), len(self.columns)), (len(self.ids), len(self.number_columns))
        if shapes != expected or len(self.values) != len(self.columns):
            raise InputError(
                f"Got codes and numbers of shapes {shapes} and values of {len(self.values)} columns; expected {expected} and {len(self.columns)}."
            )
        if self.target is not None and len(self.target) != len(self.ids):
            raise InputError(f"Got {len(self.target)} targets of {len(self.ids)} rows; expected one a row.")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(n,) whether the target of a row is there."""
        if self.target is None:
            return np.zeros(len(self), bool)
        known: NDArray[np.bool_] = np.isfinite(self.target) if self.classes is None else self.target >= 0
        return known

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """Some of the rows, in the order of `rows`."""
        chosen = np.asarray(rows, np.int64)
        return replace(
            self,
            ids=[self.ids[row] for row in chosen.tolist()],
            codes=self.codes[chosen],
            numbers=self.numbers[chosen],
            target=None if self.target is None else self.target[chosen],
        )

    @cached_property
    def digests(self) -> Sequence[str]:
        """(n,) hex digest of the categories and numbers of each row, not of its target."""
        text = self.keys.astype(">u8").tobytes().hex()
        return [text[at : at + 32] for at in range(0, len(text), 32)]

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(n, 2) uint64, the same as numbers: 128 bits of each row's contents."""
        from xxhash import xxh3_64_intdigest

        found = np.tile(np.array([1, 2], np.uint64), (len(self), 1))
        for column, values, codes in zip(self.columns, self.values, self.codes.T, strict=True):
            texts = [f"{column}\0{value}" for value in values] + [column]  # the last is of what is missing
            hashes = np.fromiter((xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))
            found = _mixed(found, hashes[codes])
        for number in self.numbers.T:
            bits = np.where(np.isnan(number), np.float32(np.nan), number + np.float32(0)).view(np.uint32)
            found = _mixed(found, bits.astype(np.uint64))
        return found


def _mixed(state: NDArray[np.uint64], value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Take one more value into two streams of 64 bits each (splitmix64, Steele et al. 2014)."""
    mixed = (state ^ value[:, None]) * np.array([0x9E3779B97F4A7C15, 0xD1342543DE82EF95], np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
