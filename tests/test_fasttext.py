"""fastText: n-grams in fastText's numbers, the kernels, unseen words, warm starts, and sense on real text."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from embedders.base import Vectors
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.kernels.rows import TARGETS, add_rows, add_to_rows, learn, products
from embedders.kernels.subword_gram import SubwordGram
from embedders.kernels.subwords import Subwords, ngram_buckets
from embedders.testing_data import corpus_example
from embedders.text.fasttext import FastText, SubwordVectors
from embedders.text.word2vec import Word2Vec
from evaluation.word_similarity import read_pairs, word_similarity
from tests.flow_helpers import command_line
from tests.helpers_store import run_steps, write_project

SMALL = FastText(dim=24, sample=0, min_count=1, epochs=3, threads=1)
WORDS = ["a", "where", "Straße", "日本語テキスト", "naïve", "e\u0301", "", "\U0001f600x", "don't", "banana"]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return corpus_example(tmp_path_factory.mktemp("corpus")).data


@pytest.fixture(scope="module")
def encoder(data):
    return SMALL.fit(data)


@pytest.mark.parametrize(("min_n", "max_n", "buckets"), [(3, 6, 2_000_000), (1, 2, 1000), (2, 4, 7), (4, 4, 2**31 - 1)])
def test_buckets_are_those_of_gensim_and_fasttext(min_n, max_n, buckets):
    inner = pytest.importorskip("gensim.models.fasttext_inner")
    indptr, found = ngram_buckets(WORDS, min_n, max_n, buckets)
    for i, word in enumerate(WORDS):
        expected = [inner.ft_hash_bytes(gram) % buckets for gram in inner.compute_ngrams_bytes(word, min_n, max_n)]
        if min_n > 1:  # gensim counts < and > alone as n-grams, fastText does not
            assert found[indptr[i] : indptr[i + 1]].tolist() == expected, word


def test_the_ngrams_of_a_word():
    """fastText's own: computeSubwords in dictionary.cc, hash values by hand."""

    def fnv(text):
        value = 2166136261
        for byte in text.encode():
            value = ((value ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) * 16777619) % 2**32
        return value

    _, found = ngram_buckets(["né"], 3, 6, 1 << 20)
    assert found.tolist() == [fnv(gram) % (1 << 20) for gram in ("<né", "<né>", "né>")]
    _, found = ngram_buckets(["né"], 1, 1, 1 << 20)
    assert found.tolist() == [fnv(gram) % (1 << 20) for gram in ("n", "é")]


def test_a_word_is_its_own_row_and_those_of_its_ngrams():
    table = Subwords.of(WORDS, 3, 6, 5000)
    _, found = ngram_buckets(WORDS, 3, 6, 5000)
    assert len(table.buckets) == len(set(found.tolist()))
    filled = 0
    for i in range(len(WORDS)):
        own, *others = table.rows[table.indptr[i] : table.indptr[i + 1]].tolist()
        assert own == i
        asked = found[filled : filled + len(others)]
        assert table.buckets[np.array(others, int) - len(WORDS)].tolist() == asked.tolist()
        filled += len(others)
    assert filled == len(found)
    assert table.buckets[:3].tolist() == found[:3].tolist(), "in order of first appearance"


def test_mean_vectors_of_buckets():
    table = Subwords.of(["abc", "abd", "xyz", "new"], 3, 3, 1 << 20)
    vectors = np.array([[1, 2], [3, 4], [5, 6], [np.nan, np.nan]], np.float32)
    _, (begins,) = ngram_buckets(["a"], 3, 3, 1 << 20)
    means = dict(zip(table.buckets.tolist(), table.means(vectors).tolist(), strict=True))
    first = {word: ngram_buckets([word], 3, 3, 1 << 20)[1].tolist() for word in ("abc", "xyz", "new")}
    assert begins not in means
    assert means[first["abc"][0]] == [2, 3]  # <ab
    assert means[first["abc"][1]] == [1, 2]  # abc
    assert means[first["xyz"][1]] == [5, 6]
    assert np.isnan(means[first["new"][1]]).all()


