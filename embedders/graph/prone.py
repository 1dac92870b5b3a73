"""ProNE (Zhang et al. 2019, doi:10.24963/ijcai.2019/594): a sparse factorisation, then spectral propagation."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from embedders.base import Embedder, Encoder, Estimate, Matrix, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.adjacency import Adjacency, adjacency, fill
from embedders.graph.node2vec import NodeVectors, isolated
from embedders.graph.propagation import propagated


class Prone(Embedder[Graph]):
    """Singular vectors of log(1 + p_ij / (negative P_j)) over the edges, passed along the edges by a Gaussian filter.

    The paper's matrix lacks the 1: there the edges of hubs are negative, as if they said less than no edge, which is 0.
    Edges count in both directions and loops not at all. No thread count changes a bit of the result.
    """

    kind: ClassVar[str] = "prone"
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = NodeVectors
    entity: ClassVar[str] = "node"
    version: ClassVar[int] = 2

    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector, at most one for each node")
    negative: float = Field(5.0, gt=0, description="negative samples an edge (lambda); the authors' program has 1")
    exponent: float = Field(0.75, ge=0, le=1, description="power of a node's share among negative samples (alpha)")
    rounds: int = Field(5, ge=0, le=100, description="rounds of subspace iteration in the randomised SVD")
    theta: float = Field(
        4.0, gt=0, le=10, description="strength of the filter: larger is sharper; the authors' program has 0.5"
    )
    mu: float = Field(
        0.0,
        ge=0,
        le=2,
        description="centre of the band of eigenvalues that the filter passes on; the authors' program has 0.1",
    )
    order: int = Field(10, ge=2, le=100, description="terms of the Chebyshev series")
    threads: Threads = 0

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.product_costs import basis, estimate, sparse
        from embedders.graph.propagation import coefficients

        width, terms = min(self.dim + 16, rows), len(coefficients(self.theta, self.mu, self.order))
        seconds = (2 * self.rounds + 2) * sparse(rows, edges, width) + terms * sparse(rows, edges, self.dim)
        seconds += (self.rounds + 2) * basis(rows, width) + basis(rows, self.dim)
        return estimate(max(8 * rows * width, 12 * rows * self.dim), edges, seconds, self.threads)

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NodeVectors:
        """Factorise, and propagate.

        Memory: the graph and two more numbers for each edge, and three matrices of the result's size.

        Raises
        ------
        InputError : `start` was given, or the graph has fewer than `dim` nodes.
        """
        from embedders.kernels.blas import one_thread
        from embedders.kernels.threads import cores

        check(self.kind, data, self.dim, start)
        threads, joined = self.threads or cores(), adjacency(data)
        with one_thread():
            matrix = propagated(
                joined, self._factorised(joined, threads, progress),
                theta=self.theta, mu=self.mu, order=self.order, threads=threads, progress=progress,
            )  # fmt: skip
        fill(matrix)
        mode = {"threads": threads, "precision": "fp32", "reproducible": "bytes"}
        return NodeVectors(self, data.ids, matrix, isolated(data), mode=mode)

    def _factorised(self, joined: Adjacency, threads: int, progress: Progress) -> Matrix:
        """(n, dim) U S^(1/2) with rows of length 1, of the paper's equation 4 with log(1 + x) for log x."""
        from embedders.kernels.sparse import Csr, edge_logs, multiply
        from embedders.kernels.tall import strongest_left, turn

        edges, degree = joined.edges, np.where(joined.degree > 0, joined.degree, 1)
        leaving = (1 / degree).astype(np.float32)
        into = np.zeros((len(degree), 1), np.float32)
        multiply(edges, leaving[:, None], into, threads=threads)  # sum of p_ij over i
        share = into[:, 0].astype(np.float64) ** self.exponent
        noise = self.negative * share / max(share[joined.degree > 0].sum(), 1e-30)
        entering = (1 / np.where(joined.degree > 0, noise, 1)).astype(np.float32)
        there, back = (
            Csr(edges.indptr, edges.indices, edge_logs(edges.indptr, edges.indices, edges.values, *parts))
            for parts in ((leaving, entering), (entering, leaving))
        )
        found, values = strongest_left(
            lambda x, out, keep: multiply(there, x, out, keep=keep, threads=threads),
            lambda x, out, keep: multiply(back, x, out, keep=keep, threads=threads),
            len(degree), self.dim, rounds=self.rounds, seed=self.seed, threads=threads,
            tick=lambda done, total: progress(done, total, "products"),
        )  # fmt: skip
        return turn(found, np.diag(np.sqrt(values)), threads, unit=True)


def check(kind: str, data: Graph, dim: int, start: object) -> None:
    """Refuse a start, a graph without a node, and more numbers in a vector than nodes.

    Raises
    ------
    InputError : one of these.
    """
    if start is not None:
        raise InputError(f"Got start=..., but {kind!r} begins with nothing. Leave start out.")
    if not len(data):
        raise InputError("Got a graph without a node; expected at least one edge.")
    if dim > len(data):
        raise InputError(
            f"Got dim {dim} for a graph of {len(data):,} nodes; expected at most one number a node. "
            f"Set dim: {len(data)} or less."
        )
