"""Questions to a version read part by part, and answer as if it were held whole."""

import json

import numpy as np
import pytest

from embedders.base import Batch, Vectors
from embedders.graph.node2vec import Node2Vec
from evaluation.neighbours import best, nearest, similarities
from storage.errors import DamagedError
from storage.lookup import Lookup
from storage.store import VectorStore
from tests.helpers_store import Given, encoder_of, given, matrix_of, put


@pytest.fixture
def version(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.layout.ROWS_PER_FILE", 7)
    ids = [f"node {i}" for i in range(30)]
    found = put(VectorStore(tmp_path), encoder_of(ids, matrix_of(30, dim=4)))
    assert len(found.files) == 5
    return found


def reads(monkeypatch):
    """The parts whose ids are read from now on."""
    from storage import lookup

    seen, read = [], lookup.read_table
    monkeypatch.setattr(lookup, "read_table", lambda paths, *more: (seen.append(paths[0].name), read(paths, *more))[1])
    return seen


def test_rows_and_ids_are_found_across_parts(version, monkeypatch):
    seen = reads(monkeypatch)
    lookup = Lookup(version)
    assert lookup.rows(["node 3", "node 8"]) == {"node 3": 3, "node 8": 8}
    assert seen == ["part-00000.parquet", "part-00001.parquet"]  # and no more
    assert lookup.rows(["node 29", "nobody", "node 0"]) == {"node 29": 29, "node 0": 0}
    assert lookup.ids([29, 0, 14]) == ["node 29", "node 0", "node 14"]
    assert len(seen) == 5  # each once
    assert lookup.first_ids(9) == [f"node {i}" for i in range(9)]
    assert lookup.first_ids(99) == [f"node {i}" for i in range(30)]
    assert np.array_equal(lookup.vectors([29, 0, 14, 0]), version.matrix[[29, 0, 14, 0]])


def test_a_scan_sees_every_row_once_in_order(version):
    parts = Lookup(version).scan(np.copy)
    assert [len(part) for part in parts] == [7, 7, 7, 7, 2]
    assert np.array_equal(np.concatenate(parts), version.matrix)


def test_a_damaged_part_is_told_and_no_question_answered(version):
    part = version.parts[3]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    lookup = Lookup(version)
    with pytest.raises(DamagedError, match="part-00003"):
        lookup.scan(len)
    assert lookup.rows(["node 1"]) == {"node 1": 1}


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
def test_the_nearest_are_those_of_an_exhaustive_search(version, similarity):
    lookup = Lookup(version)
    query = lookup.vectors([11])
    scores = np.concatenate(lookup.scan(lambda part: similarities(part, query, similarity)), axis=1)[0]
    [rows], [values] = nearest(version.matrix, query, similarity, 6, exclude=np.array([11]))
    found = best(scores, 6, exclude=[11])
    assert [row for row, _ in found] == rows.tolist()
    np.testing.assert_allclose([abs(score) if similarity == "l2" else score for _, score in found], values, atol=1e-5)


def test_the_command_line_answers_across_parts(version, cli, tmp_path):
    (tmp_path / "polyvec.yaml").write_text("store: .\n", encoding="utf-8")
    found = json.loads(cli("search", "s", "node 25", "-k", "3", "--json").out)
    [rows], _ = nearest(version.matrix, version.matrix[[25]], "cosine", 3, exclude=np.array([25]))
    assert [one["id"] for one in found] == version.ids[rows].tolist()
    assert len(json.loads(cli("search", "s", "node 25", "-k", "99", "--json").out)) == 29
    asked = ["NODE 1", "-", "node 2", "+", "node 29"]
    add, mul = (json.loads(cli("analogy", "s", *asked, "--json", "--method", how).out) for how in ("add", "mul"))
    unit = version.matrix / np.linalg.norm(version.matrix, axis=1, keepdims=True)
    cosines = unit[[1, 2, 29]] @ unit.T
    order = [i for i in np.argsort(-(cosines[0] - cosines[1] + cosines[2])) if i not in (1, 2, 29)]
    assert [one["id"] for one in add] == [f"node {i}" for i in order[:5]]
    moved = (1 + cosines) / 2
    order = [i for i in np.argsort(-(moved[0] * moved[2] / (moved[1] + 0.001))) if i not in (1, 2, 29)]
    assert [one["id"] for one in mul] == [f"node {i}" for i in order[:5]]
    assert "3CosMul" in cli("analogy", "s", *asked, "--method", "mul").out
    refused = cli("analogy", "s", *asked, "--method", "sum")
    assert refused.code == 2 and "method='sum'; expected one of add, mul" in refused.err


def test_distances_are_shown_and_the_smallest_comes_first(tmp_path, cli):
    class Far(Given):
        similarity = "l2"

    matrix = np.array([[0, 0], [3, 4], [1, 0], [0, 7]], np.float32)
    batch = Batch(Vectors("node", ["here", "five", "one", "seven"], matrix))
    put(VectorStore(tmp_path), Far(Node2Vec(dim=2), [batch], 2, mode={"threads": 1}))
    (tmp_path / "polyvec.yaml").write_text("store: .\n", encoding="utf-8")
    found = cli("search", "s", "here").table
    assert [(one["id"], one["l2"]) for one in found] == [("one", "1.0000"), ("five", "5.0000"), ("seven", "7.0000")]


def test_cosines_of_tiny_huge_and_zero_vectors():
    matrix = np.array([[1, 0], [1e-30, 1e-30], [1e30, -1e30], [0, 0], [3e-23, 4e-23]], np.float32)
    [scores] = similarities(matrix, matrix[:1], "cosine")
    np.testing.assert_allclose(scores, [1, 0.5**0.5, 0.5**0.5, 0, 0.6], atol=1e-6)


def test_a_space_of_one_row_has_no_nearest(tmp_path, cli):
    put(VectorStore(tmp_path), given(Batch(Vectors("node", ["only"], matrix_of(1)))))
    (tmp_path / "polyvec.yaml").write_text("store: .\n", encoding="utf-8")
    assert json.loads(cli("search", "s", "only", "--json").out) == []
