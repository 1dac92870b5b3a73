import numpy as np
import pytest

from embedders.errors import InputError
from evaluation import neighbours as module
from evaluation.neighbours import nearest, unit_rows
from evaluation.projection import project


def brute(matrix, queries, similarity):
    matrix, queries = matrix.astype(np.float64), queries.astype(np.float64)
    if similarity == "l2":
        return -np.linalg.norm(queries[:, None] - matrix[None], axis=2)
    if similarity == "cosine":
        matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return queries @ matrix.T


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("at_once", [(10**9, 10**9), (700, 37)])
def test_agrees_with_brute_force(similarity, offset, at_once, monkeypatch):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once[0])
    monkeypatch.setattr(module, "ROWS_AT_ONCE", at_once[1])
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(200, 8)) + offset).astype(np.float32)
    queries = (rng.normal(size=(33, 8)) + offset).astype(np.float32)
    expected = brute(matrix, queries, similarity)
    rows, scores = nearest(matrix, queries, similarity, 7)
    assert rows.dtype == np.int64 and scores.dtype == np.float32 and rows.shape == scores.shape == (33, 7)
    best = -np.sort(-expected, axis=1)[:, :7]
    sign = -1 if similarity == "l2" else 1
    np.testing.assert_allclose(sign * scores, best, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(expected, rows, axis=1), best, rtol=1e-6, atol=1e-6)
    if similarity == "l2" or offset == 0:
        np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1, kind="stable")[:, :7])


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
def test_equal_scores_come_in_row_order(similarity):
    matrix = np.array([[0, 1], [2, 0], [0, 1], [2, 0], [2, 0], [2, 0]], np.float32)
    rows, _ = nearest(matrix, matrix[1:2], similarity, 3)
    assert rows.tolist() == [[1, 3, 4]]


def test_excluded_rows_are_not_found():
    matrix = np.eye(4, dtype=np.float32)
    rows, _ = nearest(matrix, matrix, "dot", 1, exclude=np.arange(4))
    assert rows[:, 0].tolist() == [1, 0, 0, 0]
    rows, _ = nearest(matrix, matrix[:2], "l2", 9, exclude=np.array([[0, 1], [-1, 3]]))
    assert rows.tolist() == [[2, 3], [1, 0]]


def test_l2_far_from_the_origin_is_exact():
    matrix = np.array([[5000.0], [5000.5], [5002.0], [-9000.0]], np.float32)
    rows, distances = nearest(matrix, np.array([[5000.4]], np.float32), "l2", 3)
    assert rows.tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(distances, [[0.1, 0.4, 1.6]], atol=1e-3)


def test_l2_of_tight_groups_far_apart_is_exact():
    rng = np.random.default_rng(0)
    matrix = (np.repeat([[1000.0], [-1000.0]], 300, axis=0) + rng.normal(size=(600, 4)) * 0.01).astype(np.float32)
    rows, _ = nearest(matrix, matrix[:20], "l2", 5)
    np.testing.assert_array_equal(rows, np.argsort(-brute(matrix, matrix[:20], "l2"), axis=1, kind="stable")[:, :5])


def test_l2_beside_an_outlier_that_overflows():
    matrix = np.array([[1, 0], [2, 0], [4, 0], [3e30, 0]], np.float32)
    with pytest.raises(InputError, match="overflows"):
        nearest(matrix, matrix[:1], "l2", 2)


def test_the_distance_to_itself_is_zero_and_the_cosine_at_most_one():
    matrix = np.random.default_rng(0).normal(size=(300, 17)).astype(np.float32)
    rows, distances = nearest(matrix, matrix, "l2", 1)
    assert rows[:, 0].tolist() == list(range(300)) and not distances.any()
    assert nearest(matrix, matrix, "cosine", 1)[1].max() <= 1


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_cosine_does_not_depend_on_length(scale):
    matrix = np.array([[1, 0], [1, 1], [0, 1]], np.float32) * np.float32(scale)
    rows, scores = nearest(matrix, matrix[:1], "cosine", 3)
    assert rows.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(scores, [[1, 0.5**0.5, 0]], atol=1e-6)


