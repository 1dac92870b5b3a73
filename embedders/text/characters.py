"""What the tokenising kernels have to know of each code point, taken from this Python's Unicode tables.

With them a text can be cut into words character by character, as long as lower-casing and NFC change one character at
a time; `care` marks where they may not, and such a text goes to `tokens.words`.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE = sys.maxunicode + 1
OTHER, LETTER, MARK, APOSTROPHE, BLANK = range(5)
PYTHON, JOINS, SIGMA = 1, 2, 4  # bits of `care`
CASED, COMPOSED = 8, 16
JOINERS = (0x200C, 0x200D)  # zero-width, inside Persian and Indic words


class Characters(NamedTuple):
    """Tables over all code points.

    Parameters
    ----------
    kind : (SIZE,) uint8, OTHER to BLANK; LETTER is a letter or digit, MARK continues a word.
    lower : (SIZE,) int32, the code point in lower case.
    order : (SIZE,) uint8, the canonical combining class of `lower`; 0 is a starter.
    care : (SIZE,) uint8. PYTHON: lower-casing or NFC gives other than one character; JOINS: NFC may join it to the starter
        before; SIGMA: its lower case depends on what follows; CASED: after a capital sigma, it makes that a medial one; COMPOSED: NFC takes it apart and may
        put it together with other marks than its own.
    joined : (k,) int64 sorted, starter << 21 | character, the pairs that NFC joins.
    """

    kind: NDArray[np.uint8]
    lower: NDArray[np.int32]
    order: NDArray[np.uint8]
    care: NDArray[np.uint8]
    joined: NDArray[np.int64]


@cache
def characters() -> Characters:
    """The tables, made once a process (a quarter of a second)."""
    category, combining, normalize = unicodedata.category, unicodedata.combining, unicodedata.normalize
    kind, order, care = (np.zeros(SIZE, np.uint8) for _ in range(3))
    lower = np.arange(SIZE, dtype=np.int32)
    joined = []
    for code in range(SIZE):
        char = chr(code)
        group = category(char)
        if group[0] == "C" and group != "Cc" and group != "Cf":  # unassigned, private or a surrogate: as it is
            continue
        low = char.lower()
        first = low[0]
        if len(low) > 1 or normalize("NFC", first) != first:
            care[code] = PYTHON
        lower[code] = ord(first)
        order[code] = combining(first)
        if char.isspace():
            kind[code] = BLANK
        elif first.isalnum():
            kind[code] = LETTER
        elif category(first)[0] == "M" or code in JOINERS:
            kind[code] = MARK
        if group[0] == "L" and ("ΑΣ" + char).lower()[1] == "σ":
            care[code] |= CASED
        if unicodedata.decomposition(first)[:1] not in ("", "<"):
            care[code] |= COMPOSED
        parts = unicodedata.decomposition(char).split()
        if len(parts) == 2 and parts[0][0] != "<" and normalize("NFC", char) == char:
            joined.append((int(parts[0], 16), int(parts[1], 16)))
    kind[[ord("'"), ord("’")]] = APOSTROPHE
    care[ord("Σ")] |= SIGMA
    care[[mark for _, mark in joined]] |= JOINS
    care[0x1161:0x1176] = care[0x11A8:0x11C3] = PYTHON  # conjoining jamo, which make Hangul syllables
    pairs = np.array(sorted(starter << 21 | mark for starter, mark in joined), np.int64)
    return Characters(kind, lower, order, care, pairs)
