"""Training the tables of a network, until a held-out part of the rows gets no better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Progress
from embedders.table.network import Network

if TYPE_CHECKING:
    from torch import Generator, Tensor

LINEAR = 0.5
"""Weight of the loss by which a row's vector tells the target without hidden layers, so that a linear model can read it
as well. On MovieLens it helps both (benchmarks/tables.py)."""
MASKED = 0.02
"""Share of the values that are shown as `unknown` while a target is learned, so that this row means any of them."""
STEPS = 20
"""Fewest steps in a pass: fewer rows make smaller batches."""
SPARSE = 8
"""Tables of more than so many times the batch get sparse gradients."""
WIDE = 65536  # rows that are judged at once


@dataclass(frozen=True, eq=False)
class Rows:
    """What is learned from, as arrays.

    codes : (n, columns) int32. numbers : (n, number columns) float32. target : (n,) float32, standardised, or int64
    classes; None: the columns tell each other. held : (n,) rows that training does not see.
    """

    codes: NDArray[np.int32]
    numbers: NDArray[np.float32]
    target: NDArray[Any] | None
    held: NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """How training went. train, held_out : mean loss of each pass, the latter also before the first one; best: the pass
    whose weights stand.
    """

    train: Sequence[float]
    held_out: Sequence[float]
    best: int


@dataclass(frozen=True)
class Plan:
    """How to train."""

    epochs: int
    patience: int
    lr: float
    batch: int
    dropout: float
    seed: int


def train(network: Network, rows: Rows, plan: Plan, progress: Progress) -> Curve:
    """Change the weights of `network`, by Adam; those of the pass with the lowest held-out loss stand.

    Without a held-out part, all passes are made and the last weights stand.
    """
    import torch

    seen, held = np.flatnonzero(~rows.held), np.flatnonzero(rows.held)
    batch = int(min(plan.batch, max(16, len(seen) // STEPS)))
    work = _Work(network, rows, plan, tuple(len(table) > SPARSE * batch for table in network.tables))
    optimizers = work.optimizers()
    losses: list[float] = []
    tested = [work.judged(held)] if len(held) else []
    best, kept = 0, [weight.detach().clone() for weight in network.weights()] if len(held) else []
    for epoch in range(plan.epochs):
        order = np.random.default_rng([plan.seed, epoch]).permutation(seen)
        random = torch.Generator().manual_seed((plan.seed * 1_000_003 + epoch) % 2**63)
        total = 0.0
        for first in range(0, len(order), batch):
            some = order[first : first + batch]
            loss, told = work.loss(some, random)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            total += float(told.detach()) * len(some)
        losses.append(total / len(order))
        progress(epoch + 1, plan.epochs, "epochs")
        if not len(held):
            continue
        tested.append(work.judged(held))
        if tested[-1] < tested[best]:
            best, kept = epoch + 1, [weight.detach().clone() for weight in network.weights()]
        elif epoch + 1 - best >= plan.patience:
            break
    with torch.no_grad():
        for weight, value in zip(network.weights(), kept, strict=False):
            weight.copy_(value)
    return Curve(losses, tested, best if len(held) else plan.epochs)


class _Work:
    """The tensors of one training."""

    def __init__(self, network: Network, rows: Rows, plan: Plan, sparse: tuple[bool, ...]) -> None:
        import torch

        self.network, self.plan, self.sparse = network, plan, sparse
        self.codes, self.numbers = torch.from_numpy(rows.codes), torch.from_numpy(rows.numbers)
        self.target = None if rows.target is None else torch.from_numpy(rows.target)
        for weight in network.weights():
            weight.requires_grad_()
        counts = [np.bincount(codes[~rows.held], minlength=len(table)) for codes, table in zip(rows.codes.T, network.tables, strict=True)]  # fmt: skip
        self.shares = [torch.from_numpy((count + 1) / (count + 1).sum()).float() for count in counts]

    def optimizers(self) -> list[Any]:
        """Adam, and one that looks only at the rows of large tables which a batch has."""
        import torch

        large = [table for table, sparse in zip(self.network.tables, self.sparse, strict=True) if sparse]
        others = [weight for weight in self.network.weights() if not any(weight is table for table in large)]
        found: list[Any] = [torch.optim.Adam(others, lr=self.plan.lr, fused=True)]
        return [*found, torch.optim.SparseAdam(large, lr=self.plan.lr)] if large else found

    def loss(self, rows: NDArray[np.int64], random: Generator) -> tuple[Tensor, Tensor]:
        """What training lowers, and how well it tells what it should."""
        import torch

        chosen = torch.from_numpy(rows)
        codes, numbers = self.codes[chosen], self.numbers[chosen]
        if self.target is None:
            found = self._columns(codes, numbers, random, training=True)
            return found, found
        shown = codes * torch.empty(codes.shape).bernoulli_(1 - MASKED, generator=random).int()
        inputs = self._dropped(self.network.inputs(shown, numbers, self.sparse), random)
        told = self._target(self.network.last(inputs), self.network.heads[0], self.target[chosen])
        assert self.network.direct is not None
        return told + LINEAR * self._target(inputs, self.network.direct, self.target[chosen]), told

    def judged(self, rows: NDArray[np.int64]) -> float:
        """The mean loss of rows that are held out."""
        import torch

        total = 0.0
        random = torch.Generator().manual_seed(self.plan.seed % 2**63)  # the same masks each time
        with torch.no_grad():
            for first in range(0, len(rows), WIDE):
                chosen = torch.from_numpy(rows[first : first + WIDE])
                codes, numbers = self.codes[chosen], self.numbers[chosen]
                if self.target is None:
                    loss = self._columns(codes, numbers, random, training=False)
                else:
                    last = self.network.last(self.network.inputs(codes, numbers, self.sparse))
                    loss = self._target(last, self.network.heads[0], self.target[chosen])
                total += float(loss) * len(chosen)
        return total / len(rows)

    def _target(self, inputs: Tensor, head: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy, linear, mse_loss

        found = linear(inputs, *head)
        return mse_loss(found[:, 0], target) if target.is_floating_point() else cross_entropy(found, target)

    def _columns(self, codes: Tensor, numbers: Tensor, random: Generator, *, training: bool) -> Tensor:
        """The loss of telling one value of each row, drawn, from the others; rows that lack it tell nothing of it."""
        import torch

        asked = torch.randint(codes.shape[1], (len(codes),), generator=random)
        shown = codes.scatter(1, asked[:, None], 0)
        inputs = self.network.inputs(shown, numbers, self.sparse)
        last = self.network.last(self._dropped(inputs, random) if training else inputs)
        total = last.sum() * 0
        for column, shares in enumerate(self.shares):
            mine = torch.nonzero((asked == column) & (codes[:, column] > 0))[:, 0]
            if len(mine):
                loss = self.network.column_loss(
                    last[mine], column, codes[mine, column], shares, random, sparse=self.sparse[column]
                )
                total = total + loss * len(mine)
        return total / len(codes)

    def _dropped(self, inputs: Tensor, random: Generator) -> Tensor:
        import torch

        if not self.plan.dropout:
            return inputs
        kept = 1 - self.plan.dropout
        return inputs * torch.empty(inputs.shape).bernoulli_(kept, generator=random) / kept
