"""One Parquet part: pyarrow writes the small columns and the footer, we put the vectors between them.

pyarrow spends most of its time on the levels of a list column, which are the same for every row when all lists are of
one length. Here the chunk of the vectors is laid out by hand, PLAIN pages of whole rows, straight from the matrix; then
the footer is told of it, and sealed. The result is an ordinary Parquet file.

Sources: apache/parquet-format: `parquet.thrift` (the field numbers below), `Encodings.md`, `README.md`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32  # five times zlib's rate

from embedders.base import Matrix
from storage import thrift
from storage.seal import MAGIC, seal
from storage.thrift import BINARY, I32, I64, LIST, STRUCT

PAGE = 1 << 20  # bytes of numbers in a page, about
DATA_PAGE, PLAIN, RLE, FLOAT, UNCOMPRESSED = 0, 0, 3, 4, 0  # parquet.thrift: PageType, Encoding, Type, CompressionCodec


def write_spliced(
    table: pa.Table, place: int, path: tuple[str, ...], matrix: Matrix, out: Callable[[Any], Any], **options: Any
) -> None:
    """Write a file of one row group.

    Parameters
    ----------
    table : all columns; of the one that is spliced only the type is looked at.
    place, path : which column that is, and its path in the Parquet schema, ("vector", "list", "element").
    matrix : (n, dim) float32 in C order, n and dim at least 1: the lists of that column.
    out : is called with the bytes, piece after piece.
    options : for `pyarrow.parquet.ParquetWriter`; `metadata` is the file's key-value metadata, of one entry at least.
    """
    metadata = options.pop("metadata")
    rest = _file(table.drop_columns([table.schema.names[place]]), metadata, options)
    end, footer = _footer(rest)
    schema = thrift.get(_footer(_file(table.schema.empty_table(), {}, options))[1], 2)
    out(rest[:end])  # the magic bytes and the other columns, whose offsets stay right
    size = 0
    for page in pages(matrix):
        out(page)
        size += len(page)
    n, dim = matrix.shape
    about: list[thrift.Field] = [
        (1, I32, FLOAT), (2, LIST, (I32, [PLAIN, RLE])), (3, LIST, (BINARY, [step.encode() for step in path])),
        (4, I32, UNCOMPRESSED), (5, I64, n * dim), (6, I64, size), (7, I64, size), (9, I64, end),
    ]  # fmt: skip
    kind, (group,) = thrift.get(footer, 4)
    inner, columns = thrift.get(group, 1)
    small = [rest[_chunk(thrift.get(column, 3))] for column in columns]
    columns = [*columns[:place], [(2, I64, 0), (3, STRUCT, about)], *columns[place:]]
    totals = {number: value + size for number, _, value in group if number in (2, 6)}
    group = thrift.put(group, {1: (inner, columns), **totals})
    orders = {number: (value[0], [value[1][0]] * len(columns)) for number, _, value in footer if number == 7}
    told = seal(thrift.put(footer, {2: schema, 4: (kind, [group]), **orders}), small)
    out(told + struct.pack("<I", len(told)) + MAGIC)


def _chunk(about: list[thrift.Field]) -> slice:
    """Where a column's pages lie, by its ColumnMetaData."""
    begin = min(value for number, _, value in about if number in (9, 11))  # data pages, dictionary
    return slice(begin, begin + thrift.get(about, 7))


def pages(matrix: Matrix) -> Iterator[bytes | memoryview]:
    """The data pages (V1, PLAIN, with checksum) of lists of one length, each as its header with levels, then its numbers."""
    n, dim = matrix.shape
    numbers = np.ascontiguousarray(matrix).data.cast("B")
    many = max(1, PAGE // (4 * dim))
    for first in range(0, n, many):
        rows = min(many, n - first)
        told = levels(rows, dim)
        size = len(told) + 4 * rows * dim
        body = numbers[4 * dim * first : 4 * dim * (first + rows)]
        data_page = [(1, I32, rows * dim), (2, I32, PLAIN), (3, I32, RLE), (4, I32, RLE)]
        header = [
            (1, I32, DATA_PAGE),
            (2, I32, size),
            (3, I32, size),
            (4, I32, checksum(told, body)),
            (5, STRUCT, data_page),
        ]
        yield thrift.struct(header) + told
        yield body


@lru_cache(maxsize=4)
def levels(rows: int, dim: int) -> bytes:
    """The levels of whole lists of `dim` numbers, in runs: repetition 0, 1, 1, ... for each list; definition all 1."""
    row = b"\x02\x00" + (thrift.varint((dim - 1) << 1) + b"\x01" if dim > 1 else b"")
    parts = row * rows, thrift.varint(rows * dim << 1) + b"\x01"
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def checksum(*pieces: bytes | memoryview) -> int:
    """CRC-32 of a page as its header holds it: as a signed number (parquet.thrift: PageHeader.crc)."""
    value = 0
    for piece in pieces:
        value = crc32(piece, value)
    return value - (1 << 32) if value >> 31 else value


def _file(table: pa.Table, metadata: dict[str, str], options: dict[str, Any]) -> memoryview:
    """A Parquet file of one row group, in memory."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata(metadata)
    return sink.getbuffer()


def _footer(file: memoryview) -> tuple[int, list[thrift.Field]]:
    """Where a file's footer begins, and the footer (FileMetaData)."""
    (length,) = struct.unpack("<I", file[-8:-4])
    begin = len(file) - 8 - length
    return begin, thrift.Reader(file, begin).struct()
