"""Where in its container the bytes of a picture are, and reading them: a stretch of the file, unpacked, and a part of that.

Nothing is held open and nothing else is read, so that many threads read at once and a container may be larger than
memory. Of Parquet, the stretch is a page of many pictures: those used last are kept, up to a bound.
"""

from __future__ import annotations

import io
import os
import threading
import zlib
from typing import NamedTuple

import pyarrow as pa

from embedders.errors import InputError
from embedders.image.opening import Code, DecodeError, check_bytes
from storage.digests import File, unreadable

STORED, DEFLATE = "", "deflate"
PAGES = 256_000_000
"""Bytes of unpacked pages that are kept; one page is kept however large it is."""
_pages: dict[tuple[File, int], bytes] = {}
_pages_lock = threading.Lock()


class Place(NamedTuple):
    """Where the bytes of a member are.

    offset, size : the stretch of the container, in bytes. codec : how it is packed: STORED, DEFLATE, or as Arrow calls
    it. unpacked : its size then. start, length : the member's part of that.
    """

    offset: int
    size: int
    codec: str
    unpacked: int
    start: int
    length: int

    @classmethod
    def stored(cls, offset: int, size: int) -> Place:
        """Bytes that lie in the container as they are."""
        return cls(offset, size, STORED, size, 0, size)


class Entry(NamedTuple):
    """A picture that a container lists.

    Parameters
    ----------
    name : its path in an archive, its row (from 1) in a table.
    place : None where there is nothing to read; then `code` and `message` say why.
    crc : CRC-32 of its bytes, where the container knows it. digest : SHA-256 (hex), where it is known already.
    """

    name: str
    place: Place | None
    code: Code | None = None
    message: str = ""
    crc: int | None = None
    digest: str = ""


def read(container: File, place: Place, name: str) -> bytes:
    """The bytes of a member. name: what messages call it.

    Raises
    ------
    DecodeError : it is too large, or its bytes cannot be unpacked.
    InputError : the container is not as it was found, or cannot be read.
    """
    check_bytes(name, max(place.size, place.unpacked) if place.codec else place.length)
    with open_same(container) as file:
        if place.codec == STORED:
            return stretch(file, place.offset + place.start, place.length, name)
        if place.codec == DEFLATE:
            return _inflate(stretch(file, place.offset, place.size, name), place.unpacked, name)
        with _pages_lock:  # one unpacks a page, the others wait for it: neighbours are read together
            page = _pages.pop((container, place.offset), None)
            if page is None:
                page = unpack(stretch(file, place.offset, place.size, name), place.codec, place.unpacked, name)
            _pages[container, place.offset] = page
            while len(_pages) > 1 and sum(map(len, _pages.values())) > PAGES:
                del _pages[next(iter(_pages))]
        return page[place.start : place.start + place.length]


def open_same(container: File) -> io.FileIO:
    """Open a container that is as it was found.

    Raises
    ------
    InputError : it is not, or it cannot be read.
    """
    try:
        file = io.FileIO(container.path)
    except OSError as error:
        raise unreadable(container.path, error) from error
    found = os.fstat(file.fileno())
    if (found.st_size, found.st_mtime_ns) != container[1:]:
        file.close()
        raise InputError(
            f"Got {container.path!r}, which changed while it was read; expected a file that stays as it is. Run again when it is written."
        )
    return file


def stretch(file: io.FileIO, offset: int, size: int, name: str) -> bytes:
    """`size` bytes of a file from `offset` on; DecodeError when it ends before."""
    file.seek(offset)
    pieces = []
    while size > 0 and (piece := file.read(size)):  # the system gives at most 2 GiB at once
        pieces.append(piece)
        size -= len(piece)
    if size:
        raise DecodeError("broken_member", f"Got {name!r}, which ends {size:,} bytes too early. Copy it again.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def unpack(packed: bytes, codec: str, size: int, name: str) -> bytes:
    """The bytes of a page; DecodeError when they are damaged."""
    try:
        return bytes(packed) if codec == STORED else pa.Codec(codec).decompress(packed, size, asbytes=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DecodeError(
            "broken_member", f"Got {name!r}, which cannot be unpacked ({error}). Copy it again."
        ) from error


def _inflate(packed: bytes, size: int, name: str) -> bytes:
    """Never more than the `size` that was announced: what goes on is a bomb or damaged."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise DecodeError(
            "broken_member", f"Got {name!r}, which cannot be unpacked ({error}). Copy it again."
        ) from error
    if len(content) != size:
        raise DecodeError(
            "broken_member", f"Got {name!r}, which does not unpack to the {size:,} bytes announced. Copy it again."
        )
    return content
