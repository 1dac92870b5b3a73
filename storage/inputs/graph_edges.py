"""Edge lists: text or Parquet, an edge a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv

from embedders.errors import InputError
from storage.inputs.graph_parts import encoded
from storage.inputs.graph_spec import suffix
from storage.inputs.graph_text import UNREADABLE, Look, arrow_stream, opened, simple_stream, unreadable

Wanted = Mapping[str, str | int]
"""Role (source and target, or user and item; weight, type, time) to column: a name in the header, or a number from 1
where there is none."""

_BLANKS = re.compile(r"[ \t]+")  # no other white space: an id may hold it
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_TYPES = {"weight": pa.float64()}
OTHERS = ("weight", "type", "time")
"""Roles that name nothing which an edge joins."""


def read_text(path: Path, wanted: Wanted) -> pa.Table:
    """Read .tsv (tabs), .csv (commas) or other text (the first edge's separator: tab, comma, or blanks; lines that start
    with # are comments), plain or .gz. A field may be quoted with ".

    Returns a table with the columns of `wanted`: source, target and type strings, weight float64.

    Raises
    ------
    InputError : a malformed line (with its number) or a missing column.
    """
    look = Look.at(path)
    try:
        with arrow_stream(path) if look.simple else simple_stream(path, look) as file:
            table = arrow_table(file, wanted, look if look.simple else Look(look.separator))
        if _named(wanted):  # Arrow takes one of two columns of one name
            _check_once(path, wanted.values(), _header(path, look))
    except (pa.ArrowException, *UNREADABLE):
        return _read_lines(path, wanted, look)
    return _read_lines(path, wanted, look) if _first_bad(table) is not None else table


def arrow_table(stream: Any, wanted: Wanted, look: Look) -> pa.Table:
    """What Arrow reads of a stream that is simple."""
    columns = {role: column if isinstance(column, str) else f"f{column - 1}" for role, column in wanted.items()}
    return pacsv.read_csv(
        stream,
        read_options=pacsv.ReadOptions(autogenerate_column_names=not _named(wanted), skip_rows=look.comments),
        parse_options=pacsv.ParseOptions(delimiter=look.separator or " ", quote_char='"' if look.separator else False),
        convert_options=pacsv.ConvertOptions(
            column_types={name: _TYPES.get(role, pa.string()) for role, name in columns.items()},
            include_columns=list(columns.values()), null_values=[], strings_can_be_null=False,
        ),
    ).rename_columns(list(columns))  # fmt: skip


def read_parquet(path: Path, wanted: Wanted) -> pa.Table:
    """Read ids and types that are strings or whole numbers, and weights that are numbers; the same table as `read_text`.

    Raises
    ------
    InputError : a missing column, one of another type, or a row without an id, a type or a positive weight.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            numbered = {str(i): name for i, name in enumerate(names, start=1)} if not _named(wanted) else {}
            columns = {role: numbered.get(str(column), column) for role, column in wanted.items()}
            _check_columns(path, columns.values(), names)
            table = file.read(columns=list(dict.fromkeys(columns.values())))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({str(error).splitlines()[0]}); expected a whole Parquet file."
        ) from error
    found = pa.table({role: _column(path, role, table[name]) for role, name in columns.items()})
    if (bad := _first_bad(found)) is not None:
        _check_edge(
            f"row {bad + 1} of {str(path)!r}", found.column_names, [column[bad].as_py() for column in found.columns]
        )
    return found


def _column(path: Path, role: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if role == "time":
        return column
    if role == "weight":
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return column.cast(pa.float64(), safe=False)  # whole numbers beyond 2^53 are rounded
        raise InputError(f"Got a weight of {kind} in {str(path)!r}; expected numbers. Convert the column.")
    if pa.types.is_integer(kind):  # each is written once, not once a row
        coded = encoded(column)
        return pa.chunked_array([pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))])
    if any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        return column.cast(pa.string())
    raise InputError(f"Got a {role} of {kind} in {str(path)!r}; expected strings or whole numbers. Convert the column.")


def place(path: Path, wanted: Wanted, edge: int) -> str:
    """Where an edge of a file stands, for people. edge: from 0."""
    if suffix(path) == ".parquet":
        return f"row {edge + 1} of {str(path)!r}"
    number, *_ = next(islice(_rows(path, wanted, Look.at(path)), edge, None))
    return f"line {number} of {str(path)!r}"


def usable(weight: Any) -> Any:
    """Whether each weight of an array is positive, also as float32."""
    return (weight >= _LEAST) & (weight <= _MOST)


