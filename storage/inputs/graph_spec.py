"""A graph as the pipeline file names it: edges, what is known of the nodes, and how both are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from embedders.base import Progress, silent
from embedders.data import Graph, HeldOut
from embedders.errors import InputError
from embedders.graph.nodes import Nodes
from storage.inputs.base import DatasetSpec, Scan

if TYPE_CHECKING:
    from storage.inputs.graph_size import GraphSize

Form = Literal["table", "graph", "matrix"]
Column = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=1, strict=True)]
TABLES = (".tsv", ".csv", ".txt", ".parquet")
GRAPHS = (".graphml", ".gml", ".gexf", ".net", ".paj", ".adjlist", ".json")
MATRICES = (".npz", ".mtx", ".mat")


def suffix(path: str | Path) -> str:
    """The end of a file's name that says how it is read, without .gz.

    >>> suffix("links.TSV.gz")
    '.tsv'
    """
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def form(path: str | Path) -> Form:
    """What a file holds: an edge a row, a graph with its nodes, or an adjacency matrix."""
    end = suffix(path)
    return "graph" if end in GRAPHS else "matrix" if end in MATRICES else "table"


class EdgeColumns(BaseModel):
    """Role to column: names in the header, or numbers from 1 in a file without one; attributes of edges in graph files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Column | None = Field(None, description="where an edge begins; needed in tables, not used in graph files")
    target: Column | None = Field(None, description="where it ends; as `source`")
    weight: Column | None = Field(None, description="a positive number; without it every edge weighs 1")
    type: Column | None = Field(None, description="what kind of edge it is; without it all are of one")

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len({type(column) for column in self.wanted.values()}) > 1:
            raise ValueError("names of a header or numbers, not both")
        if (self.source is None) != (self.target is None):
            raise ValueError("both source and target, or neither in files that name them")
        return self

    @property
    def wanted(self) -> dict[str, str | int]:
        """Role to column, those that are given."""
        found = {"source": self.source, "target": self.target, "weight": self.weight, "type": self.type}
        return {role: column for role, column in found.items() if column is not None}


