"""One-hot vectors of the rows of a table, plain or hashed: the baseline that says what learned vectors buy.

Source: K. Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009 (arXiv:0902.2206).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Batch, Embedder, Encoder, Progress, Vectors, silent
from embedders.data import Rejected
from embedders.errors import InputError
from embedders.table.coding import Coding
from embedders.tables import UNKNOWN, Table

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WIDEST = 65536
NUMBERS_AT_ONCE = 1 << 24  # of a batch, 64 MiB


@dataclass(frozen=True, eq=False)
class OneHotVectors(Encoder[Table]):
    """The coordinate of each known value, and its sign where they are hashed."""

    recipe: OneHotRows
    coding: Coding

    @property
    def dim(self) -> int:
        return (self.recipe.buckets or sum(self.coding.sizes)) + len(self.coding.number_columns)

    def outdated(self, data: Table) -> str:
        mine = (self.coding.columns, self.coding.number_columns)
        return "" if mine == (data.columns, data.number_columns) else "the table has other columns"

    def sparse(self, data: Table) -> csr_array[Any]:
        """(n, dim) float32 in compressed rows: a 1 (or, hashed, a 1 or -1) for each column, then the numbers."""
        from scipy.sparse import csr_array, hstack

        places, signs = self._hashed(data) if self.recipe.buckets else (self._places(data), None)
        n, columns = places.shape
        values = np.ones(places.size, np.float32) if signs is None else signs.ravel()
        shape = (n, self.dim - len(self.coding.number_columns))
        kind: Any = np.int32 if places.size < 2**31 else np.int64
        ends = np.arange(n + 1, dtype=kind) * kind(columns)
        found = csr_array((values, places.ravel().astype(kind), ends), shape=shape)
        found.sum_duplicates()
        numbers = self.coding.numbers(data)
        return csr_array(hstack([found, csr_array(numbers)], format="csr")) if numbers.shape[1] else found

    def encode(self, data: Table, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the rows; one whose hashed values cancel each other out is rejected."""
        size = max(1, min(65536, NUMBERS_AT_ONCE // self.dim))
        whole = self.sparse(data)
        for first in range(0, len(data), size):
            matrix = whole[first : first + size].toarray()
            lost = ~matrix.any(axis=1)
            ids, digests = data.ids[first : first + size], data.digests[first : first + size]
            rejected = [
                Rejected(
                    ids[row], f"row {ids[row]}", "zero_vector", "its values share buckets and cancel; raise buckets"
                )
                for row in np.flatnonzero(lost).tolist()
            ]
            if rejected:
                kept = np.flatnonzero(~lost).tolist()
                ids, digests, matrix = [ids[row] for row in kept], [digests[row] for row in kept], matrix[kept]
            yield Batch(Vectors(self.entity, ids, matrix), digests, rejected=tuple(rejected))
            progress(min(first + size, len(data)), len(data), "rows")

    def _places(self, data: Table) -> NDArray[np.int64]:
        """(n, columns) a coordinate of its own for each value."""
        starts = np.concatenate([[0], np.cumsum(self.coding.sizes)[:-1]])
        places: NDArray[np.int64] = self.coding.codes(data) + starts
        return places

    def _hashed(self, data: Table) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(n, columns) coordinates and signs, by the hashes of column and value, whether it is known or not."""
        from xxhash import xxh3_64_intdigest

        self.coding.check(data)
        shape = (len(data), len(self.coding.columns))
        places, signs = np.empty(shape, np.int64), np.empty(shape, np.float32)
        for column, name in enumerate(self.coding.columns):
            at = data.columns.index(name)
            texts = [f"{name}\0{value}" for value in (*data.values[at], UNKNOWN)]
            hashes = np.fromiter((xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))
            mine = hashes[data.codes[:, at]]
            places[:, column] = (mine >> np.uint64(1)) % np.uint64(self.recipe.buckets or 1)
            signs[:, column] = np.where(mine & np.uint64(1) == 1, -1, 1)
        return places, signs

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return self.coding.arrays()

    def texts(self) -> Mapping[str, Sequence[str]]:
        return self.coding.texts()


class OneHotRows(Embedder[Table]):
    """A coordinate for each value of each column, `unknown` among them, and one for each number; nothing is learned.

    With `buckets`, values are hashed to so many coordinates with signs, so that those that share one cancel on average
    (Weinberger et al. 2009); new values then have theirs, too.
    """

    kind: ClassVar[str] = "one-hot-rows"
    data: ClassVar[type] = Table
    entity: ClassVar[str] = "row"
    inductive: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    min_count: int = Field(1, ge=1, description="rarer values stand for `unknown`; of no effect with buckets")
    buckets: int | None = Field(
        None, ge=1, le=WIDEST, description="values are hashed to so many numbers; none: each has one of its own"
    )

    def fit(self, data: Table, *, start: Encoder[Any] | None = None, progress: Progress = silent) -> OneHotVectors:
        """List the values.

        Raises
        ------
        InputError : `start` was given, there is no row, or the vectors would be wider than 65,536.
        """
        if start is not None:
            raise InputError("Got start=..., but 'one-hot-rows' learns nothing. Leave start out.")
        if not len(data):
            raise InputError("Got a table without a row; expected some. Is the file empty?")
        coding = Coding.of(data, len(data) + 1 if self.buckets else self.min_count)  # hashes need no list
        found = OneHotVectors(self, coding, mode={"precision": "fp32", "reproducible": "bytes"})
        if found.dim > WIDEST:
            widest = max(range(len(coding.columns)), key=lambda column: coding.sizes[column])
            raise InputError(
                f"Got {found.dim:,} coordinates, {coding.sizes[widest]:,} of them for {coding.columns[widest]!r}; expected at most "
                f"{WIDEST:,}, as vectors are written with their zeros. Hash them (buckets: 1024), raise min_count, or use the "
                "embedder 'categories'."
            )
        return found

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> OneHotVectors:
        return OneHotVectors(recipe, Coding.restored(arrays, texts), mode=mode)
