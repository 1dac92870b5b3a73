"""Rows of an encode that was cut off, kept beside the store so that the next run need not embed them again.

Every half minute or so the rows since the last time are written as a part of their own, in a folder named by what their
encoder holds, so that rows of two encoders never mix; an encoder that no version has yet is kept too, and so are the
checkpoints of its training. The commit of a version clears them away.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from embedders.base import Batch, Embedder, Encoder
from embedders.errors import InputError
from storage.errors import DamagedError
from storage.layout import rechunk, write_part
from storage.places import remove
from storage.reuse import Known

EVERY = 30.0  # seconds of work that a kill can cost
MOST = 64 << 20  # bytes of vectors that are held back until then


@dataclass(frozen=True)
class Unfinished:
    """What cut-off runs of one space left.

    Parameters
    ----------
    folder : on this machine, of the space.
    key : a name for recipe and upstream.
    dataset : the digest of the dataset as it is now.
    anew : what was left is not looked at.
    """

    folder: Path
    key: str
    dataset: str
    anew: bool = False

    @property
    def checkpoint(self) -> Path | None:
        """The folder for checkpoints of a training on the data of today; None where another one's could not be cleared."""
        place = self.folder / f"training-{self.key}-{hashlib.sha256(self.dataset.encode()).hexdigest()[:16]}"
        return None if self.anew and place.exists() else place

    def learn(self, recipe: Embedder[Any], fit: Callable[[], Encoder[Any]]) -> Encoder[Any]:
        """The encoder that a cut-off run had learned from the same data; else a new one.

        Of other data, a new one is learned; where it holds the same, as nothing was learned, the rows stay good.
        """
        if (before := self._learned(recipe)) is not None:
            return before
        started = time.monotonic()
        encoder = fit()
        if time.monotonic() - started >= EVERY:
            with suppress(OSError):
                self._remember(encoder)
        return encoder

    def known(self, encoder: Encoder[Any]) -> list[Known]:
        """Parts of this encoder's rows that were finished; a damaged one is cleared away."""
        found: list[Known] = []
        for path in [] if self.anew else sorted(self._rows(encoder).glob("*.parquet")):
            try:
                rows, xxh128 = path.stem.split("-")
                found.append(Known.read(path, int(rows), xxh128=xxh128))
            except (DamagedError, OSError, ValueError):
                with suppress(OSError):
                    remove(path)
        return found

    def keep(self, batches: Iterable[Batch], encoder: Encoder[Any], *, learned: bool) -> Iterator[Batch]:
        """Pass batches on, and keep their rows from time to time.

        learned : no version has the encoder yet, so that it is kept too.
        """
        held: list[Batch] = []
        size, last = 0, time.monotonic()
        for batch in batches:
            held.append(batch)
            size += batch.vectors.matrix.nbytes
            if size >= MOST or time.monotonic() - last >= EVERY:
                with suppress(OSError):  # what cannot be kept costs time after a kill, nothing else
                    if learned:
                        self._remember(encoder)
                    self._write(held, encoder)
                held, size, last = [], 0, time.monotonic()
            yield batch

    def clear(self) -> None:
        """Forget all rows of the space, of this encoder and of others."""
        with suppress(OSError):
            remove(self.folder)

    def _rows(self, encoder: Encoder[Any]) -> Path:
        return self.folder / f"rows-{encoder.recipe.fingerprint}-{contents(encoder)}"

    def _write(self, batches: Iterable[Batch], encoder: Encoder[Any]) -> None:
        """Add parts, each named by its rows and the digest of its bytes once it is whole."""
        folder = self._rows(encoder)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / "part.tmp"
        for table in rechunk(batches, encoder.dim):
            remove(fresh)
            entry = write_part(table, fresh, fresh.name, {})
            fresh.rename(folder / f"{entry.rows}-{entry.xxh128}.parquet")

    @property
    def _place(self) -> Path:
        return self.folder / f"learned-{self.key}"

    def _remember(self, encoder: Encoder[Any]) -> None:
        """Keep the encoder, once, in place of another that may be there."""
        about, place = self._about(contents(encoder)), self._place
        with suppress(OSError):
            if (place / "about.json").read_text(encoding="utf-8") == about:
                return
        fresh = place.with_name(place.name + ".tmp")
        remove(fresh)
        encoder.save(fresh / "encoder")
        (fresh / "about.json").write_text(about, encoding="utf-8")
        remove(place)
        fresh.rename(place)

    def _learned(self, recipe: Embedder[Any]) -> Encoder[Any] | None:
        """The encoder that was kept, if it was learned from the data of today and is what it was."""
        if self.anew:
            return None
        try:
            about = (self._place / "about.json").read_text(encoding="utf-8")
            encoder = type(recipe).load(self._place / "encoder", recipe)
        except (InputError, OSError, ValueError, LookupError, TypeError):  # damaged, or there is none
            return None
        return encoder if about == self._about(contents(encoder)) else None

    def _about(self, held: str) -> str:
        return json.dumps({"dataset": self.dataset, "contents": held})


def contents(encoder: Encoder[Any]) -> str:
    """32 hex digits over what an encoder holds beside its recipe; the same before it is saved and after."""
    hasher = xxhash.xxh3_128()
    for name, array in sorted(encoder.arrays().items()):
        numbers = np.ascontiguousarray(array)  # as it is saved
        hasher.update(json.dumps([name, str(numbers.dtype), numbers.shape]).encode())
        hasher.update(numbers.tobytes())
    texts = {name: list(strings) for name, strings in encoder.texts().items()}
    hasher.update(json.dumps([texts, dict(encoder.mode)], sort_keys=True).encode())
    return hasher.hexdigest()
