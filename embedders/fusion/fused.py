"""The vectors of a fused space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedders.base import Batch, Encoder, Matrix, Origin, Progress, Vectors, batches, silent
from embedders.views import Views

if TYPE_CHECKING:
    from embedders.fusion.concat import Concat


@dataclass(frozen=True, eq=False)
class Fused(Encoder[Views]):
    """Names and vectors of entities. matrix : (n, dim) float32. imputed : (n,) bool, part of it was predicted."""

    recipe: Concat
    ids: Sequence[str]
    matrix: Matrix
    imputed: NDArray[np.bool_]

    @property
    def entity(self) -> str:
        return str(self.mode["entity"])

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def rows(self, data: Views) -> int:
        return len(data)

    def excluded(self, data: Views) -> Mapping[str, int]:
        asked = int(data.asked(self.recipe.rows).sum())
        left = {
            f"not asked for by rows: {self.recipe.rows}": len(data) - asked,
            "held only by spaces of weight 0": asked - len(self.ids),
        }
        return {reason: n for reason, n in left.items() if n}

    def encode(self, data: Views, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors it holds."""
        origins = np.where(self.imputed, "imputed", "embedded").astype(object)
        first = 0
        for batch in batches(Vectors(self.entity, self.ids, self.matrix)):
            origin: list[Origin] = origins[first : first + len(batch.vectors)].tolist()
            first += len(batch.vectors)
            yield Batch(batch.vectors, origin=origin)
