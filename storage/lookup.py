"""A few rows of a version, and one pass over its vectors: what a question needs, without holding all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.base import Matrix
from storage.parts import open_part, read_matrix, read_table
from storage.space import Version

T = TypeVar("T")
AT_ONCE = 2  # parts


class Lookup:
    """Rows of a version by id, and ids by row; parts are read when they are needed, and their ids kept."""

    def __init__(self, version: Version) -> None:
        version.check_vectors()
        self.version = version
        self._rows = [entry.rows for entry in version.manifest.files]
        self._ids: dict[int, pa.ChunkedArray] = {}

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *self._rows])

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """The row of each of some ids, without those that the version has not; from the first part on, until all are found."""
        left, found = set(ids), {}
        for part in range(len(self._rows)):
            for name in list(left):
                place = pc.index(self._part(part), pa.scalar(name, pa.string())).as_py()
                if place >= 0:
                    found[name] = int(self._starts[part]) + place
                    left.discard(name)
        return found

    def ids(self, rows: Sequence[int]) -> list[str]:
        """The ids of some rows."""
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        return [
            self._part(part)[row - self._starts[part]].as_py() for part, row in zip(parts.tolist(), rows, strict=True)
        ]

    def first_ids(self, most: int) -> list[str]:
        """The ids of the first so many rows."""
        found: list[str] = []
        for part in range(len(self._rows)):
            if len(found) < most:
                found += self._part(part).slice(0, most - len(found)).to_pylist()
        return found

    def vectors(self, rows: Sequence[int]) -> Matrix:
        """(len(rows), dim) float32, the vectors of some rows."""
        out = np.empty((len(rows), self.version.dim), np.float32)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for part in set(parts.tolist()):
            matrix = read_matrix([self.version.parts[part]], [self._rows[part]], self.version.dim)
            for place in np.flatnonzero(parts == part).tolist():
                out[place] = matrix[rows[place] - self._starts[part]]
        return out

    def scan(self, function: Callable[[Matrix], T]) -> list[T]:
        """What `function` gives of the vectors of each part, in row order; two parts at a time are in memory.

        function : of (rows, dim) float32, which is written over once it has returned; called in two threads.
        """
        spare: SimpleQueue[Matrix] = SimpleQueue()
        for _ in range(AT_ONCE):
            spare.put(np.empty((max(self._rows, default=0), self.version.dim), np.float32))

        def look(part: int) -> T:
            held = spare.get()
            try:
                with open_part(self.version.parts[part], self._rows[part]) as opened:
                    opened.fill(held[: self._rows[part]])
                return function(held[: self._rows[part]])
            finally:
                spare.put(held)

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="parquet") as pool:
            return list(pool.map(look, range(len(self._rows))))

    def _part(self, part: int) -> Any:
        if part not in self._ids:
            self._ids[part] = read_table([self.version.parts[part]], [self._rows[part]], ["id"]).column("id")
        return self._ids[part]
