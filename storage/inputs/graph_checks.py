"""What networkx would read wrongly without a word: looked for beforehand, and refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from xml.parsers import expat

JOINING = ("*arcs", "*edges", "*matrix")


def check_xml(content: bytes) -> None:
    """Refuse GraphML and GEXF that declare entities, hold several graphs, or are not whole.

    Entities can make a small file endless (billion laughs); of several graphs only the first would be read; of two nodes
    of one id one would be left; a node that only an edge names would come to be.

    Raises
    ------
    ValueError : it is so.
    ExpatError : it is no XML.
    """
    graphs = 0
    nodes: list[str] = []
    ends: dict[str, None] = {}

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities, which can make a small file endless")

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal graphs
        match name.rpartition(":")[2]:
            case "graph":
                graphs += 1
            case "node":
                nodes.append(attributes.get("id", ""))
            case "edge":
                ends.update({attributes[role]: None for role in ("source", "target") if role in attributes})

    parser = expat.ParserCreate()
    parser.EntityDeclHandler, parser.StartElementHandler = refuse, begin
    parser.Parse(content, True)
    if graphs > 1:
        raise ValueError(f"it holds {graphs} graphs, of which one is read; keep one")
    _check_whole(nodes, ends)


def pajek_lines(text: str) -> list[str]:
    """The lines of a Pajek file, comments and empty sections left out, sections of one kind as one.

    Raises
    ------
    ValueError : it has arcs and edges, or a section of another kind; vertices lack, have one label or are not there.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("%")]
    starts = [i for i, line in enumerate(lines) if line.startswith("*")]
    sections = [(lines[i].split()[0].lower(), lines[i:end]) for i, end in pairwise([*starts, len(lines)])]
    kinds = [kind for kind, _ in sections]
    if kinds.count("*vertices") != 1:
        raise ValueError(f"it has {kinds.count('*vertices')} sections *Vertices, not one")
    if strange := sorted(set(kinds) - {"*network", "*vertices", *JOINING}):
        raise ValueError(f"it has a section {strange[0]}, which is not read; *Arcs, *Edges and *Matrix are")
    joining = [(kind, held) for kind, held in sections if kind in JOINING and len(held) > 1]
    used = list(dict.fromkeys(kind for kind, _ in joining))
    if len(used) > 1:
        raise ValueError(f"it has {' and '.join(used)}, of which one kind is read; keep one")
    first, *vertices = next(held for kind, held in sections if kind == "*vertices")
    if first.split()[1:2] != [str(len(vertices))]:
        raise ValueError(f"it has {len(vertices)} lines of vertices after {first.strip()!r}")
    labels = [re.sub(r'^\s*\S+\s+("[^"]*"|\S*).*', r"\1", line).strip('"') for line in vertices]
    rows = [line for _, held in joining for line in held[1:]]
    if used != ["*matrix"]:
        _check_whole([line.split()[0] for line in vertices], (end for line in rows for end in line.split()[:2]))
    _check_whole(labels, ())
    return [first, *vertices, *used, *rows]


def _check_whole(nodes: list[str], ends: Iterable[str]) -> None:
    known = set(nodes)
    if len(known) < len(nodes):
        seen: set[str] = set()
        twice = next(name for name in nodes if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"two nodes are called {twice!r}")
    if (unknown := next((end for end in ends if end not in known), None)) is not None:
        raise ValueError(f"an edge names the node {unknown!r}, which is not there")
