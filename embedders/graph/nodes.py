"""The nodes of a graph as rows that are encoded one by one, each from its own part of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.graph.convolution import undirected
from embedders.graph.degrees import degrees

HOPS = 2  # how far an encoder may look


@dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes of a graph.

    Parameters
    ----------
    graph : undirected, without loops and types; whole, also after `select`.
    rows : (n,) int64 of the graph.
    digests : (n,) hex digest of each node's features, of those of the nodes within two hops, and of the edges and
        weights between: equal surroundings, equal digest, whatever the nodes are called and however they are numbered.
    """

    graph: Graph
    rows: NDArray[np.int64]
    digests: Sequence[str]

    @classmethod
    def of(cls, graph: Graph) -> Self:
        """All nodes of a graph, in its order."""
        graph = undirected(graph)
        return cls(graph, np.arange(len(graph)), _digests(graph))

    @cached_property
    def ids(self) -> Sequence[str]:
        """(n,) names."""
        names = self.graph.ids
        return [names[row] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """Some of the nodes, in the order of `rows`, with the whole graph around them."""
        chosen = np.asarray(rows, np.int64)
        return replace(self, rows=self.rows[chosen], digests=[self.digests[row] for row in chosen])


def _digests(graph: Graph) -> list[str]:
    from embedders.kernels.refinement import refine

    weights = np.empty(0, np.uint32) if graph.weights is None else graph.weights.view(np.uint32)
    labels = _contents(degrees(graph) if graph.features is None else graph.features)
    for _ in range(HOPS):
        refined = np.empty_like(labels)
        refine(graph.indptr, graph.indices, weights, labels, refined)
        labels = refined
    text = labels.astype(">u8").tobytes().hex()
    return [text[i : i + 32] for i in range(0, len(text), 32)]


def _contents(features: Any) -> NDArray[np.uint64]:
    """(n, 2) a hash of the row of each node, dense or compressed; zeros that are stored count as others do not."""
    from scipy.sparse import issparse

    n, width = features.shape
    labels, head, sparse = bytearray(), width.to_bytes(8, "little"), issparse(features)
    if sparse:
        rows = features.tocsr().sorted_indices()
        places, values = rows.indices.astype(np.int32), rows.data.astype(np.float32)
        for first, last in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
            content = head + places[first:last].tobytes() + values[first:last].tobytes()
            labels += blake2b(content, digest_size=16).digest()
    else:
        for row in np.ascontiguousarray(features, np.float32):
            labels += blake2b(head + row.tobytes(), digest_size=16).digest()
    return np.frombuffer(bytes(labels), np.uint64).reshape(n, 2)
