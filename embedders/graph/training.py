"""The loop of gradient steps that all graph networks share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

import numpy as np

from embedders.base import Progress
from embedders.image.prefetch import ahead

B = TypeVar("B")
POINTS = 100
FURTHER, SLOWER = 8, 4
"""Weights that were trained before take an eighth of the steps at a quarter of the rate: on Cora with 5 % new edges that
scores as training anew does, and more of either moves vectors farther for nothing."""


def train(
    module: Any,
    draw: Callable[[int], B],
    loss: Callable[[B], Any],
    *,
    steps: int,
    lr: float,
    threads: int,
    progress: Progress,
    patience: int = 0,
    further: bool = False,
) -> list[float]:
    """Change the weights of a torch module, by Adam; returns the loss of each step.

    draw : what a step learns from, by its number; asked ahead of time, in another thread, if there is more than one.
    patience : steps without a lower loss that end training, at the weights of the lowest; 0: none do.
    further : the weights were trained before: fewer and smaller steps (`FURTHER`, `SLOWER`).
    """
    import torch

    if further:
        steps, lr = -(-steps // FURTHER), lr / SLOWER
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    losses: list[float] = []
    lowest, best = 0, {}
    with closing(_drawn(draw, steps, threads)) as batches:
        for step, batch in enumerate(batches):
            value = loss(batch)
            losses.append(float(value.detach()))
            if not step or losses[step] < losses[lowest]:
                lowest = step
                if patience:
                    best = {name: weight.clone() for name, weight in module.state_dict().items()}
            elif patience and step - lowest >= patience:
                break
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            progress(step + 1, steps, "steps")
    if best:
        module.load_state_dict(best)
    return losses


def curve(losses: list[float]) -> list[float]:
    """The losses of all steps as the means of at most `POINTS` stretches, for the manifest."""
    stretches = np.array_split(losses, min(len(losses), POINTS)) if losses else []
    return [round(float(part.mean()), 5) for part in stretches]


def stream(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step."""
    return np.random.default_rng([seed, step])


def _drawn(draw: Callable[[int], B], steps: int, threads: int) -> Generator[B, None, None]:
    if threads == 1:
        yield from map(draw, range(steps))
    else:
        with closing(ahead(draw, range(steps), threads=1, window=2)) as batches:
            yield from batches
