"""What a file of a graph holds, before files are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    if found.null_count or pc.any(pc.equal(found, "")).as_py():
        raise InputError(f"Got an empty name in {str(path)!r}; expected one for each node and type.")
    return found


def numbered(names: pa.ChunkedArray | pa.Array, what: str) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Types as places in a list of their names, in order of first appearance.

    Raises
    ------
    InputError : there are more than an int16 counts.
    """
    coded = encoded(names)
    found = tuple(coded.dictionary.to_pylist())
    if len(found) > np.iinfo(np.int16).max:
        raise InputError(
            f"Got {len(found):,} {what}; expected at most {np.iinfo(np.int16).max:,}. Is it the right column?"
        )
    return coded.indices.to_numpy().astype(np.int16), found


def encoded(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """Names as places in a list of those that occur, in order of first appearance."""
    if pa.types.is_dictionary(column.type):
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = column.dictionary_encode()
    if isinstance(coded, pa.DictionaryArray):
        return coded
    if not coded.num_chunks:
        return pa.array([], pa.string()).dictionary_encode()
    # all chunks share one dictionary; to unify them would hash it again for each
    return pa.DictionaryArray.from_arrays(
        pa.concat_arrays([c.indices for c in coded.chunks]), coded.chunk(0).dictionary
    )


def prefixed(edges: pa.Table, source: str, target: str) -> pa.Table:
    """Edges whose ids begin with the type of their nodes."""
    for role, kind in (("source", source), ("target", target)):
        coded = encoded(edges[role])
        names = pc.binary_join_element_wise(f"{kind}:", coded.dictionary, "")
        column = pa.DictionaryArray.from_arrays(coded.indices, names)
        edges = edges.set_column(edges.column_names.index(role), role, column)
    return edges
