"""What the graph networks have in common that learn one vector for each node of one graph: `gae`, `vgae`, `dgi`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import EXECUTION, Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.convolution import Convolution, Part, Size, batch_size, undirected
from embedders.graph.features import STRUCTURE, WALK_DIM, features_or_structure
from embedders.graph.geometric import arrays_of, check_layers, import_geometric, seeded, take
from embedders.graph.node2vec import Node2Vec, NodeVectors, isolated
from embedders.graph.training import curve, train
from embedders.image.precision import Device, resolve_device
from embedders.torch_threads import torch_threads

WEIGHT = "weight "
"""What the names of the network's arrays begin with where they are saved."""


@dataclass(frozen=True, eq=False)
class NetworkVectors(NodeVectors):
    """Node vectors, with what a later training goes on from.

    weights : the arrays of the network by name. walks : (n, 64) float32, the vectors of walks that served as features;
    None where the nodes had features.
    """

    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict, kw_only=True)
    walks: Matrix | None = field(default=None, kw_only=True)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {**super().arrays(), **{WEIGHT + name: array for name, array in self.weights.items()}}

    @property
    def walked(self) -> NodeVectors | None:
        """The vectors of walks, as node2vec begins at them."""
        short = Node2Vec.model_validate({"dim": WALK_DIM})
        return None if self.walks is None else NodeVectors(short, self.ids, self.walks, self.isolated)


class GraphNetwork(Embedder[Graph]):
    """Convolutions learn from the whole graph, or from sampled neighbourhoods where it is large.

    Edges count both ways, loops and types not at all; weights count in the convolution. Features are `Graph.features`;
    without them degrees and the vectors of short walks serve. A node without neighbours gets its vector from its
    features, and a graph without edges those of the network as it was drawn, since there is nothing to learn.
    """

    data: ClassVar[type] = Graph
    entity: ClassVar[str] = "node"
    encoder: ClassVar[type] = NetworkVectors
    version: ClassVar[int] = 2
    warm_start: ClassVar[bool] = True
    layers: ClassVar[int]
    length: ClassVar[float | None] = None  # that vectors have on the mean, scaled by one number; None: as they come

    steps: int = Field(
        200,
        ge=1,
        description="gradient steps (Adam), each over the graph or a mini-batch; from a start an eighth of them, at a quarter of `lr`",
    )
    lr: float = Field(0.01, gt=0, le=1, description="learning rate")
    patience: int = Field(
        0,
        ge=0,
        description="steps over the graph without a lower loss that end training, at the weights of the lowest; 0: none do; of mini-batches none do",
    )
    batch: Size = "auto"
    normalise: bool = Field(True, description="features of a node are divided by their sum")
    threads: Threads = 0
    device: Device = Field(
        "auto",
        json_schema_extra=EXECUTION,
        description="auto: a CUDA device where torch can use one, else the processor",
    )

    @abstractmethod
    def build(self, geometric: Any, width: int) -> Any:
        """The module for features `width` wide, of the layers of `geometric` (torch_geometric.nn)."""

    @abstractmethod
    def draw(self, data: Convolution, size: int | None, step: int) -> Any:
        """What step `step` learns from: a mini-batch, or with `size` None the whole graph."""

    @abstractmethod
    def loss(self, module: Any, drawn: Any) -> Any:
        """Of one step, as a tensor."""

    @abstractmethod
    def vectors(self, module: Any, part: Part) -> Any:
        """The vectors of the first nodes of `part`, as many as its last block has rows, as a tensor."""

    def check_start(self, data: Graph, start: Encoder[Graph]) -> None:
        """Only the layers of the same kind of network, for as many features, can be gone on from.

        Raises
        ------
        InputError : `start` holds no such layers.
        MissingPackageError : torch or torch_geometric is not installed.
        """
        weights = start.weights if isinstance(start, NetworkVectors) else {}
        width = STRUCTURE if data.features is None else data.features.shape[1]
        check_layers(partial(self.build, import_geometric(self.kind), width), start, weights)
        if isinstance(start, NetworkVectors) and (start.walks is None) != (data.features is not None):
            raise InputError(
                f"Got a start that learned {'from features' if start.walks is None else 'without features'}; expected one "
                f"that learned {'without, as this graph has none' if data.features is None else 'from them'}. Leave start out."
            )

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NetworkVectors:
        """Train on `data`, from the layers of `start` if given. `mode` of the encoder holds the steps taken and their mean
        loss, along at most 100 stretches.

        Raises
        ------
        InputError : the graph has no node, a feature is not finite, or `start` cannot be gone on from (`check_start`).
        MissingPackageError : torch or torch_geometric is not installed.
        """
        from embedders.kernels.threads import cores

        if not len(data):
            raise InputError("Got a graph without a node; expected at least one.")
        if start is not None:
            self.check_start(data, start)
        before = start if isinstance(start, NetworkVectors) else None
        geometric, device, threads = import_geometric(self.kind), resolve_device(self.device), self.threads or cores()
        graph = undirected(data)
        features = features_or_structure(
            graph, normalise=self.normalise, seed=self.seed, threads=threads, start=before and before.walked
        )
        with torch_threads(threads):
            module = seeded(partial(self.build, geometric, features.shape[1]), self.seed, device)
            if before is not None:
                take(module, before.weights)
            convolution = Convolution(graph, features, self.layers, device)
            size = batch_size(self.batch, len(graph))
            losses = [] if not len(graph.indices) else train(
                module, partial(self.draw, convolution, size), partial(self.loss, module), steps=self.steps, lr=self.lr, further=start is not None,
                patience=self.patience if size is None else 0, threads=threads, progress=progress,
            )  # fmt: skip
            matrix = self._infer(module, convolution)
        exact = threads == 1 and device == "cpu"
        mode = {
            "threads": threads, "device": device, "precision": "fp32", "reproducible": "bytes" if exact else "no",
            "features": "structure" if data.features is None else "given", "steps": len(losses), "loss": curve(losses),
        }  # fmt: skip
        walks = np.ascontiguousarray(features[:, -WALK_DIM:]) if data.features is None else None
        return NetworkVectors(self, data.ids, matrix, isolated(data), weights=arrays_of(module), walks=walks, mode=mode)

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> NetworkVectors:
        weights = {name.removeprefix(WEIGHT): array for name, array in arrays.items() if name.startswith(WEIGHT)}
        fields: dict[str, Any] = {**texts, **{name: it for name, it in arrays.items() if not name.startswith(WEIGHT)}}
        return NetworkVectors(recipe, **fields, weights=weights, mode=mode)

    def _infer(self, module: Any, data: Convolution) -> Matrix:
        """(n, dim) from all neighbours, however it was trained."""
        import torch

        with torch.inference_mode():
            matrix: Matrix = self.vectors(module, data.whole).cpu().numpy()
        if self.length is not None:
            mean = float(np.linalg.norm(matrix, axis=1).mean())
            matrix *= np.float32(self.length / max(mean, 1e-30))
        return matrix
