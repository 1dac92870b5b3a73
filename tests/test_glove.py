"""GloVe: exact counts whatever the memory and threads, the steps of AdaGrad, warm starts, ugly input."""

import json
import resource
import threading
from collections import Counter

import numpy as np
import pytest
from numba import njit

from embedders.base import Vectors
from embedders.data import Corpus
from embedders.errors import InputError, PolyvecError
from embedders.kernels import cooccurrence
from embedders.kernels.adagrad import AdaGrad, _block
from embedders.kernels.cooccurrence import SCALE, Cooccurrence
from embedders.kernels.pairs import PAIR, WIDEST, arrange, partition
from embedders.kernels.threads import run_threads
from embedders.kernels.tournament import Turns, tournament
from embedders.spill import Spill
from embedders.text.glove import Glove
from evaluation.word_similarity import read_pairs, word_similarity
from storage.inputs.corpus import read_corpus


def corpus(texts):
    counts = Counter(word for text in texts for word in text)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    row = {word: i for i, word in enumerate(words)}
    tokens = np.array([row[word] for text in texts for word in text], np.int32)
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return Corpus(words, np.array([counts[word] for word in words], np.int64), tokens, offsets)


def topics(*names, documents=300, seed=0):
    rng = np.random.default_rng(seed)
    return [["the", *rng.choice([f"{names[i % len(names)]}{j}" for j in range(10)], 15)] for i in range(documents)]


