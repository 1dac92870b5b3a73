"""A network's convolutions as oneDNN's own operations: batch norm, activation and residual sum inside, weights packed.

What `torch.compile` with freezing does to a convolutional network, without compiler and waiting: batch norms are folded
into the weights in float32, activations and sums run on a convolution's result while it is in registers, weights are
stored once in the order and precision that oneDNN computes in. Everything else runs as torch runs it.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedders.image.tracing import trace

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

_STATIC_PADDING = "Conv2dStaticSamePadding"
_HALVED = 32
"""A side that can be halved five times: every layer with a stride gets an even number of pixels."""


def fuse(model: nn.Module, shape: Sequence[int], *, bf16: bool, sensitive: Sequence[str] = ()) -> nn.Module:
    """The network with its convolutions fused, for batches of `shape` on the processor.

    Parameters
    ----------
    model : in evaluation mode, float32. Stays as it is.
    shape : (n, 3, crop, crop); other batch sizes work, slower.
    bf16 : convolutions in bfloat16, but for those whose name is or begins with (up to a dot) one of `sensitive`.

    Raises
    ------
    Whatever tracing raises where a forward pass cannot be traced; RuntimeError where torch has no oneDNN.
    """
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise RuntimeError("torch has no oneDNN here")
    traced = trace(model)
    layers = dict(traced.named_modules())
    _fold_batch_norms(traced, layers)
    turned = shape[-1] % _HALVED == 0 and any(_one_sided(layer) for layer in layers.values())
    if turned:
        _turn(traced)
    lowered = _lower(traced, layers, bf16=bf16, sensitive=tuple(sensitive), turned=turned)
    for node in list(traced.graph.nodes):
        _join_sum(traced, node, layers, lowered)
        _join_activation(traced, node, layers, lowered)
    _match_formats(traced, lowered)
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    _pack(traced, shape)
    return traced


def is_fused(model: Any) -> bool:
    """Whether most of what the network learned is in fused convolutions."""
    from torch import nn

    left = sum(isinstance(layer, nn.Linear | nn.Conv2d) for layer in model.modules())
    graph = getattr(model, "graph", None)
    return graph is not None and sum(_pointwise(node) for node in graph.nodes) > left


def has_fused(model: Any) -> bool:
    """Whether any convolution of the network is fused."""
    graph = getattr(model, "graph", None)
    return graph is not None and any(_pointwise(node) for node in graph.nodes)


def _pointwise(node: fx.Node) -> bool:
    return str(node.target).startswith("mkldnn._convolution_pointwise")


def _layer(node: Any, layers: dict[str, nn.Module]) -> nn.Module | None:
    return layers.get(str(node.target)) if getattr(node, "op", "") == "call_module" else None


def _is_convolution(layer: nn.Module | None) -> bool:
    from torch import nn

    if type(layer).__name__ == _STATIC_PADDING:
        return True
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _fold_batch_norms(traced: fx.GraphModule, layers: dict[str, nn.Module]) -> None:
    """Convolution, then batch norm: one convolution (Jacob et al. 2018, eq. 14)."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    calls = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):
        norm = _layer(node, layers)
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
            continue
        before = node.args[0]
        conv = _layer(before, layers)
        if conv is not None and _is_convolution(conv) and len(before.users) == calls[before.target] == 1:
            layers[before.target] = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var]
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)


def _turn(traced: fx.GraphModule) -> None:
    """Turn the pictures by 180 degrees."""
    picture = next(node for node in traced.graph.nodes if node.op == "placeholder")
    with traced.graph.inserting_after(picture):
        turned = traced.graph.call_method("flip", (picture, (2, 3)))
    picture.replace_all_uses_with(turned, delete_user_cb=lambda user: user is not turned)


