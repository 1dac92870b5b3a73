"""Spaces made of spaces."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.fusion import weights
from embedders.fusion.concat import Concat, components, filled
from embedders.fusion.weights import WeighBy
from embedders.testing_data import views_example
from embedders.views import Views
from flows import steps
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.progress import Lines, reporting_to

PIPELINE = """
store: ./vectors
datasets:
  left: {kind: graph, edges: left.tsv}
  right: {kind: graph, edges: right.tsv}
spaces:
  both: {fuse: [a, b], embedder: concat, params: {dim: 3}}
  a: {dataset: left, embedder: spectral, params: {dim: 2}}
  b: {dataset: right, embedder: spectral, params: {dim: 2}}
evaluate:
  both: [{name: kind, metric: neighbours, path: labels.csv, k: 2}, {name: probe, metric: label_probe, path: labels.csv}]
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, ids in (("left", range(30)), ("right", range(5, 40))):
        pairs = [(i, j) for i in ids for j in ids if i < j and rng.random() < (0.5 if i % 2 == j % 2 else 0.1)]
        (tmp_path / f"{name}.tsv").write_text("".join(f"n{i}\tn{j}\n" for i, j in pairs))
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"n{i},{i % 2}\n" for i in range(40)))
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path


def test_a_fused_space_follows_what_it_is_made_of(folder):
    found = Pipeline.load(folder / "polyvec.yaml")
    plan = make_plan(found)
    assert [s.name for s in plan.spaces][-1] == "both"
    for name in ("a", "b", "both"):
        steps.embed(found, name, f"first-{name}")
    both = found.vectors.space("both").latest()
    assert both.manifest.upstream == {"a": 1, "b": 1}
    assert (both.manifest.dataset, both.dim, len(both)) == ("a + b", 3, 40)
    assert both.manifest.entity == "node"
    origins = both.table(["origin"]).column("origin").to_pylist()
    assert origins.count("imputed") == 15
    assert both.manifest.machine["patterns"] == {"a+b": 25, "b": 10, "a": 5}
    assert {s.reason for s in make_plan(found).spaces if not s.evaluations} == {"same data, same recipe"}
    with (folder / "left.tsv").open("a") as file:
        file.write("n0\tn29\n")
    assert {s.name: s.reason for s in make_plan(found).spaces}["both"] == "a will change"
    steps.embed(found, "a", "second-a")
    assert {s.name: s.reason for s in make_plan(found).spaces}["both"] == "a changed"
    steps.embed(found, "both", "second-both")
    assert found.vectors.space("both").latest().manifest.upstream == {"a": 2, "b": 1}


def test_each_view_is_judged_beside_the_fused_space(folder):
    found = Pipeline.load(folder / "polyvec.yaml")
    refs = [steps.embed(found, name, name)[name] for name in ("a", "b", "both")]
    scores = steps.evaluate_space(found, refs[-1], "probe").scores
    assert {"accuracy", "accuracy[a]", "accuracy[b]"} <= set(scores)
    assert scores["accuracy"] >= max(scores["accuracy[a]"], scores["accuracy[b]"]) > 0.5


def test_only_a_fused_space_brings_what_it_is_made_of(folder):
    found = Pipeline.load(folder / "polyvec.yaml")
    assert [s.name for s in make_plan(found, only=["both"]).spaces] == ["a", "b", "both"]


def test_a_space_left_out_is_a_change(folder):
    found = Pipeline.load(folder / "polyvec.yaml")
    for name in ("a", "b", "both"):
        steps.embed(found, name, name)
    text = PIPELINE.replace("fuse: [a, b]", "fuse: [a, c]") + ""
    text = text.replace(
        "  b: {dataset: right", "  c: {dataset: right, embedder: spectral, params: {dim: 2}}\n  b: {dataset: right"
    )
    (folder / "polyvec.yaml").write_text(text)
    assert {s.name: s.reason for s in make_plan(Pipeline.load(folder / "polyvec.yaml")).spaces}[
        "both"
    ] == "c will change"


def test_fusing_in_a_circle(folder):
    text = PIPELINE.replace("fuse: [a, b]", "fuse: [a, both]")
    (folder / "polyvec.yaml").write_text(text)
    with pytest.raises(InputError, match="cycle among the spaces"):
        make_plan(Pipeline.load(folder / "polyvec.yaml"))


