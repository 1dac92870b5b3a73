"""Judging node vectors: labels, one or several a node, and links that were held out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedders.base import Vectors
from embedders.data import Graph, HeldOut
from embedders.errors import InputError
from embedders.graph.split import hold_out
from evaluation.base import wilson
from evaluation.link_prediction import auc, link_prediction
from evaluation.node_classification import node_classification
from evaluation.one_vs_rest import fit


def vectors(matrix, ids=None):
    matrix = np.asarray(matrix, np.float32)
    return Vectors("node", ids or [f"n{i}" for i in range(len(matrix))], matrix)


def blobs(n=200, classes=4, dim=8, noise=1.0, seed=0):
    """Vectors around a centre for each class, and the class of each."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    return vectors(3 * np.eye(dim)[codes] + noise * rng.normal(size=(n, dim))), codes


def single(things, codes):
    return {name: (f"c{code}",) for name, code in zip(things.ids, codes, strict=True)}


def several(n=150, classes=5, dim=6, seed=1):
    """Vectors with one to three labels each."""
    rng = np.random.default_rng(seed)
    things = vectors(rng.normal(size=(n, dim)))
    scores = things.matrix @ rng.normal(size=(dim, classes)) + rng.normal(size=(n, classes))
    counts = rng.integers(1, 4, n)
    best = np.argsort(-scores, axis=1)
    return things, {name: tuple(f"g{c}" for c in best[i, : counts[i]]) for i, name in enumerate(things.ids)}


# The classifier


@pytest.mark.parametrize(("n", "dim"), [(120, 5), (40, 60)])
def test_the_classifier_is_liblinear_s(n, dim):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(n, dim)) + 2) * np.exp(rng.normal(size=dim))  # neither centred nor of one scale
    marks = rng.random((n, 3)) < [0.1, 0.5, 0.8]
    found = fit(matrix, marks)
    assert found.converged
    for column, weights in zip(marks.T, found.weights.T, strict=True):
        model = LogisticRegression(solver="liblinear", C=1.0, tol=1e-10, max_iter=10_000).fit(matrix, column)
        assert weights == pytest.approx(np.append(model.coef_[0], model.intercept_), abs=2e-3)
    assert found.decide(matrix)[:, -1] == pytest.approx(model.decision_function(matrix), abs=5e-3)


def test_classes_that_all_or_none_are_of():
    marks = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], bool)
    found = fit(np.arange(8.0).reshape(4, 2), marks)
    assert found.decide(np.zeros((1, 2)))[0, :2].tolist() == [np.inf, -np.inf] and found.converged
    none = fit(np.ones((2, 1)), np.ones((2, 2), bool))
    assert np.isposinf(none.decide(np.ones((1, 1)))).all()


def test_a_solver_that_stops_early_is_told(monkeypatch):
    import evaluation.one_vs_rest as module

    monkeypatch.setattr(module, "MAX_ITERATIONS", 1)
    things, codes = blobs()
    assert node_classification(things, single(things, codes)).notes["not_converged"] == {"vectors": 10}


# Labels


def test_single_labels_are_scored_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.multiclass import OneVsRestClassifier

    things, codes = blobs(noise=1.5)
    report = node_classification(things, single(things, codes), train=0.7, repeats=3, seed=5)
    scores = []
    for repeat in range(3):
        train, test = np.split(np.random.default_rng([5, repeat]).permutation(200), [140])
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear", tol=1e-8))
        guess = model.fit(things.matrix[train], codes[train]).predict(things.matrix[test])
        scores.append([accuracy_score(codes[test], guess), f1_score(codes[test], guess, average="macro")])
    assert [report.headline.value, report.value("macro_f1")] == pytest.approx(np.mean(scores, axis=0))
    assert report.headline.metric == "micro_f1" and not report.notes["multi_label"]
    spread = np.std(scores, axis=0, ddof=1)[0]
    reach = 4.302652729911275 * np.sqrt(1 / 3 + 60 / 140) * spread  # Student's t of 2 degrees of freedom
    assert (report.headline.low, report.headline.high) == pytest.approx(
        (report.headline.value - reach, report.headline.value + reach)
    )
    assert report.notes["spread"] == {"0.7": pytest.approx(spread)}


