"""Nodes and edges of graph files and matrices, counted without building them."""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage.inputs.graph_spec import suffix
from storage.inputs.graph_text import unpacked

Count = tuple[int, int]
"""Nodes and edges."""
SAMPLE = 1 << 22
"""Bytes of a dense matrix that are looked at."""
BLOCK = 1 << 20
_HELD = 64  # bytes that a pattern may be cut in two within
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # of MATLAB
_PACKED, _MATRIX, _DENSE = 15, 14, range(6, 16)


def count_graph(path: Path) -> Count:
    """Of a graph file, by the end of its name."""
    return _COUNTS[suffix(path)](path)


def count_matrix(path: Path, variable: str | None, directed: bool) -> Count | None:
    """Rows and edges of a matrix: entries, or where each edge stands in it twice, half of them, loops among these."""
    if suffix(path) == ".mtx":
        import scipy.io

        rows, _, entries, layout, _, symmetry = scipy.io.mminfo(str(path))
        if layout != "coordinate":
            return None
        return int(rows), int(entries) // (1 if directed or symmetry != "general" else 2)
    found = _npz(path) if suffix(path) == ".npz" else _mat(path, variable)
    return found and (found[0], found[1] // (1 if directed else 2))


def _xml(path: Path) -> Count:
    return _patterns(path, rb"<(?:(node)|(edge))[\s>]")


def _gml(path: Path) -> Count:
    return _patterns(path, rb"(?<![^\s\[\]])(?:(node)|(edge))\s*\[")


def _patterns(path: Path, pattern: bytes) -> Count:
    """How often the first and the second group match."""
    groups = Counter(match.lastindex for match in _matches(path, pattern))
    return groups[1], groups[2]


def _matches(path: Path, pattern: bytes) -> Iterator[re.Match[bytes]]:
    """Matches in a file, read a block at a time."""
    wanted = re.compile(pattern)
    with unpacked(path) as file:
        held = b""
        while block := file.read(BLOCK):
            yield from (match for match in wanted.finditer(held + block) if match.end() > len(held))
            held = (held + block)[-_HELD:]


def _node_link(path: Path) -> Count:
    """Ids among the nodes, sources among the edges."""
    nodes = edges = 0
    among = b""
    for match in _matches(path, rb'"(nodes|edges|links)"\s*:\s*\[|"(?:(id)|(source))"\s*:'):
        among = match[1] or among
        nodes += match[2] is not None and among == b"nodes"
        edges += match[3] is not None and among != b"nodes"
    return nodes, edges


def _pajek(path: Path) -> Count:
    """What `*Vertices` says, and the lines after `*Edges` and `*Arcs`."""
    nodes = edges = 0
    among = b""
    with unpacked(path) as file:
        for line in file:
            words = line.split(None, 2)
            if words and words[0].startswith(b"*"):
                among = words[0].lower()
                nodes += int(words[1]) if among == b"*vertices" else 0
            elif words:
                edges += among in {b"*edges", b"*arcs"}
    return nodes, edges


def _adjacency(path: Path) -> Count:
    """Names, and those of each line but the first."""
    names: set[bytes] = set()
    edges = 0
    with unpacked(path) as file:
        for line in file:
            fields = line.partition(b"#")[0].split()
            names.update(fields)
            edges += max(len(fields) - 1, 0)
    return len(names), edges


def _npz(path: Path) -> Count:
    with np.load(path, allow_pickle=False) as file, file.zip.open("data.npy") as data:
        np.lib.format.read_magic(data)
        (entries,), *_ = np.lib.format.read_array_header_1_0(data)
        return int(file["shape"][0]), entries


def _mat(path: Path, variable: str | None) -> Count | None:
    """Of a file of MATLAB 5 to 7.2: the variable, or the only square one. Its header tells the entries of a sparse one."""
    found = {}
    with path.open("rb") as file:
        head = file.read(128)
        order = "<" if head[126:] == b"IM" else ">"
        if struct.unpack(f"{order}H", head[124:126]) != (0x100,):
            return None
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            end = file.tell() + size
            content = file.read(min(size, SAMPLE))
            if kind == _PACKED:
                content = zlib.decompressobj().decompress(content, SAMPLE)
                kind, content = struct.unpack(f"{order}I", content[:4])[0], content[8:]
            if kind == _MATRIX:
                name, rows, columns, entries = _variable(content, order)
                if rows == columns > 1 or name == variable:
                    found[name] = rows, entries
            file.seek(end)
    return found.get(variable) if variable is not None else next(iter(found.values())) if len(found) == 1 else None


def _variable(content: bytes, order: str) -> tuple[str, int, int, int]:
    """The name, rows, columns and non-zero numbers of an array; of a dense one as its first numbers are."""
    (flags, entries), at = _element(content, 0, order)
    shape, at = _element(content, at, order)
    name, at = _element(content, at, order)
    if flags & 0xFF in _DENSE:
        numbers, _ = _element(content, at, order)
        entries = round(float(np.mean(numbers != 0)) * shape[0] * shape[1]) if len(numbers) else 0
    return name.tobytes().decode(), int(shape[0]), int(shape[1]), int(entries)


def _element(content: bytes, at: int, order: str) -> tuple[Any, int]:
    """The numbers of a part of an array, as far as they are here, and where the next part begins."""
    kind, size = struct.unpack_from(f"{order}II", content, at)
    begin, room = at + 8, -(-size // 8) * 8
    if kind >> 16:  # up to four bytes stand in the tag itself
        kind, size, begin, room = kind & 0xFFFF, kind >> 16, at + 4, 4
    numbers = np.dtype(order + _NUMBERS[kind])
    part = content[begin : begin + size]
    return np.frombuffer(part[: len(part) // numbers.itemsize * numbers.itemsize], numbers), begin + room


_COUNTS: Mapping[str, Callable[[Path], Count]] = {
    ".graphml": _xml, ".gexf": _xml, ".gml": _gml, ".json": _node_link, ".net": _pajek, ".paj": _pajek, ".adjlist": _adjacency,
}  # fmt: skip
