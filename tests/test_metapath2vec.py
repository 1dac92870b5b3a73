"""metapath2vec: only the path's types get vectors, groups are told apart, errors name the types there are."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.metapath import along, steps
from embedders.graph.metapath2vec import OTHER, MetaPath2Vec
from embedders.graph.node2vec import Node2Vec

APVPA = ("author", "paper", "venue", "paper", "author")
SMALL = MetaPath2Vec(metapath=APVPA, dim=16, walks=20, length=20, window=4, threads=1)
TYPES = ("author", "paper", "venue", "term")


def library(*, directed=False, weight=None, published=True):
    """Two venues of 12 papers, each by an author of the venue's six; every term is in papers of both venues.

    Author 12 has a paper without a venue, author 13 none; the paper of no author is in venue 0.
    """
    ids, types, edges = [], [], []

    def node(kind, name):
        ids.append(name)
        types.append(TYPES.index(kind))
        return len(ids) - 1

    authors = [node("author", f"автор {i}") for i in range(14)]
    venues = [node("venue", f"v{i}") for i in range(2)]
    terms = [node("term", f"t{i}") for i in range(4)]
    for i in range(24):
        paper = node("paper", f"p{i}")
        edges += [(paper, authors[i // 12 * 6 + i % 6]), (paper, venues[i // 12]), (paper, terms[i % 4])]
    rare = node("paper", "of no venue")
    edges.append((rare, authors[12] if published else rare))
    edges.append((node("paper", "anonymous"), venues[0]))
    source, target = np.array(edges).T
    weights = None if weight is None else np.full(len(edges), weight)
    g = Graph.from_edges(ids, source, target, weights, directed=directed)
    return replace(g, types=np.array(types, np.int16), type_names=TYPES)


def same_side(encoder, n=12):
    """How often the nearest author is of the same venue."""
    matrix = encoder.matrix[:n] / np.linalg.norm(encoder.matrix[:n], axis=1, keepdims=True)
    likeness = matrix @ matrix.T
    np.fill_diagonal(likeness, -2)
    return np.mean(likeness.argmax(axis=1) // 6 == np.arange(n) // 6)


@pytest.mark.parametrize("weight", [None, 2.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_authors_of_a_venue_are_near(threads, weight):
    encoder = SMALL.model_copy(update={"threads": threads}).fit(library(weight=weight))
    assert list(encoder.ids[:2]) == ["автор 0", "автор 1"]
    assert same_side(encoder) == 1


def test_the_path_decides_what_is_near():
    """By terms the venues cannot be told apart."""
    by_term = SMALL.model_copy(update={"metapath": ("author", "paper", "term", "paper", "author")}).fit(library())
    assert same_side(by_term) < 1


def test_rows_are_accounted_for():
    data = library()
    encoder = SMALL.fit(data)
    rows = [(name, origin) for batch in encoder.encode(data) for name, origin in zip(batch.vectors.ids, batch.origin, strict=True)]  # fmt: skip
    assert encoder.excluded(data) == {OTHER: 4}
    assert encoder.rows(data) == len(data) == len(rows) + 4
    assert [name for name, _ in rows] == [name for name, kind in zip(data.ids, data.types, strict=True) if kind != 3]
    assert [name for name, origin in rows if origin == "isolated"] == ["автор 13"]
    assert np.isfinite(encoder.matrix).all() and encoder.matrix.any(axis=1).all()


def test_what_no_walk_reaches_is_isolated():
    """The paper without an author is met from its venue; a paper without any neighbour, and its author, are not."""
    data = library(published=False)
    encoder = SMALL.fit(data)
    alone = [name for name, it in zip(encoder.ids, encoder.isolated, strict=True) if it]
    assert alone == ["автор 12", "автор 13", "of no venue"]


def test_the_same_seed_gives_the_same_bytes():
    first, second = SMALL.fit(library()), SMALL.fit(library())
    assert first.matrix.tobytes() == second.matrix.tobytes()
    assert SMALL.model_copy(update={"seed": 1}).fit(library()).matrix.tobytes() != first.matrix.tobytes()


def test_save_and_load(tmp_path):
    encoder = SMALL.fit(library())
    encoder.save(tmp_path)
    found = MetaPath2Vec.load(tmp_path)
    assert found.matrix.tobytes() == encoder.matrix.tobytes() and list(found.ids) == list(encoder.ids)
    assert found.excluded(library()) == {OTHER: 4} and found.recipe == SMALL


def test_warm_start():
    first = SMALL.fit(library())
    gentle = SMALL.model_copy(update={"lr": 1e-6, "walks": 1})
    again = gentle.fit(library(), start=first)
    scale = np.linalg.norm(again.matrix) / np.linalg.norm(first.matrix)
    np.testing.assert_allclose(again.matrix, first.matrix * scale, atol=1e-3)


def test_fold_in_leaves_other_types_out():
    data = library()
    encoder = SMALL.fit(data)
    rows = np.repeat(np.arange(len(data)), np.diff(data.indptr))
    n = len(data)
    source, target = [*rows, n, n], [*data.indices, data.ids.index("v1"), data.ids.index("t0")]
    grown = replace(
        Graph.from_edges([*data.ids, "new"], np.array(source), np.array(target)),
        types=np.append(data.types, np.int16(1)), type_names=TYPES,
    )  # fmt: skip
    found = encoder.fold_in(grown)
    assert found.excluded(grown) == {OTHER: 4} and list(found.ids) == [*encoder.ids, "new"]
    assert np.array_equal(found.matrix[-1], encoder.matrix[encoder.ids.index("v1")])  # the term has no say
    assert np.array_equal(found.matrix[:-1], encoder.matrix)


@pytest.mark.parametrize(
    ("metapath", "message"),
    [
        (
            ("author", "reader", "author"),
            "Got 'reader' in the metapath; the graph's types are author, paper, venue, term",
        ),
        (
            ("author", "venue", "author"),
            "Got the step author-venue in the metapath, which no edge makes; edges make none",
        ),
        (
            ("author", "paper", "venue", "author"),
            "Got the step venue-author .*; edges make author-paper, paper-author, paper-venue, venue-paper",
        ),
    ],
)
def test_paths_that_the_graph_has_not(metapath, message):
    with pytest.raises(InputError, match=message):
        MetaPath2Vec(metapath=metapath).fit(library())


def test_arrows_that_lead_one_way():
    with pytest.raises(InputError, match=r"author-paper in the metapath.*paper-author.*directed: false"):
        SMALL.fit(library(directed=True))


@pytest.mark.parametrize("metapath", [(), ("author",), ("author", "paper")])
def test_paths_that_do_not_return(metapath):
    with pytest.raises(ValueError, match="metapath"):
        MetaPath2Vec(metapath=metapath)


def test_graphs_without_types_or_nodes():
    plain = Graph.from_edges(["a", "b"], np.array([0]), np.array([1]))
    nothing = replace(Graph.from_edges([], np.empty(0), np.empty(0)), types=np.empty(0, np.int16))
    for data in (plain, nothing):
        with pytest.raises(InputError, match=r"no types.*node2vec"):
            SMALL.fit(data)


def test_along_keeps_edges_and_weights():
    data = library(weight=3.0)
    part = along(data, [steps(("paper", "author", "paper"))])
    assert part.type_names == ("paper", "author") and set(part.types.tolist()) == {0, 1}
    names = [data.ids[i] for i in range(len(data)) if data.types[i] < 2]
    assert list(part.ids) == names and len(part.indices) == 2 * 25 and set(part.weights.tolist()) == {3.0}
    for row in range(len(part)):
        near = {part.ids[i] for i in part.indices[part.indptr[row] : part.indptr[row + 1]]}
        old = data.ids.index(part.ids[row])
        assert near == {data.ids[i] for i in data.indices[data.indptr[old] : data.indptr[old + 1]]} & set(names)


@pytest.mark.slow
def test_areas_of_dblp_authors(shared_data):
    """Walks by venue and by term against node2vec's on the same graph without types, at as many steps; the majority has 0.295."""
    shared_data("graph_dblp_hetero")
    from benchmarks.graph_data import dblp
    from embedders.base import Vectors

    task = dblp()

    def score(encoder):
        return task.score(Vectors("node", encoder.ids, encoder.matrix), train=0.5).value("micro_f1")

    by_venue, by_term = (("author", "paper", kind, "paper", "author") for kind in ("venue", "term"))
    untyped = score(Node2Vec(walks=4, epochs=1, threads=1).fit(task.graph))
    venue = score(MetaPath2Vec(metapath=by_venue, threads=1).fit(task.graph))
    both = score(MetaPath2Vec(metapath=(by_venue, by_term), threads=1).fit(task.graph))
    assert both > venue > untyped
    assert both > 0.945
