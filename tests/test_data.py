"""The data types, and a graph's compressed rows against a dictionary."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedders.data import Corpus, Graph, Images
from embedders.errors import InputError, MissingPackageError, PolyvecError


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 9)), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_from_edges_is_the_sum_of_the_edges(edges, directed, weighted):
    expected = {}
    for a, b, weight in edges:
        for edge in {(a, b)} if directed else {(a, b), (b, a)}:
            expected[edge] = expected.get(edge, 0) + weight
    source, target, weight = np.array(edges, np.int64).reshape(-1, 3).T
    graph = Graph.from_edges(list("abcdefgh"), source, target, weight if weighted else None, directed=directed)
    assert (graph.indptr.dtype, graph.indices.dtype) == (np.int64, np.int32)
    assert len(graph) == 8 and graph.directed == directed
    rows = np.repeat(np.arange(8), np.diff(graph.indptr))
    stored = list(zip(rows.tolist(), graph.indices.tolist(), strict=True))
    assert stored == sorted(expected)  # by row, sorted within it, no duplicates
    if weighted:
        assert graph.weights.dtype == np.float32
        assert graph.weights.tolist() == [expected[edge] for edge in stored]
    else:
        assert graph.weights is None


def test_from_edges_leaves_its_arguments_alone():
    source, target, weight = np.array([1, 0, 0]), np.array([0, 1, 2]), np.array([1.0, 2, 3])
    Graph.from_edges(["a", "b", "c"], source, target, weight)
    assert (source.tolist(), target.tolist(), weight.tolist()) == ([1, 0, 0], [0, 1, 2], [1, 2, 3])


@pytest.mark.parametrize(("source", "target"), [([0], [3]), ([-1], [0])])
def test_from_edges_with_a_row_that_is_none(source, target):
    with pytest.raises(ValueError, match="index"):
        Graph.from_edges(["a", "b", "c"], np.array(source), np.array(target))


def test_images_need_one_of_each():
    with pytest.raises(InputError, match="Got 2 ids, 1 files, 1 digests"):
        Images(["a", "b"], [Path("a")], ["0"])


def test_datasets_pickle_and_are_frozen():
    corpus = Corpus(["a"], np.array([2]), np.array([0, 0], np.int32), np.array([0, 2]))
    graph = Graph.from_edges(["a", "b"], np.array([0]), np.array([1]))
    images = Images(["a"], [Path("a.png")], ["0"])
    for data in (corpus, graph, images):
        again = pickle.loads(pickle.dumps(data))
        assert type(again) is type(data) and len(again) == len(data) and list(again.ids) == list(data.ids)
        with pytest.raises(AttributeError):
            data.ids = []


def test_a_missing_package_names_its_extra():
    error = MissingPackageError("torch", "image", "The embedder 'cnn'")
    assert "pip install 'polyvec[image]'" in str(error) and "The embedder 'cnn' needs" in str(error)
    assert isinstance(error, PolyvecError) and error.exit_code == 2