def test_as_many_labels_are_predicted_as_there_are():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier

    things, labels = several()
    report = node_classification(things, labels, train=0.6, repeats=2)
    marks = np.array([[f"g{c}" in labels[name] for c in range(5)] for name in things.ids])
    scores = []
    for repeat in range(2):
        train, test = np.split(np.random.default_rng([0, repeat]).permutation(150), [90])
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear", tol=1e-8)).fit(
            things.matrix[train], marks[train]
        )
        guess = np.zeros_like(marks[test])
        for row, chances in enumerate(model.predict_proba(things.matrix[test])):  # DeepWalk's TopKRanker
            guess[row, np.argsort(chances)[-marks[test][row].sum() :]] = True
        scores.append([f1_score(marks[test], guess, average=how, zero_division=0) for how in ("micro", "macro")])
    assert [report.headline.value, report.value("macro_f1")] == pytest.approx(np.mean(scores, axis=0))
    assert report.notes["multi_label"] and report.notes["labels"] == pytest.approx(marks.sum() / 150)


def test_the_scores_of_several_shares_stand_beside_that_of_the_largest():
    things, labels = several()
    report = node_classification(things, labels, train=[0.9, 0.1], repeats=4)
    alone = {share: node_classification(things, labels, train=share, repeats=4) for share in (0.1, 0.9)}
    names = ["micro_f1", "macro_f1", "majority", "micro_f1[0.1]", "macro_f1[0.1]", "micro_f1[0.9]", "macro_f1[0.9]"]
    assert [score.metric for score in report.scores] == names
    for share, one in alone.items():
        assert report.value(f"micro_f1[{share}]") == one.headline.value
        assert report.value(f"macro_f1[{share}]") == one.value("macro_f1")
    assert report.scores[:3] == alone[0.9].scores
    assert list(report.notes["spread"]) == ["0.1", "0.9"]


def test_labels_that_say_nothing_score_as_the_majority_and_vectors_that_tell_all_score_one():
    rng = np.random.default_rng(3)
    codes = (rng.random(600) < 0.3).astype(int)
    labels = single(vectors(np.zeros((600, 1))), codes)
    noise = node_classification(vectors(rng.normal(size=(600, 2))), labels)
    assert noise.headline.value == pytest.approx(noise.value("majority"), abs=0.03)
    clear = node_classification(
        vectors(10.0 * np.eye(2)[codes]), labels, trivial={"copy": np.eye(2)[codes], "none": np.zeros((600, 1))}
    )
    assert clear.headline.value == clear.value("macro_f1") == clear.value("micro_f1[copy]") == 1
    assert clear.headline.low == clear.headline.high == 1
    assert clear.value("micro_f1[none]") == pytest.approx(clear.value("majority")) and clear.value("majority") < 0.8
    assert clear.notes["baselines"] == ["copy", "none"]
    assert clear.notes["sizes"]["vectors"] == {"dim": 2, "bytes": 4800} and clear.notes["sizes"]["copy"]["dim"] == 2


def test_a_given_split():
    things, codes = blobs(noise=1.5)
    labels = single(things, codes)
    parts = ["train"] * 100 + ["val"] * 20 + ["test"] * 60
    split = dict(zip(things.ids, parts, strict=False)) | {"n100": "val", "unknown": "test"}
    report = node_classification(things, labels, split=split)
    again = node_classification(vectors(things.matrix[:180], things.ids[:180]), labels, split=split, seed=9)
    assert again.scores == report.scores
    assert report.notes["split"] == {"train": 100, "val": 20, "test": 60}
    hits = round(report.headline.value * 60)
    assert (report.headline.low, report.headline.high) == wilson(hits, 60)
    assert report.value("macro_f1") > 0.5 and report.scores[1].low is None
    assert "spread" not in report.notes and "repeats" not in report.notes
    other = split | dict.fromkeys(things.ids[100:120], "train")
    assert node_classification(things, labels, split=other).headline != report.headline


def test_a_class_that_is_neither_tested_nor_predicted():
    things, codes = blobs(n=60, classes=2, noise=0.1)
    labels = single(things, codes)
    rare = labels | {"n0": ("rare",)}
    split = {"n0": "val"} | {f"n{i}": "train" if i < 30 else "test" for i in range(1, 60)}
    assert node_classification(things, rare, split=split).value("macro_f1") == 1  # as of scikit-learn's single labels
    both = labels | {"n0": ("c0", "rare")}
    assert node_classification(things, both, split=split).value("macro_f1") == pytest.approx(2 / 3)  # and of several


