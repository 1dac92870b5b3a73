"""Laplacian eigenmaps as in spectral clustering (Ng, Jordan and Weiss 2001; von Luxburg 2007, arXiv:0711.0189)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from embedders.base import Embedder, Encoder, Estimate, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.adjacency import adjacency, fill, normalised
from embedders.graph.node2vec import NodeVectors, isolated
from embedders.graph.prone import check


class Spectral(Embedder[Graph]):
    """Eigenvectors of the normalised Laplacian with the smallest eigenvalues, but for the trivial one; rows of length 1.

    Of c connected components, the first c - 1 numbers tell which one a node belongs to. `tau` joins every two nodes by
    a faint edge, so that small components do not take up all numbers (Zhang and Rohe 2018, arXiv:1806.01468). Edges
    count in both directions and loops not at all.
    """

    kind: ClassVar[str] = "spectral"
    version: ClassVar[int] = 2
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = NodeVectors
    entity: ClassVar[str] = "node"
    deterministic: ClassVar[bool] = True

    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector, less than the graph's joined nodes")
    tau: float = Field(
        1.0, ge=0, description="weight of the faint edges: their sum at a node, in mean degrees; 0: none"
    )
    tolerance: float = Field(1e-3, ge=1e-5, lt=1, description="largest residual of an eigenvector")
    max_rounds: int = Field(100, ge=1, description="rounds of the eigensolver, each of ten products, at most")
    threads: Threads = 0

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.product_costs import eigenpairs, estimate

        nbytes, seconds = eigenpairs(rows, edges, self.dim, rounds=min(5, self.max_rounds))
        return estimate(nbytes, edges, seconds, self.threads)

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NodeVectors:
        """Find the eigenvectors, all at a time.

        Memory: the graph, one number for each edge and two and a half matrices of the result's size.

        Raises
        ------
        InputError : `start` was given, or `dim` is not below the number of nodes with a neighbour.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        from embedders.kernels.blas import one_thread
        from embedders.kernels.eigen import largest
        from embedders.kernels.tall import unit_rows
        from embedders.kernels.threads import cores

        check(self.kind, data, self.dim, start)
        threads, joined, alone = self.threads or cores(), adjacency(data), isolated(data)
        if not alone.all() and self.dim >= (~alone).sum():
            raise InputError(
                f"Got dim {self.dim} for {int((~alone).sum()):,} nodes with a neighbour; expected less. Lower dim."
            )
        n, edges = len(data), joined.edges
        mode = {"threads": threads, "precision": "fp32", "reproducible": "bytes"}
        if alone.all():
            matrix = np.zeros((n, self.dim), np.float32)
        else:
            with one_thread():
                values, matrix, residual = largest(
                    normalised(joined, self.tau, trivial=False), self.dim, threads=threads, tolerance=self.tolerance,
                    rounds=self.max_rounds, tick=lambda found: progress(found, self.dim, "eigenvectors"),
                )  # fmt: skip
            matrix[alone] = 0
            matrix = unit_rows(matrix)
            pattern = csr_array((np.ones(len(edges.indices), np.int8), edges.indices, edges.indptr), shape=(n, n))
            components = connected_components(pattern, directed=False, return_labels=True)[0] - int(alone.sum())
            mode |= {
                "components": components, "eigenvalues": [round(1 - float(v), 6) for v in (values[0], values[-1])],
                "residual": round(residual, 6),
            }  # fmt: skip
        fill(matrix)
        return NodeVectors(self, data.ids, matrix, alone, mode=mode)
