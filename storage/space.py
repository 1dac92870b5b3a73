"""A space and its versions: reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.base import Embedder, Encoder, Matrix, Vectors
from embedders.errors import InputError
from storage import delta, releases
from storage.digests import compare
from storage.errors import DamagedError, NotFoundError
from storage.layout import COLUMNS
from storage.lists import COLUMNS as LIST_COLUMNS
from storage.lists import SCHEMA as LIST_SCHEMA
from storage.lists import read_lists
from storage.manifest import Manifest
from storage.parts import REMEDY, read_batches, read_matrix, read_table
from storage.paths import Paths
from storage.places import AnyPath, on_disk, size, together


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
    def parts(self) -> list[AnyPath]:
        """The places of its Parquet files, in row order."""
        folder = self.paths.space(self.manifest.space)
        return [folder / entry.path for entry in self.manifest.files]

    def missing(self) -> list[AnyPath]:
        """Parquet files that are not there, or not whole by their size."""
        sizes = together(self.paths.root, size, self.parts)
        return [
            part for part, entry, now in zip(self.parts, self.manifest.files, sizes, strict=True) if now != entry.size
        ]

    @property
    def _rows(self) -> list[int]:
        return [entry.rows for entry in self.manifest.files]

    @property
    def files(self) -> list[str]:
        """Its Parquet files, absolute paths or s3:// addresses, in row order: for DuckDB, Polars, Spark, pandas."""
        return [str(part) for part in self.parts]

    def check_vectors(self) -> None:
        """Refuse what is no space.

        Raises
        ------
        InputError : it is an output.
        """
        if self.manifest.table != "vectors":
            m = self.manifest
            raise InputError(
                f"Got {m.space} @ {m.version}, which holds {m.table}; expected vectors. Read its files: polyvec files {m.space}."
            )

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """(n,) strings."""
        self.check_vectors()
        column = self.table(["id"]).column("id")
        return column.to_numpy() if len(column) else np.empty(0, object)

    @cached_property
    def matrix(self) -> Matrix:
        """(n, dim) float32, row i belongs to ids[i]; read-only."""
        self.check_vectors()
        return read_matrix(self.parts, self._rows, self.dim)

    @property
    def vectors(self) -> Vectors:
        """Ids and matrix together."""
        return Vectors(self.manifest.entity, self.ids.tolist(), self.matrix)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Some columns of all rows; without `columns`, all."""
        if self.manifest.table == "vectors":
            return read_table(self.parts, self._rows, COLUMNS if columns is None else columns)
        schema = LIST_SCHEMA if columns is None else pa.schema([LIST_SCHEMA.field(name) for name in columns])
        return pa.Table.from_batches(self.batches(schema.names), schema)

    def batches(self, columns: Sequence[str] | None = None, rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """Some columns, at most `rows` rows at a time, in bounded memory; without `columns`, id and vector, or all of a list."""
        if self.manifest.table == "vectors":
            yield from read_batches(self.parts, self._rows, ("id", "vector") if columns is None else columns, rows)
            return
        for part, expected in zip(self.parts, self._rows, strict=True):
            yield from read_lists(part, expected, LIST_COLUMNS if columns is None else columns, rows)

    def encoder(self, recipe: Embedder[Any] | None = None) -> Encoder[Any]:
        """The fitted encoder it was made with. recipe : stands in for the saved one when only execution differs.

        Raises
        ------
        DamagedError : a file of it is not what was written.
        InputError : another version of the embedder is installed, or none.
        """
        from embedders.registry import embedder_class

        self.check_vectors()
        kind = embedder_class(self.manifest.recipe.kind) if recipe is None else type(recipe)
        with on_disk(self.paths.root / self.manifest.model) as folder:
            for name, digest in self.manifest.model_files.items():
                if problem := compare(folder / name, digest):
                    raise DamagedError(f"The file {self.paths.root / self.manifest.model}/{name} {problem}. {REMEDY}")
            return kind.load(folder, recipe)

    def __repr__(self) -> str:
        m = self.manifest
        return f"<Version {m.space}@{m.version}: {len(self):,} x {m.dim}, {m.recipe.kind}, {m.created:%Y-%m-%d %H:%M}>"


@dataclass(frozen=True, eq=False)
class Space:
    """A named series of versions."""

    paths: Paths
    name: str

    @property
    def folder(self) -> AnyPath:
        return self.paths.space(self.name)

    def versions(self) -> list[Version]:
        """All versions, newest last."""
        return [Version(self.paths, manifest, number) for number, manifest in delta.manifests(self.folder)]

    def latest(self) -> Version | None:
        """The newest version, if there is one."""
        found = delta.latest(self.folder)
        return None if found is None else Version(self.paths, found[1], found[0])

    def version(self, which: int | str = "latest") -> Version:
        """One version: by number, "latest", or a name of a release such as "production".

        Raises
        ------
        NotFoundError : the space has no version, or not that one.
        DamagedError : the log cannot be read, or has lost a version that a release holds.
        """
        if which == "latest":
            newest = self.latest()
            if newest is None:
                raise NotFoundError(
                    f"Got space {self.name!r}, which has no version yet in {self.paths.root}. Do: polyvec run."
                )
            return newest
        number = int(which) if str(which).isdecimal() and str(int(which)) == str(which) else self._released(str(which))
        found = delta.find(self.folder, number)
        if found is None:
            retired = number in delta.retired(self.folder)
            if not retired and number in releases.read(self.paths).holding(self.name):
                raise DamagedError(
                    f"A release holds {self.name}@{number}, which is not in the log in {self.folder} any more; it has "
                    f"{self._known()}. Restore the log from a copy."
                )
            gone = ", which was taken out (`keep:` in the pipeline file)" if retired else ""
            raise NotFoundError(f"Got version {which!r} of space {self.name!r}{gone}; it has {self._known()}.")
        return Version(self.paths, found[1], found[0])

    def _released(self, name: str) -> int:
        """The version that a name of a release stands for."""
        state = releases.read(self.paths)
        release = state.pointed(name)
        if release is None:
            known = "".join(f", {other}" for other in state.pointers)
            raise NotFoundError(f"Got version {name!r} of space {self.name!r}; it has {self._known()}{known}.")
        if self.name not in release.spaces:
            raise NotFoundError(
                f"Got space {self.name!r}, which is not in release {release.number} ({name}); it holds {', '.join(release.spaces)}. Say {self.name}@latest."
            )
        return release.spaces[self.name]

    def _known(self) -> str:
        numbers = [version.number for version in self.versions()]
        shown = (
            [*map(str, numbers)] if len(numbers) <= 20 else [*map(str, numbers[:3]), "...", *map(str, numbers[-10:])]
        )
        return f"{', '.join(shown)}, or say 'latest'" if numbers else "none yet; do: polyvec run"
