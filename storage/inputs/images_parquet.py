"""Where the cells of a Parquet column of bytes lie, so that one can be read without the row group around it.

Arrow reads whole row groups, which may be larger than memory, so pages are found here: their headers are walked, and
within a page values stand one after the other, so that lengths tell where each begins. Arrow tells the lengths and
nulls, and the bytes that what is found here is compared with. Source: apache/parquet-format, Encodings.md and
parquet.thrift.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedders.errors import InputError
from embedders.image.opening import BYTE_LIMIT, DecodeError
from storage import thrift
from storage.digests import File
from storage.inputs.images_place import STORED, Entry, Place, open_same, read, stretch, unpack

DATA, DICTIONARY, DATA_V2 = 0, 2, 3
PLAIN, DELTA_LENGTHS, DICTIONARIES = 0, 6, (2, 8)
_HEADERS = (1 << 13, 1 << 17, 1 << 24)
"""Bytes tried for a page's header, which may hold statistics."""
_ROWS = 16
_CODECS = {"UNCOMPRESSED": STORED, "LZ4": "lz4_raw"}
"""Names in Parquet's metadata that Arrow's codecs do not have."""
_LENGTH = struct.Struct("<I")
_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_integer,
    pa.types.is_boolean,
)

Dictionary = dict[str, Place]


class Page(NamedTuple):
    """place : of its values, without their levels. values : with nulls."""

    encoding: int
    values: int
    place: Place


class Cell(NamedTuple):
    """length : of its bytes; -1 for null."""

    length: int
    digest: str


def find_column(container: File, name: str | None) -> tuple[pq.ParquetFile, int]:
    """Open a file and find the column of pictures among its leaves; with no name, the only one that holds bytes.

    Raises
    ------
    InputError : it is no Parquet file, or there is no such column.
    """
    try:
        with open_same(container):
            file = pq.ParquetFile(container.path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise _broken(container, error) from error
    leaves = {}
    for i in range(len(file.schema)):
        leaf = file.schema.column(i)
        plain = (
            leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE" and leaf.max_repetition_level == 0
        )
        if plain and leaf.path.count(".") <= leaf.path.endswith(".bytes"):
            leaves[leaf.path.removesuffix(".bytes") if "." in leaf.path else leaf.path] = i
    if name is None and len(leaves) == 1:
        return file, next(iter(leaves.values()))
    if name is None or name not in leaves:
        names = file.schema_arrow.names
        file.close()
        raise InputError(
            f"Got {'no column' if name is None else f'the column {name!r}'} of pictures in {container.path!r}; expected one of bytes, or of {{bytes, path}}: "
            f"{', '.join(leaves) or 'there is none among ' + ', '.join(names)}. Set `columns: {{image: NAME}}`."
        )
    return file, leaves[name]


def list_cells(container: File, column: str | None, progress: Callable[[int, int], None]) -> list[Entry]:
    """The cells of the column of pictures, a row each; named by their rows from 1.

    Raises
    ------
    InputError : the file is damaged, or written in a way that cells cannot be told apart in.
    """
    file, leaf = find_column(container, column)
    entries: list[Entry] = []
    with file, open_same(container) as raw:
        try:
            for group in range(file.num_row_groups):
                cells = _cells(file, group, leaf)
                for page, dictionary in _pages(raw, file.metadata.row_group(group).column(leaf), container.path):
                    entries += _locate(container, page, dictionary, list(islice(cells, page.values)), len(entries))
                    progress(len(entries), file.metadata.num_rows)
                _check(container, next((entry for entry in reversed(entries) if entry.place), None))
            if len(entries) != file.metadata.num_rows:
                raise ValueError(f"{len(entries):,} rows instead of {file.metadata.num_rows:,}")
        except (pa.ArrowException, OSError, ValueError, LookupError, struct.error, DecodeError) as error:
            if isinstance(error, InputError) and not isinstance(error, DecodeError):
                raise
            raise _broken(container, error) from error
    return entries


def _cells(file: pq.ParquetFile, group: int, leaf: int) -> Iterator[Cell]:
    """Lengths and digests of a row group's cells, a few in memory at a time."""
    path = file.schema.column(leaf).path
    for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[path], use_threads=False):
        array = batch.column(0)
        if pa.types.is_struct(array.type):
            array = pc.struct_field(array, 0)
        for cell in array.dictionary_decode() if pa.types.is_dictionary(array.type) else array:
            content = cell.as_buffer()
            yield Cell(-1, "") if content is None else Cell(content.size, hashlib.sha256(content).hexdigest())


