"""A dataset of pictures as the pipeline file names it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedders.base import Progress, silent
from embedders.data import Images
from embedders.errors import InputError
from storage.inputs.base import DatasetSpec, Scan

ARCHIVES = (".zip", ".tar")
CONTAINERS = (*ARCHIVES, ".parquet")
"""Files of many pictures."""
PACKED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
"""Archives from whose middle nothing can be read."""


class ImageColumns(BaseModel):
    """Role to column name, in Parquet files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = Field(
        None, min_length=1, description="the pictures' bytes; without it the only column of bytes, or of {bytes, path}"
    )
    id: str | None = Field(None, min_length=1, description="what identifies each; without it `path:row`")


class LabelFile(BaseModel):
    """A table with a header of ids and labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(min_length=1, description="a .csv, .tsv, .jsonl or .parquet file")
    id: str = Field("id", min_length=1, description="the column of ids")
    label: str = Field("label", min_length=1, description="the column of labels")


class LabelColumn(BaseModel):
    """Labels that stand beside the pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str = Field(min_length=1, description="a column of Parquet files; in zip and tar a field of KEY.json")


class ImagesSpec(DatasetSpec):
    """Pictures: a file each, or many in a zip, tar or Parquet file."""

    gives: ClassVar[tuple[type, ...]] = (Images,)
    suffixes: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

    rejects: ClassVar[bool] = True

    kind: Literal["images"]
    path: str = Field(
        min_length=1, description="a folder of pictures, a .zip, .tar or .parquet file of them, or a glob of either"
    )
    id: Literal["path", "stem", "name", "key"] = Field(
        "path",
        description="what identifies a picture: its path below the fixed part of the glob or in its archive, its file name with or without the extension, or its path up to the first dot of the file name (WebDataset)",
    )
    columns: ImageColumns | None = Field(None, description="role to column name, in .parquet files")
    labels: Literal["folder", "cls"] | LabelFile | LabelColumn | None = Field(
        None,
        description="the class of each picture: the name of its `folder`, KEY.`cls` beside it in its archive, a {file} of ids and labels, or a {column}",
    )

    @property
    def pattern(self) -> str:
        return self.path

    @property
    def options(self) -> dict[str, Any]:
        """Those that are as they would be without a word do not count, so that new ones change no old digest."""
        return self.model_dump(mode="json", exclude={"path": True, "labels": {"file"}}, exclude_none=True)

    @property
    def assets(self) -> dict[str, str]:
        return {"labels.file": self.labels.file} if isinstance(self.labels, LabelFile) else {}

    def name(self, path: str) -> str:
        return path if is_container(path) else self.member(path)

    def member(self, path: str) -> str:
        """What a picture is called. path: below the fixed part of the glob, or in its archive."""
        if self.id == "path":
            return path
        folder, _, name = path.rpartition("/")
        if self.id == "key":
            return posixpath.join(folder, key(name))
        return name if self.id == "name" else posixpath.splitext(name)[0]

    def told_by(self, paths: Sequence[str]) -> Sequence[Any]:
        """The folders' names where these are labels; paths that are ids hold them already."""
        return (
            [[posixpath.dirname(path).rpartition("/")[2] for path in paths]]
            if self.labels == "folder" and self.id != "path"
            else ()
        )

    def check(self, paths: Sequence[str]) -> None:
        if packed := next((path for path in paths if path.lower().endswith(PACKED)), None):
            raise InputError(
                f"Got {packed!r}, from whose middle no picture can be read; expected .zip or .tar. Unpack it (gunzip, or tar); pictures take no more room so."
            )
        kinds = {kind(path) for path in paths}
        if ".parquet" not in kinds and self.columns is not None:
            raise InputError(f"Got columns for {paths[0]!r}; expected .parquet files. Leave `columns:` out.")
        if ".parquet" in kinds and self.id != "path":
            raise InputError(
                f"Got `id: {self.id}` for Parquet; expected `columns: {{id: NAME}}`. Name the column of ids."
            )
        lacking = {"folder": {".parquet"}, "cls": {"", ".parquet"}}.get(self.labels, set()) if isinstance(self.labels, str) else set()  # fmt: skip
        if isinstance(self.labels, LabelColumn):
            lacking = {""}
        if found := kinds & lacking:
            what = next(path for path in paths if kind(path) in found)
            raise InputError(
                f"Got labels {self.labels!s} for {what!r}, which has none of them; expected `folder`, `cls` (zip, tar), {{column: NAME}} (Parquet, zip, tar) or {{file: FILE}} (any). Name another source."
            )

    def rows(self, scan: Scan, cache: Path) -> Images | None:
        """Always: what is looked up in a container for a plan is kept for the run."""
        return self.read(scan, Images, cache=cache)

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Images:
        from storage.inputs import images

        return images.read(self, scan, cache, progress)


def kind(path: str) -> str:
    """The suffix of a container; "" for a picture."""
    lower = path.lower()
    return posixpath.splitext(lower)[1] if lower.endswith(CONTAINERS) else ""


def is_container(path: str) -> bool:
    """Whether a file holds many pictures."""
    return path.lower().endswith(CONTAINERS)


def key(name: str) -> str:
    """A file name up to its first dot: what WebDataset joins a sample's files by."""
    return name.split(".", 1)[0]
