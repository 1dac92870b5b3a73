"""Tall dense matrices, n x d with n much larger than d: orthonormal bases and SVDs by d x d products.

Rows are handled in blocks whose size hangs on n alone and partial sums are added in the order of the blocks, so that the
number of threads changes no bit. BLAS is to run on one thread (`embedders.kernels.blas`): the threads are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedders.kernels.threads import run_threads

Matrix = NDArray[np.float32]
FAINT = 1e-14
"""Directions below this share of the strongest one's squares are rounding, and are not blown up to length 1."""


def block_rows(n: int) -> int:
    """Rows of a block: enough blocks for every thread, and a block of 128 columns that fits a core's cache."""
    return int(np.clip(n // 64, 64, 2048))


def over_rows(work: Callable[[int, int], None], n: int, threads: int) -> None:
    """Call work(first, last) for each block of rows."""
    size = block_rows(n)
    run_threads(
        lambda _, piece: work(piece * size, min(n, (piece + 1) * size)), -(-n // size), threads, lambda: None
    )  # fmt: skip


def gram(x: Matrix, threads: int) -> NDArray[np.float64]:
    """(d, d) products of the columns of `x`, summed in float64."""
    size = block_rows(len(x))
    parts = np.zeros((-(-len(x) // size), x.shape[1], x.shape[1]))

    def work(first: int, last: int) -> None:
        block = x[first:last].astype(np.float64)
        parts[first // size] = block.T @ block

    over_rows(work, len(x), threads)
    return np.asarray(parts.sum(axis=0))


def turn(x: Matrix, by: NDArray[np.floating], threads: int, *, out: Matrix | None = None, unit: bool = False) -> Matrix:
    """`x @ by`, into `out` or, when `by` is square, in place. unit : scale rows to length 1 (zero rows stay)."""
    into = x if out is None else out
    by = np.ascontiguousarray(by, np.float32)

    def work(first: int, last: int) -> None:
        rows = x[first:last] @ by
        into[first:last] = unit_rows(rows) if unit else rows

    over_rows(work, len(x), threads)
    return into


def unit_rows(x: Matrix) -> Matrix:
    """`x` with rows of length 1; zero rows stay, and rows of any size do not under- or overflow."""
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    rows = x / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(rows / np.where(length > 0, length, 1), np.float32)


def orthonormalise(x: Matrix, threads: int) -> float:
    """Replace the columns of `x` by an orthonormal basis of their span (fewer than d directions: some are zeros).

    Returns
    -------
    The smallest singular value of `x`.
    """
    squares, directions = np.linalg.eigh(gram(x, threads))
    strong = squares > FAINT * max(squares[-1], 0.0)
    scale = np.zeros_like(squares)
    scale[strong] = 1 / np.sqrt(squares[strong])
    turn(x, directions * scale, threads)
    return float(np.sqrt(max(squares[0], 0.0)))


def right_singular(x: Matrix, threads: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Singular values, strongest first, and (d, d) right singular vectors in columns, the largest entry positive."""
    squares, directions = np.linalg.eigh(gram(x, threads))
    squares, directions = squares[::-1], directions[:, ::-1]
    peak = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return np.sqrt(np.maximum(squares, 0)), directions * np.where(peak < 0, -1, 1)


def normal_rows(n: int, d: int, seed: int, threads: int) -> Matrix:
    """(n, d) standard normal numbers, a stream for each block of rows."""
    out = np.empty((n, d), np.float32)

    def work(first: int, last: int) -> None:
        np.random.default_rng([seed, first]).standard_normal(dtype=np.float32, out=out[first:last])

    over_rows(work, n, threads)
    return out


class Product(Protocol):
    """`out` becomes a matrix times `x`, plus `keep` times what it was."""

    def __call__(self, x: Matrix, out: Matrix, keep: float) -> None: ...


def strongest_left(
    product: Product,
    transposed: Product,
    n: int,
    dim: int,
    *,
    rounds: int,
    seed: int,
    threads: int,
    spare: int = 16,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Matrix, NDArray[np.float64]]:
    """Randomised SVD (Halko, Martinsson and Tropp 2011, doi:10.1137/090771806) with dynamic shifts (Feng and others 2024,
    doi:10.1145/3660629): a round multiplies by A A' - shift, which tells the wanted directions from the rest better than
    A A' does. The shift grows to half the square of the block's smallest singular value.

    Parameters
    ----------
    product, transposed : by the n x n matrix A, and by its transpose.
    rounds : of subspace iteration; `2 rounds + 2` products in all. spare : columns carried beyond `dim`.

    Returns
    -------
    (n, dim) left singular vectors and (dim,) singular values, strongest first.
    """
    width = min(dim + spare, n)
    rounds = rounds if width < n else 0  # a basis of everything cannot improve
    here, there = normal_rows(n, width, seed, threads), np.empty((n, width), np.float32)
    total, shift = 2 * rounds + 2, 0.0
    product(here, there, 0)
    tick(1, total)
    orthonormalise(there, threads)
    for number in range(rounds):
        transposed(there, here, 0)
        tick(2 * number + 2, total)
        product(here, there, -shift)
        tick(2 * number + 3, total)
        smallest = orthonormalise(there, threads)
        if smallest > shift:
            shift = (smallest + shift) / 2
    transposed(there, here, 0)
    tick(total, total)
    values, directions = right_singular(here, threads)  # of (basis' matrix)': the basis' left ones
    del here
    return turn(there, directions[:, :dim], threads, out=np.empty((n, dim), np.float32)), values[:dim]
