"""A part's seal: digests that tell damage of its footer and its small columns before any of it is taken apart.

The checksums of Parquet's pages cover neither the headers of pages nor the footer; where a bit of these is flipped,
pyarrow may give other rows, or end the process. The seal is the last entry of the footer's key-value metadata: NAME,
then 16 hex digits (XXH3, 64 bits) of the footer with zeros in the seal's place, then as many of the bytes of each
column but the vector, in the file's order. A file without one was written by another tool.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import xxhash

from storage import thrift
from storage.thrift import BINARY, STRUCT

NAME = b"polyvec.seal"
DIGITS = 16
TAIL = 1 << 16  # bytes at the end of a file, in which the seal lies if there is one
MAGIC = b"PAR1"
METADATA = 5  # FileMetaData.key_value_metadata (parquet.thrift)

Bytes = bytes | memoryview


class BrokenSealError(ValueError):
    """A footer is not what was sealed."""

    def __init__(self) -> None:
        super().__init__("its footer is not what was written")


def digest(data: Bytes) -> bytes:
    """Of a footer or a column's bytes."""
    return xxhash.xxh3_64_hexdigest(data).encode()


def seal(footer: list[thrift.Field], columns: Sequence[Bytes]) -> bytes:
    """The bytes of a footer (FileMetaData with metadata) with a seal added. columns : the bytes of each small column."""
    kind, entries = thrift.get(footer, METADATA)
    blank = [(1, BINARY, NAME), (2, BINARY, b"0" * DIGITS * (1 + len(columns)))]
    out = bytearray(thrift.struct(thrift.put(footer, {METADATA: (kind or STRUCT, [*entries, blank])})))
    place = _place(out)
    out[place] = b"".join(map(digest, (bytes(out), *columns)))
    return bytes(out)


def footer_length(tail: Bytes) -> int:
    """Bytes of the footer of a file that ends with `tail`, as the file says; 0 where it says nothing."""
    if len(tail) < 12 or tail[-4:] != MAGIC:
        return 0
    (length,) = struct.unpack("<I", tail[-8:-4])
    return int(length)


def open_seal(tail: bytes) -> list[bytes] | None:
    """The digests of the small columns, from the end of a file with its whole footer; None where there is no seal.

    Raises
    ------
    BrokenSealError : there is one, and the footer is not what was sealed.
    """
    if NAME not in tail:
        return None
    length = footer_length(tail)
    footer = bytearray(tail[-8 - length : -8])
    try:
        place = _place(footer)
    except (IndexError, ValueError) as error:
        raise BrokenSealError from error
    found = bytes(footer[place])
    footer[place] = b"0" * len(found)
    digests = [found[at : at + DIGITS] for at in range(0, len(found), DIGITS)]
    if not digests or digests[0] != digest(bytes(footer)):
        raise BrokenSealError
    return digests[1:]


def _place(footer: bytearray) -> slice:
    """Where the digests stand."""
    at = footer.rfind(NAME)
    reader = thrift.Reader(bytes(footer), at + len(NAME))
    if at < 0 or reader.take(1)[0] != 1 << 4 | BINARY:  # the next field, a binary
        raise BrokenSealError
    size = reader.varint()
    return slice(reader.place, reader.place + size)
