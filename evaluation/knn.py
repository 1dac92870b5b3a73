"""How often the nearest labelled rows vote for a row's own label: k-nearest-neighbour classification (Cover and Hart 1967)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embedders.base import Similarity, Vectors
from evaluation.base import Report, Score, wilson
from evaluation.matching import labelled
from evaluation.neighbours import nearest


def knn(vectors: Vectors, labels: Mapping[str, str], *, k: int = 5, similarity: Similarity = "cosine") -> Report:
    """Accuracy and macro F1 of the vote of a row's k nearest neighbours, leave-one-out.

    The class with the most votes wins; among equal ones, that of the nearest neighbour. Nothing is drawn at random.

    Parameters
    ----------
    vectors : n rows; those without a label are left out.
    labels : the label of each id. A row that is alone in its class is not asked for, but may be found.
    k : neighbours that vote; reduced where there are fewer than k + 1 rows.
    similarity : how rows are compared; equal scores come in row order.

    Returns
    -------
    Scores `accuracy` (with Wilson's 95 % interval), `macro_f1`, and `majority` (share of the largest class). Notes: the
    counts, k as used and `k_asked`, and `alone`, how many rows were not asked for.

    Raises
    ------
    InputError : no id has both a vector and a label, no class has two members, or k is less than 1.
    """
    found = labelled(vectors, labels)
    asked = found.shared()
    matrix = vectors.matrix[found.rows]
    near, _ = nearest(matrix, matrix[asked], similarity, k, exclude=asked)
    guess, truth = _vote(found.codes[near]), found.codes[asked]
    hits, n = int((guess == truth).sum()), len(asked)
    scores = (
        Score("accuracy", hits / n, *wilson(hits, n)),
        Score("macro_f1", macro_f1(truth, guess)),
        Score("majority", float(np.bincount(truth).max() / n)),
    )
    counts = {"n": n, "alone": len(found.rows) - n, "k": near.shape[1], "k_asked": k, "similarity": similarity}
    return Report(scores, found.notes | counts)


def macro_f1(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """The mean of 2 * hits / (members + guesses) over the classes that have members; both (n,) codes of classes."""
    classes = int(max(truth.max(), guess.max())) + 1
    hits = np.bincount(truth[guess == truth], minlength=classes)
    members, guesses = np.bincount(truth, minlength=classes), np.bincount(guess, minlength=classes)
    there = members > 0
    return float((2 * hits[there] / (members + guesses)[there]).mean())


def _vote(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the commonest of each row of (n, k) codes, the one that comes first among equally common ones."""
    votes = np.zeros(codes.shape, np.int64)
    for place in range(codes.shape[1]):
        votes += codes == codes[:, place : place + 1]
    return np.take_along_axis(codes, votes.argmax(axis=1)[:, None], axis=1)[:, 0]
