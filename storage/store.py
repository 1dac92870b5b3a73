"""The vector store: a folder of spaces."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from storage import delta, promotion, releases, tables
from storage.errors import NotFoundError
from storage.paths import NAME, Paths
from storage.places import AnyPath, place_of
from storage.releases import PRODUCTION, Move, Release
from storage.space import Space, Version


class VectorStore:
    """All spaces under one folder, or under one s3://bucket/prefix. Opening one reads nothing and makes nothing.

    >>> VectorStore("no-such-folder").spaces()
    []
    """

    def __init__(self, root: str | PathLike[str]) -> None:
        self.paths = Paths(place_of(root))

    @property
    def root(self) -> AnyPath:
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
        """The version that "SPACE@7", "SPACE@latest" or "SPACE@production" names.

        "SPACE" alone is production's version, or the latest while production holds none of the space.

        Raises
        ------
        NotFoundError : there is no such space or version.
        """
        name, _, which = reference.partition("@")
        if not NAME.fullmatch(name) or not delta.is_table(self.root / name):
            known = ", ".join(self.spaces()) or "none yet; do: polyvec run"
            raise NotFoundError(f"Got space {name!r}, which is not in {self.root}. Spaces there: {known}.")
        if not which:  # by its number: the releases need not be read again for it
            return self.space(name).version((self.release() or {}).get(name, "latest"))
        return self.space(name).version(which)

    def release(self, name: str = PRODUCTION) -> Mapping[str, int] | None:
        """The spaces of the release that a name points at, each with its version; None when it points at none."""
        release = releases.read(self.paths).pointed(name)
        return None if release is None else dict(release.spaces)

    def releases(self) -> tuple[Release, ...]:
        """All releases, oldest first."""
        return releases.read(self.paths).releases

    def promote(
        self, number: int, *, name: str = PRODUCTION, expected: int | None = None, who: str | None = None, why: str = ""
    ) -> Move:
        """Point a name at a release. expected: the release it must point at now, 0 for none.

        Raises
        ------
        NotFoundError : there is no such release, or a version of it was taken out since.
        MovedError : the name points elsewhere than expected; nothing was moved.
        """
        return promotion.move(self.paths, number, name=name, expected=expected, who=who, why=why)

    def rollback(
        self, *, name: str = PRODUCTION, expected: int | None = None, who: str | None = None, why: str = ""
    ) -> Move:
        """Point a name at the release that it left last.

        Raises
        ------
        NotFoundError : there is none before, or a version of it was taken out since.
        MovedError : the name points elsewhere than expected; nothing was moved.
        """
        return promotion.rollback(self.paths, name=name, expected=expected, who=who, why=why)

    def metrics(self, version: Version) -> list[dict[str, Any]]:
        """What was measured of a version, oldest first."""
        return tables.metrics(self.paths, version.manifest.space, version.number)

    def quarantine(self, version: Version) -> list[dict[str, Any]]:
        """The rows that a version left out and that still cannot be embedded: id, location, code, message, time."""
        return [row for row in self.quarantined(version.manifest.space) if row["version"] <= version.number]

    def quarantined(self, space: str) -> list[dict[str, Any]]:
        """The rows of a space that cannot be embedded now; it need not have a version."""
        return tables.quarantined(self.paths, space)

    def __repr__(self) -> str:
        return f"VectorStore({str(self.root)!r})"
