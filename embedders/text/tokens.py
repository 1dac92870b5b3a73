"""Text to words. The two ways of cutting are named in the pipeline file: `words` and `whitespace`."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

Tokens = Literal["words", "whitespace"]


@cache
def _word_pattern() -> re.Pattern[str]:
    # \w knows letters and digits, but neither combining marks, without which Hindi or Thai words fall apart, nor the
    # zero-width joiners inside Persian and Indic words
    inside = [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "M" or c in (0x200C, 0x200D)]
    marks = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in _runs(inside))
    letter = rf"[^\W_][{marks}]*"
    return re.compile(rf"(?:{letter})+(?:'(?:{letter})+)*")


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


_ASCII = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")


def words(text: str) -> list[str]:
    """Lower-cased (NFC) runs of letters, marks and digits; apostrophes inside a word stay, as `'`.

    >>> words("Don’t stop: the café's №1!")
    ["don't", 'stop', 'the', "café's", '1']
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    return _word_pattern().findall(unicodedata.normalize("NFC", text.lower().replace("’", "'")))


def tokenizer(name: Tokens) -> Callable[[str], list[str]]:
    """The function that cuts a text into words; `whitespace` keeps case and punctuation."""
    return words if name == "words" else str.split
