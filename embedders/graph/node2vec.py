"""node2vec (Grover and Leskovec 2016, arXiv:1607.00653); DeepWalk (Perozzi et al. 2014) when p = q = 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import (
    Batch,
    Embedder,
    Encoder,
    Estimate,
    Matrix,
    Origin,
    Progress,
    Threads,
    Vectors,
    batches,
    silent,
)
from embedders.data import Graph
from embedders.errors import InputError


@dataclass(frozen=True, eq=False)
class NodeVectors(Encoder[Graph]):
    """Node names and their vectors.

    matrix : (n, dim) float32. isolated : (n,) bool, nodes without a neighbour. folded : (n,) bool, nodes that were not
    trained, whose vectors were made from their neighbours' (`fold_in`); None where all were trained.
    """

    ids: Sequence[str]
    matrix: Matrix
    isolated: NDArray[np.bool_]
    folded: NDArray[np.bool_] | None = None

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def encode(self, data: Graph, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the nodes it was trained on, in the graph's order."""
        origins = np.where(self.isolated, "isolated", "embedded").astype(object)
        if self.folded is not None:
            origins[self.folded & ~self.isolated] = "folded_in"
        first = 0
        for batch in batches(Vectors(self.entity, self.ids, self.matrix)):
            origin: list[Origin] = origins[first : first + len(batch.vectors)].tolist()
            first += len(batch.vectors)
            yield Batch(batch.vectors, origin=origin)

    def fold_in(self, data: Graph) -> Self:
        from embedders.graph.fold_in import fold_in

        return fold_in(self, data)

    @property
    def untrained(self) -> int:
        return 0 if self.folded is None else int(self.folded.sum())


class Node2Vec(Embedder[Graph]):
    """Random walks from every node, read as sentences by the skip-gram kernel of word2vec.

    Walks are drawn and learned in chunks, so memory is the graph, two matrices and a chunk, however many walks there are.
    """

    kind: ClassVar[str] = "node2vec"
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = NodeVectors
    entity: ClassVar[str] = "node"
    version: ClassVar[int] = 5
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector")
    p: float = Field(1.0, gt=0, description="return parameter: above 1 walks seldom step straight back")
    q: float = Field(1.0, gt=0, description="in-out parameter: below 1 walks move away, above 1 they stay near")
    walks: int = Field(10, ge=1, description="walks from each node")
    length: int = Field(80, ge=2, description="nodes in a walk")
    window: int = Field(10, ge=1, le=1000, description="farthest context node in a walk")
    negative: int = Field(5, ge=1, le=100, description="noise nodes a centre node")
    epochs: int = Field(5, ge=1, description="passes over the walks; each draws new ones")
    lr: float = Field(0.025, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    threads: Threads = 0

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.costs import of_walks

        steps = rows * self.walks * self.length * self.epochs
        return of_walks(rows, edges, steps, self.dim, self.window, self.threads)

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NodeVectors:
        """Train on `data`; nodes that `start` knows begin at its vectors.

        `mode` of the encoder holds the mean loss of each epoch.

        Raises
        ------
        InputError : the graph has no node, or `start` has another dimension.
        """
        from embedders.graph.walked import learn
        from embedders.kernels.threads import cores
        from embedders.kernels.walks import Walker

        if not len(data):
            raise InputError("Got a graph without a node; expected at least one edge.")
        walker = Walker(data, p=self.p, q=self.q, threads=self.threads or cores())
        learned = learn(self, walker, data.ids, np.arange(len(data), dtype=np.int32), start, data, progress)
        return NodeVectors(self, data.ids, learned.matrix, isolated(data), mode=learned.mode)


def isolated(graph: Graph) -> NDArray[np.bool_]:
    """(n,) bool: no edge leaves or enters the node, but for loops on itself."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    real = graph.indices != rows
    touched = np.zeros(len(graph), bool)
    touched[rows[real]] = True
    touched[graph.indices[real]] = True
    return ~touched
