"""UTF-8 bytes to words: what `embedders.text.tokens` defines, as compiled loops over the tables of `text.characters`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from embedders.kernels.hash_table import OFFSET, add, add_byte, find, mix
from embedders.text.characters import APOSTROPHE, BLANK, CASED, COMPOSED, JOINS, LETTER, MARK, PYTHON, SIGMA

GOOD, NUL, NOT_UTF8, BY_PYTHON = range(4)
_LONG = 0x80  # bytes from here on belong to longer sequences


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def decode(data, at) -> Any:
    """Code point at `at` in valid UTF-8, and how many bytes it takes."""
    first = np.int64(data[at])
    if first < _LONG:
        return first, 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (data[at + 1] & 0x3F), 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | (data[at + 1] & 0x3F) << 6 | (data[at + 2] & 0x3F), 3
    low = (data[at + 1] & 0x3F) << 12 | (data[at + 2] & 0x3F) << 6 | (data[at + 3] & 0x3F)
    return (first & 0x07) << 18 | low, 4


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _length(data, at, end):
    """Bytes of the sequence at `at` (RFC 3629), 0 if it is malformed."""
    first = data[at]
    if first < _LONG:
        return 1
    if first < 0xC2 or first > 0xF4:
        return 0
    more = 1 if first < 0xE0 else 2 if first < 0xF0 else 3
    if at + more >= end:
        return 0
    for i in range(1, more + 1):
        if data[at + i] & 0xC0 != 0x80:
            return 0
    second = data[at + 1]
    if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):  # overlong; surrogates
        return 0
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):  # overlong; past U+10FFFF
        return 0
    return more + 1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _joins(joined, starter, code):
    """Whether NFC knows one character for the two."""
    pair = starter << 21 | code
    low, high = 0, len(joined)
    while low < high:
        middle = (low + high) >> 1
        if joined[middle] < pair:
            low = middle + 1
        else:
            high = middle
    return low < len(joined) and joined[low] == pair


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _inspect(data, start, end, folded, characters):
    high, lowest = np.uint8(0), np.uint8(255)
    for at in range(start, end):  # no branch, so that many bytes are looked at together
        high |= data[at]
        lowest = min(lowest, data[at])
    if start < end and lowest == 0:
        return NUL
    if high < _LONG:
        return GOOD
    found = GOOD
    starter, order, composed = np.int64(0), np.uint8(0), False
    at = start
    while at < end:
        size = _length(data, at, end)
        if size == 0:
            return NOT_UTF8
        code = decode(data, at)[0]
        at += size
        if not folded or found == BY_PYTHON:
            continue
        lower, care, mine = characters.lower[code], characters.care[code], characters.order[code]
        if care & PYTHON or (mine != 0 and order > mine):
            found = BY_PYTHON
        elif care & JOINS and (order == 0 or order < mine):  # no mark stands between
            if composed or _joins(characters.joined, starter, lower):
                found = BY_PYTHON
        elif care & SIGMA:
            medial = at < end and _length(data, at, end) and characters.care[decode(data, at)[0]] & CASED
            found = GOOD if medial else BY_PYTHON
        order = mine
        if mine == 0:
            starter, composed = np.int64(lower), care & COMPOSED != 0
    return found


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def inspect(data, starts, ends, folded, characters, found) -> None:
    """What is to be said of each text `data[starts[i]:ends[i]]` before it is cut.

    folded : words will be lower-cased and normalised, not taken as they stand.
    found : (n,) uint8: GOOD; NUL, it holds a zero byte; NOT_UTF8; BY_PYTHON, only `tokens.words` can cut it exactly.
    """
    for i in range(len(starts)):
        found[i] = _inspect(data, starts[i], ends[i], folded, characters)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _put(arena, tail, h, code):
    """Append a code point to the arena and to the hash."""
    if code < _LONG:
        arena[tail] = code
        return tail + 1, add_byte(h, code)
    size = 2 if code < 0x800 else 3 if code < 0x10000 else 4
    shift = 6 * (size - 1)
    byte = ((0xF00 >> size) & 0xFF) | (code >> shift)
    for i in range(size):
        arena[tail + i] = byte
        h = add_byte(h, byte)
        shift -= 6
        if shift >= 0:
            byte = _LONG | ((code >> shift) & 0x3F)
    return tail + size, h


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _cut_words(data, at, end, characters, table, tokens, n):
    """Runs of letters and marks, lower-cased; an apostrophe counts if a letter follows and a letter or mark precedes."""
    slots, hashes, bounds, arena, sizes = table
    kinds, lowers = characters.kind, characters.lower
    first = bounds[sizes[0]]
    tail, h = first, OFFSET
    waiting = False  # an apostrophe
    while at < end:
        code = np.int64(data[at])
        size = 1
        if code >= _LONG:
            code, size = decode(data, at)
        at += size
        kind = kinds[code]
        if kind == LETTER or (kind == MARK and tail > first and not waiting):
            if waiting:
                tail, h = _put(arena, tail, h, 39)
                waiting = False
            tail, h = _put(arena, tail, h, np.int64(lowers[code]))
            while at < end and data[at] < _LONG and kinds[data[at]] == LETTER:  # most of most texts
                byte = lowers[data[at]]
                arena[tail] = byte
                h = add_byte(h, byte)
                tail += 1
                at += 1
        elif tail > first:
            if kind == APOSTROPHE and not waiting:
                waiting = True
                continue
            h = mix(h)
            word = find(slots, hashes, bounds, arena, sizes[1] - 1, h, first, tail - first)
            tokens[n] = add(slots, hashes, bounds, sizes, h, tail, -1 - word) if word < 0 else word
            n += 1
            first = bounds[sizes[0]]
            tail, h, waiting = first, OFFSET, False
    if tail > first:
        h = mix(h)
        word = find(slots, hashes, bounds, arena, sizes[1] - 1, h, first, tail - first)
        tokens[n] = add(slots, hashes, bounds, sizes, h, tail, -1 - word) if word < 0 else word
        n += 1
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _cut_blanks(data, at, end, characters, table, tokens, n):
    """What stands between blanks, as it is."""
    slots, hashes, bounds, arena, sizes = table
    kinds = characters.kind
    first = bounds[sizes[0]]
    tail, h = first, OFFSET
    while at < end:
        code, size = decode(data, at)
        if kinds[code] != BLANK:
            for i in range(size):
                arena[tail + i] = data[at + i]
                h = add_byte(h, data[at + i])
            tail += size
        elif tail > first:
            h = mix(h)
            word = find(slots, hashes, bounds, arena, sizes[1] - 1, h, first, tail - first)
            tokens[n] = add(slots, hashes, bounds, sizes, h, tail, -1 - word) if word < 0 else word
            n += 1
            first = bounds[sizes[0]]
            tail, h = first, OFFSET
        at += size
    if tail > first:
        h = mix(h)
        word = find(slots, hashes, bounds, arena, sizes[1] - 1, h, first, tail - first)
        tokens[n] = add(slots, hashes, bounds, sizes, h, tail, -1 - word) if word < 0 else word
        n += 1
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def tokenise(data, starts, ends, by_words, characters, table, tokens, stops) -> None:
    """Cut texts that `inspect` found fit, and number their words.

    by_words : (n,) bool, cut as `tokens.words` does; else as `str.split`.
    table : empty, with room for a word a byte and half as many bytes again (a lower-case letter may be longer).
    tokens : int32, filled with numbers of `table`. stops : (n,) int64, filled with where each text's tokens end.
    """
    n = 0
    for i in range(len(starts)):
        if by_words[i]:
            n = _cut_words(data, starts[i], ends[i], characters, table, tokens, n)
        else:
            n = _cut_blanks(data, starts[i], ends[i], characters, table, tokens, n)
        stops[i] = n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def count(tokens, counts) -> None:
    """Add to `counts` how often each number occurs."""
    for token in tokens:
        counts[token] += 1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def renumber(tokens, numbers, stops, least) -> Any:
    """Replace each token by its new number; those whose new number is below `least` go.

    stops : (n,) where each text ends, changed alike.

    Returns
    -------
    How many tokens stay, at the front.
    """
    n, at = 0, 0
    for i in range(len(stops)):
        while at < stops[i]:
            number = numbers[tokens[at]]
            at += 1
            if number >= least:
                tokens[n] = number
                n += 1
        stops[i] = n
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def line_ends(data, ends) -> Any:
    """Where the lines of a text end: places of line feeds, and the end if something stands after the last.

    Returns
    -------
    How many there are.
    """
    n = 0
    for at in range(len(data)):
        if data[at] == 10:
            ends[n] = at
            n += 1
    if len(data) and data[-1] != 10:
        ends[n] = len(data)
        n += 1
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def digest(tokens, starts, ends, hashes, out) -> None:
    """MurmurHash3 x64 128 (Appleby) over the 64-bit hashes of each text's words in their order.

    hashes : (words,) uint64. out : (n, 2) uint64.
    """
    c1, c2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
    five, add1, add2 = np.uint64(5), np.uint64(0x52DCE729), np.uint64(0x38495AB5)
    for i in range(len(starts)):
        h1, h2 = np.uint64(0), np.uint64(0)
        start, end = starts[i], ends[i]
        for at in range(start, end, 2):
            k1 = hashes[tokens[at]] * c1
            h1 ^= _turn(k1, 31) * c2
            if at + 1 == end:
                break
            h1 = (_turn(h1, 27) + h2) * five + add1
            k2 = hashes[tokens[at + 1]] * c2
            h2 ^= _turn(k2, 33) * c1
            h2 = (_turn(h2, 31) + h1) * five + add2
        size = np.uint64(8 * (end - start))
        h1 ^= size
        h2 ^= size
        h1 += h2
        h2 += h1
        h1, h2 = mix(h1), mix(h2)
        h1 += h2
        out[i, 0] = h1
        out[i, 1] = h2 + h1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _turn(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
