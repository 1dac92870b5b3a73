"""Largest eigenpairs of a symmetric sparse matrix, many at a time, by a filtered subspace (Zhou and Saad 2007).

A block of vectors is multiplied by a Chebyshev polynomial that is small on the unwanted end of the spectrum and grows
past it, so that one block product serves all vectors; Lanczos would make each product for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.kernels.sparse import Csr, multiply
from embedders.kernels.tall import Matrix, block_rows, normal_rows, orthonormalise, over_rows, turn

DEGREE = 10  # of the polynomial: products between two orthonormalisations


@dataclass(frozen=True, eq=False)
class Operator:
    """A symmetric matrix with eigenvalues in [-1, 1]: sparse, and low diag(weights) low'.

    edges: its CSR. low: (n, q) float32, weights: (q,); q may be 0.
    """

    edges: Csr
    low: Matrix
    weights: NDArray[np.float32]

    def product(self, x: Matrix, out: Matrix, *, gain: float, own: float, keep: float, threads: int) -> None:
        """`out` becomes gain (matrix x) + own x + keep out."""
        n = len(x)
        multiply(
            self.edges, x, out, gain=np.full(n, gain, np.float32), own=np.full(n, own, np.float32), keep=keep,
            threads=threads,
        )  # fmt: skip
        if self.low.shape[1]:
            along = np.float32(gain) * self.weights[:, None] * cross(self.low, x, threads)

            def add(first: int, last: int) -> None:
                out[first:last] += self.low[first:last] @ along

            over_rows(add, n, threads)


def cross(a: Matrix, b: Matrix, threads: int) -> Matrix:
    """(da, db) products of the columns of two tall matrices, the same for any number of threads."""
    size = block_rows(len(a))
    parts = np.zeros((-(-len(a) // size), a.shape[1], b.shape[1]))

    def work(first: int, last: int) -> None:
        parts[first // size] = a[first:last].T @ b[first:last]

    over_rows(work, len(a), threads)
    return np.asarray(parts.sum(axis=0), np.float32)


def largest(
    operator: Operator,
    count: int,
    *,
    threads: int,
    tolerance: float = 1e-3,
    rounds: int = 100,
    tick: Callable[[int], None] = lambda found: None,
) -> tuple[NDArray[np.float64], Matrix, float]:
    """The largest eigenvalues, falling, their (n, count) eigenvectors, and the worst residual |matrix v - value v|.

    The block begins at fixed numbers, so that nothing hangs on a seed; the largest entry of a vector is positive.
    tick : told how many eigenpairs are within `tolerance`.
    """
    n = len(operator.edges)
    width = min(n, count + max(16, count // 4))
    block, other = normal_rows(n, width, 0, threads), np.empty((n, width), np.float32)
    orthonormalise(block, threads)
    for number in range(rounds):
        operator.product(block, other, gain=1, own=0, keep=0, threads=threads)
        small = cross(block, other, threads).astype(np.float64)
        values, directions = np.linalg.eigh((small + small.T) / 2)
        values, directions = values[::-1], directions[:, ::-1]
        turn(block, directions, threads)
        turn(other, directions, threads)
        worst = _residuals(block[:, :count], other[:, :count], values[:count])
        tick(int((worst <= tolerance).sum()))
        if worst.max() <= tolerance or width == n or number == rounds - 1:
            break
        _filter(operator, block, other, float(values[-1]), threads)
        orthonormalise(block, threads)
    found = block[:, :count]
    peak = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)
    return (
        values[:count],
        np.ascontiguousarray(found * np.where(peak < 0, -1, 1).astype(np.float32)),
        float(worst.max()),
    )


def _residuals(x: Matrix, image: Matrix, values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(x.shape[1])
    for first in range(0, len(x), 4096):
        rows = slice(first, first + 4096)
        total += np.square(image[rows] - x[rows] * values, dtype=np.float64).sum(axis=0)
    return np.sqrt(total)


def _filter(operator: Operator, block: Matrix, image: Matrix, cut: float, threads: int) -> None:
    """`block` becomes T_DEGREE(t) block, where t takes [-1, cut] to [-1, 1]; `image` is the matrix times the block."""
    cut = max(cut, -0.95)
    half, middle = (cut + 1) / 2, (cut - 1) / 2
    older, newer = block, image
    newer -= np.float32(middle) * older
    newer /= np.float32(half)
    for _ in range(1, DEGREE):
        operator.product(newer, older, gain=2 / half, own=-2 * middle / half, keep=-1, threads=threads)
        older, newer = newer, older
    if newer is not block:
        block[:] = newer
