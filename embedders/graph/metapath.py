"""Paths of node types that walks follow, with types of edges where they matter, and the edges that make their steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.errors import InputError

_ARROW = re.compile(r"-(?:(?P<on>.+)-)?>|<-(?:(?P<back>.+)-)?")


class Step(NamedTuple):
    """From a node of one type to one of another. edge: its type, None for any; back: against the edge's direction."""

    source: str
    edge: str | None
    back: bool
    target: str

    def __str__(self) -> str:
        if self.edge is None:
            return f"{self.source} <- {self.target}" if self.back else f"{self.source}-{self.target}"
        return f"{self.source} {f'<-{self.edge}-' if self.back else f'-{self.edge}->'} {self.target}"


def steps(path: Sequence[str]) -> tuple[Step, ...]:
    """The steps of a path: types of nodes, and between two of them, where it matters, an arrow.

    `-TYPE->` takes edges of that type, `<-TYPE-` and `<-` go against their direction; edges of an undirected graph have
    none.

    Raises
    ------
    ValueError : it is too short, does not end with its first type, or an arrow does not stand between two types.

    >>> [str(step) for step in steps(["author", "-writes->", "paper", "author"])]
    ['author -writes-> paper', 'paper-author']
    """
    arrows = [_ARROW.fullmatch(item) for item in path]
    nodes = [i for i, arrow in enumerate(arrows) if arrow is None]
    if len(nodes) < 2:
        raise ValueError("a path of at least two node types, such as [author, paper, author]")
    if any(one and other for one, other in pairwise([True, *arrows, True])):
        raise ValueError("a path of node types, with an arrow (-TYPE->, <-TYPE-, <-) only between two of them")
    if path[0] != path[-1]:
        raise ValueError(f"a path that ends with its first type, {path[0]!r}, so that walks can go on")
    found = []
    for i, j in pairwise(nodes):
        arrow = arrows[i + 1]
        edge = arrow and (arrow["on"] or arrow["back"])
        found.append(Step(path[i], edge or None, bool(arrow) and path[i + 1].startswith("<"), path[j]))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Made:
    """Edges that make a step. source, target : (k,) rows of the graph. weights : (k,) or None."""

    source: NDArray[Any]
    target: NDArray[Any]
    weights: NDArray[np.float32] | None


def made(graph: Graph, taken: Sequence[Step]) -> Iterator[Made]:
    """The edges of each step, in the graph's order of rows."""
    rows = _rows(graph)
    for step in taken:
        at = np.flatnonzero(_makes(graph, rows, step))
        source, target = rows[at], graph.indices[at]
        if step.back and graph.directed:
            source, target = target, source
        yield Made(source, target, None if graph.weights is None else graph.weights[at])


def along(graph: Graph, paths: Sequence[Sequence[Step]]) -> Graph:
    """The nodes whose types are in a path and the edges that a step can take, either way; type_names are those types.

    Raises
    ------
    InputError : nodes or edges have no types, a path names another one, or a step that no edge makes.
    """
    taken = list(dict.fromkeys(step for path in paths for step in path))
    _check_names(graph, taken)
    rows = _rows(graph)
    edges = np.zeros(len(rows), bool)
    for step in taken:
        own = _makes(graph, rows, step)
        if not own.any():
            _refuse(graph, rows, taken, step)
        edges |= own
        if not graph.directed:
            edges |= _makes(graph, rows, Step(step.target, step.edge, step.back, step.source))
    names = tuple(dict.fromkeys(step.source for step in taken))
    number = np.full(len(graph.type_names), -1, np.int16)
    number[[graph.type_names.index(name) for name in names]] = range(len(names))
    types = number[graph.types]
    kept = types >= 0
    place = np.cumsum(kept, dtype=np.int32) - 1
    degrees = np.bincount(rows[edges], minlength=len(graph))[kept]
    return replace(
        graph, ids=[graph.ids[row] for row in np.flatnonzero(kept).tolist()],
        indptr=np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64), indices=place[graph.indices[edges]],
        weights=None if graph.weights is None else graph.weights[edges], features=None, types=types[kept], type_names=names,
        edge_types=None if graph.edge_types is None else graph.edge_types[edges],
    )  # fmt: skip


