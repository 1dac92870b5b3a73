"""A store on top of another one, for work that is thrown away: written above, read from beneath."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from storage.paths import Paths
from storage.places import AnyPath
from storage.store import VectorStore


@dataclass(frozen=True)
class Overlay(Paths):
    """The paths of such a store. above : the spaces that lie in `root`; all others, and the caches, are those beneath."""

    beneath: Paths
    above: frozenset[str]

    def space(self, name: str) -> AnyPath:
        return super().space(name) if name in self.above else self.beneath.space(name)

    @property
    def cache(self) -> Path:
        return self.beneath.cache


def overlay(folder: Path, store: VectorStore, spaces: Collection[str]) -> VectorStore:
    """A store in `folder` that has `spaces` of its own; the others are those of `store`, to be read."""
    found = VectorStore(folder)
    found.paths = Overlay(found.root, store.paths, frozenset(spaces))
    return found
