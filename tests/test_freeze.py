"""Words that keep the vectors they begin at, by every embedder that can freeze them."""

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.text.fasttext import FastText
from embedders.text.glove import Glove
from embedders.text.word2vec import Word2Vec
from tests.test_word2vec import corpus, cosine, topics, vectors

OLD = corpus(topics("x", "y"))
NEW = corpus(topics("x", "y", "z", seed=1) + [["x0", "z0", "x1", "z1"] * 5] * 100)
RECIPES = [
    Word2Vec(dim=16, sample=0, min_count=1, epochs=10, lr=0.05),
    FastText(dim=16, sample=0, min_count=1, epochs=10),
    FastText(dim=16, sample=0, min_count=1, epochs=10, model="cbow"),
    Glove(dim=16, min_count=1, epochs=20),
    Glove(dim=16, min_count=1, epochs=20, symmetric=False),
]


def changed(recipe, **values):
    return recipe.model_copy(update=values)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.kind}-{getattr(recipe, 'model', '')}")
def test_known_words_stay_and_new_ones_join_them(recipe, threads):
    recipe = changed(recipe, threads=threads)
    before = vectors(recipe.fit(OLD), OLD)
    after = vectors(changed(recipe, freeze=True).fit(NEW, start=recipe.fit(OLD)), NEW)
    assert all(np.array_equal(before[word], after[word]) for word in before)
    assert set(after) - set(before) == {f"z{i}" for i in range(10)}
    at_random = vectors(changed(recipe, epochs=1, lr=1e-9).fit(NEW), NEW)
    assert all(np.abs(after[f"z{i}"] - at_random[f"z{i}"]).max() > 0.01 for i in range(10))
    assert cosine(after["z0"], after["x0"]) > cosine(after["z0"], after["y0"])
    thawed = vectors(recipe.fit(NEW, start=recipe.fit(OLD)), NEW)
    assert not any(np.array_equal(before[word], thawed[word]) for word in before)


@pytest.mark.parametrize("recipe", RECIPES[::2], ids=lambda recipe: recipe.kind)
def test_freezing_without_a_start(recipe):
    with pytest.raises(InputError, match="freeze: true and no start"):
        changed(recipe, freeze=True).fit(OLD)


def test_no_ngram_of_a_frozen_word_learns():
    """A word of the start, and what an unseen word takes from the same n-grams, mean what they meant."""
    recipe = FastText(dim=16, sample=0, min_count=1, threads=1)
    first = recipe.fit(OLD)
    again = changed(recipe, freeze=True).fit(NEW, start=first)
    place = {bucket: i for i, bucket in enumerate(again.buckets.tolist())}
    rows = np.array([place[bucket] for bucket in first.buckets.tolist()])
    assert np.array_equal(again.ngrams[rows], first.ngrams)
    assert len(again.buckets) > len(rows)


def test_most_words_of_fasttext():
    few = FastText(dim=8, min_count=1, max_vocab=4, epochs=1, threads=1).fit(OLD)
    assert list(few.words) == list(OLD.words[:4])
    assert sum(few.excluded(OLD).values()) == len(OLD) - 4
