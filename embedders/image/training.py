"""The loop that trains a network: AdamW, one cosine from a short warm-up down to nothing, early stopping, checkpoints.

All that is random comes from the seed and the numbers of epoch and step, so that a checkpoint holds no random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Progress
from embedders.errors import InputError
from embedders.image.checkpoint import Checkpoint
from embedders.image.prefetch import ahead

if TYPE_CHECKING:
    import torch
    from torch import nn

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
NEW = 10.0
"""How much faster layers learn that begin at random above a network that does not."""


class Task(Protocol):
    """What is learned: pictures, what they become, and the loss.

    body, head : the network that is kept, and what is thrown away after training.
    statistics : as in `layers.learning`.
    """

    body: nn.Module
    head: nn.Module
    statistics: bool

    def __len__(self) -> int:
        """Pictures to learn from."""
        ...

    def draw(self, places: NDArray[np.int64], rng: np.random.Generator) -> Matrix:
        """What the network sees of some of them: (n, crop, crop, 3) float32."""
        ...

    def loss(self, x: torch.Tensor, places: NDArray[np.int64]) -> torch.Tensor:
        """A number to bring down."""
        ...

    def judge(self) -> tuple[float, float] | None:
        """Loss and accuracy on pictures that are not learned from; None when there are none."""
        ...


@dataclass(frozen=True)
class Pace:
    """How long and how fast. rate : the highest learning rate. new : that of layers which begin at random, in it."""

    epochs: int
    batch: int
    rate: float
    new: float
    decay: float
    patience: int
    seed: int

    def steps(self, pictures: int) -> int:
        """Steps of an epoch: the pictures that are left over wait for another one."""
        return max(1, pictures // self.batch)

    def at(self, step: int, steps: int) -> float:
        """The share of the highest learning rate at a step of all `steps`."""
        rising = max(1, round(WARM_UP * steps))
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


@dataclass
class History:
    """What each epoch gave. best : the number of the epoch whose weights are kept, from 1."""

    losses: list[float] = field(default_factory=list)
    validation: list[tuple[float, float]] = field(default_factory=list)
    best: int = 0

    def told(self) -> dict[str, Any]:
        """For the manifest."""
        found: dict[str, Any] = {"epochs": len(self.losses), "losses": [round(value, 5) for value in self.losses]}
        if self.validation:
            loss, accuracy = zip(*self.validation, strict=True)
            found |= {
                "validation_losses": [round(v, 5) for v in loss],
                "validation_accuracy": [round(v, 5) for v in accuracy],
            }
            found["best_epoch"] = self.best
        return found


def train(
    task: Task, pace: Pace, checkpoint: Checkpoint, *, device: str, bf16: bool, threads: int, progress: Progress
) -> History:
    """Change the weights of `task.body`, or go on from a checkpoint.

    Raises
    ------
    InputError : the loss is no number any more.
    """
    from embedders.image.layers import learning

    optimizer = _optimizer(task, pace, device)
    history, best = _resumed(task, optimizer, checkpoint)
    steps = pace.steps(len(task))
    total = pace.epochs * steps * min(pace.batch, len(task))
    for epoch in range(len(history.losses), pace.epochs):
        if pace.patience and history.validation and epoch - history.best >= pace.patience:
            break
        learning(task.body, statistics=task.statistics)
        loss = 0.0
        for step, (places, pixels) in enumerate(_drawn(task, pace, epoch, threads)):
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * pace.at(epoch * steps + step, pace.epochs * steps)
            value = _step(task, optimizer, pixels, places, device, bf16)
            if not math.isfinite(value):
                raise InputError(
                    f"Got a loss of {value} in step {step + 1} of epoch {epoch + 1}; expected a number. Lower train.learning_rate: it is {pace.rate:g}."
                )
            loss += value / steps
            progress((epoch * steps + step + 1) * len(places), total, "pictures")
        history.losses.append(loss)
        task.body.eval()
        if (judged := task.judge()) is not None:
            history.validation.append(judged)
            if not history.best or judged[0] < history.validation[history.best - 1][0]:
                history.best = epoch + 1
                best = {name: value.detach().clone() for name, value in task.body.state_dict().items()}
        checkpoint.save(
            _tensors(task, optimizer, best),
            {"losses": history.losses, "validation": history.validation, "best": history.best},
        )
    if best:
        task.body.load_state_dict(best)
    progress(total, total, "pictures")
    task.body.eval().requires_grad_(False)
    return history


def forward(network: Callable[[Any], Any], pixels: Matrix, device: str, *, bf16: bool) -> torch.Tensor:
    """A network on (n, crop, crop, 3) float32: permuting gives channels_last, the fast layout of convolutions."""
    import torch

    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        result: torch.Tensor = network(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2))
    return result.float()


def _step(
    task: Task, optimizer: torch.optim.Optimizer, pixels: Matrix, places: NDArray[np.int64], device: str, bf16: bool
) -> float:
    value = task.loss(forward(task.body, pixels, device, bf16=bf16), places)
    optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(value.detach())


def _drawn(task: Task, pace: Pace, epoch: int, threads: int) -> Iterator[tuple[NDArray[np.int64], Matrix]]:
    """The steps of an epoch; the next ones are drawn in another thread, if there is more than one."""
    order = np.random.default_rng([pace.seed, 1, epoch]).permutation(len(task))

    def draw(step: int) -> tuple[NDArray[np.int64], Matrix]:
        places = order[step * pace.batch : (step + 1) * pace.batch]
        return places, task.draw(places, np.random.default_rng([pace.seed, 2, epoch, step]))

    numbers = range(pace.steps(len(task)))
    if threads == 1:
        yield from map(draw, numbers)
        return
    with closing(ahead(draw, numbers, threads=1, window=2)) as found:
        yield from found


def _optimizer(task: Task, pace: Pace, device: str) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019); biases and norms do not decay."""
    import torch

    groups: dict[tuple[float, float], list[Any]] = {}
    for rate, module in ((pace.rate, task.body), (pace.new, task.head)):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                added = pace.new if name.startswith("added.") else rate
                groups.setdefault((added, pace.decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": found, "lr": rate, "highest": rate, "weight_decay": decay}
            for (rate, decay), found in groups.items()
        ],
        fused=True,
    )


def _tensors(task: Task, optimizer: torch.optim.Optimizer, best: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All that changes in training, by name."""
    parts = {"body": task.body.state_dict(), "head": task.head.state_dict(), "best": best}
    found = {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
    for number, slots in optimizer.state_dict()["state"].items():
        found |= {f"optimizer/{number}/{name}": value for name, value in slots.items()}
    return found


def _resumed(
    task: Task, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint
) -> tuple[History, dict[str, torch.Tensor]]:
    """Put everything back as `_tensors` took it."""
    if (found := checkpoint.load()) is None:
        return History(), {}
    import torch

    tensors, state = found
    parts: dict[str, dict[str, torch.Tensor]] = {"body": {}, "head": {}, "best": {}}
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        if part == "optimizer":
            number, slot = name.split("/")
            slots.setdefault(int(number), {})[slot] = value
        else:
            parts[part][name] = value
    task.body.load_state_dict(parts["body"])
    task.head.load_state_dict(parts["head"])
    parameters: list[Any] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, named in slots.items():  # AdamW goes through memory, in the parameter's order (channels_last)
        ours = parameters[place]
        slots[place] = {
            slot: torch.empty_like(ours).copy_(value) if value.shape == ours.shape else value
            for slot, value in named.items()
        }
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    validation = [(loss, accuracy) for loss, accuracy in state["validation"]]
    return History(state["losses"], validation, state["best"]), parts["best"]