def random_corpus(seed=0, documents=60, words=90, longest=120):
    """Documents of 0 to `longest` words, some words frequent, most rare."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, longest, documents)
    return corpus([[f"w{row}" for row in (words * rng.random(size) ** 3).astype(int)] for size in sizes])


def expected(data, words, window, symmetric):
    """The dense matrix of counts, in units of 1 / SCALE, by the definition."""
    matrix = np.zeros((words, words), np.int64)
    for first, last in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        text = [row for row in data.tokens[first:last] if row < words]
        for i, row in enumerate(text):
            for d in range(1, min(window, len(text) - 1 - i) + 1):
                matrix[row, text[i + d]] += round(SCALE / d)
                if symmetric:
                    matrix[text[i + d], row] += round(SCALE / d)
    return matrix


STORES = []


@pytest.fixture(autouse=True)
def _close_stores():
    yield
    while STORES:
        STORES.pop().close()


def store(limit):
    STORES.append(Spill(limit))
    return STORES[-1]


def counted(data, words, window, symmetric=True, threads=1, memory=1 << 30, limit=1 << 30):
    made = Cooccurrence(words, window, symmetric, threads, memory, store(limit))
    made.count(data.tokens, data.offsets)
    return made


def dense(made, step=7):
    matrix = np.zeros((made.words, made.words), np.int64)
    for first in range(0, made.words, step):
        last = min(first + step, made.words)
        columns, sums, ends = made.rows(first, last)
        rows = np.repeat(np.arange(first, last), np.diff(ends, prepend=0))
        assert (np.diff(rows * made.words + columns) > 0).all()  # in order, and each pair once
        matrix[rows, columns] = sums
    return matrix


def blocks(pairs):
    n = len(pairs.bounds) - 1
    return [np.concatenate([np.empty(0, PAIR), *pairs.block(a, b)]).tobytes() for a in range(n) for b in range(n)]


SMALL = Glove(dim=8, window=5, min_count=1, epochs=5, threads=1)


# ---- counting


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("window", [1, 3, 15, 16, 40, 1000])
def test_counts_are_those_of_the_definition(window, symmetric):
    data = random_corpus()
    words = len(data) - 20  # the rarest are no neighbours and take no room in the window
    right = expected(data, words, window, symmetric)
    if symmetric:
        assert np.array_equal(right, right.T)
        right = np.tril(right)
    assert np.array_equal(dense(counted(data, words, window, symmetric)), right)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_counts_do_not_depend_on_memory_and_threads(threads, symmetric):
    """Chunks of about a thousand tokens, one of them cut through documents, and all rows on disk."""
    data = random_corpus(1, documents=300)
    whole = counted(data, len(data), 15, symmetric)
    pieces = counted(data, len(data), 15, symmetric, threads, memory=0, limit=0)
    assert len(whole.chunks) == 1 and whole.store.spilled == 0
    assert len(pieces.chunks) > 10 and pieces.store.spilled > 0
    assert np.array_equal(dense(pieces), dense(whole))
    ready = [arrange(made, data.counts, 100, 0.75, store(limit)) for made, limit in ((whole, 1 << 30), (pieces, 0))]
    assert blocks(ready[0]) == blocks(ready[1])
    assert ready[0].count == ready[1].count == np.count_nonzero(expected(data, len(data), 15, symmetric))


def test_a_document_longer_than_a_chunk():
    rng = np.random.default_rng(0)
    data = corpus([[f"w{i}" for i in rng.integers(0, 30, 20_000)]])
    pieces = counted(data, len(data), 15, memory=0)
    assert len(pieces.chunks) > 10
    assert np.array_equal(dense(pieces), dense(counted(data, len(data), 15)))


def test_the_way_without_avx512_counts_the_same(monkeypatch):
    data = random_corpus(3)
    right = dense(counted(data, len(data), 15))
    monkeypatch.setattr(cooccurrence, "SQUEEZE", False)
    monkeypatch.setattr(cooccurrence, "_count", njit(nogil=True)(cooccurrence._count.py_func))
    assert np.array_equal(dense(counted(data, len(data), 15)), right)


def test_tokens_may_be_a_read_only_memory_map(tmp_path):
    data = random_corpus(4)
    np.save(tmp_path / "tokens.npy", data.tokens)
    mapped = Corpus(data.words, data.counts, np.load(tmp_path / "tokens.npy", mmap_mode="r"), data.offsets)
    assert np.array_equal(dense(counted(mapped, len(data), 9)), dense(counted(data, len(data), 9)))


def test_counts_past_32_bits():
    """A word beside itself half a million times: n pairs at each distance, seen from both ends."""
    n = 500_000
    data = corpus([["a"] * n])
    total = 2 * sum((n - d) * round(SCALE / d) for d in range(1, 16))
    assert total > 1 << 46
    assert dense(counted(data, 1, 15, memory=1 << 22)).tolist() == [[total]]


def test_pairs_lie_in_their_blocks_with_log_and_weight():
    data = random_corpus(5)
    pairs = arrange(counted(data, len(data), 5), data.counts, x_max=4, alpha=0.5, store=store(0))
    assert len(pairs.bounds) > 4
    matrix = np.zeros((len(data), len(data)))
    for a in range(len(pairs.bounds) - 1):
        for b in range(len(pairs.bounds) - 1):
            found = pairs.block(a, b)
            assert sum(map(len, found)) == pairs.size(a, b)
            for part in found:
                rows, columns = pairs.bounds[a] + part["row"], pairs.bounds[b] + part["column"]
                assert (rows < pairs.bounds[a + 1]).all() and (columns < pairs.bounds[b + 1]).all()
                matrix[rows, columns] = np.exp(part["log"])
                np.testing.assert_allclose(part["weight"], np.minimum(1, np.exp(part["log"]) / 4) ** 0.5, rtol=1e-5)
    np.testing.assert_allclose(matrix, np.tril(expected(data, len(data), 5, True)) / SCALE, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 31, 5000, 300_000])
def test_parts_cover_the_words_and_are_narrow_enough(n):
    for counts in (np.ones(n, np.int64), 10**12 // np.arange(1, n + 1) ** 2 + 1):
        bounds = partition(counts)
        assert bounds[0] == 0 and bounds[-1] == n
        assert 0 < np.diff(bounds).min() and np.diff(bounds).max() <= WIDEST


# ---- training


@pytest.mark.parametrize("dim", [1, 5, 100])
@pytest.mark.parametrize("symmetric", [True, False])
def test_steps_are_those_of_the_formula(dim, symmetric):
    rng, lr, n = np.random.default_rng(1), 0.05, 6
    model = AdaGrad(n, dim, lr, symmetric, 1, 0)
    rows = model._table.reshape(n, 4, -1)
    vectors = {"w": rows[:, 0, :dim].astype(float), "c": rows[:, 2, :dim].astype(float)}
    biases = {"w": rows[:, 0, dim].astype(float), "c": rows[:, 2, dim + 1].astype(float)}
    squares = {key: np.ones((n, dim)) for key in "wc"}
    bias_squares = {key: np.ones(n) for key in "wc"}
    pairs = np.zeros(60, PAIR)
    pairs["row"], pairs["column"] = rng.integers(0, n, (2, 60))
    pairs["log"], pairs["weight"] = rng.normal(0, 3, 60), rng.random(60)
    cost = 0.0
    for i, j, log, weight in pairs.tolist():
        for a, b in [(i, j), (j, i)][: 1 + (symmetric and i != j)]:
            error = vectors["w"][a] @ vectors["c"][b] + biases["w"][a] + biases["c"][b] - log
            cost += weight * error**2 / 2
            gradients = {"w": weight * error * vectors["c"][b] * lr, "c": weight * error * vectors["w"][a] * lr}
            for key, row in (("w", a), ("c", b)):
                squares[key][row] += gradients[key] ** 2
                vectors[key][row] -= gradients[key] / np.sqrt(squares[key][row])
                bias_squares[key][row] += (weight * error) ** 2
                biases[key][row] -= weight * error / np.sqrt(bias_squares[key][row])
    assert _block(model._table, pairs, 0, 0, symmetric, np.float32(lr)) == pytest.approx(cost, rel=1e-4)
    for quarter, key, bias in ((0, "w", dim), (2, "c", dim + 1)):
        np.testing.assert_allclose(rows[:, quarter, :dim], vectors[key], atol=1e-4)
        np.testing.assert_allclose(rows[:, quarter, bias], biases[key], atol=1e-4)
    np.testing.assert_allclose(model.matrix, vectors["w"] + vectors["c"], atol=2e-4)


@pytest.mark.parametrize("parts", [1, 2, 3, 8, 33])
def test_a_tournament_has_each_pair_once_and_no_part_twice_in_a_round(parts):
    rounds = tournament(parts, np.random.default_rng(parts))
    played = [meeting for meetings in rounds for meeting in meetings]
    assert sorted(played) == [(a, b) for a in range(parts) for b in range(a + 1)]
    for meetings in rounds:
        there = [part for meeting in meetings for part in set(meeting)]
        assert len(there) == len(set(there))
    assert parts < 3 or rounds != tournament(parts, np.random.default_rng(parts + 1))


def test_turns_keep_the_order_of_each_part_and_never_overlap():
    rng = np.random.default_rng(0)
    visits = [m for _ in range(5) for meetings in tournament(7, rng) for m in meetings]
    turns, busy, log, lock = Turns(visits, 7), set(), [[] for _ in range(7)], threading.Lock()

    def work(thread, number):
        with turns.visit(number):
            with lock:
                assert not busy & set(visits[number])
                busy.update(visits[number])
                for part in set(visits[number]):
                    log[part].append(number)
            with lock:
                busy.difference_update(visits[number])

    run_threads(work, len(visits), 4, lambda: None)
    assert log == [[i for i, visit in enumerate(visits) if part in visit] for part in range(7)]


def test_an_error_in_a_visit_ends_the_others():
    visits = [(1, 0)] * 50
    turns = Turns(visits, 2)

    def work(thread, number):
        with turns.visit(number):
            if number == 10:
                raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        run_threads(work, len(visits), 4, lambda: None)


def test_the_same_bytes_on_any_number_of_threads_and_in_any_memory(tmp_path):
    data = random_corpus(6, documents=400, words=400)
    alone = SMALL.fit(data)
    for other in ({"threads": 2}, {"threads": 5}, {"threads": 2, "memory": 1, "scratch": str(tmp_path)}):
        again = SMALL.model_copy(update=other).fit(data)
        assert again.matrix.tobytes() == alone.matrix.tobytes()
        assert again.mode["loss"] == alone.mode["loss"] and again.mode["reproducible"] == "bytes"
    assert not list(tmp_path.iterdir())
    assert SMALL.model_copy(update={"seed": 1}).fit(data).matrix.tobytes() != alone.matrix.tobytes()


def test_the_manifest_says_how_it_went():
    data = random_corpus(7)
    seen = []
    encoder = SMALL.fit(data, progress=lambda *report: seen.append(report))
    mode = json.loads(json.dumps(dict(encoder.mode)))
    assert mode["tokens"] == len(data.tokens) and mode["vocabulary"] == len(data)
    assert mode["pairs"] == np.count_nonzero(expected(data, len(data), 5, True))
    assert len(mode["loss"]) == 5 and mode["loss"][-1] < 0.7 * mode["loss"][0]
    assert seen[0][1:] == (len(data.tokens), "words") and seen[-1] == (5 * mode["pairs"], 5 * mode["pairs"], "pairs")


def test_one_sided_counts_give_other_vectors():
    data = random_corpus(8)
    encoder = SMALL.model_copy(update={"symmetric": False}).fit(data)
    assert (
        encoder.mode["pairs"] == np.count_nonzero(expected(data, len(data), 5, False)) < SMALL.fit(data).mode["pairs"]
    )
    assert np.isfinite(encoder.matrix).all() and encoder.mode["loss"][-1] < 0.7 * encoder.mode["loss"][0]


def test_one_sided_training_visits_blocks_on_both_sides_of_the_diagonal():
    """The squares of a bias grow just where its word has pairs."""
    data, n = random_corpus(8), 90
    pairs = arrange(counted(data, n, 5, symmetric=False), data.counts, 100, 0.75, store(1 << 30))
    model = AdaGrad(n, 4, 0.05, False, 2, 0)
    matrix = expected(data, n, 5, False) > 0
    for part, segments in enumerate(pairs.segments):
        for segment in segments:  # pairs of all rows but three weigh nothing
            segment.pairs.array["weight"][pairs.bounds[part] + segment.pairs.array["row"] >= 3] = 0
    model.train(pairs)
    squares = model._table.reshape(n, 4, -1)
    touched = squares[:, 3, 5] > 0.05**2 * 1.000001
    assert np.array_equal(touched, matrix[:3].any(axis=0)) and touched[80:].any()


def test_words_of_one_topic_are_near():
    data = corpus(topics("x", "y", documents=1000))
    encoder = Glove(dim=16, min_count=1, lr=0.5, threads=2).fit(data)
    rows = encoder.matrix / np.linalg.norm(encoder.matrix, axis=1, keepdims=True)
    likeness = rows @ rows.T - 2 * np.eye(len(rows))
    names = [word[0] for word in encoder.words]
    assert all(names[i] == names[likeness[i].argmax()] for i in range(len(names)) if names[i] != "t")


@pytest.mark.slow
def test_real_text_makes_sense(shared_data):
    path = shared_data("text_wikipedia_en") / "wikipedia_en.txt.gz"
    encoder = Glove(dim=50, epochs=10).fit(read_corpus([(path.name, path)]))
    judged = read_pairs(shared_data("word_eval") / "EN-WS-353-ALL.txt")
    score = word_similarity(Vectors("word", encoder.words, encoder.matrix), judged).headline.value
    assert score > 0.15
    assert all(after < before for before, after in zip(encoder.mode["loss"], encoder.mode["loss"][1:], strict=False))


# ---- warm starts


def test_warm_start_begins_nearer_and_keeps_words_near():
    data = random_corpus(9, documents=200)
    first = SMALL.model_copy(update={"epochs": 50, "min_count": 30}).fit(data)
    assert 0 < len(first.words) < len(data)
    few = SMALL.model_copy(update={"epochs": 3, "seed": 5})
    cold, warm = few.fit(data), few.fit(data, start=first)

    def likeness(encoder):
        n = len(first.words)
        a, b = first.matrix, encoder.matrix[:n]
        return float(np.mean((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))

    assert list(warm.words[: len(first.words)]) == list(first.words)
    assert likeness(warm) > 0.8 > likeness(cold) + 0.3
    assert warm.mode["loss"][-1] < cold.mode["loss"][-1]
    assert np.isfinite(warm.matrix).all()


def test_warm_start_of_another_dimension():
    data = random_corpus()
    with pytest.raises(InputError, match="dimension 8; expected 9"):
        SMALL.model_copy(update={"dim": 9}).fit(data, start=SMALL.fit(data))


# ---- ugly input


def test_no_word_reaches_min_count():
    with pytest.raises(InputError, match=r"3 distinct words, none of which occurs min_count=5 .*most frequent: 2"):
        Glove().fit(corpus([["a", "b", "c", "a"]]))
    with pytest.raises(InputError, match="0 distinct words"):
        Glove().fit(Corpus([], np.empty(0, np.int64), np.empty(0, np.int32), np.zeros(1, np.int64)))


@pytest.mark.parametrize("texts", [[["a"], ["b"], [], ["a"]], [["a"]], [["a", "once"], ["a"]]])
def test_no_pair_at_all(texts):
    recipe = SMALL.model_copy(update={"min_count": 1 + ("once" in texts[0])})
    with pytest.raises(InputError, match="no two words"):
        recipe.fit(corpus(texts))


@pytest.mark.parametrize("recipe", [SMALL, SMALL.model_copy(update={"dim": 1, "window": 1000})])
def test_one_word_and_words_without_neighbours(recipe):
    alone = recipe.fit(corpus([["a"] * 50]))
    assert alone.matrix.shape == (1, recipe.dim) and alone.mode["pairs"] == 1 and np.isfinite(alone.matrix).all()
    some = recipe.fit(corpus([["a", "b", "a"], ["c"], ["c"]]))
    assert set(some.words) == {"a", "b", "c"} and np.isfinite(some.matrix).all()


def test_a_window_longer_than_any_document_is_that_of_the_longest():
    data = random_corpus(longest=10)
    wide = SMALL.model_copy(update={"window": 1000})
    assert wide.fit(data).matrix.tobytes() == SMALL.model_copy(update={"window": 9}).fit(data).matrix.tobytes()


def test_max_vocab_and_min_count_are_told_apart():
    data = corpus([["a"] * 4 + ["b"] * 3 + ["c"] * 3 + ["d"]])
    encoder = SMALL.model_copy(update={"max_vocab": 2, "min_count": 2}).fit(data)
    assert list(encoder.words) == ["a", "b"]
    assert dict(encoder.excluded(data)) == {"below_min_count": 1, "beyond_max_vocab": 1}
    assert len(SMALL.model_copy(update={"max_vocab": 9}).fit(data).words) == 4


def test_a_start_of_absurd_numbers_is_an_error_and_no_vector():
    data = random_corpus()
    first = SMALL.fit(data)
    first.matrix[:] = 1e30
    with pytest.raises(InputError, match=r"Got a cost of (nan|inf).*Lower lr"):
        SMALL.fit(data, start=first)


def test_the_highest_rate_stays_finite():
    encoder = SMALL.model_copy(update={"lr": 1.0, "epochs": 20}).fit(random_corpus())
    assert np.isfinite(encoder.matrix).all()


def test_scratch_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"none can be made .*scratch"):
        SMALL.model_copy(update={"scratch": str(tmp_path / "gone")}).fit(random_corpus())


def test_scratch_is_taken_from_the_folder_of_the_pipeline(tmp_path):
    assert SMALL.model_copy(update={"scratch": "tmp"}).located(tmp_path).scratch == str(tmp_path / "tmp")
    assert SMALL.located(tmp_path) == SMALL
    assert SMALL.model_copy(update={"scratch": "tmp", "memory": 7}).fingerprint == SMALL.fingerprint


@pytest.fixture
def small_files():
    """Files of this process may not grow past 100 kB: the nearest to a full disk that needs no disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, small_files):
    rng = np.random.default_rng(0)
    data = corpus([[f"w{i}" for i in rng.integers(0, 900, 300)] for _ in range(200)])
    recipe = SMALL.model_copy(update={"memory": 1, "scratch": str(tmp_path), "threads": 2, "epochs": 1})
    with pytest.raises(PolyvecError, match=r"Got .* in .* MiB of temporary data.*scratch"):
        recipe.fit(data)
    assert not list(tmp_path.iterdir())


def test_spill_keeps_what_it_was_given(tmp_path):
    with Spill(1000, tmp_path) as kept_in:
        arrays = [np.arange(n, dtype=kind) for n in (0, 1, 100, 1000) for kind in (np.int32, np.float64)]
        held = [kept_in.put(array) for array in arrays]
        before = [array.copy() for array in arrays]
        for array in arrays:
            array[:] = 0  # what is kept is a copy
        assert kept_in.spilled > 0 < kept_in.held <= 1000
        for array, kept in zip(before, held, strict=True):
            assert kept.read().dtype == array.dtype and np.array_equal(kept.read(), array)
            assert np.array_equal(kept.read(1, 7), array[1:7]) or not len(array)
    assert not list(tmp_path.iterdir())
