"""Vectors straight from the pages of a Parquet file into a matrix, without Arrow's arrays in between.

Only a plain column is read so: FLOAT, PLAIN, not compressed, no dictionary, data pages V1, whole rows in a page, every
list of the same length. All of it is checked, the length of every list by the page's levels, the numbers by its
checksum; of anything else nothing is said, and pyarrow reads it or says what is wrong.

Sources: the Parquet format specification (apache/parquet-format): `parquet.thrift` (PageHeader, DataPageHeader),
`Encodings.md` (RLE / bit-packed hybrid, PLAIN), `README.md` (nested encoding, data pages).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedders.base import Matrix
from storage import thrift
from storage.splice import DATA_PAGE, PLAIN, RLE, checksum

LEAF = ("vector", "list", "element")
HEAD = 256  # bytes; a page header without statistics takes about 30


def fill_from_pages(file: BinaryIO, metadata: pq.FileMetaData, column: int, out: Matrix) -> bool:
    """Read a file's lists into `out`.

    Parameters
    ----------
    file : a Parquet file, unbuffered.
    column : the place of the vector among the file's leaf columns.
    out : (n, dim) float32, contiguous; its contents are undefined after a False.

    Returns
    -------
    Whether the column is plain and holds n lists of dim numbers; a False says nothing about the file.
    """
    n, dim = out.shape
    leaf = metadata.schema.column(column)
    plain = (leaf.path, leaf.physical_type, leaf.max_definition_level, leaf.max_repetition_level)
    if plain != (".".join(LEAF), "FLOAT", 1, 1) or not out.size or metadata.num_rows != n:
        return False
    target = out.reshape(-1).view(np.uint8).data
    at = begun = 0  # bytes of `out` that are filled; rows of the groups so far
    for number in range(metadata.num_row_groups):
        rows, chunk = metadata.row_group(number).num_rows, metadata.row_group(number).column(column)
        if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page or chunk.num_values != rows * dim:
            return False
        begun += rows
        place, last = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
        while place < last:
            file.seek(place)
            header = page_header(file.read(HEAD))
            if header is None:
                return False
            body = 4 * header.values
            end, rest = at + body, header.size - body
            if end > len(target) or not 0 < rest <= last - place - header.length - body:
                return False
            file.seek(place + header.length)
            levels = file.read(rest)
            if not equal_lists(levels, header.values, dim) or file.readinto(target[at:end]) != body:  # type: ignore[attr-defined]
                return False
            if header.crc is not None and header.crc != checksum(levels, target[at:end]):
                return False
            place, at = place + header.length + header.size, end
        if place != last or at != 4 * dim * begun:
            return False
    return at == len(target)


class PageHeader(NamedTuple):
    """length: bytes of the header itself; size: of the page after it; values: numbers in it; crc: signed, where given."""

    length: int
    size: int
    values: int
    crc: int | None


def page_header(data: bytes) -> PageHeader | None:
    """The header at the start of `data`; None when it is not of a plain data page V1."""
    reader = thrift.Reader(data)
    try:
        fields = reader.struct()
        page = thrift.get(fields, 5)
        values, *encodings = (thrift.get(page, number) for number in (1, 2, 3, 4))
        kind, whole, size = (thrift.get(fields, number) for number in (1, 2, 3))
        crc = next((value for number, _, value in fields if number == 4), None)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    if (kind, *encodings) != (DATA_PAGE, PLAIN, RLE, RLE) or whole != size or values <= 0:
        return None
    return PageHeader(reader.place, size, values, crc)


@lru_cache(maxsize=16)  # the pages of a matrix are alike, so that few are taken apart
def equal_lists(levels: bytes, values: int, dim: int) -> bool:
    """Whether a page's levels are those of whole lists of `dim` values: repetition levels 0, 1, 1, ...; definition all 1."""
    try:
        (length,) = struct.unpack_from("<I", levels)
        repetition = _bits(levels[4 : 4 + length], values)
        (more,) = struct.unpack_from("<I", levels, 4 + length)
        if 8 + length + more != len(levels):
            return False
        definition = _bits(levels[8 + length :], values)
    except (IndexError, ValueError, struct.error):
        return False
    inside = np.arange(values) % dim > 0
    return values % dim == 0 and bool((definition == 1).all()) and np.array_equal(repetition, inside)


def _bits(data: bytes, count: int) -> NDArray[np.uint8]:
    """(count,) levels of one bit, from the RLE / bit-packed hybrid; bits that pad the last group are dropped."""
    packed = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    out = np.empty(count, np.uint8)
    reader, held = thrift.Reader(data), 0
    while held < count:
        head = reader.varint()
        if head & 1:  # groups of eight levels
            size, step = min(head >> 1 << 3, count - held), head >> 1
            out[held : held + size] = packed[8 * reader.place : 8 * reader.place + size]
        else:  # a run of one level
            size, step = min(head >> 1, count - held), 1
            out[held : held + size] = data[reader.place]
        if not size:
            raise ValueError(head)
        reader.place, held = reader.place + step, held + size
    if reader.place != len(data):
        raise ValueError(reader.place)
    return out
