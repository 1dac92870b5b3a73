"""How large a graph will be, and what a space of it will take, said before the work."""

import gzip

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


def test_other_formats_are_counted(tmp_path):
    graph = nx.gnm_random_graph(30, 50, seed=0)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    nx.write_gexf(graph, tmp_path / "g.gexf")
    matrix = sp.csr_array(nx.to_scipy_sparse_array(graph))
    sp.save_npz(tmp_path / "g.npz", matrix)
    scipy.io.mmwrite(tmp_path / "g.mtx", matrix)
    pq.write_table(pa.table({"a": range(5), "b": [9] * 5}), tmp_path / "g.parquet")
    assert counts(size(tmp_path, "g.graphml")) == counts(size(tmp_path, "g.gexf")) == (30, 50, True)
    assert counts(size(tmp_path, "g.npz")) == (30, 100, True)
    assert size(tmp_path, "g.mtx").nodes == 30
    assert counts(size(tmp_path, "g.parquet")) == (6, 5, True)
    scipy.io.savemat(tmp_path / "g.mat", {"a": matrix})
    (tmp_path / "bad.parquet").write_bytes(b"none")
    assert size(tmp_path, "g.mat") is None and size(tmp_path, "bad.parquet") is None


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
