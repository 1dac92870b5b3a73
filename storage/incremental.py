"""What a run of an inductive embedder can go on from: the parent's rows and encoder, or a cut-off encode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embedders.base import Embedder, Encoder
from embedders.data import Rows
from embedders.errors import InputError
from storage.errors import DamagedError, UnreachableError
from storage.manifest import FileEntry
from storage.places import AnyPath, together
from storage.reuse import Known, Reuse, plan_reuse
from storage.space import Version
from storage.unfinished import Unfinished
from storage.writer import Writer


@dataclass(frozen=True, eq=False)
class Basis:
    """Where an incremental run begins.

    Parameters
    ----------
    version : whose rows can be taken over, as recipe and upstream are the same; None when all is new.
    learned : its encoder.
    unfinished : what cut-off encodes left.
    """

    space: str
    version: Version | None
    learned: Encoder[Any] | None
    unfinished: Unfinished

    def encoder(self, recipe: Embedder[Any], fit: Callable[[], Encoder[Any]]) -> Encoder[Any]:
        """The encoder to go on with; `fit` learns one where there is none."""
        return self.unfinished.learn(recipe, fit) if self.learned is None else self.learned

    def reuse(self, data: Rows, encoder: Encoder[Any], say: Callable[[str], None]) -> Reuse:
        """Which rows of a dataset are answered already; those of a part that cannot be read are embedded again.

        A part that is copied from is read whole beforehand. One that stays as it is, is not: `verify` does that.
        """

        def damaged(rows: int, error: DamagedError) -> None:
            say(f"{self.space}: embedding {rows:,} rows again. {error}")

        parts = [] if self.version is None else _parts(self.version, damaged)
        known = [*parts, *self.unfinished.known(encoder)]
        while True:
            found, whole = plan_reuse(data.ids, data.digests, known, encoder.dim), set(map(id, known))
            for part in found.copied:
                try:
                    part.check()
                except DamagedError as error:
                    damaged(part.rows, error)
                    whole.discard(id(part))
            if len(whole) == len(known):
                return found
            known = [part for part in known if id(part) in whole]


def basis(
    writer: Writer,
    recipe: Embedder[Any],
    dataset: str,
    made_from: Mapping[str, int | str],
    *,
    force: bool,
    same: bool = False,
    say: Callable[[str], None],
) -> Basis:
    """Look for what can be gone on from.

    dataset : its digest. made_from : as in the manifest. force : begin anew. same : go on only from the same dataset.
    """
    folder, name = writer.paths.unfinished(writer.space.name), writer.space.name
    unfinished = Unfinished(folder, _key(recipe.fingerprint, made_from), dataset, anew=force)
    parent = writer.parent
    if force:
        unfinished.clear()
    elif (
        parent
        and (parent.manifest.fingerprint, parent.manifest.made_from) == (recipe.fingerprint, dict(made_from))
        and (not same or parent.manifest.dataset_digest == dataset)
    ):
        try:
            return Basis(name, parent, parent.encoder(recipe), unfinished)
        except UnreachableError:
            raise
        except (DamagedError, InputError, OSError) as error:
            say(f"{name}: the encoder of version {parent.number} cannot be read; embedding all rows again. {error}")
    return Basis(name, None, None, unfinished)


def to_embed(version: Version, data: Rows) -> int:
    """How many rows of a dataset a run that goes on from a version would embed; those of a part it cannot read, too."""
    known = _parts(version, lambda rows, error: None)
    return len(plan_reuse(data.ids, data.digests, known, version.dim).fresh)


def _parts(version: Version, damaged: Callable[[int, DamagedError], None]) -> list[Known]:
    """The parts of a version that can be read; of the others, `damaged` is told the rows and the error."""
    entries = version.manifest.files
    found = together(version.paths.root, _read, list(zip(version.parts, entries, strict=True)))
    for part, entry in zip(found, entries, strict=True):
        if isinstance(part, DamagedError):
            damaged(entry.rows, part)
    return [part for part in found if isinstance(part, Known)]


def _read(part: tuple[AnyPath, FileEntry]) -> Known | DamagedError:
    place, entry = part
    try:
        return Known.read(place, entry.rows, entry)
    except DamagedError as error:
        place.is_file()  # a bucket that does not answer says so here; its parts are none the worse
        return error


def _key(fingerprint: str, made_from: Mapping[str, int | str]) -> str:
    text = json.dumps(dict(made_from), sort_keys=True)
    return f"{fingerprint}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
