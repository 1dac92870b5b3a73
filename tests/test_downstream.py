"""The evaluation downstream: it tells what is there, and nothing where nothing is."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.table.categories import Categories
from embedders.table.one_hot import OneHotRows
from embedders.tables import Table
from evaluation.downstream import downstream
from flows.downstream import learned, one_hot
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.steps import embed, evaluate_space
from storage.errors import ReplacedError

pytest.importorskip("torch")


def table(n=400, values=60, seed=0):
    """A column of many values that raise the target by numbers of their own, and one that does nothing."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, values, n), rng.integers(0, 5, n)], axis=1).astype(np.int32)
    target = rng.normal(size=values)[codes[:, 0]] + rng.normal(0, 0.3, n)
    names = tuple([f"{name}{i}" for i in range(count)] for name, count in (("v", values), ("w", 5)))
    return Table([f"r{i}" for i in range(n)], ("c", "d"), names, codes, target=target.astype(np.float32), target_column="y")  # fmt: skip


QUICK = Categories(hidden=[16], epochs=10, threads=1, min_count=1, patience=50)


def scores(report):
    return {score.metric: score.value for score in report.scores}


def test_one_hot_is_judged_as_ridge_regression_is():
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold

    data = table()
    report = downstream(data, {"one_hot": one_hot, "hashed": learned(OneHotRows(buckets=8), "")})
    found = scores(report)
    assert list(found) == ["r2", "rmse", "r2[hashed]", "rmse[hashed]", "rmse[mean]"]
    matrix = np.hstack([np.eye(60)[data.codes[:, 0]], np.eye(5)[data.codes[:, 1]]]) / 2**0.5
    guess = np.empty(400)
    for (train, test), strength in zip(
        KFold(5, shuffle=True, random_state=0).split(matrix), report.notes["strengths"]["one_hot"], strict=True
    ):
        guess[test] = Ridge(alpha=strength).fit(matrix[train], data.target[train]).predict(matrix[test])
    assert found["rmse"] == pytest.approx(np.sqrt(((guess - data.target) ** 2).mean()), rel=1e-3)
    assert found["r2"] == pytest.approx(1 - (found["rmse"] / found["rmse[mean]"]) ** 2)
    assert found["r2"] > 0.7 > found["r2[hashed]"]
    sizes = report.notes["sizes"]
    assert sizes["vectors"]["dim"] == 67 and (sizes["hashed"]["dim"], sizes["hashed"]["bytes"]) == (8, 400 * 32)
    assert 800 * 8 <= sizes["vectors"]["sparse_bytes"] < 10_000


def test_learned_vectors_tell_what_they_learned():
    data = table()
    report = downstream(data, {"vectors": learned(QUICK, "rows"), "one_hot": one_hot}, folds=3)
    assert scores(report)["r2"] > 0.5 and report.notes["baselines"] == ["one_hot"] and report.notes["n"] == 400


@pytest.mark.parametrize("rows", ["values", "hidden"])
def test_nothing_leaks_from_a_random_target(rows):
    """Vectors that learned the target of the rows they are judged on would tell it: they do, of rows they were trained on."""
    data = table(values=200)
    noise = np.random.default_rng(1).normal(size=len(data)).astype(np.float32)
    data = replace(data, target=noise)
    recipe = QUICK.model_copy(update={"epochs": 60, "hold_out": 0.0, "rows": rows, "lr": 0.01, "dropout": 0.0})
    honest = downstream(data, {"vectors": learned(recipe, "rows")}, folds=3)
    assert scores(honest)["r2"] < 0.05
    encoder = recipe.fit(data).sides["rows"]

    def leaking(known, new):
        return tuple(np.concatenate([b.vectors.matrix for b in encoder.encode(it)]) for it in (known, new))

    assert scores(downstream(data, {"vectors": leaking}, folds=3))["r2"] > 0.15


def test_nothing_leaks_from_random_classes():
    data = table()
    classes = np.random.default_rng(1).integers(0, 2, len(data)).astype(np.int32)
    data = replace(data, target=classes, classes=["no", "yes"])
    report = downstream(data, {"vectors": learned(QUICK, "rows"), "one_hot": one_hot}, folds=3)
    found = scores(report)
    assert abs(found["accuracy"] - 0.5) < 0.08 and abs(found["accuracy[one_hot]"] - 0.5) < 0.08


def test_the_others_come_without_a_target():
    data, asked = table(), []

    def features(known, new):
        asked.append((set(known.ids), set(new.ids), known.target is None, new.target is None, new.classes))
        return known.codes.astype(float), new.codes.astype(float)

    lacking = replace(data, target=np.where(np.arange(400) < 100, np.nan, data.target).astype(np.float32))
    report = downstream(lacking, {"codes": features}, folds=3)
    assert report.notes["n"] == 300 and report.notes["rows_without_target"] == 100
    assert len(asked) == 6 and all(not known & new for known, new, *_ in asked)
    assert {tuple(rest) for _, _, *rest in asked} == {(False, True, None)}
    assert set().union(*(new for _, new, *_ in asked[1::2])) == set(data.ids[100:])
    for (inner, outer, *_), (known, new, *_) in zip(asked[::2], asked[1::2], strict=True):
        assert inner | outer == known and not known & new  # the strength is chosen among the training rows


