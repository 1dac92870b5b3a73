"""Spectral propagation: vectors are passed along the edges by a band-pass filter (ProNE: Zhang et al. 2019, section 3.2).

The filter is exp(-theta (M^2 / 2 - 1)) with M = (1 - mu) I - D^-1 (A + I), written in Chebyshev polynomials T_k of
M^2 / 2 - 1. As T_k(2 x^2 - 1) = T_2k(x), they are the even ones of M / 2: each is one product from the two before it, and
is written over the older. Terms too small for float32 are left out, which changes no digit that it holds.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.adjacency import Adjacency, adjacency, fill
from embedders.graph.node2vec import NodeVectors, isolated
from embedders.start import start_rows


class Propagation(Embedder[Graph]):
    """Another space's vectors, smoothed over a graph: `start: {space: NAME}` says whose.

    Nodes that the start does not know begin at zero and get what reaches them along at most twice `order` edges.
    """

    kind: ClassVar[str] = "propagation"
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = NodeVectors
    entity: ClassVar[str] = "node"
    deterministic: ClassVar[bool] = True
    needs_start: ClassVar[bool] = True

    theta: float = Field(0.5, gt=0, le=10, description="strength of the filter: larger is sharper")
    mu: float = Field(0.2, ge=0, le=2, description="centre of the band of eigenvalues that the filter passes on")
    order: int = Field(10, ge=2, le=100, description="terms of the Chebyshev series")
    threads: Threads = 0

    def fit(self, data: Graph, *, start: Encoder[Any] | None = None, progress: Progress = silent) -> NodeVectors:
        """Propagate the vectors of `start` along the edges of `data`.

        Raises
        ------
        InputError : no start, or one that knows no node of the graph.
        """
        from embedders.kernels.blas import one_thread
        from embedders.kernels.tall import unit_rows
        from embedders.kernels.threads import cores

        if start is None:
            raise InputError("Got no start; expected a space whose vectors are propagated. Add start: {space: NAME}.")
        rows = start_rows(start, data, data.ids, start.dim)
        known = ~np.isnan(rows[:, 0])
        if not known.any():
            raise InputError(
                f"Got a start that knows none of the {len(data):,} nodes; expected vectors of the graph's nodes. "
                "Check how the ids of both are written."
            )
        rows[~known] = 0
        threads = self.threads or cores()
        with one_thread():
            matrix = propagated(
                adjacency(data), unit_rows(rows),
                theta=self.theta, mu=self.mu, order=self.order, threads=threads, progress=progress,
            )  # fmt: skip
        alone = isolated(data) | ~matrix.any(axis=1)
        fill(matrix)
        mode = {
            "threads": threads, "precision": "fp32", "reproducible": "bytes", "start_rows": int(known.sum()),
        }  # fmt: skip
        return NodeVectors(self, data.ids, matrix, alone, mode=mode)


def coefficients(theta: float, order: int) -> NDArray[np.float64]:
    """Of T_0, T_1, ... in exp(-theta x): (-1)^k I_k(theta), doubled past the first; none below float32's precision."""
    from scipy.special import iv

    every = iv(np.arange(order), theta) * np.where(np.arange(order) % 2, -2.0, 2.0)
    every[0] /= 2
    return np.asarray(every[: 1 + np.flatnonzero(np.abs(every) > np.finfo(np.float32).eps / 2 * every[0])[-1]])


def propagated(
    joined: Adjacency,
    start: Matrix,
    *,
    theta: float,
    mu: float,
    order: int,
    threads: int,
    progress: Progress = silent,
) -> Matrix:
    """(n, dim) float32 rows of length 1, or zeros where no vector reaches: U S^(1/2) of (A + I) (start - filtered start).

    start : (n, dim) float32; it is written over.
    """
    from embedders.kernels.sparse import multiply
    from embedders.kernels.tall import over_rows, right_singular, turn

    n, share = len(start), 1 / (1 + joined.degree)
    gain, own = (-share).astype(np.float32), (1 - mu - share).astype(np.float32)  # M x = own x + gain A x
    factors = coefficients(theta, order)
    older, newer, total = start, np.empty_like(start), np.empty_like(start)

    def add(terms: Matrix, factor: float) -> None:
        def work(first: int, last: int) -> None:
            total[first:last] -= np.float32(factor) * terms[first:last]

        over_rows(work, n, threads)

    np.multiply(start, np.float32(1 - factors[0]), out=total)
    steps, half = 2 * len(factors) - 1, np.float32(0.5)
    multiply(joined.edges, older, newer, gain=gain * half, own=own * half, threads=threads)
    for k in range(2, 2 * len(factors) - 1):
        multiply(joined.edges, newer, older, gain=gain, own=own, keep=-1.0, threads=threads)
        older, newer = newer, older
        if k % 2 == 0:
            add(newer, factors[k // 2])
        progress(k, steps, "products")
    del older
    multiply(joined.edges, total, newer, own=np.ones(n, np.float32), threads=threads)
    values, directions = right_singular(newer, threads)
    scale = np.divide(1, np.sqrt(values), out=np.zeros_like(values), where=values > 1e-6 * values[0])
    turn(newer, directions * scale, threads, unit=True)
    progress(steps, steps, "products")
    return newer
