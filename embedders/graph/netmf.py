"""NetMF (Qiu et al. 2018, doi:10.1145/3159652.3159706): DeepWalk as the factorisation of a dense matrix."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from embedders.base import EXECUTION, Embedder, Encoder, Estimate, Matrix, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.adjacency import Adjacency, adjacency, fill, inverse_root, normalised
from embedders.graph.node2vec import NodeVectors, isolated
from embedders.graph.prone import check

COLUMNS = 64  # of the dense matrix that are made at a time: a block of them stays in the cache
TOLERANCE = 1e-2  # of the eigenpairs: smaller ones change no score


class NetMF(Embedder[Graph]):
    """Singular vectors of log(max(1, M)), M = vol / (negative window) * sum of (D^-1 A)^r over r = 1..window, D^-1 after;
    rows are scaled to length 1.

    Holds nodes x nodes numbers: for small graphs. Edges count in both directions and loops not at all. No thread count
    changes a bit of the result.
    """

    kind: ClassVar[str] = "netmf"
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = NodeVectors
    entity: ClassVar[str] = "node"
    version: ClassVar[int] = 2

    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector, at most one for each node")
    window: int = Field(10, ge=1, le=1000, description="steps of a walk that count as context")
    negative: float = Field(1.0, gt=0, description="negative samples a pair")
    rank: int | None = Field(
        256,
        ge=1,
        description="eigenpairs that powers of the graph are taken from (the paper's large window); null: all",
    )
    rounds: int = Field(5, ge=0, le=100, description="rounds of subspace iteration in the randomised SVD")
    max_nodes: int = Field(
        40_000, ge=1, json_schema_extra=EXECUTION, description="graphs of more nodes are refused: memory is 4 nodes^2 bytes"
    )  # fmt: skip
    threads: Threads = 0

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.product_costs import FLOP, basis, eigenpairs, estimate, sparse

        width, square, tall, seconds = min(self.dim + 16, rows), rows * rows, 0, 0.0
        if self.rank is not None and self.rank < rows:
            tall, seconds = eigenpairs(rows, edges, self.rank, rounds=3)
            seconds += 2 * square * self.rank * FLOP
        else:
            seconds += self.window * (rows / COLUMNS) * sparse(rows, edges, COLUMNS)
        seconds += square * 3e-9 + (2 * self.rounds + 2) * 2 * square * width * FLOP
        seconds += (self.rounds + 2) * basis(rows, width)
        return estimate(4 * square + max(8 * rows * width, tall), edges, seconds, self.threads)

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NodeVectors:
        """Make the dense matrix a block of columns at a time, and factorise it.

        Memory: nodes x nodes float32, and with `rank` two of nodes x rank.

        Raises
        ------
        InputError : `start` was given, or the graph has fewer than `dim` or more than `max_nodes` nodes.
        """
        from embedders.kernels.blas import one_thread
        from embedders.kernels.tall import over_rows, strongest_left, turn
        from embedders.kernels.threads import cores

        check(self.kind, data, self.dim, start)
        n, threads = len(data), self.threads or cores()
        if n > self.max_nodes:
            raise InputError(
                f"Got a graph of {n:,} nodes, for which netmf holds {n * n * 4 / 2**30:,.1f} GiB; expected at most "
                f"max_nodes={self.max_nodes:,}. Take embedder: prone, which needs a few numbers an edge, or raise max_nodes."
            )
        joined = adjacency(data)
        with one_thread():
            if self.rank is not None and self.rank < n:
                dense = self._from_eigenpairs(joined, self.rank, threads)
            else:
                dense = self._exact(joined, threads)

            def product(x: Matrix, out: Matrix, keep: float) -> None:  # the matrix is symmetric
                def work(first: int, last: int) -> None:
                    kept = np.float32(keep) * out[first:last] if keep else None
                    np.matmul(dense[first:last], x, out=out[first:last])
                    if kept is not None:
                        out[first:last] += kept

                over_rows(work, n, threads)

            found, values = strongest_left(
                product, product, n, self.dim, rounds=self.rounds, seed=self.seed, threads=threads,
                tick=lambda done, total: progress(done, total, "products"),
            )  # fmt: skip
            matrix = turn(found, np.diag(np.sqrt(values)), threads, unit=True)
        fill(matrix)
        mode = {"threads": threads, "precision": "fp32", "reproducible": "bytes"}
        return NodeVectors(self, data.ids, matrix, isolated(data), mode=mode)

    def _exact(self, joined: Adjacency, threads: int) -> Matrix:
        """(n, n) by powers of the sparse matrix, a block of columns in each thread (the paper's small window)."""
        from embedders.kernels.sparse import multiply_rows
        from embedders.kernels.threads import run_threads

        n, root = len(joined.degree), inverse_root(joined.degree)
        edges, square = joined.edges, root * root  # of D^-1
        dense = np.empty((n, n), np.float32)
        factor, zeros = self._factor(joined), np.zeros(n, np.float32)

        def work(_: int, piece: int) -> None:
            columns = np.arange(piece * COLUMNS, min(n, (piece + 1) * COLUMNS))
            total = np.zeros((n, len(columns)), np.float32)  # of (D^-1 A)^r D^-1 from r = 1 on
            ahead = np.empty_like(total)
            for _step in range(self.window):
                total[columns, columns - columns[0]] += square[columns]
                multiply_rows(
                    edges.indptr,
                    edges.indices,
                    edges.values,
                    total,
                    ahead,
                    square,
                    zeros,
                    np.float32(0),
                    total,
                    np.float32(0),
                    0,
                    n,
                )
                total, ahead = ahead, total
            dense[columns] = truncated_log(total, factor).T  # symmetric: columns are rows

        run_threads(work, -(-n // COLUMNS), threads, lambda: None)
        return dense

    def _from_eigenpairs(self, joined: Adjacency, rank: int, threads: int) -> Matrix:
        """(n, n) from the strongest eigenpairs of D^-1/2 A D^-1/2 (the paper's large window)."""
        from embedders.kernels.eigen import largest
        from embedders.kernels.tall import over_rows

        root = inverse_root(joined.degree)
        values, vectors, _ = largest(normalised(joined), rank, threads=threads, tolerance=TOLERANCE)
        powers = values[:, None] ** np.arange(1, self.window + 1)
        vectors *= root[:, None]
        half = vectors * np.sqrt(np.maximum(powers.sum(axis=1), 0)).astype(np.float32)
        dense = np.empty((len(root), len(root)), np.float32)
        factor = self._factor(joined)

        def work(first: int, last: int) -> None:
            np.matmul(half[first:last], half.T, out=dense[first:last])
            truncated_log(dense[first:last], factor)

        over_rows(work, len(root), threads)
        return dense

    def _factor(self, joined: Adjacency) -> np.float32:
        return np.float32(joined.degree.sum() / (self.negative * self.window))


def truncated_log(x: Matrix, factor: np.float32) -> Matrix:
    """log(max(1, factor x)), in place."""
    x *= factor
    np.maximum(x, 1, out=x)
    return np.asarray(np.log(x, out=x))