def test_a_zero_vector_has_cosine_zero():
    matrix = np.array([[-1, 0], [0, 0], [1, 0]], np.float32)
    rows, scores = nearest(matrix, matrix[2:], "cosine", 3)
    assert (rows.tolist(), scores.tolist()) == ([[2, 1, 0]], [[1.0, 0.0, -1.0]])
    assert unit_rows(matrix)[1].tolist() == [0, 0]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
@pytest.mark.parametrize(("n", "q"), [(0, 0), (0, 2), (3, 0), (1, 1)])
def test_few_or_no_rows(similarity, n, q):
    rows, scores = nearest(np.ones((n, 2), np.float32), np.ones((q, 2), np.float32), similarity, 5)
    assert rows.shape == scores.shape == (q, min(n, 5))


@pytest.mark.parametrize(
    ("queries", "similarity", "k", "message"),
    [
        (np.ones((1, 3)), "dot", 1, r"\(4, 2\).*\(1, 3\)"),
        (np.ones(2), "dot", 1, "expected"),
        (np.ones((1, 2)), "dot", 0, "k=0"),
        (np.ones((1, 2)), "manhattan", 1, "cosine, dot, l2"),
        (np.full((1, 2), 3e38), "dot", 1, "overflows"),
    ],
)
def test_bad_questions_are_refused(queries, similarity, k, message):
    with pytest.raises(InputError, match=message):
        nearest(np.full((4, 2), 10, np.float32), queries, similarity, k)


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((0, 3)),
        np.zeros((5, 0)),
        np.ones((1, 3)),
        np.ones((40, 3)),
        np.arange(40.0)[:, None],
        np.arange(29.0 * 4).reshape(29, 4) ** 2,
        np.full((40, 2), 1e38) * np.linspace(-3, 3, 40)[:, None],
    ],
    ids=["empty", "no width", "one row", "constant", "one dimension", "29 rows", "a line of huge numbers"],
)
def test_projection_of_ugly_matrices(matrix):
    rows, places = project(matrix.astype(np.float32))
    assert rows.tolist() == list(range(len(matrix)))
    assert places.shape == (len(matrix), 2) and places.dtype == np.float32 and np.isfinite(places).all()


def test_projection_without_tsne_keeps_distances_in_the_plane():
    plane = np.random.default_rng(0).normal(size=(20, 2))
    _, places = project(plane @ np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0][:2])
    distance = [np.linalg.norm(p[:, None] - p[None], axis=2) for p in (plane, places)]
    ratio = distance[1][0, 1:] / distance[0][0, 1:]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_projection_is_deterministic_and_keeps_clusters_apart():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 60)
    matrix = (rng.normal(size=(180, 70)) * 0.1 + 5 * np.eye(70)[codes]).astype(np.float32)
    rows, places = project(matrix, seed=3, limit=90)
    again = project(matrix, seed=3, limit=90)
    np.testing.assert_array_equal(rows, again[0])
    np.testing.assert_array_equal(places, again[1])
    assert len(rows) == 90 and (np.diff(rows) > 0).all()
    near, _ = nearest(places, places, "l2", 1, exclude=np.arange(90))
    assert (codes[rows][near[:, 0]] == codes[rows]).all()
    assert (project(matrix, seed=4, limit=90)[0] != rows).any()


@pytest.mark.parametrize(
    ("matrix", "limit", "message"),
    [(np.ones(3), 10, "shape"), (np.ones((3, 2)), 0, "limit=0"), (np.array([[np.inf, 1.0]]), 10, "infinity")],
)
def test_projection_refuses(matrix, limit, message):
    with pytest.raises(InputError, match=message):
        project(matrix, limit=limit)
