"""The compiled loops against exact distributions and against a plain re-implementation."""

import itertools
import threading
import time

import numpy as np
import pytest
from numba import njit
from scipy.stats import chisquare

from embedders.data import Graph
from embedders.kernels import skipgram
from embedders.kernels.alias import alias_rows, alias_table
from embedders.kernels.centres import CHUNK
from embedders.kernels.huffman import huffman
from embedders.kernels.noise import noise_table
from embedders.kernels.pool import renew
from embedders.kernels.skipgram import SEGMENT, SkipGram
from embedders.kernels.threads import cores, run_threads
from embedders.kernels.walks import PIECE, Walker
from tests.helpers_word2vec import paths_of, reference

TOLERANCE = 1e-4
"""Part of the largest step by which float32 may differ from float64."""

# ---- alias tables


def alias_distribution(keep, other):
    """The exact distribution that an alias table stands for."""
    n = len(keep)
    share = np.zeros(n)
    np.add.at(share, np.arange(n), keep.astype(np.float64) / n)
    np.add.at(share, other, (1 - keep.astype(np.float64)) / n)
    return share


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [1, 1, 1],
        [1e-9, 1, 1e9],
        [0, 0, 5, 0],
        [3, 1, 0, 2],
        list(1 / np.arange(1, 5001)),
        list(np.random.default_rng(0).pareto(1, 1000)),
    ],
    ids=["one", "even", "extreme", "single", "zero", "zipf", "pareto"],
)
def test_alias_table_is_the_distribution(weights):
    weights = np.array(weights, np.float64)
    before = weights.copy()
    keep, other = alias_table(weights)
    assert np.array_equal(weights, before)
    assert keep.dtype == np.float32 and other.dtype == np.int32
    assert ((other >= 0) & (other < len(weights))).all()
    np.testing.assert_allclose(alias_distribution(keep, other), weights / weights.sum(), atol=1e-7, rtol=1e-4)


def test_alias_table_drawn_from_agrees_by_chi_square():
    weights = np.array([5.0, 1, 3, 0.5, 8, 2.5])
    keep, other = alias_table(weights)
    rng = np.random.default_rng(1)
    entry = rng.integers(len(weights), size=200_000)
    drawn = np.where(rng.random(len(entry), np.float32) < keep[entry], entry, other[entry])
    assert chisquare(np.bincount(drawn), weights / weights.sum() * len(drawn)).pvalue > 1e-3


def test_alias_rows_are_one_table_a_row():
    rng = np.random.default_rng(2)
    lengths = [0, 1, 5, 0, 300, 2, 0]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    weights = rng.pareto(1, indptr[-1]).astype(np.float32) + np.float32(0.01)
    indices = rng.integers(1000, size=indptr[-1]).astype(np.int32)
    packed = alias_rows(indptr, indices, weights)
    stay, other = (packed >> np.uint64(32)) / 2**32, packed & np.uint64(0xFFFFFFFF)
    for first, last in itertools.pairwise(indptr):
        if last > first:
            exact, found = np.zeros(1000), np.zeros(1000)
            np.add.at(exact, indices[first:last], weights[first:last] / weights[first:last].sum(dtype=np.float64))
            np.add.at(found, indices[first:last], stay[first:last] / (last - first))
            np.add.at(found, other[first:last].astype(int), (1 - stay[first:last]) / (last - first))
            np.testing.assert_allclose(found, exact, atol=1e-6)


def test_alias_rows_of_nothing():
    assert len(alias_rows(np.zeros(4, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))) == 0


# ---- threads


def nothing():
    pass


def test_run_threads_does_each_piece_once_and_in_order():
    done = []
    run_threads(lambda thread, piece: done.append((thread, piece)), 50, 1, nothing)
    assert done == [(0, piece) for piece in range(50)]
    done.clear()
    run_threads(lambda thread, piece: done.append((thread, piece)), 500, 4, nothing)
    assert sorted(piece for _, piece in done) == list(range(500))
    assert {thread for thread, _ in done} <= set(range(4))


def test_run_threads_runs_at_the_same_time():
    both = threading.Barrier(2, timeout=10)  # breaks unless two pieces wait together
    run_threads(lambda thread, piece: both.wait() and None, 2, 2, nothing)


