"""Spaces made of spaces."""

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.fusion.concat import Concat, components, filled
from embedders.testing_data import views_example
from embedders.views import Views
from flows import steps
from flows.pipeline import Pipeline
from flows.plan import make_plan

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
