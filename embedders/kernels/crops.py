"""Pieces of pictures, enlarged or shrunk to one size and tinted: what a network in training sees."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def crop_and_tint(pixels, boxes, flips, tints, contrasts, mean, scale, out) -> None:
    """Fill out[i] with a piece of pixels[i], by bilinear interpolation, then change its colours and normalise it.

    pixels : (n, side, side, 3) uint8. boxes : (n, 4) float32 top, left, height, width in pixels, within the picture.
    flips : (n,) bool, left and right change places. tints : (n, 3, 3) float32, what a colour is multiplied by.
    contrasts : (n,) float32, share of the piece's mean grey that is added. mean, scale : (3,) float32, what is taken
        away from a colour of 0 to 255, and what it is then multiplied by. out : (n, size, size, 3) float32.
    """
    side, size = pixels.shape[1], out.shape[1]
    last = np.float32(side - 1)
    half = np.float32(0.5)
    for i in range(len(pixels)):
        picture, piece, m = pixels[i], out[i], tints[i]
        top, left = boxes[i, 0], boxes[i, 1]
        down, right = boxes[i, 2] / np.float32(size), boxes[i, 3] / np.float32(size)
        total = np.float32(0)
        for y in range(size):
            at = min(max(top + (np.float32(y) + half) * down - half, np.float32(0)), last)
            y0 = int(at)
            y1, fy = min(y0 + 1, side - 1), at - np.float32(y0)
            for x in range(size):
                at = min(max(left + (np.float32(x) + half) * right - half, np.float32(0)), last)
                x0 = int(at)
                x1, fx = min(x0 + 1, side - 1), at - np.float32(x0)
                to = size - 1 - x if flips[i] else x
                for c in range(3):
                    a, b = np.float32(picture[y0, x0, c]), np.float32(picture[y0, x1, c])
                    d, e = np.float32(picture[y1, x0, c]), np.float32(picture[y1, x1, c])
                    upper, lower = a + (b - a) * fx, d + (e - d) * fx
                    piece[y, to, c] = upper + (lower - upper) * fy
                total += np.float32(0.299) * piece[y, to, 0] + np.float32(0.587) * piece[y, to, 1]
                total += np.float32(0.114) * piece[y, to, 2]
        grey = contrasts[i] * total / np.float32(size * size)
        for y in range(size):
            for x in range(size):
                r, g, b = piece[y, x, 0], piece[y, x, 1], piece[y, x, 2]
                for c in range(3):
                    value = m[c, 0] * r + m[c, 1] * g + m[c, 2] * b + grey
                    value = min(max(value, np.float32(0)), np.float32(255))
                    piece[y, x, c] = (value - mean[c]) * scale[c]
