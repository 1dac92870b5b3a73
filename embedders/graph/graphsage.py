"""GraphSAGE without labels: nodes from their features and those of their neighbours, also of nodes yet to come.

Source: W. Hamilton, R. Ying and J. Leskovec, "Inductive representation learning on large graphs", NIPS 2017 (mean
aggregator, loss of equation 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import EXECUTION, Batch, Embedder, Encoder, Estimate, Origin, Progress, Threads, Vectors, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.degrees import degrees
from embedders.graph.features import given_features
from embedders.graph.geometric import arrays_of, check_layers, import_geometric, seeded, take, tensor
from embedders.graph.means import Means
from embedders.graph.nodes import Nodes
from embedders.graph.training import curve, train
from embedders.graph.walk_pairs import PairDraw, unit, walk_loss
from embedders.image.precision import Device, resolve_device
from embedders.torch_threads import torch_threads

ROWS = 65536  # of a batch that is handed over
Fan = Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True, eq=False)
class SageEncoder(Encoder[Nodes]):
    """A network that was trained. weights: its arrays by name, float32."""

    recipe: GraphSage
    weights: Mapping[str, NDArray[Any]]

    @property
    def dim(self) -> int:
        return self.recipe.dim

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return self.weights

    @cached_property
    def _module(self) -> Any:
        build = partial(self.recipe.build, import_geometric("graphsage"), self._width)
        module = seeded(build, 0, "cpu")
        take(module, self.weights)
        return module.to(resolve_device(self.recipe.device))

    @property
    def _width(self) -> int:
        """Features of a node."""
        return int(self.weights["0.weight"].shape[1])

    def encode(self, data: Nodes, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the nodes from all their neighbours, a layer after the other, over the nodes that these need.

        A vector does not depend on `threads`, and on which others are asked for only by rounding.

        Raises
        ------
        InputError : the nodes have not as many features as those it was trained on.
        """
        features = _features(self.recipe, data.graph)
        if features.shape[1] != self._width:
            raise InputError(
                f"Got nodes of {features.shape[1]:,} features; expected the {self._width:,} that the network was trained "
                "on. Train it anew with --force."
            )
        means = Means(data.graph, resolve_device(self.recipe.device), self.recipe.threads)
        project, *layers = self._module
        near = means.around(data.rows)
        far = means.around(near)
        known = means.each(far, lambda rows: project(tensor(features[rows], means.device)), self.recipe.hidden)
        known = means.layer(lambda *both: layers[0](*both).relu(), near, far, known, self.recipe.hidden)
        degree = np.diff(data.graph.indptr)
        for first in range(0, len(data), ROWS):
            rows = data.rows[first : first + ROWS]
            matrix = means.layer(lambda *both: unit(layers[1](*both)), rows, near, known, self.dim)
            origin: list[Origin] = ["embedded" if it else "isolated" for it in degree[rows].tolist()]
            progress(first + len(rows), len(data), "nodes")
            some = slice(first, first + len(rows))
            yield Batch(Vectors(self.entity, data.ids[some], matrix), data.digests[some], origin)


class GraphSage(Embedder[Nodes]):
    """Each node is what it is and the mean of its neighbours, twice; nodes that meet on short walks become alike.

    Features, which may be wide and sparse, are projected first. Edges count both ways; loops and types do not; weights
    count in walks and means. Without features, degrees serve: walks would tell nothing of nodes yet to come.
    """

    kind: ClassVar[str] = "graphsage"
    data: ClassVar[type] = Nodes
    entity: ClassVar[str] = "node"
    inductive: ClassVar[bool] = True

    dim: int = Field(128, ge=1, le=4096, description="numbers in a vector, which has length 1")
    hidden: int = Field(128, ge=1, le=4096, description="width of the layer between, and of projected features")
    fanout: tuple[Fan, Fan] = Field(
        (25, 10), description="neighbours of a node in training, and of each of those; afterwards all count"
    )
    steps: int = Field(
        1000,
        ge=1,
        description="gradient steps (Adam), each over a mini-batch; from a start an eighth of them, at a quarter of `lr`",
    )
    batch: int = Field(512, ge=1, description="nodes of a mini-batch, each with one that it meets")
    lr: float = Field(0.001, gt=0, le=1, description="learning rate")
    walk: int = Field(5, ge=1, le=1000, description="steps of the walk on which nodes meet")
    negative: int = Field(20, ge=1, le=10000, description="noise nodes of a mini-batch, drawn by degree^0.75")
    normalise: bool = Field(True, description="features of a node are divided by their sum")
    threads: Threads = 0
    device: Device = Field(
        "auto",
        json_schema_extra=EXECUTION,
        description="auto: a CUDA device where torch can use one, else the processor",
    )

    def build(self, geometric: Any, width: int) -> Any:
        """The module for features `width` wide, of the layers of `geometric` (torch_geometric.nn).

        The adjacency holds the shares of the mean, so its rows are summed.
        """
        from torch import nn

        layers = (geometric.SAGEConv(self.hidden, out, aggr="sum") for out in (self.hidden, self.dim))
        return nn.ModuleList([nn.Linear(width, self.hidden, bias=False), *layers])

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.network_costs import of_network

        return of_network(
            rows, edges, self.steps, self.threads, nodes=2 * self.batch + self.negative, fans=self.fanout,
            widths=(self.hidden, self.dim),
        )  # fmt: skip

    def fit(self, data: Nodes, *, start: Encoder[Nodes] | None = None, progress: Progress = silent) -> SageEncoder:
        """Train on the graph around `data`, from the weights of `start` if given.

        A graph without edges teaches nothing; its nodes get the vectors of the network as it was drawn.

        Raises
        ------
        InputError : there is no node, a feature is not finite, or `start` is no such network of the same widths.
        MissingPackageError : torch or torch_geometric is not installed.
        """
        from embedders.kernels.threads import cores

        if not len(data.graph):
            raise InputError("Got a graph without a node; expected at least one.")
        geometric, device, threads = import_geometric(self.kind), resolve_device(self.device), self.threads or cores()
        features = _features(self, data.graph)
        build = partial(self.build, geometric, features.shape[1])
        module = seeded(build, self.seed, device)
        if start is not None:
            check_layers(build, start, start.arrays())
            take(module, start.arrays())
        with torch_threads(threads):
            losses = [] if not len(data.graph.indices) else train(
                module, PairDraw(data.graph, features, device, self.seed, self.walk, self.batch, self.negative, self.fanout), partial(walk_loss, module),
                steps=self.steps, lr=self.lr, further=start is not None, threads=threads, progress=progress,
            )  # fmt: skip
        mode = {
            "threads": threads, "device": device, "precision": "fp32", "reproducible": "to 1e-5",
            "features": "degrees" if data.graph.features is None else "given", "steps": len(losses), "loss": curve(losses),
        }  # fmt: skip
        return SageEncoder(self, arrays_of(module), mode=mode)

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> SageEncoder:
        return SageEncoder(recipe, arrays, mode=mode)


def _features(recipe: GraphSage, graph: Graph) -> Any:
    """What is known of nodes; degrees where they have no features."""
    return degrees(graph) if graph.features is None else given_features(graph, normalise=recipe.normalise)
