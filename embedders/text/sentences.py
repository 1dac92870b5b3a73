"""Where sentences end: a plain rule without lists of abbreviations.

A sentence ends
- after 。 ｡ ！ ？ and the closing quotes and brackets behind them;
- after other stops (. ! ? … and those of other scripts) and closing marks, if the text ends there, or if a blank and then
  anything but a lower-case letter follow; a single `.` after a single letter, as of an initial, ends nothing;
- at an empty line.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

OTHER, STOP, WIDE_STOP, CLOSING, BLANK, LETTER, LOWER, DIGIT = range(8)
STOPS = ".!?…‼⁇⁈⁉؟۔।॥։።፧။។៕"
WIDE_STOPS = "。｡！？"


@cache
def kinds() -> NDArray[np.uint8]:
    """(code points,) uint8, what each is to the rule."""
    category = unicodedata.category
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    for code in range(len(table)):
        char = chr(code)
        group = category(char)
        if group in ("Pe", "Pf", "Pi") or char in "\"'":
            table[code] = CLOSING
        elif group == "Ll":
            table[code] = LOWER
        elif group[0] in "LM":
            table[code] = LETTER
        elif group[0] == "N":
            table[code] = DIGIT
        elif char.isspace():
            table[code] = BLANK
    table[[ord(char) for char in STOPS]] = STOP
    table[[ord(char) for char in WIDE_STOPS]] = WIDE_STOP
    return table
