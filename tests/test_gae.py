"""Graph auto-encoders, and what they share with `dgi`: features, convolutions, mini-batches, threads, random numbers."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.convolution import Convolution, batch_size, undirected
from embedders.graph.dgi import Dgi
from embedders.graph.features import features_or_structure, given_features
from embedders.graph.gae import Gae, Vgae
from embedders.graph.geometric import import_geometric, seeded, take
from embedders.graph.node2vec import Node2Vec
from embedders.graph.split import hold_out
from embedders.graph.training import SLOWER, curve
from embedders.torch_threads import torch_threads
from flows.pipeline import Pipeline
from flows.progress import reporting_to
from tests.helpers_graph import cora, features, random_graph
from tests.helpers_incremental import Said
from tests.helpers_store import run_steps

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

SMALL = {"dim": 4, "steps": 5, "threads": 1}
KINDS = [Gae, Vgae, Dgi]


def fit(kind, graph, **params):
    return kind.model_validate(SMALL | params).fit(graph)


def rows_of(encoder):
    return {name: row for batch in encoder.encode(None) for name, row in zip(batch.vectors.ids, batch.vectors.matrix, strict=True)}  # fmt: skip


def edges_of(graph):
    return np.repeat(np.arange(len(graph)), np.diff(graph.indptr)), graph.indices


# ---- what the layers read


@pytest.mark.parametrize("weights", [False, True])
def test_the_adjacency_is_that_of_kipf_and_welling(weights):
    from torch_geometric.nn import GCNConv

    graph = random_graph(weights=weights)
    rows, columns = edges_of(graph)
    dense = np.zeros((40, 40))
    dense[rows, columns] = 1 if graph.weights is None else graph.weights
    dense += np.eye(40)
    root = np.diag(dense.sum(axis=1) ** -0.5)
    part = Convolution(graph, graph.features, 2, "cpu").whole
    np.testing.assert_allclose(part.blocks[0].to_dense().numpy(), root @ dense @ root, atol=1e-6)

    plain, ours = GCNConv(5, 3), GCNConv(5, 3, normalize=False)
    ours.load_state_dict(plain.state_dict())
    edges = torch.from_numpy(np.stack([columns, rows]).astype(np.int64))
    expected = plain(part.x, edges, None if graph.weights is None else torch.from_numpy(graph.weights))
    np.testing.assert_allclose(ours(part.x, part.blocks[0]).detach(), expected.detach(), atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_part_with_all_neighbours_gives_what_the_whole_gives(layers, monkeypatch):
    def through(part):
        x = part.x
        with torch_threads(1):
            for block in part.blocks:
                x = block @ x
        return x.numpy()

    graph = random_graph(60, 300, weights=True)
    convolution = Convolution(graph, graph.features, layers, "cpu")
    whole = through(convolution.whole)
    nodes = np.array([3, 59, 17, 8], np.int32)

    monkeypatch.setattr("embedders.graph.convolution.FANS", (100, 100))
    np.testing.assert_allclose(through(convolution.part(nodes, seed=0)), whole[nodes], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("embedders.graph.convolution.FANS", (3, 3))
    drawn = np.mean([through(convolution.part(nodes, seed=seed)) for seed in range(200)], axis=0)
    assert not np.allclose(through(convolution.part(nodes, seed=0)), whole[nodes], rtol=0.01)
    np.testing.assert_allclose(drawn, whole[nodes], rtol=0.1)


def test_batch_auto_is_full_up_to_a_size():
    assert [batch_size("auto", 50_000), batch_size("auto", 50_001), batch_size("full", 10**7), batch_size(7, 9)] == [
        None, 4096, None, 7,
    ]  # fmt: skip
    for bad in (0, "half", -1):
        with pytest.raises(ValueError, match="batch"):
            Gae(batch=bad)


def test_features_are_normalised_by_row_dense_or_sparse():
    graph = replace(random_graph(3, 5), features=np.array([[1, 3], [0, 0], [-2, 2]], np.float32))
    expected = [[0.25, 0.75], [0, 0], [-0.5, 0.5]]
    assert given_features(graph, normalise=True).tolist() == expected
    sparse = given_features(replace(graph, features=csr_array(graph.features)), normalise=True)
    assert (sparse.toarray().tolist(), sparse.dtype) == (expected, np.float32)
    assert given_features(graph, normalise=False).tolist() == graph.features.tolist()


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_bad_features_are_refused(form):
    graph = random_graph(4, 9)
    bad = graph.features.copy()
    bad[2, 1] = np.nan
    with pytest.raises(InputError, match="'n2' that is NaN"):
        fit(Gae, replace(graph, features=form(bad)))
    with pytest.raises(InputError, match="features of 3 nodes; expected a row for each of 4"):
        fit(Gae, replace(graph, features=form(bad[:3])))
    with pytest.raises(InputError, match="features that are all 0"):
        fit(Gae, replace(graph, features=form(np.zeros((4, 2), np.float32))))


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_features_give_what_dense_ones_give(kind):
    graph = random_graph()
    some = np.where(graph.features > 0.6, graph.features, 0)
    dense, sparse = (fit(kind, replace(graph, features=form(some))).matrix for form in (np.asarray, csr_array))
    np.testing.assert_allclose(sparse, dense, atol=1e-5)


def test_without_features_degrees_and_walks_serve():
    found = features_or_structure(replace(random_graph(), features=None), normalise=True, seed=1, threads=1)
    assert (found.shape, found.dtype) == ((40, 67), np.float32)
    np.testing.assert_allclose(np.linalg.norm(found[:, 3:], axis=1), 8, rtol=1e-5)
    encoder = fit(Gae, replace(random_graph(), features=None))
    assert encoder.mode["features"] == "structure"
    assert np.isfinite(encoder.matrix).all()


# ---- graphs of every kind


@pytest.mark.parametrize("kind", KINDS)
def test_direction_loops_and_types_do_not_count_but_weights_do(kind):
    graph = random_graph()
    rows, columns = edges_of(graph)
    one_way = rows < columns
    directed = Graph.from_edges(graph.ids, rows[one_way], columns[one_way], directed=True)
    looped = Graph.from_edges(graph.ids, np.append(rows[one_way], 5), np.append(columns[one_way], 5))
    typed = Graph(
        graph.ids, graph.indptr * 2, np.repeat(graph.indices, 2),
        edge_types=np.tile(np.array([0, 1], np.int16), len(graph.indices)), edge_type_names=("x", "y"),
    )  # fmt: skip
    expected = fit(kind, graph).matrix
    for other in (directed, looped, typed):
        assert np.array_equal(fit(kind, replace(other, features=graph.features)).matrix, expected)
    assert not np.allclose(fit(kind, random_graph(weights=True)).matrix, expected)


def test_loops_leave_the_other_weights_as_they_are():
    looped = Graph.from_edges(list("abc"), np.array([0, 1, 1]), np.array([1, 1, 2]), np.array([2.0, 5.0, 3.0]))
    plain = undirected(looped)
    assert (plain.indices.tolist(), plain.weights.tolist()) == ([1, 0, 2, 1], [2, 2, 3, 3])


def test_weights_of_both_ways_are_summed():
    graph = Graph.from_edges(["a", "b"], np.array([0, 1]), np.array([1, 0]), np.array([1.0, 2.0]), directed=True)
    assert undirected(graph).weights.tolist() == [3, 3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [True, False])
def test_isolated_nodes_one_node_and_no_edges(kind, given):
    def known(graph):
        return replace(graph, features=features(len(graph)) if given else None)

    batch = next(fit(kind, known(random_graph())).encode(None))
    assert list(batch.origin) == ["embedded" if row else "isolated" for row in np.diff(random_graph().indptr)]
    assert batch.origin[-1] == "isolated" and batch.vectors.matrix[-1].any()
    for n in (1, 3):
        alone = Graph([str(i) for i in range(n)], np.zeros(n + 1, np.int64), np.empty(0, np.int32))
        encoder = fit(kind, known(alone))
        assert (encoder.matrix.shape, encoder.mode["loss"]) == ((n, 4), [])
        assert encoder.matrix.any(axis=1).all()
    loop = Graph.from_edges(["a", "b"], np.array([0, 0]), np.array([0, 1]))
    assert fit(kind, known(loop)).matrix.shape == (2, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_node_is_refused(kind):
    with pytest.raises(InputError, match="without a node"):
        fit(kind, Graph([], np.zeros(1, np.int64), np.empty(0, np.int32)))


def test_a_complete_graph_has_no_pair_apart():
    complete = Graph.from_edges([str(i) for i in range(6)], *np.triu_indices(6, 1))
    state = torch.get_rng_state()
    assert np.isfinite(fit(Gae, replace(complete, features=features(6))).matrix).all()
    assert torch.equal(state, torch.get_rng_state())


# ---- going on from what was learned before


def grown(graph, new=2):
    """The graph with `new` nodes more, at the head, which moves all rows; each is joined to two of the others."""
    rows, columns = edges_of(graph)
    once = rows < columns
    first = np.repeat(np.arange(new), 2)
    second = new + np.arange(2 * new)
    ids = [*(f"new{i}" for i in range(new)), *graph.ids]
    larger = Graph.from_edges(ids, np.append(first, new + rows[once]), np.append(second, new + columns[once]))
    if graph.features is None:
        return larger
    return replace(larger, features=np.concatenate([features(new, graph.features.shape[1], seed=9), graph.features]))


def likeness(a, b):
    """The mean cosine of rows."""
    return np.mean((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [True, False])
def test_a_start_keeps_vectors_near_in_fewer_steps(kind, given, tmp_path):
    graph = random_graph(200, 900)
    graph = graph if given else replace(graph, features=None)
    first = fit(kind, graph, steps=40)
    first.save(tmp_path)
    recipe = kind.model_validate(SMALL | {"steps": 40, "seed": 3})
    warm = recipe.fit(grown(graph), start=kind.load(tmp_path))
    cold = recipe.fit(grown(graph))
    assert (warm.mode["steps"], cold.mode["steps"]) == (5, 40)
    assert warm.ids == grown(graph).ids and np.isfinite(warm.matrix).all()
    assert likeness(warm.matrix[2:], first.matrix) > 0.8 > likeness(cold.matrix[2:], first.matrix)
    assert np.array_equal(recipe.fit(grown(graph), start=first).matrix, warm.matrix)
    for name, array in first.weights.items():
        assert np.abs(warm.weights[name] - array).max() <= 5 * recipe.lr / SLOWER * 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_the_layers_of_the_start(kind):
    """At a rate that moves nothing the vectors are those of the layers on the other graph."""
    graph, other = random_graph(60, 300), random_graph(60, 200, seed=4)
    first = fit(kind, graph, steps=20)
    there = kind.model_validate(SMALL | {"lr": 1e-12, "seed": 7}).fit(other, start=first)
    recipe = first.recipe
    module = seeded(lambda: recipe.build(import_geometric(recipe.kind), 5), 1, "cpu")
    take(module, first.weights)
    expected = recipe._infer(module, Convolution(other, given_features(other, normalise=True), recipe.layers, "cpu"))
    np.testing.assert_allclose(there.matrix, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_does_not_fit_is_refused(kind):
    graph = random_graph()
    first = fit(kind, graph)
    wrong = "Make kind, dim, hidden and the features alike, or leave start out"
    for start, data, params in [
        (first, replace(graph, features=graph.features[:, :4]), {}),
        (first, graph, {"dim": 5}),
        (fit(Dgi if kind is Gae else Gae, graph), graph, {}),
        (Node2Vec(dim=4, walks=1, length=5, threads=1).fit(graph), graph, {}),
        (first, replace(graph, features=None), {}),
    ]:
        with pytest.raises(InputError, match=wrong):
            kind.model_validate(SMALL | params).fit(data, start=start)
    wide = replace(graph, features=features(40, 67))
    with pytest.raises(InputError, match="learned from features; expected one that learned without"):
        kind.model_validate(SMALL).fit(replace(graph, features=None), start=fit(kind, wide))
    with pytest.raises(InputError, match="learned without features; expected one that learned from them"):
        kind.model_validate(SMALL).fit(wide, start=fit(kind, replace(graph, features=None)))


def test_a_run_goes_on_by_itself_unless_the_features_are_others(tmp_path):
    def write(graph):
        rows, columns = edges_of(graph)
        (tmp_path / "edges.csv").write_text(
            "".join(f"{graph.ids[a]},{graph.ids[b]}\n" for a, b in zip(rows, columns, strict=True) if a < b)
        )
        rows = zip(graph.ids, graph.features.tolist(), strict=True)
        (tmp_path / "nodes.jsonl").write_text("".join(json.dumps({"id": name, "f": row}) + "\n" for name, row in rows))
        (tmp_path / "polyvec.yaml").write_text(
            "store: ./vectors\ndatasets:\n"
            "  links: {kind: graph, edges: edges.csv, nodes: {path: nodes.jsonl, features: f}}\n"
            "spaces:\n  s: {dataset: links, embedder: gae, params: {dim: 4, hidden: 5, steps: 16, threads: 1}}\n"
        )
        return tmp_path / "polyvec.yaml"

    graph = random_graph()
    file = write(graph)
    run_steps(file)
    assert "s: goes on from version 1" in said_by(write(grown(graph)))
    second = Pipeline.load(file).vectors.find("s")
    assert (second.number, second.manifest.warm_start, len(second.ids)) == (2, 1, 42)
    assert (second.encoder().mode["steps"], len(second.encoder().weights)) == (2, 4)
    [line] = [it for it in said_by(write(random_graph(width=6))) if it.startswith("s: ")]
    assert line.startswith("s: cannot go on from version 2; training from scratch. Got a start of kind 'gae'")
    third = Pipeline.load(file).vectors.find("s")
    assert (third.number, third.manifest.warm_start, third.encoder().mode["steps"]) == (3, None, 16)


def said_by(file):
    said = Said()
    with reporting_to(said):
        run_steps(file)
    return said.lines


# ---- training


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", ["full", 16])
def test_training_lowers_the_loss(kind, batch):
    groups = np.arange(60) // 20
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 60, (2, 4000))
    near = (groups[source] == groups[target]) & (source != target)
    graph = Graph.from_edges([str(i) for i in range(60)], source[near][:300], target[near][:300])
    known = features(60) + 2 * np.eye(3, 5, dtype=np.float32)[groups]
    losses = fit(kind, replace(graph, features=known), steps=60, batch=batch, lr=0.02, patience=0).mode["loss"]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


def test_patience_ends_training_at_the_lowest_loss():
    graph = random_graph()
    long = fit(Gae, graph, steps=90, lr=0.05)
    losses = long.mode["loss"]
    lowest = [i for i, value in enumerate(losses) if value < min([np.inf, *losses[:i]])]
    stop = next(i for i in range(90) if i - max(k for k in lowest if k <= i) == 4)
    short = fit(Gae, graph, steps=90, lr=0.05, patience=4)
    assert short.mode["steps"] == stop + 1
    assert short.mode["loss"] == losses[: stop + 1]
    best = max(k for k in lowest if k <= stop)
    assert 0 < best < stop
    before = fit(Gae, graph, steps=best, lr=0.05)  # the weights with which step `best` began
    assert np.array_equal(short.matrix, before.matrix)


def test_the_curve_is_the_mean_of_stretches():
    assert curve([]) == []
    assert curve([1.0, 2.0]) == [1, 2]
    assert curve([float(i) for i in range(300)]) == [3.0 * i + 1 for i in range(100)]


@pytest.mark.parametrize("kind", KINDS)
def test_random_numbers_and_threads_of_others_are_left_alone(kind):
    graph = random_graph()
    before, legacy, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    first = fit(kind, graph)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])  # noqa: NPY002
    assert torch.get_num_threads() == threads
    torch.rand(7)
    assert np.array_equal(fit(kind, graph).matrix, first.matrix)


def test_fits_beside_each_other_give_what_they_give_alone():
    graph, threads = random_graph(200, 900), torch.get_num_threads()
    recipes = [kind.model_validate(SMALL | {"seed": seed, "steps": 15}) for kind in KINDS for seed in (0, 1)]
    alone = [recipe.fit(graph).matrix for recipe in recipes]
    found = [None] * len(recipes)

    def work(i):
        found[i] = recipes[i].fit(graph).matrix

    team = [threading.Thread(target=work, args=(i,)) for i in range(len(recipes))]
    for member in team:
        member.start()
    for member in team:
        member.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))
    assert torch.get_num_threads() == threads


def test_several_threads_draw_what_one_draws():
    graph = random_graph(200, 900)
    one, two = (fit(Gae, graph, threads=threads, batch=32) for threads in (1, 2))
    np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-4)


def test_nothing_needs_compiled_extras_of_torch_geometric():
    code = """
