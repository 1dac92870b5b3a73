"""What a file of a graph holds, before files are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.errors import InputError


@dataclass(frozen=True)
class Part:
    """Edges of one file.

    Parameters
    ----------
    edges : source and target (strings), weight (float64) and type (strings) where they are asked for.
    place : where an edge stands, for people; edges count from 0.
    ids : nodes that the file lists; None where it lists edges only.
    rows : a column of what it says of these nodes, by name; raises for a name that none of them has.
    directed : what the file says of itself; None when it says nothing.
    """

    edges: pa.Table
    place: Callable[[int], str]
    ids: pa.StringArray | None = None
    rows: Callable[[str], Rows] | None = None
    directed: bool | None = None


@dataclass(frozen=True)
class Rows:
    """A column of what is known of nodes. place: where the value of a row stands, for people; rows count from 0."""

    name: str
    values: pa.ChunkedArray
    place: Callable[[int], str]


@dataclass(frozen=True, eq=False)
class Nodes:
    """What is known of nodes, in the order of `ids`; the rest as in `Graph`."""

    ids: pa.StringArray
    types: NDArray[np.int16] | None = None
    type_names: tuple[str, ...] = ()
    features: Any = None


def strings(values: Iterable[Any], path: Path) -> pa.StringArray:
    """Names as an Arrow column.

    Raises
    ------
    InputError : one is empty, or no Unicode text.
    """
    try:
        found = pa.array(values, pa.string())
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise InputError(f"Got a name in {str(path)!r} that is no text ({error}); expected Unicode.") from error
    if found.null_count or pa.compute.any(pa.compute.equal(found, "")).as_py():
        raise InputError(f"Got an empty name in {str(path)!r}; expected one for each node and type.")
    return found


def numbered(names: pa.ChunkedArray | pa.Array, what: str) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Types as places in a list of their names, in order of first appearance.

    Raises
    ------
    InputError : there are more than an int16 counts.
    """
    column = names if isinstance(names, pa.ChunkedArray) else pa.chunked_array([names])
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    coded = column.dictionary_encode().unify_dictionaries()
    if not len(column):
        return np.empty(0, np.int16), ()
    found = tuple(coded.chunk(0).dictionary.to_pylist())
    if len(found) > np.iinfo(np.int16).max:
        raise InputError(
            f"Got {len(found):,} {what}; expected at most {np.iinfo(np.int16).max:,}. Is it the right column?"
        )
    return np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks]).astype(np.int16), found
