"""Rows that each thread has a copy of: nothing that a copy learns is lost."""

import numpy as np
import pytest
from numba import njit

from embedders.kernels.centres import CACHE_LINE
from embedders.kernels.copies import LEVELS, Copies, share
from embedders.kernels.skipgram import SEGMENT, SkipGram
from embedders.kernels.threads import run_threads


@njit(nogil=True)
def _add(c, steps, shift, levels, locks, turns, slot):
    """Add one to every copy, `steps` times, merging one row a step."""
    width, hot = c.shape[1], (1 << levels) - 1
    flat = c.reshape(-1)
    for _ in range(steps):
        for k in range(shift, shift + hot * width):
            flat[k] += 1
        share(c, shift, levels, locks, turns, slot)


def added(threads, pieces, steps, *, n=10, width=16):
    copies = Copies(n, threads)
    matrix = np.zeros((n + copies.spare, width), np.float32)
    matrix[:n] = np.arange(n)[:, None]
    copies.begin(matrix)

    def work(slot, piece):
        _add(matrix, steps, copies.shift(slot, width), copies.levels, copies.locks, copies.turns, slot * CACHE_LINE)

    run_threads(work, pieces, threads, lambda: None)
    before = matrix[:n].copy()
    copies.finish(matrix)
    return copies, before - np.arange(n)[:, None], matrix[:n] - np.arange(n)[:, None]


@pytest.mark.parametrize("threads", [2, 3])
def test_merged_rows_are_the_sum_of_what_all_threads_added(threads):
    """Whole numbers below 2^24, so that their sum is exact in any order. Without locks some would be lost."""
    pieces, steps = 30, 10_000
    copies, before, after = added(threads, pieces, steps)
    assert (copies.levels, copies.hot) == (3, 7)
    assert (after[:7] == pieces * steps).all() and not after[7:].any()
    assert before[:7].sum() > 0  # some arrives while threads run, not all at the end


def test_rows_take_turns_as_often_as_the_nodes_of_a_tree_are_met():
    copies = Copies(10, 2)
    matrix = np.zeros((10 + copies.spare, 16), np.float32)
    shift, merged = copies.shift(1, 16), []
    copies.begin(matrix)
    for _ in range(24):
        _add(matrix, 1, shift, copies.levels, copies.locks, copies.turns, CACHE_LINE)
        copy, base = matrix.reshape(-1)[shift : shift + 14 * 16].reshape(2, 7, 16)
        merged += np.flatnonzero((copy == base).all(axis=1)).tolist()
    assert merged == [0, 1, 3, 0, 2, 4, 0, 1, 5, 0, 2, 6] * 2
    assert (matrix[0] == 22).all()  # merged at step 22


def test_a_row_that_another_thread_is_at_waits_for_its_next_turn():
    copies = Copies(3, 2)
    matrix = np.zeros((3 + copies.spare, 16), np.float32)
    copies.begin(matrix)
    copies.locks[0] = 1
    _add(matrix, 3, copies.shift(0, 16), copies.levels, copies.locks, copies.turns, 0)
    assert copies.levels == 1 and not matrix[0].any()
    copies.locks[0] = 0
    _add(matrix, 1, copies.shift(0, 16), copies.levels, copies.locks, copies.turns, 0)
    assert (matrix[0] == 4).all() and not copies.locks.any()


@pytest.mark.parametrize(
    ("n", "threads", "levels"), [(1, 4, 0), (2, 4, 1), (3, 2, 1), (4, 2, 2), (10**6, 2, LEVELS), (9, 1, 0)]
)
def test_there_are_no_more_copies_than_rows_and_none_on_one_thread(n, threads, levels):
    copies = Copies(n, threads)
    assert copies.levels == levels and copies.hot < n
    assert (copies.shift(0, 16) is None) == (levels == 0) == (copies.spare == 0)


@pytest.mark.parametrize("cbow", [False, True], ids=["skipgram", "cbow"])
def test_threads_teach_the_tree_what_one_thread_does(cbow):
    """Frozen words, and steps too small to change an answer: then the nodes' steps add up in any order."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(256, size=8 * SEGMENT).astype(np.int32)
    offsets = np.append(np.arange(0, len(tokens), 50), len(tokens)).astype(np.int64)
    start = rng.standard_normal((256, 16)).astype(np.float32)

    def nodes(threads):
        trained = SkipGram(
            np.bincount(tokens, minlength=256), 16, 3, 5, 1e-9, 10**15, threads, 0,
            start=start, frozen=np.ones(256, bool), cbow=cbow, hs=True,
        )  # fmt: skip
        for _ in range(2):
            trained.train(tokens, offsets)
        assert np.array_equal(trained.matrix, start)
        return trained.context

    one, four = nodes(1), nodes(4)
    assert not one[255].any() and np.abs(one[:255]).max(axis=1).min() > 0  # 255 nodes, each of which has copies
    np.testing.assert_allclose(four, one, atol=1e-3 * np.abs(one).max())
