"""bpr, lightgcn and item2vec: what they learn, what they do with ugly input, and how new rows are folded in."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.interaction.baskets import baskets, seconds
from embedders.interaction.folding import NO_KNOWN
from embedders.interactions import Interactions
from embedders.kernels.bpr import learn_triples, rank, slopes
from embedders.kernels.shuffle import shuffle_within
from embedders.kernels.triples import Triples
from embedders.registry import embedder_class
from embedders.testing_data import interactions_example
from evaluation.holding_out import hold_out

REPO = Path(__file__).resolve().parents[1]
KINDS = {
    "als": {"dim": 8, "regularization": 1.0},
    "bpr": {"dim": 8},
    "lightgcn": {"dim": 8, "steps": 100},
    "item2vec": {"dim": 16, "sample": 0},
}


def made(kind, **params):
    for package in {"als": ["implicit"], "lightgcn": ["torch", "torch_geometric"]}.get(kind, []):
        pytest.importorskip(package)
    return embedder_class(kind)(**{**KINDS[kind], "threads": 1, **params})


def events(pairs, weight=None, time=None, **options):
    """Data of (user, item) names."""
    users, items = (list(dict.fromkeys(pair[k] for pair in pairs)) for k in (0, 1))
    user, item = np.array([[users.index(u), items.index(i)] for u, i in pairs], np.int32).reshape(-1, 2).T
    weight = None if weight is None else np.array(weight, np.float32)
    return Interactions.of(users, items, user, item, weight, None if time is None else np.array(time, float), **options)


def rows_of(side):
    return {name: row for name, row in zip(side.ids, side.matrix, strict=True)}


def scores(encoder):
    users, items = encoder.sides["users"], encoder.sides["items"]
    return users.ids, items.ids, users.matrix @ items.matrix.T


def grown(data, pairs):
    """The data with more events of (user, item) names."""
    old = [(data.users[u], data.items[i]) for u, i in zip(data.user, data.item, strict=True)]
    return events([*old, *pairs])


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_the_own_club_rank_first(kind, tmp_path):
    data = interactions_example(tmp_path).data
    users, items, found = scores(made(kind).fit(data))
    for user, row in zip(users, found, strict=True):
        clubs = [name.split()[0] for _, name in sorted(zip(-row, items, strict=True))]
        assert clubs[:11].count(user.split()[0]) >= 8  # of 10, by chance 5


@pytest.mark.parametrize("kind", KINDS)
def test_more_threads_learn_as_well(kind, tmp_path):
    data = interactions_example(tmp_path).data
    encoder = made(kind, threads=2).fit(data)
    users, items, found = scores(encoder)
    own = np.array([[user.split()[0] == item.split()[0] for item in items] for user in users])
    assert found[own].mean() > found[~own & (np.array(items) != "water")].mean()
    if kind != "als":
        assert encoder.sides["users"].mode["reproducible"] == "no"
        assert made(kind).fit(data).sides["users"].mode["reproducible"] == "bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_no_event(kind):
    with pytest.raises(InputError, match="Got no event"):
        made(kind).fit(Interactions([], [], np.empty(0, np.int32), np.empty(0, np.int32)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "pairs",
    [
        [("u", "x"), ("u", "y")],
        [("u", "x"), ("v", "x")],
        [("Zoë B", "x y"), ("Zoë B", "日本"), ("🦊", "x y"), ("🦊", "日本"), ("", "x y")],
    ],
    ids=["one user", "one item", "users who met everything, odd names"],
)
def test_ugly_data(kind, pairs):
    data = events(pairs)
    if kind == "item2vec" and len(data.items) == 1:
        with pytest.raises(InputError, match="Got no two items of one user"):
            made(kind).fit(data)
        return
    encoder = made(kind).fit(data)
    for side, names in (("users", data.users), ("items", data.items)):
        found = encoder.sides[side]
        assert len(found.ids) + sum(found.excluded(data).values()) == len(names)
        assert np.isfinite(found.matrix).all()
        assert set(found.ids) <= set(names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_of_another_width(kind, tmp_path):
    data = interactions_example(tmp_path).data
    start = made("bpr", dim=3, epochs=1).fit(data)
    with pytest.raises(InputError, match=r"Got a start of dimension 3; expected \d+. Set dim"):
        made(kind).fit(data, start=start)


@pytest.mark.parametrize("kind", ["bpr", "lightgcn", "item2vec"])
def test_a_warm_start_stays_near(kind, tmp_path):
    data = interactions_example(tmp_path).data
    first = made(kind).fit(data)
    few = {"bpr": {"epochs": 5, "lr": 0.02}, "item2vec": {"epochs": 3}}.get(kind, {})
    warm = made(kind, seed=1, **few).fit(data.select(np.arange(len(data) - 5)), start=first)
    anew = made(kind, seed=1).fit(data.select(np.arange(len(data) - 5)))

    def moved(other):
        users = other.sides["users"]
        then, now = first.sides["users"].matrix, users.matrix
        return 1 - np.mean((then * now).sum(axis=1) / np.linalg.norm(then, axis=1) / np.linalg.norm(now, axis=1))

    assert moved(warm) < moved(anew) / 3


@pytest.mark.parametrize("kind", ["bpr", "lightgcn", "item2vec"])
def test_new_rows_are_folded_in(kind, tmp_path):
    data = interactions_example(tmp_path).data
    encoder = made(kind).fit(data)
    more = grown(
        data,
        [*[("new", f"tea item {i}") for i in range(5)], ("lost", "unknown"), *[(f"ale user {i}", "stout") for i in range(12, 20)]],
    )  # fmt: skip
    folded = encoder.fold_in(more)
    again = encoder.fold_in(more)
    users, items = folded.sides["users"], folded.sides["items"]
    assert np.array_equal(users.matrix, again.sides["users"].matrix)
    before, now = rows_of(encoder.sides["users"]), rows_of(users)
    assert all(np.array_equal(before[name], now[name]) for name in before)
    assert set(now) - set(before) == {"new"}
    assert dict(users.excluded(more)) == {NO_KNOWN: 1}
    origins = [origin for batch in users.encode(more) for origin in batch.origin]
    assert [name for name, origin in zip(users.ids, origins, strict=True) if origin == "folded_in"] == ["new"]
    ranked = sorted(rows_of(encoder.sides["items"]).items(), key=lambda pair: -float(pair[1] @ now["new"]))
    assert sum("tea" in name for name, _ in ranked[:8]) >= 7
    new_items = set(items.ids) - set(data.items)
    if kind == "item2vec":  # who met it does not tell where an item stands
        assert not new_items and dict(items.excluded(more)) == {NO_KNOWN: 2}
    else:
        assert new_items == {"stout"}
        liked = {name: float(row @ rows_of(items)["stout"]) for name, row in before.items()}
        ale = np.mean([score for name, score in liked.items() if name.startswith("ale")])
        assert ale > np.mean([score for name, score in liked.items() if name.startswith("tea")])
    twice = folded.fold_in(more)  # what was folded in is not taken for trained
    assert np.array_equal(rows_of(twice.sides["users"])["new"], now["new"])


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_that_met_only_each_other(kind, tmp_path):
    data = interactions_example(tmp_path).data
    encoder = made(kind, **{name: 1 for name in ("epochs", "steps") if name in embedder_class(kind).model_fields}).fit(
        data
    )
    more = grown(data, [("lost", "unknown")])
    folded = encoder.fold_in(more)
    for side, names in (("users", data.users), ("items", data.items)):
        assert set(folded.sides[side].ids) == set(names) and not folded.sides[side].untrained
        assert dict(folded.sides[side].excluded(more)) == {NO_KNOWN: 1}


@pytest.mark.parametrize("kind", ["als", "bpr", "lightgcn"])
def test_weights_that_add_up_to_more_than_a_number_can_be(kind):
    data = events([("u", "x"), ("u", "x"), ("v", "y")], [3e38, 3e38, 1])
    with pytest.raises(InputError, match="whose sum is more than a float32 can hold"):
        made(kind, confidence="linear").fit(data)


@pytest.mark.parametrize("params", [{"confidence": "linear"}, {"alpha": 1e300}])
def test_confidences_of_which_nothing_can_be_learned(params):
    with pytest.raises(InputError, match="Got factors that are no numbers"):
        made("als", **params).fit(events([("u", "x"), ("v", "y"), ("v", "x")], [3e38, 3e38, 1]))


def test_a_saved_encoder_folds_in_as_before(tmp_path):
    data = interactions_example(tmp_path).data
    encoder = made("bpr").fit(data)
    more = grown(data, [("new", "tea item 1"), ("new", "tea item 2")])
    encoder.sides["users"].save(tmp_path / "saved")
    loaded = embedder_class("bpr").load(tmp_path / "saved")
    assert np.array_equal(loaded.fold_in(more).matrix, encoder.sides["users"].fold_in(more).matrix)


@pytest.mark.parametrize("kind", ["bpr", "lightgcn"])
def test_weights_count_when_asked(kind):
    pairs = [(f"u{i}", item) for i in range(12) for item in ("a", "b", "c", "d") if (i + ord(item)) % 4]
    weighed = events(pairs, [50.0 if item == "a" else 1.0 for _, item in pairs])
    plain = events(pairs)
    same = made(kind).fit(weighed).sides["items"].matrix, made(kind).fit(plain).sides["items"].matrix
    assert np.array_equal(*same)
    linear = made(kind, confidence="linear")
    assert np.array_equal(linear.fit(plain).sides["items"].matrix, linear.fit(plain).sides["items"].matrix)
    _, items, found = scores(linear.fit(weighed))
    assert items[int(found.mean(axis=0).argmax())] == "a"


def test_duplicates_are_one_pair():
    pairs = [("u", "x"), ("u", "y"), ("v", "x"), ("w", "z")]
    once, often = events(pairs), events([*pairs, ("u", "x"), ("u", "x")])
    assert np.array_equal(made("bpr").fit(once).sides["users"].matrix, made("bpr").fit(often).sides["users"].matrix)


# ---- drawing


def drawn(pairs, n=20_000, users=4, items=6, **options):
    matrix = np.zeros((users, items))
    matrix[tuple(np.array(pairs).T)] = 1
    indptr = np.concatenate([[0], matrix.sum(axis=1).cumsum()]).astype(np.int64)
    triples = Triples(indptr, np.nonzero(matrix)[1].astype(np.int32), items, **options)
    out = np.empty((n, 3), np.int32)
    triples.fill(out, 3, 1)
    return matrix, out, triples


PAIRS = [(0, 0), (0, 3), (1, 1), (2, 0), (2, 1), (2, 2), (2, 4), (2, 5), *[(3, i) for i in range(6)]]


def test_triples_are_what_was_met_and_what_was_not():
    matrix, out, triples = drawn(PAIRS)
    user, item, other = out.T
    assert matrix[user, item].all()
    assert (other[user == 3] == -1).all()  # who met everything
    found = (other[user == 2] >= 0).mean()
    assert found == pytest.approx(1 - (5 / 6) ** 16, abs=0.01)  # who met all but one finds it in sixteen tries
    assert (other[user < 2] >= 0).all()
    known = other >= 0
    assert not matrix[user[known], other[known]].any()
    counts = np.bincount(user * 6 + item)
    assert np.allclose(counts[counts > 0], len(out) / len(PAIRS), rtol=0.15)  # pairs are drawn alike
    of_first = np.bincount(other[user == 0], minlength=6)
    assert np.allclose(of_first[[1, 2, 4, 5]], of_first.sum() / 4, rtol=0.15)  # and items that were not met
    again = np.empty_like(out)
    triples.fill(again, 3, 1)
    assert np.array_equal(out, again)
    triples.fill(again, 3, 2)
    assert not np.array_equal(out, again)


def test_pairs_are_drawn_as_they_weigh():
    weights = np.arange(len(PAIRS), dtype=np.float32)
    _, out, _ = drawn(PAIRS, n=100_000, weights=weights)
    counts = {pair: 0 for pair in PAIRS}
    for user, item in out[:, :2].tolist():
        counts[user, item] += 1
    assert np.allclose(list(counts.values()), 100_000 * weights / weights.sum(), rtol=0.1, atol=60)


# ---- learning


def numbers(rows=3, width=16, seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, (rows, width)).astype(np.float32)


def loss_of(w, h, triples):
    return sum(np.log1p(np.exp(-(w[u] @ (h[i] - h[j])))) for u, i, j in triples if j >= 0)


TRIPLES = np.array([[0, 1, 2], [1, 0, 2], [2, 2, -1], [0, 2, 1]], np.int32)


def test_slopes_are_those_of_the_loss():
    w, h = numbers(), numbers(seed=1)
    gw, gh = np.zeros_like(w), np.zeros_like(h)
    loss = slopes(w, h, TRIPLES, gw, gh)
    wide = w.astype(float), h.astype(float)
    assert loss == pytest.approx(loss_of(*wide, TRIPLES), rel=1e-5)
    for side, slope in ((0, gw), (1, gh)):
        for place in ((0, 3), (1, 7), (2, 15)):
            values = []
            for step in (1e-5, -1e-5):
                moved = [part.copy() for part in wide]
                moved[side][place] += step
                values.append(loss_of(*moved, TRIPLES))
            assert slope[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-4)


def test_a_step_goes_down_the_slope_and_back_to_zero():
    w, h = numbers(), numbers(seed=1)
    gw, gh = np.zeros_like(w), np.zeros_like(h)
    one = TRIPLES[:1]
    slopes(w, h, one, gw, gh)
    learned = w.copy(), h.copy()
    learn_triples(*learned, one, 3, 3, np.float32(0.1), np.float32(0), np.float32(0.5), np.zeros((1, 2)), 0)
    touched = np.array([[True], [False], [False]]), np.array([[False], [True], [True]])
    for then, now, slope, rows in zip((w, h), learned, (gw, gh), touched, strict=True):
        assert np.allclose(now, then - 0.1 * (slope + 0.5 * then * rows), atol=1e-5)


def test_rows_that_are_not_free_stay():
    w, h = numbers(), numbers(seed=1)
    for free in ((0, 3), (3, 0), (1, 2)):
        learned = w.copy(), h.copy()
        learn_triples(*learned, TRIPLES, *free, np.float32(0.1), np.float32(0), np.float32(0), np.zeros((1, 2)), 0)
        for then, now, count in zip((w, h), learned, free, strict=True):
            assert np.array_equal(then[count:], now[count:])
            assert not count or not np.array_equal(then[:count], now[:count])


def test_the_rate_falls_and_the_loss_too():
    _, _, triples = drawn(PAIRS)
    w, h = numbers(4), numbers(6, seed=1)
    told = []
    users, items, losses = rank(
        w, h, [(triples, 200_000)], free=(4, 6), lr=0.05, regularization=0.01, seed=0, threads=1,
        progress=lambda done, total, unit: told.append((done, total)),
    )  # fmt: skip
    assert losses[-1] < losses[0] / 2
    assert told[-1] == (200_000, 200_000)
    matrix = np.zeros((4, 6))
    matrix[tuple(np.array(PAIRS).T)] = 1
    found = users @ items.T
    assert all(found[u][matrix[u] > 0].min() > found[u][matrix[u] == 0].max() for u in range(3))


# ---- baskets


def test_lengths_of_time():
    assert [seconds(text) for text in ("30min", "1.5 h", "2d", "45 s")] == [1800, 5400, 172_800, 45]
    assert made("item2vec", session_gap="30min").session_gap == made("item2vec", session_gap=1800).session_gap
    for wrong in ("soon", "30", "-3min", 0, -1):
        with pytest.raises(ValueError, match=r"expected seconds|greater than 0"):
            made("item2vec", session_gap=wrong)


def test_baskets_of_users_and_of_sessions():
    pairs = [("a", "x"), ("b", "x"), ("a", "y"), ("a", "y"), ("a", "x"), ("b", "z"), ("c", "x")]
    data = events(pairs, time=[0, 1, 10, 11, 2000, 5000, 5001])

    def named(**options):
        found = baskets(data, **options)
        names = [data.items[i] for i in found.items]
        return ["".join(names[a:b]) for a, b in itertools.pairwise(found.offsets)]

    assert named(gap=None, ordered=False) == ["xy", "xz"]
    assert named(gap=None, ordered=True) == ["xyx", "xz"]
    assert named(gap=60, ordered=False) == ["xy"]
    assert named(gap=1990, ordered=True) == ["xyx"]
    with pytest.raises(InputError, match="Got no two items of one user, no longer than 5 seconds apart"):
        baskets(data, 5, ordered=True)
    with pytest.raises(InputError, match="session_gap for events without a time"):
        baskets(replace(data, time=None), 5, ordered=True)


def test_items_that_stood_alone_are_left_out():
    pairs = [("a", "x"), ("a", "y"), ("b", "y"), ("b", "x"), ("c", "alone"), ("d", "x")]
    data = events(pairs)
    encoder = made("item2vec", dim=4).fit(data)
    users, items = encoder.sides["users"], encoder.sides["items"]
    assert (list(items.ids), list(users.ids)) == (["x", "y"], ["a", "b", "d"])
    assert dict(items.excluded(data)) == {"never beside another item": 1}
    assert dict(users.excluded(data)) == {"met no item that stood beside another": 1}
    assert np.allclose(np.linalg.norm(users.matrix, axis=1), 1, atol=1e-6)
    assert np.allclose(rows_of(users)["d"], rows_of(items)["x"], atol=1e-6)
    mean = rows_of(items)["x"] + rows_of(items)["y"]
    assert np.allclose(rows_of(users)["a"], mean / np.linalg.norm(mean), atol=1e-6)


def test_shuffling_stays_within_baskets():
    tokens, offsets = np.arange(1000, dtype=np.int32), np.array([0, 1, 500, 1000], np.int64)
    places, stayed = np.zeros(499), 0
    for round_ in range(300):
        found = tokens.copy()
        shuffle_within(found, offsets, np.uint64(round_ * 7919))
        assert [set(found[a:b]) == set(range(a, b)) for a, b in itertools.pairwise(offsets)] == [True] * 3
        places += np.argsort(found[1:500])
        stayed += int((found[1:] == tokens[1:]).sum())
    assert np.abs(places / 300 - 249).max() < 40  # every item is as often early as late
    assert 1.5 < stayed / 300 < 2.5  # of a basket one item stays where it was, on average


# ---- propagation


def test_who_met_all_there_is_pulls_at_nothing():
    """A triple without an item that was not met is none."""
    from embedders.interaction.lightgcn import Network

    torch = pytest.importorskip("torch")
    network = Network(made("lightgcn", regularization=1.0), events([("u", "x"), ("u", "y"), ("v", "y")]).matrix())
    first = torch.nn.Parameter(torch.from_numpy(numbers(4, 8)))
    network._module = [first]
    slopes_of = []
    for last in ([], [[0, 1, -1]] * 3):
        first.grad = None
        network._loss(np.array([[1, 1, 0], *last], np.int32)).backward()
        slopes_of.append(first.grad.numpy() * (1 + len(last)))  # of the mean
    assert np.allclose(*slopes_of)


def test_lightgcn_is_the_mean_of_its_layers(tmp_path):
    """Equations 3 and 4 of the paper, densely."""
    data = interactions_example(tmp_path).data
    encoder = made("lightgcn", layers=2).fit(data)
    met = (data.matrix().toarray() > 0).astype(float)
    n = len(data.users)
    graph = np.block([[np.zeros((n, n)), met], [met.T, np.zeros((met.shape[1],) * 2)]])
    root = graph.sum(axis=1) ** -0.5
    graph *= root[:, None] * root
    first = np.concatenate([encoder.sides[side].first for side in ("users", "items")]).astype(float)
    expected = (first + graph @ first + graph @ (graph @ first)) / 3
    found = np.concatenate([encoder.sides[side].matrix for side in ("users", "items")])
    assert np.allclose(found, expected, atol=1e-5)
    one = met[0] / np.sqrt(met[0].sum()) @ (root[n:, None] * (first + graph @ first)[n:]) / 3  # nothing of its own
    fewer = replace(
        encoder.sides["users"], ids=data.users[1:], matrix=encoder.sides["users"].matrix[1:],
        first=encoder.sides["users"].first[1:],
    )  # fmt: skip
    assert np.allclose(fewer.fold_in(data).matrix[0], one, atol=1e-5)


def test_lightgcn_goes_on_from_what_its_layers_begin_with(tmp_path):
    """An eighth of the steps at a quarter of the rate; a step of Adam is at most the rate long."""
    data = interactions_example(tmp_path).data
    first = made("lightgcn").fit(data)
    warm = made("lightgcn", steps=8, lr=0.02).fit(data, start=first)
    for side in ("users", "items"):
        moved = np.abs(warm.sides[side].first - first.sides[side].first).max()
        assert 0 < moved < 0.0051


def test_new_items_are_drawn_as_often_as_in_training():
    recipe = made("bpr", epochs=10)
    lacking = ("new", "a", "b", "c")
    data = events([(f"u{i}", item) for i in range(20) for item in lacking if item != lacking[i % 4]])
    matrix = data.matrix()
    matrix.sort_indices()
    new = data.items.index("new")
    order = np.argsort(np.arange(4) != new, kind="stable")
    (met, as_met), (not_met, as_not) = recipe._of_items(matrix[:, order], 1)
    assert (as_met, as_not) == (10 * int((data.item == new).sum()), 10 * len(data) // 4)
    out = np.empty((1000, 3), np.int32)
    met.fill(out, 0)
    assert (out[:, 1] == 0).all() and set(out[:, 2].tolist()) - {-1} == {1, 2, 3}
    not_met.fill(out, 0)
    assert set(out[:, 2].tolist()) == {-1, 0} and set(out[out[:, 2] == 0][:, 1].tolist()) == {1, 2, 3}


# ---- real data


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [("bpr", 0.44), ("lightgcn", 0.44), ("item2vec", 0.40)])
def test_quality_on_movielens(kind, least, shared_data, monkeypatch):
    monkeypatch.syspath_prepend(REPO)
    from benchmarks import interactions

    made(kind)
    split = hold_out(interactions.movielens(shared_data("useritem_movielens_100k")))
    assert interactions.score(interactions.ours(kind, 1), split, 0).value("ndcg@10") >= least


@pytest.mark.slow
def test_a_small_benchmark(shared_data, tmp_path):
    pytest.importorskip("implicit")
    shared_data("useritem_movielens_100k")
    command = [sys.executable, "-m", "benchmarks.interactions", "--small", "--scale", "--threads", "1"]
    done = subprocess.run([*command, "--results", str(tmp_path)], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "interactions.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 8 and all(row["ours"] > 0 for row in rows)
    assert "overhead" in rows[-1]["quality"] and "peak" in rows[-1]["quality"]
