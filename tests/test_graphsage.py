"""GraphSAGE: rows from their surroundings alone, digests that say when these change, and runs that embed no more."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.geometric import import_geometric
from embedders.graph.graphsage import GraphSage
from embedders.graph.means import STEP
from embedders.graph.nodes import Nodes
from embedders.graph.walk_pairs import PairDraw, walk_loss
from flows.pipeline import Pipeline
from storage.verify import resample, verify
from tests.helpers_graph import cora, features, random_graph
from tests.helpers_store import run_steps

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

SMALL = {"dim": 6, "hidden": 7, "steps": 4, "batch": 16, "threads": 1}


def fit(graph, start=None, **params):
    return GraphSage.model_validate(SMALL | params).fit(Nodes.of(graph), start=start)


def matrix_of(encoder, nodes):
    return np.concatenate([batch.vectors.matrix for batch in encoder.encode(nodes)])


def grown(graph, source, target, new=0, weight=None):
    """The graph with more nodes, whose features are new, and more edges."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    once = rows < graph.indices
    n = len(graph) + new
    weights = None if graph.weights is None else np.append(graph.weights[once], np.full(len(source), weight or 1.0))
    larger = Graph.from_edges(
        [*graph.ids, *(f"new{i}" for i in range(new))],
        np.append(rows[once], source), np.append(graph.indices[once], target), weights,
    )  # fmt: skip
    known = np.concatenate([graph.features, features(n, graph.features.shape[1], seed=99)[len(graph) :]])
    return replace(larger, features=known)


def within(graph, nodes, hops):
    """Names of the nodes that are at most `hops` edges away."""
    found = np.zeros(len(graph), bool)
    found[nodes] = True
    for _ in range(hops):
        for row in np.flatnonzero(found.copy()):
            found[graph.indices[graph.indptr[row] : graph.indptr[row + 1]]] = True
    return {graph.ids[row] for row in np.flatnonzero(found)}


# ---- digests


def digests_of(graph):
    return dict(zip(graph.ids, Nodes.of(graph).digests, strict=True))


def changed(before, after):
    old, new = digests_of(before), digests_of(after)
    return {name for name in new if old.get(name) != new[name]}


@pytest.mark.parametrize("weights", [False, True])
def test_digests_change_within_two_hops_of_a_change_and_nowhere_else(weights):
    graph = random_graph(80, 90, seed=2, weights=weights)
    assert len(set(digests_of(graph).values())) == 80
    other = replace(graph, features=graph.features.copy())
    other.features[5, 2] += 1
    assert changed(graph, other) == within(graph, [5], 2)
    joined = grown(graph, [3], [44])
    assert changed(graph, joined) == within(joined, [3, 44], 1)
    more = grown(graph, [80, 10], [11, 81], new=2)
    assert changed(graph, more) == within(more, [80, 81], 2)
    assert len(changed(graph, more)) < 60
    if weights:
        heavier = replace(graph, weights=graph.weights.copy())
        a, b = 0, graph.indices[0]
        back = graph.indptr[b] + np.searchsorted(graph.indices[graph.indptr[b] : graph.indptr[b + 1]], a)
        heavier.weights[[0, back]] += 1
        assert changed(graph, heavier) == within(graph, [a, b], 1)


def test_digests_depend_neither_on_names_nor_on_numbers():
    graph = random_graph(30, 60, weights=True)
    order = np.random.default_rng(1).permutation(30)
    rows = np.repeat(np.arange(30), np.diff(graph.indptr))
    once = rows < graph.indices
    place = np.argsort(order)
    moved = Graph.from_edges(
        [f"other {i}" for i in range(30)], place[rows[once]], place[graph.indices[once]], graph.weights[once]
    )
    moved = replace(moved, features=graph.features[order])
    old = Nodes.of(graph).digests
    assert Nodes.of(moved).digests == [old[row] for row in order]
    encoder = fit(graph)
    np.testing.assert_allclose(
        matrix_of(encoder, Nodes.of(moved)), matrix_of(encoder, Nodes.of(graph))[order], atol=1e-5
    )


