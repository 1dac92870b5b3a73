"""A picture file becomes a square of RGB bytes, or an error with a reason code; hostile bytes never stop the run.

The centre square is cut and resized in one step from the picture's own pixels, so that a strip of 1 x 5,000 pixels
needs no giant intermediate picture. Formats are an allow-list: Pillow's other readers are rarely tested, and one of
them (EPS) starts Ghostscript.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from PIL import Image, ImageFile

Interpolation = Literal["bilinear", "bicubic"]
Code = Literal["missing_file", "empty_file", "not_an_image", "broken_image", "too_many_pixels"]

FORMATS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "GIF": "GifImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "AVIF": "AvifImagePlugin",
}
"""Format name to the Pillow module that reads it; a module or codec that this Pillow lacks is left out."""

PIXEL_LIMIT = 200_000_000
_LARGE = 50_000_000
_ONE_LARGE = threading.Lock()
"""Pictures of more than `_LARGE` pixels are decoded one at a time, which bounds the memory of many threads."""
_DRAFT_GAP = 2
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


class DecodeError(InputError):
    """A picture that cannot be used. code: a short stable reason for the quarantine."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


def read(path: Path) -> bytes:
    """A file's bytes.

    Raises
    ------
    DecodeError : with code "missing_file" or "broken_image".
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _explained(path, error) from error


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
    DecodeError : with code "missing_file", "empty_file", "not_an_image", "broken_image" or "too_many_pixels".
    """
    if not short_side >= crop >= 1:
        raise InputError(f"Got short_side={short_side} and crop={crop}; expected short_side >= crop >= 1.")
    openers = _openers()
    _quiet()
    try:
        with Path(path).open("rb") if content is None else io.BytesIO(content) as file:
            image = _open(path, file, openers, pixel_limit)
            box = _shrink(image, short_side)
            with _ONE_LARGE if image.width * image.height > _LARGE else nullcontext():
                image.load()
                return _square(image, box, short_side, crop, interpolation)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        raise _explained(path, error) from error


def _explained(path: Path | str, error: Exception) -> DecodeError:
    """The reason code for what went wrong; Pillow raises nearly anything on hostile bytes."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | PermissionError):
        return DecodeError(
            "missing_file", f"Got {str(path)!r}, which cannot be opened ({error.strerror}). Check the path and rights."
        )
    if type(error).__name__ in {"DecompressionBombError", "DecompressionBombWarning"}:
        return DecodeError("too_many_pixels", f"Got {str(path)!r}: {error} Make a smaller copy.")
    return DecodeError(
        "broken_image",
        f"Got {str(path)!r}, which cannot be decoded ({type(error).__name__}: {error}). Replace the file; it may be cut short.",
    )


def _open(path: Path | str, file: IO[bytes], openers: dict[str, Any], pixel_limit: int) -> ImageFile.ImageFile:
    """Read the header. `Image.open` is not used because it warns by a process-wide limit instead of ours."""
    from PIL import Image

    prefix = file.read(16)
    if not prefix:
        raise DecodeError("empty_file", f"Got {str(path)!r}, which is empty. Copy the file again.")
    for name, (factory, accept) in openers.items():
        if accept(prefix) is not True:  # a text instead of True tells which codec is missing
            continue
        file.seek(0)
        try:
            image: ImageFile.ImageFile = factory(file, str(path))
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            raise DecodeError(
                "broken_image",
                f"Got {str(path)!r}, which begins like {name} and cannot be read ({error}). Replace the file.",
            ) from error
        limit = pixel_limit
        if name == "TIFF" and Image.MAX_IMAGE_PIXELS is not None:  # Pillow checks this one again when it loads
            limit = min(limit, Image.MAX_IMAGE_PIXELS)
        if image.width * image.height > limit:
            raise DecodeError(
                "too_many_pixels",
                f"Got {str(path)!r} of {image.width} x {image.height} pixels; at most {limit:,} pixels are decoded. Make a smaller copy, or raise pixel_limit.",
            )
        if image.width < 1 or image.height < 1:
            raise DecodeError(
                "broken_image", f"Got {str(path)!r} of {image.width} x {image.height} pixels. Replace it."
            )
        return image
    raise DecodeError(
        "not_an_image", f"Got {str(path)!r}, which is no picture; expected one of: {', '.join(openers)}. Convert it."
    )


def _shrink(image: ImageFile.ImageFile, short_side: int) -> tuple[float, float]:
    """Ask a JPEG for a size of at least twice the one needed; returns the width and height the pixels stand for."""
    wanted = short_side * _DRAFT_GAP
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


@cache
def _openers() -> dict[str, Any]:
    """Format name to (factory, accept), as Pillow's readers register them."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("pillow", "image", "Reading pictures") from None
    for module in FORMATS.values():
        try:
            import_module(f"PIL.{module}")
        except ImportError:
            continue
    return {name: Image.OPEN[name] for name in FORMATS if name in Image.OPEN}


def _quiet() -> None:
    """Silence Pillow's remarks about damaged metadata, once a process (a decoding thread must not touch the filters)."""
    global _FILTER
    if _FILTER is None or _FILTER not in warnings.filters:
        modules = r"PIL\.(Jpeg|Mpo|Png|Tiff)ImagePlugin$"
        warnings.filterwarnings("ignore", category=UserWarning, module=modules)
        _FILTER = warnings.filters[0]


_FILTER: Any = None
