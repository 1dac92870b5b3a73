"""The compiled tokeniser must find what `tokens.words` and `str.split` find, in any text."""

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedders.kernels import hash_table, tokenise
from embedders.kernels.tokenise import BY_PYTHON, GOOD, NOT_UTF8, NUL
from embedders.text.tokens import tokenizer, words
from embedders.text.vocabulary import Texts, Vocabulary

EVERY = [chr(c) for c in range(1, sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
ASSIGNED = [c for c in EVERY if unicodedata.category(c)[0] != "C" or unicodedata.category(c) in ("Cc", "Cf")]
MARKS = [c for c in ASSIGNED if unicodedata.category(c)[0] == "M"]
JOINING = [c for c in MARKS if unicodedata.normalize("NFC", "a" + c) != "a" + c] + list("\u09be\u093c\u3099ᅡᆨ")


def texts_of(contents):
    """Raw bytes as texts, one after another."""
    data = b"".join(contents)
    ends = np.cumsum([0, *map(len, contents)]).astype(np.int64)
    return Texts(np.frombuffer(data, np.uint8), ends[:-1].copy(), ends[1:].copy())


def cut(contents, tokens="words"):
    """Lists of words of each text, by the kernels, and what they said of them."""
    texts = texts_of([c.encode() for c in contents])
    state = texts.state(tokens)
    vocabulary = Vocabulary()
    numbers, stops = vocabulary.number(texts, tokens, state)
    table = vocabulary.table
    known = [
        table.arena[a:b].tobytes().decode()
        for a, b in zip(table.bounds[:-1], table.bounds[1 : len(vocabulary) + 1], strict=False)
    ]
    found = [known[n] for n in numbers]
    assert np.bincount(numbers, minlength=len(known)).tolist() == vocabulary.counts[: len(known)].tolist()
    return [found[a:b] for a, b in zip([0, *stops], stops, strict=False)], state


def check(contents, tokens="words"):
    assert cut(contents, tokens)[0] == [tokenizer(tokens)(c) for c in contents]


anything = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
woven = st.text(
    st.one_of(
        st.sampled_from("aZéßŸ'’_-. 9Σσς日가İʼnǅ\u200d\u00a0\u2003ŉ'"), st.sampled_from(MARKS), st.sampled_from(JOINING),
        st.sampled_from(ASSIGNED),
    )
)  # fmt: skip


@pytest.mark.parametrize("tokens", ["words", "whitespace"])
def test_each_character_by_itself_and_inside_a_word(tokens):
    check(ASSIGNED, tokens)
    check([f"Ab{c}Cd" for c in [*ASSIGNED, *EVERY[::37]]], tokens)


def test_pairs_that_lower_case_or_normalisation_may_join():
    letters = [c for c in ASSIGNED if unicodedata.decomposition(c) or c.lower() != c]
    check([f"x{letter}{mark}y" for letter in letters[::7] for mark in JOINING])
    pairs = [unicodedata.normalize("NFD", c) for c in ASSIGNED if unicodedata.decomposition(c)]
    check([*pairs, *(f"{p}\u0315\u0300" for p in pairs)])


def test_a_capital_sigma_before_anything():
    check([f"ΑΣ{c}" for c in ASSIGNED])
    check([f"Σ{c}Β" for c in ASSIGNED[::5]])


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(anything, woven), max_size=6))
@example(["ΟΔΟΣ ΣΑΣ Σ", "İstanbul", "q\u0307\u0323", "a''b 'a' a'", "\u0301x"])
def test_words_are_those_of_python(contents):
    check(contents)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(anything, woven), max_size=6))
def test_blanks_are_those_of_python(contents):
    check(contents, "whitespace")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=12), st.text().map(lambda t: t.encode("utf-16"))), max_size=6))
@example([b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"ok", b"\xe0\x80\x80"])
def test_bad_bytes_are_those_that_python_refuses(contents):
    def fit(content):
        try:
            content.decode()
        except UnicodeDecodeError:
            return NOT_UTF8
        return GOOD

    state = texts_of(contents).state("whitespace").tolist()
    assert state == [NUL if 0 in content else fit(content) for content in contents]


