"""Writing a version: one writer a space; model and parts first, the commit last."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from embedders.base import Batch, Encoder
from embedders.data import Rejected
from storage import delta, tables
from storage.errors import BusyError, NotWritableError, QuarantinedError
from storage.layout import write_parts
from storage.manifest import Counts, Head, Manifest, Recipe, library_versions
from storage.paths import Paths
from storage.space import Space, Version

_MADE = re.compile(r"(?:[0-9a-f]+-)?v(?P<version>\d+)-.+")  # a folder of parts or of a model


@dataclass(frozen=True)
class Source:
    """What a version is made from. digest: of the dataset; rows: entities in it; upstream: spaces, with versions."""

    dataset: str
    digest: str
    rows: int
    upstream: Mapping[str, int]
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class Writer:
    """The right to add versions to one space; from `writing`.

    base : the Delta version it builds on, which is later than the parent's after a vacuum; None when there is no table.
    """

    paths: Paths
    space: Space
    run: str
    parent: Version | None
    base: int | None

    def commit(
        self,
        source: Source,
        encoder: Encoder[Any],
        batches: Iterable[Batch],
        excluded: Mapping[str, int],
        started: float,
    ) -> Version:
        """Write the model, the parts and the quarantine, then commit them as the next version.

        started : `time.monotonic()` at the beginning of the work, for the manifest.

        Raises
        ------
        QuarantinedError : every row was rejected.
        AccountingError : the rows do not add up.
        BusyError : somebody committed in between.
        """
        number = 1 if self.parent is None else self.parent.number + 1
        recipe = encoder.recipe
        model = self.paths.model(self.space.name, recipe.fingerprint, number, self.run)
        head = Head(
            space=self.space.name, version=number, entity=encoder.entity, dim=encoder.dim, similarity=encoder.similarity,
            recipe=Recipe(kind=recipe.kind, version=recipe.version, params=recipe.model_dump(mode="json")),
            fingerprint=recipe.fingerprint,
        )  # fmt: skip
        fresh = self.paths.parts(self.space.name, number, self.run)
        try:
            tally = Tally()
            files = write_parts(tally.watch(batches), fresh, head.model_dump(mode="json"))
            counts = Counts(
                input=source.rows, embedded=tally.rows, excluded=dict(excluded), quarantined=len(tally.rejected)
            )
            counts.check()
            self._quarantine(number, [*source.rejected, *tally.rejected])
            if not tally.rows:
                raise QuarantinedError(_all_rejected(self.space.name, tally.rejected))
            save_model(encoder, model)
            manifest = Manifest(
                **head.model_dump(),
                parent=None if self.parent is None else self.parent.number,
                dataset=source.dataset, dataset_digest=source.digest, dataset_rejected=len(source.rejected), upstream=dict(source.upstream), counts=counts,
                model=model.relative_to(self.paths.root).as_posix(), files=tuple(files), libraries=library_versions(),
                machine=dict(encoder.mode), seconds=round(time.monotonic() - started, 3), run=self.run, created=datetime.now(UTC),
            )  # fmt: skip
            delta.commit(self.space.folder, manifest, self.base)
        except BaseException:
            if not delta.holds(self.space.folder, number, self.run):
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.rmtree(model, ignore_errors=True)
            raise
        return self.space.version(number)

    def _quarantine(self, version: int, rejected: list[Rejected]) -> None:
        tables.quarantine(self.paths, self.space.name, version, self.run, rejected)


class Tally:
    """Counts the rows that pass by and keeps the rejected ones."""

    def __init__(self) -> None:
        self.rows = 0
        self.rejected: list[Rejected] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.rows += len(batch.vectors)
            self.rejected.extend(batch.rejected)
            yield batch


def _all_rejected(space: str, rejected: list[Rejected]) -> str:
    codes = ", ".join(f"{code}: {n}" for code, n in Counter(r.code for r in rejected).most_common())
    first = f" The first: {rejected[0].message.rstrip('.')}." if rejected else ""
    return f"Got {len(rejected)} rows for space {space!r}, none of which could be embedded ({codes or 'no rows'}).{first} Mend the input."


def save_model(encoder: Encoder[Any], folder: Path) -> None:
    """Write the encoder beside its place, then move it there whole."""
    fresh = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    encoder.save(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def check_writable(root: Path) -> None:
    """Make the store's folder and try to write in it.

    Raises
    ------
    NotWritableError : it cannot be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise NotWritableError(
            f"Got the store path {str(root)!r}, which cannot be written ({error.strerror}). Name another folder under `store:`, or change its rights."
        ) from error


@contextmanager
def writing(space: Space, run: str, *, wait: float, waiting: Callable[[str], None]) -> Iterator[Writer]:
    """The right to write `space`, for one run at a time; a lock left by a dead process is free (the kernel drops it).

    wait : seconds to wait for another run; `waiting(message)` is called once when there is one.

    Raises
    ------
    BusyError : another run still holds it after `wait` seconds; the message says who.
    """
    check_writable(space.paths.root)
    path = space.paths.lock(space.name)
    path.parent.mkdir(exist_ok=True)
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting(f"space {space.name!r} is being written by {_who(holder)}; waiting up to {wait:.0f} s")
        try:
            lock.acquire(timeout=wait, poll_interval=0.2)
        except Timeout:
            raise BusyError(
                f"Space {space.name!r} is still being written by {_who(holder)} after {wait:.0f} s. Wait for that run, or stop it."
            ) from None
    try:
        holder.write_text(
            json.dumps(
                {
                    "run": run,
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
        )
        base = delta.newest(space.folder)
        parent = space.latest()
        _sweep(space, parent)
        yield Writer(space.paths, space, run, parent, base)
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        return f"run {found['run']} (process {found['pid']} on {found['host']}, since {found['since']})"
    except (OSError, ValueError, KeyError):
        return "another run"


def _sweep(space: Space, parent: Version | None) -> None:
    """Remove what a killed run left: parts and models of versions that were never committed."""
    last = 0 if parent is None else parent.number
    for path in [*space.folder.glob("v*"), *space.paths.models(space.name).glob("*-v*")]:
        found = _MADE.fullmatch(path.name)
        if found and path.is_dir() and (int(found["version"]) > last or path.name.endswith(".tmp")):
            shutil.rmtree(path, ignore_errors=True)