@pytest.mark.parametrize("threads", [1, 4])
def test_run_threads_without_pieces(threads):
    ticks = []
    run_threads(lambda thread, piece: pytest.fail("there was no piece"), 0, threads, lambda: ticks.append(1))
    assert ticks


def test_run_threads_raises_the_first_failure_and_stops():
    done = []

    def work(thread, piece):
        if piece == 3:
            raise KeyError("piece 3")
        done.append(piece)

    with pytest.raises(KeyError, match="piece 3"):
        run_threads(work, 1_000_000, 1, nothing)
    assert done == [0, 1, 2]
    done.clear()

    def slow(thread, piece):
        if piece == 3:
            raise KeyError("piece 3")
        time.sleep(0.001)
        done.append(piece)

    with pytest.raises(KeyError, match="piece 3"):
        run_threads(slow, 100_000, 3, nothing)
    assert len(done) < 1000


def test_run_threads_stops_when_the_tick_raises():
    """Ctrl-C arrives in the main thread, where the tick runs; no piece runs on afterwards."""
    done = []

    def work(thread, piece):
        time.sleep(0.01)
        done.append(piece)

    def tick():
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_threads(work, 100_000, 2, tick)
    stopped_at = len(done)
    assert threading.active_count() == before
    time.sleep(0.05)
    assert len(done) == stopped_at < 1000


def test_run_threads_ticks_while_it_works():
    ticks = []
    run_threads(lambda thread, piece: time.sleep(0.3), 2, 1, lambda: ticks.append(1))
    assert len(ticks) >= 3


def test_cores_is_at_least_one():
    assert cores() >= 1


# ---- skip-gram


def counted(tokens):
    return np.bincount(tokens[tokens >= 0], minlength=int(tokens.max()) + 1)


def model(tokens, *, dim=16, window=5, negative=5, lr=0.05, threads=1, seed=0, epochs=1, **more):
    return SkipGram(counted(tokens), dim, window, negative, lr, len(tokens) * epochs, threads, seed, **more)


def one_document(tokens):
    return np.array([0, len(tokens)], np.int64)


def expected(tokens, offsets, *, cbow, **options):
    return reference(tokens, offsets, counted(tokens), mean=cbow, **options)


VARIANTS = pytest.mark.parametrize("cbow", [False, True], ids=["skipgram", "cbow"])


@VARIANTS
@pytest.mark.parametrize("dim", [1, 3, 16, 100, 300])
@pytest.mark.parametrize("negative", [1, 5, 6, 10, 11, 20, 0], ids=lambda k: f"ns{k}" if k else "hs")
def test_training_takes_the_steps_of_the_paper(dim, negative, cbow):
    rng = np.random.default_rng(dim * 100 + negative)
    tokens = rng.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, -1], 150).astype(np.int32)
    tokens[:8] = range(8)
    offsets = np.array([0, 1, 40, 40, 43, 150], np.int64)  # a lone word, an empty document, one below the window
    options = {"dim": dim, "window": 4, "negative": negative or 5, "lr": 0.1, "seed": 3, "cbow": cbow}
    options |= {"hs": not negative}
    trained = model(tokens, **options)
    start = trained.matrix.astype(np.float64)
    trained.train(tokens, offsets)
    exact, _ = expected(tokens, offsets, **options)
    moved = np.abs(exact - start).max()
    assert moved > 1e-5
    np.testing.assert_allclose(trained.matrix, exact, atol=TOLERANCE * moved)


@VARIANTS
@pytest.mark.parametrize("negative", [1, 5, 11])
@pytest.mark.parametrize("groups", [[8], [3, 8], [2, 7, 8]], ids=str)
def test_noise_is_drawn_from_the_group_of_the_centre(groups, negative, cbow):
    """One word of its own has no noise; one group is as none."""
    tokens = np.random.default_rng(negative).choice(9, 200).astype(np.int32) - 1
    tokens[:8] = range(8)
    offsets = np.array([0, 150, 200], np.int64)
    options = {"dim": 5, "window": 4, "negative": negative, "lr": 0.1, "seed": 3, "cbow": cbow}
    trained, plain = model(tokens, groups=groups, **options), model(tokens, **options)
    for it in (trained, plain):
        it.train(tokens, offsets)
    exact, _ = expected(tokens, offsets, groups=groups, **options)
    np.testing.assert_allclose(trained.matrix, exact, atol=TOLERANCE)
    assert np.array_equal(trained.matrix, plain.matrix) == (groups == [8])


