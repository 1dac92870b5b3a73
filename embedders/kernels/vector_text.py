"""Lines "word number number ..." and word2vec's binary rows to arrays: what reading a file of vectors spends its time on."""

from __future__ import annotations

import numpy as np
from numba import njit

FINE, FEW, NO_NUMBER, NOT_FINITE, MANY, NO_WORD = range(6)
"""What may be wrong with a line: too few fields, a field that is no number, one that float32 cannot hold, more numbers
than expected, no word before them."""

POWERS = np.array([10.0**n for n in range(309)])
BLANK, TAB, END, RETURN = 32, 9, 10, 13


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy", inline="always")
def _is_gap(byte):
    return byte == BLANK or byte == TAB


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _special(text, first, last):
    """Whether a field is a way of writing NaN or infinity, after its sign."""
    if last - first != 3 and last - first != 8:
        return False
    a, b, c = text[first] | 32, text[first + 1] | 32, text[first + 2] | 32
    return (a == 110 and b == 97 and c == 110) or (a == 105 and b == 110 and c == 102)  # nan, inf


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _number(text, i, last):
    """The number that begins at i: its value, where it ends, and what is wrong with it.

    Up to 19 digits are kept, and 15 digits times 10^-22 to 10^22 are the nearest float64 (Clinger 1990); then float32.
    """
    negative = False
    if i < last and (text[i] == 45 or text[i] == 43):
        negative = text[i] == 45
        i += 1
    start, digits, mantissa, exponent, some = i, 0, np.uint64(0), np.int64(0), False
    while i < last and 48 <= text[i] <= 57:
        some = True
        if digits < 19:
            mantissa = mantissa * np.uint64(10) + np.uint64(text[i] - 48)
            digits += 1 if mantissa > 0 else 0
        else:
            exponent += 1
        i += 1
    if i < last and text[i] == 46:
        i += 1
        while i < last and 48 <= text[i] <= 57:
            some = True
            if digits < 19:
                mantissa = mantissa * np.uint64(10) + np.uint64(text[i] - 48)
                digits += 1 if mantissa > 0 else 0
                exponent -= 1
            i += 1
    if some and i < last and (text[i] | 32) == 101:
        i += 1
        down = False
        if i < last and (text[i] == 45 or text[i] == 43):
            down = text[i] == 45
            i += 1
        some, power = False, np.int64(0)
        while i < last and 48 <= text[i] <= 57:
            some = True
            power = min(power * 10 + (text[i] - 48), np.int64(100_000))
            i += 1
        exponent += -power if down else power
    if not some or (i < last and not _is_gap(text[i]) and text[i] != END and text[i] != RETURN):
        while i < last and not _is_gap(text[i]) and text[i] != END and text[i] != RETURN:
            i += 1
        return np.float32(0), i, NOT_FINITE if _special(text, start, i) else NO_NUMBER
    value, shift = np.float64(mantissa), -exponent if exponent < 0 else exponent
    once = shift if shift < 308 else 308
    twice = shift - once if shift - once < 308 else 308
    if mantissa > 0 and exponent < 0:
        value = value / POWERS[once] / POWERS[twice]
    elif mantissa > 0:
        value = value * POWERS[once] * POWERS[twice]
    short = np.float32(-value if negative else value)
    return short, i, FINE if np.isfinite(short) else NOT_FINITE


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _careful(text, first, last, row, span):
    """Read text[first:last] from its right end, so that the word may hold blanks; what is wrong, and where."""
    dim, end = len(row), last
    for k in range(dim - 1, -1, -1):
        while end > first and (_is_gap(text[end - 1]) or text[end - 1] == RETURN):
            end -= 1
        begin = end
        while begin > first and not _is_gap(text[begin - 1]):
            begin -= 1
        if begin == first:
            return NO_WORD if k == 0 and end > first and _number(text, first, end)[2] == FINE else FEW, first, last
        row[k], _, problem = _number(text, begin, end)
        if problem:
            return problem, begin, end
        end = begin
    while end > first and _is_gap(text[end - 1]):
        end -= 1
    span[0], span[1] = first, end
    if end == first:
        return NO_WORD, first, last
    begin = end
    while begin > first and not _is_gap(text[begin - 1]):
        begin -= 1
    if begin > first and _number(text, begin, end)[2] == FINE:
        return MANY, first, last
    return FINE, first, last


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def parse_lines(text, matrix, spans, wanted) -> tuple[int, int, int, int, int]:
    """Read whole lines of `text` into rows of `matrix`, until `wanted` rows or a line that is wrong.

    spans : (n, 2) int64, begin and end of each row's word. Blank lines are passed.

    Returns the rows, the lines looked at, and of a wrong line what is wrong, and begin and end of the place in question.
    """
    dim, size = matrix.shape[1], len(text)
    i, n, line = 0, 0, 0
    while i < size and n < wanted:
        first = i
        while i < size and not _is_gap(text[i]) and text[i] != END:
            i += 1
        spans[n, 0], spans[n, 1] = first, i
        k = 0
        fine = i > first
        while fine and k < dim:
            while i < size and _is_gap(text[i]):
                i += 1
            matrix[n, k], i, problem = _number(text, i, size)
            fine = problem == FINE
            k += 1
        while fine and i < size and (_is_gap(text[i]) or text[i] == RETURN):
            i += 1
        if fine and (i == size or text[i] == END):
            n += 1
        else:
            i = first
            while i < size and text[i] != END:
                i += 1
            last = i
            while last > first and (_is_gap(text[last - 1]) or text[last - 1] == RETURN):
                last -= 1
            if last > first:
                problem, begin, end = _careful(text, first, last, matrix[n], spans[n])
                if problem:
                    return n, line, problem, begin, end
                n += 1
        i += 1
        line += 1
    return n, line, FINE, 0, 0


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def parse_binary(data, numbers, spans, wanted) -> tuple[int, int]:
    """Read rows "word, blank, little-endian float32" into `numbers`, (n, 4 * dim) bytes, until `wanted` or the end.

    Line ends before a word are passed. Returns the rows and the bytes that were used; a row that is cut off is not.
    """
    width, size = numbers.shape[1], len(data)
    used, n = 0, 0
    while n < wanted:
        i = used
        while i < size and (data[i] == END or data[i] == RETURN):
            i += 1
        first = i
        while i < size and data[i] != BLANK:
            i += 1
        if i + 1 + width > size:
            break
        spans[n, 0], spans[n, 1] = first, i
        for k in range(width):
            numbers[n, k] = data[i + 1 + k]
        used = i + 1 + width
        n += 1
    return n, used
