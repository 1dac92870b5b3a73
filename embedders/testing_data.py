"""Small datasets with a known answer, one for each data type, for the conformance suite (`embedders.testing`)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Encoder, Vectors
from embedders.data import Corpus, Documents, Graph, Images
from embedders.graph.node2vec import Node2Vec, NodeVectors
from embedders.graph.nodes import Nodes
from embedders.interactions import Interactions
from embedders.tables import Table
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
from embedders.views import Views


@dataclass(frozen=True, eq=False)
class Example:
    """A dataset with a known answer.

    Parameters
    ----------
    groups : some of the ids, to the group that each belongs to; the nearest neighbour is of the same group.
    part : the same data with only some of its ids, for embedders that encode rows one by one.
    start : an encoder to begin with, for embedders that need one.
    ids : by side, where entities of several kinds are learned together.
    """

    data: Any
    groups: Mapping[str, str]
    part: Any = None
    start: Encoder[Any] | None = None
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)


def corpus_example(folder: Path) -> Example:
    """Two topics of 15 words that never share a document, a word of both, and a word that occurs once."""
    rng = np.random.default_rng(7)
    topics = {"wine": [f"wine{i:02}" for i in range(15)], "rail": [f"rail{i:02}" for i in range(15)]}
    texts = [[*rng.choice(topics["wine" if i % 2 else "rail"], 12), "the"] for i in range(1500)] + [["once"]]
    counts: dict[str, int] = {}
    for word in (word for text in texts for word in text):
        counts[word] = counts.get(word, 0) + 1
    words = sorted(counts, key=lambda word: (-counts[word], word))
    row = {word: i for i, word in enumerate(words)}
    tokens = np.array([row[word] for text in texts for word in text], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    data = Corpus(words, np.array([counts[word] for word in words], np.int64), tokens, offsets)
    return Example(data, {word: topic for topic, members in topics.items() for word in members})


def documents_example(folder: Path) -> Example:
    """The first 40 documents of `corpus_example`, named by number, and one of a word that occurs nowhere else."""
    corpus = corpus_example(folder).data
    chosen = [*range(40), len(corpus.offsets) - 2]
    ids = [f"dokument {i}" for i in chosen]
    pieces = [corpus.tokens[corpus.offsets[i] : corpus.offsets[i + 1]].tolist() for i in chosen]
    digests = [sha256(" ".join(corpus.words[row] for row in piece).encode()).hexdigest() for piece in pieces]
    offsets = np.array([[corpus.offsets[i], corpus.offsets[i + 1]] for i in chosen])
    data = Documents(ids, digests, corpus.words, corpus.counts, corpus.tokens, offsets)
    groups = {name: "wine" if i % 2 else "rail" for name, i in zip(ids[:-1], chosen, strict=False)}
    return Example(data, groups, data.select(range(1, 41, 3)))


def word_start(folder: Path) -> Encoder[Corpus]:
    """Vectors of the words of `corpus_example` in which the topics differ; one that is everywhere is long."""
    example = corpus_example(folder)
    words = [word for word, count in zip(example.data.words, example.data.counts, strict=True) if count > 1]
    sides = [{"wine": 1, "rail": -1}.get(example.groups.get(word, ""), 0) for word in words]
    matrix = np.random.default_rng(7).normal(0, 0.2, (len(words), 8)).astype(np.float32)
    matrix[:, 0] += sides
    matrix[:, 1] += np.where(np.array(sides) == 0, 5, 1)
    return WordVectors(Word2Vec.model_validate({"dim": 8}), words, matrix)


def graph_example(folder: Path) -> Example:
    """Two cliques of 12 nodes joined by one edge, and a node without neighbours; some names are not plain ASCII.

    Users and items stand by turns; the node without neighbours is a tag.
    """
    names = [f"left {i}" for i in range(12)] + [f"правый{i}" for i in range(12)] + ["alone"]
    pairs = [(base + i, base + j) for base in (0, 12) for i in range(12) for j in range(i)] + [(0, 12), (24, 24)]
    source, target = np.array(pairs).T
    graph = replace(
        Graph.from_edges(names, source, target),
        types=np.array([0, 1] * 12 + [2], np.int16), type_names=("user", "item", "tag"),
    )  # fmt: skip
    return Example(graph, {name: name[:4] for name in names[1:12] + names[13:24]})


def nodes_example(folder: Path) -> Example:
    """The graph of `graph_example`, whose groups differ in their features; the features of the last node are one alone."""
    example = graph_example(folder)
    graph: Graph = example.data
    features = np.random.default_rng(7).random((len(graph), 6), np.float32)
    features[:12, :3] += 1
    features[12:24, 3:] += 1
    features[24] = (0, 1, 0, 0, 0, 0)
    data = Nodes.of(replace(graph, features=features))
    return Example(data, example.groups, data.select(range(1, 25, 3)))


def node_start(folder: Path) -> Encoder[Graph]:
    """Vectors of the nodes of `graph_example` but for two, in which the cliques differ a little."""
    ids = [name for name in graph_example(folder).data.ids if name not in {"left 3", "alone"}]
    matrix = np.random.default_rng(7).normal(0, 0.5, (len(ids), 6)).astype(np.float32)
    matrix[:, 0] += [1 if name.startswith("left") else -1 for name in ids]
    return NodeVectors(Node2Vec.model_validate({"dim": 6}), ids, matrix, np.zeros(len(ids), bool))


def images_example(folder: Path) -> Example:
    """Six red discs and six blue squares, each of its own size and place, and a file that is no picture."""
    rng = np.random.default_rng(7)
    ids, groups = [], {}
    y, x = np.mgrid[:96, :96]
    for i in range(12):
        size, (top, left) = rng.integers(20, 30), rng.integers(34, 62, 2)
        disc = i % 2 == 0
        inside = np.hypot(y - top, x - left) < size if disc else np.maximum(abs(y - top), abs(x - left)) < size
        pixels = np.full((96, 96, 3), 255, np.uint8)
        pixels[inside] = (220, 20, 30) if disc else (20, 40, 200)
        ids.append(f"{i:02}.png")
        groups[ids[-1]] = "disc" if disc else "square"
        (folder / ids[-1]).write_bytes(_png(pixels))
    (folder / "broken.png").write_bytes(b"this is no picture")
    ids.insert(3, "broken.png")
    digests = [sha256((folder / name).read_bytes()).hexdigest() for name in ids]
    part = slice(1, None, 3)
    return Example(
        Images(ids, [folder / name for name in ids], digests),
        groups,
        Images(ids[part], [folder / name for name in ids[part]], digests[part]),
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """(height, width, 3) as the bytes of a PNG, so that no imaging package is needed."""
    height, width, _ = pixels.shape
    parts = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(b)) + name + b + struct.pack(">I", zlib.crc32(name + b)) for name, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def interactions_example(folder: Path) -> Example:
    """Two clubs of 12 users and 10 items that meet only their own, each user most items of the club; one item is everybody's."""
    rng = np.random.default_rng(7)
    clubs = {"tea": range(12), "ale": range(12, 24)}
    users = [f"{club} user {i}" for club, members in clubs.items() for i in members]
    items = [f"{club} item {i}" for club in clubs for i in range(10)] + ["water"]
    pairs = [(user, 10 * (user // 12) + i) for user in range(24) for i in range(10) if rng.random() < 0.7]
    pairs += [(user, 20) for user in range(24)]
    user, item = np.array(pairs, np.int32)[rng.permutation(len(pairs))].T
    data = Interactions.of(
        users, items, user, item, rng.integers(1, 6, len(pairs)).astype(np.float32), np.arange(len(pairs), dtype=float)
    )
    groups = {name: name.split()[0] for name in [*users, *items[:-1]]}
    return Example(data, groups, ids={"users": users, "items": items})


def views_example(folder: Path) -> Example:
    """Two spaces of 20 things that each tell one of four groups' two traits, so that only both tell the group; each lacks
    a thing.
    """
    rng = np.random.default_rng(7)
    ids = [f"thing {i}" for i in range(20)]
    traits = {"colour": [i // 10 for i in range(20)], "shape": [i // 5 % 2 for i in range(20)]}
    views = {}
    for space, lacking in (("colour", 3), ("shape", 12)):
        rows = [i for i in range(20) if i != lacking]
        matrix = rng.normal(0, 0.1, (19, 5)).astype(np.float32)
        matrix[:, 0] += np.array(traits[space], np.float32)[rows]
        views[space] = Vectors("thing", [ids[i] for i in rows], matrix)
    groups = {name: f"{traits['colour'][i]}{traits['shape'][i]}" for i, name in enumerate(ids) if i not in (3, 12)}
    return Example(Views.of(views), groups)


def table_example(folder: Path) -> Example:
    """Shops in 12 cities of two lands, painted dark or bright, by both of which sales differ; a row lacks its city."""
    rng = np.random.default_rng(7)
    cities = [f"{land} city {i}" for land in ("north", "süd") for i in range(6)]
    n = 600
    codes = np.stack([rng.integers(0, 12, n), rng.integers(0, 6, n)], axis=1).astype(np.int32)
    codes[5, 0] = -1
    target = np.where(codes[:, 0] < 6, 1, -1) + np.where(codes[:, 1] < 3, 0.5, -0.5) + rng.normal(0, 0.1, n)
    colours = [f"{tone} colour {i}" for tone in ("dark", "bright") for i in range(3)]
    data = Table(
        [f"shop {i}" for i in range(n)], ("city", "colour"), (cities, colours), codes, ("size",),
        rng.normal(0, 0.1, (n, 1)).astype(np.float32), target.astype(np.float32), "sales",
    )  # fmt: skip
    groups = {name: name.split()[0] for name in (*cities, *colours)}
    groups |= {data.ids[row]: cities[code].split()[0] for row, code in enumerate(codes[:, 0]) if code >= 0}
    ids = {"rows": data.ids, "city": ["unknown", *cities], "colour": ["unknown", *colours]}
    return Example(data, groups, data.select(range(1, n, 3)), ids=ids)


EXAMPLES: Mapping[type, Callable[[Path], Example]] = {
    Corpus: corpus_example,
    Documents: documents_example,
    Graph: graph_example,
    Interactions: interactions_example,
    Views: views_example,
    Images: images_example,
    Nodes: nodes_example,
    Table: table_example,
}

STARTS: Mapping[type, Callable[[Path], Encoder[Any]]] = {Corpus: word_start, Documents: word_start, Graph: node_start}
"""What an embedder that needs a start begins at, by the data it reads."""
