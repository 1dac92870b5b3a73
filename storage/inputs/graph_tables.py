"""Tables of rows: text with a header, JSON lines or Parquet, as Arrow, with the places of their rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as pacsv

from embedders.errors import InputError
from storage.inputs.graph_files import mixed
from storage.inputs.graph_spec import suffix
from storage.inputs.graph_text import UNREADABLE, arrow_stream, opened, unreadable

Read = tuple[pa.Table, Callable[[int], str]]

"""A table, and where each of its rows stands, for people; rows count from 0."""


def read_table(path: Path, wanted: Sequence[str], numeric: set[str]) -> Read:
    """The columns `wanted` of a table; those of `numeric` as numbers where the file is text.

    Raises
    ------
    InputError : it cannot be read, or lacks a column.
    """
    reader = {".parquet": _parquet, ".jsonl": _json_lines, ".csv": _text, ".tsv": _text}.get(suffix(path))
    if reader is None:
        raise InputError(f"Got the node table {str(path)!r}; expected a .csv, .tsv, .jsonl or .parquet file.")
    return reader(path, wanted, numeric)


def _parquet(path: Path, wanted: Sequence[str], numeric: set[str]) -> Read:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, wanted, file.schema_arrow.names)
            table = file.read(columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({str(error).splitlines()[0]}); expected a whole Parquet file."
        ) from error
    return table, lambda row: f"row {row + 1} of {str(path)!r}"


def _json_lines(path: Path, wanted: Sequence[str], numeric: set[str]) -> Read:
    lines: list[int] = []

    def place(row: int) -> str:
        return f"line {lines[row]} of {str(path)!r}"

    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    try:
        with opened(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or not set(wanted) <= set(row):
                    lack = sorted(set(wanted) - set(row)) if isinstance(row, dict) else ["an object"]
                    raise InputError(
                        f"Got line {number} of {str(path)!r} without {', '.join(lack)}; expected it on each line. Mend `nodes`, or the line."
                    )
                lines.append(number)
                for name, values in columns.items():
                    values.append(row[name])
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            f"Got line {number} of {str(path)!r}, which is no JSON ({error}); expected an object."
        ) from error
    if not lines:
        raise InputError(f"Got {str(path)!r} without a node; expected one on each line.")
    return pa.table({name: mixed(values, place) for name, values in columns.items()}), place


def _text(path: Path, wanted: Sequence[str], numeric: set[str]) -> Read:
    """Text with a header, through Arrow; where it refuses, its lines are looked at one by one to say which is wrong."""
    separator = "," if suffix(path) == ".csv" else "\t"

    def place(row: int) -> str:
        return f"line {next(islice(_lines(path, separator), row + 1, None))[0]} of {str(path)!r}"

    try:
        with arrow_stream(path) as file:
            table = pacsv.read_csv(
                file,
                parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    column_types={name: pa.float64() if name in numeric else pa.string() for name in wanted},
                    include_columns=list(wanted), null_values=[""], strings_can_be_null=False, quoted_strings_can_be_null=False,
                ),
            )  # fmt: skip
        _check_columns(path, wanted, next(_lines(path, separator), (0, []))[1])  # Arrow takes one of two alike
    except (pa.ArrowException, *UNREADABLE) as error:
        _explain(path, separator, wanted, numeric)
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({str(error).splitlines()[0]}); expected a table with a header."
        ) from error
    return table, place


def _lines(path: Path, separator: str) -> Any:
    """The last line and the fields of each row, empty ones left out; the header first."""
    try:
        with opened(path, newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            yield from ((reader.line_num, fields) for fields in reader if fields)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    except csv.Error as error:
        raise InputError(f"Got {str(path)!r}, which cannot be cut into fields ({error}). Mend it.") from error


def _explain(path: Path, separator: str, wanted: Sequence[str], numeric: set[str]) -> None:
    """Raise for the first line that is wrong."""
    rows = _lines(path, separator)
    header: list[str] = next(rows, (0, []))[1]
    _check_columns(path, wanted, header)
    for number, fields in rows:
        if len(fields) != len(header):
            raise InputError(
                f"Got {len(fields)} field(s) on line {number} of {str(path)!r}; expected {len(header)} as in the header. Mend the line."
            )
        for name in numeric:
            value = fields[header.index(name)]
            try:
                float(value)
            except ValueError:
                raise InputError(
                    f"Got {value!r} in {name!r} on line {number} of {str(path)!r}; expected a number. Mend the line."
                ) from None


def _check_columns(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    for name in wanted:
        if names.count(name) != 1:
            problem = "is there more than once" if name in names else "is not there"
            raise InputError(
                f"Got the column {name!r}, which {problem} in {str(path)!r}; expected one of {', '.join(names) or 'none'}. Mend `nodes`."
            )