def test_an_embedder_of_datasets_fuses_nothing(folder):
    (folder / "polyvec.yaml").write_text(PIPELINE.replace("embedder: concat, params: {dim: 3}", "embedder: spectral"))
    with pytest.raises(InputError, match="got 'spectral' of 'a \\+ b'; expected dataset: NAME with it"):
        Pipeline.load(folder / "polyvec.yaml")


@pytest.mark.parametrize("asked", ["{name: x, metric: link_prediction}", "{name: x, metric: knn, labels: dataset}"])
def test_a_fused_space_has_no_dataset_to_ask(folder, asked):
    (folder / "polyvec.yaml").write_text(PIPELINE.replace("both: [{name: kind", f"both: [{asked}, {{name: kind"))
    with pytest.raises(InputError, match="both is fused of a \\+ b, without one"):
        Pipeline.load(folder / "polyvec.yaml")


def views(**spaces):
    return Views.of({name: Vectors("thing", ids, np.array(rows, np.float32)) for name, (ids, rows) in spaces.items()})


def test_views_join_by_id():
    data = views(a=(["x", "y"], [[1], [2]]), b=(["y", "z"], [[3], [4]]))
    assert (data.ids, data.entity, data.complete.tolist()) == (["x", "y", "z"], "thing", [False, True, False])
    assert {name: rows.tolist() for name, rows in data.rows.items()} == {"a": [0, 1, -1], "b": [-1, 0, 1]}


@pytest.mark.parametrize(
    ("spaces", "says"),
    [
        ({"a": (["x"], [[1]])}, "Got 1 space to fuse"),
        ({"a": (["x"], [[1]]), "b": (["y"], [[1]])}, "'a', which has no id in common with b"),
        ({"a": (["x"], [[1]]), "b": (["x"], [[1]]), "c": (["y"], [[1]])}, "'c', which has no id in common with a, b"),
    ],
)
def test_spaces_that_do_not_join(spaces, says):
    with pytest.raises(InputError, match=says):
        views(**spaces)


def test_parts_are_scaled_to_their_weights(tmp_path):
    data = views(a=(["x", "y", "z"], [[100, 0], [0, 100], [50, 60]]), b=(["x", "y", "z"], [[0.1], [0.2], [0.4]]))
    matrix = Concat(weights={"b": 0.5}).fit(data).matrix
    assert np.allclose(matrix.mean(axis=0), 0, atol=1e-6)
    assert np.isclose((matrix[:, :2] ** 2).sum(axis=1).mean(), 1)
    assert np.isclose((matrix[:, 2:] ** 2).sum(axis=1).mean(), 0.25)
    assert Concat(weights={"b": 0}).fit(data).dim == 2
    assert np.array_equal(Concat(normalize="none").fit(data).matrix[0], np.float32([100, 0, 0.1]))
    unit = Concat(normalize="rows", weights={"b": 0}).fit(data).matrix
    expected = np.array([[1, 0], [0, 1], np.array([50, 60]) / np.hypot(50, 60)])
    expected -= expected.mean(axis=0)
    assert np.allclose(unit, expected / np.sqrt((expected**2).sum(axis=1).mean()), atol=1e-6)


@pytest.mark.parametrize(("rows", "ids"), [("any", ["x", "y", "z", "w"]), ("all", ["y", "z"]), ("a", ["x", "y", "z"])])
def test_which_entities_it_is_of(rows, ids):
    data = views(a=(["x", "y", "z"], [[1], [2], [5]]), b=(["y", "z", "w"], [[3], [4], [1]]))
    found = Concat(rows=rows).fit(data)
    assert list(found.ids) == ids
    assert found.imputed.tolist() == [name in "xw" for name in ids]


def test_an_entity_of_a_space_without_weight_has_nothing(tmp_path):
    data = views(a=(["x", "y"], [[1], [2]]), b=(["y", "z"], [[3], [4]]))
    assert list(Concat(weights={"b": 0}).fit(data).ids) == ["x", "y"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": {"c": 1}}, "a weight of 'c'; expected one of the spaces that are fused: a, b"),
        ({"rows": "c"}, "Got rows: 'c'; expected any, all or one of a, b"),
        ({"weights": {"a": 0, "b": 0}}, "weights of 0 for all spaces"),
        ({"dim": 3}, "Got dim: 3 for 3 entities of 2 numbers; expected at most 2"),
    ],
)
def test_wrong_options(options, says):
    data = views(a=(["x", "y"], [[1], [2]]), b=(["y", "z"], [[3], [4]]))
    with pytest.raises(InputError, match=says):
        Concat(**options).fit(data)


