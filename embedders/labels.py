"""Labels of ids from a table file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from embedders.errors import InputError
from embedders.reading import lines, read_text

Labelled = tuple[str, str, int]  # id, label, and the line or row


def read_labels(path: str | Path, id: str, label: str) -> dict[str, str]:
    """Read the one label of each id from a table with a header, JSON lines, or Parquet.

    Parameters
    ----------
    path : `.csv` is separated by commas, `.jsonl` holds an object a line (both also `.gz`), `.parquet` is Parquet; any
        other is separated by tabs. Text is UTF-8; quoted fields as in CSV.
    id, label : the names of the columns.

    Returns
    -------
    The label of each id, in file order. Rows with an empty label are skipped.

    Raises
    ------
    InputError : a column is unknown, a row is malformed, an id has two labels (rows, or a list of them), no row has a label, or the file is
        missing or not UTF-8.
    """
    name = str(path)
    labels: dict[str, str] = {}
    seen: dict[str, int] = {}
    for key, value, line in _labels(name, id, label):
        if labels.setdefault(key, value) != value:
            raise InputError(
                f"Got two values of {label!r} for the id {key!r} in {name!r}: {labels[key]!r} on line {seen[key]} and "
                f"{value!r} on line {line}; expected one. Drop one; where ids may have several, ask for node_classification."
            )
        seen.setdefault(key, line)
    return labels


def read_label_sets(path: str | Path, id: str, label: str) -> dict[str, tuple[str, ...]]:
    """Read the labels of each id: its rows have one each, or (JSON lines, Parquet) a list of them.

    Takes and raises what `read_labels` does, but that several labels of an id are fine; each counts once. The labels
    are in file order.
    """
    found: dict[str, dict[str, None]] = {}
    for key, value, _ in _labels(str(path), id, label):
        found.setdefault(key, {})[value] = None
    return {key: tuple(values) for key, values in found.items()}


def _labels(name: str, id: str, label: str) -> Iterator[Labelled]:
    """What a file says, without the rows of an empty label."""
    plain = name.lower().removesuffix(".gz")
    read = _parquet if plain.endswith(".parquet") else _json_lines if plain.endswith(".jsonl") else _table
    some = False
    for key, value, line in read(name, id, label):
        if not value.strip():
            continue
        if not key:
            raise InputError(f"Got an empty id in column {id!r} on line {line} of {name!r}; expected an id.")
        some = True
        yield key, value, line
    if not some:
        raise InputError(f"Got no labels in column {label!r} of {name!r}; expected at least one row with a label.")


def _table(name: str, id: str, label: str) -> Iterator[Labelled]:
    delimiter = "," if name.lower().removesuffix(".gz").endswith(".csv") else "\t"
    reader = csv.reader(io.StringIO(read_text(name), newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        at_id, at_label = _column(name, header, id), _column(name, header, label)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"Got {len(row)} fields on line {reader.line_num} of {name!r}; expected {len(header)} as in the header. "
                    "Quote fields that hold a separator."
                )
            yield row[at_id], row[at_label], reader.line_num
    except csv.Error as error:
        raise InputError(
            f"Got a malformed row near line {reader.line_num} of {name!r} ({error}); expected fields separated by "
            f'{"commas" if delimiter == "," else "tabs"}, quoted with " where needed.'
        ) from error


def _json_lines(name: str, id: str, label: str) -> Iterator[Labelled]:
    known: dict[str, None] = {}
    for number, line in enumerate(lines(name), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"Got line {number} of {name!r}, which is no JSON ({error}); expected an object."
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"Got {line.strip()[:80]!r} on line {number} of {name!r}; expected an object.")
        known |= dict.fromkeys(row)
        yield from ((text_of(row.get(id)), value, number) for value in _texts(row.get(label)))
    for column in (id, label):
        _column(name, list(known), column)


def _parquet(name: str, id: str, label: str) -> Iterator[Labelled]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(name).names
        for column in (id, label):
            _column(name, names, column)
        found = pq.read_table(name, columns=list(dict.fromkeys([id, label])))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"Got {name!r}, which cannot be read ({str(error).splitlines()[0]}); expected a Parquet file. Check the path."
        ) from error
    for row, (key, value) in enumerate(zip(found[id].to_pylist(), found[label].to_pylist(), strict=True), start=1):
        yield from ((text_of(key), text, row) for text in _texts(value))


def _texts(cell: object) -> list[str]:
    """The labels that a cell holds: those of a list, else itself."""
    return list(map(text_of, cell)) if isinstance(cell, list) else [text_of(cell)]


def text_of(value: object) -> str:
    """What a cell says; nothing for NaN, too: so tables say that a number lacks."""
    return "" if value is None or value != value else str(value)


def _column(path: str, header: Sequence[str], name: str) -> int:
    if header.count(name) != 1:
        problem = "occurs more than once" if name in header else "does not exist"
        raise InputError(
            f"Got the column {name!r}, which {problem} in {path!r}; expected one of: {', '.join(header) or 'none'}."
        )
    return header.index(name)
