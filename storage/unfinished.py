"""Rows of an encode that was cut off, kept beside the store so that the next run need not embed them again.

Every minute or so the rows since the last time are written as a part of their own, with the encoder they came from;
the commit of a version clears them away. They are keyed by the encoder: rows of two encoders never mix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from embedders.base import Batch, Embedder, Encoder
from storage.errors import DamagedError
from storage.layout import rechunk, write_part
from storage.places import remove
from storage.reuse import Known

EVERY = 30.0  # seconds of work that a kill can cost


@dataclass(frozen=True)
class Unfinished:
    """The rows of one encoder. folder: on this machine, named by the encoder."""

    folder: Path

    def encoder(self, recipe: Embedder[Any]) -> Encoder[Any] | None:
        """The encoder that a cut-off run had learned."""
        place = self.folder / "encoder"
        return type(recipe).load(place, recipe) if place.is_dir() else None

    def known(self) -> list[Known]:
        """Parts that were finished; a damaged one is cleared away."""
        found = []
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                found.append(Known.read(path, pq.read_metadata(path).num_rows))
            except (DamagedError, OSError, ValueError):
                path.unlink(missing_ok=True)
        return found

    def keep(self, batches: Iterable[Batch], encoder: Encoder[Any], *, learned: bool) -> Iterator[Batch]:
        """Pass batches on, and keep their rows from time to time.

        learned : the encoder is new, so that it is kept too.
        """
        held: list[Batch] = []
        last = time.monotonic()
        for batch in batches:
            held.append(batch)
            if time.monotonic() - last >= EVERY:
                self._write(held, encoder, learned)
                held, last = [], time.monotonic()
            yield batch

    def _write(self, batches: list[Batch], encoder: Encoder[Any], learned: bool) -> None:
        with suppress(OSError):  # what cannot be kept costs time after a kill, nothing else
            self.folder.mkdir(parents=True, exist_ok=True)
            if learned and not (self.folder / "encoder").is_dir():
                _whole(self.folder / "encoder", encoder.save)
            number = len(list(self.folder.glob("*.parquet")))
            for table in rechunk(batches, encoder.dim):
                write = lambda path, table=table: write_part(table, path, path.name, {})  # noqa: E731
                _whole(self.folder / f"{number:06d}.parquet", write)
                number += 1

    def clear(self) -> None:
        """Forget all rows of the space, of this encoder and of others."""
        remove(self.folder.parent)


def _whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name, then rename, so that what stands there is whole."""
    fresh = path.with_name(path.name + ".tmp")
    remove(fresh)
    write(fresh)
    fresh.rename(path)
