"""The evaluation of recommendations, as a function of vectors and through a pipeline file."""

import json

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.interaction.als import Als
from evaluation.base import Report, Score
from evaluation.holding_out import Split, hold_out
from evaluation.ranking import averaged, ranking
from flows.evaluations import Ranking
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.ranking import rank
from flows.report import headline
from flows.steps import evaluate_space, version_ref
from tests.helpers_store import edit, run_steps
from tests.test_holding_out import interactions, many


def of_names(entity, rows):
    return Vectors(entity, list(rows), np.array([rows[name] for name in rows], np.float32).reshape(len(rows), -1))


def values(report):
    return {score.metric: score.value for score in report.scores}


def test_worked_by_hand():
    """Users a and b; items w to z. a met w, then x and z; b met y, then v, which nobody met in training."""
    data = interactions("aw by cw cx ax az bv cy cz")
    train, held = data.select(np.array([0, 1, 2, 3, 7, 8])), data.select(np.array([4, 5, 6]))
    users = of_names("user", {"a": [1.0], "b": [1.0], "c": [1.0]})
    items = of_names("item", {"w": [9.0], "x": [1.0], "y": [3.0], "z": [2.0]})
    report = ranking(users, items, Split(train, held, {"split": "given"}), k=3)
    # a: y z x, hits at 2 and 3 of 2; b: w z x, no hit of 1
    dcg, ideal = 1 / np.log2(3) + 1 / np.log2(4), 1 + 1 / np.log2(3)
    found = values(report)
    assert found["ndcg@3"] == pytest.approx(dcg / ideal / 2)
    assert found["recall@3"] == 0.5
    assert found["map@3"] == pytest.approx((1 / 2 + 2 / 3) / 2 / 2)
    assert found["coverage@3"] == 1.0
    # w and y were met by two, x and z by one: a: y, then x and z; b: w, then x and z
    assert found["ndcg@3[popularity]"] == pytest.approx(dcg / ideal / 2)
    notes = report.notes
    assert {name: notes[name] for name in ("n", "items", "held_out", "held_out_of_new_items", "strangers")} == {
        "n": 2, "items": 4, "held_out": 3, "held_out_of_new_items": 1, "strangers": 0
    }  # fmt: skip
    assert notes["split"] == "given"


def test_agrees_with_another_library():
    """scikit-learn's nDCG of the same scores; recall by sets."""
    from sklearn.metrics import ndcg_score

    data = many()
    split = hold_out(data, seed=1)
    rng = np.random.default_rng(5)
    users = Vectors("user", data.users, rng.normal(size=(100, 4)).astype(np.float32))
    items = Vectors("item", data.items, rng.normal(size=(80, 4)).astype(np.float32))
    report = ranking(users, items, split, k=7)
    scores = users.matrix.astype(float) @ items.matrix.T.astype(float)
    scores[split.train.user, split.train.item] = -1e9
    scores[:, np.bincount(split.train.item, minlength=80) == 0] = -1e9
    truth = np.zeros((100, 80))
    truth[split.held.user, split.held.item] = 1
    truth, scores = truth[truth.any(axis=1)], scores[truth.any(axis=1)]
    assert values(report)["ndcg@7"] == pytest.approx(ndcg_score(truth, scores, k=7, ignore_ties=True))
    best = np.argsort(-scores, axis=1)[:, :7]
    recall = [len(set(line) & set(np.flatnonzero(own))) / own.sum() for line, own in zip(best, truth, strict=True)]
    assert values(report)["recall@7"] == pytest.approx(np.mean(recall))
    assert values(report)["coverage@7"] == len(np.unique(best)) / report.notes["items"]
    metric = {score.metric: score for score in report.scores}["recall@7"]
    assert metric.high - metric.value == pytest.approx(1.96 * np.std(recall, ddof=1) / len(recall) ** 0.5)


def test_users_and_items_without_vectors_are_misses():
    data = interactions("aw ax bw by cw cx dx")
    split = Split(data.select(np.array([0, 2, 4, 6])), data.select(np.array([1, 3, 5])), {})
    users, items = {"a": [1.0], "b": [1.0], "c": [1.0]}, {"w": [2.0], "x": [1.0]}
    whole = values(ranking(of_names("user", users), of_names("item", items), split, k=1))
    assert whole["recall@1"] == pytest.approx(2 / 3)  # y is in no training
    del users["c"]
    report = ranking(of_names("user", users), of_names("item", items), split, k=1)
    assert values(report)["recall@1"] == pytest.approx(1 / 3)
    assert (report.notes["without_vector"], report.notes["n"]) == (1, 3)
    del items["x"]
    report = ranking(of_names("user", users), of_names("item", items), split, k=1)
    assert (values(report)["recall@1"], report.notes["items_without_vector"]) == (0, 1)
    with pytest.raises(InputError, match="among them 2 of the users to be judged and 0 of the items"):
        ranking(of_names("user", users), of_names("item", {"v": [1.0]}), split)