@pytest.mark.parametrize("negative", [1, 5, 11])
@pytest.mark.parametrize("size", [1, 7, 60])
def test_negatives_are_drawn_from_a_pool(size, negative, monkeypatch):
    """Its rows are replaced as they are used, several times here; the last document asks for more than all of them."""
    monkeypatch.setattr(skipgram, "SIZE", size)
    tokens = np.random.default_rng(negative).choice(41, 700).astype(np.int32) - 1
    offsets = np.array([0, 1, 40, 40, 43, 150, 700], np.int64)
    options = {"dim": 5, "window": 3, "negative": negative, "lr": 0.1, "seed": 3}
    trained, plain = model(tokens, pool=True, **options), model(tokens, **options)
    for it in (trained, plain):
        it.train(tokens, offsets)
    exact, loss = expected(tokens, offsets, cbow=False, pool=size, **options)
    np.testing.assert_allclose(trained.matrix, exact, atol=TOLERANCE)
    assert trained.loss == [pytest.approx(loss, rel=1e-3)]
    assert not np.allclose(trained.matrix, plain.matrix, atol=10 * TOLERANCE)


def test_noise_of_groups_has_no_pool():
    tokens = np.random.default_rng(0).integers(30, size=400).astype(np.int32)
    with_pool, without = (model(tokens, groups=[10, 30], pool=pool) for pool in (True, False))
    for it in (with_pool, without):
        it.train(tokens, one_document(tokens))
    assert np.array_equal(with_pool.matrix, without.matrix)


@njit
def filled(pool, noise, c):
    return renew(pool, len(pool), 0, noise, np.uint64(7), c)


def test_rows_of_a_pool_have_the_distribution_of_the_noise():
    often = np.array([1000, 1000, 81, 16, 1, 0]) ** 0.75
    pool = np.zeros(100_000, np.uint64)
    oldest, _ = filled(pool, noise_table(often), np.zeros((6, 16), np.float32))
    found = np.bincount(pool.astype(np.int64), minlength=6)
    assert oldest == found[5] == 0
    assert chisquare(found[:5], 100_000 * often[:5] / often.sum()).pvalue > 1e-3


def test_a_group_that_is_never_seen():
    """It has noise all the same; rows of others are as without it."""
    tokens = np.array([0, 1, 2] * 20, np.int32)
    trained = SkipGram(np.array([20, 20, 20, 0, 0]), 8, 5, 5, 0.1, len(tokens), 1, 0, groups=[3, 5])
    trained.train(tokens, one_document(tokens))
    assert np.isfinite(trained.matrix).all() and not trained.context[3:].any()


@VARIANTS
@pytest.mark.parametrize("hs", [False, True], ids=["ns", "hs"])
@pytest.mark.parametrize(("tokens", "look"), [(6000, 1), (8192 * 4 + 5, 4)])
def test_the_loss_is_that_of_a_sample_of_the_pairs(tokens, look, cbow, hs):
    tokens = np.random.default_rng(5).integers(40, size=tokens).astype(np.int32)
    offsets = np.append(np.arange(0, len(tokens), 30), len(tokens)).astype(np.int64)
    options = {"dim": 4, "window": 2, "negative": 5, "lr": 0.05, "seed": 1, "cbow": cbow, "hs": hs}
    trained = model(tokens, **options)
    trained.train(tokens, offsets)
    _, loss = expected(tokens, offsets, look=look, **options)
    assert np.isfinite(loss)
    assert trained.loss == [pytest.approx(loss, rel=1e-3)]