def test_row_kernels():
    """Against plain NumPy; a row that stands twice is taken twice."""
    from numba import njit

    @njit
    def all_of(w, rows, h, g, f, x, out):
        add_rows(out, w, rows, 1, len(rows))
        products(h, w, rows, 1, f)
        learn(h, g, w, rows, 1, x)
        add_to_rows(w, rows, 0, 3, h)

    rng = np.random.default_rng(0)
    w, h, g = (rng.standard_normal(shape).astype(np.float32) for shape in ((20, 48), 48, 48))
    rows = np.array([3, 5, 7, 5, 0, 19, 2, 11, 4, 6], np.int64)
    f, x = np.zeros(9, np.float32), rng.standard_normal(9).astype(np.float32)
    out = g.copy()
    expected_w, expected_g, learned = w.astype(float), g.astype(float), rows[1 : 1 + TARGETS]
    expected_f, expected_out = w[learned] @ h, out + w[rows[1:]].sum(axis=0)
    for row, factor in zip(learned, x[1:], strict=True):
        expected_g += factor * expected_w[row]
        expected_w[row] += factor * h.astype(float)
    for row in rows[:3]:
        expected_w[row] += h
    all_of(w, rows, h, g, f, x, out)
    for got, expected in ((w, expected_w), (g, expected_g), (f[1:], expected_f), (out, expected_out)):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert f[0] == 0


def test_vectors_of_known_and_unseen_words(data, encoder):
    known = encoder.vectors_of(["wine03", "the"])
    assert known.tobytes() == encoder.matrix[[encoder.words.index("wine03"), encoder.words.index("the")]].tobytes()
    unseen = encoder.vectors_of(["wine77", "railway"])
    rows = {word: encoder.matrix[i] for i, word in enumerate(encoder.words)}
    for vector, near, far in ((unseen[0], "wine", "rail"), (unseen[1], "rail", "wine")):
        likeness = {t: np.mean([cosine(vector, rows[f"{t}{i:02}"]) for i in range(15)]) for t in (near, far)}
        assert likeness[near] > likeness[far] + 0.5
    assert encoder.vectors_of([]).shape == (0, 24)


