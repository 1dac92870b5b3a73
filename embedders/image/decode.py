"""A picture becomes a square of RGB bytes, or an error with a reason code.

The centre square is cut and resized in one step from the picture's own pixels, so that a strip of 1 x 5,000 pixels
needs no giant intermediate picture.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError
from embedders.image.opening import (
    FORMATS,
    Code,
    DecodeError,
    Source,
    explained,
    in_passes,
    open_picture,
    pixels_held,
    quiet,
    read,
)
from embedders.image.prefetch import Budget

if TYPE_CHECKING:
    from PIL import Image, ImageFile

__all__ = ["FORMATS", "PIXEL_LIMIT", "Code", "DecodeError", "Interpolation", "Source", "decode", "read"]

Interpolation = Literal["bilinear", "bicubic"]

PIXEL_LIMIT = 200_000_000
_PIXELS = Budget(128_000_000)
"""Of the pictures that all threads decode at once: half a GB. A larger picture is decoded alone."""
_DRAFT_GAP = 1.5
"""A reduced JPEG keeps so many times the pixels needed on each side. Features of EfficientNet-Lite0 have mean cosine
0.9995 to those of the full decode at 1.5 (worst of 84: 0.9965) as at 2; 0.9988 (0.973) at 1.4; 0.995 (0.959) at 1."""
_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def decode(
    path: Path | str,
    content: bytes | None = None,
    *,
    short_side: int,
    crop: int,
    interpolation: Interpolation = "bilinear",
    pixel_limit: int = PIXEL_LIMIT,
) -> NDArray[np.uint8]:
    """Read a picture, scale its shorter side to `short_side` with antialiasing, cut the centre square.

    EXIF orientation is applied, transparency is laid on white, CMYK, palette and 16-bit or float grey become RGB, of an
    animation the first frame is taken. A JPEG much larger than needed is decoded at a half, a quarter or an eighth of
    its size.

    Parameters
    ----------
    path : the file, or what messages call it when its bytes are given. content : its bytes, if they were read already.
    short_side, crop : in pixels, `short_side >= crop >= 1`, so that nothing has to be padded.
    interpolation : the filter that the weights were trained with.
    pixel_limit : most pixels (width x height) of a picture; checked before its pixels are read.

    Returns
    -------
    (crop, crop, 3) uint8, RGB.

    Raises
    ------
    DecodeError : with code "missing_file", "empty_file", "not_an_image", "broken_image", "too_many_pixels" or
        "too_many_bytes".
    """
    if not short_side >= crop >= 1:
        raise InputError(f"Got short_side={short_side} and crop={crop}; expected short_side >= crop >= 1.")
    quiet()
    try:
        content = read(Path(path)) if content is None else content
        with open_picture(str(path), content, pixel_limit) as image:
            whole = pixels_held(image)
            extent = _shrink(image, short_side)
            reduced = image.format in {"JPEG", "MPO"} and not in_passes(image, content)
            size = image.width * image.height if reduced else whole
            with _PIXELS.hold(size):
                image.load()
                return _square(image, extent, short_side, crop, interpolation)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise explained(path, error) from error


def _shrink(image: ImageFile.ImageFile, short_side: int) -> tuple[float, float]:
    """Ask a JPEG for no more pixels than are needed; returns the width and height that those it gives stand for."""
    wanted = math.ceil(short_side * _DRAFT_GAP)
    drafted = image.draft(None, (wanted, wanted)) if image.format in {"JPEG", "MPO"} else None
    if drafted is None:
        return float(image.width), float(image.height)
    return drafted[1][2], drafted[1][3]


def _square(
    image: ImageFile.ImageFile, extent: tuple[float, float], short_side: int, crop: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Cut, resize and turn: (crop, crop, 3) uint8."""
    from PIL import Image

    orientation = _orientation(image)
    width, height = (image.width, image.height) if image.format == "TIFF" else extent  # a TIFF turns as it loads
    box = _box(width, height, short_side, crop, orientation)
    filtering = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    native = _resizable(image)
    small = native.resize((crop, crop), filtering, box=box)
    if small.mode in {"I", "F"}:
        small = _grey(small, native, sixteen=image.mode.startswith("I;16"))
    if small.mode == "RGBA":
        white = Image.new("RGBA", small.size, "white")
        white.alpha_composite(small)
        small = white
    if orientation > 1:
        small = small.transpose(Image.Transpose[_TURNS[orientation]])
    return np.asarray(small.convert("RGB"))


def _box(
    width: float, height: float, short_side: int, crop: int, orientation: int
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, in the stored picture, of the square that "resize, then cut the centre" would give.

    The resized size and the corner are rounded as torchvision does, so that vectors agree with those of a plain loop.
    """
    w, h = (height, width) if orientation >= 5 else (width, height)
    long = int(short_side * max(w, h) / min(w, h))
    resized = (short_side, long) if w <= h else (long, short_side)
    (left, right), (top, bottom) = (
        (start * size / new, (start + crop) * size / new)
        for size, new in zip((w, h), resized, strict=True)
        for start in [round((new - crop) / 2)]
    )
    if orientation in {2, 3, 6, 7}:
        left, right = w - right, w - left
    if orientation in {3, 4, 7, 8}:
        top, bottom = h - bottom, h - top
    box = (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)


def _resizable(image: Image.Image) -> Image.Image:
    """The picture in a mode whose values can be averaged: L, RGB, RGBA, I (32-bit) or F."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in {"I", "F"}:
        return image
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode in {"L", "RGB"} else image.convert("RGB")


def _grey(small: Image.Image, native: Image.Image, *, sixteen: bool) -> Image.Image:
    """Map deep grey to bytes: 0..1 (float) or 0..65535 as they are, any other range from its darkest to its brightest."""
    from PIL import Image

    low, high = (0.0, 65535.0) if sixteen else _range(native)
    values = np.asarray(small, np.float64)
    if not (np.isfinite(values).all() and np.isfinite([low, high]).all()):
        raise ValueError("it holds NaN or infinity")
    scaled = (values - low) * (255.0 / max(high - low, 1e-30))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _range(native: Image.Image) -> tuple[float, float]:
    low, high = (float(value) for value in native.getextrema())  # type: ignore[arg-type]
    if native.mode == "F" and low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and high <= 65535:
        return 0.0, 255.0 if native.mode == "F" and high <= 255 else 65535.0
    return low, high


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
        return found if found in _TURNS else 1
    except MemoryError:
        raise
    except Exception:  # damaged metadata says nothing about the pixels
        return 1
