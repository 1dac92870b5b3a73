"""Writing a version: one writer a space; model and parts first, the commit last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import xxhash

from embedders.base import Batch, Encoder
from embedders.data import Rejected
from embedders.errors import InputError
from storage import delta, releases, tables
from storage.errors import DamagedError, QuarantinedError, ReplacedError, UnreachableError
from storage.layout import write_parts
from storage.lock import locked
from storage.manifest import Counts, Head, Manifest, Recipe, Start, library_versions, made_from
from storage.paths import MODEL, PARTS, Paths
from storage.places import AnyPath, building, check_writable, inside, put_folder, remove
from storage.reuse import NOTHING, Reuse, copies
from storage.room import room
from storage.space import Space, Version


@dataclass(frozen=True)
class Source:
    """What a version is made from. digest: of the dataset; options: digest of how it was read; rows: entities in it; upstream: spaces, with versions;
    start: vectors from outside; warm_start: the version of the same space that training went on from; folded_into: the
    one whose training still holds, when rows were only folded in; side: which of several entities learned together;
    duplicates: rows that have the content of an earlier one.
    """

    dataset: str
    digest: str
    rows: int
    upstream: Mapping[str, int]
    options: str | None = None
    rejected: tuple[Rejected, ...] = ()
    start: Start | None = None
    warm_start: int | None = None
    folded_into: int | None = None
    side: str = ""
    duplicates: int = 0

    @property
    def made_from(self) -> dict[str, int | str]:
        """As in the manifest."""
        return made_from(self.upstream, self.start)


@dataclass(frozen=True)
class Writer:
    """The right to add versions to one space; from `writing`.

    base : the Delta version it builds on, which is later than the parent's after a `gc`; None when there is no table.
    last : the highest number that a version of the space was ever given; 0 when there was none.
    """

    paths: Paths
    space: Space
    run: str
    parent: Version | None
    base: int | None
    last: int

    def commit(
        self,
        source: Source,
        encoder: Encoder[Any],
        batches: Iterable[Batch],
        excluded: Mapping[str, int],
        started: float,
        *,
        reuse: Reuse = NOTHING,
        encoder_of: Version | None = None,
        replace: bool = False,
    ) -> Version:
        """Write the model, the parts and the quarantine, then commit them as the next version.

        started : `time.monotonic()` at the beginning of the work, for the manifest.
        reuse : rows that are answered already; `batches` are the others.
        encoder_of : the version whose encoder this is, so that it is not written again.
        replace : let vectors of another dimension or similarity come under the same name.

        Raises
        ------
        ReplacedError : they are of another dimension or similarity, and `replace` is not set.
        QuarantinedError : every row was rejected.
        AccountingError : the rows do not add up.
        BusyError : somebody committed in between.
        """
        check_replaced(self.parent, encoder.entity, encoder.dim, encoder.similarity, replace=replace)
        number = self.last + 1
        recipe = encoder.recipe
        if encoder_of is None:
            model = self.paths.model(self.space.name, recipe.fingerprint, number, self.run)
        else:
            model = self.paths.root / encoder_of.manifest.model
        head = Head(
            space=self.space.name, version=number, entity=encoder.entity, dim=encoder.dim, similarity=encoder.similarity,
            recipe=Recipe(kind=recipe.kind, version=recipe.version, params=recipe.model_dump(mode="json")),
            fingerprint=recipe.fingerprint,
        )  # fmt: skip
        fresh = self.paths.parts(self.space.name, number, self.run)
        try:
            tally = Tally(encoder.dim)
            summary = head.model_dump(mode="json")
            streams = [copies(reuse.settled), chain(copies(reuse.moved), tally.watch(batches))]
            files = write_parts(streams, fresh, summary)
            counts = Counts(
                input=source.rows, embedded=tally.rows - tally.folded_in + reuse.resumed, reused=reuse.reused, folded_in=tally.folded_in, excluded=dict(excluded),
                quarantined=len(tally.rejected),
            )  # fmt: skip
            counts.check()
            rejected = tables.hold(self.paths, self.space.name, number, self.run, [*source.rejected, *tally.rejected])
            if not counts.rows:
                raise QuarantinedError(_all_rejected(self.space.name, tally.rejected))
            model_files = save_model(encoder, model) if encoder_of is None else dict(encoder_of.manifest.model_files)
            manifest = Manifest(
                **head.model_dump(),
                parent=None if self.parent is None else self.parent.number,
                side=source.side, dataset=source.dataset, dataset_digest=source.digest, dataset_options=source.options, dataset_rejected=len(source.rejected), duplicates=source.duplicates, upstream=dict(source.upstream), start=source.start, warm_start=source.warm_start, folded_into=source.folded_into, counts=counts,
                model=inside(model, self.paths.root), model_files=model_files, files=(*reuse.kept, *files), libraries=library_versions(),
                machine=_machine(encoder, source), seconds=round(time.monotonic() - started, 3), run=self.run, created=datetime.now(UTC),
            )  # fmt: skip
            committed = delta.commit(self.space.folder, manifest, self.base)
        except (
            UnreachableError
        ):  # it may stand, or come to stand, for all we can know; what it does not need, `gc` takes
            raise
        except BaseException:
            if delta.committed(self.space.folder, number, self.run) is None:
                remove(fresh)
                if encoder_of is None:
                    remove(model)
            raise
        tables.settle(self.paths, self.space.name, rejected)
        return Version(self.paths, manifest, committed)


def check_replaced(parent: Version | None, entity: str, dim: int, similarity: str, *, replace: bool) -> None:
    """Refuse vectors that cannot be compared with those that stand under the same name.

    Raises
    ------
    ReplacedError : what a row is, the dimension or the similarity differs, and `replace` is not set.
    """
    if parent is None:
        return
    m = parent.manifest
    if m.table != "vectors":
        raise ReplacedError(
            f"Got vectors for {m.space!r}, under which version {m.version} holds {m.table}; expected another name. Rename the space."
        )
    if replace:
        return
    if (entity, dim, similarity) != (m.entity, m.dim, m.similarity):
        raise ReplacedError(
            f"Got vectors of {dim} numbers, compared by {similarity}, one each {entity}, for space {m.space!r}, whose version "
            f"{m.version} has {m.dim}, compared by {m.similarity}, one each {m.entity}; expected the same, as readers rely on "
            "it. Name a new space, or run with --replace."
        )


def _machine(encoder: Encoder[Any], source: Source) -> dict[str, Any]:
    """How it was made; what went on from another version can be made again only with that one."""
    mode, before = dict(encoder.mode), source.warm_start or source.folded_into
    if before is not None and mode.get("reproducible", "no") != "no":
        mode["reproducible"] = f"{mode['reproducible']}, from version {before}"
    return mode


class Tally:
    """Counts the rows that pass by and keeps the rejected ones."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.rows = 0
        self.folded_in = 0
        self.rejected: list[Rejected] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if len(batch.vectors) and batch.vectors.matrix.shape[1] != self.dim:
                raise InputError(
                    f"Got vectors of {batch.vectors.matrix.shape[1]} numbers from an encoder whose dim is {self.dim}. "
                    "The embedder is wrong: run embedders.testing over it."
                )
            self.rows += len(batch.vectors)
            origins = [batch.origin] * len(batch.vectors) if isinstance(batch.origin, str) else list(batch.origin)
            self.folded_in += origins.count("folded_in")
            self.rejected.extend(batch.rejected)
            yield batch