def test_an_unseen_word_is_the_mean_of_its_known_ngrams(encoder):
    recipe = encoder.recipe
    _, buckets = ngram_buckets(["railzzz"], recipe.min_n, recipe.max_n, recipe.buckets)
    place = {bucket: i for i, bucket in enumerate(encoder.buckets.tolist())}
    known = [place[bucket] for bucket in buckets.tolist() if bucket in place]
    assert 0 < len(known) < len(buckets)
    np.testing.assert_allclose(encoder.vectors_of(["railzzz"])[0], encoder.ngrams[known].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("word", ["", "zq", "日本語", "\udc80"])
def test_a_word_of_unknown_ngrams(encoder, word):
    with pytest.raises(InputError, match=r"not in the vocabulary and shares no run of 3 to 6 characters"):
        encoder.vectors_of(["wine77", word])


def test_saved_and_loaded(encoder, tmp_path):
    encoder.save(tmp_path / "e")
    loaded = FastText.load(tmp_path / "e")
    assert isinstance(loaded, SubwordVectors)
    asked = ["wine77", "rail00"]
    assert loaded.vectors_of(asked).tobytes() == encoder.vectors_of(asked).tobytes()
    assert loaded.context.tobytes() == encoder.context.tobytes()


def test_longest_before_shortest():
    with pytest.raises(ValidationError, match="min_n=5 and max_n=4; expected max_n"):
        FastText(min_n=5, max_n=4)


def test_no_word_reaches_min_count(data):
    with pytest.raises(InputError, match=r"none of which occurs min_count=100000 times"):
        FastText(min_count=100_000).fit(data)


@pytest.mark.parametrize("model", ["skipgram", "cbow"])
def test_odd_corpora(model):
    """Documents of one word, windows past both ends, more documents than words, a word never kept."""
    recipe = FastText(model=model, dim=5, window=50, negative=7, min_count=2, epochs=2, threads=2)
    tokens = np.array([0, 0, 1, 1, 0, 2, 1, 0, 1], np.int32)
    one = Corpus(["aaa", "bbb", "rare"], np.array([4, 4, 1]), tokens, np.array([0, 1, 1, 2, 9]))
    encoder = recipe.fit(one)
    assert encoder.matrix.shape == (2, 5) and np.isfinite(encoder.matrix).all()
    assert dict(encoder.excluded(one)) == {"below_min_count": 1}


@pytest.mark.parametrize("model", ["skipgram", "cbow"])
def test_topics_are_told_apart_without_ngrams_in_common(model):
    """Names give nothing away, so that what is learned comes from the contexts alone."""
    rng = np.random.default_rng(3)
    names = ["".join(rng.choice(list("bcdfghjkmnpq"), 7)) for _ in range(20)]
    texts = [rng.choice(10, 15) + 10 * (i % 2) for i in range(600)]
    tokens = np.concatenate(texts).astype(np.int32)
    counts = np.bincount(tokens, minlength=20)
    order = np.argsort(-counts, kind="stable")
    place = np.argsort(order).astype(np.int32)
    data = Corpus([names[i] for i in order], counts[order], place[tokens], np.arange(0, 9001, 15))
    matrix = SMALL.model_copy(update={"model": model, "epochs": 8}).fit(data).matrix
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -1)
    assert (order[likeness.argmax(axis=1)] // 10 == order // 10).all()


@pytest.mark.parametrize("cbow", [False, True])
def test_the_first_step_is_the_gradient(cbow):
    """From rows of zeros every product is 0 and every probability 1/2; at a small rate each word moves by its own sum."""
    n, dim, negative, lr = 31, 20, 3, 1e-4
    words, noise = [f"{i:02}" for i in range(n)], n - 1  # the last word is no token, but all the noise there is
    answers = np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)
    weights = np.where(np.arange(n) == noise, 1e20, 1.0)
    given = {"start": np.zeros((n, dim), np.float32), "start_context": answers, "cbow": cbow}
    table = Subwords.of(words, 50, 50, 100)
    model = SubwordGram(weights, table, dim, 1, negative, lr, total=n, threads=1, seed=0, **given)
    model.train(np.arange(n - 1, dtype=np.int32), np.array([0, n - 1]))
    expected = np.zeros((n, dim))
    for i in range(n - 1):
        for j in (i - 1, i + 1):
            if 0 <= j < n - 1:  # i is a context of j, or j of i: with a window of 1 that is the same
                expected[i] += lr / 2 * (answers[j] - negative * answers[noise])
    np.testing.assert_allclose(model.matrix, expected, atol=0.01 * lr)


@pytest.mark.parametrize("cbow", [False, True])
def test_noise_that_is_to_be_found_is_no_noise(cbow):
    """All noise is the second word: it speaks against the first one beside the second, not the other way round."""
    dim, negative, lr = 20, 3, 1e-4
    answers = np.random.default_rng(0).standard_normal((2, dim)).astype(np.float32)
    given = {"start": np.zeros((2, dim), np.float32), "start_context": answers, "cbow": cbow}
    table = Subwords.of(["00", "01"], 50, 50, 100)
    model = SubwordGram(np.array([1, 1e20]), table, dim, 1, negative, lr, total=2, threads=1, seed=0, **given)
    model.train(np.array([0, 1], np.int32), np.array([0, 2]))
    expected = lr / 2 * np.array([answers[1], answers[0] - negative * answers[1]])
    np.testing.assert_allclose(model.matrix, expected, atol=0.01 * lr)


def test_what_answers_in_another_model_is_not_taken_over(data, encoder):
    still = SMALL.model_copy(update={"model": "cbow", "lr": 1e-9, "epochs": 1})
    found = still.fit(data, start=encoder)
    assert np.abs(encoder.context).max() > 0.1 and np.abs(found.context).max() < 1e-5
    np.testing.assert_allclose(found.matrix, encoder.matrix, atol=1e-5)


def test_a_start_of_the_same_kind_goes_on_where_it_stood(data, encoder):
    """A rate next to nothing leaves every part of the start as it was; words that are new are made of known n-grams."""
    still = SMALL.model_copy(update={"lr": 1e-9, "epochs": 1})
    again = still.fit(data, start=encoder)
    np.testing.assert_allclose(again.matrix, encoder.matrix, atol=1e-5)
    np.testing.assert_allclose(again.ngrams, encoder.ngrams, atol=1e-5)
    np.testing.assert_allclose(again.context, encoder.context, atol=1e-5)
    grown = replace(data, words=[*data.words, "wine55"], counts=np.append(data.counts, 1))
    more = still.fit(grown, start=encoder)
    new = more.matrix[-1]
    assert cosine(new, encoder.vectors_of(["wine55"])[0]) > 0.9
    assert len(more.buckets) > len(encoder.buckets)


