"""What GraphSAGE learns from without labels: pairs of nodes that meet on short walks, and noise (Hamilton et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.graph.convolution import Part
from embedders.graph.geometric import tensor
from embedders.graph.means import shares
from embedders.graph.training import stream

if TYPE_CHECKING:
    from embedders.kernels.neighbours import Sampler
    from embedders.kernels.walks import Walker


@dataclass(frozen=True, eq=False)
class Pairs:
    """What one step learns from.

    part : the neighbourhood of the nodes below. source, target : (k,) int64 places of nodes that meet on a walk.
    noise : (m,) int64 places of nodes that all of them are told from.
    """

    part: Part
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    noise: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairDraw:
    """Draws what each step learns from.

    graph : undirected, without loops, with an edge. features : (n, d) float32, an array or a SciPy matrix in compressed
        rows. walk, batch, negative, fanout : as of `GraphSage`.
    """

    graph: Graph
    features: Any
    device: str
    seed: int
    walk: int
    batch: int
    negative: int
    fanout: Sequence[int]

    @cached_property
    def _tools(self) -> tuple[Sampler, Walker]:
        from embedders.kernels.neighbours import Sampler
        from embedders.kernels.walks import Walker

        return Sampler(self.graph), Walker(self.graph, p=1, q=1, threads=1)

    @cached_property
    def _share(self) -> NDArray[np.float64]:
        """(n,) how many of the noise nodes have this number or a lower one."""
        share = np.cumsum(np.diff(self.graph.indptr) ** 0.75)
        return np.asarray(share / share[-1])

    @cached_property
    def _joined(self) -> NDArray[np.int32]:
        """Nodes with a neighbour."""
        return np.flatnonzero(np.diff(self.graph.indptr)).astype(np.int32)

    def __call__(self, step: int) -> Pairs:
        """Pairs that meet on walks, and noise, with the neighbourhoods of all."""
        random = stream(self.seed, step)
        sampler, walker = self._tools
        source = self._joined[random.integers(0, len(self._joined), self.batch)]
        walks = walker.walks(source, length=self.walk + 1, seed=int(random.integers(2**63)))
        target = walks[np.arange(len(walks)), random.integers(1, self.walk + 1, len(walks))]
        apart = source != target
        if apart.any():
            source, target = source[apart], target[apart]
        noise = np.searchsorted(self._share, random.random(self.negative), side="right").astype(np.int32)
        nodes, places = np.unique(np.concatenate([source, target, noise]), return_inverse=True)
        drawn = sampler.sample(nodes, self.fanout, seed=[self.seed, step])
        weights = (
            np.ones(len(drawn.edges), np.float32) if self.graph.weights is None else self.graph.weights[drawn.edges]
        )
        blocks = [
            tensor(shares(weights[: len(columns)], columns, indptr, width), self.device)
            for indptr, columns, width in drawn.layers()
        ]
        part = Part(tensor(self.features[drawn.nodes], self.device), blocks)
        return Pairs(part, *np.split(places.astype(np.int64), [len(source), 2 * len(source)]))


def walk_loss(module: Any, pairs: Pairs) -> Any:
    """The mean over pairs of -log s(u v) - sum over noise nodes w of log s(-u w), s the logistic function."""
    import torch
    from torch.nn.functional import softplus

    project, *layers = module
    known = project(pairs.part.x)
    for number, (layer, block) in enumerate(zip(layers, pairs.part.blocks, strict=True)):
        known = layer((known, known[: block.shape[0]]), block)
        known = unit(known) if number else known.relu()
    source, target, noise = (known[torch.from_numpy(it).to(known.device)] for it in (pairs.source, pairs.target, pairs.noise))  # fmt: skip
    return softplus(-(source * target).sum(dim=1)).mean() + softplus(source @ noise.T).sum(dim=1).mean()


def unit(vectors: Any) -> Any:
    """Each row divided by its length."""
    import torch

    return torch.nn.functional.normalize(vectors, dim=1)
