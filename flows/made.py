"""The newest versions of what one entry of the pipeline file writes: one space, or one for each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedders.base import Embedder, Encoder, Sides
from storage.manifest import Manifest
from storage.space import Version


@dataclass(frozen=True, eq=False)
class Made:
    """Versions that one training made. versions : by the name of their space, the first side first."""

    versions: Mapping[str, Version]

    @property
    def first(self) -> Version:
        """What is said of one is true of all: recipe, dataset, upstream, run."""
        return next(iter(self.versions.values()))

    @property
    def manifest(self) -> Manifest:
        return self.first.manifest

    @property
    def number(self) -> int:
        return self.first.number

    def missing(self) -> list[str]:
        """Parquet parts that are not there, or cut short."""
        return [str(part) for version in self.versions.values() for part in version.missing()]

    def encoder(self, recipe: Embedder[Any]) -> Encoder[Any]:
        """What was learned, all sides together.

        Raises
        ------
        DamagedError, InputError : it cannot be read.
        """
        if not self.manifest.side:
            return self.first.encoder(recipe)
        return Sides(recipe, {v.manifest.side: v.encoder(recipe) for v in self.versions.values()})


def made(newest: Mapping[str, Version | None]) -> Made | None:
    """The newest versions of an entry's spaces; None when one has none, or they come from several trainings."""
    found = {space: version for space, version in newest.items() if version is not None}
    if len(found) < len(newest) or len({(v.manifest.run, v.manifest.fingerprint) for v in found.values()}) > 1:
        return None
    return Made(found)
