"""Strings that lie in a file: sequences that make each one when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Listed(Sequence[str]):
    """What both kinds share: a slice is a list, `==` compares the strings."""

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), 1 << 14):
            yield from self[first : first + (1 << 14)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False, repr=False)
class ArrowStrings(Listed):
    """An Arrow column, as of a memory-mapped file."""

    column: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            first, stop, step = place.indices(len(self))
            return (
                self.column.slice(first, max(0, stop - first)).to_pylist()
                if step == 1
                else self.column.take(pa.array(range(first, stop, step))).to_pylist()
            )
        return self.column[int(place)].as_py()

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.ChunkedArray:
        return self.column if type is None else self.column.cast(type)


@dataclass(frozen=True, eq=False, repr=False)
class HexStrings(Listed):
    """(n, 16) uint8 as strings of 32 hex digits."""

    rows: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            text = self.rows[place].tobytes().hex()
            return [text[at : at + 32] for at in range(0, len(text), 32)]
        return self.rows[place].tobytes().hex()