def test_what_is_lacking_is_predicted():
    """A second part that is a linear function of the first is found again where it lacks."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200, 4)).astype(np.float32)
    second = (first @ rng.normal(size=(4, 3)) + 1).astype(np.float32)
    here = np.ones((200, 2), bool)
    here[150:, 1] = False
    lacking = np.where(here[:, 1:], second, 0).astype(np.float32)
    found = filled([first, lacking], here, 1e-6)
    assert np.allclose(found, np.hstack([first, second]), atol=1e-3)
    assert np.array_equal(found[:150], np.hstack([first, second])[:150])


@pytest.mark.parametrize("shape", [(50, 6), (6, 50)])
def test_components_are_those_of_scikit_learn(shape):
    from sklearn.decomposition import PCA

    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found, expected = components(matrix, 4), PCA(4, svd_solver="full").fit_transform(matrix)
    signs = np.sign((found * expected).sum(axis=0))
    assert np.allclose(found, expected * signs, atol=1e-4)


def test_fusing_tells_what_no_view_tells_alone(tmp_path):
    example = views_example(tmp_path)
    assert Concat().fit(example.data).mode["patterns"] == {"colour+shape": 18, "shape": 1, "colour": 1}


# ---- chosen weights


def judged_views(n=120, classes=3, seed=0):
    """A space that tells the label, one that tells it worse, and one of loud noise."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % classes
    ids = [f"ид {i}" for i in range(n)]
    found = {}
    for name, spread in (("good", 0.4), ("fair", 1.0), ("noise", None)):
        centres = 0 if spread is None else np.eye(classes, 6)[label]
        found[name] = Vectors("thing", ids, (centres + (spread or 1) * rng.normal(size=(n, 6))).astype(np.float32))
    return Views.of(found), {name: str(kind) for name, kind in zip(ids, label.tolist(), strict=True)}


def by_labels(views, labels):
    told = {name: (label,) for name, label in labels.items()}
    return Concat(weigh_by={"labels": "x.csv"}).fit(replace(views, told=told))


def test_a_space_that_only_hurts_gets_no_weight():
    found = by_labels(*judged_views())
    weights, told = found.mode["weights"], found.mode["weighed_by"]
    assert weights["good"] == 1 and weights["noise"] < 0.3
    assert told["score"] > told["equal"]
    assert told["n"] == 120
    assert set(told["alone"]) == {"good", "fair", "noise"}
    if not weights["noise"]:
        assert found.dim == 6 * sum(weight > 0 for weight in weights.values())


def test_what_was_not_seen_scores_no_better_by_luck():
    """Labels that nothing tells: what is chosen looks better than chance, what is told of unseen folds does not."""
    views, labels = judged_views()
    rng = np.random.default_rng(1)
    shuffled = dict(zip(labels, rng.permutation(list(labels.values())).tolist(), strict=True))
    told = by_labels(views, shuffled).mode["weighed_by"]
    assert 0.5 > told["score"] > told["equal"]  # an entity is none of its own neighbours
    assert told["unseen"] < told["score"]


def test_weights_by_links():
    views, labels = judged_views()
    ids = views.ids
    links = {a: tuple(b for b in ids[i + 1 : i + 30] if labels[a] == labels[b]) for i, a in enumerate(ids)}
    recipe = Concat(weigh_by={"links": "x.tsv"})
    found = recipe.fit(replace(views, told=links | {"gone": ("ид 1",)}))
    assert found.mode["weights"]["good"] == 1 and found.mode["weights"]["noise"] < 0.6
    told = found.mode["weighed_by"]
    assert told["score"] >= max(told["equal"], *told["alone"].values())
    with pytest.raises(InputError, match="Got 1 links between entities"):
        recipe.fit(replace(views, told={"ид 1": ("ид 2", "gone")}))


