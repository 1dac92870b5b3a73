"""Columns of a table as strings or as numbers, whatever type the file has them in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.errors import InputError

MISSING = {"", "na", "n/a", "nan", "null", "none"}
"""What a number is written as that is not there, in small letters."""
WORDS = {"true": 1.0, "false": 0.0}
_DAY = 86400e6  # microseconds


def texts(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings as they stand, other values as they are written; null where one is missing, which empty text is.

    Raises
    ------
    InputError : the column holds lists, structures or bytes.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        found = column.cast(pa.string())
    except (pa.ArrowException, UnicodeDecodeError):
        found = None
    if found is None or pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise InputError(f"Got the column {name!r} of {kind}; expected text, numbers or dates. Convert it.")
    return pc.if_else(pc.equal(found, ""), None, found)


def numbers(name: str, column: pa.ChunkedArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n,) float64 values, NaN where one is missing, and which are no numbers that a float32 holds.

    True and false are 1 and 0, dates days since 1970.

    Raises
    ------
    InputError : the column is of a type that is none of these.
    """
    column = _plain(column)
    kind = column.type
    if is_text(kind):
        coded = pc.dictionary_encode(column, null_encoding="mask")
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        known = [parsed(text) for text in coded.dictionary.to_pylist()]
        values = np.array([np.nan if found is None else found for found in (*known, np.nan)])
        wrong = np.array([*(found is None for found in known), False])
        at = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
        found, bad = values[at], wrong[at]
    elif is_number(kind) or pa.types.is_temporal(kind) or pa.types.is_null(kind):
        days = 1.0
        if pa.types.is_temporal(kind):
            fine = pa.types.is_timestamp(kind) and kind.unit == "ns"  # less than a microsecond is no loss
            try:
                column, days = column.cast(pa.timestamp("us"), safe=not fine).cast(pa.int64()), _DAY
            except pa.ArrowException:
                raise InputError(
                    f"Got the numbers {name!r} of {kind}; expected numbers or dates. Convert the column."
                ) from None
        found = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64) / days
        bad = np.zeros(len(found), bool)
    else:
        raise InputError(f"Got the numbers {name!r} of {kind}; expected numbers or dates. Convert the column.")
    with np.errstate(over="ignore"):
        bad |= np.isinf(found.astype(np.float32))
    return found, bad


def parsed(text: str) -> float | None:
    """The number that a text is, NaN for none; None where it is something else.

    >>> parsed("1e3"), parsed(" true"), parsed("1970-01-02"), parsed("1970-01-02T12:00:00Z"), parsed("1,5"), parsed("1_0")
    (1000.0, 1.0, 1.0, 1.5, None, None)
    """
    small = text.strip().lower()
    if small in MISSING:
        return np.nan
    if small in WORDS:
        return WORDS[small]
    if (found := plain_number(small)) is not None:
        return found
    try:
        date = datetime.fromisoformat(small.upper())  # Z stands for UTC, z for nothing
    except ValueError:
        return None
    return (date.replace(tzinfo=None) - (date.utcoffset() or _ZERO) - _EPOCH) / _DAYS


_EPOCH = datetime(1970, 1, 1)
_DAYS = datetime(1970, 1, 2) - _EPOCH
_ZERO = _EPOCH - _EPOCH


def plain_number(text: str) -> float | None:
    """As `float` reads it, but for underscores."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings."""
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers, or true and false."""
    return any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    )


def _plain(column: pa.ChunkedArray) -> Any:
    """Without a dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
