"""A network as a graph of operations (torch.fx), so that it can be cut at a layer and its operations joined."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx, nn

_IDLE = ("Dropout", "Dropout2d", "StochasticDepth", "DropPath")
"""Layers that pass their input on when nothing is trained, by class name."""
_WHOLE = ("Conv2dStaticSamePadding",)
"""Layers, by class name, that are one operation although torch does not ship them."""
_TRACING = threading.Lock()
"""A trace takes the place of `nn.Module.__call__` for as long as it lasts: one at a time, and only in its own thread."""


def trace(model: nn.Module) -> fx.GraphModule:
    """The graph of a network in evaluation mode; the model stays as it is, its parameters are shared.

    Raises
    ------
    Whatever the network's forward pass raises on symbols: control flow by values cannot be traced.
    """
    import torch
    from torch import fx, nn

    mine = threading.get_ident()

    class Tracer(fx.Tracer):
        def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
            ours = threading.get_ident() == mine
            return super().call_module(m, forward, args, kwargs) if ours else forward(*args, **kwargs)

        def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
            ours = threading.get_ident() == mine
            return super().getattr(attr, attr_val, parameter_proxy_cache) if ours else attr_val

        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            known = type(m).__name__ in _WHOLE or type(m).__module__.startswith("embedders.")
            return known or super().is_leaf_module(m, module_qualified_name)

    with torch.no_grad():
        shared: dict[int, Any] = {id(value): value for value in [*model.parameters(), *model.buffers()]}
        model = copy.deepcopy(model, shared)
    for name, layer in list(model.named_modules()):
        if type(layer).__name__ in _IDLE:
            model.set_submodule(name, nn.Identity())
        elif type(layer).__name__ == "BatchNormAct2d":  # timm's, with its activation inside
            model.set_submodule(name, _two(layer))
    with _TRACING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fx.GraphModule(model, Tracer().trace(model))


def _two(layer: Any) -> nn.Module:
    """A batch norm and its activation as two layers that share the parameters."""
    from torch import nn

    norm = nn.BatchNorm2d(layer.num_features, eps=layer.eps)
    norm.load_state_dict(layer.state_dict(), strict=False, assign=True)
    return nn.Sequential(norm, layer.act).eval()
