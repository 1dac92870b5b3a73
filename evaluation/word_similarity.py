"""Whether cosines rank pairs of words as people do."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Vectors
from embedders.errors import InputError
from embedders.reading import lines
from evaluation.base import Report, Score, one_hot_size, size
from evaluation.matching import row_of, rows_by_id
from evaluation.neighbours import unit_rows

Pair = tuple[str, str, float]
RESAMPLES = 1000
DRAWS_AT_ONCE = 2_000_000


def read_pairs(path: str | Path) -> list[Pair]:
    """Read lines `word1 word2 score`, separated by tabs, commas (fields may be quoted) or blanks.

    With tabs or commas other columns may stand behind the words, as in SimLex-999's own file: the score is the first
    number. Empty lines and lines that start with # are skipped, and so is a header: a first line without a number there.

    Raises
    ------
    InputError : a line is malformed (its number is named), or the file has no pairs, is missing or not UTF-8.
    """
    found = [(i, line) for i, line in enumerate(lines(path), start=1) if line.strip() and not line.startswith("#")]
    cut = _cutter(found[-1][1] if found else "")
    rows = [(number, line, cut(line)) for number, line in found]
    place = next((i for i, field in enumerate(rows[-1][2]) if i > 1 and _number(field) is not None), 2) if rows else 2
    if rows and len(first := rows[0][2]) > place and _number(first[place]) is None and len(first) == len(rows[-1][2]):
        del rows[0]
    pairs: list[Pair] = []
    for number, line, fields in rows:
        score = _number(fields[place]) if len(fields) > place else None
        if score is None or not (fields[0] and fields[1]):
            raise InputError(
                f"Got {line.strip()!r} on line {number} of {str(path)!r}; expected 'word1 word2 score' with a finite "
                "score. Correct the line, or start it with #."
            )
        pairs.append((fields[0], fields[1], score))
    if not pairs:
        raise InputError(f"Got no pairs in {str(path)!r}; expected lines 'word1 word2 score'.")
    return pairs


def word_similarity(vectors: Vectors, pairs: Sequence[Pair], *, seed: int = 0) -> Report:
    """Spearman's rank correlation of the cosine and people's score, over the pairs whose words both have a vector.

    Parameters
    ----------
    vectors : the words; a word is looked up as given, then in lower case.
    pairs : (word1, word2, score).
    seed : of the bootstrap (1,000 resamples of the covered pairs) behind the 95 % interval.

    Returns
    -------
    Scores `spearman` and `coverage` (share of the pairs). Notes: `n` covered pairs, `missing` pairs, the first
    `missing_words`, and the `sizes` of the vectors and of one-hot ones, which have no correlation: their cosines are 0.

    Raises
    ------
    InputError : fewer than 3 pairs are covered, or all their scores or all their cosines are equal.
    """
    rows = rows_by_id(vectors.ids)
    covered: list[tuple[int, int, float]] = []
    missing: dict[str, None] = {}
    for one, two, score in pairs:
        a, b = row_of(rows, one), row_of(rows, two)
        if a is not None and b is not None:
            covered.append((a, b, score))
        else:
            missing.update({word: None for word, row in ((one, a), (two, b)) if row is None})
    if len(covered) < 3:
        raise InputError(
            f"Got {len(covered)} of {len(pairs)} pairs with both words among the {len(vectors)} vectors; expected at "
            f"least 3. Missing are {', '.join(map(repr, list(missing)[:5])) or 'none'}; the vectors hold "
            f"{', '.join(map(repr, vectors.ids[:5])) or 'nothing'}."
        )
    left = vectors.matrix[[one for one, _, _ in covered]]
    right = vectors.matrix[[two for _, two, _ in covered]]
    cosine = np.einsum("ij,ij->i", unit_rows(left), unit_rows(right), dtype=np.float64).round(6)
    judged = np.array([score for *_, score in covered], np.float64)
    for name, values in (("cosines", cosine), ("scores", judged)):
        if values.min() == values.max():
            raise InputError(f"Got equal {name} for all {len(values)} covered pairs; a rank correlation needs others.")
    low, high = _interval(cosine, judged, seed)
    notes = {
        "n": len(covered),
        "missing": len(pairs) - len(covered),
        "missing_words": list(missing)[:20],
        "resamples": RESAMPLES,
        "seed": seed,
        "sizes": {"vectors": size(vectors.matrix), "one_hot": one_hot_size(len(vectors))},
    }
    value = float(_spearman(cosine[None], judged[None])[0])
    return Report((Score("spearman", value, low, high), Score("coverage", len(covered) / len(pairs))), notes)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r,) rank correlations of the rows of x and y, (r, n) each; ties share their mean rank; NaN for a constant row."""
    from scipy.stats import rankdata

    a, b = (np.asarray(rankdata(values, axis=1), np.float64) for values in (x, y))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    value = np.full(len(size), np.nan)
    np.divide((a * b).sum(axis=1), size, out=value, where=size > 0)
    return value


def _interval(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile over resamples; a constant resample has no correlation and is left out."""
    rng = np.random.default_rng(seed)
    size = max(1, DRAWS_AT_ONCE // len(x))
    parts: list[NDArray[Any]] = []
    for first in range(0, RESAMPLES, size):
        drawn = rng.integers(len(x), size=(min(size, RESAMPLES - first), len(x)))
        parts.append(_spearman(x[drawn], y[drawn]))
    values = np.concatenate(parts)
    low, high = np.percentile(values[~np.isnan(values)], [2.5, 97.5])
    return float(low), float(high)


def _cutter(line: str) -> Callable[[str], list[str]]:
    """How lines like this one are cut: at tabs or commas where it has two, else at blanks, into no more than three."""
    if line.count("\t") > 1:
        return lambda text: [field.strip() for field in text.split("\t")]
    if line.count(",") > 1:
        return lambda text: [field.strip() for field in next(csv.reader([text], skipinitialspace=True))]

    def blanks(text: str) -> list[str]:
        fields = text.split()
        return fields if len(fields) == 3 else []

    return blanks


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
