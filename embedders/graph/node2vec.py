"""node2vec (Grover and Leskovec 2016, arXiv:1607.00653); DeepWalk (Perozzi et al. 2014) when p = q = 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

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
from embedders.start import LONGEST, start_rows


@dataclass(frozen=True, eq=False)
class NodeVectors(Encoder[Graph]):
    """Node names and their vectors. matrix: (n, dim) float32. isolated: (n,) bool, nodes without a neighbour."""

    ids: Sequence[str]
    matrix: Matrix
    isolated: NDArray[np.bool_]

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def encode(self, data: Graph, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the nodes it was trained on, in the graph's order."""
        first = 0
        for batch in batches(Vectors(self.entity, self.ids, self.matrix)):
            alone = self.isolated[first : first + len(batch.vectors)]
            first += len(batch.vectors)
            origin: list[Origin] = ["isolated" if it else "embedded" for it in alone.tolist()]
            yield Batch(batch.vectors, origin=origin)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"matrix": self.matrix, "isolated": self.isolated}

    def texts(self) -> Mapping[str, Sequence[str]]:
        return {"ids": self.ids}


class Node2Vec(Embedder[Graph]):
    """Random walks from every node, read as sentences by the skip-gram kernel of word2vec.

    Walks are drawn a round at a time (one from each node), so memory is the graph, two matrices and one round.
    """

    kind: ClassVar[str] = "node2vec"
    data: ClassVar[type] = Graph
    entity: ClassVar[str] = "node"
    version: ClassVar[int] = 2
    warm_start: ClassVar[bool] = True

    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector")
    p: float = Field(1.0, gt=0, description="return parameter: above 1 walks seldom step straight back")
    q: float = Field(1.0, gt=0, description="in-out parameter: below 1 walks move away, above 1 they stay near")
    walks: int = Field(10, ge=1, description="walks from each node")
    length: int = Field(80, ge=2, description="nodes in a walk")
    window: int = Field(10, ge=1, le=1000, description="farthest context node in a walk")
    negative: int = Field(5, ge=1, le=100, description="noise nodes a centre node")
    epochs: int = Field(1, ge=1, description="passes over the walks; each draws new ones")
    lr: float = Field(0.025, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    threads: Threads = 0

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.costs import of_walks

        steps = rows * self.walks * self.length * self.epochs
        return of_walks(rows, edges, steps, self.dim, self.window, self.threads)

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NodeVectors:
        """Train on `data`; nodes that `start` knows begin at its vectors.

        Raises
        ------
        InputError : the graph has no node, or `start` has another dimension.
        """
        from embedders.kernels.skipgram import SkipGram
        from embedders.kernels.threads import cores
        from embedders.kernels.walks import Walker

        n = len(data)
        if not n:
            raise InputError("Got a graph without a node; expected at least one edge.")
        threads, rounds = self.threads or cores(), self.walks * self.epochs
        walker = Walker(data, p=self.p, q=self.q, threads=threads)
        rng = np.random.default_rng(self.seed)
        offsets = np.arange(0, (n + 1) * self.length, self.length, dtype=np.int64)
        model = None
        for number in range(rounds):
            starts = rng.permutation(n).astype(np.int32)
            tokens = walker.walks(starts, length=self.length, seed=self.seed * rounds + number).reshape(-1)
            if model is None:
                visits = np.bincount(tokens[tokens >= 0], minlength=n)
                model = SkipGram(
                    visits, self.dim, self.window, self.negative, self.lr,
                    total=rounds * len(tokens), threads=threads, seed=self.seed,
                    start=None if start is None else start_rows(start, data, data.ids, self.dim, longest=LONGEST),
                )  # fmt: skip
            model.train(tokens, offsets, progress=progress, unit="steps")
        assert model is not None  # rounds >= 1
        mode = {"threads": threads, "precision": "fp32", "reproducible": "bytes" if threads == 1 else "no"}
        return NodeVectors(self, data.ids, model.matrix, isolated(data), mode=mode)

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> NodeVectors:
        return NodeVectors(recipe, texts["ids"], arrays["matrix"], arrays["isolated"], mode=mode)


def isolated(graph: Graph) -> NDArray[np.bool_]:
    """(n,) bool: no edge leaves or enters the node, but for loops on itself."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    real = graph.indices != rows
    touched = np.zeros(len(graph), bool)
    touched[rows[real]] = True
    touched[graph.indices[real]] = True
    return ~touched