@VARIANTS
@pytest.mark.parametrize("hs", [False, True], ids=["ns", "hs"])
def test_frozen_rows_stay_to_the_bit_and_teach_the_others(cbow, hs):
    rng = np.random.default_rng(6)
    tokens = rng.integers(12, size=300).astype(np.int32)
    start = np.full((12, 16), np.nan, np.float32)
    start[3:9] = rng.random((6, 16)) - 0.5
    known = np.isfinite(start).all(axis=1)
    options = {"window": 4, "lr": 0.2, "cbow": cbow, "hs": hs, "start": start}
    trained = model(tokens, frozen=known, **options)
    before = trained.matrix.copy()
    trained.train(tokens, np.array([0, 120, 300], np.int64))
    assert np.array_equal(trained.matrix[known], before[known])
    exact, _ = expected(tokens, [0, 120, 300], dim=16, negative=5, seed=0, frozen=range(3, 9), **options)
    moved = np.abs(exact - before).max()
    assert moved > 1e-3
    np.testing.assert_allclose(trained.matrix, exact, atol=TOLERANCE * moved)


@VARIANTS
@pytest.mark.parametrize("negative", [5, 20, 0], ids=lambda k: f"ns{k}" if k else "hs")
@pytest.mark.parametrize("window", [8, 9, 40, 1000])
def test_wide_windows_learn_sixteen_contexts_at_a_time(window, negative, cbow):
    tokens = np.random.default_rng(4).integers(30, size=120).astype(np.int32)
    options = {"dim": 4, "window": window, "negative": negative or 5, "lr": 0.05, "seed": 2, "cbow": cbow}
    options |= {"hs": not negative}
    trained = model(tokens, **options)
    start = trained.matrix.astype(np.float64)
    trained.train(tokens, one_document(tokens))
    exact, _ = expected(tokens, one_document(tokens), **options)
    np.testing.assert_allclose(trained.matrix, exact, atol=3 * TOLERANCE * np.abs(exact - start).max())


@pytest.mark.parametrize("window", [50, 1000])
def test_wide_windows_do_not_diverge(window):
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.3, 30_000) - 1, 999).astype(np.int32)
    trained = model(tokens, dim=20, window=window, lr=0.1, sample=1e-3)
    trained.train(tokens, one_document(tokens))
    assert np.abs(trained.matrix).max() < 10


@VARIANTS
@pytest.mark.parametrize("sample", [0.05, 1e-3])
def test_skipgram_subsamples_like_the_paper(sample, cbow):
    rng = np.random.default_rng(1)
    tokens = rng.choice(20, 2000, p=np.arange(20, 0, -1) / 210).astype(np.int32)
    trained = model(tokens, dim=8, window=3, negative=2, lr=0.1, sample=sample, cbow=cbow)
    start = trained.matrix.astype(np.float64)
    trained.train(tokens, one_document(tokens))
    options = {"dim": 8, "window": 3, "negative": 2, "lr": 0.1, "sample": sample, "cbow": cbow}
    exact, _ = expected(tokens, one_document(tokens), seed=0, **options)
    moved = np.abs(exact - start).max()
    assert moved > 1e-5
    np.testing.assert_allclose(trained.matrix, exact, atol=TOLERANCE * moved)


@pytest.mark.parametrize("counts", [[7], [3, 1], [5, 2, 1], [1, 1, 1, 1, 1], [100, 50, 20, 20, 9, 3, 3, 3, 2, 1, 1]])
def test_huffman_paths_are_as_short_as_can_be_and_no_path_begins_another(counts):
    counts = np.array(counts)
    offsets, nodes, bits = huffman(counts)
    paths = [list(zip(nodes[a:b].tolist(), bits[a:b].tolist(), strict=True)) for a, b in itertools.pairwise(offsets)]
    expected = paths_of(counts)
    assert (np.diff(offsets) * counts).sum() == sum(len(path) * k for path, k in zip(expected, counts, strict=True))
    assert len({tuple(turn for _, turn in path) for path in paths}) == len(counts)
    children = {(node, turn): set() for path in paths for node, turn in path}
    for path in paths:
        for (node, turn), following in itertools.zip_longest(path, path[1:]):
            children[node, turn].add(following and following[0])
    assert all(len(following) == 1 for following in children.values())  # one child at each turn
    assert {node for path in paths for node, _ in path} == set(range(len(counts) - 1))


def two_topics(documents=400, seed=0):
    """Words 0-9 and 10-19 never share a document. Documents of 20 tokens."""
    rng = np.random.default_rng(seed)
    tokens = (rng.integers(10, size=(documents, 20)) + 10 * (np.arange(documents)[:, None] % 2)).astype(np.int32)
    return tokens.reshape(-1), np.arange(0, tokens.size + 1, 20, dtype=np.int64)


