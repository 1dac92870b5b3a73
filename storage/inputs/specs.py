"""Datasets as the pipeline file names them: where the files are and how they are read.

`scan` looks at files and their digests only, so planning is cheap; `read` gives the embedder's data type.
"""

from __future__ import annotations

import glob
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedders.base import Progress, silent
from embedders.data import Corpus, Graph, Images
from embedders.errors import InputError
from embedders.text.tokens import Tokens
from storage.digests import DigestCache


@dataclass(frozen=True)
class Scan:
    """The files of a dataset. names: what each is called in ids; digest: of names, contents and reading options."""

    names: tuple[str, ...]
    files: tuple[Path, ...]
    digests: tuple[str, ...]
    digest: str
    bytes: int


class DatasetSpec(BaseModel, ABC):
    """Base of all datasets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: ClassVar[type]
    reader: ClassVar[int] = 1  # raised when the same files and options may give other data
    suffixes: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def pattern(self) -> str:
        """The path or glob as given."""

    @abstractmethod
    def read(self, scan: Scan, *, progress: Progress = silent) -> Any:
        """The dataset itself."""

    def name(self, path: Path, root: Path) -> str:
        """What a file is called in ids."""
        return path.relative_to(root).as_posix()

    def scan(self, base: Path, cache: DigestCache) -> Scan:
        """Find the files (relative to `base`) and their digests.

        Raises
        ------
        InputError : there is none, or two have one name.
        """
        root, files = find_files(self.pattern, base, self.suffixes)
        names = [self.name(path, root) for path in files]
        _check_unique(names, files)
        digests = cache.digests(files)
        options = self.model_dump(mode="json", exclude={"path", "edges"})
        text = json.dumps([self.reader, options, names, digests], ensure_ascii=False)
        size = sum(path.stat().st_size for path in files)
        return Scan(tuple(names), tuple(files), tuple(digests), hashlib.sha256(text.encode()).hexdigest(), size)


class CorpusSpec(DatasetSpec):
    """Text, a document a line."""

    data: ClassVar[type] = Corpus
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

    def read(self, scan: Scan, *, progress: Progress = silent) -> Corpus:
        from storage.inputs.corpus import read_corpus

        return read_corpus(list(zip(scan.names, scan.files, strict=True)), tokens=self.tokens, progress=progress)


class ImagesSpec(DatasetSpec):
    """Pictures, a file each."""

    data: ClassVar[type] = Images
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

    def name(self, path: Path, root: Path) -> str:
        return path.relative_to(root).as_posix() if self.id == "path" else getattr(path, self.id)

    def read(self, scan: Scan, *, progress: Progress = silent) -> Images:
        return Images(scan.names, scan.files, scan.digests)


class EdgeColumns(BaseModel):
    """Role to column name; given, the file must have a header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    weight: str | None = None


class GraphSpec(DatasetSpec):
    """An edge list."""

    data: ClassVar[type] = Graph
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

    def read(self, scan: Scan, *, progress: Progress = silent) -> Graph:
        from storage.inputs.graph import read_graph

        names = None if self.columns is None else (self.columns.source, self.columns.target, self.columns.weight)
        return read_graph(scan.files, columns=names, directed=self.directed)


AnyDataset = Annotated[CorpusSpec | ImagesSpec | GraphSpec, Field(discriminator="kind")]


def find_files(pattern: str, base: Path, suffixes: Sequence[str]) -> tuple[Path, list[Path]]:
    """Files that a path or glob names, in the order of their names, and the folder their names start from.

    A folder stands for all files below it that end in `suffixes`. Hidden files are left out.

    Raises
    ------
    InputError : nothing matches.
    """
    path = base / Path(pattern).expanduser()
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.name.lower().endswith(tuple(suffixes)) and not _hidden(p, path)]
        root, expected = path, f"files below it that end in {', '.join(suffixes)}"
    elif glob.has_magic(pattern) and not path.exists():
        parts = Path(pattern).expanduser().parts  # `base` is no pattern, whatever its folders are called
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root, expected = base.joinpath(*parts[:fixed]), "at least one file that matches"
        rest = str(Path(*parts[fixed:]))
        found = [root / p for p in glob.glob(rest, root_dir=root, recursive=True)]  # noqa: PTH207  (pathlib has no hidden-file rule)
    else:
        root, expected, found = path.parent, "a file, a folder or a glob", [path]
    files = sorted((p for p in found if p.is_file()), key=lambda p: p.relative_to(root).as_posix())
    if not files:
        lack = "a folder without such files" if path.is_dir() else "where there is no such file"
        raise InputError(
            f"Got path {pattern!r} ({path}), {lack}; expected {expected}. Mend the path (it is relative to the pipeline file)."
        )
    for file in files:
        if not _is_text(str(file)):
            raise InputError(f"Got the file name {str(file)!r}, which is not UTF-8; expected text. Rename the file.")
    return root, files


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _check_unique(names: Sequence[str], files: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for name, path in zip(names, files, strict=True):
        if name in first:
            raise InputError(
                f"Got the id {name!r} twice: {first[name]} and {path}; expected unique ids. Rename one, or set `id: path`."
            )
        first[name] = path
