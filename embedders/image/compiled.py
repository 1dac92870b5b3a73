"""`torch.compile` with frozen weights, for networks that are not mostly convolutions; falls back without noise."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

Compile = bool | Literal["auto"]
PAYS = 20_000
"""Pictures from which `auto` compiles: about a minute of a core, won back at a few milliseconds a picture."""
_LOCK = threading.Lock()


def pays(compile: Compile, pictures: int, *, fused: bool) -> bool:
    """Whether to compile: never without a compiler; `auto` where convolutions are not fused already and many wait."""
    if compile == "auto":
        return not fused and pictures >= PAYS and has_compiler()
    return compile and has_compiler()


def has_compiler() -> bool:
    """Whether there is a C++ compiler, as inductor looks for it."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "g++-13") if name)


def faster(one: Any, other: Any, example: torch.Tensor, call: Callable[[Any, torch.Tensor], Any]) -> bool:
    """Whether `one` takes less of a core than `other` (compiled, swin_t took 0.8 of the time and vit_b_16 20 times)."""

    def seconds(network: Any) -> float:
        started = time.thread_time()
        call(network, example)
        return time.thread_time() - started

    return min(seconds(one) for _ in range(2)) < min(seconds(other) for _ in range(2))


def compiled(model: nn.Module, example: torch.Tensor, call: Callable[[Any, torch.Tensor], Any]) -> nn.Module:
    """The network compiled for inputs like `example`; the network itself where compiling fails.

    call : runs a network on an input under the conditions (inference mode, autocast) of every later call.
    """
    import torch
    import torch._inductor.config as inductor

    with _LOCK, _quietly(), inductor.patch(freezing=True):
        try:
            found: Any = torch.compile(model, dynamic=False)
            call(found, example)
        except Exception:  # a compiler that does not compile, a forward pass that dynamo cannot follow
            torch._dynamo.reset()
            return model
    network: nn.Module = found
    return network


@contextmanager
def _quietly() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