def check_walk(graph: Graph, path: Sequence[Step], edges: Sequence[Made]) -> None:
    """Raise InputError unless a walk from some node gets to the end of the path. edges : those of each step."""
    here = _of(graph, path[0].source)[graph.types]
    for step, own in zip(path, edges, strict=True):
        there = np.zeros(len(graph), bool)
        there[own.target[here[own.source]]] = True
        if not there.any():
            text = ", ".join(map(str, path))
            raise InputError(
                f"Got the metapath {text}, which no node can walk: no edge makes {step} from a node that the steps before lead to. Change the metapath."
            )
        here = there


def _rows(graph: Graph) -> NDArray[np.int32]:
    """The row that each edge stands in."""
    return np.repeat(np.arange(len(graph), dtype=np.int32), np.diff(graph.indptr))


def _of(graph: Graph, name: str) -> NDArray[np.bool_]:
    """Which of the graph's types has the name."""
    return np.array([it == name for it in graph.type_names], bool)


def _makes(graph: Graph, rows: NDArray[np.int32], step: Step) -> NDArray[np.bool_]:
    """Which entries of the graph make the step."""
    ends = _of(graph, step.source)[graph.types], _of(graph, step.target)[graph.types]
    first, last = ends[::-1] if step.back and graph.directed else ends
    found: NDArray[np.bool_] = first[rows] & last[graph.indices]
    if step.edge is not None:
        found &= graph.edge_types == graph.edge_type_names.index(step.edge)
    return found


def _check_names(graph: Graph, taken: Sequence[Step]) -> None:
    if graph.types is None or not len(graph):
        raise InputError(
            "Got a graph whose nodes have no types; expected a type for each node, as the metapath names types. Give the "
            "dataset a table of nodes with their types, or take node2vec."
        )
    for step in taken:
        if step.source not in graph.type_names:
            known = ", ".join(graph.type_names)
            raise InputError(f"Got {step.source!r} in the metapath; the graph's types are {known}. Name one of them.")
        if step.edge is not None and step.edge not in graph.edge_type_names:
            if graph.edge_types is None:
                raise InputError(
                    f"Got the edge type {step.edge!r} in the metapath; the graph's edges have no types. Name the column under "
                    "`columns: {type: NAME}`, or leave the arrow out."
                )
            known = ", ".join(graph.edge_type_names)
            raise InputError(
                f"Got the edge type {step.edge!r} in the metapath; the graph's are {known}. Name one of them."
            )


def _refuse(graph: Graph, rows: NDArray[np.int32], taken: Sequence[Step], step: Step) -> None:
    """Say which steps edges make between the types of the metapath."""
    assert graph.types is not None  # its names are checked
    kinds = len(graph.edge_type_names) or 1
    code = graph.types[rows].astype(np.int64) * len(graph.type_names) + graph.types[graph.indices]
    code = code * kinds + (0 if graph.edge_types is None else graph.edge_types)
    named = {it.source for it in taken}
    possible = []
    for pair, kind in (divmod(int(it), kinds) for it in np.unique(code)):
        source, target = (graph.type_names[it] for it in divmod(pair, len(graph.type_names)))
        if {source, target} <= named:
            edge = graph.edge_type_names[kind] if any(it.edge for it in taken) else None
            possible.append(Step(source, edge, False, target))
    listed = ", ".join(dict.fromkeys(map(str, possible))) or "none"
    turned = step._replace(back=not step.back)
    hint = "Change the metapath"
    if graph.directed and _makes(graph, rows, turned).any():
        hint = f"Go against them, {turned}, or read the graph with directed: false"
    raise InputError(f"Got the step {step} in the metapath, which no edge makes; edges make {listed}. {hint}.")
