"""What the graph networks have in common that learn one vector for each node of one graph: `gae`, `vgae`, `dgi`."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from embedders.base import EXECUTION, Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.convolution import Convolution, Part, Size, batch_size, undirected
from embedders.graph.features import features_or_structure
from embedders.graph.geometric import import_geometric, seeded
from embedders.graph.node2vec import NodeVectors, isolated
from embedders.graph.training import curve, train
from embedders.image.precision import Device, resolve_device
from embedders.torch_threads import torch_threads


class GraphNetwork(Embedder[Graph]):
    """Convolutions learn from the whole graph, or from sampled neighbourhoods where it is large.

    Edges count both ways, loops and types not at all; weights count in the convolution. Features are `Graph.features`;
    without them degrees and the vectors of short walks serve. A node without neighbours gets its vector from its
    features, and a graph without edges those of the network as it was drawn, since there is nothing to learn.
    """

    data: ClassVar[type] = Graph
    entity: ClassVar[str] = "node"
    encoder: ClassVar[type] = NodeVectors
    layers: ClassVar[int]
    length: ClassVar[float | None] = None  # that vectors have on the mean, scaled by one number; None: as they come

    steps: int = Field(200, ge=1, description="gradient steps (Adam), each over the graph or a mini-batch")
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

    def fit(self, data: Graph, *, start: Encoder[Graph] | None = None, progress: Progress = silent) -> NodeVectors:
        """Train on `data`. `mode` of the encoder holds the steps taken and their mean loss, along at most 100 stretches.

        Raises
        ------
        InputError : the graph has no node, a feature is not finite, or a start is given.
        MissingPackageError : torch or torch_geometric is not installed.
        """
        from embedders.kernels.threads import cores

        if start is not None:
            raise InputError(
                f"Got a start; {self.kind!r} learns its layers anew, in seconds to minutes. Leave start out."
            )
        if not len(data):
            raise InputError("Got a graph without a node; expected at least one.")
        geometric, device, threads = import_geometric(self.kind), resolve_device(self.device), self.threads or cores()
        graph = undirected(data)
        features = features_or_structure(graph, normalise=self.normalise, seed=self.seed, threads=threads)
        with torch_threads(threads):
            module = seeded(partial(self.build, geometric, features.shape[1]), self.seed, device)
            convolution = Convolution(graph, features, self.layers, device)
            size = batch_size(self.batch, len(graph))
            losses = [] if not len(graph.indices) else train(
                module, partial(self.draw, convolution, size), partial(self.loss, module), steps=self.steps, lr=self.lr,
                patience=self.patience if size is None else 0, threads=threads, progress=progress,
            )  # fmt: skip
            matrix = self._infer(module, convolution)
        exact = threads == 1 and device == "cpu"
        mode = {
            "threads": threads, "device": device, "precision": "fp32", "reproducible": "bytes" if exact else "no",
            "features": "structure" if data.features is None else "given", "steps": len(losses), "loss": curve(losses),
        }  # fmt: skip
        return NodeVectors(self, data.ids, matrix, isolated(data), mode=mode)

    def _infer(self, module: Any, data: Convolution) -> Matrix:
        """(n, dim) from all neighbours, however it was trained."""
        import torch

        with torch.inference_mode():
            matrix: Matrix = self.vectors(module, data.whole).cpu().numpy()
        if self.length is not None:
            mean = float(np.linalg.norm(matrix, axis=1).mean())
            matrix *= np.float32(self.length / max(mean, 1e-30))
        return matrix
