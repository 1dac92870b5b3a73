"""The benchmarks of graphs: what they read and make, and that the small run works with and without peers."""

import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(REPO)


def test_their_examples_hold():
    from benchmarks import graph, graph_data

    for module in (graph, graph_data):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_a_power_law_graph():
    from benchmarks.graph_data import power_law

    made = power_law(20_000, 100_000, seed=1)
    rows = np.repeat(np.arange(20_000), np.diff(made.indptr))
    assert len(made.indices) == 200_000 and (rows != made.indices).all()  # distinct edges, no loops
    degrees = np.sort(np.diff(made.indptr))[::-1]
    ranks = np.arange(20, 2000)
    slope = np.polyfit(np.log(ranks), np.log(degrees[ranks]), 1)[0]
    assert slope == pytest.approx(-1 / 1.5, abs=0.06)  # the rank-degree line of the exponent 2.5
    assert abs(np.corrcoef(np.arange(20_000), np.diff(made.indptr))[0, 1]) < 0.05  # hubs are spread over the ids
    again, other = power_law(20_000, 100_000, seed=1), power_law(20_000, 100_000, seed=2)
    assert np.array_equal(again.indices, made.indices) and not np.array_equal(other.indices, made.indices)
    with pytest.raises(ValueError, match="half of all pairs"):
        power_law(10, 40)


def test_a_dense_power_law_graph_has_its_edges():
    from benchmarks.graph_data import power_law

    assert len(power_law(60, 800).indices) == 1600  # repeats are drawn again and again


def test_the_real_graphs(shared_data):
    shared_data("graph_cora"), shared_data("graph_blogcatalog"), shared_data("graph_dblp_hetero")
    from benchmarks.graph_data import blogcatalog, cora, dblp

    papers = cora()
    assert (len(papers.graph), len(papers.graph.indices) // 2, papers.graph.features.shape) == (
        2708,
        5278,
        (2708, 1433),
    )
    parts = list(papers.split.values())
    assert [parts.count(part) for part in ("train", "val", "test")] == [140, 500, 1000]
    assert len({label for labels in papers.labels.values() for label in labels}) == 7
    bloggers = blogcatalog()
    assert (len(bloggers.graph), len(bloggers.graph.indices) // 2) == (10_312, 333_983)
    assert sum(map(len, bloggers.labels.values())) == 14_476 and len(bloggers.labels) == 10_312
    authors = dblp()
    assert len(authors.labels) == 4057 and set(authors.labels) < set(authors.graph.ids)
    counts = np.bincount(authors.graph.types)
    assert dict(zip(authors.graph.type_names, counts.tolist(), strict=True)) == {
        "author": 14_475, "paper": 14_376, "venue": 20, "term": 8_920,
    }  # fmt: skip


@pytest.mark.slow
def test_a_small_run(shared_data, tmp_path):
    shared_data("graph_cora"), shared_data("graph_blogcatalog")
    command = [sys.executable, "-m", "benchmarks.graph", "--small", "--only", "cora", "prone", "scale"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path), "--peers", str(tmp_path / "none")],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "graph-cora-prone-scale.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["ours"] > 0 for row in rows)
    assert any(row["what"].startswith("Cora, Planetoid split: deepwalk") and row["ours"] > 0.5 for row in rows)
    assert {row["unit"] for row in rows if row["what"].startswith("node2vec")} == {"s", "x"}
    assert all(row["peer"] is None for row in rows if row["against"] == "nodevectors")
