"""Vectors of users and of items, compared by their dot product: the greater, the more a user may like an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from embedders.base import (
    Batch,
    Embedder,
    Encoder,
    Matrix,
    Origin,
    Progress,
    Sides,
    Similarity,
    Vectors,
    batches,
    silent,
)
from embedders.errors import InputError
from embedders.interactions import Interactions
from embedders.start import picked

Side = Literal["users", "items"]
ENTITY: dict[str, str] = {"users": "user", "items": "item"}


@dataclass(frozen=True, eq=False)
class Factors(Encoder[Interactions]):
    """Users or items and their vectors.

    matrix : (n, dim) float32. folded : (n,) bool, rows that were not trained; None where all were.
    """

    ids: Sequence[str]
    matrix: Matrix
    folded: NDArray[np.bool_] | None = None

    @property
    def side(self) -> Side:
        found: Side = self.mode["side"]
        return found

    @property
    def entity(self) -> str:
        return ENTITY[self.side]

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def rows(self, data: Interactions) -> int:
        return len(self.ids) + sum(self.excluded(data).values())

    @property
    def untrained(self) -> int:
        return 0 if self.folded is None else int(self.folded.sum())

    def encode(self, data: Interactions, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors it holds, in the order of the data it was trained on."""
        folded = np.zeros(len(self.ids), bool) if self.folded is None else self.folded
        origins = np.where(folded, "folded_in", "embedded").astype(object)
        first = 0
        for batch in batches(Vectors(self.entity, self.ids, self.matrix)):
            origin: list[Origin] = origins[first : first + len(batch.vectors)].tolist()
            first += len(batch.vectors)
            yield Batch(batch.vectors, origin=origin)


class Factored(Embedder[Interactions]):
    """Base of what learns users and items together."""

    data: ClassVar[type] = Interactions
    encoder: ClassVar[type] = Factors
    entity: ClassVar[str] = "user or item"
    similarity: ClassVar[Similarity] = "dot"

    def sides(self, columns: Sequence[str]) -> tuple[str, ...]:
        return "users", "items"


def begun(start: Encoder[Any] | None, data: Interactions, dim: int) -> tuple[Matrix, Matrix]:
    """(users, dim) and (items, dim), the vectors that a start holds of those of `data`; NaN for what it does not know.

    Raises
    ------
    InputError : there is no event, or the start is of another width.
    """
    check_events(data)
    if start is None:
        return tuple(np.full((len(names), dim), np.nan, np.float32) for names in (data.users, data.items))  # type: ignore[return-value]
    assert isinstance(start, Sides), f"Got a start of {type(start)}; expected Sides."
    users, items = (side for side in start.sides.values() if isinstance(side, Factors))
    if users.dim != dim:
        raise InputError(f"Got a start of dimension {users.dim}; expected {dim}. Set dim to it.")
    return picked(users.ids, users.matrix, data.users), picked(items.ids, items.matrix, data.items)


def check_events(data: Interactions) -> None:
    """Refuse data of which nothing can be learned.

    Raises
    ------
    InputError : there is no event.
    """
    if not len(data):
        raise InputError("Got no event; expected users with items. Is the file empty?")
