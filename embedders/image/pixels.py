"""Tiny thumbnails as vectors: the trivial baseline that a network has to beat."""

from __future__ import annotations

import numpy as np

from embedders.base import Matrix
from embedders.data import Images
from embedders.image.decode import DecodeError, decode
from embedders.image.prefetch import ahead, workers


def pixels(images: Images, size: int = 16) -> Matrix:
    """The centre square of each picture at `size` x `size`: (n, size * size * 3) float32, 0 to 1, in the order of `images`.

    A picture that cannot be decoded is a row of zeros here, since every row must be there to be compared; embedders
    reject it instead.
    """

    def thumbnail(row: int) -> Matrix:
        try:
            return decode(images.location(row), images.read(row), short_side=size, crop=size).astype(
                np.float32
            ).reshape(-1) / np.float32(255)
        except DecodeError:
            return np.zeros(size * size * 3, np.float32)

    threads = workers(0)
    rows = list(ahead(thumbnail, range(len(images)), threads=threads, window=4 * threads))
    return np.stack(rows) if rows else np.zeros((0, size * size * 3), np.float32)