def test_classes():
    data = table()
    classes = np.where(data.target > 0, 1, 0).astype(np.int32)
    classes[:3] = 2
    data = replace(data, target=classes, classes=["low", "high", "odd"])
    report = downstream(data, {"one_hot": one_hot})
    found = scores(report)
    assert list(found) == ["accuracy", "macro_f1", "majority"] and found["accuracy"] > 0.8 > found["majority"]
    assert report.notes["dropped_classes"] == {"odd": 3} and report.notes["n"] == 397


def test_rows_are_drawn_where_there_are_many():
    data = table(n=1000)
    report = downstream(data, {"one_hot": one_hot}, rows=200)
    assert report.notes["n"] == 200 and scores(report) == scores(downstream(data, {"one_hot": one_hot}, rows=200))


def test_what_cannot_be_judged():
    data = table()
    for given in (replace(data, target=None), replace(data, target=np.ones(400, np.float32)), data.select(range(9))):
        with pytest.raises(InputError, match="expected at least 10 rows and two values"):
            downstream(given, {"one_hot": one_hot})


def test_a_class_of_few_rows_is_learned_whatever_is_drawn():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (32, 1)).astype(np.int32)
    target = np.array([0] * 30 + [1] * 2, np.int32)
    data = Table([f"r{i}" for i in range(32)], ("c",), (list("abcd"),), codes, target=target, classes=["no", "yes"])
    for seed in range(12):
        assert downstream(data, {"one_hot": one_hot}, folds=2, seed=seed).notes["n"] == 32
    few = replace(data.select(range(27, 32)), classes=["no", "yes"])
    with pytest.raises(InputError, match=r"Got 5 rows.*expected at least 10 rows"):
        downstream(few, {"one_hot": one_hot}, folds=2)


def test_one_hot_rows_are_judged_without_their_zeros():
    data = table()
    known, new = learned(OneHotRows(), "")(data.select(range(300)), data.select(range(300, 400)))
    assert known.nnz == known.shape[0] * 2 and new.shape == (100, known.shape[1])


PIPELINE = """
store: ./vectors
datasets:
  shops: {kind: table, path: shops.csv, id: id, categories: [c, "d e"], target: y}
spaces:
  shops: {dataset: shops, embedder: categories, params: {hidden: [16], epochs: 4, threads: 1}, fold_in: 0.2}
  plain: {dataset: shops, embedder: one-hot-rows}
evaluate:
  shops: [{name: sales, metric: downstream, folds: 2}]
  plain: [{name: sales, metric: downstream, folds: 2}]
"""


@pytest.fixture
def folder(tmp_path):
    data = table(values=40)
    rows = [f"{name},{data.values[0][c]},{data.values[1][d]},{y:.4f}" for name, (c, d), y in zip(data.ids, data.codes, data.target, strict=True)]  # fmt: skip
    (tmp_path / "shops.csv").write_text("\n".join(["id,c,d e,y", *rows, ",v1,w1,3"]) + "\n")
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path


def load(folder, *changes):
    text = PIPELINE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "polyvec.yaml").write_text(text)
    return Pipeline.load(folder / "polyvec.yaml")


def test_a_table_in_a_pipeline(folder):
    found = load(folder)
    assert list(found.entries) == ["shops.rows", "shops.c", "shops.d_e", "plain"]
    assert [e.name for e in found.evaluations("shops.rows")] == ["sales"] and not found.evaluations("shops.c")
    made = embed(found, "shops", "one") | embed(found, "plain", "one")
    assert {space: (ref.rows, ref.quarantined) for space, ref in made.items()} == {
        "shops.rows": (400, 1), "shops.c": (41, 1), "shops.d_e": (6, 1), "plain": (400, 1),
    }  # fmt: skip
    rows, cities = (found.vectors.space(f"shops.{side}").latest() for side in ("rows", "c"))
    assert (rows.manifest.entity, cities.manifest.entity) == ("row", "c") and set(cities.ids) == {"unknown", *table(values=40).values[0]}  # fmt: skip
    values = dict(zip(cities.ids, cities.matrix, strict=True))
    np.testing.assert_array_equal(rows.matrix[0, :20], values[f"v{table(values=40).codes[0, 0]}"])
    score = evaluate_space(found, made["shops.rows"], "sales")
    assert list(score.scores) == ["r2", "rmse", "r2[one_hot]", "rmse[one_hot]", "rmse[mean]"]
    assert score.n == 400 and set(score.sizes) == {"vectors", "one_hot"} and score.sizes["vectors"]["dim"] <= 23
    alone = evaluate_space(found, made["plain"], "sales")
    assert list(alone.scores) == ["r2", "rmse", "rmse[mean]"]
    assert alone.scores["r2"] == pytest.approx(score.scores["r2[one_hot]"], abs=0.01)
    assert [s.action for s in make_plan(found).spaces] == ["up to date"] * 4


