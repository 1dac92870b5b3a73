"""New nodes between trainings: the mean of their neighbours, in numbers and through the pipeline."""

import itertools
import re

import numpy as np
import pytest

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.node2vec import Node2Vec, NodeVectors
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.progress import reporting_to
from tests.flow_helpers import command_line
from tests.helpers_incremental import Said
from tests.helpers_store import edit, write_project
from tests.helpers_store import run_steps as run_quietly

RECIPE = Node2Vec(dim=4, seed=3)


def graph(edges, ids, *, weights=None, directed=False):
    place = {name: i for i, name in enumerate(ids)}
    source, target = np.array([[place[a], place[b]] for a, b in edges], np.int64).reshape(-1, 2).T
    return Graph.from_edges(ids, source, target, weights, directed=directed)


def trained(ids="abcd", *, isolated="", seed=0):
    """An encoder of nodes whose vectors are any numbers."""
    matrix = np.random.default_rng(seed).normal(size=(len(ids), 4)).astype(np.float32)
    return NodeVectors(RECIPE, list(ids), matrix, np.array([name in isolated for name in ids]), mode={"threads": 1})


def harmonic(data, held):
    """Independent of the code: the linear equations of the new nodes. held: vectors by name."""
    full = np.zeros((len(data), len(data)))
    np.add.at(
        full,
        (np.repeat(np.arange(len(data)), np.diff(data.indptr)), data.indices),
        1.0 if data.weights is None else data.weights,
    )
    np.fill_diagonal(full, 0)
    if data.directed:
        full = full + full.T
    new = [i for i, name in enumerate(data.ids) if name not in held]
    old = [i for i, name in enumerate(data.ids) if name in held]
    matrix = np.diag(full[new].sum(axis=1)) - full[np.ix_(new, new)]
    sums = full[np.ix_(new, old)] @ np.array([held[data.ids[i]] for i in old], np.float64)
    return {data.ids[i]: row for i, row in zip(new, np.linalg.solve(matrix, sums), strict=True)}


def rows_of(encoder, data):
    return {
        name: (row, origin)
        for batch in encoder.encode(data)
        for name, row, origin in zip(batch.vectors.ids, batch.vectors.matrix, batch.origin, strict=True)
    }


def held(encoder):
    return dict(zip(encoder.ids, encoder.matrix, strict=True))


EDGES = [("a", "b"), ("c", "d"), ("x", "a"), ("x", "c"), ("y", "x"), ("y", "z"), ("z", "d"), ("z", "z"), ("w", "y")]
NAMES = list("wabxcyzd")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("directed", [False, True])
def test_new_nodes_are_the_means_of_their_neighbours(directed, weighted):
    weights = np.arange(1, 10, dtype=np.float32) if weighted else None
    data = graph(EDGES, NAMES, weights=weights, directed=directed)
    before = trained()
    after = before.fold_in(data)
    found = rows_of(after, data)
    assert list(found) == NAMES and after.untrained == 4
    for name, row in harmonic(data, held(before)).items():
        np.testing.assert_allclose(found[name][0], row, atol=1e-4)
        assert found[name][1] == "folded_in"
    for name, row in held(before).items():
        assert found[name][0].tobytes() == row.tobytes() and found[name][1] == "embedded"
    assert dict(after.mode) == {"threads": 1}


def test_a_neighbour_alone_is_the_vector():
    data = graph([("a", "b"), ("c", "d"), ("x", "a")], [*"abcdx"])
    assert np.array_equal(trained().fold_in(data).matrix[4], trained().matrix[0])


def test_a_long_chain_of_new_nodes():
    chain = [f"n{i}" for i in range(30)]
    data = graph([("a", "n0"), *itertools.pairwise(chain), ("n29", "b")], ["a", "b", *chain])
    found = trained().fold_in(data)
    exact = harmonic(data, {name: row for name, row in held(trained()).items() if name in "ab"})
    for name, row in exact.items():
        np.testing.assert_allclose(found.matrix[found.ids.index(name)], row, atol=1e-3)


def test_no_path_to_a_trained_node():
    data = graph([("a", "b"), ("x", "y"), ("z", "z")], [*"abxyz"])
    found = trained().fold_in(data)
    rows = rows_of(found, data)
    assert [rows[name][1] for name in "abxyz"] == ["embedded"] * 2 + ["isolated"] * 3
    new = np.array([rows[name][0] for name in "xyz"])
    assert 0 < np.abs(new).max() <= 0.5 / 4 and len(np.unique(new, axis=0)) == 3
    assert np.array_equal(trained(seed=1).fold_in(data).matrix[2:], found.matrix[2:])  # by name and seed


def test_isolated_nodes_that_get_a_neighbour_are_folded_in():
    before = trained(isolated="cd")
    data = graph([("a", "b"), ("c", "a"), ("d", "d")], [*"abcd"])
    found = before.fold_in(data)
    rows = rows_of(found, data)
    assert [rows[name][1] for name in "abcd"] == ["embedded", "embedded", "folded_in", "isolated"]
    assert np.array_equal(rows["c"][0], before.matrix[0]) and np.array_equal(rows["d"][0], before.matrix[3])
    assert found.untrained == 1


