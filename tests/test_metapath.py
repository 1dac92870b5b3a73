"""Paths of types: arrows name types of edges and directions; what cannot be walked is refused with what there is."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.metapath import along, steps
from embedders.graph.metapath2vec import MetaPath2Vec

NAMES = ("author", "paper", "venue")
EDGES = [  # paper i is written by author i // 2 and reviewed by the author after; cites the next; every third is shown
    *((f"a{i // 2}", f"p{i}", "writes") for i in range(12)),
    *((f"a{(i // 2 + 1) % 6}", f"p{i}", "reviews") for i in range(12)),
    *((f"p{i}", f"p{i + 1}", "cites") for i in range(11)),
    *((f"p{i}", "v0", "in") for i in range(0, 12, 3)),
]


def science(*, directed=True, kinds=True, weight=None):
    ids = list(dict.fromkeys(name for a, b, _ in EDGES for name in (a, b)))
    source, target = np.array([[ids.index(a), ids.index(b)] for a, b, _ in EDGES]).T
    known = tuple(dict.fromkeys(kind for *_, kind in EDGES))
    graph = Graph.from_edges(
        ids, source, target, None if weight is None else np.full(len(EDGES), weight), directed=directed,
        edge_types=np.array([known.index(kind) for *_, kind in EDGES]) if kinds else None, edge_type_names=known if kinds else (),
    )  # fmt: skip
    types = np.array(["apv".index(name[0]) for name in ids], np.int16)
    return replace(graph, types=types, type_names=NAMES)


def walked(path, graph, monkeypatch):
    """Pairs of names that stand side by side in walks, first to last."""
    from embedders.kernels.walks import TypedWalker

    seen = []
    real = TypedWalker.walks
    monkeypatch.setattr(TypedWalker, "walks", lambda *args, **more: seen.append(real(*args, **more)) or seen[-1])
    recipe = MetaPath2Vec(metapath=path, dim=4, walks=20, length=9, threads=1)
    ids = recipe.fit(graph).ids
    found = set()
    for walks in seen:
        for a, b in zip(walks[:, :-1].ravel().tolist(), walks[:, 1:].ravel().tolist(), strict=True):
            if min(a, b) >= 0:
                found.add((ids[a], ids[b]))
    return found


def of(kind):
    return {(a, b) for a, b, own in EDGES if own == kind}


def turned(pairs):
    return {(b, a) for a, b in pairs}


@pytest.mark.parametrize("directed", [True, False])
def test_edges_of_one_type_are_walked(directed, monkeypatch):
    path = ["author", "-writes->", "paper", "<-writes-", "author"]
    graph = science(directed=directed)
    assert walked(path, graph, monkeypatch) == of("writes") | turned(of("writes"))
    if directed:
        path = ["author", "->", "paper", "<-reviews-", "author"]
        assert walked(path, graph, monkeypatch) == of("writes") | of("reviews") | turned(of("reviews"))


def test_arrows_turn_directed_edges(monkeypatch):
    cites = of("cites")
    assert walked(["paper", "-cites->", "paper"], science(), monkeypatch) == cites
    assert walked(["paper", "<-cites-", "paper"], science(), monkeypatch) == turned(cites)
    assert walked(["paper", "<-", "paper", "->", "paper"], science(kinds=False), monkeypatch) == cites | turned(cites)
    assert walked(["paper", "<-cites-", "paper"], science(directed=False), monkeypatch) == cites | turned(cites)


def test_paths_take_turns(monkeypatch):
    paths = [
        ["author", "->", "paper", "<-", "author"],
        ["author", "paper", "->", "venue", "<-", "paper", "<-", "author"],
    ]
    found = walked(paths, science(weight=2.0), monkeypatch)
    assert found == set().union(*(it | turned(it) for it in map(of, ("writes", "reviews", "in"))))


def test_along_keeps_what_a_step_takes():
    """Both ways of an undirected edge; nothing of other types, though they join the same nodes."""
    path = [steps(["author", "-writes->", "paper", "<-writes-", "author"])]
    for directed, each in ((True, 1), (False, 2)):
        part = along(science(directed=directed), path)
        assert len(part.indices) == 12 * each and set(part.edge_types.tolist()) == {0}
        assert part.type_names == ("author", "paper") and len(part) == 18


def test_undirected_edges_are_kept_both_ways():
    """Also where the path goes round: no step leads from the paper to the author."""
    triangle = Graph.from_edges(["a", "p", "v"], np.array([0, 1, 2]), np.array([1, 2, 0]))
    triangle = replace(triangle, types=np.arange(3, dtype=np.int16), type_names=NAMES)
    part = along(triangle, [steps(["author", "paper", "venue", "author"])])
    assert part.indptr.tolist() == [0, 2, 4, 6] and part.indices.tolist() == triangle.indices.tolist()


def test_fold_in_takes_the_types_of_all_paths():
    graph = science(directed=False)
    recipe = MetaPath2Vec(metapath=[["paper", "author", "paper"], ["paper", "venue", "paper"]], dim=4, threads=1)
    encoder = recipe.fit(graph)
    found = encoder.fold_in(graph)
    assert list(found.ids) == list(encoder.ids) == list(graph.ids) and np.array_equal(found.matrix, encoder.matrix)


def test_fold_in_sees_the_edges_of_the_path_alone():
    """A new paper by author 0 that cites paper 11: the mean is that of its author."""
    recipe = MetaPath2Vec(metapath=["author", "-writes->", "paper", "<-writes-", "author"], dim=8, threads=1)
    old = science()
    encoder = recipe.fit(old)
    rows = np.repeat(np.arange(len(old)), np.diff(old.indptr))
    more = [(old.ids.index("a0"), len(old), 0), (len(old), old.ids.index("p11"), 2)]
    source, target, kind = np.concatenate([np.stack([rows, old.indices, old.edge_types], 1), more]).T
    grown = Graph.from_edges([*old.ids, "new"], source, target, directed=True, edge_types=kind, edge_type_names=old.edge_type_names)  # fmt: skip
    grown = replace(grown, types=np.append(old.types, np.int16(1)), type_names=NAMES)
    found = encoder.fold_in(grown)
    assert found.ids[-1] == "new" and np.allclose(found.matrix[-1], found.matrix[found.ids.index("a0")])


@pytest.mark.parametrize("text", ["[author, -writes->, paper, <-writes-, author]", "[[author, ->, paper, <-, author]]"])
def test_paths_are_plain_yaml(text):
    path = yaml.safe_load(text)
    recipe = MetaPath2Vec(metapath=path)
    assert MetaPath2Vec.model_validate_json(recipe.model_dump_json()) == recipe
    assert [step.back for step in recipe.paths[0]] == [False, True]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (["author"], "at least two node types"),
        (["author", "paper"], "ends with its first type, 'author'"),
        (["->", "author", "author"], "only between two"),
        (["author", "-x->", "<-y-", "author"], "only between two"),
        (["author", "author", "->"], "only between two"),
        ([], "at least two node types"),
        ("author", "a list of node types, or"),
        (["author", 5, "author"], "a list of node types, or"),
        ([["author", "author"], "author"], "a list of node types, or"),
        ([["author", "author"], []], "at least two node types"),
        ([["author", "author"], ["paper", "paper"]], "begin with one type, not with author and paper"),
    ],
)
def test_paths_that_are_none(path, message):
    with pytest.raises(ValueError, match=message):
        MetaPath2Vec(metapath=path)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (["author", "-likes->", "paper", "author"], {}, "edge type 'likes' in the metapath; the graph's are writes, reviews, cites, in"),
        (["author", "-writes->", "paper", "author"], {"kinds": False}, "edge type 'writes'.*edges have no types.*columns"),
        (["author", "-cites->", "paper", "author"], {}, "step author -cites-> paper .*no edge makes; edges make author -writes-> paper, author -reviews-> paper, paper -cites-> paper. Change"),
        (["author", "-writes->", "paper", "-writes->", "author"], {}, "step paper -writes-> author .*Go against them, paper <-writes- author, or .*directed: false"),
        (["author", "paper", "author"], {}, "step paper-author .*Go against them, paper <- author"),
        (["venue", "<-", "paper", "-cites->", "paper", "-cites->", "paper", "<-in-", "venue"], {}, "step paper <-in- venue .*no edge makes"),
    ],
)  # fmt: skip
def test_steps_that_the_graph_has_not(path, options, message):
    with pytest.raises(InputError, match=message):
        MetaPath2Vec(metapath=path).fit(science(**options))


def test_a_path_that_no_node_can_walk():
    """Papers are written, and papers are in venues, but not the same ones."""
    ids = ["a", "p", "q", "v"]
    graph = Graph.from_edges(ids, np.array([0, 2]), np.array([1, 3]))
    graph = replace(graph, types=np.array([0, 1, 1, 2], np.int16), type_names=NAMES)
    with pytest.raises(InputError, match="which no node can walk: no edge makes paper-venue from a node that"):
        MetaPath2Vec(metapath=["author", "paper", "venue", "paper", "author"]).fit(graph)


def test_noise_of_the_type_keeps_rows_and_bytes():
    """Nodes stand by type while they learn; ids, vectors and what is isolated stay with each other."""
    recipe = MetaPath2Vec(metapath=["author", "paper", "author"], dim=8, walks=30, length=20, threads=1)
    ids = [name for i in range(8) for name in (f"a{i}", f"p{i}")] + ["alone"]
    pairs = [(2 * i, 2 * j + 1) for i in range(8) for j in range(8) if i // 4 == j // 4]
    graph = Graph.from_edges(ids, *np.array(pairs).T)
    graph = replace(graph, types=np.array([0, 1] * 8 + [1], np.int16), type_names=NAMES)
    typed = recipe.model_copy(update={"typed_noise": True})
    plain, first, second = recipe.fit(graph), typed.fit(graph), typed.fit(graph)
    assert first.matrix.tobytes() == second.matrix.tobytes() != plain.matrix.tobytes()
    for encoder in (plain, first):
        assert list(encoder.ids) == ids and encoder.isolated.tolist() == [False] * 16 + [True]
        unit = encoder.matrix[:16] / np.linalg.norm(encoder.matrix[:16], axis=1, keepdims=True)
        likeness = unit @ unit.T
        np.fill_diagonal(likeness, -2)
        assert np.array_equal(likeness.argmax(1) // 8, np.arange(16) // 8)
    again = typed.model_copy(update={"lr": 1e-6, "walks": 1}).fit(graph, start=first)
    scale = np.linalg.norm(again.matrix) / np.linalg.norm(first.matrix)
    np.testing.assert_allclose(again.matrix, first.matrix * scale, atol=1e-3)


def test_estimates():
    base = MetaPath2Vec(metapath=["a", "b", "a"], threads=1)
    found = base.estimate(10_000, 50_000)
    assert base.model_copy(update={"walks": 20}).estimate(10_000, 50_000).seconds == 2 * found.seconds
    assert base.estimate(10_000, 10_000_000).bytes > found.bytes
    wider = MetaPath2Vec(metapath=["a", "b", "c", "b", "a"], threads=1).estimate(10_000, 50_000)
    assert wider.seconds == pytest.approx(found.seconds * 2 / 3, rel=1e-3)  # fewer nodes to begin at
