"""How large a graph will be, and what a space of it will take, said before the work."""

import gzip
import json

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse as sp

from embedders.graph.node2vec import Node2Vec
from flows.estimates import costs
from flows.pipeline import Pipeline
from flows.plan import make_plan
from storage.digests import DigestCache
from storage.inputs import graph_size
from storage.inputs.specs import GraphSpec


def size(base, edges, **options):
    spec = GraphSpec.model_validate({"kind": "graph", "edges": edges, **options})
    return spec.size(spec.scan(base, DigestCache(base / "_cache")))


def counts(found):
    return found.nodes, found.edges, found.exact


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.tsv", "a\tb\nb\tc\nc\tc"),
        ("e.csv.gz", "a,b\nb,c\nc,c\n"),
        ("e.txt", "# one\n#two\na b\nb c\n# three\nc c\n"),
        ("e.txt", "  a   b \nb\tc\n\nc c"),
    ],
)
def test_a_small_list_is_counted(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    assert counts(size(tmp_path, name)) == (3, 3, True)


def test_files_of_types_are_counted(tmp_path):
    (tmp_path / "e.tsv").write_text("1\t1\n2\t1\n")
    files = [{"path": "e.tsv", "source": "a", "target": "b"}]
    assert counts(size(tmp_path, files)) == (3, 2, True)


GRAPH = nx.gnm_random_graph(30, 50, seed=0)


def write_graph(name, path):
    """A graph of 30 nodes and 50 edges; isolated ones among them, attributes that look like edges."""
    graph = GRAPH.copy()
    graph.nodes[3]["label"] = 'node [ "id": "source": <edge > *edges'
    graph.nodes[4]["node"] = 5
    if name.startswith("g.json"):
        text = json.dumps(nx.node_link_data(graph, edges="edges" if "e" in name[6:] else "links"))
    elif name.startswith("g.net"):
        text = "\n".join(nx.generate_pajek(GRAPH))
    elif name.startswith("g.adjlist"):
        text = "# some nodes\n" + "\n".join(nx.generate_adjlist(GRAPH))
    elif name.startswith("g.gml"):
        text = "\n".join(nx.generate_gml(graph)).replace("edge [", "edge\n  [")
    elif name.startswith("g.graphml"):
        text = "\n".join(nx.generate_graphml(GRAPH))
    else:
        text = "\n".join(nx.generate_gexf(GRAPH))
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())


@pytest.mark.parametrize(
    "name", ["g.graphml", "g.gexf", "g.gml", "g.gml.gz", "g.json", "g.json.gz", "g.net", "g.net.gz", "g.adjlist"]
)
def test_graph_files_are_counted(tmp_path, name):
    write_graph(name, tmp_path / name)
    assert counts(size(tmp_path, name)) == (30, 50, True)


@pytest.mark.parametrize("first", ["nodes", "links"])
def test_node_link_edges_may_have_ids(tmp_path, first):
    held = {"nodes": [{"id": i} for i in range(4)], "links": [{"id": 9, "source": 0, "target": 1, "key": 0}] * 3}
    held = {name: held[name] for name in (first, *(held.keys() - {first}))}
    (tmp_path / "g.json").write_text(json.dumps({"directed": False, "graph": {}, **held}, indent=2))
    assert counts(size(tmp_path, "g.json")) == (4, 3, True)


def test_a_word_that_is_cut_in_two_is_counted_once(tmp_path, monkeypatch):
    from storage.inputs import graph_count

    write_graph("g.gml", tmp_path / "g.gml")
    monkeypatch.setattr(graph_count, "BLOCK", 67)
    assert counts(size(tmp_path, "g.gml")) == (30, 50, True)


def test_several_graph_files_have_at_most_so_many(tmp_path):
    for name in ("a.gml", "b.gml"):
        write_graph("g.gml", tmp_path / name)
    assert counts(size(tmp_path, "*.gml")) == (60, 100, False)