def test_trained_nodes_that_lost_their_neighbours_stay():
    before = trained()
    data = graph([("a", "b"), ("x", "c"), ("d", "d")], [*"abcdx"])
    assert rows_of(before.fold_in(data), data)["d"][1] == "embedded"


def test_gone_nodes_vanish():
    data = graph([("a", "x")], ["x", "a"])
    found = trained().fold_in(data)
    assert list(found.ids) == ["x", "a"] and np.array_equal(found.matrix, trained().matrix[[0, 0]])


def test_folding_in_twice_is_folding_in_once():
    """What was folded in is no knowledge."""
    first = graph([("a", "b"), ("x", "a"), ("q", "r")], [*"abxqr"])
    second = graph([("a", "b"), ("x", "a"), ("x", "c"), ("y", "x"), ("q", "r"), ("r", "b")], [*"abcxyqr"])
    once, twice = trained().fold_in(second), trained().fold_in(graph(
        [("a", "b"), ("c", "d"), ("x", "a"), ("q", "r")], [*"abcdxqr"])).fold_in(second)  # fmt: skip
    assert np.array_equal(once.matrix, twice.matrix) and np.array_equal(once.folded, twice.folded)
    assert trained().fold_in(first).untrained == 3


def test_save_and_load(tmp_path):
    data = graph(EDGES, NAMES)
    encoder = trained().fold_in(data)
    encoder.save(tmp_path)
    found = Node2Vec.load(tmp_path)
    assert found.untrained == encoder.untrained
    before, after = rows_of(encoder, data), rows_of(found, data)
    assert {name: origin for name, (_, origin) in before.items()} == {
        name: origin for name, (_, origin) in after.items()
    }


def test_what_does_not_fold_in_says_so():
    from embedders.text.word2vec import Word2Vec, Word2Vectors

    nothing = np.zeros((0, 100), np.float32)
    assert not Word2Vec.folds_in
    with pytest.raises(NotImplementedError, match="word2vec"):
        Word2Vectors(Word2Vec(), [], nothing, nothing).fold_in(None)


# ---- through the pipeline

NODES = "embedder: node2vec, "


@pytest.fixture
def file(tmp_path):
    """A project whose nodes were trained and may take in a quarter of new ones."""
    path = write_project(tmp_path)
    edit(
        path,
        "  words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 1, min_count: 1, threads: 1}}\n",
        "",
    )
    edit(path, NODES, f"fold_in: 0.25, {NODES}")
    run_quietly(path)
    return path


def run_steps(file, **more):
    said = Said()
    with reporting_to(said):
        run_quietly(file, **more)
    return said.lines


def nodes(file, number=None):
    space = Pipeline.load(file).vectors.space("nodes")
    version = space.version("latest" if number is None else number)
    return version, dict(zip(version.ids, version.matrix, strict=True))


def origins(version):
    import pyarrow.parquet as pq

    found = [pq.read_table(path, columns=["id", "origin"]).to_pydict() for path in version.files]
    return {name: origin for part in found for name, origin in zip(part["id"], part["origin"], strict=True)}


def add(file, *edges):
    with (file.parent / "links.tsv").open("a") as out:
        out.writelines(f"{one}\t{two}\n" for one, two in edges)


def why(file):
    (found,) = make_plan(Pipeline.load(file), extent=True).spaces
    return found.reason if found.action == "embed" else ""


def test_new_nodes_are_folded_in(file):
    _, before = nodes(file)
    add(file, ("new", "a0"), ("new", "a1"), ("newer", "new"), ("lonely", "lonely"))
    assert (
        why(file)
        == "the dataset changed: at most 0.25 of the rows new: folded in; else trained, goes on from version 1"
    )
    (line,) = run_steps(file)
    assert line == "nodes: 3 of 19 rows are new since version 1 was trained: folded in, no training"
    version, after = nodes(file)
    m = version.manifest
    assert (version.number, m.folded_into, m.warm_start) == (2, 1, None)
    assert (m.counts.input, m.counts.embedded, m.counts.folded_in, m.counts.rows) == (19, 17, 2, 19)
    assert m.machine["reproducible"] == "bytes, from version 1"
    for name, row in before.items():
        assert after[name].tobytes() == row.tobytes()
    lines = (file.parent / "links.tsv").read_text().splitlines()
    pairs = [line.split("\t") for line in lines if "lonely" not in line]
    exact = harmonic(graph(pairs, list({name: 0 for pair in pairs for name in pair})), before)
    for name in ("new", "newer"):
        np.testing.assert_allclose(after[name], exact[name], atol=1e-5)
    found = origins(version)
    assert found["new"] == found["newer"] == "folded_in" and found["lonely"] == "isolated"
    assert {found[name] for name in before} == {"embedded"}
    assert why(file) == ""