def test_new_rows(folder):
    found = load(folder)
    embed(found, "shops", "one"), embed(found, "plain", "one")
    before = found.vectors.space("shops.c").latest()
    with (folder / "shops.csv").open("a") as file:
        file.write("new,nowhere,w1,\nanother,v1,w1,2\n")
    with pytest.raises(InputError, match=r"before it changed.*polyvec run"):
        evaluate_space(found, embed_ref(found, "shops.rows"), "sales")
    embed(found, "shops", "two")
    rows, cities = (found.vectors.space(f"shops.{side}").latest() for side in ("rows", "c"))
    assert (rows.manifest.folded_into, rows.manifest.counts.folded_in, len(rows)) == (1, 2, 402)
    assert dict(cities.manifest.counts.excluded) == {"rare or new: stands for unknown": 1}
    np.testing.assert_array_equal(cities.matrix, before.matrix)
    assert embed(found, "plain", "two")["plain"].reused == 401  # one has the contents of another
    with (folder / "shops.csv").open("a") as file:
        file.writelines(f"more{i},v{i % 40},w1,2\n" for i in range(200))
    embed(found, "shops", "three")
    trained = found.vectors.space("shops.rows").latest()
    assert (trained.manifest.warm_start, trained.manifest.counts.folded_in, len(trained)) == (2, 0, 602)


def test_a_given_width_is_not_that_of_the_rows(folder):
    found = load(folder, ("epochs: 4,", "epochs: 1, width: 3,"))
    assert {space: ref.dim for space, ref in embed(found, "shops", "one").items()} == {
        "shops.rows": 6, "shops.c": 3, "shops.d_e": 3,
    }  # fmt: skip
    with (folder / "shops.csv").open("a") as file:
        file.write("new,v1,w1,1\n")
    assert {s.action for s in make_plan(found, only=["shops"]).spaces} == {"embed"}
    assert embed(found, "shops", "two")["shops.rows"].rows == 401


def embed_ref(pipeline, space):
    from flows.steps import version_ref

    return version_ref(pipeline.vectors.space(space).latest(), fresh=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([(", target: y", "")], "names no target. Add target: COLUMN"),
        ([("  shops: [{name", "  shops.c: [{name")], "Give it to shops"),
        ([("one-hot-rows", "one-hot")], "Rows are embedded by one-hot-rows"),
        ([("categories: [c,", "categories: [y,")], "y is there twice"),
        ([('"d e"', "d" * 99)], "yaml:6: spaces.shops: Got the space name 'shops.dddd"),
    ],
)
def test_what_a_pipeline_may_not_ask(folder, changes, says):
    with pytest.raises(InputError) as error:
        load(folder, *changes)
    assert says in str(error.value)


def test_other_columns_make_other_rows(folder):
    embed(load(folder), "plain", "one")
    changed = load(folder, ('[c, "d e"]', "[c]"))
    with pytest.raises(ReplacedError, match=r"41 numbers.*--replace"):
        embed(changed, "plain", "two")
    assert embed(changed, "plain", "three", replace=True)["plain"].dim == 41
    assert embed(load(folder), "plain", "four", replace=True)["plain"].dim == 47


def test_a_column_more_is_learned_where_the_width_stays(folder):
    hashed = ("embedder: one-hot-rows", "embedder: one-hot-rows, params: {buckets: 16}")
    embed(load(folder, hashed, ('[c, "d e"]', "[c]")), "plain", "one")
    found = load(folder, hashed)
    assert embed(found, "plain", "two")["plain"].reused == 0
    assert found.vectors.space("plain").latest().encoder().coding.columns == ("c", "d e")


def test_values_of_another_table_begin_at_what_it_learned(folder):
    other = (folder / "shops.csv").read_text().replace("\nr", "\nother")
    (folder / "others.csv").write_text(other)
    text = PIPELINE.replace("spaces:\n", "  others: {kind: table, path: others.csv, id: id, categories: [c], target: y}\nspaces:\n"
        "  others: {dataset: others, embedder: categories, params: {epochs: 1, lr: 1.0e-9, threads: 1}, start: {space: shops.rows}}\n")  # fmt: skip
    (folder / "polyvec.yaml").write_text(text)
    found = Pipeline.load(folder / "polyvec.yaml")
    embed(found, "shops", "one"), embed(found, "others", "one")
    shops, others = (found.vectors.space(f"{name}.c").latest() for name in ("shops", "others"))
    assert set(found.vectors.space("others.rows").latest().ids).isdisjoint(found.vectors.space("shops.rows").latest().ids)  # fmt: skip
    assert list(shops.ids) == list(others.ids)
    np.testing.assert_allclose(others.matrix, shops.matrix, atol=1e-6)
