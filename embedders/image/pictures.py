"""Pictures for training: decoded once and kept as bytes while they fit, else decoded in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedders.data import Images
from embedders.errors import InputError
from embedders.image.backbones import Preprocessing
from embedders.image.decode import DecodeError, decode
from embedders.image.prefetch import ahead, workers


class Pictures:
    """The pictures of a dataset that can be decoded, as squares of `look.short_side`, from which pieces are cut.

    rows : (n,) int64 rows of the dataset. undecodable : rows that were asked for and cannot be decoded.
    """

    def __init__(
        self,
        data: Images,
        rows: Sequence[int] | NDArray[np.int64],
        look: Preprocessing,
        *,
        pixel_limit: int,
        threads: int,
        memory: int,
    ) -> None:
        """Decode them all, to see which can be. memory : bytes that are kept."""
        self._data, self._look, self._limit, self._threads = data, look, pixel_limit, workers(threads)
        side, asked = look.short_side, np.asarray(rows, np.int64)
        room = min(len(asked), memory // (3 * side * side))
        self._kept = np.empty((room, side, side, 3), np.uint8)
        good: list[int] = []
        self.undecodable: list[DecodeError] = []
        for row, found in zip(asked, self._decoded(asked), strict=True):
            if isinstance(found, DecodeError):
                self.undecodable.append(found)
                continue
            if len(good) < room:
                self._kept[len(good)] = found
            good.append(int(row))
        self.rows = np.array(good, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(places), side, side, 3) pictures, by their places in `rows`.

        Raises
        ------
        InputError : one that was decoded before cannot be any more.
        """
        if len(self._kept) >= len(self.rows):
            return self._kept[places]
        out = np.empty((len(places), *self._kept.shape[1:]), np.uint8)
        here = places < len(self._kept)
        out[here] = self._kept[places[here]]
        away = np.flatnonzero(~here)
        for i, found in zip(away, self._decoded(self.rows[places[away]]), strict=True):
            if isinstance(found, DecodeError):
                raise InputError(
                    f"A picture was read before, and cannot be now. {found} Training goes on from its last checkpoint."
                )
            out[i] = found
        return out

    def _decoded(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | DecodeError]:
        return ahead(self._decode, rows.tolist(), threads=self._threads, window=4 * self._threads)

    def _decode(self, row: int) -> NDArray[np.uint8] | DecodeError:
        side = self._look.short_side
        try:
            return decode(
                self._data.location(row),
                self._data.read(row),
                short_side=side,
                crop=side,
                interpolation=self._look.interpolation,
                pixel_limit=self._limit,
            )
        except DecodeError as error:
            return error
