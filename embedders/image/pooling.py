"""From a feature map to one vector: the network's own pooling, generalised means, or the output of a named layer."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from embedders.errors import InputError
from embedders.image.tracing import trace

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

WORDS = ("average", "gem")
"""What `pooling` may be besides the name of a layer."""
GEM_POWER = 3.0
GEM_FLOOR = 1e-6
CHANNELS_LAST = ("swin",)
"""Backbones (prefixes) whose layers give maps (n, h, w, dim)."""


def average(*, channels_last: bool = False) -> nn.Module:
    """Means over places, in float32: (n, dim, h, w) or (n, tokens, dim) -> (n, dim); (n, dim) stays as it is.

    channels_last : maps are (n, h, w, dim).
    """
    from torch import nn

    class Average(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.float()
            if x.ndim == 4:
                return x.mean((1, 2) if channels_last else (2, 3))
            return x.mean(1) if x.ndim == 3 else x.flatten(1)

    return Average()


def gem() -> nn.Module:
    """Generalised mean over the places of a map, mean(max(x, 1e-6)^3)^(1/3) (Radenovic et al. 2018, arXiv:1711.02512)."""
    from torch import nn

    class GeM(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().clamp(min=GEM_FLOOR).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)

    return GeM()


def pooled(model: nn.Module, pooling: str, backbone: str, crop: int) -> nn.Module:
    """The network with another pooling; what is left of its parameters keeps its names.

    Parameters
    ----------
    model : (n, 3, crop, crop) -> (n, dim), without classifier.
    pooling : "average" (the network's own), "gem", or a layer by name ("layer3", "features.5.1").

    Raises
    ------
    InputError : no such layer; a network whose features are no map at its end; one whose forward pass cannot be traced.
    """
    if pooling == "average":
        return model
    names = [name for name, _ in model.named_modules() if name]
    if pooling != "gem" and pooling not in names:
        close = get_close_matches(pooling, names, n=4, cutoff=0.3)
        raise InputError(
            f"Got pooling {pooling!r}; expected 'average', 'gem' or a layer of {backbone}{', such as ' + ', '.join(close) if close else ''}."
        )
    try:
        traced = trace(model)
    except Exception as error:  # tracing runs the network's own code on symbols, and raises what that raises
        raise InputError(
            f"Got pooling {pooling!r}, but the layers of {backbone} cannot be traced ({error}). Use pooling: average."
        ) from error
    if pooling == "gem":
        return _cut(traced, _last_map(traced, backbone, crop), gem())
    inside = [node for node in traced.graph.nodes if _belongs(node, pooling)]
    if not inside:
        raise InputError(f"Got pooling {pooling!r}, a layer that {backbone} does not run. Choose another.")
    return _cut(traced, inside[-1], average(channels_last=backbone.removeprefix("timm:").startswith(CHANNELS_LAST)))


def _belongs(node: fx.Node, layer: str) -> bool:
    return layer in {path for path, _ in node.meta.get("nn_module_stack", {}).values()}


def _last_map(traced: fx.GraphModule, backbone: str, crop: int) -> fx.Node:
    """The last map of more than one place, if nothing is learned after it."""
    import torch
    from torch.fx.passes.shape_prop import ShapeProp

    with torch.inference_mode():
        ShapeProp(traced).propagate(torch.zeros(1, 3, crop, crop))
    found: Any = None
    for node in traced.graph.nodes:
        shape: Any = getattr(node.meta.get("tensor_meta"), "shape", ())
        if len(shape) == 4 and shape[2] * shape[3] > 1:
            found = node
        elif node.op == "call_module" and any(True for _ in traced.get_submodule(str(node.target)).parameters()):
            found = (
                None if len(shape) != 4 else found
            )  # convolutions of a 1 x 1 map weigh channels (squeeze-excitation)
    if found is None:
        raise InputError(f"Got pooling 'gem', but {backbone} does not end in a feature map. Use pooling: average.")
    last: fx.Node = found
    return last


def _cut(traced: fx.GraphModule, node: fx.Node, pool: nn.Module) -> nn.Module:
    """End the network at `node`, pooled."""
    graph = traced.graph
    graph.erase_node(next(end for end in graph.nodes if end.op == "output"))
    traced.add_submodule("pooling", pool)
    with graph.inserting_after(node):
        last = graph.call_module("pooling", (node,))
    graph.output(last)
    graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