def test_links_are_told_from_pairs_that_are_not_joined(monkeypatch):
    """Whichever way a link is written, and however many of them are looked at."""
    names, (left, right) = [f"i{i}" for i in range(40)], (range(20), range(20, 40))
    part = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    joined = {names[a]: tuple(names[b] for b in side if b < a) for side in (left, right) for a in side}
    both = {a: tuple(b for b in names if b in joined[a] or a in joined[b]) for a in names}
    by = WeighBy(links="x.tsv")
    for most in (4000, 100):
        monkeypatch.setattr(weights, "MOST", most)
        found = weights.choose({"a": part, "b": part}, names, joined, by)
        assert found.score == 1  # else links were taken for pairs apart
        assert weights.choose({"a": part, "b": part}, names, both, by) == found


def test_choosing_by_nothing():
    views, _ = judged_views()
    with pytest.raises(InputError, match=r"without what 'x\.csv' tells"):
        Concat(weigh_by={"labels": "x.csv"}).fit(views)
    with pytest.raises(InputError, match="Got 0 labelled entities of 0 labels"):
        by_labels(views, {"other": "a"})
    with pytest.raises(ValueError, match="either labels or links"):
        Concat(weigh_by={})
    with pytest.raises(ValueError, match="either weights or weigh_by"):
        Concat(weights={"a": 1}, weigh_by={"labels": "x.csv"})


