"""The manifest: what a version is and how it came about. It travels in the Delta commit, beside the data it describes."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from embedders.base import Similarity
from storage.errors import AccountingError, DamagedError, StoreError

FORMAT: Literal[1] = 1
KEY = "polyvec"  # in the commit's metadata and in the Parquet key-value metadata


class Record(BaseModel):
    """Base of what is written to the store: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Counts(Record):
    """Rows in and rows out, in the space's entities: input = embedded + reused + folded_in + excluded + quarantined."""

    input: NonNegativeInt
    embedded: NonNegativeInt
    reused: NonNegativeInt = 0
    folded_in: NonNegativeInt = 0
    excluded: Mapping[str, NonNegativeInt] = Field(default_factory=dict, description="by rule, reason to rows")
    quarantined: NonNegativeInt = 0

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return self.embedded + self.reused + self.folded_in

    def check(self) -> None:
        """Compare both sides.

        Raises
        ------
        AccountingError : they differ.
        """
        out = self.rows + sum(self.excluded.values()) + self.quarantined
        if self.input != out:
            raise AccountingError(
                f"Got {self.input:,} rows in and {out:,} out ({self.model_dump()}); expected the same. Nothing was "
                "committed. The embedder answers some ids twice or not at all: run embedders.testing over it."
            )


class FileEntry(Record):
    """One Parquet part. path: relative to the space's folder; xxh128: XXH3's 128 bits of its bytes
    (`xxhsum -H2`), against damage, not against forgery.
    """

    path: str
    rows: NonNegativeInt
    size: NonNegativeInt
    xxh128: str


class Recipe(Record):
    """The embedder and its parameters."""

    kind: str
    version: int
    params: Mapping[str, Any]


class Start(Record):
    """Vectors from outside the store that training began at. name: as the pipeline file has it; digest: of their bytes."""

    name: str
    digest: str


class Head(Record):
    """What each Parquet part repeats in its own metadata, so that a lone file explains itself."""

    format: Literal[1] = FORMAT
    space: str
    version: PositiveInt
    entity: str
    dim: PositiveInt
    similarity: Similarity
    recipe: Recipe
    fingerprint: str


class Manifest(Head):
    """What a version is and how it came about."""

    parent: PositiveInt | None
    table: Literal["vectors", "recommendations"] = Field(
        "vectors", description="what its rows are; of recommendations a user has one list, of `dim` items at most"
    )
    side: str = Field("", description="which of several entities that were learned together; empty where there is one")
    dataset: str
    dataset_digest: str
    dataset_options: str | None = Field(None, description="digest of how the dataset was read, whatever it held")
    dataset_rejected: NonNegativeInt = Field(0, description="documents of the dataset that could not be read")
    duplicates: NonNegativeInt = Field(0, description="rows of the dataset that have the content of an earlier one")
    counts: Counts
    model: str = Field(description="the fitted encoder, relative to the store; empty where there is none")
    model_files: Mapping[str, str] = Field(
        default_factory=dict, description="files of the encoder, with their XXH3-128"
    )
    files: tuple[FileEntry, ...]
    upstream: Mapping[str, int] = Field(
        default_factory=dict, description="spaces it was made from, with their versions"
    )
    start: Start | None = Field(None, description="a file or package of vectors that training began at")
    warm_start: PositiveInt | None = Field(None, description="the version of this space that training went on from")
    folded_into: PositiveInt | None = Field(
        None, description="the version whose training the vectors come from, when rows were only folded in since"
    )
    libraries: Mapping[str, str]
    machine: Mapping[str, Any] = Field(description="threads, precision and device that were used")
    seconds: float
    run: str
    created: datetime

    @property
    def made_from(self) -> dict[str, int | str]:
        """What training began at by the pipeline file, besides the dataset; another one makes another version."""
        return made_from(self.upstream, self.start)


def made_from(upstream: Mapping[str, int], start: Start | None) -> dict[str, int | str]:
    """Spaces with their versions, and the digest of vectors from outside (no space has a name with a colon)."""
    return {**upstream, **({} if start is None else {"start:": start.digest})}


def read_manifest(text: str, place: str) -> Manifest:
    """Parse a manifest.

    Raises
    ------
    StoreError : its format number is newer than this polyvec reads.
    DamagedError : it is no manifest.
    """
    try:
        found = json.loads(text)
        number = found.get("format")
        if number == FORMAT:
            return Manifest.model_validate(found)
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"The manifest in {place} cannot be read ({error}). Restore it from a copy.") from error
    raise StoreError(
        f"Got a manifest of format {number} in {place}; this polyvec reads format {FORMAT}. Upgrade polyvec."
    )


@cache
def library_versions() -> dict[str, str]:
    """Versions of what numbers depend on, as installed."""
    names = ["polyvec", "numpy", "numba", "pyarrow", "deltalake", "torch", "torchvision"]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
