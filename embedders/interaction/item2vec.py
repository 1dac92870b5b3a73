"""item2vec (Barkan and Koenigstein 2016, arXiv:1603.04259): word2vec's skip-gram over baskets of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from embedders.base import Encoder, Matrix, Progress, Sides, Threads, silent
from embedders.interaction.baskets import Duration, baskets
from embedders.interaction.factors import Factored, Side, begun
from embedders.interaction.folding import FoldingFactors
from embedders.interactions import Interactions
from embedders.start import LONGEST

if TYPE_CHECKING:
    from scipy.sparse import csr_array

REACH = 50  # places between items of a basket that are learned from, in an order drawn anew for each epoch
ALONE: dict[str, str] = {"items": "never beside another item", "users": "met no item that stood beside another"}


@dataclass(frozen=True, eq=False)
class Means(FoldingFactors):
    """Items, or users as the means of their items, of length 1."""

    def excluded(self, data: Interactions) -> Mapping[str, int]:
        if self.folded is not None:
            return super().excluded(data)
        left = len(data.users if self.side == "users" else data.items) - len(self.ids)
        return {ALONE[self.side]: left} if left else {}


class Item2Vec(Factored):
    """Vectors of items that tell which others stand in the same baskets; a user's is the mean of its items', of length 1.

    Weights are of no account. The dot product is the cosine: how near an item is to what the user met.
    """

    kind: ClassVar[str] = "item2vec"
    encoder: ClassVar[type] = Means
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    dim: PositiveInt = Field(64, le=4096, description="numbers in a vector")
    session_gap: Duration | None = Field(
        None, description="a basket ends where its user pauses longer: seconds, or such as 30min; without it a user has one basket"
    )  # fmt: skip
    window: NonNegativeInt = Field(
        0, le=1000, description="how far apart items of a basket may stand in order of time; 0: any two are beside each other"
    )  # fmt: skip
    negative: int = Field(5, ge=1, le=100, description="noise items an item")
    sample: NonNegativeFloat = Field(1e-3, le=1, description="subsampling threshold of frequent items; 0 keeps all")
    epochs: PositiveInt = Field(50, description="passes over the baskets")
    lr: PositiveFloat = Field(0.05, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    threads: Threads = 0

    def fit(
        self, data: Interactions, *, start: Encoder[Interactions] | None = None, progress: Progress = silent
    ) -> Sides[Interactions]:
        """Learn the items' vectors; those that the start knows begin there.

        Raises
        ------
        InputError : there is no event, no basket of two items, `session_gap` and no time, or the start is of another width.
        """
        from embedders.kernels.shuffle import shuffle_within
        from embedders.kernels.skipgram import SkipGram
        from embedders.kernels.tall import unit_rows
        from embedders.kernels.threads import cores

        _, first = begun(start, data, self.dim)
        found = baskets(data, self.session_gap, ordered=self.window > 0)
        counts = np.bincount(found.items, minlength=len(data.items))
        threads = self.threads or cores()
        model = SkipGram(
            counts, self.dim, self.window or REACH, self.negative, self.lr, total=self.epochs * len(found.items),
            threads=threads, seed=self.seed, sample=self.sample, start=LONGEST * unit_rows(first),
        )  # fmt: skip
        for epoch in range(self.epochs):
            if not self.window:
                counter = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0]
                shuffle_within(found.items, found.offsets, counter)
            model.train(found.items, found.offsets, progress=progress, unit="events")
        mode = {
            "threads": threads, "reproducible": "bytes" if threads == 1 else "no", "baskets": len(found.offsets) - 1,
            "loss": [round(value, 5) if np.isfinite(value) else None for value in model.loss],
        }  # fmt: skip
        items = unit_rows(model.matrix)
        items[counts == 0] = 0
        users = self._means(data.matrix(), items)
        of_users, of_items = _there(data.users, users), _there(data.items, items)
        return Sides(self, {
            "users": Means(self, *of_users, None, *of_items, mode={**mode, "side": "users"}),
            "items": Means(self, *of_items, None, (), users[:0], mode={**mode, "side": "items"}),
        })  # fmt: skip

    def folded(self, side: Side, met: csr_array, own: Matrix, other: Matrix) -> Matrix:
        """The means of what new users met; new items are left out, for they stood beside none of the others. See `Folds`."""
        known = np.flatnonzero(~np.isnan(other[:, 0]))
        return self._means(met[np.flatnonzero(np.isnan(own[:, 0]))][:, known], other[known])

    def _means(self, met: csr_array, rows: Matrix) -> Matrix:
        """The mean of the rows that each row of `met` holds, whatever their weight, of length 1; zeros of none."""
        from embedders.kernels.tall import unit_rows

        binary = met.copy()
        binary.data = np.ones_like(binary.data)
        return unit_rows(binary @ rows)


def _there(names: Sequence[str], rows: Matrix) -> tuple[Sequence[str], Matrix]:
    """The rows that are not zeros, and their names."""
    there = np.flatnonzero(rows.any(axis=1)).tolist()
    return [names[row] for row in there], rows[there]