def test_equal_surroundings_have_equal_digests_and_others_differ():
    """A path and a triangle hang together alike up to one hop, not two; sums do not mix up multisets."""
    ids = [str(i) for i in range(6)]
    ring = Graph.from_edges(ids, np.arange(6), (np.arange(6) + 1) % 6)
    two = Graph.from_edges(ids, np.array([0, 1, 2, 3, 4, 5]), np.array([1, 2, 0, 4, 5, 3]))
    same = replace(ring, features=np.ones((6, 1), np.float32))
    assert len(set(Nodes.of(same).digests)) == 1
    assert Nodes.of(replace(two, features=same.features)).digests == Nodes.of(same).digests  # no mean tells them apart
    path = Graph.from_edges(ids, np.arange(5), np.arange(1, 6))
    found = Nodes.of(replace(path, features=same.features)).digests
    assert found[0] == found[5] != found[1] == found[4] != found[2] == found[3] and found[0] != found[2]
    for form in (np.asarray, csr_array):
        known = form(np.array([[1, 0], [0, 1], [1, 1], [1, 0], [2, 0], [0, 0]], np.float32))
        alone = Graph(ids, np.zeros(7, np.int64), np.empty(0, np.int32), features=known)
        found = Nodes.of(alone).digests
        assert found[0] == found[3] and len(set(found)) == 5
    wider = replace(alone, features=csr_array(np.pad(known.toarray(), ((0, 0), (0, 1)))))
    assert not set(Nodes.of(wider).digests) & set(found)


def test_without_features_digests_and_inputs_are_degrees():
    large = random_graph(200, 220)
    graph = replace(large, features=None)
    nodes = Nodes.of(graph)
    encoder = fit(graph)
    assert encoder.mode["features"] == "degrees"
    matrix = matrix_of(encoder, nodes)
    assert np.isfinite(matrix).all()
    joined = Nodes.of(replace(grown(large, [3], [38]), features=None))
    differs = {name for name, a, b in zip(nodes.ids, nodes.digests, joined.digests, strict=True) if a != b}
    again = matrix_of(encoder, joined)
    assert {
        name for name, a, b in zip(nodes.ids, matrix, again, strict=True) if not np.allclose(a, b, atol=1e-6)
    } <= differs
    assert 2 < len(differs) < 100


# ---- vectors


def test_it_is_the_mean_aggregator_of_torch_geometric():
    graph = random_graph()
    encoder = fit(graph)
    geometric = import_geometric("graphsage")
    layers = [geometric.SAGEConv(7, 7, aggr="mean"), geometric.SAGEConv(7, 6, aggr="mean")]
    for number, layer in enumerate(layers, 1):
        start = f"{number}."
        own = {name.removeprefix(start): torch.from_numpy(it) for name, it in encoder.weights.items() if name.startswith(start)}  # fmt: skip
        layer.load_state_dict(own)
    rows = np.repeat(np.arange(40), np.diff(graph.indptr))
    edges = torch.from_numpy(np.stack([graph.indices, rows]).astype(np.int64))
    known = graph.features / graph.features.sum(axis=1, keepdims=True) @ encoder.weights["0.weight"].T
    with torch.no_grad():
        x = layers[1](layers[0](torch.from_numpy(known), edges).relu(), edges).numpy()
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(matrix_of(encoder, Nodes.of(graph)), expected, atol=1e-5)


def test_weights_are_shares_of_the_mean():
    ids, known = list("abc"), np.eye(3, dtype=np.float32)
    star = Graph.from_edges(ids, np.zeros(2, int), np.array([1, 2]), np.array([1.0, 3.0]))
    doubled = replace(star, weights=star.weights * 2, features=known)
    even = replace(star, weights=None, features=known)
    encoder = fit(replace(star, features=known))
    ours, same, other = (matrix_of(encoder, Nodes.of(it)) for it in (replace(star, features=known), doubled, even))
    np.testing.assert_allclose(ours, same, atol=1e-6)
    assert np.abs(ours[0] - other[0]).max() > 1e-4


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_neither_company_nor_threads_change_a_vector(form):
    """Over more than one piece of STEP rows."""
    graph = random_graph(2 * STEP + 100, 9000, weights=True, width=40)
    graph = replace(graph, features=form(np.where(graph.features > 0.8, graph.features, 0)))
    nodes, encoder = Nodes.of(graph), fit(graph)
    whole = matrix_of(encoder, nodes)
    rows = np.random.default_rng(0).permutation(len(nodes))[:70]
    for threads in (1, 3):
        recipe = encoder.recipe.model_copy(update={"threads": threads})
        some = GraphSage.restore(recipe, encoder.arrays(), {}, encoder.mode)
        np.testing.assert_allclose(matrix_of(some, nodes.select(rows)), whole[rows], atol=1e-6)
        assert np.array_equal(matrix_of(some, nodes), whole)
    one = nodes.select([7])
    np.testing.assert_allclose(matrix_of(encoder, one), whole[[7]], atol=1e-6)
    assert (one.ids, one.digests) == (["n7"], [nodes.digests[7]])
    assert sum(len(batch.vectors) for batch in encoder.encode(nodes.select([]))) == 0


