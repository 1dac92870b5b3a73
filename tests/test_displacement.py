"""How far rows moved, and Procrustes alignment: against plain formulas, scipy and motions that are known."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from embedders.errors import InputError
from evaluation import displacement as module
from evaluation.displacement import aligned, displacement, procrustes

SIMILARITIES = ["cosine", "dot", "l2"]


def normal(n, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def rotation(dim, seed=0, sign=1):
    """An orthogonal matrix with determinant `sign`."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    turn[0] *= sign * np.linalg.det(turn)
    assert np.linalg.det(turn) == pytest.approx(sign)
    return turn


@pytest.fixture(params=[3, 16_384], ids=["blocks of 3", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", request.param)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_displacement_is_what_the_formula_says(blocks, similarity):
    before, after = normal(20), normal(20, seed=1)
    one, two = before.astype(np.float64), after.astype(np.float64)
    if similarity == "cosine":
        expected = 1 - (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    else:
        expected = np.linalg.norm(one - two, axis=1)
    found = displacement(before, after, similarity)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ([1, 0], [5, 0], 0),
        ([1, 0], [0, 2], 1),
        ([1, 0], [-3, 0], 2),
        ([2, 0], [0.5, 0.75**0.5], 0.5),  # 60 degrees: as unit vectors they are 1 apart
        ([0, 0], [0, 0], 0),
        ([0, 0], [3, 4], 1),
        ([1e-30, 0], [0, 0], 1),
        ([1e-30, 0], [1e-30, 1e-30], 1 - 0.5**0.5),
    ],
)
def test_cosine_displacement_of_known_vectors(one, two, expected):
    found = displacement(np.array([one], np.float32), np.array([two], np.float32), "cosine")
    assert found == pytest.approx([expected], abs=1e-7)


def test_a_change_of_the_last_bit_shows():
    before = normal(50, 128)
    after = before.copy()
    after[:, 0] = np.nextafter(after[:, 0], np.float32(np.inf))
    for similarity in SIMILARITIES:
        found = displacement(before, after, similarity)
        assert (found > 0).all() and (found < 1e-5).all()
    np.testing.assert_array_equal(displacement(before, before, "cosine"), np.zeros(50))


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_turn_is_found_and_taken_out(blocks, similarity, sign):
    before, turn = normal(40), rotation(5, sign=sign)
    after = (before @ turn).astype(np.float32)
    if similarity == "cosine":  # lengths do not matter
        after *= np.random.default_rng(2).uniform(0.1, 9, (40, 1)).astype(np.float32)
    if similarity == "l2":  # nor does a shift
        after += np.array([10, -20, 30, 0, 5], np.float32)
    motion = procrustes(before, after, similarity)
    np.testing.assert_allclose(motion.turn, turn, atol=1e-5)
    assert displacement(before, after, similarity).min() > 0.01
    assert displacement(before, after, similarity, motion).max() < 1e-4


def test_a_shift_stays_under_dot_and_cosine():
    """It changes dot products and cosines, so it is no mere change of coordinates."""
    before = normal(40)
    after = before + np.float32(3)
    for similarity in ("dot", "cosine"):
        motion = procrustes(before, after, similarity)
        assert not motion.start.any() and not motion.end.any()
        assert displacement(before, after, similarity, motion).mean() > 0.1


def test_the_turn_is_the_best_one():
    before, after = normal(30), normal(30, seed=1)
    np.testing.assert_allclose(
        procrustes(before, after, "dot").turn, orthogonal_procrustes(before, after)[0], atol=1e-5
    )
    units = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (before, after)]
    found = procrustes(before, after, "cosine")
    np.testing.assert_allclose(found.turn, orthogonal_procrustes(*units)[0], atol=1e-5)
    np.testing.assert_allclose(found.turn @ found.turn.T, np.eye(5), atol=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_alignment_tells_a_turned_space_from_another_one(similarity):
    before, every = normal(300, 8), np.ones(300, bool)
    after = (before @ rotation(8) + 0.1 * normal(300, 8, seed=1)).astype(np.float32)
    turned = aligned(before, after, similarity, every)
    assert turned.distances.mean() < 0.2 * turned.chance
    other = aligned(before, normal(300, 8, seed=2), similarity, every)
    assert other.distances.mean() == pytest.approx(other.chance, rel=0.05)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_blocks_change_nothing(monkeypatch, similarity):
    before, after = normal(50), normal(50, seed=1)
    fit = np.arange(50) % 5 > 0
    whole = aligned(before, after, similarity, fit)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    found = aligned(before, after, similarity, fit)
    np.testing.assert_allclose(found.distances, whole.distances, rtol=1e-9)
    assert found.chance == pytest.approx(whole.chance, rel=1e-9)


def test_alignment_is_fitted_on_the_rows_it_is_told():
    before = normal(200, 4)
    after = (before @ rotation(4)).astype(np.float32)
    fit = np.arange(200) < 60
    after[~fit] = normal(140, 4, seed=3)
    found = aligned(before, after, "cosine", fit)
    assert found.distances[fit].max() < 1e-6
    assert found.distances[~fit].mean() == pytest.approx(1, abs=0.2)
    assert aligned(before, after, "cosine", np.ones(200, bool)).distances[fit].max() > 1e-4


def test_chance_is_measured_on_some_rows_only(monkeypatch):
    before, after, every = normal(500, 4), normal(500, 4, seed=1), np.ones(500, bool)
    sampled = []
    original = module._fit
    monkeypatch.setattr(module, "_fit", lambda b, *more: sampled.append(len(b)) or original(b, *more))
    all_rows = aligned(before, after, "cosine", every).chance
    monkeypatch.setattr(module, "ROWS_FOR_CHANCE", 100)
    few = aligned(before, after, "cosine", every)
    assert sampled == [500, 500, 500, 100]
    assert few.chance == pytest.approx(all_rows, abs=0.2) and few.chance != all_rows
    assert few.chance == aligned(before, after, "cosine", every).chance  # drawn with a fixed seed
    assert len(few.distances) == 500


def test_read_only_matrices_are_left_as_they_are():
    before, after = normal(30), normal(30, seed=1)
    copies = before.copy(), after.copy()
    before.flags.writeable = after.flags.writeable = False
    for similarity in SIMILARITIES:
        displacement(before, after, similarity)
        aligned(before, after, similarity, np.ones(30, bool))
    np.testing.assert_array_equal(before, copies[0])
    np.testing.assert_array_equal(after, copies[1])


def test_no_rows_moved_nowhere():
    none = np.empty((0, 3), np.float32)
    assert displacement(none, none, "cosine").shape == (0,)
    with pytest.raises(InputError, match="Got no row to align"):
        procrustes(none, none, "cosine")
    with pytest.raises(InputError, match="Got no row to align"):
        aligned(normal(3), normal(3), "cosine", np.zeros(3, bool))


@pytest.mark.parametrize("call", [displacement, procrustes, lambda *a: aligned(*a, np.ones(3, bool))])
def test_what_does_not_match_is_refused(call):
    for other in (normal(3, 4), normal(4, 5), np.zeros(3, np.float32)):
        with pytest.raises(InputError, match=r"Got matrices of shape .* expected two of one shape"):
            call(normal(3, 5), other, "cosine")
    with pytest.raises(InputError, match="similarity='manhattan'; expected one of cosine, dot, l2"):
        call(normal(3), normal(3), "manhattan")