def test_the_file_is_part_of_the_fingerprint(tmp_path):
    def recipe(folder):
        return Concat(weigh_by={"labels": "labels.csv"}).located(folder)

    for folder, text in (("a", "id,label\nx,1\n"), ("b", "id,label\nx,1\n"), ("c", "id,label\nx,2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels.csv").write_text(text)
    a, b, c = (recipe(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c
    with pytest.raises(InputError, match="no such file"):
        recipe(tmp_path).fingerprint  # noqa: B018


def test_weights_are_chosen_in_a_run_and_judged_without_the_labels_that_are_asked(folder):
    text = PIPELINE.replace("params: {dim: 3}", "params: {weigh_by: {labels: labels.csv}}")
    (folder / "polyvec.yaml").write_text(text)
    found = Pipeline.load(folder / "polyvec.yaml")
    refs = [steps.embed(found, name, name)[name] for name in ("a", "b", "both")]
    both = found.vectors.space("both").latest()
    assert set(both.manifest.machine["weighed_by"]) == {"measure", "n", "score", "equal", "unseen", "alone"}
    steps.evaluate_space(found, refs[-1], "probe")
    notes = [row["notes"] for row in found.vectors.metrics(both) if row["notes"]]
    assert '"nested": true' in notes[0]
    assert {s.reason for s in make_plan(found).spaces} <= {"same data, same recipe", "to be judged: kind"}
    with (folder / "labels.csv").open("a") as file:
        file.write("n100,1\n")
    assert {s.name: s.action for s in make_plan(Pipeline.load(folder / "polyvec.yaml")).spaces}["both"] == "embed"


def test_that_labels_chose_the_weights_is_said_where_they_judge(folder):
    for params, many in (("{weigh_by: {labels: labels.csv}}", 1), ("{dim: 3}", 0)):
        (folder / "polyvec.yaml").write_text(PIPELINE.replace("params: {dim: 3}", f"params: {params}"))
        found = Pipeline.load(folder / "polyvec.yaml")
        [*_, ref] = [steps.embed(found, name, name, replace=True)[name] for name in ("a", "b", "both")]
        lines = []
        with reporting_to(Lines(lines.append)):
            for name in ("kind", "probe"):
                steps.evaluate_space(found, ref, name)
        said = [line for line in lines if "may have chosen its weights" in line]
        assert len(said) == many and all("both: kind judges" in line for line in said)


def test_a_file_of_labels_that_changed_is_said(folder):
    (folder / "polyvec.yaml").write_text(
        PIPELINE.replace("params: {dim: 3}", "params: {weigh_by: {labels: labels.csv}}")
    )
    found = Pipeline.load(folder / "polyvec.yaml")
    for name in ("a", "b", "both"):
        steps.embed(found, name, name)
    with (folder / "labels.csv").open("a") as file:
        file.write("n100,1\n")
    reasons = {s.name: s.reason for s in make_plan(Pipeline.load(folder / "polyvec.yaml")).spaces}
    assert reasons["both"] == "weights, labels or precision changed"


def test_what_a_fused_version_is_made_of_stays(folder):
    (folder / "polyvec.yaml").write_text(PIPELINE + "keep: {versions: 1}\n")
    found = Pipeline.load(folder / "polyvec.yaml")
    a = found.vectors.space("a")
    refs = [steps.embed(found, name, name)[name] for name in ("a", "b", "both")]
    for run in ("two", "three"):
        steps.embed(found, "a", run, force=True)
    assert [version.number for version in a.versions()] == [1, 3]
    assert steps.evaluate_space(found, refs[-1], "kind").views == ("a", "b")
    steps.embed(found, "both", "four")
    steps.embed(found, "a", "five", force=True)
    assert [version.number for version in a.versions()] == [3, 4]


def test_entities_without_a_vector_are_counted(folder):
    for params, counted in (
        ("{dim: 3}", {}),
        ("{rows: a}", {"not asked for by rows: a": 10}),
        ("{weights: {b: 0}}", {"held only by spaces of weight 0": 10}),
    ):
        (folder / "polyvec.yaml").write_text(PIPELINE.replace("params: {dim: 3}", f"params: {params}"))
        found = Pipeline.load(folder / "polyvec.yaml")
        for name in ("a", "b", "both"):
            steps.embed(found, name, name, replace=True)
        counts = found.vectors.space("both").latest().manifest.counts
        assert (counts.input, counts.embedded, counts.excluded) == (40, 40 - sum(counted.values()), counted)


# ---- odd views


def test_a_view_of_equal_vectors_stays_silent():
    ids = [f"n{i}" for i in range(50)]
    rng = np.random.default_rng(0)
    good = Vectors("thing", ids, rng.normal(size=(50, 3)).astype(np.float32))
    flat = Vectors("thing", ids, np.full((50, 4), 0.1, np.float32))
    found = Concat().fit(Views.of({"good": good, "flat": flat})).matrix
    assert np.abs(found[:, 3:]).max() == 0
    assert np.isfinite(Concat(dim=5).fit(Views.of({"good": good, "flat": flat})).matrix).all()


def test_one_row():
    data = views(a=(["x"], [[1, 2]]), b=(["x"], [[3]]))
    assert np.array_equal(Concat().fit(data).matrix, np.zeros((1, 3), np.float32))
    assert Concat(dim=1).fit(data).matrix.tolist() == [[0]]


def test_each_space_on_its_own_directions():
    rng = np.random.default_rng(0)
    ids = [f"n{i}" for i in range(60)]
    wide = (rng.normal(size=(60, 2)) @ rng.normal(size=(2, 30))).astype(np.float32)
    data = views(a=(ids, wide), b=(ids[5:], wide[5:, :3]))
    found = Concat(view_dim=2).fit(data)
    assert found.dim == 4
    assert np.isclose((found.matrix[:, :2] ** 2).sum(axis=1).mean(), 1, atol=1e-5)
    whole = Concat(weights={"b": 0}).fit(data).matrix
    assert np.allclose(whole @ whole.T, found.matrix[:, :2] @ found.matrix[:, :2].T, atol=1e-3)


def test_most_entities_lack_a_view():
    rng = np.random.default_rng(0)
    ids = [f"n{i}" for i in range(300)]
    data = views(a=(ids, rng.normal(size=(300, 8))), b=(ids[:3], rng.normal(size=(3, 8))))
    found = Concat().fit(data)
    assert np.isfinite(found.matrix).all()
    assert found.imputed.sum() == 297
    assert np.abs(found.matrix[3:, 8:]).max() < 20


def test_entities_of_spaces_without_weight_are_counted():
    data = views(a=(["x", "y"], [[1], [2]]), b=(["y", "z"], [[3], [4]]))
    assert Concat(weights={"b": 0}).fit(data).mode["left_out"] == 1
    assert "left_out" not in Concat().fit(data).mode


def test_a_space_twice(folder):
    (folder / "polyvec.yaml").write_text(PIPELINE.replace("fuse: [a, b]", "fuse: [a, a]"))
    with pytest.raises(InputError, match="each space once in fuse"):
        Pipeline.load(folder / "polyvec.yaml")


def test_a_fused_space_of_fused_spaces(folder):
    text = PIPELINE.replace("spaces:\n", "spaces:\n  more: {fuse: [both, a], embedder: concat}\n")
    (folder / "polyvec.yaml").write_text(text)
    found = Pipeline.load(folder / "polyvec.yaml")
    assert [s.name for s in make_plan(found).spaces] == ["a", "b", "both", "more"]
    for name in ("a", "b", "both", "more"):
        steps.embed(found, name, name)
    more = found.vectors.space("more").latest()
    assert (more.manifest.upstream, more.dim) == ({"both": 1, "a": 1}, 5)
    with (folder / "right.tsv").open("a") as file:
        file.write("n5\tn39\n")
    assert {s.name: s.reason for s in make_plan(found).spaces}["more"] == "both will change"


# ---- fusing that does not help is said


def test_a_fused_space_that_is_no_better_is_warned_of(folder):
    from flows.report import Row, warnings, write_report

    text = PIPELINE.replace("params: {dim: 3}", "params: {dim: 1}")
    (folder / "polyvec.yaml").write_text(text)
    found = Pipeline.load(folder / "polyvec.yaml")
    refs = [steps.embed(found, name, name)[name] for name in ("a", "b", "both")]
    scores = [steps.evaluate_space(found, refs[-1], name) for name in ("kind", "probe")]
    assert all(score.views == ("a", "b") for score in scores)
    assert all({f"{next(iter(s.scores))}[{view}]" for view in "ab"} <= set(s.scores) for s in scores)
    again = steps.recorded_scores(found, found.vectors.space("both").latest())
    assert again == scores
    worse = [s.model_copy(update={"scores": {**s.scores, next(iter(s.scores)): 0.01}}) for s in scores]
    rows = [Row.of(refs[-1], worse)]
    assert len(warnings(rows)) == 2
    assert f"both: kind {next(iter(worse[0].scores))} 0.010 is not better than" in warnings(rows)[0]
    report = write_report(found, "r", rows).read_text()
    assert "**Warning.** both: kind" in report
    assert "Entities by the spaces that hold them: a+b 25, b 10, a 5." in report
    assert "| **both** | 0.010 |" in report
    better = [s.model_copy(update={"scores": {**s.scores, next(iter(s.scores)): 2.0}}) for s in scores]
    assert not warnings([Row.of(refs[-1], better)])


def test_a_row_that_a_view_lacks_counts_as_missed(folder):
    found = Pipeline.load(folder / "polyvec.yaml")
    refs = {name: steps.embed(found, name, name)[name] for name in ("a", "b", "both")}
    both = steps.evaluate_space(found, refs["both"], "kind")
    text = PIPELINE.replace("evaluate:", "evaluate:\n  a: [{name: kind, metric: neighbours, path: labels.csv, k: 2}]")
    (folder / "polyvec.yaml").write_text(text)
    alone = steps.evaluate_space(Pipeline.load(folder / "polyvec.yaml"), refs["a"], "kind")
    headline = next(iter(alone.scores))
    assert (both.n, alone.n) == (40, 30)
    assert both.scores[f"{headline}[a]"] == pytest.approx(alone.scores[headline] * 30 / 40)


def test_cross_modal_needs_heads(folder):
    (folder / "polyvec.yaml").write_text(PIPELINE.replace("both: [", "both: [{name: find, metric: cross_modal}, "))
    with pytest.raises(InputError, match="got cross_modal, and both is made by 'concat'"):
        Pipeline.load(folder / "polyvec.yaml")


def test_a_probe_refits_without_the_labels_it_asks():
    """Vectors that are the labels themselves, of the ids that may be used: they tell nothing of the others."""
    from evaluation.label_probe import label_probe

    ids = [f"n{i}" for i in range(60)]
    labels = {name: str(i % 3) for i, name in enumerate(ids)}

    def of(known):
        return np.float32([[labels[name] == kind and name in known for kind in "012"] for name in ids])

    leaked = Vectors("thing", ids, of(set(ids)))
    assert label_probe(leaked, labels).headline.value == 1
    nested = label_probe(leaked, labels, refit=lambda known: of(set(known)))
    assert nested.headline.value < 0.5
    assert nested.notes["nested"]