def test_new_nodes_get_vectors_and_only_their_surroundings_change():
    graph = random_graph(80, 90, seed=2)
    encoder, more = fit(graph), grown(graph, [80, 10], [11, 81], new=2)
    before, after = matrix_of(encoder, Nodes.of(graph)), matrix_of(encoder, Nodes.of(more))
    assert len(after) == 82 and np.isfinite(after).all()
    near = within(more, [80, 81], 2)
    for i, name in enumerate(graph.ids):
        assert np.allclose(before[i], after[i], atol=1e-6) or name in near


def test_a_graph_that_is_directed_with_loops_is_taken_as_if_it_were_not():
    graph = random_graph()
    rows = np.repeat(np.arange(40), np.diff(graph.indptr))
    once = rows < graph.indices
    directed = Graph.from_edges(graph.ids, np.append(rows[once], 3), np.append(graph.indices[once], 3), directed=True)
    nodes = Nodes.of(replace(directed, features=graph.features))
    assert nodes.digests == Nodes.of(graph).digests
    assert np.array_equal(matrix_of(fit(nodes.graph), nodes), matrix_of(fit(graph), Nodes.of(graph)))


@pytest.mark.parametrize("n", [1, 4])
def test_graphs_without_edges(n):
    alone = Graph([str(i) for i in range(n)], np.zeros(n + 1, np.int64), np.empty(0, np.int32), features=features(n))
    encoder = fit(alone)
    batch = next(encoder.encode(Nodes.of(alone)))
    assert encoder.mode["loss"] == [] and set(batch.origin) == {"isolated"}
    np.testing.assert_allclose(np.linalg.norm(batch.vectors.matrix, axis=1), 1, atol=1e-5)


def test_what_cannot_be_is_refused():
    graph = random_graph()
    with pytest.raises(InputError, match="without a node"):
        fit(Graph([], np.zeros(1, np.int64), np.empty(0, np.int32)))
    encoder = fit(graph)
    with pytest.raises(InputError, match="nodes of 4 features; expected the 5"):
        next(encoder.encode(Nodes.of(replace(graph, features=graph.features[:, :4]))))
    bad = graph.features.copy()
    bad[3] = np.inf
    with pytest.raises(InputError, match="'n3' that is NaN"):
        fit(replace(graph, features=bad))
    with pytest.raises(InputError, match="Got a start of kind 'graphsage'"):
        fit(graph, start=encoder, dim=5)
    with pytest.raises(ValueError, match="fanout"):
        GraphSage(fanout=(0, 3))


# ---- training


def test_a_start_is_where_training_begins():
    graph = random_graph()
    before = fit(graph, steps=30, lr=0.01)
    further = fit(graph, start=before, steps=1, lr=1e-9, seed=5)
    for name, array in before.weights.items():
        np.testing.assert_allclose(further.weights[name], array, atol=1e-6)
    assert not np.allclose(fit(graph, steps=1, lr=1e-9, seed=5).weights["0.weight"], before.weights["0.weight"])
    assert fit(graph, start=before, steps=30).mode["steps"] == 4


def test_training_follows_its_seed_and_disturbs_nobody():
    graph, state, threads = random_graph(), torch.get_rng_state(), torch.get_num_threads()
    first = fit(graph)
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads
    torch.rand(3)
    assert all(np.array_equal(array, first.weights[name]) for name, array in fit(graph).weights.items())
    assert not np.array_equal(fit(graph, seed=1).weights["0.weight"], first.weights["0.weight"])


def test_a_step_reads_pairs_that_meet_and_noise_by_degree():
    graph = random_graph(60, 200)
    draw = PairDraw(graph, graph.features, "cpu", seed=0, walk=1, batch=500, negative=4000, fanout=(25, 10))
    pairs = draw(0)
    degree = np.diff(graph.indptr)
    joined = {(int(a), int(b)) for a, b in zip(np.repeat(np.arange(60), degree), graph.indices, strict=True)}
    count = pairs.part.blocks[1].shape[0]  # all nodes that are asked for, ascending
    nodes = np.flatnonzero(degree)[:count] if count == (degree > 0).sum() else None
    assert nodes is not None  # 500 draws of 60 nodes reach all that have neighbours
    assert {(int(nodes[a]), int(nodes[b])) for a, b in zip(pairs.source, pairs.target, strict=True)} <= joined
    share = np.bincount(nodes[pairs.noise], minlength=60) / 4000
    expected = degree**0.75 / (degree**0.75).sum()
    assert np.abs(share - expected).max() < 0.015
    assert np.isfinite(walk_loss(GraphSage(hidden=7).build(import_geometric("graphsage"), 5), pairs).item())


