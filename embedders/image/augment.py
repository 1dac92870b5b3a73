"""Random pieces, mirror images and colours of pictures, so that a network does not learn the training pictures by heart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.image.backbones import Preprocessing

_GREY = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_LONGEST = math.log(4 / 3)
"""Sides of a piece are as 3 : 4 to 4 : 3."""


@dataclass(frozen=True)
class Augmentation:
    """How much a picture may change (the recipe of Chen et al. 2020, appendix A, without blur).

    Parameters
    ----------
    area : the smallest share of a picture that a piece of it covers, 0 to 1; 1 leaves pictures as they are cut.
    flip : left and right may change places.
    jitter : brightness, contrast and saturation change by a factor of at most 1 +- 0.8 jitter, hues turn by at most
        0.2 jitter of a circle.
    grey : probability that the colours go.
    """

    area: float
    flip: bool
    jitter: float
    grey: float = 0.0

    def apply(self, pixels: NDArray[np.uint8], look: Preprocessing, rng: np.random.Generator) -> Matrix:
        """(n, side, side, 3) uint8 -> (n, crop, crop, 3) float32 as the network wants it."""
        n, side = pixels.shape[:2]
        boxes = self._boxes(n, side, look.crop, rng)
        flips = np.logical_and(rng.random(n) < 0.5, self.flip)
        bright, contrast, saturation = 1 + 0.8 * self.jitter * rng.uniform(-1, 1, (3, n))
        turns = np.array(0.4 * np.pi * self.jitter * rng.uniform(-1, 1, n))
        saturation *= rng.random(n) >= self.grey
        tints = (bright * contrast)[:, None, None] * _tints(saturation, turns)
        # what contrast takes from a colour, the mean grey of the piece gives back
        return _cut(pixels, boxes, flips, tints, bright * (1 - contrast), look)

    def _boxes(self, n: int, side: int, crop: int, rng: np.random.Generator) -> NDArray[np.float64]:
        if self.area == 1:
            return _centre(n, side, crop)
        area, ratio = rng.uniform(self.area, 1, n), np.exp(0.5 * rng.uniform(-_LONGEST, _LONGEST, n))
        sizes = side * np.minimum(np.sqrt(area) * np.stack([ratio, 1 / ratio]), 1)
        corners = rng.random((2, n)) * (side - sizes)
        return np.concatenate([corners, sizes]).T


def plain(pixels: NDArray[np.uint8], look: Preprocessing) -> Matrix:
    """The centre of each picture, as it is encoded: (n, side, side, 3) uint8 -> (n, crop, crop, 3) float32."""
    n, side = pixels.shape[:2]
    tints = np.broadcast_to(np.eye(3), (n, 3, 3))
    return _cut(pixels, _centre(n, side, look.crop), np.zeros(n, bool), tints, np.zeros(n), look)


def _centre(n: int, side: int, crop: int) -> NDArray[np.float64]:
    corner = (side - crop) // 2
    return np.broadcast_to(np.array([corner, corner, crop, crop], np.float64), (n, 4))


def _tints(saturation: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3): what a colour is multiplied by so that it is more or less saturated, and its hue turned (radians)."""
    cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
    chroma = np.zeros((len(turn), 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1], chroma[:, 1, 2], chroma[:, 2, 1], chroma[:, 2, 2] = cos, -sin, sin, cos
    found: NDArray[np.float64] = np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ
    return found


def _cut(
    pixels: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    flips: NDArray[np.bool_],
    tints: NDArray[np.float64],
    contrasts: NDArray[np.float64],
    look: Preprocessing,
) -> Matrix:
    from embedders.kernels.crops import crop_and_tint

    out = np.empty((len(pixels), look.crop, look.crop, 3), np.float32)
    box, tint, contrast, mean, scale = (
        np.ascontiguousarray(part, np.float32) for part in (boxes, tints, contrasts, look.mean, 1 / np.array(look.std))
    )
    crop_and_tint(pixels, box, flips, tint, contrast, mean, scale, out)
    return out
