import json
import warnings

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from evaluation import label_probe as module
from evaluation.base import Report, Score, wilson
from evaluation.label_probe import label_probe
from evaluation.neighbours import neighbours


def vectors(matrix, ids=None):
    matrix = np.asarray(matrix, np.float32)
    return Vectors("thing", ids or [f"t{i}" for i in range(len(matrix))], matrix)


def clusters(classes=3, members=20, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), members)
    things = vectors(rng.normal(size=(len(codes), 8)) * 0.1 + 10 * np.eye(8)[codes])
    return things, {name: f"class {code}" for name, code in zip(things.ids, codes, strict=True)}


def test_separable_labels_are_read_without_error():
    report = label_probe(*clusters())
    assert [s.metric for s in report.scores] == ["accuracy", "macro_f1", "majority"]
    assert report.headline.value == report.value("macro_f1") == 1.0
    assert report.value("majority") == pytest.approx(1 / 3)
    assert report.headline.low == pytest.approx(wilson(60, 60)[0])
    assert report.headline.high == pytest.approx(1.0)


def test_random_labels_score_near_chance():
    rng = np.random.default_rng(1)
    things = vectors(rng.normal(size=(600, 4)))
    report = label_probe(things, {name: str(rng.integers(2)) for name in things.ids})
    assert abs(report.headline.value - 0.5) < 0.08
    assert report.headline.low < report.headline.value < report.headline.high


def test_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(2)
    codes = rng.choice(4, size=300, p=[0.5, 0.3, 0.15, 0.05])
    things = vectors(rng.normal(size=(300, 6)) + 0.8 * np.eye(6)[codes])
    labels = {name: "abcd"[code] for name, code in zip(things.ids, codes, strict=True)}
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    guess = cross_val_predict(probe, things.matrix, codes, cv=folds)
    report = label_probe(things, labels)
    assert report.headline.value == pytest.approx(accuracy_score(codes, guess))
    assert report.value("macro_f1") == pytest.approx(f1_score(codes, guess, average="macro"))
    assert label_probe(things, labels) == report


def test_counts_what_was_left_out():
    things, labels = clusters(classes=2, members=10)
    more = vectors(np.vstack([things.matrix, np.zeros((4, 8))]), [*things.ids, "é1", "é2", "é3", "no label"])
    report = label_probe(more, {**labels, "é1": "small", "é2": "small", "é3": "small", "no vector": "class 0"})
    assert report.notes["dropped_classes"] == {"small": 3}
    assert {key: report.notes[key] for key in ("n", "missing", "unlabelled", "classes")} == {
        "n": 20,
        "missing": 1,
        "unlabelled": 1,
        "classes": 2,
    }
    json.dumps(dict(report.notes))


def test_trivial_baselines_stand_beside():
    things, labels = clusters()
    noise = np.random.default_rng(3).normal(size=(len(things), 1))
    report = label_probe(things, labels, trivial={"copy": things.matrix.astype(np.float64), "noise": noise})
    assert report.value("accuracy[copy]") == 1.0
    assert report.value("accuracy[noise]") < 0.6
    assert report.notes["baselines"] == ["copy", "noise"]


def test_baseline_rows_follow_the_vectors_that_are_labelled():
    things, labels = clusters()
    shifted = vectors(np.vstack([np.zeros((1, 8)), things.matrix]), ["unlabelled", *things.ids])
    report = label_probe(shifted, labels, trivial={"copy": shifted.matrix})
    assert report.value("accuracy[copy]") == 1.0


def test_a_baseline_may_be_sparse_and_its_cost_is_told():
    from scipy.sparse import csr_array

    things, labels = clusters()
    code = np.repeat(np.arange(3, dtype=np.int32), 20)
    one_hot = csr_array((np.ones(60, np.float32), code, np.arange(61, dtype=np.int32)), shape=(60, 4))
    shuffled = np.random.default_rng(0).permutation(one_hot.toarray())
    report = label_probe(things, labels, trivial={"one_hot": one_hot, "wrong": csr_array(shuffled)})
    assert report.value("accuracy[one_hot]") == 1.0
    assert report.value("accuracy[wrong]") < 0.6
    assert report.notes["sizes"]["vectors"] == {"dim": 8, "bytes": 60 * 8 * 4}
    assert report.notes["sizes"]["one_hot"] == {"dim": 4, "bytes": 60 * 4 * 4, "sparse_bytes": 60 * 8 + 61 * 4}
    json.dumps(report.notes)
    for bad in (csr_array((59, 4)), csr_array(np.full((60, 1), np.inf))):
        with pytest.raises(InputError, match="one_hot"):
            label_probe(things, labels, trivial={"one_hot": bad})


