"""word2vec: the vocabulary, warm starts, errors, and sense on real text."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from embedders.base import Vectors, batches
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
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
    return [list(rng.choice([f"{names[i % len(names)]}{j}" for j in range(10)], 15)) for i in range(documents)]


def vectors(encoder, data):
    return {
        name: row
        for batch in encoder.encode(data)
        for name, row in zip(batch.vectors.ids, batch.vectors.matrix, strict=True)
    }


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


SMALL = Word2Vec(dim=16, sample=0, min_count=1, epochs=3, lr=0.025, threads=1)
MODELS = pytest.mark.parametrize("model", ["skipgram", "cbow"])
LOSSES = pytest.mark.parametrize("loss", ["ns", "hs"])


@pytest.mark.parametrize("min_count", [1, 2, 3, 4])
def test_min_count_excludes_rarer_words(min_count):
    data = corpus([["a"] * 4 + ["b"] * 3 + ["c"] * 3 + ["d"]])
    encoder = SMALL.model_copy(update={"min_count": min_count}).fit(data)
    expected = [word for word, count in zip(data.words, data.counts, strict=True) if count >= min_count]
    assert list(vectors(encoder, data)) == expected
    assert dict(encoder.excluded(data)) == {"below_min_count": 4 - len(expected)}


def test_words_below_min_count_are_no_contexts_either():
    """With them or without, the other words train on the same tokens."""
    texts = topics("x", "y")
    with_rare = [[*text, f"rare{i}"] for i, text in enumerate(texts)]
    recipe = SMALL.model_copy(update={"min_count": 2})
    plain, dirty = recipe.fit(corpus(texts)), recipe.fit(corpus(with_rare))
    assert list(plain.words) == list(dirty.words)
    assert np.abs(plain.matrix - dirty.matrix).max() < 0.1 * np.abs(plain.matrix).max()


@pytest.mark.parametrize(("max_vocab", "left"), [(1, 3), (2, 2), (3, 1), (4, 1), (99, 1), (None, 1)])
def test_max_vocab_keeps_the_most_frequent_words(max_vocab, left):
    data = corpus([["a"] * 4 + ["b"] * 3 + ["c"] * 3 + ["d"]])
    encoder = SMALL.model_copy(update={"min_count": 2, "max_vocab": max_vocab}).fit(data)
    assert list(encoder.words) == data.words[: 4 - left]
    beyond = {"beyond_max_vocab": left - 1} if left > 1 else {}
    assert dict(encoder.excluded(data)) == {"below_min_count": 1} | beyond
    assert encoder.mode["vocabulary"] == 4 - left and encoder.mode["tokens"] == 11


@MODELS
@LOSSES
@pytest.mark.parametrize("threads", [1, 2])
def test_every_model_learns_topics(model, loss, threads):
    data = corpus(topics("x", "y", documents=600))
    recipe = Word2Vec(model=model, loss=loss, dim=16, sample=0, min_count=1, epochs=20, lr=0.05, threads=threads)
    encoder = recipe.fit(data)
    found = vectors(encoder, data)
    own = np.mean([cosine(found[f"x{i}"], found[f"x{j}"]) for i in range(10) for j in range(i)])
    other = np.mean([cosine(found[f"x{i}"], found[f"y{j}"]) for i in range(10) for j in range(10)])
    assert own > other + 0.4
    curve = encoder.mode["loss"]
    assert len(curve) == 20 and curve[-1] < curve[0]


@MODELS
@LOSSES
def test_one_thread_repeats_to_the_byte(model, loss):
    data = corpus(topics("x", "y", documents=50))
    recipe = SMALL.model_copy(update={"model": model, "loss": loss})
    first, second = recipe.fit(data), recipe.fit(data)
    assert first.matrix.tobytes() == second.matrix.tobytes() and first.mode == second.mode
    other = recipe.model_copy(update={"seed": 1}).fit(data)
    assert first.matrix.tobytes() != other.matrix.tobytes()


@MODELS
@LOSSES
@pytest.mark.parametrize(
    "extreme",
    [{"dim": 1}, {"window": 1000}, {"negative": 100}, {"max_vocab": 1}, {"negative": 1, "window": 1}],
    ids=lambda extreme: next(iter(extreme)),
)
def test_extremes_give_finite_vectors(model, loss, extreme):
    data = corpus([*topics("x", "y", documents=40), [], ["x1"]])
    encoder = SMALL.model_copy(update={"model": model, "loss": loss} | extreme).fit(data)
    assert np.isfinite(encoder.matrix).all()
    assert encoder.matrix.shape == (extreme.get("max_vocab", 20), extreme.get("dim", 16))


@MODELS
@LOSSES
def test_a_vocabulary_of_one_word(model, loss):
    encoder = SMALL.model_copy(update={"model": model, "loss": loss}).fit(corpus([["a"] * 50]))
    assert encoder.matrix.shape == (1, 16) and np.isfinite(encoder.matrix).all()


def test_a_corpus_in_a_file_is_read_where_it_lies(tmp_path):
    data = corpus(topics("x", "y"))
    data.tokens.tofile(tmp_path / "tokens")
    there = replace(data, tokens=np.memmap(tmp_path / "tokens", np.int32, "r"))
    assert np.array_equal(SMALL.fit(data).matrix, SMALL.fit(there).matrix)


def test_no_word_reaches_min_count():
    with pytest.raises(InputError, match=r"3 distinct words, none of which occurs min_count=5 .*most frequent: 2"):
        Word2Vec().fit(corpus([["a", "b", "c", "a"]]))
    with pytest.raises(InputError, match="0 distinct words"):
        Word2Vec().fit(Corpus([], np.empty(0, np.int64), np.empty(0, np.int32), np.zeros(1, np.int64)))


def test_a_rate_far_too_high_is_an_error_and_no_vector():
    recipe = SMALL.model_copy(update={"lr": 1.0, "negative": 20, "epochs": 10})
    data = corpus(topics("x", "y"))
    encoder = recipe.fit(data)
    with pytest.raises(InputError, match="Lower the learning rate"):
        list(encoder.encode(data))


def test_a_corpus_of_one_word_and_a_document_of_one_word():
    assert vectors(SMALL.fit(corpus([["a"] * 50])), None).keys() == {"a"}
    assert vectors(SMALL.fit(corpus([["a"], ["b"]])), None).keys() == {"a", "b"}


def test_warm_start_keeps_known_words_near_and_adds_new_ones():
    old, new = corpus(topics("x", "y")), corpus(topics("x", "y", "z", seed=1))
    first = SMALL.model_copy(update={"epochs": 10}).fit(old)
    gentle = SMALL.model_copy(update={"lr": 0.005, "epochs": 3})
    before, cold, warm = (vectors(e, old) for e in (first, gentle.fit(new), gentle.fit(new, start=first)))
    assert set(warm) == set(new.words) > set(before)
    near = np.mean([cosine(before[word], warm[word]) for word in before])
    far = np.mean([cosine(before[word], cold[word]) for word in before])
    assert near > 0.9 > far + 0.2
    assert all(np.isfinite(warm[f"z{i}"]).all() for i in range(10))


def test_warm_start_forgets_words_that_are_gone():
    first = SMALL.fit(corpus(topics("x", "y")))
    again = SMALL.fit(corpus(topics("y")), start=first)
    assert set(again.words) == {f"y{i}" for i in range(10)}


@MODELS
@LOSSES
@pytest.mark.parametrize("threads", [1, 2])
def test_frozen_words_keep_their_vectors_and_new_ones_join_them(model, loss, threads):
    old, new = corpus(topics("x", "y")), corpus(topics("x", "y", "z", seed=1) + [["x0", "z0"] * 7] * 100)
    recipe = SMALL.model_copy(update={"model": model, "loss": loss, "epochs": 10, "lr": 0.05, "threads": threads})
    first = recipe.fit(old)
    again = recipe.model_copy(update={"freeze": True}).fit(new, start=first)
    before, after = vectors(first, old), vectors(again, new)
    assert all(np.array_equal(before[word], after[word]) for word in before)
    assert set(after) - set(before) == {f"z{i}" for i in range(10)}
    begun = vectors(recipe.model_copy(update={"epochs": 1, "lr": 1e-9}).fit(new), new)
    assert all(np.abs(after[f"z{i}"] - begun[f"z{i}"]).max() > 0.01 for i in range(10))


def test_a_start_of_the_same_model_answers_as_before():
    """Training goes on near where it stood (vectors are made shorter): its loss is far below that of zeros."""
    data = corpus(topics("x", "y", documents=1000))
    first = SMALL.model_copy(update={"lr": 0.05}).fit(data)
    look = SMALL.model_copy(update={"lr": 1e-6, "epochs": 1})
    same, other = look.fit(data, start=first), look.fit(data, start=replace(first, context=first.context[:0]))
    assert first.mode["loss"][-1] < same.mode["loss"][0] < 1.2 * first.mode["loss"][-1]
    assert other.mode["loss"][0] > 1.5 * same.mode["loss"][0]
    cbow = SMALL.model_copy(update={"model": "cbow"})
    plain = WordVectors(first.recipe, first.words, first.matrix)
    assert np.array_equal(cbow.fit(data, start=first).matrix, cbow.fit(data, start=plain).matrix)


def test_warm_start_of_another_dimension():
    data = corpus(topics("x", "y"))
    with pytest.raises(InputError, match="dimension 16; expected 8"):
        Word2Vec(dim=8, min_count=1).fit(data, start=SMALL.fit(data))


def test_a_loaded_encoder_is_a_start(tmp_path):
    data = corpus(topics("x", "y"))
    first = SMALL.fit(data)
    first.save(tmp_path)
    loaded = Word2Vec.load(tmp_path)
    assert np.array_equal(SMALL.fit(data, start=first).matrix, SMALL.fit(data, start=loaded).matrix)


def test_mode_says_how_it_was_made():
    data = corpus(topics("x", "y"))
    mode = dict(SMALL.fit(data).mode)
    loss = mode.pop("loss")
    assert mode == {
        "device": "cpu", "threads": 1, "precision": "fp32", "reproducible": "bytes",
        "tokens": len(data.tokens), "vocabulary": len(data),
    }  # fmt: skip
    assert len(loss) == SMALL.epochs and 6 * np.log(2) > loss[0] > loss[-1] > 0  # six products that are zero at first
    assert SMALL.model_copy(update={"threads": 2}).fit(data).mode["reproducible"] == "no"


@pytest.mark.parametrize("name", ["encoder.json", "words.json", "weights.safetensors"])
def test_loading_a_damaged_encoder(tmp_path, name):
    SMALL.fit(corpus(topics("x"))).save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:10])
    with pytest.raises(InputError, match="missing or damaged"):
        Word2Vec.load(tmp_path)


def test_loading_what_is_no_encoder(tmp_path):
    with pytest.raises(InputError, match=r"no encoder\.json"):
        Word2Vec.load(tmp_path)
    SMALL.fit(corpus(topics("x"))).save(tmp_path)

    class Newer(Word2Vec):
        version = 99

    with pytest.raises(InputError, match="version 99"):
        Newer.load(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim": 0},
        {"window": 0},
        {"negative": 0},
        {"negative": 101},
        {"max_vocab": 0},
        {"model": "glove"},
        {"loss": "softmax"},
        {"freeze": 2},
        {"sample": -1},
        {"epochs": 0},
        {"lr": 0},
        {"size": 3},
        {"seed": -1},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Word2Vec(**wrong)


def test_batches_are_bounded_and_lose_nothing():
    ids = [str(i) for i in range(150_001)]
    matrix = np.arange(150_001, dtype=np.float32)[:, None]
    parts = list(batches(Vectors("word", ids, matrix)))
    assert [len(batch.vectors) for batch in parts] == [65536, 65536, 150_001 - 131_072]
    assert [name for batch in parts for name in batch.vectors.ids] == ids
    assert np.array_equal(np.concatenate([batch.vectors.matrix for batch in parts]), matrix)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_neighbours_on_real_text(shared_data, threads):
    """Lead paragraphs of Wikipedia's vital articles, 0.8 million words."""
    file = shared_data("text_vital_articles") / "vital_articles_en.tsv.gz"
    data = read_corpus([("articles", file)])
    encoder = Word2Vec(epochs=10, threads=threads).fit(data)
    unit = encoder.matrix / np.linalg.norm(encoder.matrix, axis=1, keepdims=True)
    row = {word: i for i, word in enumerate(encoder.words)}

    def nearest(word):
        return {encoder.words[i] for i in np.argsort(-unit @ unit[row[word]])[1:16]}

    assert nearest("river") & {"rivers", "tributary", "confluence", "delta", "mississippi"}
    assert nearest("king") & {"queen", "duke", "kings", "throne", "prince", "emperor"}
    assert nearest("music") & {"jazz", "concert", "dance", "pop", "musical"}
    assert nearest("chemical") & {"element", "atomic", "elements", "compounds", "compound"}
    assert sum(encoder.excluded(data).values()) + len(encoder.words) == len(data)
    again = replace(encoder, words=list(reversed(encoder.words)))  # the order of the ids is the encoder's
    assert next(iter(again.encode(data))).vectors.ids[0] == encoder.words[-1]
