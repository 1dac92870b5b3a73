"""Spaces projected into one: cca and contrastive."""

import numpy as np
import pytest

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.fusion.cca import Cca
from embedders.fusion.contrastive import Contrastive
from embedders.fusion.shared import Head, Shared, unit
from embedders.testing import answer
from embedders.views import Views
from evaluation.cross_modal import cross_modal

FAST = {"dim": 8, "epochs": 60, "lr": 0.02, "noise": 0.1, "threads": 1}


def spaces(n=120, names=("said", "looks"), noise=0.05, seed=0, factors=4):
    """Linear views, each of its own width, of the same hidden factors."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, factors))
    ids = [f"слово {i}" for i in range(n)]
    found = {}
    for place, name in enumerate(names):
        mixed = hidden @ rng.normal(size=(factors, 6 + place)) + noise * rng.normal(size=(n, 6 + place)) + 3
        found[name] = Vectors("thing", ids, mixed.astype(np.float32))
    return found


def recall(recipe, found, a="said", b="looks", held=40):
    views = Views.of(found)
    keep = np.arange(len(views)) >= held
    encoder = recipe.fit(views.select(keep))
    left, right = (encoder.project(name, views.vectors[name].matrix[:held]) for name in (a, b))
    return float((((left @ right.T) > (left * right).sum(axis=1)[:, None]).sum(axis=1) < 1).mean())


@pytest.mark.parametrize("recipe", [Cca(dim=4), Contrastive(**FAST), Contrastive(hidden=16, **FAST)], ids=str)
def test_a_view_finds_its_counterpart_among_entities_that_were_not_seen(recipe):
    assert recall(recipe, spaces()) > 0.6  # by chance 1 in 40


@pytest.mark.parametrize("recipe", [Cca(dim=4), Contrastive(**FAST)], ids=str)
def test_three_views_and_entities_that_lack_some(recipe):
    found = spaces(names=("said", "looks", "linked"))
    found["looks"] = Vectors("thing", found["looks"].ids[:90], found["looks"].matrix[:90])
    found["linked"] = Vectors("thing", found["linked"].ids[30:], found["linked"].matrix[30:])
    views = Views.of(found)
    encoder = recipe.fit(views)
    assert encoder.mode["patterns"] == {"said+looks+linked": 60, "said+linked": 30, "said+looks": 30}
    assert encoder.mode["shared"] == {"said+looks": 90, "said+linked": 90, "looks+linked": 60}
    got = answer(encoder, views)
    assert list(got.ids) == list(views.ids)
    alone = encoder.project("said", views.vectors["said"].matrix[:1])
    expected = unit(alone + encoder.project("looks", views.vectors["looks"].matrix[:1]))
    assert np.allclose(got.matrix[0], expected[0], atol=1e-6)
    assert np.allclose(np.linalg.norm(got.matrix, axis=1), 1, atol=1e-5)


def test_cca_of_two_is_that_of_scikit_learn():
    from sklearn.cross_decomposition import CCA

    found = spaces(200, noise=1)
    x, y = (space.matrix.astype(np.float64) for space in found.values())
    encoder = Cca(dim=3, ridge=1e-9).fit(Views.of(found))
    fitted = CCA(3, max_iter=2000, tol=1e-10).fit(x, y)
    theirs = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(part.T for part in fitted.transform(x, y)), strict=True)]
    assert np.allclose(encoder.mode["correlations"], theirs, atol=1e-3)


def test_training_ends_when_held_out_entities_gain_no_more():
    found = spaces(60, noise=2)
    made = []
    recipe = Contrastive(dim=8, epochs=400, lr=0.05, noise=0, patience=3, threads=1)
    early = recipe.fit(Views.of(found), progress=lambda done, total, unit: made.append(done)).mode
    assert len(made) == early["epochs"] + 3 < 400
    assert early["held_out_loss"] > 0
    assert Contrastive(**{**FAST, "held_out": 0}).fit(Views.of(found)).mode["epochs"] == FAST["epochs"]


@pytest.mark.parametrize("recipe", [Cca(dim=1), Contrastive(**{**FAST, "dim": 1})], ids=str)
def test_one_dimension(recipe):
    got = answer(recipe.fit(Views.of(spaces(30))), Views.of(spaces(30)))
    assert got.matrix.shape == (len(got.ids), 1) and set(np.abs(got.matrix).ravel()) == {1.0}
    assert len(got.ids) + len(got.rejected) == 30  # where two heads point against each other nothing is left


@pytest.mark.parametrize("recipe", [Cca(dim=2), Contrastive(**FAST)], ids=str)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: {**f, "flat": Vectors("thing", f["said"].ids, np.full((120, 3), 0.1, np.float32))}, "'flat', whose 120 vectors are all equal"),
        (lambda f: {n: Vectors("thing", v.ids[:1], v.matrix[:1]) for n, v in f.items()}, "shares fewer than two ids"),
        (lambda f: {**f, "far": Vectors("thing", [*"abcdef", f["said"].ids[0]], f["said"].matrix[:7])}, "'far', which shares fewer than two"),
    ],
)  # fmt: skip
def test_views_that_teach_nothing(recipe, change, says):
    with pytest.raises(InputError, match=says):
        recipe.fit(Views.of(change(spaces())))


def test_more_directions_than_there_are():
    with pytest.raises(InputError, match="Got dim: 20, and the spaces said, looks correlate in 6 directions"):
        Cca(dim=20).fit(Views.of(spaces()))


def test_an_entity_of_which_nothing_is_left_is_rejected():
    """One stands at the mean of its space, one has heads that point against each other."""
    none = np.empty(0, np.float32)
    heads = {
        "a": Head(np.float32([1, 1]), (np.eye(2, dtype=np.float32),), none),
        "b": Head(np.float32([0, 0]), (-np.eye(2, dtype=np.float32),), none),
    }
    encoder = Shared(Cca(dim=2), heads, mode={"entity": "thing"})
    views = Views.of(
        {
            "a": Vectors("thing", ["mean", "against", "fine"], np.float32([[1, 1], [2, 1], [1, 2]])),
            "b": Vectors("thing", ["against", "fine"], np.float32([[5, 0], [5, 0]])),
        }
    )
    got = answer(encoder, views)
    assert (list(got.ids), list(got.rejected)) == (["fine"], ["mean", "against"])


def test_projecting_what_does_not_fit():
    encoder = Cca(dim=2).fit(Views.of(spaces()))
    with pytest.raises(InputError, match="the space 'x'; expected one of those it was made of: said, looks"):
        encoder.project("x", np.zeros((1, 6), np.float32))
    with pytest.raises(InputError, match=r"shape \(1, 5\) of 'said'; expected \(n, 6\)"):
        encoder.project("said", np.zeros((1, 5), np.float32))


def test_views_of_some_entities():
    found = spaces(6)
    found["looks"] = Vectors("thing", found["looks"].ids[2:], found["looks"].matrix[2:])
    some = Views.of(found).select(np.array([True, False, False, True, False, True]))
    assert list(some.ids) == [found["said"].ids[row] for row in (0, 3, 5)]
    assert {name: rows.tolist() for name, rows in some.rows.items()} == {"said": [0, 1, 2], "looks": [-1, 0, 1]}
    assert np.array_equal(some.vectors["looks"].matrix, found["looks"].matrix[[1, 3]])


# ---- the evaluation


def test_ranks_by_hand():
    here = np.ones(3, bool)
    a = np.eye(3, dtype=np.float32)
    b = np.float32([[1, 0, 0], [1, 0.9, 0], [0, 0.5, 0.1]])
    report = cross_modal({"a": (a, here), "b": (b, here)})
    assert report.headline.metric == "recall@10" and report.value("recall@10") == 1 == report.value("chance")
    assert report.value("recall@1[a>b]") == pytest.approx(2 / 3)  # ranks 1, 2 (row 2 is nearer) and 1
    assert report.value("recall@1[b>a]") == pytest.approx(1 / 3)  # ranks 1, 2 and 2
    assert report.value("recall@1") == pytest.approx(0.5)
    assert (report.value("median_rank[a>b]"), report.value("median_rank[b>a]")) == (1, 2)


def test_equal_candidates_share_their_ranks():
    here = np.ones(21, bool)
    same = np.ones((21, 2), np.float32)
    report = cross_modal({"a": (same, here), "b": (same, here)})
    assert report.value("median_rank") == 11
    assert report.value("recall@10") == 0


def test_only_what_both_views_hold_is_asked():
    rng = np.random.default_rng(0)
    matrix = unit(rng.normal(size=(50, 4)))
    half = np.arange(50) < 20
    report = cross_modal({"a": (matrix, np.ones(50, bool)), "b": (matrix, half), "c": (matrix, ~half)})
    assert report.notes["directions"] == {"a>b": 20, "a>c": 30, "b>a": 20, "c>a": 30}
    assert report.value("chance") == pytest.approx((10 / 20 + 10 / 30) / 2)
    assert report.value("recall@1") == 1


def test_chance_is_chance():
    rng = np.random.default_rng(0)
    views = {name: (unit(rng.normal(size=(2000, 4))), np.ones(2000, bool)) for name in "ab"}
    report = cross_modal(views)
    assert report.value("recall@10") == pytest.approx(report.value("chance"), abs=0.004)
    assert report.value("median_rank") == pytest.approx(1000, rel=0.1)


def test_nothing_in_common():
    here = np.array([True, False])
    with pytest.raises(InputError, match="no two of which have two entities in common"):
        cross_modal({"a": (np.eye(2, dtype=np.float32), here), "b": (np.eye(2, dtype=np.float32), ~here)})