def test_a_solver_that_stops_early_is_a_note_and_no_warning(monkeypatch):
    monkeypatch.setattr(module, "MAX_ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = label_probe(*clusters())
    assert report.notes["folds_not_converged"] == {"vectors": 5}


def test_constant_and_identical_vectors_are_no_failure():
    things = vectors(np.ones((30, 3)))
    report = label_probe(things, {name: "ab"[i % 3 == 0] for i, name in enumerate(things.ids)})
    assert report.headline.value == pytest.approx(report.value("majority"))


@pytest.mark.parametrize(
    ("matrix", "labels", "message"),
    [
        (np.ones((2, 2)), {"x9": "a"}, r"such as 't0'.*such as 'x9'"),
        (np.ones((2, 2)), {}, "0 labels"),
        (np.ones((0, 2)), {"x9": "a"}, "0 vectors"),
        (np.ones((1, 2)), {"t0": "a"}, "at least two such classes"),
        (np.ones((9, 2)), {f"t{i}": "a" for i in range(9)}, "Got 1 classes"),
        (np.ones((9, 2)), {f"t{i}": "a" if i > 3 else "b" for i in range(9)}, "1 of them with at least 5"),
    ],
)
def test_what_cannot_be_probed_is_refused(matrix, labels, message):
    with pytest.raises(InputError, match=message):
        label_probe(vectors(matrix), labels)


@pytest.mark.parametrize("bad", [np.ones((3, 1)), np.ones(60), np.ones((60, 0)), np.full((60, 1), np.nan)])
def test_a_bad_baseline_is_named(bad):
    with pytest.raises(InputError, match="degrees"):
        label_probe(*clusters(), trivial={"degrees": bad})


def test_ids_that_repeat_are_refused():
    with pytest.raises(InputError, match=r"'a' in rows 0 and 2"):
        label_probe(vectors(np.ones((3, 1)), ["a", "b", "a"]), {"a": "x"})


def test_nan_never_reaches_an_evaluation():
    with pytest.raises(InputError, match="NaN"):
        vectors([[0.0], [np.nan]])


def test_neighbours_of_clusters_share_their_label():
    report = neighbours(*clusters())
    assert report.headline == Score("same_label", 1.0)
    assert report.value("chance") == pytest.approx(19 / 59)


def test_neighbours_known_answer_with_unlabelled_rows_left_out():
    things = vectors([[0.0], [1.0], [3.0], [7.0], [2.9]])
    report = neighbours(things, {"t0": "a", "t1": "a", "t2": "b", "t3": "b", "t9": "b"}, k=1, similarity="l2")
    assert report.value("same_label") == 0.75  # t2 (3.0) is nearer to t1 (1.0) than to t3 (7.0); t4 has no label
    assert report.value("chance") == pytest.approx(1 / 3)
    assert (report.notes["missing"], report.notes["unlabelled"]) == (1, 1)


def test_neighbours_reduces_k_and_says_so():
    report = neighbours(vectors(np.eye(3)), {"t0": "a", "t1": "a", "t2": "b"})
    assert (report.notes["k"], report.notes["k_asked"]) == (2, 10)
    assert report.headline.value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("labels", "k", "message"), [({"t0": "a"}, 1, "at least 2"), ({"t0": "a", "t1": "b"}, 0, "k=0")]
)
def test_neighbours_refuses(labels, k, message):
    with pytest.raises(InputError, match=message):
        neighbours(vectors(np.eye(3)), labels, k=k)


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(InputError, match="accuracy, f1"):
        Report((Score("accuracy", 1.0), Score("f1", 1.0)), {}).value("recall")


def test_threads_are_given_back_when_evaluations_overlap():
    from threading import Barrier, Event, Thread

    from threadpoolctl import threadpool_info

    from embedders.kernels.blas import one_thread

    def limits():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, together, left, seen = limits(), Barrier(2), Event(), []

    def work(leaves_first):
        with one_thread():
            together.wait(10)
            if not leaves_first:
                left.wait(10)
                seen.append(limits())
        left.set()

    workers = [Thread(target=work, args=(leaves_first,)) for leaves_first in (True, False)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert before and limits() == before
    assert seen == [[1] * len(before)]
