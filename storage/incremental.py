"""What a run of an inductive embedder can go on from: the parent's rows and encoder, or a cut-off encode."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from embedders.base import Embedder, Encoder
from embedders.data import Rows
from embedders.errors import InputError
from storage.errors import DamagedError
from storage.places import remove
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
    learned : the encoder, where there is one already: the version's, or that of a cut-off encode.
    unfinished : rows of a cut-off encode by the same encoder.
    """

    version: Version | None
    learned: Encoder[Any] | None
    unfinished: Unfinished

    def reuse(self, data: Rows, dim: int, say: Callable[[str], None]) -> Reuse:
        """Which rows of a dataset are answered already; a part that cannot be read is embedded again."""
        known: list[Known] = []
        if self.version is not None:
            for place, entry in zip(self.version.parts, self.version.manifest.files, strict=True):
                try:
                    known.append(Known.read(place, entry.rows, entry))
                except DamagedError as error:
                    say(f"{self.version.manifest.space}: embedding {entry.rows:,} rows again. {error}")
        return plan_reuse(data.ids, data.digests, known + self.unfinished.known(), dim)


def basis(
    writer: Writer, recipe: Embedder[Any], upstream: Mapping[str, int], *, force: bool, say: Callable[[str], None]
) -> Basis:
    """Look for what can be gone on from. force : for nothing; begin anew."""
    folder = writer.paths.unfinished(writer.space.name)
    parent = writer.parent
    if force:
        remove(folder)
    elif parent and (parent.manifest.fingerprint, dict(parent.manifest.upstream)) == (
        recipe.fingerprint,
        dict(upstream),
    ):
        try:
            encoder = parent.encoder(recipe)
        except (InputError, OSError) as error:
            say(
                f"{writer.space.name}: the encoder of version {parent.number} cannot be read; embedding all rows again. {error}"
            )
        else:
            return Basis(parent, encoder, Unfinished(folder / PurePosixPath(parent.manifest.model).name))
    key = recipe.fingerprint + ("-" + json.dumps(dict(upstream), sort_keys=True).encode().hex() if upstream else "")
    unfinished = Unfinished(folder / key[:200])
    return Basis(None, unfinished.encoder(recipe), unfinished)
