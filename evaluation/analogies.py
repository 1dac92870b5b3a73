"""Analogies: a is to b as c is to what?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.reading import lines
from evaluation.base import Report, Score, one_hot_size, size, wilson
from evaluation.matching import row_of, rows_by_id
from evaluation.neighbours import unit_rows

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
    Scores `accuracy` (over the covered questions, with Wilson's 95 % interval), `coverage`, and `section[NAME]`, the
    accuracy of each section that has a covered question. Notes: `n` covered and `missing` questions, accuracy, n and
    missing of each of the `sections` (accuracy None where none is covered), and the `sizes` of the vectors and of
    one-hot ones, to which every word is equally near.

    Raises
    ------
    InputError : no question is covered, the method is unknown, or `restrict` is less than 1.
    """
    check_method(method)
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
    scores = [
        Score("accuracy", float(right.mean()), *wilson(int(right.sum()), total)),
        Score("coverage", total / asked),
    ]
    first = 0
    for name, covered in sections.items():
        hits = right[first : first + len(covered)]
        accuracy = float(hits.mean()) if len(hits) else None
        parts[name] = {"accuracy": accuracy, "n": len(hits), "missing": len(questions[name]) - len(hits)}
        if accuracy is not None:
            scores.append(Score(f"section[{name}]", accuracy, *wilson(int(hits.sum()), len(hits))))
        first += len(covered)
    sizes = {"vectors": size(matrix), "one_hot": one_hot_size(len(matrix))}
    notes = {
        "n": total, "missing": asked - total, "words": len(matrix), "method": method, "sections": parts, "sizes": sizes,
    }  # fmt: skip
    return Report(tuple(scores), notes)


def check_method(method: str) -> Method:
    """The method of that name.

    Raises
    ------
    InputError : there is none.
    """
    if method not in get_args(Method):
        raise InputError(f"Got method={method!r}; expected one of {', '.join(get_args(Method))}.")
    return cast(Method, method)


def combined(cosines: Matrix, among: Matrix, signs: Sequence[int], method: Method = "add") -> Matrix:
    """How well each word answers what is asked by adding and taking away words: king - man + woman.

    Parameters
    ----------
    cosines : (t, n) float32, of each of the t words asked with to all words.
    among : (t, t), of the words asked with to each other.
    signs : 1 or -1 for each of them.
    method : "add", the cosine to the sum of the words, each of length 1; or "mul" (see `analogies`), the product of the
        moved cosines of what is added over that of what is taken away.

    Returns
    -------
    (n,) float32, large fits.

    Raises
    ------
    InputError : the words of "add" cancel out, or the method is unknown.
    """
    sign = np.array(signs, np.float32)
    if check_method(method) == "mul":
        moved = (1 + cosines) / 2
        product: Matrix = moved[sign > 0].prod(axis=0) / (moved[sign < 0] + np.float32(0.001)).prod(axis=0)
        return product
    square = float(sign @ among.astype(np.float64) @ sign)
    if square < 1e-6:
        raise InputError("Got words that cancel out; expected a sum that points somewhere. Ask with other words.")
    added: Matrix = (sign @ cosines) / np.float32(np.sqrt(square))
    return added


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
