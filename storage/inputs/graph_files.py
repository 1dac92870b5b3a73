"""Files of graph formats: GraphML, GEXF, GML, Pajek and adjacency lists through networkx; node-link JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedders.errors import InputError
from storage.inputs.graph_checks import check_xml, pajek_lines
from storage.inputs.graph_edges import checked_weight
from storage.inputs.graph_parts import Part, Rows, strings
from storage.inputs.graph_spec import suffix
from storage.inputs.graph_text import unpacked

Attributes = Mapping[str, Any]
Found = tuple[list[tuple[Any, Attributes]], list[tuple[Any, Any, Attributes]], bool | None]
"""Nodes and edges with their attributes, and whether edges lead one way."""


def read_graph_file(path: Path, wanted: Mapping[str, str | int], id: str | None) -> Part:
    """Read a file of a graph format, by the end of its name; also .gz.

    wanted : the attributes of edges that are weight and type. id : the attribute of nodes that is their id; None takes
        the format's own, in GML the label where every node has one.

    Raises
    ------
    InputError : the file cannot be read, two nodes have one id, an edge names a node that is not there or lacks an
        attribute, a weight is not positive, or XML declares entities.
    """
    read = _READERS[suffix(path)]
    try:
        with unpacked(path) as file:
            content = file.read()
        nodes, edges, directed = read(content)
    except Exception as error:  # the parsers of networkx raise of every kind
        what = _NAMES[suffix(path)]
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"Got {str(path)!r}, which cannot be read ({problem}); expected {what}.") from error
    names = _names(path, nodes, id)
    places = dict(zip((own for own, _ in nodes), names, strict=True))
    spots = _Spots(path, edges, places)
    table: dict[str, Any] = {"source": [], "target": []}
    for number, edge in enumerate(edges):
        for role, end in zip(table, edge, strict=False):
            if end not in places:
                raise InputError(
                    f"Got the node {end!r} in {spots(number)}, which is not among the nodes; expected one that is. Mend the file."
                )
            table[role].append(places[end])
    table = {role: strings(ends, path) for role, ends in table.items()}
    for role in ("weight", "type"):
        if role in wanted:
            values = [_attribute(edge[2], str(wanted[role]), spots, i) for i, edge in enumerate(edges)]
            table[role] = (
                pa.array([checked_weight(value, spots(i)) for i, value in enumerate(values)], pa.float64())
                if role == "weight"
                else strings(map(str, values), path)
            )
    ids = strings(names, path)

    def rows(name: str) -> Rows:
        return _rows(path, name, [attributes for _, attributes in nodes], names)

    return Part(pa.table(table), spots, ids, rows, directed)


class _Spots:
    """Where an edge stands, for people."""

    def __init__(self, path: Path, edges: Sequence[tuple[Any, Any, Attributes]], names: Mapping[Any, str]) -> None:
        self._path, self._edges, self._names = path, edges, names

    def __call__(self, edge: int) -> str:
        source, target = (self._names.get(end, end) for end in self._edges[edge][:2])
        return f"edge {edge + 1} ({source!r} to {target!r}) of {str(self._path)!r}"


def _attribute(attributes: Attributes, name: str, spots: _Spots, edge: int) -> Any:
    if attributes.get(name) in (None, ""):
        known = ", ".join(sorted(map(str, attributes))) or "none"
        raise InputError(f"Got {spots(edge)} without {name!r}; expected it on each edge. It has: {known}.")
    return attributes[name]


def _names(path: Path, nodes: Sequence[tuple[Any, Attributes]], id: str | None) -> list[str]:
    """The id of each node, as text."""
    if id is None and suffix(path) == ".gml" and all("label" in attributes for _, attributes in nodes):
        id = "label"
    names: list[str] = []
    first: dict[str, int] = {}
    for number, (own, attributes) in enumerate(nodes, start=1):
        name = own if id is None else attributes.get(id)
        if name is None or not str(name):
            raise InputError(
                f"Got node {number} ({own!r}) of {str(path)!r} without {id or 'an id'!r}; expected it on each node. Name another under `nodes: {{id: NAME}}`."
            )
        if str(name) in first:
            raise InputError(
                f"Got the id {str(name)!r} twice in {str(path)!r}: nodes {first[str(name)]} and {number}; expected unique ids. "
                "Name another attribute under `nodes: {id: NAME}`."
            )
        first[str(name)] = number
        names.append(str(name))
    return names


def _rows(path: Path, name: str, nodes: Sequence[Attributes], names: Sequence[str]) -> Rows:
    def place(row: int) -> str:
        return f"node {names[row]!r} of {str(path)!r}"

    if not any(name in attributes for attributes in nodes):
        known = sorted({str(it) for attributes in nodes for it in attributes})
        raise InputError(
            f"Got the attribute {name!r}, which no node of {str(path)!r} has; expected one of {', '.join(known) or 'none'}. Mend `nodes`."
        )
    for row, attributes in enumerate(nodes):
        if attributes.get(name) is None:
            raise InputError(f"Got {place(row)} without {name!r}; expected it on each node.")
    return Rows(name, mixed([attributes[name] for attributes in nodes], place), place)


def mixed(values: Sequence[Any], place: Callable[[int], str]) -> pa.ChunkedArray:
    """Python values as a column.

    Raises
    ------
    InputError : they are not of one kind.
    """
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        usual = type(values[0])
        odd = next((i for i, value in enumerate(values) if type(value) is not usual), 0)
        raise InputError(
            f"Got {str(values[odd])[:60]!r} for {place(odd)}, other than the values before it; expected values of one kind ({error})."
        ) from error


def _taken(graph: Any, directed: bool | None) -> Found:
    return list(graph.nodes(data=True)), list(graph.edges(data=True)), directed


def _graphml(content: bytes) -> Found:
    import networkx as nx

    check_xml(content)
    graph = nx.read_graphml(io.BytesIO(content))
    return _taken(graph, graph.is_directed())


def _gexf(content: bytes) -> Found:
    import networkx as nx

    check_xml(content)
    graph = nx.read_gexf(io.BytesIO(content))
    return _taken(graph, graph.is_directed())


def _gml(content: bytes) -> Found:
    import networkx as nx

    graph = nx.parse_gml(content.decode("utf-8-sig"), label="id")
    return _taken(graph, graph.is_directed())


def _pajek(content: bytes) -> Found:
    import networkx as nx

    graph = nx.parse_pajek(pajek_lines(content.decode("utf-8-sig")))
    return _taken(graph, graph.is_directed())


def _adjlist(content: bytes) -> Found:
    import networkx as nx

    lines = content.decode("utf-8-sig").splitlines()
    return _taken(nx.parse_adjlist(lines, create_using=nx.DiGraph), None)


def _node_link(content: bytes) -> Found:
    """As networkx and D3 write it: {"nodes": [{"id": ...}], "edges" or "links": [{"source": ..., "target": ...}]}."""
    found = json.loads(content.decode("utf-8-sig"))
    if not isinstance(found, dict) or "nodes" not in found:
        raise ValueError("it is no object with nodes")
    nodes = [(node["id"], node) for node in found["nodes"]]
    links = found["edges"] if "edges" in found else found["links"]
    edges = [(link["source"], link["target"], link) for link in links]
    for name in (name for row in (*nodes, *edges) for name in row[:-1]):
        if not isinstance(name, str | int | float | None):
            raise ValueError(f"the id {str(name)[:60]} is neither a text nor a number")
    return nodes, edges, bool(found.get("directed", False))


_READERS: dict[str, Callable[[bytes], Found]] = {
    ".graphml": _graphml, ".gexf": _gexf, ".gml": _gml, ".net": _pajek, ".paj": _pajek, ".adjlist": _adjlist, ".json": _node_link,
}  # fmt: skip
_NAMES = {
    ".graphml": "GraphML without entities", ".gexf": "GEXF without entities", ".gml": "GML in UTF-8", ".net": "Pajek in UTF-8", ".paj": "Pajek in UTF-8",
    ".adjlist": "an adjacency list in UTF-8", ".json": "node-link JSON: nodes with an id, edges (or links) with source and target",
}  # fmt: skip
