"""Text to words in many scripts, against a slow and plain reference."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedders.text.tokens import tokenizer, words


def plain(text):
    """Letter by letter: runs of letters and digits with their marks; an apostrophe holds between two of them."""
    text = unicodedata.normalize("NFC", text.lower().replace("’", "'"))
    found, word = [], ""
    for i, char in enumerate(text):
        kind = unicodedata.category(char)[0]
        if char.isalnum() or (kind == "M" and word and word[-1] != "'"):
            word += char
        elif char == "'" and word and word[-1] != "'" and text[i + 1 : i + 2].isalnum():
            word += char
        elif word:
            found.append(word)
            word = ""
    return [*found, word] if word else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("don't 'quote' o'clock's rock'n'roll '", ["don't", "quote", "o'clock's", "rock'n'roll"]),
        ("don’t", ["don't"]),
        ("a_b a-b 3.14 x2", ["a", "b", "a", "b", "3", "14", "x2"]),
        ("Ça va? ÉCOLE", ["ça", "va", "école"]),
        ("cafe\u0301 CAFE\u0301 café", ["café"] * 3),  # composed and decomposed are one word
        ("Straße STRASSE", ["straße", "strasse"]),
        ("Привет, мир", ["привет", "мир"]),
        ("ΟΔΟΣ", ["οδος"]),
        ("हिन्दी में लिखना", ["हिन्दी", "में", "लिखना"]),  # vowel signs and virama are marks
        ("ภาษาไทย", ["ภาษาไทย"]),
        ("日本語 テキスト", ["日本語", "テキスト"]),
        ("مرحبا بِكُم", ["مرحبا", "بِكُم"]),
        ("q\u0307\u0323x", ["q\u0323\u0307x"]),  # marks that do not compose stay, in canonical order
        ("\u0301abc", ["abc"]),  # a mark with nothing to stand on
        ("№1 x² ½", ["1", "x²", "½"]),
        ("😀 ok 👍🏽", ["ok"]),
        ("", []),
        (" \t\n ", []),
        ("a\x00b", ["a", "b"]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@settings(max_examples=400, deadline=None)
@given(st.text())
@example("ǅ İ ﬁ ŉ K Å")
@example("a''b 'a' a'")
def test_words_as_the_plain_reference_has_them(text):
    assert words(text) == plain(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_of_ascii_is_the_long_way(text):
    """A word of another script beside it leads through the other pattern."""
    assert [*words(text + " "), "é"] == words(text + " é")


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_words_are_whole_words(text):
    for word in words(text):
        assert word and words(word) == [word]


def test_whitespace_keeps_everything_but_blanks():
    assert tokenizer("whitespace")("Don’t  STOP!\tcafe\u0301 \u00a0x") == ["Don’t", "STOP!", "cafe\u0301", "x"]
    assert tokenizer("words") is words


def test_zero_width_joiners_stay_inside_a_word():
    assert words("می‌خواهم بروم") == ["می‌خواهم", "بروم"]
