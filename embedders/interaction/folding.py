"""New users by what they met of the items as trained, and new items by who met them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self, cast

import numpy as np

from embedders.base import Matrix
from embedders.interaction.factors import Factors, Side
from embedders.interactions import Interactions
from embedders.start import picked

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NO_KNOWN = "nothing known to fold in by"


class Folds(Protocol):
    """A recipe that can tell the vectors of rows that were not trained."""

    def folded(self, side: Side, met: csr_array, own: Matrix, other: Matrix) -> Matrix:
        """(new, dim) float32, the rows of `own` that are NaN; of those that met nothing known it is of no account.

        met : (n, m) weights, rows of this side; some new one met something known. own : (n, dim), what was trained of this side, NaN where nothing was.
        other : (m, dim), of the other side as trained, or of what its rows pass on; NaN where nothing was.
        """


@dataclass(frozen=True, eq=False)
class FoldingFactors(Factors):
    """One side, with what folding in needs of the other.

    others : the names of the other side as trained. other : (m, dim) float32, their vectors, or what they pass on.
    """

    others: Sequence[str] = ()
    other: Matrix | None = None

    def excluded(self, data: Interactions) -> Mapping[str, int]:
        left = len(data.users if self.side == "users" else data.items) - len(self.ids)
        return {NO_KNOWN: left} if left else {}

    def fold_in(self, data: Interactions) -> Self:
        """A vector for the rows that are new in `data`, against the other side as it was trained.

        Those that met nothing that was trained are left out. Trained rows keep their vectors; those that are gone vanish.
        """
        assert self.other is not None
        matrix = data.matrix() if self.side == "users" else data.matrix().T.tocsr()
        ids, others = (data.users, data.items) if self.side == "users" else (data.items, data.users)
        own = self.matrix
        if self.folded is not None:
            own = np.where(self.folded[:, None], np.float32(np.nan), own)
        found, other = picked(self.ids, own, ids), picked(self.others, self.other, others)
        new, known = np.isnan(found[:, 0]), ~np.isnan(other[:, 0])
        reached = matrix[np.flatnonzero(new)] @ known.astype(np.float32) > 0
        if reached.any():
            found[new] = cast(Folds, self.recipe).folded(self.side, matrix, found, other)
        kept = ~new
        kept[new] = reached
        return replace(
            self,
            ids=[name for name, it in zip(ids, kept, strict=True) if it],
            matrix=found[kept],
            folded=new[kept],
        )