@pytest.mark.parametrize("directed", [True, False])
def test_matrices_are_counted(tmp_path, directed):
    """Each edge stands in an undirected one twice."""
    matrix = sp.csr_array(nx.to_scipy_sparse_array(GRAPH))
    edges = 100 if directed else 50
    sp.save_npz(tmp_path / "g.npz", matrix)
    scipy.io.mmwrite(tmp_path / "g.mtx", matrix, symmetry="general")
    assert counts(size(tmp_path, "g.npz", directed=directed)) == (30, edges, directed)
    assert counts(size(tmp_path, "g.mtx", directed=directed)) == (30, edges, directed)
    for packed in (True, False):
        scipy.io.savemat(
            tmp_path / "g.mat", {"n": 3, "a": matrix, "who": "x", "list": np.ones((2, 9))}, do_compression=packed
        )
        assert counts(size(tmp_path, "g.mat", directed=directed)) == (30, edges, False)
        dense = {"first": matrix.toarray(), "second": np.ones((7, 7), np.int8), "none": np.zeros((0, 0))}
        scipy.io.savemat(tmp_path / "d.mat", dense, do_compression=packed)
        assert counts(size(tmp_path, "d.mat", directed=directed, variable="first")) == (30, edges, False)
        assert counts(size(tmp_path, "d.mat", directed=directed, variable="second")) == (7, 49 // (2 - directed), False)
        assert size(tmp_path, "d.mat") is None  # two of them: reading will say so


def test_symmetric_matrix_market_holds_an_edge_once(tmp_path):
    scipy.io.mmwrite(tmp_path / "g.mtx", sp.coo_array(nx.to_scipy_sparse_array(GRAPH)), symmetry="symmetric")
    assert counts(size(tmp_path, "g.mtx")) == (30, 50, False)
    scipy.io.mmwrite(tmp_path / "g.mtx", nx.to_numpy_array(GRAPH))
    assert size(tmp_path, "g.mtx") is None  # what is dense is not counted


def test_parquet_is_counted(tmp_path):
    pq.write_table(pa.table({"a": range(5), "b": [9] * 5}), tmp_path / "g.parquet")
    assert counts(size(tmp_path, "g.parquet")) == (6, 5, True)


@pytest.mark.parametrize("name", ["g.parquet", "g.mat", "g.npz", "g.mtx", "g.net", "g.gml.gz"])
def test_what_is_no_graph_has_no_size(tmp_path, name):
    (tmp_path / name).write_bytes(b"*vertices none" * 30)
    assert size(tmp_path, name) is None


def test_a_node_table_tells_the_nodes(tmp_path):
    (tmp_path / "e.tsv").write_text("a\tb\n")
    for name, content in (("n.csv", "id\na\nb\nc"), ("n.jsonl", '{"id": "a"}\n{"id": "b"}\n{"id": "c"}\n')):
        (tmp_path / name).write_text(content)
        assert counts(size(tmp_path, "e.tsv", nodes={"path": name})) == (3, 1, True)
    pq.write_table(pa.table({"id": range(7)}), tmp_path / "n.parquet")
    assert counts(size(tmp_path, "e.tsv", nodes={"path": "n.parquet"})) == (7, 1, True)


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "parquet"])
def test_a_large_list_is_estimated(tmp_path, monkeypatch, suffix):
    """Within a fifth, from a sixth of the file or less."""
    monkeypatch.setattr(graph_size, "SAMPLE", 1 << 18)
    pairs = np.random.default_rng(0).integers(30_000, size=(200_000, 2))
    if suffix == "parquet":
        pq.write_table(pa.table({"a": pairs[:, 0], "b": pairs[:, 1]}), tmp_path / "e.parquet", row_group_size=30_000)
        real = pq.ParquetFile.iter_batches
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, n, **more: real(self, 30_000, **more))
    else:
        text = "".join(f"{a}\t{b}\n" for a, b in pairs).encode()
        (tmp_path / f"e.{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    found = size(tmp_path, f"e.{suffix}")
    assert not found.exact
    assert found.nodes == pytest.approx(30_000, rel=0.2) and found.edges == pytest.approx(200_000, rel=0.2)


def pipeline(tmp_path, params):
    (tmp_path / "e.tsv").write_text("".join(f"{i}\t{i + 1}\n" for i in range(100)))
    (tmp_path / "text.txt").write_text("a b c\n")
    file = tmp_path / "polyvec.yaml"
    file.write_text(
        "datasets:\n  links: {kind: graph, edges: e.tsv}\n  text: {kind: corpus, path: text.txt}\n"
        f"spaces:\n  nodes: {{dataset: links, embedder: node2vec, params: {params}}}\n  words: {{dataset: text, embedder: word2vec}}\n"
    )
    return Pipeline.load(file)


def test_what_a_space_will_take(tmp_path):
    found = pipeline(tmp_path, "{dim: 64, threads: 2}")
    [cost] = costs(found, make_plan(found))
    assert str(cost) == "nodes: 101 nodes, 100 edges; needs about 0.3 GiB of memory" and not cost.notable
    found = pipeline(tmp_path, "{walks: 500000, threads: 2}")
    [cost] = costs(found, make_plan(found))
    assert cost.notable and "; takes about " in str(cost) and str(cost).endswith("on 2 cores")


def test_more_memory_than_there_is(tmp_path, monkeypatch):
    import psutil

    class Memory:
        available = 1 << 20

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    found = pipeline(tmp_path, "{dim: 64}")
    [cost] = costs(found, make_plan(found))
    assert cost.notable and "more memory than the 0.0 GiB that are free" in str(cost)


def test_estimates_grow_with_what_they_depend_on():
    base, wide, long, team = (
        Node2Vec(threads=1, **more).estimate(10_000, 50_000)
        for more in ({}, {"dim": 256}, {"walks": 20}, {"epochs": 10})
    )
    assert wide.bytes > base.bytes and wide.seconds > base.seconds
    assert long.seconds == 2 * base.seconds and team.seconds > base.seconds
    assert Node2Vec(threads=4).estimate(10_000, 50_000).seconds == pytest.approx(base.seconds / 4)
