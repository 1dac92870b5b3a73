"""Convolutional and transformer backbones without their classifier: a picture in, its pooled features out."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError, MissingPackageError
from embedders.image import timm_models
from embedders.image import weights as weight_files
from embedders.image.decode import Interpolation
from embedders.image.fused import fuse, rounded
from embedders.image.pooling import average, pooled
from embedders.image.remembered import of_package
from embedders.image.small import SMALL, small
from embedders.image.torchvision_ops import import_torch, import_torchvision

if TYPE_CHECKING:
    import torch
    from torch import nn

LITE0 = "efficientnet_lite0"
_HEADS = ("fc", "classifier", "heads", "head")
_AUXILIARY = ("AuxLogits", "aux1", "aux2")
_COUNTER = "num_batches_tracked"
"""Training steps a batch norm has seen: not used here, absent from old files, and not kept."""
_BUILDING = threading.Lock()
"""Building draws from torch's global random numbers; they are put back, and one model is built at a time."""


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone expects. short_side, crop: pixels; mean, std: of R, G, B on 0..255; the resize filter."""

    short_side: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"

    @classmethod
    def parse(cls, saved: Mapping[str, Any]) -> Preprocessing:
        """From the plain mapping that `dataclasses.asdict` gave, also after a trip through JSON."""
        return cls(**{**saved, "mean": tuple(saved["mean"]), "std": tuple(saved["std"])})


SMALL_PREPROCESSING = Preprocessing(32, 32, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

LITE0_PREPROCESSING = Preprocessing(256, 224, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""As TensorFlow's EfficientNet-Lite was trained; ImageNet mean and std lose ten points of top-1 on photographs."""

SENSITIVE = {
    LITE0: ("_conv_stem", "_bn0", "_blocks.0._depthwise_conv", "_blocks.0._bn1"),
    "efficientnet_b": ("features.0", "features.1", "features.2"),
    "mobilenet_": ("features.0", "features.1", "features.2"),
    "mnasnet": tuple(f"layers.{i}" for i in range(9)),
}
"""Layers kept in float32 when the rest runs in bfloat16, by backbone (prefix; the first that fits).

The first depthwise layer finds small differences of large neighbours, which must not be rounded before. Of 188
photographs, the worst has lite0's features at cosine 0.9989 to float32 all in bfloat16, 0.9995 with these in float32.
With random weights, which have no such channels, every family measured stays above 0.9998 all in bfloat16 (resnet,
regnet, densenet, mobilenet, mnasnet, efficientnet, shufflenet, squeezenet); the other rows follow by analogy.
"""


def build(
    backbone: str, weights: str, seed: int, pooling: str = "average", size: int | None = None
) -> tuple[nn.Module, Preprocessing]:
    """A backbone with its weights, in float32 on the CPU, without classifier, in evaluation mode.

    Parameters
    ----------
    backbone : "efficientnet_lite0", "small", a classification model of torchvision, or "timm:NAME".
    weights : "package", "default" (the library's best, a download), "random" (a baseline) or a path.
    seed : of random weights.
    pooling : "average" (the network's own), "gem" or the name of a layer (`pooling.pooled`).
    size : side of the square that it sees, in pixels; None: that of its weights.

    Returns
    -------
    A module (n, 3, crop, crop) float32 -> (n, dim) float32, and what its input must look like.

    Raises
    ------
    InputError : unknown backbone; weights that are missing, damaged or of another network; a failed download; no such
        layer.
    """
    path = weight_files.locate(backbone, weights)
    look = preprocessing(backbone)
    if size is not None:
        look = replace(look, short_side=round(look.short_side * size / look.crop), crop=size)
    model = _headless(backbone, look, seed, download=weights == "default")
    if path is not None:
        _load(model, weight_files.read(path), backbone, str(path))
    elif weights == "default" and not backbone.startswith(timm_models.PREFIX):
        _load(model, _download(backbone), backbone, "default")
    return pooled(model, pooling, backbone, look.crop).eval().requires_grad_(False), look


