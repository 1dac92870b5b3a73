"""One file that holds all that training needs to go on: written whole or not at all, read without running anything."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

EVERY = 5.0  # seconds of training that a kill may cost, beside the epoch it falls into


class Checkpoint:
    """The state of one training.

    folder : where it is kept; None: nowhere. about : what the training is of; that of another one is not gone on with.
    """

    def __init__(self, folder: Path | None, about: str) -> None:
        self._file, self._about, self._last = folder and folder / "training.safetensors", about, time.monotonic()

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write, unless it was written moments ago; a disk that is full costs safety, not the training."""
        if self._file is None or time.monotonic() - self._last < EVERY:
            return
        from safetensors.torch import save

        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(whole, {"about": self._about, "state": json.dumps(state)})
        fresh = self._file.with_suffix(".tmp")
        try:
            fresh.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file)
        except OSError:
            with suppress(OSError):
                fresh.unlink()
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was saved last; None when there is nothing, or it is damaged or of another training."""
        if self._file is None or not self._file.is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file, "pt") as found:
                about = found.metadata() or {}
                if about.get("about") != self._about:
                    return None
                return {name: found.get_tensor(name) for name in found.keys()}, json.loads(about["state"])
        except (SafetensorError, OSError, ValueError, KeyError):
            return None
