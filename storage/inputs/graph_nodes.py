"""Node tables: ids, types and features of nodes, a node a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.errors import InputError
from storage.inputs.graph_matrix import read_features
from storage.inputs.graph_parts import Nodes, Rows, numbered
from storage.inputs.graph_spec import NodeTable
from storage.inputs.graph_tables import read_table

MOST_TAGS = 1 << 24  # columns


def read_nodes(path: Path, spec: NodeTable, features: Path | None) -> Nodes:
    """Read a node table. features: the file of `spec.features_file`.

    Raises
    ------
    InputError : the table cannot be read, lacks a column or a value, names an id twice, or a feature is no number.
    """
    id = spec.id or "id"
    wanted = list(
        dict.fromkeys([id, *([spec.type] if spec.type else []), *spec.features, *([spec.tags] if spec.tags else [])])
    )
    table, place = read_table(path, wanted, set(spec.features))

    def rows(name: str) -> Rows:
        return Rows(name, table[name], place)

    names = _text_of(rows(id), "id")
    _check_unique(names, place)
    return described(spec, names, rows, features)


def described(
    spec: NodeTable | None, ids: pa.StringArray, rows: Callable[[str], Rows] | None, features: Path | None
) -> Nodes:
    """Nodes with the types and features that `spec` names. rows: a column by its name."""
    types, found = None, None
    type_names: tuple[str, ...] = ()
    if spec and spec.type and rows:
        types, type_names = numbered(_text_of(rows(spec.type), "type"), "types of nodes")
    if features is not None:
        found = read_features(features, len(ids))
    elif spec and spec.tags and rows:
        found = _tags(rows(spec.tags))
    elif spec and spec.features and rows:
        columns = [rows(name) for name in spec.features]
        listed = len(columns) == 1 and _is_list(columns[0].values.type)
        found = _lists(columns[0]) if listed else np.stack([_numbers(column) for column in columns], axis=1)
    if found is not None and not found.shape[1]:
        raise InputError(
            f"Got features of no column for {len(ids):,} nodes; expected at least one. Leave `features:`, `tags:` or `features_file:` out."
        )
    return Nodes(ids, types, type_names, found)


def _text_of(rows: Rows, what: str) -> pa.StringArray:
    """Strings or whole numbers as strings, none empty."""
    column = rows.values
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    texts = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_integer,
        pa.types.is_null,
    )
    if not any(is_text(kind) for is_text in texts):
        raise InputError(
            f"Got the column {rows.name!r} of {kind}, as for {rows.place(0)}; expected strings or whole numbers for the {what}."
        )
    column = column.cast(pa.string())
    _check_all(pc.not_equal(column, ""), rows, f"an empty {what}", "a value on each row")
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _check_unique(names: pa.StringArray, place: Callable[[int], str]) -> None:
    codes = names.dictionary_encode().indices.to_numpy()
    distinct, first = np.unique(codes, return_index=True)
    if len(distinct) < len(codes):
        again = int(np.setdiff1d(np.arange(len(codes)), first)[0])
        before = int(first[codes[again]])
        raise InputError(
            f"Got the id {names[again].as_py()!r} twice: {place(before)} and {place(again)}; expected unique ids. Drop one of the rows."
        )


def _check_all(good: Any, rows: Rows, got: str, expected: str) -> None:
    """Refuse the first row that is not good."""
    good = good.fill_null(False) if isinstance(good, pa.ChunkedArray | pa.Array) else pa.array(good)
    if not pc.all(good, min_count=0).as_py():
        spot = rows.place(pc.index(good, False).as_py())
        raise InputError(f"Got {got} in {rows.name!r} on {spot}; expected {expected}. Mend the row.")


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_number(kind: pa.DataType) -> bool:
    return any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    )


def _numbers(rows: Rows) -> NDArray[np.float32]:
    if not _is_number(rows.values.type):
        raise InputError(
            f"Got the feature {rows.name!r} of {rows.values.type}, as for {rows.place(0)}; expected numbers. Name other columns under `features:`."
        )
    column = rows.values.cast(pa.float64(), safe=False)
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = column.fill_null(np.nan).to_numpy().astype(np.float32)
    _check_all(np.isfinite(found), rows, "NaN, infinity or nothing", "a number that a float32 can hold")
    return found


def _flat(rows: Rows, what: str) -> tuple[Any, NDArray[np.int64]]:
    """All entries of a column of lists, and how many each row has."""
    column = rows.values.combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if not _is_list(column.type):
        raise InputError(
            f"Got the column {rows.name!r} of {column.type}, as for {rows.place(0)}; expected lists of {what}."
        )
    _check_all(column.is_valid(), rows, "nothing", f"a list of {what} on each row")
    return column.flatten(), pc.list_value_length(column).to_numpy().astype(np.int64)


def _lists(rows: Rows) -> NDArray[np.float32]:
    """Lists of numbers of one length, as a matrix."""
    entries, lengths = _flat(rows, "numbers")
    width = int(lengths[0]) if len(lengths) else 0
    _check_all(
        lengths == width,
        rows,
        f"a list of another length than {width}",
        "lists of one length, or `tags:` in place of `features:`",
    )
    if not _is_number(entries.type) or not width:
        raise InputError(
            f"Got lists of {entries.type} in {rows.name!r}, as for {rows.place(0)}; expected numbers. For words, use `tags:` in place of `features:`."
        )
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = (
            entries.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False).astype(np.float32)
        )
    found = found.reshape(-1, width)
    _check_all(np.isfinite(found).all(axis=1), rows, "NaN, infinity or nothing", "numbers that a float32 can hold")
    return found


def _tags(rows: Rows) -> Any:
    """Lists as rows of a sparse matrix of ones: whole numbers are columns, words are columns in sorted order."""
    from scipy.sparse import csr_array

    entries, lengths = _flat(rows, "words or whole numbers")
    if pa.types.is_dictionary(entries.type):
        entries = entries.cast(entries.type.value_type)
    row = np.repeat(np.arange(len(lengths)), lengths)
    if pa.types.is_integer(entries.type):
        columns = entries.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        good = (columns >= 0) & (columns < MOST_TAGS)
        width = int(columns.max(initial=-1)) + 1
        expected = f"whole numbers from 0 to {MOST_TAGS - 1:,}"
    elif pa.types.is_string(entries.type) or pa.types.is_large_string(entries.type):
        coded = entries.dictionary_encode()
        words = coded.dictionary.to_pylist()
        order = {word: place for place, word in enumerate(sorted(words))}
        good = coded.indices.is_valid().to_numpy(zero_copy_only=False)
        columns = (
            np.array([order[word] for word in words], np.int64)[
                coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
            ]
            if words
            else np.empty(0, np.int64)
        )
        width, expected = len(words), "words"
    elif not len(entries):
        raise InputError(
            f"Got only empty lists in {rows.name!r}, as for {rows.place(0)}; expected tags. Leave `tags:` out."
        )
    else:
        raise InputError(
            f"Got lists of {entries.type} in {rows.name!r}, as for {rows.place(0)}; expected words or whole numbers. For numbers that measure, use `features:`."
        )
    fine = np.ones(len(lengths), bool)
    fine[row[~good]] = False
    _check_all(fine, rows, "a tag that is none", expected)
    matrix = csr_array((np.ones(len(row), np.float32), (row, columns)), shape=(len(lengths), width))
    matrix.sum_duplicates()
    matrix.data[:] = 1  # an entry that comes twice counts once
    return matrix
