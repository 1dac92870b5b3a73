"""One-hot words: exact while they fit, hashed beyond."""

import numpy as np
import pytest

from embedders.data import Corpus
from embedders.errors import InputError
from embedders.testing import answer
from embedders.text import one_hot
from embedders.text.bags import presence
from embedders.text.one_hot import OneHot
from tests.helpers_documents import documents_of, word_vectors


def corpus(n, count=5):
    words = [f"w{i:04}" for i in range(n)]
    counts = np.full(n, count)
    return Corpus(words, counts, np.repeat(np.arange(n, dtype=np.int32), count), np.array([0, n * count]))


def test_few_words_have_a_coordinate_each():
    encoder = OneHot(dim=30).fit(corpus(20))
    found = answer(encoder, corpus(20))
    assert encoder.dim == 20 and found.ids == corpus(20).words
    assert np.array_equal(found.matrix, np.eye(20))


def test_many_words_share_coordinates_with_signs(monkeypatch):
    data = corpus(2000)
    encoder = OneHot(dim=64).fit(data)
    matrix = answer(encoder, data).matrix
    assert (
        matrix.shape == (2000, 64) and ((matrix != 0).sum(axis=1) == 1).all() and set(np.abs(matrix).max(axis=1)) == {1}
    )
    each = np.abs(matrix).sum(axis=0)
    assert 10 < each.min() and each.max() < 70  # 31 on average
    assert abs(matrix.sum()) < 200  # a deviation of 45
    monkeypatch.setattr(one_hot, "NUMBERS_AT_ONCE", 640)
    found = answer(encoder, data)
    assert max(found.sizes) == 10 and np.array_equal(found.matrix, matrix)


def test_rare_words_are_left_out():
    data = Corpus(["a", "b", "c"], np.array([6, 5, 4]), np.zeros(0, np.int32), np.array([0]))
    encoder = OneHot().fit(data)
    assert encoder.words == ["a", "b"] and encoder.excluded(data) == {"below_min_count": 1}
    with pytest.raises(InputError, match="none of which occurs min_count=9 times"):
        OneHot(min_count=9).fit(data)
    with pytest.raises(InputError, match="Leave start out"):
        OneHot().fit(data, start=word_vectors(["a"]))


def test_presence_of_words_in_documents():
    data = documents_of("a a b", "", "b c a", "d")
    assert data.words == ["a", "b", "c", "d"]
    assert presence(data, 1).toarray().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert presence(data.select([2, 0]), 2).toarray().tolist() == [[1, 1], [1, 1]]
    assert presence(data.select([]), 2).shape == (0, 2)
    assert presence(data, 9).toarray().tolist() == presence(data, 1).toarray().tolist()  # no word comes that often
