"""Spectral propagation: vectors are passed along the edges by a band-pass filter (ProNE: Zhang et al. 2019, section 3.2).

The filter is exp(-theta (M^2 / 2 - 1)) with M = (1 - mu) I - P and P = D^-1 (A + I), cut off as in the paper after
`order` Chebyshev polynomials of M^2 / 2 - 1. That is a polynomial of degree 2 order - 2 in P, whose eigenvalues lie in
[-1, 1]: written in Chebyshev polynomials of P itself, fewer terms matter, and each costs one product.
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

FAINT = 1e-5
"""Terms below this share of the largest are left out; cosines change by less than 1e-4."""


class Propagation(Embedder[Graph]):
    """Another space's vectors, smoothed over a graph: `start: {space: NAME}` says whose.

    Nodes that the start does not know begin at zero and get what reaches them along at most twice `order` edges.
    """

    kind: ClassVar[str] = "propagation"
    version: ClassVar[int] = 2
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


def coefficients(theta: float, mu: float, order: int) -> NDArray[np.float64]:
    """Of T_0, T_1, ... in p (1 - f(p)), where f is the paper's series of the filter and p stands for P."""
    from numpy.polynomial import chebyshev
    from scipy.special import iv

    series = iv(np.arange(order), theta) * np.where(np.arange(order) % 2, -2.0, 2.0)
    series[0] /= 2
    every = chebyshev.chebinterpolate(  # type: ignore[type-var]
        lambda p: p * (1 - chebyshev.chebval((1 - mu - p) ** 2 / 2 - 1, series)), 2 * order - 1
    )
    return np.asarray(every[: 1 + np.flatnonzero(np.abs(every) > FAINT * np.abs(every).max())[-1]])


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

    start : (n, dim) float32.
    """
    from embedders.kernels.sparse import multiply
    from embedders.kernels.tall import over_rows, right_singular, turn

    factors, steps = coefficients(theta, mu, order), 0
    share = (1 / (1 + joined.degree)).astype(np.float32)  # P x = share (A x + x)
    newer, older = np.float32(factors[-1]) * start, np.zeros_like(start)
    for factor in factors[-2:0:-1]:  # Clenshaw 1955
        multiply(
            joined.edges, newer, older, gain=2 * share, own=2 * share, keep=-1.0, base=start, share=factor, threads=threads
        )  # fmt: skip
        newer, older = older, newer
        steps += 1
        progress(steps, len(factors), "products")
    multiply(
        joined.edges, newer, older, gain=share, own=share, keep=-1.0, base=start, share=factors[0], threads=threads
    )  # fmt: skip
    del start, newer

    def raise_rows(first: int, last: int) -> None:
        older[first:last] *= (1 + joined.degree[first:last, None]).astype(np.float32)  # A + I = (1 + degree) P

    over_rows(raise_rows, len(older), threads)
    values, directions = right_singular(older, threads)
    scale = np.divide(1, np.sqrt(values), out=np.zeros_like(values), where=values > 1e-6 * values[0])
    turn(older, directions * scale, threads, unit=True)
    progress(len(factors), len(factors), "products")
    return older