import sys
for name in ("pyg_lib", "torch_sparse", "torch_cluster", "torch_scatter"):
    sys.modules[name] = None  # importing it fails
from tests.test_gae import KINDS, fit, random_graph
from embedders.graph.graphsage import GraphSage
from embedders.graph.nodes import Nodes
for kind in KINDS:
    for batch in ("full", 8):
        fit(kind, random_graph(), batch=batch)
nodes = Nodes.of(random_graph())
list(GraphSage(steps=2, threads=1).fit(nodes).encode(nodes))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=300)  # fmt: skip
    assert not done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "batch"), [(Gae, "auto"), (Vgae, "auto"), (Gae, 1024)])
def test_cora_links(kind, batch, shared_data):
    """The mean of 10 seeds is measured in benchmarks/graph.py; here of 3, with a margin."""
    from sklearn.metrics import roc_auc_score

    graph, found = cora(shared_data)[0], []
    for seed in range(3):
        training, held = hold_out(graph, 0.15, seed)
        matrix = kind(seed=seed, threads=1, batch=batch).fit(training).matrix
        scores = [np.einsum("ij,ij->i", *matrix[pairs.T]) for pairs in (held.edges, held.non_edges)]
        found.append(roc_auc_score(np.repeat([1, 0], [len(it) for it in scores]), np.concatenate(scores)))
    assert np.mean(found) > 0.895, found
