"""Matrix factorisation that learns to rank (BPR; Rendle, Freudenthaler, Gantner and Schmidt-Thieme, UAI 2009, arXiv:1205.2618)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from embedders.base import Encoder, Matrix, Progress, Sides, Threads, silent
from embedders.interaction.factors import Factored, Side, begun
from embedders.interaction.folding import FoldingFactors
from embedders.interactions import Interactions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from embedders.kernels.triples import Triples

SPREAD = 0.01  # of the random numbers that rows begin at


class Bpr(Factored):
    """Vectors of users and items whose dot product is greater for an item that was met than for one that was not.

    A step draws something that a user met and an item it did not meet, every such item as likely. (Popular items drawn
    more often, as some libraries do, cost a quarter of nDCG@10 on MovieLens-100k.) There is no bias: the factors learn
    how popular an item is.
    """

    kind: ClassVar[str] = "bpr"
    encoder: ClassVar[type] = FoldingFactors
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    dim: PositiveInt = Field(64, le=4096, description="factors")
    epochs: PositiveInt = Field(100, description="steps for each pair of a user with an item it met, on average")
    lr: PositiveFloat = Field(0.1, le=1, description="first learning rate; falls linearly to 0")
    regularization: NonNegativeFloat = Field(0.02, le=1, description="how much of a factor a step takes back")
    confidence: Literal["binary", "linear"] = Field(
        "binary", description="how often a pair is drawn: `binary`: all as often; `linear`: as often as it weighs"
    )
    threads: Threads = 0

    def fit(
        self, data: Interactions, *, start: Encoder[Interactions] | None = None, progress: Progress = silent
    ) -> Sides[Interactions]:
        """Learn from random steps; rows that the start knows begin at its vectors.

        Raises
        ------
        InputError : there is no event, or the start is of another width.
        """
        from embedders.kernels.bpr import rank
        from embedders.kernels.threads import cores

        users, items = begun(start, data, self.dim)
        matrix = data.matrix()
        threads = self.threads or cores()
        users, items, losses = rank(
            self._drawn(users, 0), self._drawn(items, 1), [(self._triples(matrix), self.epochs * matrix.nnz)],
            free=matrix.shape, lr=self.lr, regularization=self.regularization, seed=self.seed, threads=threads,
            progress=progress,
        )  # fmt: skip
        mode = {"threads": threads, "reproducible": "bytes" if threads == 1 else "no", "loss": losses}
        sides = {
            "users": FoldingFactors(self, data.users, users, None, data.items, items, mode={**mode, "side": "users"}),
            "items": FoldingFactors(self, data.items, items, None, data.users, users, mode={**mode, "side": "items"}),
        }
        return Sides(self, sides)

    def folded(self, side: Side, met: csr_array, own: Matrix, other: Matrix) -> Matrix:
        """The same steps for the new rows alone, on one thread: those of all others stay. See `Folds`."""
        from embedders.kernels.bpr import rank

        known, new = np.flatnonzero(~np.isnan(other[:, 0])), np.isnan(own[:, 0])
        order = np.argsort(~new, kind="stable")  # new ones first
        rows, count = self._drawn(own[order], 2), int(new.sum())
        matrix = met[order][:, known]
        if side == "users":
            matrix = matrix[:count]
            drawn: Sequence[tuple[Triples, int]] = [(self._triples(matrix), self.epochs * matrix.nnz)]
            users, items, free = rows[:count], other[known], (count, 0)
        else:
            matrix = matrix.T.tocsr()
            drawn = self._of_items(matrix, count)
            users, items, free = other[known], rows, (0, count)
        users, items, _ = rank(
            users, items, drawn, free=free, lr=self.lr, regularization=self.regularization, seed=self.seed, threads=1
        )
        return (users if side == "users" else items)[:count]

    def _of_items(self, matrix: csr_array, count: int) -> Sequence[tuple[Triples, int]]:
        """Of the first `count` items, as often as training would draw them: as met, and as not met beside others."""
        matrix.sort_indices()
        fresh = matrix.indices < count
        share = count / matrix.shape[1]
        not_met = self._triples(matrix, items=count), int(self.epochs * matrix.nnz * share)
        if not fresh.any():
            return [not_met]
        return [(self._triples(matrix, of=fresh), self.epochs * int(fresh.sum())), not_met]

    def _triples(self, matrix: csr_array, *, items: int | None = None, of: Any = None) -> Triples:
        """What to draw from. items : the first so many are drawn as not met. of : (pairs,) bool, those drawn as met."""
        from embedders.kernels.triples import Triples

        matrix.sort_indices()
        weights = matrix.data if self.confidence == "linear" else None
        if of is not None:
            weights = of * (np.float32(1) if weights is None else weights)
        return Triples(matrix.indptr, matrix.indices, matrix.shape[1] if items is None else items, weights)

    def _drawn(self, rows: Matrix, stream: int) -> Matrix:
        """Rows that are not known get small random numbers."""
        unknown = np.isnan(rows[:, 0])
        rng = np.random.default_rng([self.seed, stream])
        rows[unknown] = np.float32(SPREAD) * rng.standard_normal((int(unknown.sum()), self.dim), np.float32)
        return rows