class TypedEdges(BaseModel):
    """A file whose edges join nodes of one type to nodes of another; ids become `TYPE:id`, as numbers may overlap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1, description="one edge list")
    source: str = Field(pattern="^[^:]+$", description="the type of the nodes that edges begin at")
    target: str = Field(pattern="^[^:]+$", description="the type of those they end at; may be the same")
    type: str | None = Field(None, min_length=1, description="what kind of edges; without it `SOURCE-TARGET`")

    @property
    def kind(self) -> str:
        """The type of its edges."""
        return self.type or f"{self.source}-{self.target}"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class NodeTable(BaseModel):
    """What is known of the nodes: a table of its own, or the attributes of nodes in a graph file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = Field(
        None,
        min_length=1,
        description="a .csv, .tsv, .jsonl (these also .gz) or .parquet file, a node a row; without it the graph file's own nodes",
    )
    id: str | None = Field(
        None,
        min_length=1,
        description="the column of ids, without it `id`; in graph files an attribute in place of their own ids",
    )
    type: str | None = Field(None, min_length=1, description="the column of node types")
    features: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = Field(
        (), description="columns of numbers, or one column of equally long lists of numbers"
    )
    tags: str | None = Field(
        None,
        min_length=1,
        description="a column of lists, 1 where a node has the entry: numbers are places, words are sorted",
    )
    features_file: str | None = Field(
        None, min_length=1, description="an .npz, .npy or .mtx matrix, its rows those of the node table (or matrix)"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(map(bool, (self.features, self.tags, self.features_file))) > 1:
            raise ValueError("one of features, tags and features_file")
        return self


class HoldOut(BaseModel):
    """Edges that spaces are trained without, for `link_prediction`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(0.1, gt=0, lt=1, strict=True, description="of the edges")
    seed: int = Field(0, ge=0, strict=True, description="which ones are drawn")


class GraphSpec(DatasetSpec):
    """A graph: edge lists, a file of a graph format, or an adjacency matrix."""

    gives: ClassVar[tuple[type, ...]] = (Graph, HeldOut, Nodes)
    suffixes: ClassVar[tuple[str, ...]] = tuple(
        end + packed for end in (*TABLES, *GRAPHS, *MATRICES) for packed in ("", ".gz")
    )

    kind: Literal["graph"]
    edges: Annotated[str, Field(min_length=1)] | Annotated[tuple[TypedEdges, ...], Field(min_length=1)] = Field(
        description="edge lists (.tsv, .csv, .txt, .parquet), graph files (.graphml, .gml, .gexf, .net, .adjlist, node-link .json) or a matrix (.npz, .mtx, .mat), text also .gz; a file, a folder or a glob; or a list of edge lists with the types that each joins",
    )
    columns: EdgeColumns | None = Field(
        None, description="role to column; without it the first two columns, and in text no header"
    )
    directed: StrictBool | None = Field(
        None,
        description="whether an edge leads one way only; without it false, but a file that says otherwise is refused",
    )
    duplicates: Literal["sum", "drop"] = Field(
        "sum", description="of edges that come twice, weights are summed, or the first alone counts"
    )
    loops: Literal["keep", "drop"] = Field("keep", description="edges from a node to itself")
    variable: str | None = Field(
        None, min_length=1, description="the matrix in a .mat file; without it the only square one"
    )
    nodes: NodeTable | None = Field(None, description="what is known of the nodes")
    hold_out: HoldOut | None = Field(None, description="edges that spaces are trained without, for link_prediction")

    @property
    def pattern(self) -> str:
        return ", ".join(self.patterns)

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.edges,) if isinstance(self.edges, str) else tuple(file.path for file in self.edges)

    @property
    def typed(self) -> tuple[TypedEdges, ...]:
        """The types that each file joins; none where ids stand for themselves."""
        return () if isinstance(self.edges, str) else self.edges

    @property
    def wanted(self) -> dict[str, str | int]:
        """Role to column in tables."""
        return {"source": 1, "target": 2} if self.columns is None else self.columns.wanted

    @property
    def options(self) -> dict[str, Any]:
        """Those that are as they would be without a word do not count, so that new ones change no old digest."""
        columns = self.columns and self.columns.model_dump()
        if columns and columns["type"] is None:
            del columns["type"]
        added = {
            "typed": [[file.source, file.target, file.kind] for file in self.typed],
            "duplicates": self.duplicates != "sum" and self.duplicates,
            "loops": self.loops != "keep" and self.loops,
            "variable": self.variable,
            "nodes": self.nodes and self.nodes.model_dump(mode="json", exclude={"path", "features_file"}),
            "hold_out": self.hold_out and self.hold_out.model_dump(),
        }
        found = {"kind": self.kind, "columns": columns, "directed": bool(self.directed)}
        return found | {name: value for name, value in added.items() if value}

    @property
    def holds_out(self) -> bool:
        return self.hold_out is not None

    @property
    def assets(self) -> dict[str, str]:
        named = {"path": self.nodes.path, "features_file": self.nodes.features_file} if self.nodes else {}
        return {f"nodes.{name}": path for name, path in named.items() if path is not None}

    def check(self, paths: Sequence[str]) -> None:
        forms = {form(path) for path in paths}
        if self.typed and (forms != {"table"} or len(paths) != len(self.typed) or "type" in self.wanted):
            raise InputError(
                f"Got a list of edges with {len(paths)} files from {paths[0]!r} on; expected one edge list an entry, without a column "
                "of types. Name each file alone."
            )
        for problem in (
            self._column_problem(forms),
            self._matrix_problem(paths, forms),
            self._node_problem(paths, forms),
        ):
            if problem:
                raise InputError(f"Got {paths[0]!r}{' and others' if len(paths) > 1 else ''} with {problem}")

    def _column_problem(self, forms: set[Form]) -> str:
        if self.columns is None:
            return ""
        ends = self.columns.source is not None, self.columns.target is not None
        if "matrix" in forms:
            return "columns; expected none, as the places in a matrix are the edges. Leave `columns:` out."
        if "table" in forms and not all(ends):
            return "columns that lack source or target; expected both for a table. Name them under `columns:`."
        if "table" not in forms and (any(ends) or any(isinstance(it, int) for it in self.columns.wanted.values())):
            return "source, target or a number under columns; expected names of attributes (weight, type), as a graph file says which nodes it joins. Leave them out."
        return ""

    def _matrix_problem(self, paths: Sequence[str], forms: set[Form]) -> str:
        if "matrix" in forms and len(paths) > 1:
            return "a matrix among them; expected one file then, as its rows are numbered. Narrow the path."
        if self.variable is not None and suffix(paths[0]) != ".mat":
            return f"`variable: {self.variable}`; expected a .mat file for it. Leave it out."
        return ""

    def _node_problem(self, paths: Sequence[str], forms: set[Form]) -> str:
        nodes = self.nodes
        if nodes is None or nodes.path is not None:
            return ""
        attributes = (nodes.id, nodes.type, nodes.tags, *nodes.features)
        if "table" in forms:
            return "nodes, which say no file; expected a node table for edge lists. Add `path:` under `nodes:`."
        if "matrix" in forms and any(attributes):
            return "columns of nodes, and no file of them; expected a table, a node a row of the matrix. Add `path:` under `nodes:`."
        if "graph" in forms and nodes.features_file is not None:
            return "features_file, and no table that says which row is which node. Add `path:` under `nodes:`."
        if len(paths) > 1 and any(attributes):
            return "attributes of nodes, which may differ from file to file; expected one file, or a node table. Add `path:` under `nodes:`."
        return ""

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Graph | HeldOut | Nodes:
        """The graph without the edges held out, as such or as rows, or these edges.

        Raises
        ------
        InputError : a file cannot be read or holds something that is no graph; HeldOut is asked for and `hold_out` is not set.
        """
        from storage.inputs.graph import read_graph

        if kind is HeldOut and self.hold_out is None:
            raise InputError(
                f"Got a graph, {self.pattern!r}, with no edges held out; expected some to judge links on. "
                "Add `hold_out: {share: 0.1, seed: 0}` to the dataset."
            )
        graph = read_graph(self, scan.files, self._others(scan))
        if self.hold_out is not None:
            from embedders.graph.split import hold_out

            graph, held = hold_out(graph, self.hold_out.share, self.hold_out.seed)
            if kind is HeldOut:
                return held
        return Nodes.of(graph) if kind is Nodes else graph

    def size(self, scan: Scan) -> GraphSize | None:
        """How large it will be, where the files tell without being read as a whole."""
        from storage.inputs.graph_size import graph_size

        return graph_size(self, scan.files, self._others(scan))

    def _others(self, scan: Scan) -> dict[str, Path]:
        """Where the files of `assets` are."""
        return {name: Path(path) for name, path in zip(self.assets, scan.assets, strict=True)}