def _lower(
    traced: fx.GraphModule, layers: dict[str, nn.Module], *, bf16: bool, sensitive: tuple[str, ...], turned: bool
) -> dict[fx.Node, torch.dtype]:
    """Each convolution as a call of oneDNN; returns these calls and the precision of each."""
    import torch

    graph, lowered = traced.graph, {}
    for node in list(graph.nodes):
        conv: Any = _layer(node, layers)
        if not _is_convolution(conv):
            continue
        name = str(node.target)
        exact = not bf16 or any(name == prefix or name.startswith(f"{prefix}.") for prefix in sensitive)
        dtype = torch.float32 if exact else torch.bfloat16
        weight = rounded(conv.weight) if dtype == torch.bfloat16 else conv.weight
        weight, padding = _padded(conv, weight, turned=turned)
        held = f"fused_{node.name}"  # of each call its own: a layer may run twice
        traced.register_buffer(f"{held}_weight", weight.detach().to(dtype, memory_format=torch.channels_last))
        traced.register_buffer(f"{held}_bias", None if conv.bias is None else conv.bias.detach().float())
        with graph.inserting_before(node):
            arrays = [graph.get_attr(f"{held}_weight"), None if conv.bias is None else graph.get_attr(f"{held}_bias")]
            options = [padding, list(conv.stride), list(conv.dilation), conv.groups]
            call = graph.call_function(
                torch.ops.mkldnn._convolution_pointwise.default, (node.args[0], *arrays, *options, "none", [], "")
            )
        node.replace_all_uses_with(call)
        graph.erase_node(node)
        lowered[call] = dtype
    return lowered


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """Kernels (out, in, h, w) in bfloat16, each with the sum it had: its smallest number takes what rounding lost.

    Neighbouring pixels are alike, so that the error of a rounded kernel is mostly that of its sum. With it, the worst of
    188 photographs has cosine 0.9977 to the features of exact weights where only the depthwise kernels of lite0 are
    rounded; without it 0.99997. The same idea, from data, is bias correction (Nagel et al. 2019, arXiv:1906.04721).
    """
    import torch

    flat = weight.detach().float().flatten(2)
    low = flat.to(torch.bfloat16)
    if flat.shape[2] > 1:
        least = flat.abs().argmin(2, keepdim=True)
        lost = (flat - low.float()).scatter(2, least, 0.0).sum(2, keepdim=True)
        low.scatter_(2, least, (flat.gather(2, least) + lost).to(torch.bfloat16))
    return low.view(weight.shape)


def _one_sided(layer: Any) -> bool:
    """Whether a convolution adds a pixel more on the right and below than on the left and above."""
    from torch import nn

    before = getattr(layer, "static_padding", None)
    return isinstance(before, nn.ZeroPad2d) and before.padding[0::2] != before.padding[1::2]


def _padded(conv: Any, weight: torch.Tensor, *, turned: bool) -> tuple[torch.Tensor, list[int]]:
    """Weight and padding, the same on both sides, as oneDNN takes it through torch.

    Of a picture that stands on its head the pixel more comes first, and its partner at the end is never read, since the
    stride leaves it out. Without turning, the pixel more is a row and a column of zeros in front of the kernel.
    """
    from torch import nn
    from torch.nn.functional import pad

    before = getattr(conv, "static_padding", None)
    if isinstance(before, nn.ZeroPad2d):
        left, right, top, bottom = before.padding
        padding = [bottom, right]
        weight = weight if turned else pad(weight, (right - left, 0, bottom - top, 0))
    else:
        padding = list(conv.padding)
    return weight.flip((2, 3)) if turned else weight, padding


