"""Analogies: a is to b as c is to what?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from evaluation.base import Report, Score, wilson
from evaluation.matching import row_of, rows_by_id
from evaluation.neighbours import nearest, unit_rows
from evaluation.reading import lines

Question = tuple[str, str, str, str]
Method = Literal["add", "mul"]
QUESTIONS_AT_ONCE = 4096
ROWS_AT_ONCE = 256
WORDS_AT_ONCE = 2048


def read_questions(path: str | Path) -> dict[str, list[Question]]:
    """Read lines `a b c d` (a is to b as c is to d) below lines `: section`.

    Returns
    -------
    The questions of each section, in file order; those above the first section are in the section "".

    Raises
    ------
    InputError : a line has not four words (its number is named), or the file has no questions, is missing or not UTF-8.
    """
    sections: dict[str, list[Question]] = {}
    section = ""
    for number, line in enumerate(lines(path), start=1):
        words = line.split()
        if line.lstrip().startswith(":"):
            section = line.strip().removeprefix(":").strip()
        elif len(words) == 4:
            sections.setdefault(section, []).append((words[0], words[1], words[2], words[3]))
        elif words:
            raise InputError(
                f"Got {line.strip()!r} on line {number} of {str(path)!r}; expected four words 'a b c d', or ': section'."
            )
    if not sections:
        raise InputError(f"Got no questions in {str(path)!r}; expected lines of four words 'a b c d'.")
    return sections


def analogies(
    vectors: Vectors,
    questions: Mapping[str, Sequence[Question]],
    *,
    method: Method = "add",
    restrict: int | None = None,
) -> Report:
    """The share of questions whose fourth word is the nearest to what the other three ask for.

    Parameters
    ----------
    vectors : the words, most frequent first; a word is looked up as given, then in lower case.
    questions : (a, b, c, d) by section.
    method : "add" is 3CosAdd, cos(w, b) - cos(w, a) + cos(w, c); "mul" is 3CosMul, cos(w, b) * cos(w, c) /
        (cos(w, a) + 0.001) with cosines moved to 0..1 (Levy and Goldberg 2014, aclanthology.org/W14-1618). The three
        words of a question are never its answer.
    restrict : only the first so many words take part; a question with another word counts as missing.

    Returns
    -------
    Scores `accuracy` (over the covered questions, with Wilson's 95 % interval) and `coverage`. Notes: `n` covered and
    `missing` questions, and accuracy, n and missing of each of the `sections` (accuracy None where none is covered).

    Raises
    ------
    InputError : no question is covered, the method is unknown, or `restrict` is less than 1.
    """
    if method not in get_args(Method):
        raise InputError(f"Got method={method!r}; expected one of {', '.join(get_args(Method))}.")
    if restrict is not None and restrict < 1:
        raise InputError(f"Got restrict={restrict}; expected at least 1 word, or None for all.")
    matrix = vectors.matrix[:restrict]
    known = rows_by_id(vectors.ids[:restrict])
    sections = {name: _covered(known, asked) for name, asked in questions.items()}
    asked = sum(map(len, questions.values()))
    total = sum(map(len, sections.values()))
    if not total:
        raise InputError(
            f"Got {asked} questions, none with all four words among the {len(matrix)} vectors (such as "
            f"{', '.join(map(repr, vectors.ids[:3])) or 'none'}). Check the language and the case of the words."
        )
    rows = np.concatenate(list(sections.values()))
    right = _answers(unit_rows(matrix), rows[:, :3], method) == rows[:, 3]
    parts: dict[str, Any] = {}
    first = 0
    for name, covered in sections.items():
        hits = right[first : first + len(covered)]
        accuracy = float(hits.mean()) if len(hits) else None
        parts[name] = {"accuracy": accuracy, "n": len(hits), "missing": len(questions[name]) - len(hits)}
        first += len(covered)
    notes = {"n": total, "missing": asked - total, "words": len(matrix), "method": method, "sections": parts}
    share = Score("accuracy", float(right.mean()), *wilson(int(right.sum()), total))
    return Report((share, Score("coverage", total / asked)), notes)


def solve(
    vectors: Vectors, positive: Sequence[str], negative: Sequence[str] = (), k: int = 10
) -> list[tuple[str, float]]:
    """The k words nearest to the sum of the positive minus the negative words, with their cosines; nearest first.

    `solve(words, ["king", "woman"], ["man"])` asks what king - man + woman is. Each word counts with length 1, and is
    looked up as given, then in lower case; the words asked with are never the answer.

    Raises
    ------
    InputError : a word is unknown (close matches are named), no word is given, the words cancel out, or k is below 1.
    """
    if not (positive or negative):
        raise InputError("Got no words; expected at least one, such as king - man + woman.")
    known = rows_by_id(vectors.ids)
    rows = [_row(vectors, known, word) for word in (*positive, *negative)]
    sign = np.array([1] * len(positive) + [-1] * len(negative), np.float32)
    query = (sign[:, None] * unit_rows(vectors.matrix[rows])).sum(axis=0, keepdims=True)
    if np.linalg.norm(query) < 1e-6:
        raise InputError("Got words that cancel out; expected a sum that points somewhere. Ask with other words.")
    near, cosines = nearest(vectors.matrix, query, "cosine", k, exclude=np.unique(rows)[None])
    return [(vectors.ids[int(row)], float(cosine)) for row, cosine in zip(near[0], cosines[0], strict=True)]


def _row(vectors: Vectors, known: Mapping[str, int], word: str) -> int:
    row = row_of(known, word)
    if row is None:
        alike = [name for name in vectors.ids[:100_000] if abs(len(name) - len(word)) <= 2]
        close = get_close_matches(word, alike) or get_close_matches(word.lower(), alike)
        hint = f"Close to it: {', '.join(close)}." if close else "Nothing is spelled like it."
        raise InputError(f"Got the word {word!r}; expected one of the {len(vectors)} words of the vectors. {hint}")
    return row


def _covered(known: Mapping[str, int], asked: Sequence[Question]) -> NDArray[np.int64]:
    """(covered, 4) rows of the words of the questions whose words are all known."""
    found = ([row_of(known, word) for word in question] for question in asked)
    rows = [row for row in found if None not in row]
    return np.array(rows, np.int64).reshape(len(rows), 4)


def _answers(unit: Matrix, asked: NDArray[np.int64], method: Method) -> NDArray[np.int64]:
    """(q,) best rows for the questions (q, 3), rows of a, b and c; the first of equal ones, -1 where no word is left."""
    with one_thread():
        parts = [_best(unit, asked[i : i + QUESTIONS_AT_ONCE], method) for i in range(0, len(asked), QUESTIONS_AT_ONCE)]
    return np.concatenate(parts)


def _best(unit: Matrix, asked: NDArray[np.int64], method: Method) -> NDArray[np.int64]:
    """What `_answers` gives, for questions that are few enough for the memory.

    Questions share their words, so cosines are computed once for each distinct word and added for each question (3CosMul
    is the same sum over logarithms), in blocks that fit the processor's cache.
    """
    terms, at = np.unique(asked, return_inverse=True)
    at = at.reshape(asked.shape)
    value, answer = np.full(len(asked), -np.inf, np.float32), np.full(len(asked), -1, np.int64)
    for left in range(0, len(unit), WORDS_AT_ONCE):
        plus = minus = unit[terms] @ unit[left : left + WORDS_AT_ONCE].T
        if method == "mul":
            moved = np.maximum((1 + plus) / 2, 1e-9)
            plus, minus = np.log(moved), np.log(moved + np.float32(0.001))
        for first in range(0, len(asked), ROWS_AT_ONCE):
            block = slice(first, first + ROWS_AT_ONCE)
            score = plus[at[block, 1]]
            score -= minus[at[block, 0]]
            score += plus[at[block, 2]]
            row, place = np.nonzero((asked[block] >= left) & (asked[block] < left + WORDS_AT_ONCE))
            score[row, asked[block][row, place] - left] = -np.inf
            best = score.argmax(axis=1)
            found = score[np.arange(len(best)), best]
            better = found > value[block]
            value[block][better], answer[block][better] = found[better], best[better] + left
    return answer