def test_users_who_are_new_after_the_split_are_counted_and_not_judged():
    data = interactions("aw bw bx ax cw cx")
    split = hold_out(data, "time", share=0.5)
    users, items = of_names("user", {"a": [1.0], "b": [1.0]}), of_names("item", {"w": [1.0], "x": [1.0]})
    report = ranking(users, items, split)
    assert (report.notes["n"], report.notes["strangers"], values(report)["ndcg@10"]) == (1, 1, 1)
    alone = Split(data.select(np.arange(3)), data.select(np.array([4])), {})
    with pytest.raises(InputError, match="1 users with events held out, none of whom"):
        ranking(users, items, alone)


def test_equal_scores_tell_nothing_of_the_items():
    """A vector of zeros ranks at random, not by the order of the file, in which what is popular stands first."""
    data = many()
    users, items = Vectors("user", data.users, np.zeros((100, 1), np.float32)), Vectors("item", data.items, np.zeros((80, 1), np.float32))  # fmt: skip
    found = [values(ranking(users, items, hold_out(data, seed=seed), seed=seed))["recall@10"] for seed in range(30)]
    assert len(set(found)) > 20
    assert np.mean(found) == pytest.approx(10 / (80 - 0.75 * 25), abs=0.05)


def test_at_most_so_many_users_are_judged():
    data = many()
    split = hold_out(data)
    users, items = Vectors("user", data.users, np.ones((100, 1), np.float32)), Vectors("item", data.items, np.ones((80, 1), np.float32))  # fmt: skip
    one, same, other = (ranking(users, items, split, at_most=20, seed=seed) for seed in (0, 0, 1))
    assert (one.notes["n"], one.notes["users"]) == (20, 100)
    assert values(one) == values(same) != values(other)


def test_the_mean_of_repeats():
    reports = [Report((Score("a", v, v - 0.1, v + 0.2), Score("b", 1.0)), {"n": 3}) for v in (0.25, 0.75)]
    found = averaged(reports)
    assert found.scores == (Score("a", 0.5, 0.4, pytest.approx(0.7)), Score("b", 1.0))
    assert found.notes == {"n": 3, "repeats": [0.25, 0.75]}


# Through a pipeline file

PIPELINE = """\
store: ./vectors
datasets:
  visits: {kind: interactions, path: visits.tsv}
  links: {kind: graph, edges: visits.tsv}
spaces:
  club: {dataset: visits, embedder: als, params: {dim: 3, regularization: 0.1, iterations: 5, threads: 1}}
  nodes: {dataset: links, embedder: prone, params: {dim: 3}}
evaluate:
  club: [{name: rank, metric: ranking, k: 3, repeats: 2}]
"""


@pytest.fixture
def file(tmp_path):
    """Two tastes: each user meets most items of one."""
    rng = np.random.default_rng(0)
    lines = [
        f"user {u}\t{taste} {i}"
        for u in range(30)
        for taste in [("tea", "rock")[u % 2]]
        for i in rng.permutation(9)[:8]
    ]
    rng.shuffle(lines)
    (tmp_path / "visits.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path / "polyvec.yaml"


def metrics(file, number="latest"):
    store = Pipeline.load(file).vectors
    return store.metrics(store.space("club.users").version(number))


def test_a_recipe_is_judged_by_events_held_out(file):
    pipeline = Pipeline.load(file)
    found = rank(pipeline, "club", pipeline.recipe("club"), Ranking(name="r", metric="ranking", k=3))
    assert found.value("ndcg@3") > 0.7 > found.value("ndcg@3[popularity]") + 0.1
    assert (found.notes["n"], found.notes["train"], found.notes["held_out"]) == (30, 180, 60)
    assert len(set(found.notes["repeats"])) == 3
    assert not pipeline.vectors.spaces()  # no version is needed
    again = rank(pipeline, "club.items", pipeline.recipe("club"), Ranking(name="r", metric="ranking", k=3))
    assert again == found


def test_the_training_never_sees_what_is_held_out(file, monkeypatch):
    trained = []
    real = Als.fit
    monkeypatch.setattr(Als, "fit", lambda self, data, **more: trained.append((self.seed, data)) or real(self, data))
    pipeline = Pipeline.load(file)
    recipe = pipeline.recipe("club").model_copy(update={"seed": 7})
    asked = Ranking(name="r", metric="ranking", k=3, repeats=2, seed=3)
    outer = rank(pipeline, "club", recipe, asked)
    inner = rank(pipeline, "club", recipe, asked, inner=True)

    def names(data):
        return {(data.users[u], data.items[i]) for u, i in zip(data.user, data.item, strict=True)}

    assert [seed for seed, _ in trained] == [7, 8, 7, 8]
    assert [len(names(data)) for _, data in trained] == [180, 180, 120, 120]  # of 8 a user, 6, then 4 (4.5 rounded)
    for (_, whole), (_, part) in zip(trained[:2], trained[2:], strict=True):
        assert names(part) < names(whole)
    assert names(trained[0][1]) != names(trained[1][1])
    assert (outer.notes["held_out"], inner.notes["held_out"]) == (60, 60)
    assert inner.value("ndcg@3") != outer.value("ndcg@3")


def test_scores_are_recorded_and_shown(file):
    run_steps(file, only=["club"])
    rows = metrics(file)
    assert [row["metric"] for row in rows] == [
        f"{name}@3{of}" for of in ("", "[popularity]") for name in ("ndcg", "recall", "map", "coverage")
    ]
    assert json.loads(rows[0]["notes"])["split"] == "random"
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]
    pipeline = Pipeline.load(file)
    version = pipeline.vectors.space("club.users").latest()
    line = headline(evaluate_space(pipeline, version_ref(version, fresh=False), "rank"))
    assert line.startswith("rank ndcg@3 ") and ", recall@3 " in line and "(popularity 0." in line
    assert line.count("popularity") == 1