def test_every_sequence_of_two_bytes_and_the_edges_of_longer_ones():
    edges = (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    contents = [bytes((a, b)) for a in range(1, 256) for b in range(1, 256)]
    contents += [bytes((a, b, c)) for a in range(0xDF, 0xF1) for b in edges for c in edges]
    contents += [bytes((a, b, c, d)) for a in range(0xEF, 0xF6) for b in edges for c in edges for d in edges]

    def fit(content):
        try:
            content.decode()
        except UnicodeDecodeError:
            return False
        return True

    assert (texts_of(contents).state("whitespace") == GOOD).tolist() == [fit(content) for content in contents]


def test_common_text_of_many_scripts_needs_no_python():
    """Else those languages would be read at Python's pace."""
    common = [
        "Don’t stop: the café's №1!", "Привет, Мир", "Ελληνική Στοά Σήμερα", "हिन्दी में लड़का पढ़ता है", "বাংলা ভাষা", "தமிழ் மொழி",
        "ภาษาไทย", "日本語 テキスト", "مرحبا بِكُم", "שָׁלוֹם", "한국어", "Tiếng Việt", "می‌خواهم",
    ]  # fmt: skip
    common = [unicodedata.normalize("NFC", text) for text in common]
    assert set(cut(common)[1].tolist()) == {GOOD}
    assert cut(["ΟΔΟΣ", "Tiếng Việt", "İ"][:1])[1].tolist() == [BY_PYTHON]


def test_real_text(shared_data):
    from storage.inputs.corpus import lines

    found = [line.decode() for line in lines(shared_data("text_wikipedia_en") / "wikipedia_en.txt.gz")][:20_000]
    check(found)
    check(found, "whitespace")


def test_words_of_one_slot_are_told_apart():
    """Hashes that agree do not make words equal."""
    table = hash_table.new_table(100, 1000)
    numbers = []
    for word in (b"one", b"two", b"on", b"one", b"three", b"two"):
        tail = table.bounds[table.sizes[0]]
        table.arena[tail : tail + len(word)] = np.frombuffer(word, np.uint8)
        h = np.uint64(7)
        found = hash_table.find(*table[:4], table.sizes[1] - 1, h, tail, len(word))
        if found < 0:
            found = hash_table.add(
                table.slots, table.hashes, table.bounds, table.sizes, h, tail + len(word), -1 - found
            )
        numbers.append(int(found))
    assert numbers == [0, 1, 2, 0, 3, 1]


def test_a_table_grows():
    content = " ".join(f"w{i}" for i in range(50_000))
    assert cut([content, content])[0] == [content.split()] * 2


def test_words_added_by_name_are_not_counted():
    vocabulary = Vocabulary()
    assert vocabulary.add(["the", "of", "the"]).tolist() == [0, 1, 0]
    assert vocabulary.counts.sum() == 0
    texts = texts_of([b"of cats", b"the", b"cats and the dogs"])
    numbers, stops = vocabulary.number(texts, "words", texts.state("words"), least=2)
    assert (numbers.tolist(), stops.tolist()) == ([2, 2, 3, 4], [1, 1, 4])


def murmur(numbers):
    """MurmurHash3_x64_128 as its author wrote it, over the little-endian bytes of 64-bit numbers, seed 0."""
    mask = (1 << 64) - 1

    def turn(x, r):
        return ((x << r) | (x >> (64 - r))) & mask

    def final(k):
        k ^= k >> 33
        k = k * 0xFF51AFD7ED558CCD & mask
        k ^= k >> 33
        k = k * 0xC4CEB9FE1A85EC53 & mask
        return k ^ k >> 33

    h1 = h2 = 0
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    for k1, k2 in zip(numbers[::2], numbers[1::2], strict=False):
        h1 ^= turn(k1 * c1 & mask, 31) * c2 & mask
        h1 = ((turn(h1, 27) + h2) * 5 + 0x52DCE729) & mask
        h2 ^= turn(k2 * c2 & mask, 33) * c1 & mask
        h2 = ((turn(h2, 31) + h1) * 5 + 0x38495AB5) & mask
    if len(numbers) % 2:
        h1 ^= turn(numbers[-1] * c1 & mask, 31) * c2 & mask
    h1 ^= 8 * len(numbers)
    h2 ^= 8 * len(numbers)
    h1 = (h1 + h2) & mask
    h2 = (h2 + h1) & mask
    h1, h2 = final(h1), final(h2)
    h1 = (h1 + h2) & mask
    return [h1, (h2 + h1) & mask]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=9))
def test_digests_are_murmur_hashes(hashes):
    n = len(hashes)
    out = np.empty((2, 2), np.uint64)
    tokens = np.arange(n, dtype=np.int32)
    tokenise.digest(tokens, np.array([0, n - 1]), np.array([n, n]), np.array(hashes, np.uint64), out)
    assert out.tolist() == [murmur(hashes), murmur(hashes[-1:])]


def test_words_reference_is_what_is_asked(monkeypatch):
    assert words("A b") == ["a", "b"] == cut(["A b"])[0][0]
