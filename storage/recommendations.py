"""Writing a version of recommendations: parts first, the commit last, as of a space."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from embedders.base import Similarity
from embedders.errors import InputError
from storage import delta
from storage.errors import ReplacedError, UnreachableError
from storage.lists import write_lists
from storage.manifest import Counts, Head, Manifest, Recipe, library_versions
from storage.places import remove
from storage.space import Version
from storage.writer import Source, Writer

NOTHING = "nothing unseen"


@dataclass(frozen=True, eq=False)
class Piece:
    """The lists of some users. users : how many were asked for. listed : how many have a list that is not empty."""

    table: pa.Table
    users: int
    listed: int


def commit_lists(
    writer: Writer, recipe: Recipe, fingerprint: str, source: Source, pieces: Iterable[Piece], *, k: int, similarity: Similarity,
    threads: int, started: float,
) -> Version:  # fmt: skip
    """Write lists of at most k items and commit them as the next version.

    source : `rows` and what else is said of vectors is not looked at. started : `time.monotonic()` at the beginning.

    Raises
    ------
    InputError : no list holds an item.
    ReplacedError : vectors stand under this name.
    BusyError : somebody committed in between.
    """
    check_lists(writer.parent, writer.space.name)
    number = writer.last + 1
    head = Head(
        space=writer.space.name, version=number, entity="user", dim=k, similarity=similarity, recipe=recipe, fingerprint=fingerprint
    )  # fmt: skip
    fresh = writer.paths.parts(writer.space.name, number, writer.run)
    users = listed = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal users, listed
        for piece in pieces:
            users, listed = users + piece.users, listed + piece.listed
            yield piece.table

    try:
        files = write_lists(tables(), fresh, head.model_dump(mode="json"))
        if not files:
            raise InputError(
                f"Got {users:,} users for {writer.space.name!r}, none of whom has an item left to recommend; expected some. Say seen: kept."
            )
        counts = Counts(input=users, embedded=listed, excluded={NOTHING: users - listed} if listed < users else {})
        manifest = Manifest(
            **head.model_dump(), table="recommendations", parent=None if writer.parent is None else writer.parent.number,
            dataset=source.dataset, dataset_digest=source.digest, dataset_options=source.options, upstream=dict(source.upstream),
            counts=counts, model="", files=tuple(files), libraries=library_versions(), machine={"threads": threads},
            seconds=round(time.monotonic() - started, 3), run=writer.run, created=datetime.now(UTC),
        )  # fmt: skip
        committed = delta.commit(writer.space.folder, manifest, writer.base)
    except UnreachableError:  # it may stand, or come to stand, for all we can know
        raise
    except BaseException:
        if delta.committed(writer.space.folder, number, writer.run) is None:
            remove(fresh)
        raise
    return Version(writer.paths, manifest, committed)


def check_lists(parent: Version | None, name: str) -> None:
    """Refuse to put recommendations under the name of a space.

    Raises
    ------
    ReplacedError : vectors stand there.
    """
    if parent is not None and parent.manifest.table != "recommendations":
        raise ReplacedError(
            f"Got recommendations for {name!r}, under which version {parent.number} holds vectors; expected another name. Rename the output."
        )
