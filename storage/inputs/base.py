"""What all datasets share: `scan` looks at files and their digests only, so planning is cheap; `read` gives the data type."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, overload

from pydantic import BaseModel, ConfigDict

from embedders.base import Progress, silent
from embedders.data import Rows
from embedders.errors import InputError
from storage.digests import DigestCache, File, look
from storage.inputs.files import find_files


@dataclass(frozen=True)
class Scan:
    """The files of a dataset.

    Parameters
    ----------
    names : what each is called in ids.
    paths, digests : of each.
    digest : of names, contents and reading options.
    bytes : of all files.
    found : the files as they were looked at; a new time alone makes no other scan.
    assets : paths of other files that reading needs; their contents are part of `digest`.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    digests: tuple[str, ...]
    digest: str
    bytes: int
    found: tuple[File, ...] = field(default=(), compare=False)
    assets: tuple[str, ...] = ()

    @property
    def files(self) -> Sequence[Path]:
        """The paths as such."""
        return Files(self.paths)


@dataclass(frozen=True)
class Files(Sequence[Path]):
    """Paths, each made when it is asked for: a hundred thousand of them take as long as looking at the files does."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Files: ...
    def __getitem__(self, place: int | slice) -> Path | Files:
        return Files(self.paths[place]) if isinstance(place, slice) else Path(self.paths[place])


class DatasetSpec(BaseModel, ABC):
    """Base of all datasets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gives: ClassVar[tuple[type, ...]]  # the data types it can be read as, the usual one first
    reader: ClassVar[int] = 1  # raised when the same files and options may give other data
    suffixes: ClassVar[tuple[str, ...]]
    rejects: ClassVar[bool] = False  # a file that cannot be read is a row with a reason, and its digest ""

    @property
    @abstractmethod
    def pattern(self) -> str:
        """The path or glob as given."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """All of them, where there are several."""
        return (self.pattern,)

    @property
    def options_digest(self) -> str:
        """16 hex digits over what decides how the files are read, whatever they hold."""
        text = json.dumps([self.reader, self.options], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def holds_out(self) -> bool:
        """Whether part of it is kept from training. Other contents keep another part, so that training begins anew."""
        return False

    @abstractmethod
    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Any:
        """The dataset itself. kind: one of `gives`; cache: a local folder for what is derived from the files."""

    def rows(self, scan: Scan, cache: Path) -> Rows | None:
        """The rows, where they are told by the files and what the cache keeps of them; None where they have to be read.

        Raises
        ------
        InputError : as `read`.
        """
        return None

    def name(self, path: str) -> str:
        """What a file is called in ids. path: below the fixed part of the glob, with slashes."""
        return path

    @property
    def options(self) -> dict[str, Any]:
        """What decides how the files are read."""
        return self.model_dump(mode="json", exclude={"path", "edges"})

    @property
    def assets(self) -> dict[str, str]:
        """Other files that reading needs, by the option that names them."""
        return {}

    def told_by(self, paths: Sequence[str]) -> Sequence[Any]:
        """What the places of files say of their rows beside names, which the digest then holds, too."""
        return ()

    def check(self, paths: Sequence[str]) -> None:
        """Refuse files that the options do not fit.

        Raises
        ------
        InputError : there is such a file.
        """

    def scan(self, base: Path, cache: DigestCache) -> Scan:
        """Find the files (relative to `base`) and their digests.

        Raises
        ------
        InputError : there is none, or two have one name.
        """
        found: list[tuple[str, File]] = []
        for pattern in self.patterns:
            folder = Path(pattern).parent if len(self.patterns) > 1 else Path()  # a/links.tsv is not b/links.tsv
            files_of = find_files(pattern, base, self.suffixes)
            found += [((folder / name).as_posix(), file) for name, file in files_of.items()]
        names, files = [self.name(path) for path, _ in found], [file for _, file in found]
        paths = [file.path for file in files]
        check_unique(names, paths)
        self.check(paths)
        digests = cache.of(files, lenient=self.rejects)
        assets = {name: look(base.absolute() / Path(path).expanduser()) for name, path in self.assets.items()}
        options = self.options | dict(zip(assets, cache.of(list(assets.values())), strict=True))
        text = json.dumps([self.reader, options, names, digests, *self.told_by(paths)], ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        others = tuple(file.path for file in assets.values())
        return Scan(
            tuple(names), tuple(paths), tuple(digests), digest, sum(f.size for f in files), tuple(files), others
        )


def check_unique(names: Sequence[str], paths: Sequence[str]) -> None:
    """Two rows with one id are an error that names both places."""
    first: dict[str, str] = {}
    for name, path in zip(names, paths, strict=True):
        if name in first:
            raise InputError(
                f"Got the id {name!r} twice: {first[name]} and {path}; expected unique ids. Rename one, or set `id: path`."
            )
        first[name] = path
