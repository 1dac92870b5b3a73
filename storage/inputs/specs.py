"""Datasets as the pipeline file names them: where the files are and how they are read.

`scan` looks at files and their digests only, so planning is cheap; `read` gives the embedder's data type.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, overload

from pydantic import BaseModel, ConfigDict, Field

from embedders.base import Progress, silent
from embedders.data import Corpus, Documents, Graph, Images, Rows
from embedders.errors import InputError
from embedders.text.tokens import Tokens
from storage.digests import DigestCache
from storage.inputs.files import find_files


@dataclass(frozen=True)
class Scan:
    """The files of a dataset. names: what each is called in ids; digest: of names, contents and reading options."""

    names: tuple[str, ...]
    paths: tuple[str, ...]
    digests: tuple[str, ...]
    digest: str
    bytes: int

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

    @property
    @abstractmethod
    def pattern(self) -> str:
        """The path or glob as given."""

    @abstractmethod
    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Any:
        """The dataset itself. kind: one of `gives`; cache: a local folder for what is derived from the files."""

    def rows(self, scan: Scan) -> Rows | None:
        """The rows, where the files alone tell them; None where they have to be read."""
        return None

    def name(self, path: str) -> str:
        """What a file is called in ids. path: below the fixed part of the glob, with slashes."""
        return path

    def scan(self, base: Path, cache: DigestCache) -> Scan:
        """Find the files (relative to `base`) and their digests.

        Raises
        ------
        InputError : there is none, or two have one name.
        """
        found = find_files(self.pattern, base, self.suffixes)
        names, files = [self.name(path) for path in found], list(found.values())
        paths = [file.path for file in files]
        _check_unique(names, paths)
        digests = cache.of(files)
        options = self.model_dump(mode="json", exclude={"path", "edges"})
        text = json.dumps([self.reader, options, names, digests], ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Scan(tuple(names), tuple(paths), tuple(digests), digest, sum(file.size for file in files))


class CorpusSpec(DatasetSpec):
    """Text, a document a line."""

    gives: ClassVar[tuple[type, ...]] = (Corpus, Documents)
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".txt.gz")

    kind: Literal["corpus"]
    path: str = Field(min_length=1, description="a .txt or .gz file, a folder, or a glob")
    tokens: Tokens = Field(
        "words",
        description="`words`: lower-cased letters and digits with inner apostrophes; `whitespace`: as it stands",
    )

    @property
    def pattern(self) -> str:
        return self.path

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Corpus | Documents:
        from storage.inputs.corpus import read_corpus, read_documents

        read = read_documents if kind is Documents else read_corpus
        return read(list(zip(scan.names, scan.files, strict=True)), tokens=self.tokens, progress=progress)


class ImagesSpec(DatasetSpec):
    """Pictures, a file each."""

    gives: ClassVar[tuple[type, ...]] = (Images,)
    suffixes: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

    kind: Literal["images"]
    path: str = Field(min_length=1, description="a folder or a glob")
    id: Literal["path", "stem", "name"] = Field(
        "path",
        description="what identifies a picture: its path below the fixed part of the glob, its file name with or without the extension",
    )

    @property
    def pattern(self) -> str:
        return self.path

    def name(self, path: str) -> str:
        if self.id == "path":
            return path
        name = path.rpartition("/")[2]
        return name if self.id == "name" else posixpath.splitext(name)[0]

    def rows(self, scan: Scan) -> Images:
        return Images(scan.names, scan.files, scan.digests)

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Images:
        return Images(scan.names, scan.files, scan.digests)


class EdgeColumns(BaseModel):
    """Role to column name; given, the file must have a header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    weight: str | None = None


class GraphSpec(DatasetSpec):
    """An edge list."""

    gives: ClassVar[tuple[type, ...]] = (Graph,)
    suffixes: ClassVar[tuple[str, ...]] = (".tsv", ".csv", ".txt")

    kind: Literal["graph"]
    edges: str = Field(min_length=1, description="a .tsv, .csv or .txt file, plain or .gz; an edge a line")
    columns: EdgeColumns | None = Field(
        None, description="role to column name; without it the first two columns, and no header"
    )
    directed: bool = Field(False, description="whether an edge leads one way only")

    @property
    def pattern(self) -> str:
        return self.edges

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Graph:
        from storage.inputs.graph import read_graph

        names = None if self.columns is None else (self.columns.source, self.columns.target, self.columns.weight)
        return read_graph(scan.files, columns=names, directed=self.directed)


AnyDataset = Annotated[CorpusSpec | ImagesSpec | GraphSpec, Field(discriminator="kind")]


def _check_unique(names: Sequence[str], paths: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, path in zip(names, paths, strict=True):
        if name in first:
            raise InputError(
                f"Got the id {name!r} twice: {first[name]} and {path}; expected unique ids. Rename one, or set `id: path`."
            )
        first[name] = path