def test_a_start_of_another_kind_gives_its_vectors_and_means_to_the_ngrams(data):
    start = Word2Vec(dim=24, sample=0, min_count=1, epochs=3, threads=1).fit(data)
    encoder = SMALL.model_copy(update={"lr": 1e-9, "epochs": 1}).fit(data, start=start)
    np.testing.assert_allclose(encoder.matrix, start.matrix, atol=1e-5)
    near = np.mean(
        [cosine(encoder.vectors_of(["wine77"])[0], encoder.vectors_of([f"wine{i:02}"])[0]) for i in range(15)]
    )
    assert near > 0.5
    with pytest.raises(InputError, match="dimension 24; expected 8"):
        SMALL.model_copy(update={"dim": 8}).fit(data, start=start)


@pytest.mark.parametrize("model", ["skipgram", "cbow"])
def test_same_seed_same_bytes_on_one_thread(data, model):
    recipe = SMALL.model_copy(update={"model": model, "epochs": 1})
    one, two = recipe.fit(data), recipe.fit(data)
    for name, array in one.arrays().items():
        assert array.tobytes() == two.arrays()[name].tobytes(), name
    assert one.mode["reproducible"] == "bytes"


@pytest.mark.slow
def test_real_text(shared_data):
    """English Wikipedia, 4.3 M tokens: people's judgements are ranked as gensim's FastText ranks them (WordSim 0.49)."""
    from storage.inputs.corpus import read_corpus

    path = shared_data("text_wikipedia_en") / "wikipedia_en.txt.gz"
    data = read_corpus([(path.name, path)])
    encoder = FastText().fit(data)
    found = Vectors("word", encoder.words, encoder.matrix)
    pairs = read_pairs(shared_data("word_eval") / "EN-WS-353-ALL.txt")
    assert word_similarity(found, pairs).headline.value > 0.42
    spelled = encoder.vectors_of(["physicss", "unpresidential"])
    rows = {word: i for i, word in enumerate(encoder.words)}
    assert cosine(spelled[0], encoder.matrix[rows["physics"]]) > 0.6
    assert cosine(spelled[1], encoder.matrix[rows["presidential"]]) > 0.5


PIPELINE = """
store: ./vectors
datasets:
  text: {kind: corpus, path: text.txt}
spaces:
  parts: {dataset: text, embedder: fasttext, params: {dim: 8, epochs: 1, threads: 1, min_count: 1}}
  words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 1, threads: 1, min_count: 1}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    file = write_project(tmp_path_factory.mktemp("project"), PIPELINE)
    run_steps(file)
    return file.parent


@pytest.fixture
def cli(project, monkeypatch, capsys):
    return command_line(project, monkeypatch, capsys)


def test_search_for_an_unseen_word(cli):
    answer = cli("search", "parts", "womankind", "-k", "3")
    assert answer.code == 0 and len(answer.table) == 3
    assert answer.table[0]["id"] == "woman" and float(answer.table[0]["cosine"]) > 0.1
    assert "'womankind' is no id of parts @ 1; its vector was composed of subwords" in answer.err
    known = cli("search", "parts", "woman", "-k", "3")
    assert known.code == 0 and "composed" not in known.err


def test_search_for_a_word_of_unknown_ngrams(cli):
    answer = cli("search", "parts", "qzqz")
    assert (answer.code, answer.out) == (2, "") and "shares no run of 3 to 6 characters" in answer.err
    other = cli("search", "words", "womankind")
    assert other.code == 2 and "is no id of words @ 1" in other.err


def test_analogy_of_an_unseen_word(cli):
    answer = cli("analogy", "parts", "king", "-", "man", "+", "womankind", "-k", "3")
    assert answer.code == 0 and len(answer.table) == 3
    assert "womankind" not in {row["id"] for row in answer.table} and "composed of subwords" in answer.err
    other = cli("analogy", "words", "king", "-", "man", "+", "womankind")
    assert other.code == 2 and "womankind" in other.err