def _join_sum(
    traced: fx.GraphModule, node: fx.Node, layers: dict[str, nn.Module], lowered: dict[fx.Node, torch.dtype]
) -> None:
    """A convolution that is added to an earlier result writes into it, where nothing reads that result any more."""
    import torch

    if node.target not in {operator.add, operator.iadd, torch.add} or len(node.args) != 2 or node.kwargs:
        return
    order = {each: place for place, each in enumerate(traced.graph.nodes)}
    pair: Any = node.args
    for conv, other in (pair, pair[::-1]):
        if (
            conv in lowered
            and _unary(conv) == "none"
            and len(conv.users) == 1
            and _owned(other, layers, lowered) == lowered[conv]
            and order[other] < order[conv]
            and all(user is node or (user in lowered and order[user] < order[conv]) for user in other.users)
        ):
            with traced.graph.inserting_before(conv):
                joined = traced.graph.call_function(
                    torch.ops.mkldnn._convolution_pointwise_.binary,
                    (other, *conv.args[:7], "add", 1.0, None, [], ""),
                )
            dtype = lowered[joined] = lowered.pop(conv)
            bias: Any = conv.args[2]
            if bias is not None:  # the plain call takes a float32 bias beside bfloat16, this one does not
                setattr(traced, bias.target, getattr(traced, bias.target).to(dtype))
            node.replace_all_uses_with(joined)
            traced.graph.erase_node(node)
            traced.graph.erase_node(conv)
            return


def _owned(node: Any, layers: dict[str, nn.Module], lowered: dict[fx.Node, torch.dtype]) -> torch.dtype | None:
    """The precision of a result that has memory of its own: of a convolution, or of the greatest of one's places."""
    from torch import nn

    return lowered.get(node.args[0] if isinstance(_layer(node, layers), nn.MaxPool2d) else node)


def _unary(call: fx.Node) -> Any:
    return call.args[-3]


def _is_sum(call: fx.Node) -> bool:
    return len(call.args) == 13


def _join_activation(
    traced: fx.GraphModule, node: fx.Node, layers: dict[str, nn.Module], lowered: dict[fx.Node, torch.dtype]
) -> None:
    """An activation after a convolution runs inside it; after one with a sum only ReLU can."""
    found = _activation(node, layers)
    conv: Any = node.args[0] if found and node.args else None
    if found is None or conv not in lowered or len(conv.users) > 1 or _unary(conv) not in {"none", None}:
        return
    if found[0] == "relu" or not _is_sum(conv):
        conv.args = (*conv.args[:-3], *found)
        node.replace_all_uses_with(conv)
        traced.graph.erase_node(node)


def _activation(node: fx.Node, layers: dict[str, nn.Module]) -> tuple[str, list[float], str] | None:
    """Name, numbers and variant of an activation, in oneDNN's words."""
    import torch
    from torch import nn
    from torch.nn import functional

    layer = _layer(node, layers)
    if isinstance(layer, nn.GELU):
        return "gelu", [], layer.approximate
    known: dict[Any, tuple[str, list[float], str]] = {
        nn.ReLU: ("relu", [], ""),
        nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
        nn.Hardswish: ("hardswish", [], ""),
        nn.SiLU: ("swish", [], ""),
        nn.Sigmoid: ("sigmoid", [], ""),
        functional.relu: ("relu", [], ""),
        torch.relu: ("relu", [], ""),
    }
    return known.get(type(layer) if layer is not None else node.target)


def _match_formats(traced: fx.GraphModule, lowered: dict[fx.Node, torch.dtype]) -> None:
    """What a convolution reads gets its precision, where another precision may come."""
    for call, dtype in lowered.items():
        place = 1 if _is_sum(call) else 0
        x: Any = call.args[place]
        if lowered.get(x) != dtype:
            with traced.graph.inserting_before(call):
                same = traced.graph.call_method("to", (x, dtype))
            call.update_arg(place, same)


def _pack(traced: fx.GraphModule, shape: Sequence[int]) -> None:
    """Store the weights as oneDNN wants them for inputs of the sizes that a batch of `shape` leads to."""
    import torch
    from torch import fx

    ops = torch.ops.mkldnn

    class Pack(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if _pointwise(n):
                args: Any = n.args[1 if _is_sum(n) else 0 :]
                x, weight, _, *options = args[:7]
                packed = ops._reorder_convolution_weight(self.env[weight], *options, list(self.env[x].shape))
                setattr(traced, str(weight.target), packed)
            return super().run_node(n)

    with torch.inference_mode():
        Pack(traced).run(torch.zeros(tuple(shape)).contiguous(memory_format=torch.channels_last))
