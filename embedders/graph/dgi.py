"""Deep graph infomax (P. Velickovic et al. 2019, arXiv:1809.10341)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Estimate
from embedders.graph.convolution import FANS, Convolution, Part, batch_size
from embedders.graph.network import GraphNetwork
from embedders.graph.training import stream


@dataclass(frozen=True, eq=False)
class Shuffled:
    """What one step learns from. order : (nodes of `part`,) int32, whose features each node gets in the corrupted graph."""

    part: Part
    order: NDArray[np.int32]


class Dgi(GraphNetwork):
    """A graph convolution whose vectors, and not those of a graph with shuffled features, tell of the whole graph."""

    kind: ClassVar[str] = "dgi"
    layers: ClassVar[int] = 1
    length: ClassVar[float] = 4.0  # classifiers with the usual penalty (C = 1) score best between 2 and 8 (Cora)

    dim: int = Field(512, ge=1, le=4096, description="numbers in a vector")
    steps: int = Field(
        300,
        ge=1,
        description="gradient steps (Adam) at most, each over the graph or a mini-batch; from a start an eighth of them, at a quarter of `lr`",
    )
    lr: float = Field(0.001, gt=0, le=1, description="learning rate")
    patience: int = Field(
        20,
        ge=0,
        description="steps over the graph without a lower loss that end training, at the weights of the lowest; 0: none do; of mini-batches none do",
    )

    def build(self, geometric: Any, width: int) -> Any:
        from torch import nn

        layers = nn.ModuleList([geometric.GCNConv(width, self.dim, normalize=False), nn.PReLU(self.dim)])
        return geometric.DeepGraphInfomax(self.dim, layers, summary=_summary, corruption=_with_shuffled)

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.network_costs import of_network

        size = batch_size(self.batch, rows)
        return of_network(rows, edges, self.steps, self.threads, nodes=size, fans=FANS, widths=(self.dim,), copies=2)

    def draw(self, data: Convolution, size: int | None, step: int) -> Shuffled:
        """The graph, or the neighbourhood of `size` nodes; and an order of its nodes."""
        random, n = stream(self.seed, step), len(data.graph)
        if size is None:
            part = data.whole
        else:
            nodes = np.unique(random.integers(0, n, min(size, n), np.int32))
            part = data.part(nodes, seed=[self.seed, step])
        return Shuffled(part, random.permutation(part.x.shape[0]).astype(np.int32))

    def loss(self, module: Any, drawn: Shuffled) -> Any:
        [block] = drawn.part.blocks
        both = self.vectors(module, Part(drawn.part.x, [_with_shuffled(block, drawn.order)]))
        vectors, corrupted = both.split(block.shape[0])
        return module.loss(vectors, corrupted, _summary(vectors))

    def vectors(self, module: Any, part: Part) -> Any:
        layer, activation = module.encoder
        return activation(layer(part.x, part.blocks[0]))


def _summary(vectors: Any) -> Any:
    return vectors.mean(dim=0).sigmoid()


def _with_shuffled(block: Any, order: NDArray[np.int32]) -> Any:
    """The block, and below it the same with its columns in another order, which is as if the features were."""
    import torch

    ends, columns, values = block.crow_indices(), block.col_indices(), block.values()
    shuffled = torch.from_numpy(order).to(block.device)[columns]
    return torch.sparse_csr_tensor(
        torch.cat([ends, ends[1:] + ends[-1]]), torch.cat([columns, shuffled]), torch.cat([values, values]),
        size=(2 * block.shape[0], block.shape[1]), check_invariants=False,
    )  # fmt: skip
