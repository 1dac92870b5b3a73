"""The one door to torchvision, which also opens where its compiled operators do not load.

A wheel of torchvision built for CUDA does not load its operators beside a CPU build of torch, and `import torchvision`
then fails with `operator torchvision::nms does not exist`, although models and transforms need none of them. Declaring
the two operators that the import registers shapes for is enough.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedders.errors import InputError, MissingPackageError

_LOCK = threading.Lock()
_DECLARED: list[Any] = []
"""Keeps the declared operators alive: torch takes them back when the library object goes."""


def import_torch(purpose: str) -> Any:
    """The module torch; `purpose` ("The embedder 'cnn'") begins the message when it is missing.

    Raises
    ------
    MissingPackageError : torch is not installed.
    """
    if find_spec("torch") is None:
        raise MissingPackageError("torch", "image", purpose)
    return importlib.import_module("torch")


def import_torchvision() -> Any:
    """The module torchvision, with its operators declared where they do not load; models and transforms work.

    Raises
    ------
    MissingPackageError : torch or torchvision is not installed.
    InputError : torchvision is installed and does not import (a version that does not match torch).
    """
    torch = import_torch("A backbone of torchvision")
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise MissingPackageError("torchvision", "image", "A backbone of torchvision")
    with _LOCK:
        if "torchvision" not in sys.modules and not _DECLARED and not _operators_load(torch, Path(spec.origin).parent):
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DECLARED.append(library)
        with warnings.catch_warnings():  # torchvision < 0.24 says so at import; decoding is Pillow's here
            warnings.filterwarnings("ignore", message="Failed to load image Python extension", category=UserWarning)
            try:
                return importlib.import_module("torchvision")
            except (ImportError, RuntimeError) as error:
                raise InputError(
                    f"torchvision does not import beside torch {torch.__version__}: {error}. Install the torchvision that belongs to this torch: pip install -U torch torchvision."
                ) from error


def _operators_load(torch: Any, folder: Path) -> bool:
    for library in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]:
        try:
            torch.ops.load_library(library)
        except (OSError, ImportError):
            continue
    return hasattr(torch.ops.torchvision, "nms")
