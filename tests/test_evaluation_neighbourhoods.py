"""k-NN, retrieval and near duplicates, beside scikit-learn and exhaustive comparison."""

from __future__ import annotations

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from evaluation import near_duplicates as duplicates_module
from evaluation import neighbours as neighbours_module
from evaluation import retrieval as retrieval_module
from evaluation.knn import knn, macro_f1
from evaluation.near_duplicates import near_duplicates, same_content
from evaluation.neighbours import nearest
from evaluation.retrieval import retrieval


def clouds(n=300, dim=6, classes=5, seed=0, spread=1.5):
    """Vectors around the centres of their classes, and the labels."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    matrix = (rng.normal(size=(classes, dim))[codes] * 2 + rng.normal(size=(n, dim)) * spread).astype(np.float32)
    ids = [f"row {i}" for i in range(n)]
    return Vectors("image", ids, matrix), {name: f"class {c}" for name, c in zip(ids, codes, strict=True)}


def vectors_of(rows):
    matrix = np.array(rows, np.float32)
    return Vectors("image", [f"r{i}" for i in range(len(matrix))], matrix)


def labels_of(text):
    return {f"r{i}": label for i, label in enumerate(text)}


@pytest.fixture(params=[None, 700], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param:
        for module in (neighbours_module, retrieval_module, duplicates_module):
            monkeypatch.setattr(module, "SCORES_AT_ONCE", request.param)
        monkeypatch.setattr(neighbours_module, "ROWS_AT_ONCE", 37)
        monkeypatch.setattr(duplicates_module, "TILE", (7, 21))


# The nearest, by way of a bound


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("n", [63, 64, 5000, 5037])
def test_the_bound_loses_none_of_the_nearest(n, k):
    rng = np.random.default_rng(n + k)
    matrix = rng.integers(-3, 4, (n, 4)).astype(np.float32)  # many equal products
    queries, banned = matrix[:20], rng.integers(-1, n, (20, 5))
    rows, scores = nearest(matrix, queries, "dot", k, exclude=banned)
    expected = queries @ matrix.T
    for line, none in zip(expected, banned, strict=True):
        line[none[none >= 0]] = -np.inf
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, order, axis=1))


@pytest.mark.parametrize("place", [0, 4999, 5036])
def test_an_overflow_is_seen_wherever_it_stands(place):
    matrix = np.ones((5037, 2), np.float32)
    matrix[place] = 3e38
    with pytest.raises(InputError, match="overflows"):
        nearest(matrix, np.array([[3, -3]], np.float32), "dot", 2)


# k-NN


@pytest.mark.parametrize("k", [1, 5])
def test_knn_is_that_of_scikit_learn(blocks, k):
    from sklearn.metrics import f1_score
    from sklearn.neighbors import KNeighborsClassifier

    vectors, labels = clouds(n=100)
    truth = np.array([labels[name] for name in vectors.ids])
    guess = []
    for row in range(len(vectors)):
        rest = np.arange(len(vectors)) != row
        unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
        near = KNeighborsClassifier(k, metric="cosine").fit(unit[rest], truth[rest])
        order = near.kneighbors(unit[row : row + 1], return_distance=False)[0]
        votes = truth[rest][order]
        most = max(list(votes).count(vote) for vote in votes)
        guess.append(next(vote for vote in votes if list(votes).count(vote) == most))
    report = knn(vectors, labels, k=k)
    assert report.value("accuracy") == pytest.approx(np.mean(truth == guess))
    assert report.value("macro_f1") == pytest.approx(f1_score(truth, guess, average="macro"))
    assert report.value("majority") == max(np.unique(truth, return_counts=True)[1]) / 100
    assert report.headline.low < report.headline.value < report.headline.high
    assert report.value("accuracy") > 2 * report.value("majority")
    assert report.notes["n"] == 100 and report.notes["k"] == k


def test_among_equal_votes_the_nearest_decides():
    """Two votes each: the first of the neighbours says which class it is, not the number of the class."""
    line = vectors_of([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4]])
    near, _ = nearest(line.matrix, line.matrix[:1], "cosine", 4, exclude=np.arange(1))
    assert near.tolist() == [[1, 2, 3, 4]]
    for text in ("abaab", "abbaa", "bbaab", "baabb"):
        report = knn(line, labels_of(text), k=4)
        hits = 0
        for row in range(5):
            order = nearest(line.matrix, line.matrix[row : row + 1], "cosine", 4, exclude=np.array([row]))[0][0]
            votes = [text[i] for i in order]
            counts = {vote: votes.count(vote) for vote in votes}
            hits += text[row] == max(counts, key=lambda vote: (counts[vote], -votes.index(vote)))
        assert report.value("accuracy") == hits / 5


def test_similarity_decides_who_is_near():
    rows = vectors_of([[1, 0], [5, 0.5], [0.9, 0.5], [4, 4]])
    labels = labels_of("abab")
    assert knn(rows, labels, k=1).value("accuracy") != knn(rows, labels, k=1, similarity="dot").value("accuracy")


def test_a_row_alone_in_its_class_is_not_asked_but_found():
    rows = vectors_of([[1, 0], [1, 0.01], [0, 1], [0, 1.01], [1, 0.004]])
    report = knn(rows, labels_of("aabbc"), k=1)
    assert (report.notes["n"], report.notes["alone"], report.notes["classes"]) == (4, 1, 3)
    assert report.value("accuracy") == 0.5  # c is nearest to both of a
    found = retrieval(rows, labels_of("aabbc"))
    assert (found.notes["n"], found.notes["alone"], found.notes["ranked"]) == (4, 1, 4)
    assert found.value("map") == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)


@pytest.mark.parametrize("judge", [knn, retrieval])
def test_labels_that_say_nothing_are_refused(judge):
    rows = vectors_of(np.eye(3))
    with pytest.raises(InputError, match="each alone in its class"):
        judge(rows, labels_of("abc"))
    with pytest.raises(InputError, match="no id that has both"):
        judge(rows, {"x": "a"})


def test_k_is_at_most_what_is_there():
    report = knn(vectors_of(np.eye(3)), labels_of("aab"), k=9)
    assert (report.notes["k"], report.notes["k_asked"]) == (2, 9)
    with pytest.raises(InputError, match="k=0"):
        knn(vectors_of(np.eye(3)), labels_of("aab"), k=0)


def test_macro_f1_counts_only_classes_with_members():
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 2, 1])) == pytest.approx((2 / 3 + 1) / 2)


# Retrieval


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
def test_average_precision_is_that_of_scikit_learn(blocks, similarity):
    from sklearn.metrics import average_precision_score

    vectors, labels = clouds(n=150)
    truth = np.array([labels[name] for name in vectors.ids])
    x = vectors.matrix.astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = {
        "cosine": unit @ unit.T,
        "dot": x @ x.T,
        "l2": -np.linalg.norm(x[:, None] - x[None], axis=2),
    }[similarity]
    ap, rp = [], []
    for row in range(150):
        rest = np.arange(150) != row
        same = (truth == truth[row])[rest]
        ap.append(average_precision_score(same, scores[row][rest]))
        rp.append(same[np.argsort(-scores[row][rest])[: same.sum()]].mean())
    report = retrieval(vectors, labels, similarity=similarity)
    assert report.value("map") == pytest.approx(np.mean(ap), abs=1e-6)
    assert report.value("r_precision") == pytest.approx(np.mean(rp), abs=1e-6)
    assert report.headline.low < np.mean(ap) < report.headline.high
    assert report.notes["n"] == 150


def test_rows_of_equal_score_are_taken_together():
    from sklearn.metrics import average_precision_score

    matrix = np.repeat(np.array([[1, 0], [1, 1], [0, 1]], np.float32), 4, axis=0)
    labels = "aabbabbbabab"
    report = retrieval(Vectors("image", [f"r{i}" for i in range(12)], matrix), labels_of(labels), similarity="dot")
    scores = matrix @ matrix.T
    expected = []
    for row in range(12):
        rest = np.arange(12) != row
        same = np.array([label == labels[row] for label in labels])[rest]
        expected.append(average_precision_score(same, scores[row][rest]))
    assert report.value("map") == pytest.approx(np.mean(expected), abs=1e-12)


def test_equal_vectors_sorted_by_label_are_no_better_than_chance():
    """Where nothing is told apart, the order of the file may not help."""
    rows = Vectors("image", [f"r{i}" for i in range(40)], np.ones((40, 3), np.float32))
    report = retrieval(rows, labels_of("a" * 20 + "b" * 20))
    assert [report.value("map"), report.value("r_precision")] == pytest.approx([19 / 39] * 2)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 9), (40, 5, 5)])
def test_chance_is_the_mean_over_random_orders(sizes):
    from sklearn.metrics import average_precision_score

    text = "".join(label * n for label, n in zip("abc", sizes, strict=False))
    rng = np.random.default_rng(0)
    n = len(text)
    means = []
    for _ in range(400):
        row = int(rng.integers(n))
        rest = np.array([label == text[row] for label in text])[np.arange(n) != row]
        means.append(average_precision_score(rest, rng.permutation(n - 1)))
    chance = retrieval(Vectors("image", [f"r{i}" for i in range(n)], rng.normal(size=(n, 4)).astype(np.float32)), labels_of(text)).value("chance")  # fmt: skip
    assert chance == pytest.approx(np.mean(means), abs=4 * np.std(means) / 20)


def test_queries_are_drawn_by_the_seed():
    vectors, labels = clouds()
    first, again, other = (retrieval(vectors, labels, queries=50, seed=seed) for seed in (1, 1, 2))
    assert first.scores == again.scores and first.scores != other.scores
    assert first.notes["n"] == 50 and first.notes["ranked"] == 299
    whole = retrieval(vectors, labels)
    assert whole.scores == retrieval(vectors, labels, queries=300, seed=5).scores
    assert first.headline.high - first.headline.low > whole.headline.high - whole.headline.low
    assert abs(first.value("map") - whole.value("map")) < 0.1


def test_scores_that_overflow_are_refused():
    rows = vectors_of([[3e38, 0], [3e38, 1], [1, 1], [2, 2]])
    for judge in (knn, retrieval):
        with pytest.raises(InputError, match="overflows"):
            judge(rows, labels_of("aabb"), similarity="dot")


# Near duplicates


def brute(matrix, threshold):
    x = matrix.astype(np.float64)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    cosines = unit @ unit.T
    a, b = np.nonzero(np.triu(cosines >= threshold - 1e-12, 1))
    found = [(-round(float(cosines[i, j]), 6), int(i), int(j)) for i, j in zip(a, b, strict=True)]
    return [(i, j, -c) for c, i, j in sorted(found)]


@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.999])
def test_pairs_are_those_of_an_exhaustive_comparison(blocks, threshold):
    vectors, _ = clouds(n=120, dim=5)
    vectors.matrix[7] = vectors.matrix[3] * 2
    vectors.matrix[90] = vectors.matrix[3]
    vectors.matrix[20] = 0
    expected = brute(vectors.matrix, threshold)
    report, pairs = near_duplicates(vectors, [None] * 120, threshold=threshold)
    assert [(*row, c) for row, c in zip(pairs.rows.tolist(), pairs.cosine.tolist(), strict=True)] == expected
    assert report.value("pairs") == report.notes["pairs"] == report.notes["listed"] == len(expected) >= 3
    rows = {i for pair in expected for i in pair[:2]}
    assert report.value("share") == len(rows) / 120 and report.notes["rows"] == len(rows)
    assert not pairs.exact.any() and report.value("exact_share") == 0


def test_at_a_threshold_of_one_only_the_same_direction_counts(blocks):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 300)).astype(np.float32)
    turned = base + 1e-4 * rng.normal(size=base.shape).astype(np.float32)
    vectors = Vectors("image", [f"r{i}" for i in range(120)], np.concatenate([base, turned, base * 4]))
    report, pairs = near_duplicates(vectors, [None] * 120, threshold=1.0)
    assert pairs.rows.tolist() == [[i, i + 80] for i in range(40)]
    assert report.value("pairs") == 40 and set(pairs.cosine) == {1.0}


def test_a_threshold_in_the_midst_of_rounding_is_decided_in_float64():
    """Cosines a hair below and above a threshold, closer than float32 tells."""
    threshold = 0.95
    matrix = []
    for angle in (np.arccos(threshold) + 1e-6, np.arccos(threshold) - 1e-6):
        matrix += [[1, 0], [np.cos(angle), np.sin(angle)]]
    x = np.array(matrix, np.float32)
    apart = np.zeros((4, 4), np.float32)
    apart[:2, :2], apart[2:, 2:] = x[:2], x[2:]
    assert [pair[:2] for pair in brute(apart, threshold)] == [(2, 3)]
    assert near_duplicates(vectors_of(apart), [None] * 4, threshold=threshold)[1].rows.tolist() == [[2, 3]]


def test_all_pairs_count_and_the_most_alike_are_listed(blocks):
    vectors, _ = clouds(n=120, dim=3)
    every = near_duplicates(vectors, [None] * 120, threshold=0.5)[1]
    report, pairs = near_duplicates(vectors, [None] * 120, threshold=0.5, listed=10)
    assert report.value("pairs") == len(every) > 1000 and report.notes["listed"] == len(pairs) == 10
    np.testing.assert_array_equal(pairs.rows, every.rows[:10])


@pytest.mark.parametrize("listed", [0, 1, 7, 60, 500])
@pytest.mark.parametrize("steps", [2, 40], ids=["many alike", "few alike"])
def test_the_most_alike_are_listed_however_many_there_are(monkeypatch, listed, steps):
    """Pairs are thrown away as soon as enough better ones are known; of equal ones, those of later rows."""
    monkeypatch.setattr(duplicates_module, "SCORES_AT_ONCE", 80)
    monkeypatch.setattr(duplicates_module, "TILE", (8, 16))
    matrix = np.random.default_rng(0).integers(1, steps, (90, 3)).astype(np.float32)
    every = near_duplicates(vectors_of(matrix), [None] * 90, threshold=0.8)[1]
    assert len(every) > 1000
    report, pairs = near_duplicates(vectors_of(matrix), [None] * 90, threshold=0.8, listed=listed)
    assert report.value("pairs") == len(every)
    np.testing.assert_array_equal(pairs.rows, every.rows[:listed])
    np.testing.assert_array_equal(pairs.cosine, every.cosine[:listed])


def test_equal_content_is_counted_whatever_the_vectors_are():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 50)).astype(np.float32)
    matrix[4] = matrix[0]
    matrix[5] = matrix[1]
    digests = ["p", "q", None, "p", "p", None]
    report, pairs = near_duplicates(vectors_of(matrix), digests, threshold=0.9)
    assert pairs.columns(list("abcdef")) == {
        "id": ["a", "b"], "other": ["e", "f"], "cosine": [1.0, 1.0], "exact": [True, False],
    }  # fmt: skip
    assert report.value("exact_groups") == 1 and report.value("exact_share") == 0.5 == report.notes["exact_rows"] / 6
    assert report.notes["groups"] == [["r0", "r3", "r4"]]
    assert same_content(["x", "y", "y", "x", "x"]) == [[0, 3, 4], [1, 2]]


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows_have_no_duplicates(n):
    report, pairs = near_duplicates(vectors_of(np.ones((n, 3))), ["x"] * n)
    assert (
        [score.value for score in report.scores] == [0, 0, 0, 0] and len(pairs) == 0 and pairs.columns([])["id"] == []
    )


def test_zero_vectors_are_like_nothing():
    assert not len(near_duplicates(vectors_of(np.zeros((5, 3))), [None] * 5, threshold=1e-7)[1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(InputError, match="threshold"):
        near_duplicates(vectors_of(np.eye(2)), [None, None], threshold=threshold)


def test_threads_change_nothing(monkeypatch):
    vectors, labels = clouds(n=400)
    answers = []
    for threads in (1, 4):
        for module in (neighbours_module, retrieval_module, duplicates_module):
            monkeypatch.setattr(module, "cores", lambda threads=threads: threads)
            monkeypatch.setattr(module, "SCORES_AT_ONCE", 4000)
        monkeypatch.setattr(duplicates_module, "TILE", (32, 64))
        report, pairs = near_duplicates(vectors, [None] * 400, threshold=0.8, listed=100)
        found = (knn(vectors, labels).scores, retrieval(vectors, labels).scores, report.scores)
        answers.append((found, pairs.rows.tolist(), pairs.cosine.tolist()))
    assert answers[0] == answers[1]
