"""Joined collocations, against a plain reference and what the papers' formulas give."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.inputs import corpus_build, corpus_phrases
from storage.inputs.corpus import read_corpus, read_documents
from storage.inputs.specs import Phrasing


def documents(corpus):
    return [[corpus.words[i] for i in corpus.tokens[a:b]] for a, b in itertools.pairwise(corpus.offsets)]


def plain(texts, score="npmi", threshold=None, min_count=5, passes=1):
    """Mikolov et al. 2013, section 4, with dicts."""
    threshold = threshold if threshold is not None else {"npmi": 0.5, "original": 100.0}[score]
    for _ in range(passes):
        one = Counter(word for text in texts for word in text)
        two = Counter(pair for text in texts for pair in itertools.pairwise(text))
        n = sum(one.values())

        def good(a, b, one=one, two=two, n=n):
            ab = two[a, b]
            if min(one[a], one[b], ab) < min_count:
                return False
            if score == "original":
                return (ab - min_count) / one[a] / one[b] * n > threshold
            return math.log((ab / n) / (one[a] / n * one[b] / n)) / -math.log(ab / n) > threshold

        joined = []
        for text in texts:
            new = []
            at = 0
            while at < len(text):
                both = at + 1 < len(text) and good(text[at], text[at + 1])
                new.append(f"{text[at]}_{text[at + 1]}" if both else text[at])
                at += 2 if both else 1
            joined.append(new)
        texts = joined
    return texts


def put(folder, texts):
    path = folder / "a.txt"
    path.write_text("\n".join(" ".join(text) for text in texts))
    return [("a.txt", path)]


STATION = (
    "new york is not new but york is old and grand central is in new york " * 8 + "the cat sat on the mat"
).split()


def test_a_collocation_is_one_word(tmp_path):
    corpus = read_corpus(put(tmp_path, [STATION]), phrases={"threshold": 0.55})
    words = dict(zip(corpus.words, corpus.counts.tolist(), strict=True))
    assert words["grand_central"] == 8 and "grand" not in words and words["the"] == 2
    assert documents(corpus) == plain([STATION], threshold=0.55)


@pytest.mark.parametrize("at_once", [1, 5, 1 << 20])
@pytest.mark.parametrize("slots", [64, 1 << 23])
def test_parts_and_groups_change_nothing(tmp_path, monkeypatch, at_once, slots):
    texts = [STATION[i : i + 9] for i in range(len(STATION) - 9)]
    expected = plain(texts, min_count=2, passes=3)
    monkeypatch.setattr(corpus_build, "AT_ONCE", at_once)
    monkeypatch.setattr(corpus_phrases, "SLOTS", slots)
    corpus = read_corpus(put(tmp_path, texts), phrases={"min_count": 2, "passes": 3})
    assert documents(corpus) == expected != texts
    assert dict(zip(corpus.words, corpus.counts.tolist(), strict=True)) == Counter(w for t in expected for w in t)
    order = [(-count, word) for word, count in zip(corpus.words, corpus.counts.tolist(), strict=True)]
    assert order == sorted(order)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "d", "a_b", "b_c", "_"]), min_size=1, max_size=12),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["npmi", "original"]),
    st.sampled_from([-0.4871, 0.0137, 0.2113, 0.6171, 1.5219]),  # no score of so few words is one of these
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_phrases_as_the_plain_reference_has_them(tmp_path, texts, score, threshold, min_count, passes):
    """Also joined words that are called like others."""
    options = {"score": score, "threshold": threshold, "min_count": min_count, "passes": passes}
    corpus = read_corpus(put(tmp_path, texts), tokens="whitespace", phrases=options)
    expected = plain(texts, **options)
    assert documents(corpus) == expected
    assert dict(zip(corpus.words, corpus.counts.tolist(), strict=True)) == Counter(w for t in expected for w in t)


def test_scores_of_the_papers():
    counts = np.array([10, 10]), np.array([10, 20]), np.array([10, 50])
    assert corpus_phrases.scores(*counts, 1000, Phrasing()).tolist() == pytest.approx(
        [1.0, math.log(10) / math.log(100)]
    )
    assert corpus_phrases.scores(*counts, 1000, Phrasing(score="original")).tolist() == pytest.approx([50.0, 5.0])


def test_phrases_end_at_sentences_and_documents_hold_them(tmp_path):
    (tmp_path / "a.txt").write_text("I love new york. New jersey too.\nNew york\n" * 6 + "york. New\n")
    files = [("a.txt", tmp_path / "a.txt")]
    options = {"phrases": {"threshold": 0.3}, "sentences": True}
    corpus, rows = read_corpus(files, **options), read_documents(files, **options)
    assert documents(corpus)[:3] == [["i_love", "new_york"], ["new_jersey", "too"], ["new_york"]]
    assert documents(corpus)[-2:] == [["york"], ["new"]]
    assert [b - a for a, b in rows.offsets[:3].tolist()] == [4, 1, 4] and len(rows) == 13
    assert rows.digests[1] == rows.digests[3] != rows.digests[0]


def test_stop_words_go_before_words_are_joined(tmp_path):
    (tmp_path / "stop.txt").write_text("of\nthe\nbank_america")
    (tmp_path / "a.txt").write_text("the bank of america fell\nother words are here\n" * 9)
    corpus = read_corpus(
        [("a.txt", tmp_path / "a.txt")], phrases=True, stop_words=str(tmp_path / "stop.txt"), tokens="whitespace"
    )
    assert documents(corpus)[:2] == [["bank_america", "fell"], ["other_words", "are_here"]]
    assert corpus.counts.tolist() == [9, 9, 9, 9]