def _pages(raw: io.FileIO, chunk: pq.ColumnChunkMetaData, name: str) -> Iterator[tuple[Page, Dictionary]]:
    """The pages of values of a column within a row group, and where the values of its dictionary are, by digest."""
    at, left = chunk.data_page_offset, chunk.num_values
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        at = min(at, chunk.dictionary_page_offset)
    codec = _CODECS.get(chunk.compression, chunk.compression.lower())
    dictionary: Dictionary = {}
    while left > 0:
        head, at = _header(raw, at)
        kind, unpacked, size = (thrift.get(head, field) for field in (1, 2, 3))
        place = Place(at, size, codec, unpacked, 0, unpacked)
        at += size
        if kind == DICTIONARY:
            dictionary = _dictionary(unpack(stretch(raw, *place[:2], name), codec, unpacked, name), place)
        elif kind == DATA:
            inner = thrift.get(head, 5)
            page = Page(thrift.get(inner, 2), thrift.get(inner, 1), place)
        elif kind == DATA_V2:
            inner = thrift.get(head, 8)
            levels = thrift.get(inner, 5) + thrift.get(inner, 6)  # these lie before the values, as they are
            packed = all(value for field, _, value in inner if field == 7)
            rest = (size - levels, codec if packed else STORED, unpacked - levels, 0, unpacked - levels)
            page = Page(thrift.get(inner, 4), thrift.get(inner, 1), Place(place.offset + levels, *rest))
        if kind in (DATA, DATA_V2):
            left -= page.values
            yield page, dictionary


def _header(raw: io.FileIO, at: int) -> tuple[list[thrift.Field], int]:
    """A page's header, and where it ends."""
    for size in _HEADERS:
        raw.seek(at)
        reader = thrift.Reader(raw.read(size))
        try:
            return reader.struct(), at + reader.place
        except (ValueError, IndexError):
            continue
    raise ValueError(f"no page at byte {at:,}")


def _dictionary(page: bytes, place: Place) -> Dictionary:
    found, at = {}, 0
    while at < len(page):
        (length,) = _LENGTH.unpack_from(page, at)
        at += _LENGTH.size
        digest = hashlib.sha256(page[at : at + length]).hexdigest()
        found[digest] = place._replace(start=at, length=length)
        at += length
    return found


def _locate(container: File, page: Page, dictionary: Dictionary, cells: Sequence[Cell], first: int) -> list[Entry]:
    """The cells of a page. first: how many rows come before them."""
    lengths = [cell.length for cell in cells if cell.length >= 0]
    if len(cells) != page.values:
        raise ValueError(f"{len(cells):,} cells in a page of {page.values:,}")
    if page.encoding in DICTIONARIES:
        places = iter([dictionary[cell.digest] for cell in cells if cell.length >= 0])
    elif page.encoding in (PLAIN, DELTA_LENGTHS):
        before = _LENGTH.size if page.encoding == PLAIN else 0  # each after its length, or all after all lengths
        start = page.place.unpacked - sum(lengths) - before * len(lengths)
        ends = accumulate((before + length for length in lengths), initial=start)
        places = (page.place._replace(start=at + before, length=n) for at, n in zip(ends, lengths, strict=False))
    else:
        raise InputError(
            f"Got {container.path!r}, whose pictures are in Parquet's encoding {page.encoding}; expected plain, dictionary or delta lengths. Write it again with pyarrow."
        )
    found = [
        Entry(str(row), next(places), digest=cell.digest) if cell.length >= 0
        else Entry(str(row), None, "empty_file", f"Got row {row} of {container.path!r}, which is null. Fill it, or drop the row.")
        for row, cell in enumerate(cells, first + 1)
    ]  # fmt: skip
    return found


def _check(container: File, entry: Entry | None) -> None:
    """Arrow read the same bytes, or pages are not what is thought here."""
    if entry and entry.place and entry.place.length <= BYTE_LIMIT:
        content = read(container, entry.place, f"row {entry.name} of {container.path}")
        if hashlib.sha256(content).hexdigest() != entry.digest:
            raise ValueError(f"row {entry.name} does not lie where its page says")


# Other columns


def read_texts(container: File, column: str) -> list[str | None]:
    """A column of ids or labels as text; numbers that Hugging Face's metadata name become those names.

    Raises
    ------
    InputError : there is no such column, or it does not hold text or numbers.
    """
    try:
        with open_same(container), pq.ParquetFile(container.path) as file:
            if file.schema_arrow.names.count(column) != 1:
                raise InputError(
                    f"Got the column {column!r}, which is not there once in {container.path!r}; expected one of {', '.join(file.schema_arrow.names)}. Mend the name."
                )
            cells = file.read(columns=[column]).column(0)
            names = _class_names(file.schema_arrow.metadata, column)
    except (pa.ArrowException, OSError) as error:
        raise _broken(container, error) from error
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if not any(test(cells.type) for test in _TEXTS):
        raise InputError(
            f"Got the column {column!r} of {container.path!r}, which holds {cells.type}; expected text or whole numbers. Name another."
        )
    values = cells.to_pylist()
    if names and pa.types.is_integer(cells.type):
        values = [names[value] if value is not None and 0 <= value < len(names) else value for value in values]
    return [None if value is None else str(value) for value in values]


def _class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str]:
    """Names of the classes of a `ClassLabel` column of the package datasets."""
    try:
        found = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, ValueError, TypeError):
        return []
    return found if isinstance(found, list) and all(isinstance(name, str) for name in found) else []


def _broken(container: File, why: object) -> InputError:
    return InputError(
        f"Got {container.path!r}, which cannot be read ({str(why).splitlines()[0] if str(why) else type(why).__name__}); expected a whole Parquet file. Copy it again."
    )
