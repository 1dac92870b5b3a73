"""Which device and number format a network runs in; asked while planning, so torch is imported only beside a GPU."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from embedders.errors import InputError

Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]

_FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16"})


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Where the network runs: "auto" takes CUDA when torch can use it.

    Raises
    ------
    InputError : CUDA was asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    if _cuda():
        return "cuda"
    if device == "cuda":
        raise InputError("Got device='cuda', but torch sees no CUDA device here. Use device: auto or device: cpu.")
    return "cpu"


def resolve_precision(precision: Precision, device: Device) -> Literal["fp32", "bf16"]:
    """The number format of the network: "auto" takes bf16 where the hardware multiplies it (vectors stay float32)."""
    if precision != "auto":
        return precision
    if resolve_device(device) == "cuda":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _cpu_flags() & _FAST_BF16 else "fp32"


@cache
def _cuda() -> bool:
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()) or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@cache
def _cpu_flags() -> frozenset[str]:
    """What Linux says the processor can do; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
