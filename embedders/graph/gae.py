"""Graph auto-encoders, plain and variational (T. Kipf and M. Welling 2016, arXiv:1611.07308)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Estimate, Matrix, Similarity
from embedders.graph.convolution import FANS, Convolution, Part, batch_size
from embedders.graph.network import GraphNetwork
from embedders.graph.training import stream


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of nodes that one step learns from.

    joined, apart : (2, k) int64 places among the vectors of `part`. noise : (vectors, dim) standard normal.
    share : 1 / the nodes of the graph, by which the prior of `vgae` counts.
    """

    part: Part
    joined: NDArray[np.int64]
    apart: NDArray[np.int64]
    noise: Matrix
    share: float


class Gae(GraphNetwork):
    """Two graph convolutions whose vectors' inner products tell edges from pairs that are not joined."""

    kind: ClassVar[str] = "gae"
    similarity: ClassVar[Similarity] = "dot"
    layers: ClassVar[int] = 2

    dim: int = Field(64, ge=1, le=4096, description="numbers in a vector")
    hidden: int = Field(128, ge=1, le=4096, description="width of the layer between")

    def build(self, geometric: Any, width: int) -> Any:
        from torch import nn

        layers = [geometric.GCNConv(width, self.hidden, normalize=False)]
        layers += [geometric.GCNConv(self.hidden, self.dim, normalize=False) for _ in range(self._heads)]
        return self._model(geometric)(nn.ModuleList(layers))

    _heads: ClassVar[int] = 1

    def estimate(self, rows: int, edges: int) -> Estimate:
        from embedders.graph.network_costs import of_network

        size = batch_size(self.batch, rows)
        pairs = edges if size is None else size
        return of_network(
            rows, edges, self.steps, self.threads, nodes=None if size is None else 4 * size, fans=FANS,
            widths=(self.hidden, self._heads * self.dim), compared=2 * pairs * self.dim,
        )  # fmt: skip

    def _model(self, geometric: Any) -> Any:
        return geometric.GAE

    def draw(self, data: Convolution, size: int | None, step: int) -> Pairs:
        """All edges, or `size` of them; and as many pairs that are not joined."""
        graph, random = data.graph, stream(self.seed, step)
        if size is None:
            rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
            entries = np.flatnonzero(rows < graph.indices)
            joined = np.stack([rows[entries], graph.indices[entries]])
        else:
            entries = random.integers(0, len(graph.indices), size)
            joined = np.stack([np.searchsorted(graph.indptr, entries, side="right") - 1, graph.indices[entries]])
        apart = data.sampler.apart(joined.shape[1], seed=[self.seed, step])
        if size is None:
            part, count = data.whole, len(graph)
        else:
            nodes, places = np.unique(np.concatenate([joined, apart], axis=1), return_inverse=True)
            joined, apart = np.split(places.reshape(2, -1), [joined.shape[1]], axis=1)
            part, count = data.part(nodes.astype(np.int32), seed=[self.seed, step]), len(nodes)
        noise = random.standard_normal((count, self.dim), np.float32)
        return Pairs(part, joined, apart, noise, 1 / len(graph))

    def loss(self, module: Any, drawn: Pairs) -> Any:
        return self._reconstruction(module, self.vectors(module, drawn.part), drawn)

    def vectors(self, module: Any, part: Part) -> Any:
        return module.encoder[1](self._hidden(module, part), part.blocks[1])

    def _hidden(self, module: Any, part: Part) -> Any:
        return module.encoder[0](part.x, part.blocks[0]).relu()

    def _reconstruction(self, module: Any, vectors: Any, drawn: Pairs) -> Any:
        import torch

        joined, apart = (torch.from_numpy(pairs).to(vectors.device) for pairs in (drawn.joined, drawn.apart))
        if not apart.shape[
            1
        ]:  # every pair is joined; torch_geometric would draw others, with random numbers of its own
            return -torch.log(module.decode(vectors, joined) + 1e-15).mean()
        return module.recon_loss(vectors, joined, apart)


class Vgae(Gae):
    """The variational auto-encoder: each node a normal distribution, held near the standard one; vectors are the means."""

    kind: ClassVar[str] = "vgae"
    _heads: ClassVar[int] = 2

    def _model(self, geometric: Any) -> Any:
        return geometric.VGAE

    def loss(self, module: Any, drawn: Pairs) -> Any:
        import torch

        hidden, block = self._hidden(module, drawn.part), drawn.part.blocks[1]
        mean, spread = (layer(hidden, block) for layer in module.encoder[1:])
        noise = torch.from_numpy(drawn.noise).to(mean.device)
        vectors = mean + noise * spread.clamp(max=10).exp()  # as torch_geometric bounds it
        return self._reconstruction(module, vectors, drawn) + drawn.share * module.kl_loss(mean, spread)
