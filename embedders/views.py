"""Spaces that were learned apart, joined by id: what fusion reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Vectors
from embedders.errors import InputError

Rows = Annotated[
    str,
    Field(
        min_length=1,
        description="which entities: `any` space holds them, `all` hold them, or the name of a space that does",
    ),
]


@dataclass(frozen=True, eq=False)
class Views:
    """Vectors of the same entities in several spaces; an entity may lack some of them, not all.

    Parameters
    ----------
    ids : (n,) all that any space holds, in the order of the first, then what the second adds, and so on.
    vectors : of each space, by its name.
    rows : of each space (n,) int64, the row of each id among its vectors; -1 where it has none.
    told : of some ids, their label, or the ids that they are joined to; where a recipe asks for it.
    """

    ids: Sequence[str]
    vectors: Mapping[str, Vectors]
    rows: Mapping[str, NDArray[np.int64]]
    told: Mapping[str, Sequence[str]] | None = None

    @classmethod
    def of(cls, vectors: Mapping[str, Vectors]) -> Self:
        """Join spaces by id.

        Raises
        ------
        InputError : there are fewer than two, or two of them have no id in common with any other.
        """
        if len(vectors) < 2:
            raise InputError(f"Got {len(vectors)} space to fuse; expected at least two. Name more under `fuse:`.")
        place: dict[str, int] = {}
        for found in vectors.values():
            for name in found.ids:
                place.setdefault(name, len(place))
        rows = {}
        for space, found in vectors.items():
            rows[space] = np.full(len(place), -1, np.int64)
            rows[space][[place[name] for name in found.ids]] = np.arange(len(found))
        here = np.array([held >= 0 for held in rows.values()])
        for space, held in zip(rows, here, strict=True):
            if not (held & (here.sum(axis=0) > 1)).any():
                raise InputError(
                    f"Got the space {space!r}, which has no id in common with {', '.join(name for name in rows if name != space)}; "
                    "expected equal ids for equal entities. Set `id:` of the datasets so that they agree."
                )
        return cls(list(place), dict(vectors), rows)

    def __len__(self) -> int:
        return len(self.ids)

    def asked(self, rows: str) -> NDArray[np.bool_]:
        """(n,) which entities `any` space holds, `all` hold, or the space of that name does.

        Raises
        ------
        InputError : there is no such space, or no such entity.
        """
        if rows not in ("any", "all", *self.vectors):
            raise InputError(f"Got rows: {rows!r}; expected any, all or one of {', '.join(self.vectors)}.")
        if rows == "any":
            return np.ones(len(self), bool)
        found = self.complete if rows == "all" else self.rows[rows] >= 0
        if not found.any():
            raise InputError("Got rows: all, and no entity that all spaces hold; expected some. Set rows: any.")
        return found

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """The entities marked in `keep` (n,), and of each space their vectors alone."""
        vectors, rows = {}, {}
        for space, found in self.vectors.items():
            held = self.rows[space][keep]
            taken = held[held >= 0]
            vectors[space] = Vectors(found.entity, [found.ids[row] for row in taken.tolist()], found.matrix[taken])
            rows[space] = np.where(held >= 0, np.cumsum(held >= 0) - 1, -1)
        ids = [self.ids[row] for row in np.flatnonzero(keep).tolist()]
        return replace(self, ids=ids, vectors=vectors, rows=rows)

    @property
    def entity(self) -> str:
        """What a row is: as in the first space."""
        return next(iter(self.vectors.values())).entity

    @property
    def complete(self) -> NDArray[np.bool_]:
        """(n,) entities that every space holds."""
        found: NDArray[np.bool_] = np.all([rows >= 0 for rows in self.rows.values()], axis=0)
        return found
