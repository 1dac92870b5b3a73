"""Which layers of a network learn, and the linear layer that may follow its pooling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedders.image import backbones
from embedders.image.backbones import Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import nn

ADDED = "added.weight"
_LEAVES_OF_A_BLOCK = 3


def added(body: nn.Module, weight: NDArray[np.float32]) -> nn.Module:
    """A network followed by a linear layer without bias. weight : (dim, width of the network)."""
    from torch import nn

    class Added(nn.Module):
        """(n, 3, side, side) -> (n, dim)."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.added = body, linear(weight, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.added(self.body(x))
            return result

    return Added()


def state(network: nn.Module) -> dict[str, NDArray[Any]]:
    """The arrays of a network, with those of the added layer, if it has one, beside the backbone's own names."""
    body = getattr(network, "body", network)
    found = backbones.state(body)
    return found if body is network else found | {ADDED: network.added.weight.detach().numpy()}  # type: ignore[union-attr,operator]


def rebuild(
    backbone: str, arrays: Mapping[str, NDArray[Any]], look: Preprocessing, *, bf16: bool, pooling: str, batch: int = 0
) -> nn.Module:
    """The network whose arrays `state` gave, as `backbones.rebuild` does."""
    body = {name: array for name, array in arrays.items() if name != ADDED}
    network = backbones.rebuild(backbone, body, look, bf16=bf16, pooling=pooling, batch=batch)
    return network if ADDED not in arrays else added(network, arrays[ADDED]).eval().requires_grad_(False)


def linear(weight: NDArray[np.float32], *, bias: bool = True) -> nn.Linear:
    """A linear layer with these weights, a bias of zero if any; draws nothing from torch's random numbers."""
    import torch

    layer: nn.Linear = torch.nn.utils.skip_init(torch.nn.Linear, *weight.T.shape, bias=bias)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(weight, np.float32)))
        if bias:
            layer.bias.zero_()
    return layer


def choose(network: nn.Module, layers: Literal["head", "last", "all"]) -> None:
    """Let the parameters of all layers, or of the last block and what follows it, learn; head: none of the backbone."""
    for unit in {"all": [network], "last": _last(network), "head": []}[layers]:
        unit.requires_grad_(True)


def learning(network: nn.Module, *, statistics: bool) -> None:
    """Make the network ready to learn: without dropout or stochastic depth, so that only our own streams are random.

    statistics : batch norms that learn take the means of each batch, as from random weights; else they keep those that
        they were trained with, which a few pictures would only make worse.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    network.eval()
    for module in network.modules():
        if statistics and isinstance(module, _BatchNorm) and getattr(module.weight, "requires_grad", False):
            module.train()


def _last(network: nn.Module) -> list[nn.Module]:
    """The last module of several layers, and those after it; where one holds over half of the numbers, its own last one."""
    units, total = list(_units(network)), _numbers(network)
    while True:
        blocks = [i for i, unit in enumerate(units) if _leaves(unit) >= _LEAVES_OF_A_BLOCK]
        if not blocks:
            return units[-1:]
        first = blocks[-1]
        inner = list(_units(units[first]))
        if 2 * _numbers(units[first]) < total or len(inner) < 2:
            return units[first:]
        inside = [i for i, unit in enumerate(inner) if _leaves(unit) >= _LEAVES_OF_A_BLOCK]
        if not inside:  # it is a block of single layers already
            return units[first:]
        units = [*inner, *units[first + 1 :]]


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Children that hold parameters, in their order; plain containers are opened."""
    from torch import nn

    for child in module.children():
        if _numbers(child):
            yield from _units(child) if type(child) in {nn.Sequential, nn.ModuleList} else [child]


def _leaves(module: nn.Module) -> int:
    return sum(1 for part in module.modules() if any(True for _ in part.parameters(recurse=False)))


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