def _all_rejected(space: str, rejected: list[Rejected]) -> str:
    codes = ", ".join(f"{code}: {n}" for code, n in Counter(r.code for r in rejected).most_common())
    first = f" The first: {rejected[0].message.rstrip('.')}." if rejected else ""
    return f"Got {len(rejected)} rows for space {space!r}, none of which could be embedded ({codes or 'no rows'}).{first} Mend the input."


def save_model(encoder: Encoder[Any], place: AnyPath) -> dict[str, str]:
    """Write the encoder beside its place, then move it there whole; the digest of each of its files."""
    with building(place) as folder:
        encoder.save(folder)
        digests = {path.name: xxhash.xxh3_128(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
        put_folder(folder, place)
    return digests


@contextmanager
def writing(
    space: Space, run: str, *, wait: float, waiting: Callable[[str], None], tidy: bool = True
) -> Iterator[Writer]:
    """The right to write `space`, for one run at a time; a lock left by a dead process is free (the kernel drops it).

    wait : seconds to wait for another run; `waiting(message)` is called once when there is one.
    tidy : clear away what a killed run left.

    Raises
    ------
    BusyError : another run still holds it after `wait` seconds; the message says who.
    NotWritableError : the store cannot be written.
    FullError : the disk is full.
    DamagedError : the space's log cannot be read, or has lost its end.
    """
    check_writable(space.paths.root)
    with room(space.paths.local), locked(space, run, wait, waiting):
        base = delta.newest(space.folder)
        parent = space.latest()
        last = last_number(space, parent)
        if tidy:
            _sweep(space, parent)
        yield Writer(space.paths, space, run, parent, base, last)


def last_number(space: Space, parent: Version | None) -> int:
    """The highest number that was given to a version, which releases remember of a space whose folder was deleted.

    Raises
    ------
    DamagedError : the log, or its end, is gone: what stands beside it must be neither swept nor written over.
    """
    made = releases.read(space.paths).releases
    held = max((release.spaces.get(space.name, 0) for release in made), default=0)
    last = 0 if parent is None else parent.number
    if held > last and (parent is not None or any(number <= held for number in _begun(space))):
        what = "ends at version " + str(last) if parent else "is gone"
        raise DamagedError(
            f"A release holds {space.name}@{held}, and the log in {space.folder} {what}. Restore it from a copy, or delete "
            "the space's folder to begin anew."
        )
    return max(held, last)


def _begun(space: Space) -> list[int]:
    """Numbers of versions whose parts lie in the space's folder."""
    names = [path.name for path in space.folder.iterdir()] if space.folder.is_dir() else []
    return [int(found[1]) for name in names if (found := PARTS.fullmatch(name))]


def _sweep(space: Space, parent: Version | None) -> None:
    """Remove what a killed run left: parts and models of versions that were never committed.

    In a bucket a writer elsewhere may be at work on them; there `gc` does it, once they are old.
    """
    if not isinstance(space.folder, Path):
        return
    last = 0 if parent is None else parent.number
    for folder, made in ((space.folder, PARTS), (space.paths.models(space.name), MODEL)):
        for path in folder.iterdir() if folder.is_dir() else ():
            found = made.fullmatch(path.name)
            if found and path.is_dir() and (int(found[1]) > last or path.name.endswith(".tmp")):
                remove(path)
