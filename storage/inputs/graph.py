"""The files of a graph put together: edges, nodes and what is known of them, to compressed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.data import Graph
from embedders.errors import InputError
from storage.inputs.graph_edges import place, read_parquet, read_text
from storage.inputs.graph_files import read_graph_file
from storage.inputs.graph_matrix import read_adjacency
from storage.inputs.graph_nodes import described, read_nodes
from storage.inputs.graph_parts import Nodes, Part, Rows, encoded, numbered, prefixed, strings
from storage.inputs.graph_spec import GraphSpec, NodeTable, TypedEdges, form, suffix


def read_graph(spec: GraphSpec, files: Sequence[Path], assets: Mapping[str, Path]) -> Graph:
    """Read a graph. Rows are in the order of the node table; without one, of the nodes that graph files list, then of
    first appearance, sources before targets; a matrix has its own, with ids from "0".

    files : of the edges. assets : of the node table, by the option.

    Raises
    ------
    InputError : a file cannot be read, an edge is malformed or names a node that the table lacks, a weight is not
        positive, the file leads one way where `directed` is not set, or there is neither an edge nor a node.
    """
    table, features = assets.get("nodes.path"), assets.get("nodes.features_file")
    nodes = read_nodes(table, spec.nodes, features) if table and spec.nodes else None
    if form(files[0]) == "matrix":
        return _of_matrix(spec, files[0], nodes, features)
    parts = [_read(spec, path) for path in files]
    if spec.typed:
        parts = [_typed(part, types) for part, types in zip(parts, spec.typed, strict=True)]
    _check_direction(spec, files, [part.directed for part in parts])
    ids, source, target = _coded(parts, nodes, table)
    if not len(ids):
        names = ", ".join(repr(str(path)) for path in files)
        raise InputError(f"Got {names} without an edge; expected a source and a target on each line.")
    edges = pa.concat_tables([part.edges for part in parts])
    weight = edges["weight"].to_numpy() if "weight" in edges.column_names else None
    kind, kinds = numbered(edges["type"], "types of edges") if "type" in edges.column_names else (None, ())
    graph = _graph(spec, ids.to_pylist(), source, target, weight, kind, kinds)
    if nodes is None and len(parts) == 1 and parts[0].ids is not None:
        nodes = described(spec.nodes, parts[0].ids, parts[0].rows, None)
    if nodes is None and spec.typed:
        nodes = described(NodeTable.model_validate({"type": "type"}), ids, lambda name: _type_column(name, ids), None)
    return _with(graph, nodes)


def _typed(part: Part, types: TypedEdges) -> Part:
    """The part with ids that begin with the type of their nodes, and the type of its edges."""
    table = prefixed(part.edges, types.source, types.target)
    kinds = pa.DictionaryArray.from_arrays(np.zeros(len(table), np.int32), [types.kind])
    return replace(part, edges=table.append_column("type", kinds.cast(pa.string())))


def _type_column(name: str, ids: pa.Array) -> Rows:
    return Rows(name, pa.chunked_array([pc.list_element(pc.split_pattern(ids, ":", max_splits=1), 0)]), str)


def _read(spec: GraphSpec, path: Path) -> Part:
    if form(path) == "graph":
        return read_graph_file(path, spec.columns.wanted if spec.columns else {}, _own_id(spec))
    wanted = spec.wanted
    edges = read_parquet(path, wanted) if suffix(path) == ".parquet" else read_text(path, wanted)
    return Part(edges, partial(place, path, wanted))


def _own_id(spec: GraphSpec) -> str | None:
    """The attribute that is the id in graph files; with a node table, `id` names its column."""
    return spec.nodes.id if spec.nodes and spec.nodes.path is None else None


def _coded(
    parts: Sequence[Part], nodes: Nodes | None, table: Path | None
) -> tuple[pa.Array, NDArray[np.int32], NDArray[np.int32]]:
    """The ids in the order of rows, and the rows that each edge joins."""
    listed = [] if nodes is None else [nodes.ids]
    listed += [part.ids for part in parts if part.ids is not None]
    columns = [*listed, *(part.edges[role] for role in ("source", "target") for part in parts)]
    coded = pa.chunked_array([encoded(column) for column in columns]).unify_dictionaries()
    ids = coded.chunk(0).dictionary
    rows = np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks])
    edges = sum(part.edges.num_rows for part in parts)
    before = len(rows) - 2 * edges
    source, target = rows[before : before + edges], rows[before + edges :]
    if nodes is not None and len(ids) > len(nodes.ids):
        _refuse_unknown(parts, ids, len(nodes.ids), source, target, rows[:before], table)
    return ids, source, target


def _refuse_unknown(
    parts: Sequence[Part], ids: pa.Array, known: int, source: NDArray[Any], target: NDArray[Any], listed: NDArray[Any], table: Path | None
) -> None:  # fmt: skip
    """Say which node the table lacks, and where it stands."""
    spot, row = f"the nodes of {str(table)!r} and of the graph file", int(listed.max(initial=0))
    unknown = np.flatnonzero((source >= known) | (target >= known))
    if len(unknown):
        edge = first = int(unknown[0])
        row = int(max(source[first], target[first]) if source[first] < known else source[first])
        for part in parts:
            if edge < part.edges.num_rows:
                spot = part.place(edge)
                break
            edge -= part.edges.num_rows
    raise InputError(
        f"Got the node {ids[row].as_py()!r} on {spot}, which the node table {str(table)!r} lacks; expected only nodes that it holds. Add a row for it."
    )


def _check_direction(spec: GraphSpec, files: Sequence[Path], says: Sequence[bool | None]) -> None:
    if spec.directed is None and True in says:
        name = str(files[says.index(True)])
        raise InputError(
            f"Got {name!r}, whose edges lead one way, and no word on that; expected one. "
            "Add `directed: true` to the dataset, or `directed: false` to take them both ways."
        )


def _of_matrix(spec: GraphSpec, path: Path, nodes: Nodes | None, features: Path | None) -> Graph:
    matrix = read_adjacency(path, spec.variable, spec.duplicates)
    n = matrix.shape[0]
    if nodes is None:
        nodes = described(spec.nodes, strings([str(i) for i in range(n)], path), None, features)
    if len(nodes.ids) != n:
        raise InputError(
            f"Got {len(nodes.ids):,} nodes in the node table for a matrix of {n:,} rows in {str(path)!r}; expected one a row, in its order."
        )
    if not n:
        raise InputError(f"Got {str(path)!r}, a matrix without a row; expected at least one node.")
    symmetric = (matrix != matrix.T).nnz == 0
    _check_direction(spec, [path], [not symmetric])
    if symmetric and not spec.directed:  # each edge stands in it twice
        import scipy.sparse

        matrix = scipy.sparse.triu(matrix, format="coo")
    weight = None if (matrix.data == 1).all() else matrix.data
    ids = nodes.ids.to_pylist()
    return _with(_graph(spec, ids, matrix.row, matrix.col, weight, None, ()), nodes)


def _graph(
    spec: GraphSpec, ids: Sequence[str], source: NDArray[Any], target: NDArray[Any], weight: NDArray[Any] | None,
    kind: NDArray[np.int16] | None, kinds: tuple[str, ...],
) -> Graph:  # fmt: skip
    if spec.loops == "drop":
        kept = source != target
        source, target = source[kept], target[kept]
        weight, kind = None if weight is None else weight[kept], None if kind is None else kind[kept]
    graph = Graph.from_edges(
        ids, source, target, weight, directed=bool(spec.directed), duplicates=spec.duplicates, edge_types=kind, edge_type_names=kinds
    )  # fmt: skip
    if graph.weights is not None and not np.isfinite(graph.weights).all():
        entry = int(np.argmin(np.isfinite(graph.weights)))
        row = int(np.searchsorted(graph.indptr, entry, side="right")) - 1
        raise InputError(
            f"Got edges between {ids[row]!r} and {ids[graph.indices[entry]]!r} whose weights sum to more than a float32 can hold; "
            "expected smaller ones. Divide all weights by a number, or set `duplicates: drop`."
        )
    return graph


def _with(graph: Graph, nodes: Nodes | None) -> Graph:
    if nodes is None:
        return graph
    return replace(graph, features=nodes.features, types=nodes.types, type_names=nodes.type_names)
