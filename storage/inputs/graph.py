"""Edge lists to a graph."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv

from embedders.data import Graph
from embedders.errors import InputError

Columns = tuple[str, str, str | None]

_UNREADABLE = (UnicodeDecodeError, OSError, EOFError, zlib.error)
_BLANKS = re.compile(r"[ \t]+")  # no other white space: an id may hold it
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def read_graph(files: Sequence[Path], *, columns: Columns | None, directed: bool) -> Graph:
    """Read edge lists; ids become rows in order of first appearance, sources before targets.

    Parameters
    ----------
    files : .tsv (tabs), .csv (commas) or other text (the first edge's separator: tab, comma, or blanks; lines that
        start with # are comments), plain or .gz. A field may be quoted with ".
    columns : names of source, target and weight in a header; None takes the first two columns of a file without one.

    Raises
    ------
    InputError : a malformed line (with its number), a missing column, or no edge at all.
    """
    tables = [_read(path, columns) for path in files]
    edges = pa.concat_tables(tables)
    if not edges.num_rows:
        names = ", ".join(repr(str(path)) for path in files)
        raise InputError(f"Got {names} without an edge; expected a source and a target on each line.")
    both = pa.chunked_array(edges.column("source").chunks + edges.column("target").chunks)
    coded = both.dictionary_encode().unify_dictionaries()
    rows = np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks])
    n = edges.num_rows
    weight = edges.column("weight").to_numpy() if "weight" in edges.column_names else None
    return Graph.from_edges(coded.chunk(0).dictionary.to_pylist(), rows[:n], rows[n:], weight, directed=directed)


def _read(path: Path, columns: Columns | None) -> pa.Table:
    """The columns source, target and, if asked for, weight."""
    separator, comments = _format(path)
    if separator is None or comments:
        return _read_lines(path, columns, separator)
    wanted = ["f0", "f1"] if columns is None else [name for name in columns if name is not None]
    roles = ["source", "target", "weight"][: len(wanted)]
    types = {name: pa.float64() if role == "weight" else pa.string() for name, role in zip(wanted, roles, strict=True)}
    try:
        table = pacsv.read_csv(
            pa.input_stream(path, compression="gzip" if _zipped(path) else None),
            read_options=pacsv.ReadOptions(autogenerate_column_names=columns is None),
            parse_options=pacsv.ParseOptions(delimiter=separator),
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=wanted, null_values=[], strings_can_be_null=False
            ),
        ).rename_columns(roles)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, EOFError):
        return _read_lines(path, columns, separator)
    bad = pc.or_(pc.equal(table["source"], ""), pc.equal(table["target"], ""))
    if "weight" in roles:
        bad = pc.or_(bad, pc.invert(_usable(table["weight"])))
    return _read_lines(path, columns, separator) if pc.any(bad).as_py() else table


def _usable(weight: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether a weight is positive, also as float32."""
    return pc.and_(pc.greater_equal(weight, _LEAST), pc.less_equal(weight, _MOST))


def _rows(path: Path, columns: Columns | None, separator: str | None) -> Iterator[tuple[str, str, float]]:
    """Source, target and weight, line by line; the first bad line raises."""
    with _open(path) as file:
        try:
            places: list[int] | None = None if columns is not None else [0, 1]
            width = 0
            for number, line in enumerate(file, start=1):
                line = line.rstrip("\r\n")
                if not (line.strip() if separator is None else line) or (_plain(path) and line.startswith("#")):
                    continue
                fields = (
                    _BLANKS.split(line.strip(" \t\r\n"))
                    if separator is None
                    else _fields(path, number, line, separator)
                )
                if places is None:
                    assert columns is not None
                    places, width = _places(path, columns, fields), len(fields)
                    continue
                width = width or len(fields)
                yield _edge(path, number, fields, places, width)
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error


def _fields(path: Path, number: int, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise InputError(
            f"Got line {number} of {str(path)!r}, which cannot be cut into fields ({error}). Mend the line."
        ) from error


def _places(path: Path, columns: Columns, header: Sequence[str]) -> list[int]:
    wanted = [name for name in columns if name is not None]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(
            f"Got columns {', '.join(header)} in {str(path)!r}; expected {', '.join(map(repr, missing))} among them. Mend `columns`."
        )
    return [header.index(name) for name in wanted]


def _edge(path: Path, number: int, fields: Sequence[str], places: Sequence[int], width: int) -> tuple[str, str, float]:
    place = f"line {number} of {str(path)!r}"
    if len(fields) != width or len(fields) <= max(places):
        raise InputError(
            f"Got {len(fields)} field(s) on {place}; expected {max(width, max(places) + 1)}. Mend the line."
        )
    source, target, *rest = [fields[i] for i in places]
    if not source or not target:
        raise InputError(f"Got an empty node id on {place}; expected a source and a target. Mend the line.")
    try:
        weight = float(rest[0]) if rest else 1.0
    except ValueError:
        weight = np.nan
    if not _LEAST <= weight <= _MOST:
        raise InputError(
            f"Got the weight {rest[0]!r} on {place}; expected a positive number that a float32 can hold. Mend the line."
        )
    return source, target, weight


def _read_lines(path: Path, columns: Columns | None, separator: str | None) -> pa.Table:
    """What Arrow does not take: comments, fields parted by any run of blanks, and bad lines, to say which they are."""
    rows = list(_rows(path, columns, separator))
    source, target, weight = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table({"source": pa.array(source, pa.string()), "target": pa.array(target, pa.string())})
    if columns is not None and columns[2] is not None:
        table = table.append_column("weight", pa.array(weight, pa.float64()))
    return table


def _zipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _suffix(path: Path) -> str:
    return Path(path.stem if _zipped(path) else path.name).suffix.lower()


def _plain(path: Path) -> bool:
    """Whether it is neither .csv nor .tsv, so that its separator must be guessed and # starts a comment."""
    return _suffix(path) not in {".csv", ".tsv"}


def _format(path: Path) -> tuple[str | None, bool]:
    """The field separator, None for blanks; and whether the file has comments."""
    if not _plain(path):
        return ("," if _suffix(path) == ".csv" else "\t"), False
    separator, first, comments = None, True, False
    with _open(path) as file:
        try:
            for line in file:
                if line.startswith("#"):
                    comments = True
                elif first and line.strip():
                    separator, first = "\t" if "\t" in line else "," if "," in line else None, False
                if comments and not first:
                    break
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
    return separator, comments


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"Got {str(path)!r}, which cannot be read ({error}); expected UTF-8 text, plain or gzip.")


def _open(path: Path) -> TextIO:
    if _zipped(path):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")
