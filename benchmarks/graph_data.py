"""Graphs for the benchmarks: the real ones with their labels, and power-law graphs of any size."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from embedders.base import Matrix, Vectors
from embedders.data import Graph
from evaluation.base import Report
from evaluation.node_classification import node_classification


@dataclass(frozen=True, eq=False)
class Task:
    """A graph whose nodes have labels. split: the part ("train", "val", "test") of ids, where the data has one."""

    graph: Graph
    labels: Mapping[str, Sequence[str]] = field(repr=False)
    split: Mapping[str, str] | None = field(default=None, repr=False)

    def vectors(self, matrix: Matrix) -> Vectors:
        """A row for each node."""
        return Vectors("node", self.graph.ids, matrix)

    def score(self, vectors: Vectors, train: float = 0.9, repeats: int = 10) -> Report:
        """What vectors say of the labels: on the split, else on `repeats` random ones."""
        if self.split is not None:
            return node_classification(vectors, self.labels, split=self.split)
        return node_classification(vectors, self.labels, train=train, repeats=repeats)


def cora() -> Task:
    """2,708 papers, 1,433 words as features, the Planetoid split."""
    from scipy.sparse import csr_array

    with np.load(common.data("graph_cora") / "cora.npz") as found:
        z = dict(found)
    ids = [str(i) for i in range(len(z["labels"]))]
    n, width = z["x_shape"].tolist()
    words: Any = csr_array((z["x_data"].astype(np.float32), z["x_indices"], z["x_indptr"]), shape=(n, width))
    graph = replace(Graph.from_edges(ids, *z["edges"].T), features=words)
    parts = {part: z[f"{part}_index"] for part in ("train", "val", "test")}
    split = {ids[i]: part for part, rows in parts.items() for i in rows.tolist()}
    return Task(graph, {name: (str(label),) for name, label in zip(ids, z["labels"], strict=True)}, split)


def blogcatalog() -> Task:
    """10,312 bloggers and their groups, one or several each."""
    from scipy.io import loadmat

    found = loadmat(common.data("graph_blogcatalog") / "blogcatalog.mat")
    edges, groups = found["network"].tocoo(), found["group"].tocsr()
    upper = edges.row < edges.col
    ids = [str(i) for i in range(edges.shape[0])]
    graph = Graph.from_edges(ids, edges.row[upper], edges.col[upper])
    members = np.split(groups.indices, groups.indptr[1:-1])
    return Task(graph, {name: [str(group) for group in own] for name, own in zip(ids, members, strict=True)})


def dblp() -> Task:
    """Authors, papers, venues and terms; the areas of 4,057 authors."""
    folder = common.data("graph_dblp_hetero")
    types = ("author", "paper", "venue", "term")
    joins = {"paper_author": (1, 0), "paper_conference": (1, 2), "paper_type": (1, 3)}
    edges = []
    for name, (one, two) in joins.items():
        for first, second in _pairs(folder / f"{name}.dat.gz"):
            edges.append((f"{types[one]} {first}", f"{types[two]} {second}"))
    ids = list(dict.fromkeys(node for edge in edges for node in edge))
    place = {name: i for i, name in enumerate(ids)}
    rows = np.array([[place[one], place[two]] for one, two in edges])
    kinds = np.array([types.index(name.split()[0]) for name in ids], np.int16)
    graph = replace(Graph.from_edges(ids, *rows.T), types=kinds, type_names=types)
    area = dict(_pairs(folder / "author_label.dat.gz"))
    numbers = {f"author {number}": area.get(author) for number, author in _pairs(folder / "author_map_id.dat.gz")}
    return Task(graph, {name: (label,) for name, label in numbers.items() if label is not None and name in place})


def _pairs(path: Path) -> list[tuple[str, str]]:
    with gzip.open(path, "rt") as file:
        return [(first, second) for first, second, *_ in map(str.split, file)]


def power_law(nodes: int, edges: int, seed: int = 0, exponent: float = 2.5) -> Graph:
    """A graph of so many nodes and distinct edges whose degrees follow a power law (Chung and Lu 2002).

    Ends of edges are drawn with chances proportional to `rank ** (-1 / (exponent - 1))`; loops and repeats are drawn
    again. Ranks are spread over the ids at random. Some nodes may be isolated.

    >>> graph = power_law(1000, 5000)
    >>> len(graph), len(graph.indices)
    (1000, 10000)
    """
    if edges > nodes * (nodes - 1) // 4:
        raise ValueError(f"Got {edges} edges among {nodes} nodes; expected at most half of all pairs.")
    rng = np.random.default_rng(seed)
    ends = np.cumsum(np.arange(1, nodes + 1, dtype=np.float64) ** (-1 / (exponent - 1)))
    name = rng.permutation(nodes)
    found = np.empty(0, np.int64)
    while (missing := edges - len(found)) > 0:
        drawn = [_ranks(ends, rng, missing + missing // 8 + 16) for _ in range(2)]
        low, high = np.minimum(*drawn), np.maximum(*drawn)
        found = np.union1d(found, (low * nodes + high)[low != high])
    chosen = rng.choice(len(found), edges, replace=False, shuffle=False) if len(found) > edges else slice(None)
    low, high = np.divmod(found[chosen], nodes)
    return Graph.from_edges([str(i) for i in range(nodes)], name[low], name[high])


def _ranks(ends: NDArray[np.float64], rng: np.random.Generator, count: int) -> Any:
    return np.searchsorted(ends, rng.random(count) * ends[-1], side="right")


TASKS: Mapping[str, Callable[[], Task]] = {"cora": cora, "blogcatalog": blogcatalog, "dblp": dblp}
