"""Tables as the pipeline file names them, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from embedders.base import Progress, silent
from embedders.data import Rejected
from embedders.errors import InputError
from embedders.tables import Table
from storage.inputs.base import DatasetSpec, Scan
from storage.inputs.table_columns import MISSING, is_number, numbers, plain_number, texts
from storage.inputs.table_files import Part, read_part

Name = Annotated[str, Field(min_length=1)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[Name, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])]


class TableSpec(DatasetSpec):
    """Rows of categories and numbers, with or without a target."""

    gives: ClassVar[tuple[type, ...]] = (Table,)
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")

    kind: Literal["table"]
    path: str = Field(
        min_length=1,
        description="rows with a header (.csv, .tsv, these also .gz, .parquet); a file, a folder or a glob",
    )
    id: Name | None = Field(None, description="the column that identifies each row; without it `path:row`, from 1")
    categories: Names = Field(
        min_length=1, description="columns of categories, read as text whatever they hold; an empty one is missing"
    )
    numbers: Names = Field(
        (), description="columns of numbers, true and false, or dates (days since 1970); an empty one is missing"
    )
    target: Name | None = Field(None, description="the column to be told from the others; rows may lack it")
    target_type: Literal["numbers", "classes"] | None = Field(
        None, description="what the target is; without it numbers where all its values are, else classes"
    )

    @model_validator(mode="after")
    def _one_role(self) -> Self:
        seen: set[str] = set()
        for name in self.wanted:
            if name in seen:
                raise ValueError(f"each column once; {name} is there twice among id, categories, numbers and target")
            seen.add(name)
        if self.target_type and not self.target:
            raise ValueError("no target_type without a target")
        return self

    @property
    def pattern(self) -> str:
        return self.path

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (
            *([self.id] if self.id else []), *self.categories, *self.numbers, *([self.target] if self.target else []),
        )  # fmt: skip

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Table:
        """The rows of all files.

        Raises
        ------
        InputError : a file cannot be read or lacks a column, an id stands twice, or no row is left.
        """
        parts = [read_part(name, path, self.wanted) for name, path in zip(scan.names, scan.files, strict=True)]
        rows = _Rows(parts)
        ids = self._ids(rows)
        values = [_coded(rows.texts(name)) for name in self.categories]
        wide = [rows.numbers(name) for name in self.numbers]
        target, classes, wrong = self._target(rows)
        bad = {name: wrong for name, (_, wrong) in zip(self.numbers, wide, strict=True)}
        bad |= {} if self.target is None else {self.target: wrong}
        rejected, kept = rows.rejected(self.id, ids, bad)
        if not len(kept):
            first = f" The first of {len(rejected):,} that were rejected: {rejected[0].message} ({rejected[0].location})." if rejected else ""  # fmt: skip
            raise InputError(f"Got {self.path!r} without a row; expected some.{first} Mend the file.")
        names = ids.take(pa.array(kept)).to_pylist()
        return Table(
            names, self.categories, tuple(found for found, _ in values),
            np.stack([codes[kept] for _, codes in values], axis=1), self.numbers,
            np.stack([found[kept] for found, _ in wide], axis=1).astype(np.float32) if wide else np.zeros((len(kept), 0), np.float32),
            None if target is None else target[kept], self.target or "", classes, rejected,
        )  # fmt: skip

    def _ids(self, rows: _Rows) -> pa.Array:
        if self.id is None:
            names = [f"{part.name}:{number}" for part in rows.parts for number in part.numbers.tolist()]
            return pa.array(names, pa.string())
        ids = rows.texts(self.id)
        coded = _coded(ids)[1]
        known = np.flatnonzero(coded >= 0)
        distinct, first = np.unique(coded[known], return_index=True)
        if len(distinct) < len(known):
            again = known[np.setdiff1d(np.arange(len(known)), first)[0]]
            before = known[first[np.searchsorted(distinct, coded[again])]]
            raise InputError(
                f"Got the id {ids[again].as_py()!r} twice: {rows.place(int(before))} and {rows.place(int(again))}; expected unique "
                "ids. Drop one of the rows, or leave `id:` out."
            )
        return ids

    def _target(self, rows: _Rows) -> tuple[NDArray[Any] | None, list[str] | None, NDArray[np.bool_]]:
        """The target, the names of its classes if these it is, and the rows where it is no number though it should be."""
        nothing = np.zeros(len(rows), bool)
        if self.target is None:
            return None, None, nothing
        if (self.target_type or self._guess(rows, self.target)) == "numbers":
            found, bad = rows.numbers(self.target)
            return found.astype(np.float32), None, bad
        classes, codes = _coded(rows.texts(self.target))
        order = sorted(range(len(classes)), key=classes.__getitem__)
        rank = np.empty(len(classes) + 1, np.int32)
        rank[order], rank[-1] = np.arange(len(classes)), -1
        return rank[codes], [classes[place] for place in order], nothing

    def _guess(self, rows: _Rows, name: str) -> Literal["numbers", "classes"]:
        kinds = [part.table[name].type for part in rows.parts]
        if all(is_number(kind) and not pa.types.is_boolean(kind) for kind in kinds):
            return "numbers"
        if not any(part.text for part in rows.parts):  # who wrote the file said so
            return "classes"
        values, codes = _coded(rows.texts(name))
        given = np.array([value.strip().lower() not in MISSING for value in values] + [False])
        plain = np.array([plain_number(value) is not None for value in values] + [False])
        some, good = int(given[codes].sum()), int((given & plain)[codes].sum())
        if good == some:
            return "numbers" if some else "classes"
        if 2 * good > some:
            row = int(np.flatnonzero((given & ~plain)[codes])[0])
            raise InputError(
                f"Got the target {name!r}, of which {some - good:,} of {some:,} values are no numbers, the first {values[codes[row]]!r} "
                f"({rows.place(row)}); expected numbers or classes. Say `target_type: numbers`, and such rows are left out, or "
                "`target_type: classes`."
            )
        return "classes"


class _Rows:
    """The rows of all files, one after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part.table) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def texts(self, name: str) -> pa.Array:
        """A column as strings, null where one is missing."""
        return pa.chunked_array([chunk for part in self.parts for chunk in texts(name, part.table[name]).chunks], pa.string()).combine_chunks()  # fmt: skip

    def numbers(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """A column as numbers, and which of them are none."""
        found = [numbers(name, part.table[name]) for part in self.parts]
        return np.concatenate([it for it, _ in found]), np.concatenate([it for _, it in found])

    def place(self, row: int) -> str:
        """Where a row stands, for people."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part].place(row - int(self.starts[part]))

    def rejected(
        self, id: str | None, ids: pa.Array, bad: dict[str, NDArray[np.bool_]]
    ) -> tuple[tuple[Rejected, ...], NDArray[np.int64]]:
        """The rows that cannot be used, and the numbers of the others."""
        lost = pc.is_null(ids).to_numpy(zero_copy_only=False)
        wrong = np.logical_or.reduce([lost, *bad.values()])
        found = [rejected for part in self.parts for rejected in part.rejected]
        for row in np.flatnonzero(wrong).tolist():
            part = int(np.searchsorted(self.starts, row, side="right")) - 1
            inside = row - int(self.starts[part])
            held = self.parts[part]
            where = f"{held.name}:{held.numbers[inside]}"
            name = where if lost[row] else ids[row].as_py()
            if lost[row]:
                found.append(Rejected(name, where, "missing_id", f"nothing in {id!r}, which identifies the rows"))
                continue
            column = next(column for column, mask in bad.items() if mask[row])
            value = held.table[column][inside].as_py()
            found.append(Rejected(name, where, "bad_number", f"got {value!r} in {column!r}; expected a finite number"))
        return tuple(found), np.flatnonzero(~wrong)


def _coded(column: pa.Array) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct values in order of appearance, and the place of each row's, -1 where it is missing."""
    coded = column.dictionary_encode(null_encoding="mask")
    return coded.dictionary.to_pylist(), pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
