"""metapath2vec (Dong, Chawla and Swami 2017, KDD): node2vec on walks that follow a path of node types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from embedders.base import Embedder, Encoder, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.node2vec import NodeVectors

OTHER = "type_not_in_metapath"


@dataclass(frozen=True, eq=False)
class TypedNodeVectors(NodeVectors):
    """Vectors of the nodes whose types are in the metapath; the others are left out by rule."""

    recipe: MetaPath2Vec

    def excluded(self, data: Graph) -> Mapping[str, int]:
        left = len(data) - len(self.ids)
        return {OTHER: left} if left else {}

    def fold_in(self, data: Graph) -> Self:
        return super().fold_in(of_types(data, self.recipe.metapath))


class MetaPath2Vec(Embedder[Graph]):
    """Random walks along a path of node types, read as sentences by the skip-gram kernel of word2vec.

    Each step draws a neighbour of the type that is next in `metapath`, evenly or by weight. Walks begin at each node of
    its first type. Negatives are drawn from all nodes that walks visit, as in the paper's metapath2vec.
    """

    kind: ClassVar[str] = "metapath2vec"
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = TypedNodeVectors
    entity: ClassVar[str] = "node"
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    metapath: tuple[str, ...] = Field(
        min_length=2,
        description="types of a walk's nodes, from one type back to it: [author, paper, venue, paper, author]",
    )
    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector")
    walks: int = Field(10, ge=1, description="walks from each node of the first type")
    length: int = Field(80, ge=2, description="nodes in a walk")
    window: int = Field(10, ge=1, le=1000, description="farthest context node in a walk")
    negative: int = Field(5, ge=1, le=100, description="noise nodes a centre node")
    epochs: int = Field(1, ge=1, description="passes over the walks; each draws new ones")
    lr: float = Field(0.025, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    threads: Threads = 0

    @field_validator("metapath")
    @classmethod
    def _returns(cls, metapath: tuple[str, ...]) -> tuple[str, ...]:
        if metapath[:1] != metapath[-1:]:
            raise ValueError(f"a path that ends with its first type, {metapath[0]!r}, so that walks can go on")
        return metapath

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> TypedNodeVectors:
        """Train on the nodes of `data` whose types are in the metapath; those that `start` knows begin at its vectors.

        Nodes that no walk leads to or from are isolated. `mode` of the encoder holds the mean loss of each epoch.

        Raises
        ------
        InputError : nodes have no types, the metapath names another one, or a step of it that no edge makes; `start`
            has another dimension.
        """
        from embedders.graph.walked import learn
        from embedders.kernels.threads import cores
        from embedders.kernels.walks import TypedWalker

        graph = of_types(data, self.metapath)
        assert graph.types is not None  # of_types sees to it
        pattern = [graph.type_names.index(name) for name in self.metapath[:-1]]
        walker = TypedWalker(graph, graph.types, pattern, threads=self.threads or cores())
        begin = np.flatnonzero(graph.types == pattern[0]).astype(np.int32)
        learned = learn(self, walker, graph.ids, begin, start, data, progress)
        return TypedNodeVectors(self, graph.ids, learned.matrix, ~learned.reached, mode=learned.mode)


def of_types(graph: Graph, metapath: Sequence[str]) -> Graph:
    """The nodes whose types are in the metapath, and the edges between them; its type_names are those types.

    Raises
    ------
    InputError : see `MetaPath2Vec.fit`.
    """
    if graph.types is None or not len(graph):
        raise InputError(
            "Got a graph whose nodes have no types; expected a type for each node, as the metapath names types. Give the "
            "dataset a table of nodes with their types, or take node2vec."
        )
    names = tuple(dict.fromkeys(metapath))
    if unknown := [name for name in names if name not in graph.type_names]:
        raise InputError(
            f"Got {unknown[0]!r} in the metapath; the graph's types are {', '.join(graph.type_names)}. Name one of them."
        )
    number = np.full(len(graph.type_names), -1, np.int16)
    for i, name in enumerate(names):
        number[graph.type_names.index(name)] = i
    types = number[graph.types]
    kept = types >= 0
    place = np.cumsum(kept) - 1
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    edges = kept[rows] & kept[graph.indices]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(place[rows[edges]], minlength=int(kept.sum())))])
    made = {(int(a), int(b)) for a, b in _pairs(types[rows[edges]], types[graph.indices[edges]], len(names))}
    for a, b in pairwise(metapath):
        if (names.index(a), names.index(b)) not in made:
            steps = ", ".join(f"{names[i]}-{names[j]}" for i, j in sorted(made)) or "none"
            hint = "Read the graph with directed: false" if graph.directed and (names.index(b), names.index(a)) in made else "Change the metapath"  # fmt: skip
            raise InputError(f"Got the step {a}-{b} in the metapath, which no edge makes; edges make {steps}. {hint}.")
    return replace(
        graph, ids=[graph.ids[row] for row in np.flatnonzero(kept).tolist()], indptr=indptr.astype(np.int64),
        indices=place[graph.indices[edges]].astype(np.int32), weights=None if graph.weights is None else graph.weights[edges],
        features=None, types=types[kept], type_names=names, edge_types=None, edge_type_names=(),
    )  # fmt: skip


def _pairs(a: NDArray[np.int16], b: NDArray[np.int16], kinds: int) -> NDArray[np.int64]:
    """(k, 2), the pairs that occur."""
    found = np.unique(a.astype(np.int64) * kinds + b)
    return np.stack([found // kinds, found % kinds], axis=1)
