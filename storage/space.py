"""A space and its versions: reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.base import Encoder, Matrix, Vectors
from storage import delta
from storage.errors import NotFoundError
from storage.layout import COLUMNS, read_batches, read_matrix, read_table
from storage.manifest import Manifest
from storage.paths import Paths


@dataclass(frozen=True, eq=False)
class Version:
    """One version of a space; it never changes.

    Parameters
    ----------
    manifest : what it is and how it came about.
    delta_version : its place in the Delta log.
    """

    paths: Paths
    manifest: Manifest
    delta_version: int

    @property
    def number(self) -> int:
        return self.manifest.version

    @property
    def dim(self) -> int:
        return self.manifest.dim

    def __len__(self) -> int:
        return self.manifest.counts.rows

    @cached_property
    def _files(self) -> list[Path]:
        return delta.data_files(self.paths.space(self.manifest.space), self.delta_version)

    @property
    def _rows(self) -> list[int]:
        rows = {entry.path: entry.rows for entry in self.manifest.files}
        folder = self.paths.space(self.manifest.space)
        return [rows[path.relative_to(folder).as_posix()] for path in self._files]

    @property
    def files(self) -> list[str]:
        """Absolute paths of its Parquet files, in row order: pass them to DuckDB, Polars, Spark, pandas."""
        return [str(path) for path in self._files]

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """(n,) strings."""
        column = self.table(["id"]).column("id")
        return column.to_numpy() if len(column) else np.empty(0, object)

    @cached_property
    def matrix(self) -> Matrix:
        """(n, dim) float32, row i belongs to ids[i]; read-only."""
        return read_matrix(self._files, self._rows, self.dim)

    @property
    def vectors(self) -> Vectors:
        """Ids and matrix together."""
        return Vectors(self.manifest.entity, self.ids.tolist(), self.matrix)

    def table(self, columns: Sequence[str] = COLUMNS) -> pa.Table:
        """Some columns of all rows."""
        return read_table(self._files, self._rows, columns)

    def batches(self, columns: Sequence[str] = ("id", "vector"), rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """Some columns, at most `rows` rows at a time, in bounded memory."""
        return read_batches(self._files, self._rows, columns, rows)

    def encoder(self) -> Encoder[Any]:
        """The fitted encoder it was made with."""
        from embedders.registry import embedder_class

        return embedder_class(self.manifest.recipe.kind).load(self.paths.root / self.manifest.model)

    def __repr__(self) -> str:
        m = self.manifest
        return f"<Version {m.space}@{m.version}: {len(self):,} x {m.dim}, {m.recipe.kind}, {m.created:%Y-%m-%d %H:%M}>"


@dataclass(frozen=True, eq=False)
class Space:
    """A named series of versions."""

    paths: Paths
    name: str

    @property
    def folder(self) -> Path:
        return self.paths.space(self.name)

    def versions(self) -> list[Version]:
        """All versions, newest last."""
        return [Version(self.paths, manifest, number) for number, manifest in delta.manifests(self.folder)]

    def latest(self) -> Version | None:
        """The newest version, if there is one."""
        versions = self.versions()
        return versions[-1] if versions else None

    def version(self, which: int | str = "latest") -> Version:
        """One version, by number or as "latest".

        Raises
        ------
        NotFoundError : the space has no version, or not that one.
        """
        versions = self.versions()
        if not versions:
            raise NotFoundError(
                f"Got space {self.name!r}, which has no version yet in {self.paths.root}. Do: polyvec run."
            )
        if which == "latest":
            return versions[-1]
        for version in versions:
            if str(version.number) == str(which):
                return version
        numbers = ", ".join(str(version.number) for version in versions)
        raise NotFoundError(f"Got version {which!r} of space {self.name!r}; it has {numbers}, or say 'latest'.")
