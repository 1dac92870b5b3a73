"""The vector store: a folder of spaces."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from embedders.errors import InputError
from storage import delta, tables
from storage.errors import NotFoundError
from storage.paths import NAME, Paths
from storage.space import Space, Version


class VectorStore:
    """All spaces under one folder. Opening one reads nothing and makes nothing.

    >>> VectorStore("no-such-folder").spaces()
    []
    """

    def __init__(self, root: str | PathLike[str]) -> None:
        if "://" in str(root):
            raise InputError(f"Got the store {str(root)!r}; object stores are not available yet. Name a folder.")
        path = Path(root).absolute()
        self.paths = Paths(path.resolve() if ".." in path.parts else path)

    @property
    def root(self) -> Path:
        return self.paths.root

    def spaces(self) -> list[str]:
        """Names of the spaces that have a version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if NAME.fullmatch(path.name) and delta.is_table(path))

    def space(self, name: str) -> Space:
        """A space by name, whether it has versions yet or not.

        Raises
        ------
        InputError : the name is not fit to be a space's.
        """
        self.paths.space(name)
        return Space(self.paths, name)

    def find(self, reference: str) -> Version:
        """The version that "SPACE", "SPACE@7" or "SPACE@latest" names.

        Raises
        ------
        NotFoundError : there is no such space or version.
        """
        name, _, which = reference.partition("@")
        if name not in self.spaces():
            known = ", ".join(self.spaces()) or "none yet; do: polyvec run"
            raise NotFoundError(f"Got space {name!r}, which is not in {self.root}. Spaces there: {known}.")
        return self.space(name).version(which or "latest")

    def metrics(self, version: Version) -> list[dict[str, Any]]:
        """What was measured of a version, oldest first."""
        return tables.metrics(self.paths, version.manifest.space, version.number)

    def quarantine(self, version: Version) -> list[dict[str, Any]]:
        """The rows that a version left out: id, location, code, message, time."""
        return tables.quarantined(self.paths, version.manifest.space, version.number, version.manifest.run)

    def __repr__(self) -> str:
        return f"VectorStore({str(self.root)!r})"
