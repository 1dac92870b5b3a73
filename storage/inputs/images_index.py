"""The index of a container: where each picture is, and its digest; kept in the store's cache by the container's digest.

An unchanged container is not read again, and one of many gigabytes is read a picture at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedders.base import Progress
from embedders.errors import InputError
from embedders.image.opening import DecodeError
from embedders.image.prefetch import ahead
from storage.digests import File
from storage.inputs import images_archive, images_labels, images_parquet
from storage.inputs.images_place import Entry, Place, read
from storage.inputs.images_spec import ImageColumns, ImagesSpec, LabelColumn, kind
from storage.room import room

VERSION = 2
"""Raised when the same container may give another index."""
KEPT = 90 * 86_400
"""Seconds that an index stays in the cache after its last use."""
_THREADS = 4
_STEP = 8
_SCHEMA = pa.schema(
    [pa.field("name", pa.large_string()), pa.field("id", pa.large_string()), pa.field("label", pa.large_string())]
    + [pa.field(name, pa.large_string() if name == "codec" else pa.int64()) for name in Place._fields]
    + [pa.field(name, pa.large_string()) for name in ("digest", "code", "message")]
)


@dataclass(frozen=True, eq=False)
class Member:
    """A picture in a container; `str` says where."""

    index: Index
    row: int

    def read_bytes(self) -> bytes:
        """Its bytes.

        Raises
        ------
        DecodeError : they cannot be read. InputError : the container has changed.
        """
        found = self.index.table.slice(self.row, 1).to_pylist()[0]
        if found["code"]:
            raise DecodeError(found["code"], found["message"])
        return read(self.index.container, Place(*(found[name] for name in Place._fields)), str(self))

    def __str__(self) -> str:
        return self.index.location(self.row)


@dataclass(frozen=True, eq=False)
class Index:
    """The pictures of a container. table : of _SCHEMA, a row each."""

    container: File
    table: pa.Table

    def location(self, row: int) -> str:
        """`archive.zip/member`, or `table.parquet:row`."""
        between = ":" if kind(self.container.path) == ".parquet" else "/"
        return f"{self.container.path}{between}{self.table['name'][row].as_py()}"

    def texts(self, column: str) -> list[Any]:
        """A column as a list."""
        found: list[Any] = self.table[column].to_pylist()
        return found


def index(spec: ImagesSpec, container: File, digest: str, cache: Path, progress: Progress) -> Index:
    """The index of a container, from the cache or made.

    Raises
    ------
    InputError : the container is damaged, holds no picture, or lacks what the options name.
    FullError : the disk of the cache is full.
    """
    columns = None if spec.columns is None else spec.columns.model_dump()
    beside = (
        spec.labels.column if isinstance(spec.labels, LabelColumn) else spec.labels if spec.labels == "cls" else None
    )
    key = hashlib.sha256(json.dumps([VERSION, digest, kind(container.path), columns, beside]).encode()).hexdigest()
    place = cache / "pictures" / f"{key}.parquet"
    with suppress(OSError, pa.ArrowException):
        table = pq.read_table(place, memory_map=False)
        if table.schema.equals(_SCHEMA):
            os.utime(place)
            return Index(container, table.combine_chunks())
    table = _build(spec, container, progress)
    _keep(table, place)
    return Index(container, table)


def _build(spec: ImagesSpec, container: File, progress: Progress) -> pa.Table:
    name = Path(container.path).name
    columns = spec.columns or ImageColumns.model_validate({})
    ids: Sequence[str | None] | None = None
    if kind(container.path) == ".parquet":
        entries = images_parquet.list_cells(container, columns.image, partial(_say, progress, name))
        if columns.id is not None:
            ids = images_parquet.read_texts(container, columns.id)
        labels = None
        if isinstance(spec.labels, LabelColumn):
            texts = images_parquet.read_texts(container, spec.labels.column)
            labels = [text if text and text.strip() else None for text in texts]
    else:
        sidecars = images_labels.sidecars(spec.labels)
        entries, beside = images_archive.list_archive(container, spec.suffixes, sidecars)
        labels = images_labels.beside(container, entries, beside, spec.labels)
    if not entries:
        raise InputError(
            f"Got {container.path!r} without a picture; expected rows, or members that end in {', '.join(spec.suffixes)}. Leave it out."
        )
    if ids is not None and None in ids:
        raise InputError(f"Got no id in row {ids.index(None) + 1} of {container.path!r}; expected one in each row.")
    parts = [entries[at : at + _STEP] for at in range(0, len(entries), _STEP)]
    digested: list[Entry] = []
    for part in ahead(partial(_digested, container), parts, threads=_THREADS, window=2 * _THREADS):
        digested += part
        progress(len(digested), len(entries), f"pictures of {name}")
    none = [None] * len(entries)
    rows: dict[str, Any] = {"name": [entry.name for entry in digested], "id": ids or none, "label": labels or none}
    for i, field in enumerate(Place._fields):
        rows[field] = [None if entry.place is None else entry.place[i] for entry in digested]
    rows |= {field: [getattr(entry, field) for entry in digested] for field in ("digest", "code", "message")}
    return pa.table(rows, _SCHEMA)


def _say(progress: Progress, name: str, done: int, of: int) -> None:
    progress(done, of, f"rows of {name}")


def _digested(container: File, entries: Sequence[Entry]) -> list[Entry]:
    """With the digests of their bytes, or the reasons why these cannot be read."""
    found = []
    for entry in entries:
        if entry.place is None or entry.digest:
            found.append(entry)
            continue
        try:
            content = read(container, entry.place, f"{container.path}/{entry.name}")
            if entry.crc is not None and zlib.crc32(content) != entry.crc:
                raise DecodeError(
                    "broken_member", f"Got the member {entry.name!r}, whose bytes have another CRC-32 than its archive says. Copy it again."
                )  # fmt: skip
            found.append(entry._replace(digest=hashlib.sha256(content).hexdigest()))
        except DecodeError as error:
            found.append(entry._replace(place=None, code=error.code, message=str(error)))
    return found


def _keep(table: pa.Table, place: Path) -> None:
    """Put an index into the cache, whole or not at all, and take out those that nothing used for long."""
    with room(place.parent):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, fresh = tempfile.mkstemp(dir=place.parent, suffix=".tmp")
        except OSError:  # a store that can only be read
            return
        try:
            with os.fdopen(descriptor, "wb") as file:
                pq.write_table(table, file, compression="zstd")
            Path(fresh).replace(place)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    old = time.time() - KEPT
    for path in place.parent.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < old:
                path.unlink()
