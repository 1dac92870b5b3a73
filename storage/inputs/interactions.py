"""Users and items as the pipeline file names them, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedders.base import Progress, silent
from embedders.errors import InputError
from embedders.interactions import Duplicates, Interactions
from embedders.kernels.threads import cores
from storage.inputs.base import DatasetSpec, Scan

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 1 << 20
"""Rows that are worth a thread of their own."""

Places = NDArray[np.int32]
Column = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=1, strict=True)]


class EventColumns(BaseModel):
    """Role to column: names in the header, or numbers from 1 in a file without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Column
    item: Column
    weight: Column | None = Field(None, description="a positive number; without it every event weighs 1")
    time: Column | None = Field(
        None, description="seconds since 1970, or dates such as 2024-05-01 12:30:00 (UTC); events are put in its order"
    )

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len({type(column) for column in self.wanted.values()}) > 1:
            raise ValueError("names of a header or numbers, not both")
        if len(set(self.wanted.values())) < len(self.wanted):
            raise ValueError("a column of its own for each role")
        return self

    @property
    def wanted(self) -> dict[str, str | int]:
        """Role to column, those that are given."""
        found = {"user": self.user, "item": self.item, "weight": self.weight, "time": self.time}
        return {role: column for role, column in found.items() if column is not None}


class InteractionsSpec(DatasetSpec):
    """Events of users with items, one a row."""

    gives: ClassVar[tuple[type, ...]] = (Interactions,)
    suffixes: ClassVar[tuple[str, ...]] = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz", ".txt.gz", ".parquet")

    kind: Literal["interactions"]
    path: str = Field(
        min_length=1,
        description="events (.tsv, .csv, .txt, these also .gz, .parquet), a row each; a file, a folder or a glob",
    )
    columns: EventColumns | None = Field(
        None, description="role to column; without it the first two are user and item, and in text there is no header"
    )
    threshold: float | None = Field(
        None,
        strict=True,
        allow_inf_nan=False,
        description="events that weigh less are left out, as ratings below 4 might be",
    )
    duplicates: Duplicates = Field(
        "sum", description="of several events of a user with an item, weights are summed, or the last alone counts"
    )

    @property
    def pattern(self) -> str:
        return self.path

    @property
    def wanted(self) -> dict[str, str | int]:
        """Role to column."""
        return {"user": 1, "item": 2} if self.columns is None else self.columns.wanted

    def check(self, paths: Sequence[str]) -> None:
        if self.threshold is not None and "weight" not in self.wanted:
            raise InputError(
                f"Got threshold: {self.threshold:g} for {paths[0]!r}, of which no column is the weight; expected one. Add `weight:` under `columns:`."
            )

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Interactions:
        """The events in order of time.

        Raises
        ------
        InputError : a file cannot be read, holds a malformed row, or there is no event.
        """
        table = _joined([_read(path, self.wanted) for path in scan.files])
        if self.threshold is not None:
            table = table.filter(table["weight"].to_numpy() >= self.threshold)
        if not len(table):
            what = "an event" if self.threshold is None else f"an event that weighs {self.threshold:g} or more"
            raise InputError(f"Got {self.path!r} without {what}; expected a user and an item on each line.")
        users, user, items, item = _coded(table["user"], table["item"])
        return Interactions.of(
            users, items, user, item, self._weights(table), _column(table, "time"), duplicates=self.duplicates
        )

    def _weights(self, table: pa.Table) -> NDArray[np.float32] | None:
        weight = _column(table, "weight")
        return None if weight is None else weight.astype(np.float32)


def _read(path: Path, wanted: dict[str, str | int]) -> pa.Table:
    """The columns of a file: user and item strings, weight and time float64."""
    from storage.inputs.graph_edges import read_parquet, read_text
    from storage.inputs.graph_spec import suffix

    table = read_parquet(path, wanted) if suffix(path) == ".parquet" else read_text(path, wanted)
    if "time" in wanted:
        place = table.column_names.index("time")
        table = table.set_column(place, "time", _seconds(path, table["time"]))
    return table


def _joined(parts: list[pa.Table]) -> pa.Table:
    """The rows of all files. Whole numbers come coded, which is kept unless the ids of another file are text."""
    import pyarrow as pa

    if any(part.schema != parts[0].schema for part in parts):
        kinds = {"weight": pa.float64(), "time": pa.float64()}
        parts = [
            part.cast(pa.schema([(name, kinds.get(name, pa.string())) for name in part.column_names])) for part in parts
        ]
    return pa.concat_tables(parts).combine_chunks()


def _seconds(path: Path, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as seconds since 1970: numbers as they are, dates of UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            column = _read_times(column.cast(pa.string()))
        if pa.types.is_date(kind):
            column = column.cast(pa.timestamp("ms"))
        if pa.types.is_timestamp(column.type):
            second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
            column = pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), second)
        column = column.cast(pa.float64(), safe=False)  # whole numbers beyond 2^53 are rounded
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"Got a time of {kind} in {str(path)!r} that is none ({error}); expected seconds since 1970, or dates such as 2024-05-01 12:30:00."
        ) from error
    if not pc.all(pc.is_finite(column).fill_null(False), min_count=0).as_py():
        row = pc.index(pc.is_finite(column).fill_null(False), False).as_py()
        raise InputError(
            f"Got no time in row {row + 1} of {str(path)!r}; expected one on each. Mend the row, or leave `time:` out."
        )
    return column


def _read_times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers, or else dates, that are written out. Those with a zone (Z, +02:00) are taken at their word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        pass
    try:
        return pc.cast(column, pa.timestamp("us"))
    except pa.ArrowInvalid as error:
        if "zone offset" not in str(error):
            raise
    return pc.cast(column, pa.timestamp("us", "UTC"))


def _coded(user: pa.ChunkedArray, item: pa.ChunkedArray) -> tuple[list[str], Places, list[str], Places]:
    """Names in order of first appearance, and places in them, of both columns.

    The longest part of reading: pieces of the columns are coded at the same time.
    """
    import pyarrow as pa

    from storage.inputs.graph_parts import encoded

    cuts = [(column, _pieces(len(column))) for column in (user, item)]
    with ThreadPoolExecutor(cores()) as pool:
        coded = [[pool.submit(encoded, column.slice(*piece)) for piece in pieces] for column, pieces in cuts]
    found: list[Any] = []
    for parts in coded:
        whole = pa.chunked_array([part.result() for part in parts]).combine_chunks()  # names as the first part has them
        names, places = whole.dictionary, whole.indices
        if np.bincount(places, minlength=len(names)).min(initial=1) == 0:  # a filter left some without a row
            places = places.dictionary_encode()
            names, places = names.take(places.dictionary), places.indices
        found += [names.to_pylist(), places.to_numpy().astype(np.int32)]
    return found[0], found[1], found[2], found[3]


def _pieces(rows: int) -> list[tuple[int, int]]:
    """Offset and length of pieces of at least a million rows, as many as there are cores."""
    count = max(1, min(cores(), rows // PIECE))
    ends = [rows * i // count for i in range(count + 1)]
    return [(first, last - first) for first, last in pairwise(ends)]


def _column(table: pa.Table, name: str) -> NDArray[Any] | None:
    return table[name].to_numpy() if name in table.column_names else None
