"""Backbones of timm, by the name `timm:NAME`: preprocessing from its data configuration, weights as it downloads them."""

from __future__ import annotations

import math
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from embedders.errors import InputError, MissingPackageError
from embedders.image.torchvision_ops import import_torchvision

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"


def configuration(backbone: str) -> Any:
    """The pretrained configuration of "timm:NAME"; needs no download.

    Raises
    ------
    InputError : no such model. MissingPackageError : timm is not installed.
    """
    timm, name = _timm(), backbone.removeprefix(PREFIX)
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
        raise InputError(
            f"Got backbone {backbone!r}; expected a model of timm{', such as ' + ', '.join(PREFIX + one for one in close) if close else ''}."
        )
    return timm.get_pretrained_cfg(name)


def sizes(backbone: str) -> dict[str, Any]:
    """Short side and crop in pixels, mean and spread on 0..1, resize filter."""
    found = configuration(backbone)
    crop = found.input_size[-1]
    filtering = "bicubic" if found.interpolation == "bicubic" else "bilinear"
    return {
        "short_side": max(crop, math.floor(crop / (found.crop_pct or 1.0))),
        "crop": crop,
        "mean": found.mean,
        "std": found.std,
        "interpolation": filtering,
    }


def create(backbone: str, *, pretrained: bool) -> nn.Module:
    """The model without classifier: (n, 3, crop, crop) -> (n, dim).

    Raises
    ------
    InputError : the weights did not arrive.
    """
    configuration(backbone)
    name = backbone.removeprefix(PREFIX)
    try:
        model: nn.Module = _timm().create_model(name, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError) as error:  # what huggingface_hub raises is an OSError or a RuntimeError
        if not pretrained:
            raise
        raise InputError(
            f"timm's weights of {name!r} did not arrive ({' '.join(str(error).split())[:200]}). Fetch the file elsewhere and give its path as weights."
        ) from error
    return model


def heads(backbone: str) -> tuple[str, ...]:
    """The names of its classifiers."""
    found = configuration(backbone).classifier
    return (found,) if isinstance(found, str) else tuple(found or ())


def default_name(backbone: str) -> str:
    """What timm would download, for fingerprints."""
    found = configuration(backbone)
    source = found.hf_hub_id or found.url
    if not source:
        raise InputError(f"Got weights 'default', but timm has none for {backbone!r}. Give a file, or weights: random.")
    return f"timm {found.architecture}.{found.tag} {source}"


def _timm() -> Any:
    if find_spec("timm") is None:
        raise MissingPackageError("timm", "timm", "A backbone of timm")
    import_torchvision()  # timm imports torchvision; ours opens where its operators do not load
    import timm

    return timm
