"""How large a graph will be, from its files: exactly where that is cheap, else from the first megabytes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from isal import isal_zlib
from numpy.typing import NDArray

from storage.inputs.graph_count import count_graph, count_matrix
from storage.inputs.graph_edges import Wanted, arrow_table
from storage.inputs.graph_parts import encoded, prefixed
from storage.inputs.graph_spec import GraphSpec, form, suffix
from storage.inputs.graph_text import Look, simplified

SAMPLE = 1 << 22
"""Bytes of text that are looked at."""
EDGE_BYTES, GRAPH_FILE_BYTES = 125, 1500
"""Memory an edge takes at the peak of reading. Measured with 10 M edges of 1 M nodes: 0.9 to 1.2 GiB from Parquet and
text; through networkx 1.5 KB."""
NODE_BYTES = 80
"""Memory of a node once read: its id as a string, its place, its row."""


@dataclass(frozen=True)
class GraphSize:
    """Nodes and edges. exact: they were counted; reading: bytes of memory at the peak of reading, features apart."""

    nodes: int
    edges: int
    exact: bool
    reading: int

    @property
    def bytes(self) -> int:
        """Memory of the compressed rows, weights with them, and of the ids."""
        return 16 * self.edges + NODE_BYTES * self.nodes


def graph_size(spec: GraphSpec, files: Sequence[Path], assets: Mapping[str, Path]) -> GraphSize | None:
    """None where it cannot be told without reading it all, or a file is not as it should be, which reading will say."""
    try:
        kind = form(files[0])
        found = (
            _matrix(spec, files[0]) if kind == "matrix" else _graph(files) if kind == "graph" else _edges(spec, files)
        )
        table = assets.get("nodes.path")
        rows = None if table is None or found is None else _table_rows(table)
    except Exception:  # the reader names what is wrong, and where
        return None
    if found is None:
        return None
    nodes, edges, exact = found if rows is None else (rows[0], found[1], found[2] and rows[1])
    each = GRAPH_FILE_BYTES if kind == "graph" else EDGE_BYTES
    return GraphSize(nodes, edges, exact, each * edges + NODE_BYTES * nodes)


Found = tuple[int, int, bool]
"""Nodes, edges, and whether they were counted."""


def _matrix(spec: GraphSpec, path: Path) -> Found | None:
    found = count_matrix(path, spec.variable, bool(spec.directed))
    return found and (*found, bool(spec.directed) and suffix(path) != ".mat")


def _graph(files: Sequence[Path]) -> Found:
    """At most, as files may name the same nodes."""
    nodes, edges = map(sum, zip(*map(count_graph, files), strict=True))
    return nodes, edges, len(files) == 1


def _edges(spec: GraphSpec, files: Sequence[Path]) -> Found:
    if any(suffix(path) == ".parquet" for path in files):
        return _parquet(spec.wanted, files)
    tables, used = [], 0
    for i, path in enumerate(files):
        if used >= SAMPLE and not spec.typed:
            break
        table, read = _head(path, spec.wanted)
        tables.append(prefixed(table, spec.typed[i].source, spec.typed[i].target) if spec.typed else table)
        used += read
    total = sum(path.stat().st_size for path in files)
    edges = sum(table.num_rows for table in tables)
    return _extrapolated(tables, edges if used == total else round(edges * total / max(used, 1)))


def _head(path: Path, wanted: Wanted) -> tuple[pa.Table, int]:
    """The first edges of a file of text, and how many bytes of it they are."""
    content, used, whole = _sample(path)
    if not whole:
        cut = content.rfind(b"\n") + 1
        used, content = used * cut // len(content), content[:cut]
    look = Look.at(path)
    if not look.simple:
        content = simplified(content, look)
        look = Look(look.separator)
    return arrow_table(pa.BufferReader(content), wanted, look), used


def _parquet(wanted: Wanted, files: Sequence[Path]) -> Found:
    import pyarrow.parquet as pq

    edges = sum(pq.read_metadata(path).num_rows for path in files)
    with pq.ParquetFile(files[0]) as file:
        names = [name if isinstance(name, str) else file.schema_arrow.names[name - 1] for name in wanted.values()]
        batch = next(file.iter_batches(1 << 19, columns=names[:2]))
    return _extrapolated([pa.table(batch.columns, names=["source", "target"])], edges)


def _extrapolated(tables: Sequence[pa.Table], edges: int) -> Found:
    """The distinct ids of a sample, and how many more there will be: Chao (1984), from those that came once and twice.

    Sources and targets apart, as files are often sorted by source; it is a lower bound where few nodes have most edges.
    """
    both = [[table[role].cast(pa.string()) for table in tables] for role in ("source", "target")]
    count = sum(table.num_rows for table in tables)
    codes = encoded(
        pa.chunked_array([chunk for columns in both for column in columns for chunk in column.chunks])
    ).indices.to_numpy()
    if count >= edges:
        return int(codes.max(initial=-1)) + 1, edges, True
    found = max(_chao(codes[:count]), _chao(codes[count:]), _chao(codes))
    return min(found, 2 * edges), edges, False


def _chao(codes: NDArray[Any]) -> int:
    times = np.bincount(np.bincount(codes), minlength=3)
    return int(times[1:].sum() + times[1] ** 2 / (2 * max(times[2], 1)))


def _table_rows(path: Path) -> tuple[int, bool]:
    """Rows of a node table, and whether they were counted."""
    if suffix(path) == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows, True
    content, used, whole = _sample(path)
    lines = content.count(b"\n") + (whole and not content.endswith(b"\n")) - (suffix(path) != ".jsonl")
    return lines * path.stat().st_size // max(used, 1), whole


def _sample(path: Path) -> tuple[bytes, int, bool]:
    """The first bytes of a file, unpacked; how many of the file they are; and whether they are all."""
    with path.open("rb") as raw:
        if path.suffix.lower() != ".gz":
            content = raw.read(SAMPLE)
            return content, len(content), not raw.read(1)
        found, size = [], 0
        unpack = isal_zlib.decompressobj(31)
        while size < SAMPLE and (block := raw.read(1 << 16)):
            while block:
                found.append(unpack.decompress(block))
                size += len(found[-1])
                block = unpack.unused_data
                if unpack.eof:  # another one may follow
                    unpack = isal_zlib.decompressobj(31)
        return b"".join(found), raw.tell(), not raw.read(1)