def test_the_seed_decides_the_splits():
    things, labels = several()
    first = node_classification(things, labels)
    assert node_classification(things, labels) == first
    assert node_classification(things, labels, seed=1) != first


def test_rows_without_a_label_and_labels_without_a_row_are_counted():
    things, codes = blobs(n=40)
    labels = single(things, codes)
    rest = {name: labels[name] for name in things.ids[:30]} | {"é": ("c0",), "ö": ("c1", "c0")}
    notes = node_classification(things, rest).notes
    assert {key: notes[key] for key in ("n", "missing", "unlabelled", "classes", "labels")} == {
        "n": 30, "missing": 2, "unlabelled": 10, "classes": 4, "labels": 1,
    }  # fmt: skip
    assert not notes["multi_label"]  # the id with two has no vector
    json.dumps(dict(notes))


def test_one_repeat_has_no_interval_where_labels_are_several():
    things, labels = several()
    assert node_classification(things, labels, repeats=1).headline.low is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 1.0}, "train 1.0"),
        ({"train": [0.5, 0.0]}, "train 0.0"),
        ({"train": 0.001}, "of which 0.001 are 0"),
        ({"repeats": 0}, "repeats 0"),
        ({"split": {"n0": "train", "n1": "dev"}}, "'dev'"),
        ({"split": {"n0": "train", "n1": "val"}}, "part 'test'"),
        ({"trivial": {"degrees": np.ones((3, 1))}}, "'degrees' of shape"),
        ({"trivial": {"degrees": np.full((200, 1), np.nan)}}, "finite"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    things, codes = blobs()
    with pytest.raises(InputError, match=message):
        node_classification(things, single(things, codes), **options)


def test_one_class_or_no_known_id_is_refused():
    things, _ = blobs(n=20)
    with pytest.raises(InputError, match="1 class, 'x'"):
        node_classification(things, dict.fromkeys(things.ids, ("x",)))
    with pytest.raises(InputError, match="no id that has both"):
        node_classification(things, {"other": ("x", "y")})


# Links


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_the_area_is_that_of_all_comparisons(positive, negative):
    area, low, high = auc(np.array(positive, float), np.array(negative, float))
    compared = np.subtract.outer(positive, negative)
    assert area == pytest.approx(np.mean(compared > 0) + np.mean(compared == 0) / 2)
    assert 0 <= low <= area <= high <= 1


def test_the_interval_of_the_area_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.7602499389065233  # P(x > y) where x ~ N(1, 1), y ~ N(0, 1)
    ends = [auc(rng.normal(1, 1, 80), rng.normal(0, 1, 60))[1:] for _ in range(400)]
    assert 0.91 < np.mean([low <= truth <= high for low, high in ends]) < 0.98


def ring(n=60):
    """Each node is joined with the two before it and the two after, and there is one loop."""
    source = np.repeat(np.arange(n), 2)
    target = (source + np.tile([1, 2], n)) % n
    return Graph.from_edges([f"n{i}" for i in range(n)], np.append(source, 0), np.append(target, 0))


def on_a_circle(n=60, scale=1.0):
    angle = 2 * np.pi * np.arange(n) / n
    return vectors(scale * np.stack([np.cos(angle), np.sin(angle)], axis=1))


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
def test_near_nodes_are_linked(similarity):
    training, held = hold_out(ring(), 0.2, 0)
    report = link_prediction(on_a_circle(), held, similarity=similarity, training=training)
    distance = np.abs(held.non_edges[:, 0] - held.non_edges[:, 1])
    assert np.minimum(distance, 60 - distance).min() > 2
    assert report.headline.metric == "auc" and report.headline.value == report.value("average_precision") == 1
    assert report.notes | {"n": 48, "edges": 24, "non_edges": 24, "missing": 0, "left_out": 0} == report.notes
    assert 0.6 < report.value("auc[common_neighbours]") < 1
    assert (
        report.value("auc[preferential_attachment]") < 0.5
    )  # all had one degree; ends of edges held out have lost some
    json.dumps(dict(report.notes))


def test_similarities_differ_as_they_should():
    held = HeldOut(list("abcd"), np.array([[0, 1]], np.int32), np.array([[2, 3]], np.int32))
    points = vectors([[1, 0], [2, 0], [10, 0], [10, 1]], list("abcd"))  # a, b: alike in direction; c, d: near and long
    found = {how: link_prediction(points, held, similarity=how).headline.value for how in ("dot", "cosine", "l2")}
    assert found == {"dot": 0, "cosine": 1, "l2": 0.5}
    zero = vectors([[0, 0], [2, 0], [1, 0], [-1, 0]], list("abcd"))
    assert link_prediction(zero, held, similarity="cosine").headline.value == 1  # 0 against -1


def test_scores_are_scikit_learn_s():
    from sklearn.metrics import average_precision_score, roc_auc_score

    whole = Graph.from_edges([f"n{i}" for i in range(80)], *np.random.default_rng(0).integers(0, 80, (2, 300)))
    training, held = hold_out(whole, 0.3, 1)
    things = vectors(np.random.default_rng(1).normal(size=(80, 4)).round(1))
    report = link_prediction(things, held, training=training)
    truth = np.repeat([1, 0], len(held.edges))
    pairs = np.concatenate([held.edges, held.non_edges])
    values = (things.matrix[pairs[:, 0]].astype(float) * things.matrix[pairs[:, 1]]).sum(axis=1)
    assert report.headline.value == pytest.approx(roc_auc_score(truth, values))
    assert report.value("average_precision") == pytest.approx(average_precision_score(truth, values))
    import networkx as nx

    known = nx.Graph(
        [
            (a, int(b))
            for a in range(80)
            for b in training.indices[training.indptr[a] : training.indptr[a + 1]]
            if a != b
        ]
    )
    known.add_nodes_from(range(80))
    common = [len(list(nx.common_neighbors(known, *pair))) for pair in pairs.tolist()]
    product = [known.degree[a] * known.degree[b] for a, b in pairs.tolist()]
    assert report.value("auc[common_neighbours]") == pytest.approx(roc_auc_score(truth, common))
    assert report.value("auc[preferential_attachment]") == pytest.approx(roc_auc_score(truth, product))
    assert report.value("average_precision[common_neighbours]") == pytest.approx(average_precision_score(truth, common))


def test_a_neighbour_counts_once_whatever_the_directions():
    edges = np.array([(0, 1), (1, 0), (1, 2), (5, 3), (4, 5), (3, 6), (6, 4), (7, 7)])
    training = Graph.from_edges(list("abcdefgh"), *edges.T, directed=True)
    held = HeldOut(training.ids, np.array([[0, 2]], np.int32), np.array([[3, 4]], np.int32))
    report = link_prediction(vectors(np.ones((8, 1)), list("abcdefgh")), held, training=training)
    assert report.value("auc[common_neighbours]") == 0  # a and c have b in common, d and e both f and g
    assert report.value("auc[preferential_attachment]") == 0  # 1 * 1 against 2 * 2
    loop = replace(held, non_edges=np.array([[0, 7]], np.int32))
    found = link_prediction(vectors(np.ones((8, 1)), list("abcdefgh")), loop, training=training)
    assert found.value("auc[preferential_attachment]") == 1  # a loop is no neighbour


def test_pairs_without_vectors_are_left_out_and_counted():
    training, held = hold_out(ring(), 0.2, 0)
    things = on_a_circle()
    gone = {held.ids[held.edges[0, 0]], held.ids[held.non_edges[0, 1]]}
    rows = [i for i, name in enumerate(things.ids) if name not in gone]
    shuffled = np.random.default_rng(0).permutation(rows)
    part = vectors(things.matrix[shuffled], [things.ids[i] for i in shuffled])
    report = link_prediction(part, held, training=training)
    names = np.array(held.ids)
    left = [int((~np.isin(names[pairs], list(gone)).any(axis=1)).sum()) for pairs in (held.edges, held.non_edges)]
    assert (report.notes["edges"], report.notes["non_edges"]) == tuple(left)
    assert report.notes["missing"] == len(gone) and report.notes["left_out"] == 48 - sum(left)
    assert report.headline.value == 1
    strangers = replace(held, ids=[f"x{i}" for i in range(60)])
    with pytest.raises(InputError, match="0 edges held out and 0 other pairs"):
        link_prediction(part, strangers)


def test_many_pairs_are_looked_at_in_parts(monkeypatch):
    import evaluation.link_prediction as module

    training, held = hold_out(ring(), 0.2, 0)
    things = vectors(np.random.default_rng(0).normal(size=(60, 3)))
    whole = link_prediction(things, held, training=training)
    monkeypatch.setattr(module, "PAIRS", 7)
    assert link_prediction(things, held, training=training) == whole