def of_own_topic(matrix):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -2)
    return np.mean(likeness.argmax(axis=1) // 10 == np.arange(20) // 10)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dim", "negative"), [(3, 1), (16, 5), (100, 6), (300, 20)])
def test_skipgram_learns_two_topics(dim, negative, threads):
    tokens, offsets = two_topics()
    trained = model(tokens, dim=dim, negative=negative, threads=threads, epochs=5)
    assert of_own_topic(trained.matrix) < 0.9
    for _ in range(5):
        trained.train(tokens, offsets)
    assert trained.matrix.shape == (20, dim) and trained.matrix.dtype == np.float32
    assert np.isfinite(trained.matrix).all()
    assert of_own_topic(trained.matrix) == 1


def test_skipgram_on_one_thread_repeats_to_the_byte_and_follows_its_seed():
    tokens = np.random.default_rng(0).integers(50, size=SEGMENT + 5000).astype(np.int32)  # two segments
    offsets = np.append(np.arange(0, len(tokens), 37), len(tokens)).astype(np.int64)

    def matrix(**more):
        trained = model(tokens, sample=1e-2, epochs=2, **more)
        for _ in range(2):
            trained.train(tokens, offsets)
        return trained.matrix.tobytes()

    assert matrix() == matrix()
    assert matrix() != matrix(seed=1)


def test_skipgram_passes_differ():
    """The second pass draws other numbers than the first."""
    tokens, offsets = two_topics()
    once, twice = model(tokens, lr=1e-4, epochs=1000), model(tokens, lr=1e-4, epochs=1000)
    once.train(tokens, offsets)
    first = once.matrix.copy()
    start = twice.matrix.copy()
    twice.train(tokens, offsets)
    twice.train(tokens, offsets)
    change = np.abs((twice.matrix - first) - (first - start))
    assert change.max() > 1e-3 * np.abs(first - start).max()


def test_skipgram_reads_one_very_long_document():
    tokens, _ = two_topics(30_000)  # 600,000 tokens; topics change every 20
    long = model(tokens, window=2, lr=0.025)
    long.train(tokens, one_document(tokens))
    assert np.isfinite(long.matrix).all()
    assert of_own_topic(long.matrix) == 1
    assert len(tokens) > 3 * SEGMENT > CHUNK


def test_skipgram_leaves_alone_what_has_no_context():
    """Documents of one word, and tokens that are no rows, train nothing."""
    tokens = np.array([0, 1, 2, -1, 1, -1, 2, 7, 9], np.int32)
    alone = SkipGram(np.ones(3), 8, 5, 5, 0.5, len(tokens), 1, 0)
    before = alone.matrix.copy()
    alone.train(tokens, np.array([0, 1, 2, 4, 6, 9], np.int64))
    assert np.array_equal(alone.matrix, before)
    alone.train(tokens, np.array([0, 2, 9], np.int64))
    alone.train(tokens, np.array([0, 2, 9], np.int64))  # the first gradients move the contexts, which begin at zero
    assert not np.array_equal(alone.matrix, before)


def test_skipgram_skips_tokens_that_are_no_rows():
    """Minus one and rows past the vocabulary change nothing but the learning rate, which counts them."""
    rng = np.random.default_rng(0)
    clean = rng.integers(5, size=200).astype(np.int32)
    dirty = np.repeat(clean, 2)
    dirty[1::2] = np.where(np.arange(200) % 2, -1, 5)
    counts = np.bincount(clean)
    matrices = []
    for tokens in (clean, dirty):
        trained = SkipGram(counts, 6, 3, 4, 0.1, 10**9, 1, 0)
        trained.train(tokens, one_document(tokens))
        matrices.append(trained.matrix)
    np.testing.assert_allclose(*matrices, rtol=0, atol=TOLERANCE)


def test_skipgram_with_a_vocabulary_of_one_word():
    tokens = np.zeros(500, np.int32)
    trained = model(tokens, dim=5)
    trained.train(tokens, one_document(tokens))
    assert trained.matrix.shape == (1, 5) and np.isfinite(trained.matrix).all()


def test_skipgram_without_tokens():
    trained = SkipGram(np.ones(3), 4, 5, 5, 0.025, 0, 2, 0)
    before = trained.matrix.copy()
    trained.train(np.empty(0, np.int32), np.zeros(1, np.int64))
    assert np.array_equal(trained.matrix, before)


@pytest.mark.parametrize("lr", [1e-4, 0.025, 0.2])
def test_skipgram_stays_finite(lr):
    tokens, offsets = two_topics()
    trained = model(tokens, lr=lr, negative=20, epochs=20)
    for _ in range(20):
        trained.train(tokens, offsets)
    assert np.abs(trained.matrix).max() < 10


def test_skipgram_does_not_grow_without_end():
    """Words that always stand together: what is left of the gradient past the bound once grew to infinity."""
    tokens = np.tile(np.array([0, 1, 2, 3], np.int32), 25_000)
    offsets = np.arange(0, len(tokens) + 1, 2, dtype=np.int64)
    trained = model(tokens, dim=100, lr=0.025, epochs=20)
    for _ in range(20):
        trained.train(tokens, offsets)
    assert np.abs(trained.matrix).max() < 2


def test_skipgram_survives_its_own_divergence():
    """A rate far too high gives NaN, which is reported where the vectors are made, and harms nothing else."""
    tokens, offsets = two_topics()
    trained = model(tokens, lr=1.0, negative=20, epochs=5)
    for _ in range(5):
        trained.train(tokens, offsets)
    assert not np.isfinite(trained.matrix).all()


def test_skipgram_starts_where_it_is_told():
    tokens, _ = two_topics()
    start = np.full((20, 16), np.nan, np.float32)
    start[4] = 0.25
    begun, fresh = model(tokens, start=start), model(tokens)
    assert (begun.matrix[4] == 0.25).all()
    assert np.array_equal(np.delete(begun.matrix, 4, 0), np.delete(fresh.matrix, 4, 0))


def test_skipgram_reports_progress():
    tokens, offsets = two_topics()
    seen = []
    trained = model(tokens, epochs=2, threads=2)
    for _ in range(2):
        trained.train(tokens, offsets, progress=lambda *report: seen.append(report), unit="steps")
    assert seen[-1] == (2 * len(tokens), 2 * len(tokens), "steps")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_skipgram_stops_when_progress_raises():
    tokens, offsets = two_topics()

    def stop(done, total, unit):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(tokens).train(tokens, offsets, progress=stop)


# ---- walks


def graph(edges, *, weights=None, directed=False, nodes=None):
    source, target = np.array(edges).T
    n = nodes or int(max(source.max(), target.max())) + 1
    return Graph.from_edges([str(i) for i in range(n)], source, target, weights, directed=directed)


def lollipop():
    """A clique of four with a tail of three: steps back, sideways and away all occur."""
    edges = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (5, 6)]
    return edges, np.array([1, 2, 3, 0.5, 4, 1, 2, 0.25, 1], np.float32)