def _first_bad(table: pa.Table) -> int | None:
    """The first row with an empty id or type, or a weight that is none."""
    first = []
    for role, column in zip(table.column_names, table.columns, strict=True):
        if role == "weight":
            good = pc.and_(pc.greater_equal(column, _LEAST), pc.less_equal(column, _MOST))
        elif role == "time" or pa.types.is_dictionary(column.type):  # whole numbers are never empty
            good = column.is_valid()
        else:
            good = pc.not_equal(column, "")
        good = good.fill_null(False)
        if not pc.all(good, min_count=0).as_py():
            first.append(pc.index(good, False).as_py())
    return min(first, default=None)


def _rows(path: Path, wanted: Wanted, look: Look) -> Iterator[tuple[int, list[Any]]]:
    """The number of a line and its fields in the order of `wanted`, line by line; the first bad line raises."""
    try:
        with opened(path) as file:
            places = None if _named(wanted) else [int(number) - 1 for number in wanted.values()]
            width = 0
            for number, line in enumerate(file, start=1):
                line = line.rstrip("\r\n")
                if not (line.strip() if look.separator is None else line) or (look.plain and line.startswith("#")):
                    continue
                fields = _split(path, number, line, look)
                if places is None:
                    _check_columns(path, wanted.values(), fields)
                    places, width = [fields.index(str(name)) for name in wanted.values()], len(fields)
                    continue
                width = width or len(fields)
                spot = f"line {number} of {str(path)!r}"
                if len(fields) != width or len(fields) <= max(places):
                    raise InputError(
                        f"Got {len(fields)} field(s) on {spot}; expected {max(width, max(places) + 1)}. Mend the line."
                    )
                yield number, _check_edge(spot, list(wanted), [fields[i] for i in places])
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def _split(path: Path, number: int, line: str, look: Look) -> list[str]:
    """The fields of a line."""
    if look.separator is None:
        return _BLANKS.split(line.strip(" \t\r\n"))
    try:
        return next(csv.reader([line], delimiter=look.separator), [])
    except csv.Error as error:
        raise InputError(
            f"Got line {number} of {str(path)!r}, which cannot be cut into fields ({error}). Mend the line."
        ) from error


def _header(path: Path, look: Look) -> list[str]:
    with opened(path) as file:
        lines = islice((line.rstrip("\r\n") for line in file), look.comments, None)
        return _split(path, look.comments + 1, next(filter(None, lines), ""), look)


def _check_once(path: Path, wanted: Any, header: Sequence[str]) -> None:
    if twice := next((name for name in wanted if header.count(name) > 1), None):
        raise InputError(
            f"Got the column {twice!r}, which is there more than once in {str(path)!r}; expected it once. Rename one."
        )


def _check_columns(path: Path, wanted: Any, header: Sequence[str]) -> None:
    _check_once(path, wanted, header)
    missing = [name for name in wanted if name not in header]
    if missing:
        what = "column" if isinstance(missing[0], str) else f"{len(header)} columns, not number"
        raise InputError(
            f"Got columns {', '.join(header)} in {str(path)!r}; expected {', '.join(map(repr, missing))} among them. Mend `columns`."
            if what == "column"
            else f"Got {what} {missing[0]} in {str(path)!r}. Mend `columns`."
        )


def _check_edge(spot: str, roles: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """The values of an edge, its weight as a number.

    Raises
    ------
    InputError : one of them is missing, or the weight is not positive.
    """
    edge = dict(zip(roles, values, strict=True))
    ids = [role for role in roles if role not in OTHERS]
    if not all(edge[role] for role in ids):
        raise InputError(f"Got an empty {' or '.join(ids)} on {spot}; expected both. Mend the line.")
    if not edge.get("type", True):
        raise InputError(f"Got an empty edge type on {spot}; expected one on each line. Mend the line.")
    if "weight" in edge:
        edge["weight"] = checked_weight(edge["weight"], spot)
    return list(edge.values())


def checked_weight(value: Any, spot: str) -> float:
    """A weight as a number.

    Raises
    ------
    InputError : it is not positive.
    """
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = np.nan
    if not usable(weight):
        raise InputError(
            f"Got the weight {value!r} on {spot}; expected a positive number that a float32 can hold. Mend the line."
        )
    return weight


def _read_lines(path: Path, wanted: Wanted, look: Look) -> pa.Table:
    """What Arrow does not take, such as bad lines, to say which they are."""
    rows = [values for _, values in _rows(path, wanted, look)]
    columns = zip(*rows, strict=True) if rows else ((),) * len(wanted)
    return pa.table(
        {role: pa.array(column, _TYPES.get(role, pa.string())) for role, column in zip(wanted, columns, strict=True)}
    )


def _named(wanted: Wanted) -> bool:
    """Whether the file has a header."""
    return any(isinstance(column, str) for column in wanted.values())
