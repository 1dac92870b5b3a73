"""Where sentences end, against a plain reading of the rule."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedders.kernels.sentences import split
from embedders.text.sentences import STOPS, WIDE_STOPS, kinds


def sentences(*contents):
    """What the kernel makes of texts, blanks at the ends taken off."""
    parts = [content.encode() for content in contents]
    ends = np.cumsum([0, *map(len, parts)])
    data = np.frombuffer(b"".join(parts), np.uint8)
    first, last, of = (np.empty(len(data) + len(parts), np.int64) for _ in range(3))
    n = split(data, ends[:-1], ends[1:], kinds(), first, last, of)
    found = [[] for _ in contents]
    for a, b, text in zip(first[:n], last[:n], of[:n], strict=True):
        found[text].append(data[a:b].tobytes().decode())
    assert ["".join(texts) for texts in found] == list(contents)  # nothing is lost
    return [[s for t in texts if (s := t.strip())] for texts in found]


def plain(text):
    """The rule of `embedders.text.sentences`, said again with strings."""
    found, first, at = [], 0, 0

    def group(i):
        return unicodedata.category(text[i]) if i < len(text) else ""

    while at < len(text):
        cut = False
        if text[at] in STOPS + WIDE_STOPS:
            start = at
            while at < len(text) and text[at] in STOPS + WIDE_STOPS:
                at += 1
            stops = text[start:at]
            before = text[:start]
            word = len(before)
            while word and group(word - 1)[0] in "LMN":
                word -= 1
            initial = stops == "." and start - word == 1 and group(word)[0] in "LM"
            while at < len(text) and (group(at) in ("Pe", "Pf", "Pi") or text[at] in "\"'"):
                at += 1
            rest = text[at:].lstrip()
            free = not rest or (text[at].isspace() and not initial and unicodedata.category(rest[0]) != "Ll")
            cut = free or any(c in WIDE_STOPS for c in stops)
        elif text[at] == "\n":
            at += 1
            while at < len(text) and text[at].isspace() and text[at] != "\n":
                at += 1
            cut = at < len(text) and text[at] == "\n"
        else:
            at += 1
        if cut:
            found.append(text[first:at])
            first = at
    return [s for t in [*found, text[first:]] if (s := t.strip())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One here. Two there! Three? Four", ["One here.", "Two there!", "Three?", "Four"]),
        ('He said "Stop." Then (he left.) She did.', ['He said "Stop."', "Then (he left.)", "She did."]),
        ("It costs 3.14 at example.com today. Yes.", ["It costs 3.14 at example.com today.", "Yes."]),
        ("Well... maybe. And so on, e.g. this. End", ["Well... maybe.", "And so on, e.g. this.", "End"]),
        ("J. R. R. Tolkien wrote. He did.", ["J. R. R. Tolkien wrote.", "He did."]),
        ("今日は。明日！「はい。」と", ["今日は。", "明日！", "「はい。」", "と"]),
        ("क्या है। हाँ। ठीक", ["क्या है।", "हाँ।", "ठीक"]),
        ("ما هذا؟ نعم۔ لا", ["ما هذا؟", "نعم۔", "لا"]),
        ("A title\n\nThe text goes\non here.\r\n \r\nNext", ["A title", "The text goes\non here.", "Next"]),
        ("Year 5. Then", ["Year 5.", "Then"]),
        ("Really?! Yes", ["Really?!", "Yes"]),
        ("...", ["..."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == [expected] == [plain(text)]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("aB1é.!?。！ \n\r\t\"')”—日") | st.characters(codec="utf-8"), max_size=30), max_size=4
    )
)
@example(["a.", "B. C", "A.\u0301 b"])
def test_sentences_as_the_plain_rule_has_them(texts):
    assert sentences(*texts) == [plain(text) for text in texts]
