"""Reading a dataset of pictures: files, and the members of zip, tar and Parquet files, with their digests and labels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import overload

from embedders.base import Progress
from embedders.data import Images
from embedders.image.opening import Source
from storage.digests import file_digest
from storage.inputs import images_labels
from storage.inputs.base import Scan, check_unique
from storage.inputs.images_index import Index, Member, index
from storage.inputs.images_spec import ImagesSpec, LabelFile, is_container, kind


def plain(spec: ImagesSpec, scan: Scan) -> Images | None:
    """A dataset of single files, without labels; None where containers have to be read."""
    return None if any(map(is_container, scan.paths)) else Images(scan.names, scan.files, scan.digests)


def read(spec: ImagesSpec, scan: Scan, cache: Path, progress: Progress) -> Images:
    """The pictures, in the order of the files and of the members in each.

    Raises
    ------
    InputError : a container is damaged or holds no picture; two pictures have one id; labels cannot be read.
    """
    found = plain(spec, scan) or _members(spec, scan, cache, progress)
    if spec.labels is None or found.labels is not None:
        return found
    if isinstance(spec.labels, LabelFile):
        return replace(found, labels=images_labels.table(spec.labels, Path(scan.assets[0]), found.ids))
    return replace(found, labels=[images_labels.folder(path) for path in scan.paths])


def _members(spec: ImagesSpec, scan: Scan, cache: Path, progress: Progress) -> Images:
    ids: list[str] = []
    digests: list[str] = []
    labels: list[str | None] = []
    parts: list[Index | Path] = []
    several = scan.names != (Path(spec.pattern).name,)  # one may become two, and ids should stay
    for name, file, digest in zip(scan.names, scan.found, scan.digests, strict=True):
        if not is_container(file.path):
            parts.append(Path(file.path))
            ids.append(name)
            digests.append(digest)
            labels.append(images_labels.folder(file.path))
            continue
        part = index(spec, file, digest or file_digest(Path(file.path)), cache, progress)
        parts.append(part)
        ids += _ids(spec, part, name, several=several)
        digests += [found or "" for found in part.texts("digest")]
        labels += map(images_labels.folder, part.texts("name")) if spec.labels == "folder" else part.texts("label")
    images = Images(ids, Sources(parts), digests)
    if len(set(ids)) < len(ids):
        check_unique(ids, [images.location(row) for row in range(len(ids))])
    return images if spec.labels is None or isinstance(spec.labels, LabelFile) else replace(images, labels=labels)


def _ids(spec: ImagesSpec, part: Index, container: str, *, several: bool) -> list[str]:
    if spec.columns is not None and spec.columns.id is not None and kind(container) == ".parquet":
        return part.texts("id")
    names = part.texts("name")
    if kind(container) == ".parquet":
        return [f"{container}:{name}" for name in names]
    before = f"{container}/" if several and spec.id == "path" else ""
    return [before + spec.member(name) for name in names]


class Sources(Sequence[Source]):
    """Files, and the members of containers, as one sequence; each is made when it is asked for."""

    def __init__(self, parts: Sequence[Index | Path]) -> None:
        sizes = (part.table.num_rows if isinstance(part, Index) else 1 for part in parts)
        self._parts, self._ends = parts, list(accumulate(sizes))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, row: int) -> Source: ...
    @overload
    def __getitem__(self, row: slice) -> list[Source]: ...
    def __getitem__(self, row: int | slice) -> Source | list[Source]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        at = bisect_right(self._ends, row)
        part = self._parts[at]
        return Member(part, row - self._ends[at] + part.table.num_rows) if isinstance(part, Index) else part
