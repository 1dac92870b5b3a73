"""Sampled neighbourhoods of CSR rows, and pairs that are not joined: the mini-batches of graph networks.

Source: W. Hamilton, R. Ying and J. Leskovec, "Inductive representation learning on large graphs", NIPS 2017, algorithm 2.
Every node of every hop has a random stream of its own, a counter (splitmix64), so that neither the number of threads nor
the company a node is asked for in changes what is drawn for it. Without replacement: Floyd's subset (Bentley and Floyd
1987).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.kernels.noise import GOLDEN, mixed
from embedders.kernels.second_order import find

TRIES = 32  # at a pair that is not joined, before it is given up: the graph is nearly complete


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _draw(indptr, rows, fan, stream, ends, edges):
    """Write the entries of each row that are taken, ascending, to edges[ends[i]:ends[i + 1]]; all where they are few."""
    for i in range(len(rows)):
        first, out = indptr[rows[i]], ends[i]
        degree, taken = indptr[rows[i] + 1] - first, ends[i + 1] - out
        if degree <= fan:
            for k in range(degree):
                edges[out + k] = first + k
            continue
        counter = mixed(stream + np.uint64(rows[i]) * np.uint64(GOLDEN))
        for k in range(taken):
            last = degree - taken + k
            counter += np.uint64(GOLDEN)
            drawn = np.int64(((mixed(counter) >> np.uint64(32)) * np.uint64(last + 1)) >> np.uint64(32))
            place = k
            while place > 0 and edges[out + place - 1] > first + drawn:
                place -= 1
            if place > 0 and edges[out + place - 1] == first + drawn:
                edges[out + k] = first + last  # more than any before
                continue
            for j in range(k, place, -1):
                edges[out + j] = edges[out + j - 1]
            edges[out + place] = first + drawn


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _rename(indices, edges, place, nodes, known, columns):
    """Number the nodes that the entries lead to, new ones from `known` on; how many are known then."""
    for i in range(len(edges)):
        node = indices[edges[i]]
        if place[node] < 0:
            place[node] = known
            nodes[known] = node
            known += 1
        columns[i] = place[node]
    return known


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _apart(indptr, indices, stream, source, target):
    """Draw a pair of different nodes that are not joined into each place; -1 where none was found."""
    n = np.uint64(len(indptr) - 1)
    for i in range(len(source)):
        counter = mixed(stream + np.uint64(i) * np.uint64(GOLDEN))
        source[i] = target[i] = -1
        for _ in range(TRIES):
            counter += np.uint64(GOLDEN)
            bits = mixed(counter)
            a = np.int64(((bits >> np.uint64(32)) * n) >> np.uint64(32))
            b = np.int64(((bits & np.uint64(0xFFFFFFFF)) * n) >> np.uint64(32))
            if a != b and find(indices, indptr[a], indptr[a + 1], b) < 0:
                source[i], target[i] = a, b
                break


@dataclass(frozen=True, eq=False)
class Sample:
    """Nodes and some of their neighbours, and of theirs.

    Parameters
    ----------
    nodes : (m,) int32 rows of the graph, each once: those asked for, then those that each hop adds.
    sizes : how many of them are known before the first hop and after each; the last is m.
    indptr, columns : the entries of `nodes[:sizes[-2]]` in compressed rows; columns are places in `nodes`. Those of
        `nodes[:sizes[h]]` lead to `nodes[:sizes[h + 1]]`.
    edges : (entries,) int64 their places in the graph's `indices`.
    """

    nodes: NDArray[np.int32]
    sizes: tuple[int, ...]
    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    edges: NDArray[np.int64]

    def layers(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], int]]:
        """What each layer of a network reads, the first layer first: row ends, columns, and how many nodes these are of."""
        for rows, width in zip(self.sizes[-2::-1], self.sizes[:0:-1], strict=True):
            yield self.indptr[: rows + 1], self.columns[: self.indptr[rows]], width


class Sampler:
    """Draws neighbourhoods in one graph. May be asked by several threads; each keeps 4 bytes a node."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._own = threading.local()

    def sample(self, nodes: NDArray[np.int32], fans: Sequence[int], *, seed: int | Sequence[int]) -> Sample:
        """The neighbourhoods of `nodes`.

        nodes : (k,) int32 rows, each once. fans : the most neighbours taken at each hop, evenly and none twice.
        """
        indptr, indices = self.graph.indptr, self.graph.indices
        place = self._places()
        reached, sizes = np.asarray(nodes, np.int32), [len(nodes)]
        place[reached] = np.arange(len(reached), dtype=np.int32)
        counts, columns, edges, begun = [np.zeros(1, np.int64)], [], [], 0
        for fan, stream in zip(fans, np.random.SeedSequence(seed).generate_state(len(fans), np.uint64), strict=True):
            rows = reached[begun:]
            begun = len(reached)
            taken = np.minimum(indptr[rows + 1] - indptr[rows], fan)
            ends = np.concatenate([[0], np.cumsum(taken)])
            found, renamed = np.empty(ends[-1], np.int64), np.empty(ends[-1], np.int32)
            _draw(indptr, rows, fan, stream, ends, found)
            more = np.empty(begun + len(found), np.int32)
            more[:begun] = reached
            reached = more[: _rename(indices, found, place, more, begun, renamed)]
            sizes.append(len(reached))
            counts.append(taken)
            columns.append(renamed)
            edges.append(found)
        place[reached] = -1
        return Sample(
            reached, tuple(sizes), np.cumsum(np.concatenate(counts)), np.concatenate(columns), np.concatenate(edges)
        )

    def apart(self, count: int, *, seed: int | Sequence[int]) -> NDArray[np.int64]:
        """(2, at most `count`) rows: pairs drawn evenly among those that are not joined."""
        source, target = np.empty(count, np.int64), np.empty(count, np.int64)
        stream = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        _apart(self.graph.indptr, self.graph.indices, stream, source, target)
        return np.stack([source, target])[:, source >= 0]

    def _places(self) -> NDArray[np.int32]:
        """(n,) this thread's, -1 all over."""
        if not hasattr(self._own, "place"):
            self._own.place = np.full(len(self.graph), -1, np.int32)
        place: NDArray[np.int32] = self._own.place
        return place
