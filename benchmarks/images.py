"""Photographs to CNN features, beside a plain fp32 torch loop with the same network, preprocessing and Pillow.

Two comparisons: files to vectors (decoding included), and the network alone on pixels in memory. The plain loop decodes
and computes in one thread of control, as img2vec-style scripts do; torch uses all its threads on both sides.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.base import Matrix
from embedders.data import Images

if TYPE_CHECKING:
    import torch
    from torch import nn

BATCH = 32
SMALL_FILES = 24


def photographs(small: bool) -> Images:
    """The clothing photographs, with digests made beforehand."""
    folder = common.data("images_clothing")
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        files = [folder / row["file"] for row in csv.DictReader(file)]
    files = files[:SMALL_FILES] if small else files
    return Images([path.name for path in files], files, [hashlib.sha256(p.read_bytes()).hexdigest() for p in files])


def encoder(images: Images, precision: str) -> Any:
    """Our encoder, loaded."""
    from embedders.image.cnn import Cnn

    return Cnn.model_validate({"precision": precision, "batch_size": min(BATCH, len(images)), "device": "cpu"}).fit(
        images
    )


def encoded(model: Any, images: Images) -> Matrix:
    """Files to a matrix with ours."""
    return np.concatenate([batch.vectors.matrix for batch in model.encode(images)])


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


def computed(network: nn.Module, pixels: torch.Tensor, batch: int, *, bf16: bool) -> float:
    """Pictures a second of the network alone."""
    import torch

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for x in chunks(pixels, batch):
                network(x)

    return len(pixels) / common.seconds(forward)


def cosines(a: Matrix, b: Matrix) -> NDArray[np.float64]:
    """(n,) cosines of the rows of a and b."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    found: NDArray[np.float64] = np.einsum("ij,ij->i", x, y) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return found


def rate(images: Images, function: Callable[[], Any]) -> float:
    return len(images) / common.seconds(function)


def contenders(images: Images) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """All ways to compute, by name, and how near their vectors are to the plain loop's."""
    import torch

    from embedders.image import backbones

    network, look = backbones.build("efficientnet_lite0", "package", 0)
    ours = {precision: encoder(images, precision) for precision in ("auto", "fp32", "bf16")}
    found = {name: encoded(model, images) for name, model in ours.items()}
    reference = plain(network, look, images, BATCH)
    near = {name: cosines(matrix, found["fp32"]) for name, matrix in found.items()}
    quality = {name: f"cosine to our fp32: min {c.min():.5f}, mean {c.mean():.5f}" for name, c in near.items()}
    quality["auto is"] = str(ours["auto"].mode.get("precision", "?"))
    change = cosines(found["fp32"], reference)
    quality["loop"] = f"our fp32 vectors to the loop's: cosine min {change.min():.5f}, mean {change.mean():.5f}"
    pixels = torch.from_numpy(np.stack([open_plain(path, look) for path in images.files[: 4 * BATCH]]))
    last = pixels.contiguous(memory_format=torch.channels_last)
    saved = ours["fp32"].weights
    wide, mixed = (backbones.rebuild("efficientnet_lite0", saved, look, bf16=bf16) for bf16 in (False, True))
    files = {f"ours {name}": partial(rate, images, partial(encoded, model, images)) for name, model in ours.items()}
    loops = {f"loop batch {n}": partial(rate, images, partial(plain, network, look, images, n)) for n in (1, BATCH)}
    alone = {
        "network, plain fp32, batch 1": partial(computed, network, pixels, 1, bf16=False),
        "network, plain fp32": partial(computed, network, pixels, BATCH, bf16=False),
        "network, fp32 channels_last": partial(computed, wide, last, BATCH, bf16=False),
        "network, bf16 channels_last": partial(computed, mixed, last, BATCH, bf16=True),
    }
    return {**files, **loops, **alone, "decoding alone": partial(decoding, images, look)}, quality


def decoding(images: Images, look: Any) -> float:
    """Pictures a second of our decoder in one thread."""
    from embedders.image.decode import decode

    def every() -> None:
        for path in images.files:
            decode(path, short_side=look.short_side, crop=look.crop, interpolation=look.interpolation)

    return rate(images, every)


def measure(options: argparse.Namespace) -> Result:
    """Everything by turns, medians quoted."""
    images = photographs(options.small)
    try:
        import torch

        every, quality = contenders(images)
    except ImportError as error:
        raise common.SkippedError(f"{error.name or 'embedders.image'} cannot be imported ({error}).") from error
    common.say(f"{len(images)} photographs, {options.rounds} rounds, torch with {torch.get_num_threads()} threads")
    runs = common.interleaved(every, options.rounds)
    found = common.medians(runs)
    rows = [
        Row(f"cnn lite0, {len(images)} JPEG files -> vectors, precision {name}", "images/s", found[f"ours {name}"], found[loop], f"plain torch fp32, {loop}", quality[name])
        for name, loop in itertools.product(("auto", "fp32"), ("loop batch 1", f"loop batch {BATCH}"))
    ]  # fmt: skip
    rows += [
        Row(f"{name}, batch {BATCH}", "images/s", found[name], found[f"network, plain fp32{single}"], f"plain fp32{single or f', batch {BATCH}'}", quality["bf16"] if "bf16" in name else "")
        for name, single in itertools.product(("network, fp32 channels_last", "network, bf16 channels_last"), (", batch 1", ""))
    ]  # fmt: skip
    notes = [f"precision auto is {quality['auto is']} here", f"our decoder alone, one thread: {found['decoding alone']:.0f} images/s", quality["loop"]]  # fmt: skip
    return Result(
        "images",
        rows,
        {"files": len(images), "batch": BATCH, "torch_threads": torch.get_num_threads(), **quality},
        runs,
        notes,
    )


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is quoted")
    common.run("images", measure, parser.parse_args())


if __name__ == "__main__":
    main()
