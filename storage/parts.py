"""Reading parts: their footer and small columns are checked against the seal, vectors come straight from their pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedders.base import Matrix
from embedders.errors import InputError
from storage.errors import DamagedError
from storage.layout import COLUMNS, SCHEMA, vector_column
from storage.pages import fill_from_pages
from storage.places import AnyPath, source
from storage.seal import TAIL, BrokenSealError, digest, footer_length, open_seal

REMEDY = "Restore it from a copy, or run the pipeline with --force."


@dataclass(frozen=True, eq=False)
class Part:
    """A part that is open, of as many rows as were asked for.

    Parameters
    ----------
    metadata : its footer.
    seal : digests of the bytes of its small columns, by name; None where another tool wrote the file.
    """

    path: AnyPath
    file: Any
    metadata: pq.FileMetaData
    seal: Mapping[str, bytes] | None

    def fill(self, out: Matrix) -> None:
        """Read the vectors into (rows, dim) float32; of a sealed part straight from its pages."""
        if self.seal is None:
            _flatten(self._decode(self.file, ["vector"]).column("vector"), self.path, out)
            return
        numbers = self._chunk("vector").num_values
        if numbers != out.size:
            raise DamagedError(
                f"The part {self.path} holds {len(out)} vectors of {numbers // len(out)} numbers; "
                f"expected {len(out)} of {out.shape[1]}. {REMEDY}"
            )
        with self.path.open("rb", buffering=0) as file:
            if not fill_from_pages(file, *self._place("vector"), out):
                raise DamagedError(f"The part {self.path} is damaged in the pages of its vectors. {REMEDY}")

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows."""
        if self.seal is None:
            return self._decode(self.file, columns)
        found = {}
        if "vector" in columns:
            rows = self.metadata.num_rows
            matrix = np.empty((rows, self._chunk("vector").num_values // rows), np.float32)
            self.fill(matrix)
            found["vector"] = vector_column(matrix)
        if small := [name for name in dict.fromkeys(columns) if name != "vector"]:
            decoded = self._decode(self._small(small), small)
            found |= {name: decoded.column(name) for name in small}
        return pa.Table.from_arrays([found[name] for name in columns], schema=_schema(columns))

    def _small(self, columns: Sequence[str]) -> pa.BufferReader:
        """The file up to the end of some small columns, which lie before the vectors, after a look at their digests."""
        places = {name: self._place(name) for name in columns}
        held = self.file.read_at(max(end for _, end in places.values()), 0)
        for name, (begin, end) in places.items():
            if self.seal is not None and self.seal.get(name) != digest(memoryview(held)[begin:end]):
                raise DamagedError(f"The part {self.path} is damaged in its column {name!r}. {REMEDY}")
        return pa.BufferReader(held)

    def _decode(self, file: Any, columns: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(file, metadata=self.metadata, page_checksum_verification=True) as part:
            # on this thread: one of Arrow's that lets go of Python's bytes as the process ends takes it down
            found = part.read(columns=list(columns), use_threads=False)
        found.validate(full=True)
        if found.num_rows != self.metadata.num_rows:
            raise DamagedError(
                f"The part {self.path} gives {found.num_rows} of its {self.metadata.num_rows} rows. {REMEDY}"
            )
        return found

    def _chunk(self, column: str) -> pq.ColumnChunkMetaData:
        return self.metadata.row_group(0).column(COLUMNS.index(column))

    def _place(self, column: str) -> tuple[int, int]:
        """Where a column begins and ends in the file."""
        chunk = self._chunk(column)
        begin = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at is not None)
        return begin, begin + chunk.total_compressed_size


@contextmanager
def open_part(path: AnyPath, rows: int) -> Iterator[Part]:
    """One part, ready to read.

    Raises
    ------
    DamagedError : it is missing, is no whole Parquet file, or does not hold `rows` rows; also while it is read.
    """
    try:
        with source(path) as file:
            metadata, seal = _footer(file)
            schema = pq.ParquetFile(file, metadata=metadata).schema_arrow
            if metadata.num_rows != rows or not schema.equals(SCHEMA):
                raise DamagedError(
                    f"The part {path} holds {metadata.num_rows} rows of {', '.join(schema.names)}; "
                    f"expected {rows} of {', '.join(COLUMNS)}. {REMEDY}"
                )
            yield Part(path, file, metadata, seal)
    except FileNotFoundError as error:
        raise DamagedError(
            f"The part {path} is missing: taken out since by `keep:` or `gc`, or lost. Open the version again; if it is there, restore the part from a copy, or run the pipeline with --force."
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, BrokenSealError) as error:
        raise DamagedError(f"The part {path} cannot be read ({error}). {REMEDY}") from error


def _footer(file: Any) -> tuple[pq.FileMetaData, Mapping[str, bytes] | None]:
    """A file's footer, once its seal is looked at, and the seal's digests by column."""
    size = file.size()
    tail = file.read_at(min(size, TAIL), max(0, size - TAIL))
    if len(tail) < (whole := footer_length(tail) + 8) <= size:
        tail = file.read_at(whole, size - whole)
    digests = open_seal(tail)
    small = [name for name in COLUMNS if name != "vector"]
    return pq.read_metadata(pa.BufferReader(tail)), None if digests is None else dict(zip(small, digests, strict=False))


def read_matrix(paths: Sequence[AnyPath], rows: Sequence[int], dim: int) -> Matrix:
    """The vectors of several parts, in order.

    Returns
    -------
    (sum(rows), dim) float32, read-only.

    Raises
    ------
    DamagedError : a part does not hold `rows` vectors of `dim` numbers.
    """
    out = np.empty((sum(rows), dim), np.float32)
    starts = np.cumsum([0, *rows])

    def fill(number: int) -> None:
        with open_part(paths[number], rows[number]) as part:
            part.fill(out[starts[number] : starts[number + 1]])

    with ThreadPoolExecutor(2, thread_name_prefix="parquet") as pool:
        list(pool.map(fill, range(len(paths))))
    out.flags.writeable = False
    return out


def _flatten(column: pa.ChunkedArray, path: AnyPath, out: Matrix) -> None:
    """Copy lists that pyarrow decoded."""
    rows, dim = out.shape
    lengths = pc.list_value_length(column)
    if len(column) != rows or pc.any(pc.not_equal(lengths, dim)).as_py():
        raise DamagedError(
            f"The part {path} holds {len(column)} vectors of {pc.min(lengths)} to {pc.max(lengths)} numbers; "
            f"expected {rows} of {dim}. {REMEDY}"
        )
    at = 0
    for chunk in column.chunks:
        out[at : at + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dim)
        at += len(chunk)


def _schema(columns: Sequence[str]) -> pa.Schema:
    """The fields of some columns.

    Raises
    ------
    InputError : there is no such column.
    """
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"Got the column {name!r}; expected some of {', '.join(COLUMNS)}.")
    return pa.schema([SCHEMA.field(name) for name in columns])


def read_table(paths: Sequence[AnyPath], rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some columns of all parts.

    Raises
    ------
    DamagedError : a part cannot be read, or does not hold as many rows.
    """
    tables = [_schema(columns).empty_table()]
    for path, expected in zip(paths, rows, strict=True):
        with open_part(path, expected) as part:
            tables.append(part.table(columns))
    return pa.concat_tables(tables[1:] or tables)


def read_batches(
    paths: Sequence[AnyPath], rows: Sequence[int], columns: Sequence[str], size: int
) -> Iterator[pa.RecordBatch]:
    """Some columns of all parts, at most `size` rows at a time; memory is bounded by a part."""
    for path, expected in zip(paths, rows, strict=True):
        yield from read_table([path], [expected], columns).to_batches(max_chunksize=size)