def rebuild(
    backbone: str,
    arrays: Mapping[str, NDArray[Any]],
    look: Preprocessing,
    *,
    bf16: bool,
    pooling: str = "average",
    batch: int = 0,
) -> nn.Module:
    """The module of `build` from the arrays of `state`, ready to run, under autocast when `bf16`.

    batch : pictures that the processor will get at a time, for which convolutions are fused; 0 leaves torch's own.
    """
    torch = import_torch("The embedder 'cnn'")
    model = pooled(_headless(backbone, look, 0), pooling, backbone, look.crop).eval().requires_grad_(False)
    _load(model, {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, backbone, "saved")
    sensitive = next((names for prefix, names in SENSITIVE.items() if backbone.startswith(prefix)), ())
    if batch:
        try:
            return fuse(model, (batch, 3, look.crop, look.crop), bf16=bf16, sensitive=sensitive)
        except Exception:  # a forward pass that cannot be traced, a torch without oneDNN: as torch runs it
            pass
    if bf16:
        _lower_precision(model, sensitive)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def _lower_precision(model: nn.Module, sensitive: tuple[str, ...]) -> None:
    """Sensitive layers in float32; weights of the others in bfloat16, once instead of at every call under autocast."""
    import torch
    from torch import nn

    for name, layer in list(model.named_modules()):
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in sensitive):
            if not any(True for _ in layer.children()):
                model.set_submodule(name, _in_float32(layer))
        elif isinstance(layer, nn.Conv2d):
            layer.weight.data = rounded(layer.weight)
        elif isinstance(layer, nn.Linear):
            layer.to(torch.bfloat16)


def state(model: nn.Module) -> dict[str, NDArray[Any]]:
    """The arrays of a model by name."""
    return {name: value.numpy() for name, value in model.state_dict().items() if not name.endswith(_COUNTER)}


def default_name(backbone: str) -> str:
    """The name and address of the weights called default for a backbone, for fingerprints."""
    if backbone.startswith(timm_models.PREFIX):
        return timm_models.default_name(backbone)

    def find() -> str:
        best = _default(backbone)
        return f"{best} {best.url}"

    return find() if backbone in {LITE0, SMALL} else of_package("torchvision", f"{backbone}: default weights", find)


def preprocessing(backbone: str) -> Preprocessing:
    """What the backbone's weights expect: of torchvision's or timm's best; needs no download.

    Raises
    ------
    InputError : unknown backbone.
    """
    if backbone == LITE0:
        return LITE0_PREPROCESSING
    if backbone == SMALL:
        return SMALL_PREPROCESSING
    if backbone.startswith(timm_models.PREFIX):
        found = timm_models.sizes(backbone)
        return Preprocessing.parse({**found, **{key: [255 * value for value in found[key]] for key in ("mean", "std")}})

    def find() -> str:
        best = _default(backbone).transforms()
        return json.dumps({
            "short_side": max(best.resize_size[0], best.crop_size[0]),
            "crop": best.crop_size[0],
            "mean": [255 * value for value in best.mean],
            "std": [255 * value for value in best.std],
            "interpolation": "bicubic" if best.interpolation.value == "bicubic" else "bilinear",
        })  # fmt: skip

    return Preprocessing.parse(json.loads(of_package("torchvision", f"{backbone}: preprocessing", find)))


def _default(backbone: str) -> Any:
    """The member of torchvision's weights enum that it calls DEFAULT; its metadata needs no download."""
    if backbone == SMALL:
        raise InputError(
            f"Got weights 'default' with backbone {SMALL!r}, which nobody has trained: weights: random, and train."
        )
    if backbone == LITE0:
        raise InputError(f"Got weights 'default' with backbone {LITE0!r}; its weights are a package: weights: package.")
    models = import_torchvision().models
    known = models.list_models(module=models)
    if backbone not in known:
        close = get_close_matches(backbone, [*known, LITE0, SMALL], n=4, cutoff=0.5)
        raise InputError(
            f"Got backbone {backbone!r}; expected {LITE0!r} or a classification model of torchvision, or timm:NAME{', such as ' + ', '.join(close) if close else ''}."
        )
    return models.get_model_weights(backbone).DEFAULT


