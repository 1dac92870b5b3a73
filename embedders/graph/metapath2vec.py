"""metapath2vec and metapath2vec++ (Dong, Chawla and Swami 2017, KDD): node2vec on walks that follow paths of node types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from embedders.base import Embedder, Encoder, Estimate, Progress, Threads, silent
from embedders.data import Graph
from embedders.graph.metapath import Step, along, check_walk, made, steps
from embedders.graph.node2vec import NodeVectors

if TYPE_CHECKING:
    from embedders.kernels.walks import TypedWalker

OTHER = "type_not_in_metapath"
EDGE_BYTES = 120  # of memory while the edges of each step are put in order: measured 98, with weights 140


@dataclass(frozen=True, eq=False)
class TypedNodeVectors(NodeVectors):
    """Vectors of the nodes whose types are in the metapath; the others are left out by rule."""

    recipe: MetaPath2Vec

    def excluded(self, data: Graph) -> Mapping[str, int]:
        left = len(data) - len(self.ids)
        return {OTHER: left} if left else {}

    def fold_in(self, data: Graph) -> Self:
        return super().fold_in(along(data, self.recipe.paths))


class MetaPath2Vec(Embedder[Graph]):
    """Random walks along paths of node types, read as sentences by the skip-gram kernel of word2vec.

    Each step draws a neighbour of the type that is next in the path, evenly or by weight. Walks begin at each node of
    the first type. Negatives are drawn from all nodes that walks visit, or, as metapath2vec++ does, from those of the
    type that is asked for.
    """

    kind: ClassVar[str] = "metapath2vec"
    data: ClassVar[type] = Graph
    encoder: ClassVar[type] = TypedNodeVectors
    entity: ClassVar[str] = "node"
    version: ClassVar[int] = 2
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    metapath: tuple[str, ...] | tuple[tuple[str, ...], ...] = Field(
        description="types of a walk's nodes, from one type back to it: [author, paper, venue, paper, author]; between two "
        "of them -TYPE-> takes edges of a type, <-TYPE- or <- goes against them; or a list of such paths, which walks take by turns",
    )
    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector")
    walks: int = Field(10, ge=1, description="walks from each node of the first type")
    length: int = Field(80, ge=2, description="nodes in a walk")
    window: int = Field(10, ge=1, le=1000, description="farthest context node in a walk")
    negative: int = Field(5, ge=1, le=100, description="noise nodes a centre node")
    typed_noise: bool = Field(False, description="noise nodes are of the centre node's type (metapath2vec++)")
    epochs: int = Field(1, ge=1, description="passes over the walks; each draws new ones")
    lr: float = Field(0.025, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    threads: Threads = 0

    @field_validator("metapath", mode="before")
    @classmethod
    def _walkable(cls, metapath: Any) -> Any:
        listed = isinstance(metapath, list | tuple) and all(
            isinstance(path, list | tuple) for path in _listed(metapath)
        )
        if not listed or not all(isinstance(item, str) for path in _listed(metapath) for item in path):
            raise ValueError("a list of node types, or a list of such lists")
        first = {steps(path)[0].source for path in _listed(metapath)}
        if len(first) > 1:
            raise ValueError(f"paths that begin with one type, not with {' and '.join(sorted(first))}")
        return metapath

    @property
    def paths(self) -> tuple[tuple[Step, ...], ...]:
        """The steps of each path."""
        return tuple(map(steps, _listed(self.metapath)))

    def estimate(self, rows: int, edges: int) -> Estimate:
        """As if each type of the metapath had as many nodes."""
        from embedders.graph.costs import of_walks

        begin = rows / len({step.source for path in self.paths for step in path})
        visits = round(begin * self.walks * self.length * self.epochs)
        cost = of_walks(rows, edges, visits, self.dim, self.window, self.threads)
        return Estimate(cost.bytes + EDGE_BYTES * edges, cost.seconds, cost.threads)

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> TypedNodeVectors:
        """Train on the nodes of `data` whose types are in the metapath; those that `start` knows begin at its vectors.

        Nodes that no walk leads to or from are isolated. `mode` of the encoder holds the mean loss of each epoch.

        Raises
        ------
        InputError : nodes have no types, the metapath names a type of nodes or edges that there is not, a step that no
            edge makes, or no node can walk it; `start` has another dimension.
        """
        from embedders.graph.walked import learn

        graph = along(data, self.paths)
        assert graph.types is not None  # `along` sees to it
        order, groups = np.arange(len(graph)), None
        if self.typed_noise:  # nodes of a type stand together
            order, groups = np.argsort(graph.types, kind="stable"), np.cumsum(np.bincount(graph.types)).tolist()
        place = np.empty(len(graph), np.int32)
        place[order] = np.arange(len(graph))
        walker = self._walker(graph, place)
        begin, ids = place[np.flatnonzero(graph.types == 0)], [graph.ids[row] for row in order.tolist()]
        learned = learn(self, walker, ids, begin, start, data, progress, groups)
        return TypedNodeVectors(self, graph.ids, learned.matrix[place], ~learned.reached[place], mode=learned.mode)

    def _walker(self, graph: Graph, place: NDArray[np.int32]) -> TypedWalker:
        """Draws walks along the paths; node i of the graph is place[i] in them."""
        from embedders.kernels.threads import cores
        from embedders.kernels.walks import TypedWalker

        kinds = list(dict.fromkeys(step for path in self.paths for step in path))
        edges = list(made(graph, kinds))
        for path in self.paths:
            check_walk(graph, path, [edges[kinds.index(step)] for step in path])
        patterns = [[kinds.index(step) for step in (path[-1], *path[:-1])] for path in self.paths]
        moved = [(place[own.source], place[own.target], own.weights) for own in edges]
        return TypedWalker(len(graph), moved, patterns, threads=self.threads or cores())


def _listed(metapath: Sequence[Any]) -> Sequence[Sequence[str]]:
    """One path or several as several."""
    return [metapath] if not metapath or isinstance(metapath[0], str) else metapath
