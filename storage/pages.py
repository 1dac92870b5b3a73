"""Vectors straight from the pages of a sealed part into a matrix, without Arrow's arrays in between.

Only pages as `splice.pages` lays them out are read: FLOAT, PLAIN, not compressed, data pages V1, whole lists of one
length. All of it is checked: the header's fields, the levels, and the numbers by the page's checksum.

Sources: the Parquet format specification (apache/parquet-format): `parquet.thrift` (PageHeader, DataPageHeader).
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import numpy as np

from embedders.base import Matrix
from storage import thrift
from storage.splice import DATA_PAGE, PLAIN, RLE, checksum, levels

LEAF = ("vector", "list", "element")
HEAD = 256  # bytes; a page header without statistics takes about 30


def fill_from_pages(file: BinaryIO, place: int, end: int, out: Matrix) -> bool:
    """Read lists into `out`.

    Parameters
    ----------
    file : unbuffered.
    place, end : where the pages begin and end in it.
    out : (n, dim) float32, contiguous; its contents are undefined after a False.

    Returns
    -------
    Whether these are the pages of n lists of dim numbers, as they were written.
    """
    dim = out.shape[1]
    target = out.reshape(-1).view(np.uint8).data
    at = 0  # bytes of `out` that are filled
    while place < end:
        file.seek(place)
        header = page_header(file.read(HEAD))
        if header is None or header.values % dim or at + 4 * header.values > len(target):
            return False
        told, size = levels(header.values // dim, dim), 4 * header.values
        place += header.length + header.size
        if header.size != len(told) + size or place > end:
            return False
        file.seek(place - header.size)
        body = target[at : at + size]
        if file.read(len(told)) != told or file.readinto(body) != size:  # type: ignore[attr-defined]
            return False
        if header.crc != checksum(told, body):
            return False
        at += size
    return at == len(target)


class PageHeader(NamedTuple):
    """length: bytes of the header itself; size: of the page after it; values: numbers in it; crc: signed."""

    length: int
    size: int
    values: int
    crc: int


def page_header(data: bytes) -> PageHeader | None:
    """The header at the start of `data`; None when it is not of a plain data page V1 with a checksum."""
    reader = thrift.Reader(data)
    try:
        fields = reader.struct()
        page = thrift.get(fields, 5)
        values, *encodings = (thrift.get(page, number) for number in (1, 2, 3, 4))
        kind, whole, size, crc = (thrift.get(fields, number) for number in (1, 2, 3, 4))
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    if (kind, *encodings) != (DATA_PAGE, PLAIN, RLE, RLE) or whole != size:
        return None
    if not all(isinstance(number, int) for number in (size, values, crc)) or values <= 0:
        return None
    return PageHeader(reader.place, size, values, crc)
