"""Texts to sentences by the rule of `embedders.text.sentences`."""

from __future__ import annotations

from typing import Any

from numba import njit

from embedders.kernels.tokenise import decode
from embedders.text.sentences import BLANK, CLOSING, DIGIT, LETTER, LOWER, STOP, WIDE_STOP

_LINE_FEED, _DOT = 10, 46


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _past(data, at, end, kinds, kind):
    """The first place that is not of a kind; a line feed ends a run of blanks."""
    while at < end:
        code, size = decode(data, at)
        if kinds[code] != kind or code == _LINE_FEED:
            break
        at += size
    return at


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _stop(data, at, end, kinds, initial):
    """Past the stops and closing marks at `at`, and whether a sentence ends there."""
    start, wide = at, False
    while at < end:
        code, size = decode(data, at)
        if kinds[code] != STOP and kinds[code] != WIDE_STOP:
            break
        wide |= kinds[code] == WIDE_STOP
        at += size
    initial &= at == start + 1 and data[start] == _DOT
    at = _past(data, at, end, kinds, CLOSING)
    if wide or at == end:
        return at, True
    after = at
    while after < end:
        code, size = decode(data, after)
        if kinds[code] != BLANK:
            return at, after > at and not initial and kinds[code] != LOWER
        after += size
    return at, True


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def split(data, starts, ends, kinds, firsts, lasts, texts) -> Any:
    """Cut texts of valid UTF-8 into sentences, some of which may hold no word.

    firsts, lasts, texts : int64, filled with the bounds of each sentence and the number of its text.

    Returns
    -------
    How many there are; at most one a byte and one a text.
    """
    n = 0
    for text in range(len(starts)):
        at, end = starts[text], ends[text]
        first, run, letter = at, 0, False  # the length of the word before, and whether its end is a letter
        while at < end:
            code, size = decode(data, at)
            kind = kinds[code]
            cut = False
            if kind == STOP or kind == WIDE_STOP:
                at, cut = _stop(data, at, end, kinds, run == 1 and letter)
            elif code == _LINE_FEED:
                at = _past(data, at + 1, end, kinds, BLANK)
                cut = at < end and data[at] == _LINE_FEED
            else:
                at += size
            if cut:
                firsts[n], lasts[n], texts[n] = first, at, text
                n += 1
                first = at
            letter = kind == LETTER or kind == LOWER
            run = run + 1 if letter or kind == DIGIT else 0
        if first < end:
            firsts[n], lasts[n], texts[n] = first, end, text
            n += 1
    return n