def _download(backbone: str) -> OrderedDict[str, torch.Tensor]:
    best = _default(backbone)
    try:
        found = best.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise InputError(
            f"The weights {best} did not arrive from {best.url} ({error}). Fetch the file elsewhere and give its path as weights, or use backbone: {LITE0} with weights: package."
        ) from error
    return weight_files.tensors(found, best.url)


def _headless(backbone: str, look: Preprocessing, seed: int, *, download: bool = False) -> nn.Module:
    torch = import_torch("The embedder 'cnn'")
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(backbone, look, download)
    return model.eval().requires_grad_(False)


def _network(backbone: str, look: Preprocessing, download: bool) -> nn.Module:
    if backbone.startswith(timm_models.PREFIX):
        return timm_models.create(backbone, pretrained=download)
    if backbone == SMALL:
        return small()
    return _lite0() if backbone == LITE0 else _torchvision(backbone, look)


def _lite0() -> nn.Module:
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946): (n, 3, 224, 224) -> (n, 1280), global average."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingPackageError("efficientnet-lite-pytorch", "image", f"The backbone {LITE0!r}") from None
    from torch import nn

    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    model._dropout = nn.Identity()
    model._fc = nn.Identity()
    return model


def _torchvision(backbone: str, look: Preprocessing) -> nn.Module:
    """A torchvision model with its head replaced by pooling."""
    from torch import nn

    options: dict[str, Any] = {}
    if backbone in {"googlenet", "inception_v3"}:
        options = {"transform_input": True, "aux_logits": False, "init_weights": True}
    if backbone.startswith("vit_"):
        options = {"image_size": look.crop}
    model: nn.Module = import_torchvision().models.get_model(backbone, weights=None, **options)
    head = _head(model)
    if head is None:
        raise InputError(f"Got backbone {backbone!r}, whose classifier is not one of {_HEADS}. Choose another.")
    setattr(model, head, average())
    if backbone.startswith(("vgg", "alexnet")):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
    return model


def _head(model: nn.Module) -> str | None:
    return next((name for name in _HEADS if hasattr(model, name)), None)


def _in_float32(module: nn.Module) -> nn.Module:
    from torch import autocast
    from torch.nn import Module

    class Float32(Module):
        """Runs a module in float32 inside an autocast region."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
            with autocast(x.device.type, enabled=False):
                result: torch.Tensor = self.inner(x.float(), **options)
            return result

    return Float32()


def _load(model: nn.Module, found: Mapping[str, torch.Tensor], backbone: str, name: str) -> None:
    """Copy tensors into a headless model; keys of the classifier may be missing, present, or of any class count."""
    timm = backbone.startswith(timm_models.PREFIX)
    own = timm_models.heads(backbone) if timm else ("_fc", _head(model), *_AUXILIARY)
    heads = tuple(f"{part}." for part in own if part)
    body = {key: value for key, value in found.items() if not key.startswith(heads)}
    try:
        result = model.load_state_dict(_versioned(body, getattr(found, "_metadata", None), model), strict=False)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:400]
        raise InputError(f"Got weights {name!r}, which do not fit the backbone {backbone!r}: {text}.") from error
    missing = [key for key in result.missing_keys if not key.endswith(_COUNTER)]
    if missing or result.unexpected_keys:
        raise InputError(
            f"Got weights {name!r}, which are not of the backbone {backbone!r}: {len(missing)} missing {missing[:3]}, {len(result.unexpected_keys)} unexpected {result.unexpected_keys[:3]}. Name the backbone they belong to."
        )


def _versioned(body: Mapping[str, torch.Tensor], versions: Any, model: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """A state_dict with the layer versions torch wrote beside it; tensors named as the model's own are of its version."""
    own = model.state_dict()
    if versions is None and body.keys() >= {key for key in own if not key.endswith(_COUNTER)}:
        versions = getattr(own, "_metadata", None)
    state = OrderedDict(body)
    if versions is not None:
        state._metadata = versions  # type: ignore[attr-defined]
    return state