def drawn(g, *, p=1.0, q=1.0, length=10, seed=0, threads=1, each=1):
    starts = np.tile(np.arange(len(g), dtype=np.int32), each)
    return Walker(g, p=p, q=q, threads=threads).walks(starts, length=length, seed=seed)


def dense(g):
    full = np.zeros((len(g), len(g)))
    for row in range(len(g)):
        entries = slice(g.indptr[row], g.indptr[row + 1])
        full[row, g.indices[entries]] = 1 if g.weights is None else g.weights[entries]
    return full


def agree(counts, exact, *, least=500):
    """Chi-square of every state that was visited often; returns how many states were judged."""
    judged = 0
    for seen, share in zip(counts.reshape(-1, counts.shape[-1]), exact.reshape(-1, exact.shape[-1]), strict=True):
        assert not seen[share == 0].any()  # nothing impossible
        if seen.sum() >= least and (share > 0).sum() > 1:
            possible = share > 0
            result = chisquare(seen[possible], share[possible] * seen.sum())
            assert result.pvalue > 1e-5, f"{seen[possible] / seen.sum()} against {share[possible]}"
            judged += 1
    return judged


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_first_steps_follow_the_weights(weighted):
    edges, weights = lollipop()
    g = graph(edges, weights=weights if weighted else None)
    walks = drawn(g, length=2, each=20_000)
    counts = np.zeros((7, 7))
    np.add.at(counts, (walks[:, 0], walks[:, 1]), 1)
    full = dense(g)
    assert agree(counts, full / full.sum(axis=1, keepdims=True)) == 6


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])
@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.25, 4), (4, 0.25), (2, 3), (0.5, 0.5), (1, 0.2), (0.1, 1)])
def test_second_steps_have_the_exact_probabilities(p, q, directed, weighted):
    """node2vec, section 3.2.2: alpha is 1/p for the way back, 1 for neighbours of the last node, 1/q for others."""
    edges, weights = lollipop()
    if directed:
        edges = [*edges, *((b, a) for a, b in edges[::2]), (6, 3)]
        weights = np.resize(weights, len(edges))
    g = graph(edges, weights=weights if weighted else None, directed=directed)
    full = dense(g)
    exact = np.zeros((7, 7, 7))
    for previous, node in zip(*np.nonzero(full), strict=True):
        alpha = np.where(full[previous] > 0, 1.0, 1 / q)
        alpha[previous] = 1 / p
        share = alpha * full[node]
        exact[previous, node] = share / max(share.sum(), 1e-300)
    walks = drawn(g, p=p, q=q, length=12, each=4000, seed=5)
    counts = np.zeros((7, 7, 7))
    for i in range(2, 12):
        alive = walks[:, i] >= 0
        np.add.at(counts, tuple(walks[alive, i - 2 : i + 1].T), 1)
    assert agree(counts, exact) >= (10 if not directed else 4)


