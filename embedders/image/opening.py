"""Opening what may be a picture: its bytes, its format, its size, or a reason code; hostile bytes never stop the run.

Formats are an allow-list: Pillow's other readers are rarely tested, and one of them (EPS) starts Ghostscript.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from embedders.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from PIL import ImageFile

Code = Literal[
    "missing_file",
    "empty_file",
    "not_an_image",
    "broken_image",
    "too_many_pixels",
    "too_many_bytes",
    "broken_member",
    "encrypted_member",
]
"""Why a picture cannot be used: stable words of the quarantine. A member is a picture in a container (zip, tar, Parquet)."""

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

BYTE_LIMIT = 1 << 30
"""Most bytes of a picture as it is stored: more than 200 million pixels take in any usual format."""
SCANNED_PIXELS = 100 * 200_000_000
"""Most pixels times passes over them in a JPEG of several scans; a file of 1 MB can ask for days of passes over nothing."""
_SCAN, _FRAMES, _BARE = 0xDA, {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, {0x00, 0x01, *range(0xD0, 0xDA)}
"""Markers of a JPEG (ITU-T T.81, table B.1): of a scan, of frames, and those without a length."""
_TILE_WIDTH, _TILE_LENGTH = 322, 323

_NOT_THERE = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO)


class DecodeError(InputError):
    """A picture that cannot be used. code: a short stable reason for the quarantine."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code

    def __reduce__(self) -> tuple[type[DecodeError], tuple[Code, str]]:
        return type(self), (self.code, str(self))


class Source(Protocol):
    """Where a picture's bytes are: a path, or a member of a container. Its `str` says so for people."""

    def read_bytes(self) -> bytes: ...


def read(source: Source) -> bytes:
    """A picture's bytes as they are stored.

    Raises
    ------
    DecodeError : with code "missing_file", "too_many_bytes", "broken_image"; of a member any code.
    """
    if not isinstance(source, Path):
        return source.read_bytes()
    try:
        with open(source, "rb", opener=_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DecodeError("missing_file", f"Got {str(source)!r}, which is no regular file. Check the path.")
            check_bytes(str(source), found.st_size)
            return file.read()
    except OSError as error:
        raise explained(source, error) from error


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe would wait for someone to write into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_bytes(name: str, size: int) -> None:
    """Refuse a picture of more than BYTE_LIMIT bytes before they are read."""
    if size > BYTE_LIMIT:
        raise DecodeError(
            "too_many_bytes", f"Got {name!r} of {size:,} bytes; at most {BYTE_LIMIT:,} are read. Make a smaller copy."
        )


def explained(source: object, error: Exception) -> DecodeError:
    """The reason code for what went wrong; Pillow raises nearly anything on hostile bytes."""
    if isinstance(error, OSError) and error.errno in _NOT_THERE:
        return DecodeError(
            "missing_file",
            f"Got {str(source)!r}, which cannot be opened ({error.strerror}). Check the path and rights.",
        )
    if type(error).__name__ in {"DecompressionBombError", "DecompressionBombWarning"}:
        return DecodeError("too_many_pixels", f"Got {str(source)!r}: {error} Make a smaller copy.")
    return DecodeError(
        "broken_image",
        f"Got {str(source)!r}, which cannot be decoded ({type(error).__name__}: {error}). Replace the file; it may be cut short.",
    )


def open_picture(name: str, content: bytes, pixel_limit: int) -> ImageFile.ImageFile:
    """Read the header: the format is told from the content, whatever the file is called.

    `Image.open` is not used because it warns by a process-wide limit instead of ours.

    Raises
    ------
    DecodeError : with code "empty_file", "not_an_image", "broken_image" or "too_many_pixels".
    """
    if not content:
        raise DecodeError("empty_file", f"Got {name!r}, which is empty. Copy the file again.")
    openers = _openers()
    for kind, (factory, accept) in openers.items():
        if accept(content[:16]) is not True:  # a text instead of True tells which codec is missing
            continue
        try:
            image: ImageFile.ImageFile = factory(io.BytesIO(content), name)
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            raise DecodeError(
                "broken_image",
                f"Got {name!r}, which begins like {kind} and cannot be read ({error}). Replace the file.",
            ) from error
        _check_size(name, image, content, pixel_limit)
        image.decodermaxblock = len(content)  # in one go: a JPEG decoder begins a row anew where a piece of data ends
        return image
    raise DecodeError(
        "not_an_image", f"Got {name!r}, which is no picture; expected one of: {', '.join(openers)}. Convert it."
    )


def _check_size(name: str, image: ImageFile.ImageFile, content: bytes, limit: int) -> None:
    from PIL import Image

    size, ours = pixels_held(image), limit
    if image.format == "TIFF" and Image.MAX_IMAGE_PIXELS is not None:  # Pillow checks this one again when it loads
        limit = min(limit, 2 * Image.MAX_IMAGE_PIXELS)
    if size > limit:
        tiles = "" if size == image.width * image.height else f" in tiles of {size:,}"
        raise DecodeError(
            "too_many_pixels",
            f"Got {name!r} of {image.width} x {image.height} pixels{tiles}; at most {limit:,} pixels are decoded{' of a TIFF' if limit < ours else ''}. "
            f"Make a smaller copy{'' if limit < ours else ', or raise pixel_limit'}.",
        )
    if image.width < 1 or image.height < 1:
        raise DecodeError("broken_image", f"Got {name!r} of {image.width} x {image.height} pixels. Replace it.")
    if in_passes(image, content) and size * (scans := content.count(b"\xff\xda")) > SCANNED_PIXELS:
        raise DecodeError(
            "broken_image",
            f"Got {name!r}, which draws {image.width} x {image.height} pixels {scans:,} times over; expected about ten. Replace it.",
        )


def pixels_held(image: ImageFile.ImageFile) -> int:
    """Pixels that decoding holds: those of a TIFF's tile, where a tile is larger than the picture that is cut from it."""
    tags = getattr(image, "tag_v2", {})
    tile = [tags.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    sizes = [side for side in tile if isinstance(side, int)]
    return max(image.width * image.height, sizes[0] * sizes[1] if len(sizes) == 2 else 0)


def in_passes(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether the coefficients of all of a JPEG's pixels are held, since each scan of it adds to them.

    So a progressive one is decoded, and any whose first scan has not all its components (libjpeg, jdinput.c).
    """
    if image.format not in {"JPEG", "MPO"}:
        return False
    if image.info.get("progressive"):
        return True
    at, components = 2, 0
    while 0 <= (at := content.find(b"\xff", at)) < len(content) - 9:
        mark, size = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if mark == _SCAN:
            return content[at + 4] < components
        if mark in _FRAMES:
            components = content[at + 9]
        at += 1 if mark == 0xFF else 2 if mark in _BARE else 2 + size
    return True


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


def quiet() -> None:
    """Silence Pillow's remarks about damaged metadata, and about a limit of pixels that is not ours.

    Once a process: a decoding thread must not touch the filters.
    """
    global _FILTER
    if _FILTER is None or _FILTER not in warnings.filters:
        modules = r"PIL\.(Image|(Jpeg|Mpo|Png|Tiff)ImagePlugin)$"
        warnings.filterwarnings("ignore", category=Warning, module=modules)
        _FILTER = warnings.filters[0]


_FILTER: Any = None
