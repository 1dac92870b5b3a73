"""One network on pixels in memory: a plain fp32 torch loop, ours in fp32 and bf16, OpenVINO, and what bf16 products reach."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from embedders.base import Matrix
from embedders.data import Images

if TYPE_CHECKING:
    import torch
    from torch import nn

BATCH = 32
SIDE = 1024


def open_plain(path: Path, look: Any) -> NDArray[np.float32]:
    """One file to (3, crop, crop) float32 with Pillow, rounded as torchvision's Resize and CenterCrop do."""
    from PIL import Image

    with Image.open(path) as file:
        picture = file.convert("RGB")
    short, long = sorted(picture.size)
    long = int(look.short_side * long / short)
    size = (look.short_side, long) if picture.width <= picture.height else (long, look.short_side)
    picture = picture.resize(size, getattr(Image.Resampling, look.interpolation.upper()))
    left, top = (round((side - look.crop) / 2) for side in size)
    pixels = np.asarray(picture.crop((left, top, left + look.crop, top + look.crop)), np.float32)
    return np.ascontiguousarray(((pixels - look.mean) / look.std).astype(np.float32).transpose(2, 0, 1))


def plain(network: nn.Module, look: Any, images: Images, batch: int) -> Matrix:
    """Files to a matrix with a loop."""
    import torch

    parts = []
    with torch.inference_mode():
        for files in chunks(images.files, batch):
            x = torch.from_numpy(np.stack([open_plain(path, look) for path in files]))
            parts.append(network(x).numpy())
    return np.concatenate(parts)


def chunks(items: Any, size: int) -> Iterator[Any]:
    """Pieces of `items` of at most `size`."""
    return (items[first : first + size] for first in range(0, len(items), size))


def cosines(a: Matrix, b: Matrix) -> NDArray[np.float64]:
    """(n,) cosines of the rows of a and b."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    found: NDArray[np.float64] = np.einsum("ij,ij->i", x, y) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return found


def overlap(a: Matrix, b: Matrix, k: int = 10) -> float:
    """Share of the k nearest rows by cosine that a and b have in common."""

    def nearest(matrix: Matrix) -> NDArray[np.int64]:
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -2)
        found: NDArray[np.int64] = np.argsort(-cosine, axis=1)[:, :k]
        return found

    pairs = zip(nearest(a), nearest(b), strict=True)
    return float(np.mean([len(set(x.tolist()) & set(y.tolist())) / k for x, y in pairs]))


class Alone:
    """The ways to run one network on pixels in memory; each call gives pictures a second.

    Ours: each core its own batches, as the encoder runs; the loop and the matrix product: torch on all cores.
    """

    def __init__(self, backbone: str, weights: str, images: Images) -> None:
        import torch

        from embedders.image import backbones
        from embedders.image.encoder import STEP

        self.name, self.step, self.cores = backbone, STEP, common.cores()
        self.network, self.look = backbones.build(backbone, weights, 0)
        pixels = np.stack([open_plain(path, self.look) for path in images.files[:BATCH]])
        self.pixels = torch.from_numpy(pixels)
        self.last = self.pixels.contiguous(memory_format=torch.channels_last)
        arrays = backbones.state(self.network)
        self.ours = {
            bf16: backbones.rebuild(backbone, arrays, self.look, bf16=bf16, batch=STEP) for bf16 in (False, True)
        }

    def contenders(self) -> dict[str, Callable[[], float]]:
        found: dict[str, Callable[[], float]] = {
            "loop, batch 1": partial(self.loop, 1),
            f"loop, batch {BATCH}": partial(self.loop, BATCH),
            "ours fp32": partial(self.fused, bf16=False),
            "ours bf16": partial(self.fused, bf16=True),
            "bf16 product": product,
        }
        return found

    def loop(self, batch: int) -> float:
        import torch

        count = min(len(self.pixels), max(batch, 8))

        def forward() -> None:
            with torch.inference_mode():
                for x in chunks(self.pixels[:count], batch):
                    self.network(x)

        return count / common.seconds(forward)

    def features(self, x: torch.Tensor, *, bf16: bool) -> torch.Tensor:
        import torch

        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found: torch.Tensor = self.ours[bf16](x).float()
            return found

    def fused(self, *, bf16: bool, cores: int = 0) -> float:
        import torch

        from embedders.torch_threads import torch_threads

        cores = cores or self.cores
        pieces = [x for x in chunks(self.last, self.step) if len(x) == self.step]
        with torch_threads(), ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(lambda x: self.features(x, bf16=bf16), pieces[:cores]))  # threads and caches are there
            seconds = common.seconds(lambda: list(pool.map(lambda x: self.features(x, bf16=bf16), pieces)))
        return len(pieces) * self.step / seconds

    def operations(self) -> float:
        """Floating-point operations of one picture: of its convolutions and matrix products."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.network(self.pixels[:1])
        return float(counter.get_total_flops())

    def nearness(self) -> str:
        """How near bf16 is to fp32, on the pictures at hand."""
        exact, low = (
            np.concatenate([self.features(x, bf16=bf16).numpy() for x in chunks(self.last, self.step)])
            for bf16 in (False, True)
        )
        return f"cosine to fp32 min {cosines(exact, low).min():.5f}, 10 nearest {overlap(exact, low):.3f}"

    def openvino(self, peers: Path) -> Callable[[], float]:
        """OpenVINO in bf16, a stream a core, the same batches.

        Raises
        ------
        SkippedError : it is not there, or was built for another Python.
        """
        found = [str(path) for path in sorted(peers.parents[1].glob("lib/python*/site-packages"))]
        sys.path.extend(path for path in found if path not in sys.path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import openvino

                shape = [self.step, *self.pixels.shape[1:]]
                model = openvino.convert_model(self.network, example_input=self.pixels[: self.step], input=shape)
        except ImportError as error:
            raise common.SkippedError(f"OpenVINO is not in the environment of {peers} ({error})") from error
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": self.cores,
            "NUM_STREAMS": self.cores,
        }
        network = openvino.Core().compile_model(model, "CPU", settings)
        queue = openvino.AsyncInferQueue(network, self.cores)
        pieces = [x.numpy() for x in chunks(self.pixels, self.step) if len(x) == self.step]

        def forward() -> None:
            for x in pieces:
                queue.start_async({0: x})
            queue.wait_all()

        forward()
        return lambda: len(pieces) * self.step / common.seconds(forward)


def product() -> float:
    """Operations a second of a bf16 matrix product, torch on all cores."""
    import torch

    a = torch.randn(SIDE, SIDE, dtype=torch.bfloat16)
    return 2 * SIDE**3 * 8 / common.seconds(lambda: [a @ a for _ in range(8)])