def test_training_lowers_the_loss():
    groups = np.arange(60) // 20
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 60, (2, 4000))
    near = (groups[source] == groups[target]) & (source != target)
    graph = Graph.from_edges([str(i) for i in range(60)], source[near][:300], target[near][:300])
    known = features(60) + 2 * np.eye(3, 5, dtype=np.float32)[groups]
    losses = fit(replace(graph, features=known), steps=80, lr=0.01, batch=32).mode["loss"]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 1


def test_a_walk_that_comes_back_teaches_nothing_wrong():
    pair = replace(Graph.from_edges(["a", "b"], np.zeros(1, int), np.ones(1, int)), features=features(2))
    encoder = fit(pair, steps=40, batch=1, walk=2)
    assert np.isfinite(encoder.mode["loss"]).all() and np.isfinite(encoder.weights["0.weight"]).all()


@pytest.mark.slow
def test_cora_classes_of_nodes_it_has_not_seen(shared_data):
    """Trained without a tenth of the nodes, which are encoded afterwards; features alone score 57.6 %."""
    from sklearn.linear_model import LogisticRegression

    graph, labels, train, test = cora(shared_data)
    unseen = test[::10]
    keep = np.ones(len(graph), bool)
    keep[unseen] = False
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    edges = keep[rows] & keep[graph.indices] & (rows < graph.indices)
    seen = replace(Graph.from_edges(graph.ids, rows[edges], graph.indices[edges]), features=graph.features)
    encoder = GraphSage(threads=1, steps=300).fit(Nodes.of(seen))
    matrix = 5 * matrix_of(encoder, Nodes.of(graph))
    model = LogisticRegression(max_iter=1000).fit(matrix[train], labels[train])
    assert model.score(matrix[test], labels[test]) > 0.68
    assert model.score(matrix[unseen], labels[unseen]) > 0.6


# ---- in the pipeline


def write(folder, graph):
    """The pipeline file, edges and node table of a graph."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    lines = [f"{graph.ids[a]},{graph.ids[b]}\n" for a, b in zip(rows, graph.indices, strict=True) if a < b]
    (folder / "edges.csv").write_text("".join(lines))
    names = [f"f{i}" for i in range(graph.features.shape[1])]
    table = "".join(f"{name},{','.join(map(str, row))}\n" for name, row in zip(graph.ids, graph.features, strict=True))
    (folder / "nodes.csv").write_text(f"id,{','.join(names)}\n{table}")
    file = folder / "polyvec.yaml"
    file.write_text(
        "store: ./vectors\n"
        f"datasets:\n  links: {{kind: graph, edges: edges.csv, nodes: {{path: nodes.csv, features: [{', '.join(names)}]}}}}\n"
        "spaces:\n  s: {dataset: links, embedder: graphsage, params: {dim: 6, hidden: 7, steps: 4, batch: 16, threads: 1}}\n"
    )
    return file


def test_a_run_embeds_new_nodes_and_those_whose_surroundings_changed(tmp_path):
    graph = random_graph(80, 90, seed=2)
    file = write(tmp_path, graph)
    run_steps(file)
    space = Pipeline.load(file).vectors.space("s")
    first = space.version("latest")
    assert (first.manifest.counts.input, first.manifest.counts.embedded) == (80, 80)
    origins = dict(first.table(["id", "origin"]).to_pandas().itertuples(index=False))
    assert [name for name, origin in origins.items() if origin == "isolated"] == [
        name for name, degree in zip(graph.ids, np.diff(graph.indptr), strict=True) if not degree
    ]
    more = grown(graph, [80, 10], [11, 81], new=2)
    fresh = within(more, [80, 81], 2)
    write(tmp_path, more)
    run_steps(file)
    second = space.version("latest")
    assert second.number == 2
    counts = second.manifest.counts
    assert (counts.input, counts.embedded, counts.reused) == (82, len(fresh), 82 - len(fresh))
    assert list(verify(second)) == []
    encoder = second.encoder()
    assert all(np.array_equal(a, first.encoder().arrays()[name]) for name, a in encoder.arrays().items())
    expected = dict(zip(more.ids, matrix_of(encoder, Nodes.of(more)), strict=True))
    assert set(second.ids) == set(more.ids)
    for name, row in zip(second.ids, second.matrix, strict=True):
        np.testing.assert_allclose(row, expected[name], atol=1e-5)
    sample = resample(second, Pipeline.load(file).dataset("s").read(Pipeline.load(file).dataset("s").scan(tmp_path, _cache(tmp_path)), Nodes, cache=tmp_path), 20)  # fmt: skip
    assert (sample.rows, sample.lost) == (20, ()) and sample.worst < 1e-5


def _cache(folder):
    from storage.digests import DigestCache

    return DigestCache(folder / "vectors" / "_cache")
