"""The training of projection heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from embedders.base import Progress
from embedders.fusion.principal import centred
from embedders.fusion.shared import Head
from embedders.views import Views

if TYPE_CHECKING:
    from embedders.fusion.contrastive import Contrastive

FEW = 20
"""Shared entities below which none is held out: a loss of one or two says nothing."""
COLDEST = 0.01  # CLIP clips its logits' scale at 100


@dataclass(frozen=True)
class Trained:
    """What training gave. epochs: those made up to the best one; loss, held_out_loss: at that one."""

    heads: Mapping[str, Head]
    epochs: int
    loss: float
    held_out_loss: float | None
    temperature: float


class Scaled:
    """The vectors of a space, centred and scaled to a mean length of 1, for all entities; zeros where they lack."""

    def __init__(self, data: Views, space: str, shared: NDArray[np.int64]) -> None:
        rest, self.mean, self.scale = centred(data.vectors[space].matrix)
        rows = data.rows[space][shared]
        self.here = torch.from_numpy(rows >= 0)
        self.rows = torch.from_numpy(np.where((rows >= 0)[:, None], rest[rows], np.float32(0)) / np.float32(self.scale))
        self.width = rest.shape[1]


def train(recipe: Contrastive, data: Views, pairs: Mapping[tuple[str, str], int], progress: Progress) -> Trained:
    """Symmetric cross-entropy of each two spaces, in batches of shared entities, until the held-out ones gain no more.

    The learned temperature is one for all pairs. The weights are those of the epoch with the lowest held-out loss.
    """
    rng = np.random.default_rng(recipe.seed)
    shared = rng.permutation(np.flatnonzero(np.sum([rows >= 0 for rows in data.rows.values()], axis=0) > 1))
    aside = round(recipe.held_out * len(shared)) if len(shared) >= FEW else 0
    views = {space: Scaled(data, space, shared) for space in data.vectors}
    heads = {space: _layers(view.width, recipe, rng) for space, view in views.items()}
    cold = torch.tensor(float(np.log(1 / recipe.temperature)), requires_grad=True)
    weights = [layer for layers in heads.values() for layer in layers]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": [cold], "weight_decay": 0.0}],
        lr=recipe.lr,
    )

    def loss_of(rows: NDArray[np.int64], noise: float) -> torch.Tensor | None:
        """The mean loss of some shared entities, by their places; None where no two spaces share two of them."""
        at = torch.from_numpy(rows)
        made = {space: _project(_noisy(views[space].rows[at], noise, rng), layers) for space, layers in heads.items()}
        losses = []
        for a, b in pairs:
            both = views[a].here[at] & views[b].here[at]
            if int(both.sum()) > 1:
                logits = made[a][both] @ made[b][both].T * cold.exp().clamp(max=1 / COLDEST)
                own = torch.arange(len(logits))
                losses.append((functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2)
        return torch.stack(losses).mean() if losses else None

    held, learned = np.arange(aside), np.arange(aside, len(shared))
    best, best_loss, best_epoch, best_seen = _copies(weights, cold), np.inf, 0, float("nan")
    for epoch in range(1, recipe.epochs + 1):
        total, steps = 0.0, 0
        for rows in np.array_split(rng.permutation(learned), max(1, round(len(learned) / recipe.batch))):
            loss = loss_of(rows, recipe.noise)
            if loss is not None:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total, steps = total + float(loss.detach()), steps + 1
        seen = total / max(steps, 1)
        with torch.no_grad():
            judged = loss_of(held, 0.0) if aside else None
        now = float(judged) if judged is not None else -float(epoch)  # without held-out entities the last one is best
        if now < best_loss:
            best, best_loss, best_epoch, best_seen = _copies(weights, cold), now, epoch, seen
        progress(epoch, recipe.epochs, "epochs")
        if epoch - best_epoch >= recipe.patience:
            break
    for layer, kept in zip(weights, best[:-1], strict=True):
        layer.data = kept
    return Trained(
        {space: _head(view, heads[space]) for space, view in views.items()},
        best_epoch,
        best_seen,
        best_loss if np.isfinite(best_loss) and best_loss >= 0 else None,
        max(COLDEST, float(torch.exp(-best[-1]))),
    )


def _layers(width: int, recipe: Contrastive, rng: np.random.Generator) -> list[torch.Tensor]:
    """A matrix, or matrix, bias, matrix."""

    def matrix(rows: int, columns: int) -> torch.Tensor:
        drawn = rng.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        return torch.from_numpy(drawn).requires_grad_()

    if not recipe.hidden:
        return [matrix(width, recipe.dim)]
    bias = torch.zeros(recipe.hidden, requires_grad=True)
    return [matrix(width, recipe.hidden), bias, matrix(recipe.hidden, recipe.dim)]


def _noisy(rows: torch.Tensor, noise: float, rng: np.random.Generator) -> torch.Tensor:
    if not noise:
        return rows
    drawn = rng.standard_normal(tuple(rows.shape), np.float32) * np.float32(noise * rows.shape[1] ** -0.5)
    return rows + torch.from_numpy(drawn)


def _project(rows: torch.Tensor, layers: list[torch.Tensor]) -> torch.Tensor:
    out = rows @ layers[0]
    if len(layers) > 1:
        out = functional.relu(out + layers[1]) @ layers[2]
    return functional.normalize(out, dim=1, eps=1e-12)


def _copies(weights: list[torch.Tensor], cold: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in (*weights, cold)]


def _head(view: Scaled, layers: list[torch.Tensor]) -> Head:
    """The head of the vectors as they are, not scaled."""
    arrays: list[Any] = [layer.detach().numpy() for layer in layers]
    first = np.ascontiguousarray(arrays[0] / np.float32(view.scale))
    bias = arrays[1] if len(arrays) > 1 else np.empty(0, np.float32)
    return Head(view.mean, (first, *arrays[2:]), bias)