def test_every_step_is_an_edge():
    rng = np.random.default_rng(0)
    g = graph(rng.integers(200, size=(600, 2)), nodes=200)
    full = dense(g) > 0
    walks = drawn(g, p=0.5, q=2, length=30, each=3)
    assert walks.shape == (600, 30) and walks.dtype == np.int32
    here, there = walks[:, :-1], walks[:, 1:]
    going = there >= 0
    assert full[here[going], there[going]].all()
    assert np.array_equal(walks[:, 0], np.tile(np.arange(200), 3))


def test_walks_end_where_no_edge_leads_on():
    g = graph([(0, 1), (1, 2), (3, 3)], directed=True, nodes=5)
    walks = drawn(g, p=0.5, q=2, length=4)
    assert walks.tolist() == [[0, 1, 2, -1], [1, 2, -1, -1], [2, -1, -1, -1], [3, 3, 3, 3], [4, -1, -1, -1]]


def test_walks_of_one_node():
    assert drawn(graph([(0, 1)]), length=1).tolist() == [[0], [1]]


def test_no_walks_at_all():
    walks = Walker(graph([(0, 1)]), p=1, q=1, threads=2).walks(np.empty(0, np.int32), length=5, seed=0)
    assert walks.shape == (0, 5)


@pytest.mark.parametrize("weighted", [False, True])
def test_walks_do_not_depend_on_the_threads(weighted):
    edges, weights = lollipop()
    g = graph(edges, weights=weights if weighted else None)
    each = 2 * PIECE // 7 + 100  # more than two pieces
    one, two, three = (drawn(g, p=0.5, q=2, threads=t, each=each) for t in (1, 2, 3))
    assert np.array_equal(one, two) and np.array_equal(one, three)


def test_walks_follow_their_seed():
    g = graph(lollipop()[0])
    assert np.array_equal(drawn(g, seed=1), drawn(g, seed=1))
    assert not np.array_equal(drawn(g, seed=1), drawn(g, seed=2))


def test_walks_from_one_node_differ():
    g = graph(lollipop()[0])
    walks = Walker(g, p=1, q=1, threads=1).walks(np.zeros(1000, np.int32), length=20, seed=0)
    assert len(np.unique(walks, axis=0)) > 990


@pytest.mark.parametrize(("p", "q"), [(1e12, 1), (1, 1e-9), (1e12, 1e12)])
def test_a_dead_end_costs_no_time_whatever_p(p, q):
    """A walk that may only step back does so at once: rejection sampling would try p times."""
    started = time.perf_counter()
    walks = drawn(graph([(0, 1)]), p=p, q=q, length=50, each=100)
    assert time.perf_counter() - started < 5
    assert (walks[:, ::2] == walks[:, :1]).all()
