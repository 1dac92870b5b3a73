"""Edge lists to a graph."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv

from embedders.data import Graph
from embedders.errors import InputError

Columns = tuple[str, str, str | None]


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
        raise InputError(
            f"Got {', '.join(map(repr, map(str, files)))} without an edge; expected a source and a target on each line."
        )
    both = pa.chunked_array(edges.column("source").chunks + edges.column("target").chunks)
    coded = both.combine_chunks().dictionary_encode()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    rows = coded.indices.to_numpy()
    n = edges.num_rows
    weight = edges.column("weight").to_numpy() if "weight" in edges.column_names else None
    return Graph.from_edges(coded.dictionary.to_pylist(), rows[:n], rows[n:], weight, directed=directed)


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
            path,
            read_options=pacsv.ReadOptions(autogenerate_column_names=columns is None),
            parse_options=pacsv.ParseOptions(delimiter=separator),
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=wanted, null_values=[], strings_can_be_null=False
            ),
        ).rename_columns(roles)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, EOFError) as error:
        raise _explain(path, columns, separator, error) from error
    bad = pc.or_(pc.equal(table["source"], ""), pc.equal(table["target"], ""))
    if "weight" in roles:
        bad = pc.or_(bad, pc.invert(pc.and_(pc.greater(table["weight"], 0), pc.is_finite(table["weight"]))))
    if pc.any(bad).as_py():
        raise _explain(path, columns, separator, None)
    return table


def _explain(path: Path, columns: Columns | None, separator: str | None, error: Exception | None) -> InputError:
    """Read again, slowly, to say which line is wrong."""
    try:
        for _ in _rows(path, columns, separator):
            pass
    except InputError as found:
        return found
    return InputError(
        f"Got {str(path)!r}, which cannot be read as an edge list ({error}). Check its separator and quotes."
    )


def _rows(path: Path, columns: Columns | None, separator: str | None) -> Iterator[tuple[str, str, float]]:
    """Source, target and weight, line by line; the first bad line raises."""
    with _open(path) as file:
        try:
            places: list[int] | None = None if columns is not None else [0, 1]
            width = 0
            for number, line in enumerate(file, start=1):
                if not line.strip() or (_plain(path) and line.startswith("#")):
                    continue
                fields = (
                    line.split() if separator is None else next(csv.reader([line.rstrip("\r\n")], delimiter=separator))
                )
                if places is None:
                    assert columns is not None
                    places, width = _places(path, columns, fields), len(fields)
                    continue
                width = width or len(fields)
                yield _edge(path, number, fields, places, width)
        except (UnicodeDecodeError, OSError, EOFError) as error:
            raise InputError(
                f"Got {str(path)!r}, which cannot be read ({error}); expected UTF-8 text, plain or gzip."
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
        weight = math.nan
    if not (weight > 0 and math.isfinite(weight)):
        raise InputError(f"Got the weight {rest[0]!r} on {place}; expected a positive number. Mend the line.")
    return source, target, weight


def _read_lines(path: Path, columns: Columns | None, separator: str | None) -> pa.Table:
    """What no CSV reader takes: comments, and fields parted by any run of blanks."""
    rows = list(_rows(path, columns, separator))
    source, target, weight = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table({"source": pa.array(source, pa.string()), "target": pa.array(target, pa.string())})
    if columns is not None and columns[2] is not None:
        table = table.append_column("weight", pa.array(weight, pa.float64()))
    return table


def _plain(path: Path) -> bool:
    """Whether it is neither .csv nor .tsv, so that its separator must be guessed and # starts a comment."""
    return Path(path.stem if path.suffix == ".gz" else path).suffix not in {".csv", ".tsv"}


def _format(path: Path) -> tuple[str | None, bool]:
    """The field separator, None for blanks; and whether the file begins with comments."""
    if not _plain(path):
        return ("," if ".csv" in path.suffixes else "\t"), False
    comments = False
    with _open(path) as file:
        try:
            for line in file:
                if line.startswith("#"):
                    comments = True
                elif line.strip():
                    return ("\t" if "\t" in line else "," if "," in line else None), comments
        except (UnicodeDecodeError, OSError, EOFError) as error:
            raise _unreadable(path, error) from error
    return None, comments


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"Got {str(path)!r}, which cannot be read ({error}); expected UTF-8 text, plain or gzip.")


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")
