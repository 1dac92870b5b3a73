"""Device and precision are settled cheaply, without torch where there is no GPU."""

import subprocess
import sys

import pytest

from embedders.errors import InputError
from embedders.image import precision
from embedders.image.precision import resolve_device, resolve_precision


def test_auto_follows_the_processor(monkeypatch):
    monkeypatch.setattr(precision, "_cuda", lambda: False)
    for flag, expected in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(precision, "_cpu_flags", lambda flag=flag: frozenset({"fpu", flag}))
        assert resolve_precision("auto", "auto") == expected
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr(precision, "_cuda", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        resolve_device("cuda")


def test_planning_imports_nothing_heavy():
    program = (
        "import sys; from embedders.image.cnn import Cnn; import embedders.image.pixels; Cnn(device='cpu').fingerprint;"
        "print([m for m in ('torch', 'torchvision', 'PIL', 'efficientnet_lite_pytorch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
