"""The best items of each user."""

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from embedders.errors import InputError
from evaluation import recommending as module
from evaluation.recommending import best_items


def collected(*given, **more):
    found = list(best_items(*given, **more))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def brute(users, items, similarity):
    users, items = users.astype(float), items.astype(float)
    if similarity == "l2":
        return -np.linalg.norm(users[:, None] - items[None], axis=2)
    if similarity == "cosine":
        users, items = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (users, items))
    return users @ items.T


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
@pytest.mark.parametrize("sizes", [(256, 4096, 16_384), (7, 50, 30)])
def test_agrees_with_brute_force(similarity, sizes, monkeypatch):
    for name, size in zip(("USERS", "ITEMS", "AT_ONCE"), sizes, strict=True):
        monkeypatch.setattr(module, name, size)
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, 6)).astype(np.float32) for n in (70, 333))
    seen = csr_array(random_array((70, 333), density=0.2, rng=rng))
    seen.sort_indices()
    columns, values = collected(users, items, 9, seen=seen, similarity=similarity, threads=2)
    expected = brute(users, items, similarity)
    expected[seen.nonzero()] = -np.inf
    np.testing.assert_array_equal(columns, np.argsort(-expected, axis=1)[:, :9])
    np.testing.assert_allclose(values, -np.sort(-expected, axis=1)[:, :9], rtol=1e-4, atol=1e-5)
    assert columns.dtype == np.int32 and values.dtype == np.float32
    one = collected(users, items, 9, seen=seen, similarity=similarity, threads=1)
    assert columns.tobytes() == one[0].tobytes() and values.tobytes() == one[1].tobytes()


@pytest.mark.parametrize("width", [3, 50])
def test_equal_scores_come_in_the_order_of_the_items(width, monkeypatch):
    monkeypatch.setattr(module, "ITEMS", width)
    items = np.array([[1], [2], [1], [2], [2], [0]] * 9, np.float32)
    columns, _ = collected(np.ones((2, 1), np.float32), items, 30)
    assert columns.tolist() == [np.argsort(-items[:, 0], kind="stable")[:30].tolist()] * 2


def test_a_user_with_nothing_left_has_a_shorter_list():
    seen = csr_array(np.array([[0, 1, 1], [1, 1, 1], [0, 0, 0]]))
    columns, values = collected(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32), 4, seen=seen)
    assert columns.tolist() == [[0, -1, -1, -1], [-1] * 4, [0, 1, 2, -1]]
    assert (np.isneginf(values) == (columns < 0)).all()


def test_no_users_and_no_items():
    nothing = np.empty((0, 2), np.float32)
    assert list(best_items(nothing, np.ones((3, 2), np.float32), 2)) == []
    assert collected(np.ones((2, 2), np.float32), nothing, 2)[0].tolist() == [[-1, -1]] * 2


def test_wrong_questions():
    one, two = np.ones((1, 1), np.float32), np.ones((1, 2), np.float32)
    with pytest.raises(InputError, match="users of 1 numbers and items of 2"):
        collected(one, two, 1)
    with pytest.raises(InputError, match="k=0"):
        collected(one, one, 0)
    with pytest.raises(InputError, match="overflow float32"):
        collected(two * np.float32(1e20), two * np.float32(-1e20), 1)