def test_another_evaluation_judges_again_and_trains_nothing(file):
    run_steps(file, only=["club"])
    assert make_plan(Pipeline.load(file), only=["club"]).idle
    edit(file, "repeats: 2", "repeats: 2, split: time")
    plan = make_plan(Pipeline.load(file), only=["club"])
    assert [(s.action, s.evaluations) for s in plan.spaces] == [("up to date", ("rank",)), ("up to date", ())]
    run_steps(file, only=["club"])
    assert len(metrics(file)) == 16
    notes = [json.loads(row["notes"]) for row in metrics(file) if row["notes"]]
    assert [note.get("order") for note in notes] == [None, "file"]


def test_other_events_train_and_judge_anew(file):
    run_steps(file, only=["club"])
    visits = file.parent / "visits.tsv"
    visits.write_text(visits.read_text() + "user 1\ttea 1\n")
    pipeline = Pipeline.load(file)
    version = pipeline.vectors.space("club.users").latest()
    with pytest.raises(
        InputError, match="before it changed; expected what it is now, or its recipe would be judged on"
    ):
        evaluate_space(pipeline, version_ref(version, fresh=False), "rank")
    run_steps(file, only=["club"])
    assert len(metrics(file, 1)) == len(metrics(file, 2)) == 8


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("  club: [{name", "  nodes: [{name", "got ranking, and 'prone' of nodes does not learn users and items"),
        ("k: 3", "k: 0", "greater than or equal to 1"),
        ("k: 3", "split: randomly", "'random', 'time' or 'leave-last-out'"),
        ("k: 3", "share: 1", "less than 1"),
        ("k: 3", "split: leave-last-out, share: 0.5", "no share beside split: leave-last-out"),
        ("k: 3", "depth: 3", "unknown key 'depth'"),
    ],
)
def test_wrong_entries(file, before, after, says):
    edit(file, before, after)
    with pytest.raises(InputError) as error:
        Pipeline.load(file)
    assert says in str(error.value) and "polyvec.yaml:9" in str(error.value).replace("yaml:10", "yaml:9")


@pytest.mark.slow
def test_movielens(shared_data, tmp_path):
    """Popularity is known to reach 0.248 and ALS with these options 0.450 (means of three other splits)."""
    import gzip

    source = shared_data("useritem_movielens_100k") / "u.data.gz"
    (tmp_path / "ratings.tsv").write_bytes(gzip.decompress(source.read_bytes()))
    (tmp_path / "polyvec.yaml").write_text(
        "datasets:\n  ratings: {kind: interactions, path: ratings.tsv, columns: {user: 1, item: 2, weight: 3, time: 4}}\n"
        "spaces:\n  taste: {dataset: ratings, embedder: als, params: {dim: 50, alpha: 2, regularization: 10, iterations: 15}}\n"
    )
    pipeline = Pipeline.load(tmp_path / "polyvec.yaml")
    found = rank(pipeline, "taste", pipeline.recipe("taste"), Ranking(name="r", metric="ranking"))
    assert found.value("ndcg@10") == pytest.approx(0.450, abs=0.01)
    assert found.value("ndcg@10[popularity]") == pytest.approx(0.248, abs=0.01)
    assert (found.notes["n"], found.notes["train"] + found.notes["held_out"]) == (943, 100_000)