def test_folded_rows_stay_so_until_training(file):
    _, before = nodes(file)
    add(file, ("new", "a0"))
    run_steps(file)
    add(file, ("newer", "b0"))
    (line,) = run_steps(file)
    assert line == "nodes: 2 of 18 rows are new since version 1 was trained: folded in, no training"
    version, after = nodes(file)
    assert (version.number, version.manifest.folded_into, version.manifest.counts.folded_in) == (3, 1, 2)
    assert {name for name, origin in origins(version).items() if origin == "folded_in"} == {"new", "newer"}
    assert all(after[name].tobytes() == row.tobytes() for name, row in before.items())


def test_more_than_the_share_is_trained(file):
    _, before = nodes(file)
    add(file, *((f"new{i}", "a0") for i in range(3)))
    run_steps(file)  # 3 of 19
    add(file, *((f"newer{i}", "a0") for i in range(3)))
    said = run_steps(file)  # 6 of 22: more than a quarter
    assert said == [
        "nodes: 6 of 22 rows are new since version 1 was trained, more than fold_in: 0.25",
        "nodes: goes on from version 2",
    ]
    version, after = nodes(file)
    m = version.manifest
    assert (m.folded_into, m.warm_start, m.counts.folded_in, m.counts.embedded) == (None, 2, 0, 22)
    assert set(origins(version).values()) == {"embedded"}
    assert not np.array_equal(after["a0"], before["a0"])
    add(file, ("later", "a0"))
    assert run_steps(file) == ["nodes: 1 of 23 rows are new since version 3 was trained: folded in, no training"]


def test_force_trains(file):
    add(file, ("new", "a0"))
    run_steps(file)
    assert run_steps(file, force=True) == []
    version, _ = nodes(file)
    assert version.manifest.folded_into is None and set(origins(version).values()) == {"embedded"}


@pytest.mark.parametrize("how", ["0", "another recipe", "default"])
def test_when_it_is_trained_all_the_same(file, how):
    add(file, ("new", "a0"))
    match how:
        case "0":
            edit(file, "fold_in: 0.25", "fold_in: 0")
        case "default":
            edit(file, "fold_in: 0.25, ", "")
        case "another recipe":
            edit(file, "walks: 2", "walks: 3")
    assert run_steps(file) == ([] if how == "another recipe" else ["nodes: goes on from version 1"])
    version, _ = nodes(file)
    assert version.number == 2 and version.manifest.folded_into is None and version.manifest.counts.folded_in == 0


def test_another_way_to_read_it_is_no_change_of_contents(file):
    edit(file, "edges: links.tsv", "edges: links.tsv, directed: true")
    assert why(file) == "the dataset changed"
    assert run_steps(file) == []
    m = nodes(file)[0].manifest
    assert (m.version, m.folded_into, m.warm_start) == (2, None, None)
    add(file, ("new", "a0"))
    assert run_steps(file) == ["nodes: 1 of 17 rows are new since version 2 was trained: folded in, no training"]


def test_it_needs_no_warm_start(file):
    edit(file, "fold_in: 0.25", "warm_start: false, fold_in: 0.25")
    add(file, ("new", "a0"))
    assert "folded in, no training" in run_steps(file)[0]


def test_nodes_that_are_gone_vanish(file):
    path = file.parent / "links.tsv"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "a3" not in line))
    _, before = nodes(file)
    run_steps(file)
    version, after = nodes(file)
    assert set(after) == set(before) - {"a3"} and version.manifest.counts.folded_in == 0


def test_a_damaged_encoder(file):
    version, _ = nodes(file)
    (version.paths.root / version.manifest.model / "weights.safetensors").write_bytes(b"?")
    add(file, ("new", "a0"))
    said = run_steps(file)
    assert said[0].startswith("nodes: the encoder of version 1 cannot be read; nothing is folded in.")
    assert nodes(file)[0].manifest.folded_into is None


def test_show_says_so(file, monkeypatch, capsys):
    add(file, ("new", "a0"))
    run_steps(file)
    cli = command_line(file.parent, monkeypatch, capsys)
    assert re.search(r"16 embedded \+ 1 folded in", cli("show", "nodes@2").out)


@pytest.mark.parametrize("wrong", ["1", "-0.1", "yes", "2"])
def test_shares_that_are_none(file, wrong):
    edit(file, "fold_in: 0.25", f"fold_in: {wrong}")
    with pytest.raises(InputError, match="fold_in"):
        Pipeline.load(file)


def test_what_folds_nothing_in_is_refused(tmp_path):
    path = write_project(tmp_path)
    edit(path, "embedder: word2vec", "fold_in: 0.1, embedder: word2vec")
    with pytest.raises(InputError, match=r"fold_in: got 0.1 with 'word2vec', which folds no rows in"):
        Pipeline.load(path)
