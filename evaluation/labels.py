"""Labels of ids from a table file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from embedders.errors import InputError
from evaluation.reading import read_text


def read_labels(path: str | Path, id: str, label: str) -> dict[str, str]:
    """Read the label of each id from a table with a header; quoted fields as in CSV.

    Parameters
    ----------
    path : a UTF-8 file; `.csv` is separated by commas, any other by tabs.
    id, label : the names of the columns.

    Returns
    -------
    The label of each id, in file order. Rows with an empty label are skipped.

    Raises
    ------
    InputError : a column is unknown, a row is malformed, an id has two labels, no row has a label, or the file is
        missing or not UTF-8.
    """
    name = str(path)
    delimiter = "," if name.lower().removesuffix(".gz").endswith(".csv") else "\t"
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    labels: dict[str, str] = {}
    seen: dict[str, int] = {}
    try:
        header = next(reader, [])
        at_id, at_label = _column(name, header, id), _column(name, header, label)
        for row in reader:
            if not row:
                continue
            line = reader.line_num
            if len(row) != len(header):
                raise InputError(
                    f"Got {len(row)} fields on line {line} of {name!r}; expected {len(header)} as in the header. "
                    "Quote fields that hold a separator."
                )
            key, value = row[at_id], row[at_label]
            if not value.strip():
                continue
            if not key:
                raise InputError(f"Got an empty id in column {id!r} on line {line} of {name!r}; expected an id.")
            if labels.setdefault(key, value) != value:
                raise InputError(
                    f"Got two labels for the id {key!r} in {name!r}: {labels[key]!r} on line {seen[key]} and "
                    f"{value!r} on line {line}; expected one. Drop one of the rows."
                )
            seen.setdefault(key, line)
    except csv.Error as error:
        raise InputError(
            f"Got a malformed row near line {reader.line_num} of {name!r} ({error}); expected fields separated by "
            f'{"commas" if delimiter == "," else "tabs"}, quoted with " where needed.'
        ) from error
    if not labels:
        raise InputError(f"Got no labels in column {label!r} of {name!r}; expected at least one row with a label.")
    return labels


def _column(path: str, header: list[str], name: str) -> int:
    if header.count(name) != 1:
        problem = "occurs more than once" if name in header else "does not exist"
        raise InputError(
            f"Got the column {name!r}, which {problem} in {path!r}; expected one of: {', '.join(header) or 'none'}."
        )
    return header.index(name)
