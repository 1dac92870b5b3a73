"""Files of tables, as Arrow columns: text with a header, or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as pacsv

from embedders.data import Rejected
from embedders.errors import InputError
from storage.inputs.graph_spec import suffix
from storage.inputs.graph_text import UNREADABLE, arrow_stream, opened, unpacked, unreadable

BLOCKS = (1 << 20, 1 << 28)
"""Bytes that Arrow looks at together, and where a row is longer."""
LONGEST = 1 << 30
"""Characters of a field; Python's own limit is less than what Arrow reads."""
END = "\x1eend\x1e"
"""Each field of a row that is put after the last one, to see that no open quote takes it in."""


@dataclass(frozen=True, eq=False)
class Part:
    """One file.

    Parameters
    ----------
    name : what the file is called in ids.
    table : the columns asked for; of a text file all of them strings.
    numbers : (rows,) int64, which row of the file each is, from 1, the header not counted.
    place : where a row of `table` stands, for people; rows count from 0.
    rejected : rows that have too few or too many fields.
    """

    name: str
    table: pa.Table
    numbers: NDArray[np.int64]
    place: Callable[[int], str]
    text: bool
    rejected: tuple[Rejected, ...] = ()


def read_part(name: str, path: Path, wanted: Sequence[str]) -> Part:
    """The columns `wanted` of a file.

    Raises
    ------
    InputError : it cannot be read, or has not each of them once.
    """
    return _parquet(name, path, wanted) if suffix(path) == ".parquet" else _text(name, path, wanted)


def _parquet(name: str, path: Path, wanted: Sequence[str]) -> Part:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, wanted, file.schema_arrow.names)
            table = file.read(columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({str(error).splitlines()[0]}); expected a whole Parquet file."
        ) from error
    return Part(name, table, np.arange(1, len(table) + 1), lambda row: f"row {row + 1} of {str(path)!r}", False)


def _text(name: str, path: Path, wanted: Sequence[str]) -> Part:
    _, header = next(_records(path), (0, []))
    _check_columns(path, wanted, header)
    end = _separator(path).join([END] * len(header)) if _quoted(path) else ""
    try:
        table, broken = _columns(path, wanted, end, BLOCKS[0])
    except (pa.ArrowException, *UNREADABLE) as error:
        raise unreadable(path, error) from error
    if end:
        if not len(table) or table[wanted[0]][-1].as_py() != END:
            raise _open_quote(path)
        table = table.slice(0, len(table) - 1)
    good = np.arange(1, len(table) + 1)
    rejected: list[Rejected] = []
    if broken:
        good, rejected = _broken(name, path, len(header))
    if len(good) != len(table):
        raise InputError(f"Got {str(path)!r}, whose quotes do not match; expected a quoted field to end. Mend it.")

    def place(row: int) -> str:
        line, _ = next(islice(_records(path), int(good[row]), None))
        return f"line {line} of {str(path)!r}"

    return Part(name, table, good, place, True, tuple(rejected))


def _columns(path: Path, wanted: Sequence[str], end: str, block: int) -> tuple[pa.Table, bool]:
    """The columns as strings, and whether rows were left out that have too few or too many fields. end : a last line."""
    broken = False

    def skip(row: pacsv.InvalidRow) -> str:
        nonlocal broken
        broken = True
        return "skip"

    options = pacsv.ParseOptions(delimiter=_separator(path), newlines_in_values=True, invalid_row_handler=skip)
    types = pacsv.ConvertOptions(
        column_types=dict.fromkeys(wanted, pa.string()), include_columns=list(wanted), null_values=[],
        strings_can_be_null=False,
    )  # fmt: skip
    try:
        with arrow_stream(path) as file:
            table = pacsv.read_csv(
                _Ended(file, f"\n{end}\n".encode()) if end else file,
                pacsv.ReadOptions(block_size=block), options, types,
            )  # fmt: skip
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error) or block == BLOCKS[-1]:
            raise
        return _columns(path, wanted, end, BLOCKS[-1])
    return table, broken


class _Ended(RawIOBase):
    """A stream of bytes with some more after its end."""

    def __init__(self, file: Any, end: bytes) -> None:
        self._file, self._end = file, end

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._file.read(size)
        if not found:
            found, self._end = self._end, b""  # a few bytes more than asked for do no harm
        return found


def _broken(name: str, path: Path, width: int) -> tuple[NDArray[np.int64], list[Rejected]]:
    """The numbers of the rows that are whole, and the others."""
    good, rejected = [], []
    for number, (line, fields) in enumerate(islice(_records(path), 1, None), start=1):
        if len(fields) == width:
            good.append(number)
            continue
        message = f"got {len(fields)} fields; expected {width} as in the header"
        rejected.append(Rejected(f"{name}:{number}", f"{path}:{line}", "wrong_fields", message))
    return np.array(good, np.int64), rejected


def _quoted(path: Path) -> bool:
    """Whether there is a quote in a file."""
    try:
        with unpacked(path) as file:
            return any(b'"' in block for block in iter(lambda: file.read(1 << 20), b""))
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def _open_quote(path: Path) -> InputError:
    """What to say of a file with a quote that is never closed: all that follows it would be one value."""
    start, where = 0, f"{str(path)!r}"
    with opened(path, newline="") as file:
        csv.field_size_limit(LONGEST)
        reader = csv.reader(file, delimiter=_separator(path), strict=True)
        try:
            for _ in reader:
                start = reader.line_num
        except csv.Error as error:
            if "end of data" in str(error):
                where = f"the row that begins on line {start + 1} of {str(path)!r}"
    return InputError(f"Got a quote in {where}, which is never closed; expected one more. Mend the line.")


def _separator(path: Path) -> str:
    return "," if suffix(path) == ".csv" else "\t"


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The last line and the fields of each row, empty lines left out; the header first."""
    try:
        with opened(path, newline="") as file:
            csv.field_size_limit(LONGEST)
            reader = csv.reader(file, delimiter=_separator(path))
            yield from ((reader.line_num, fields) for fields in reader if fields)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    except csv.Error as error:
        raise InputError(f"Got {str(path)!r}, which cannot be cut into fields ({error}). Mend it.") from error


def _check_columns(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    for name in wanted:
        if names.count(name) != 1:
            problem = "is there more than once" if name in names else "is not there"
            raise InputError(
                f"Got the column {name!r}, which {problem} in {str(path)!r}; expected one of {', '.join(names) or 'none'}. Mend the dataset or the header."
            )
