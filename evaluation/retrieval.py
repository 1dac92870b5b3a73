"""How well a row finds the others of its label: mean average precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Similarity, Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores, run_threads
from evaluation.base import Report, Score
from evaluation.matching import labelled
from evaluation.neighbours import SCORES_AT_ONCE, Comparison


def retrieval(
    vectors: Vectors, labels: Mapping[str, str], *, queries: int = 10_000, seed: int = 0, similarity: Similarity = "cosine"
) -> Report:  # fmt: skip
    """Each labelled row asks for all others, nearest first; those of its label are relevant.

    Average precision is the mean of the precisions at the relevant rows (Manning et al. 2008, section 8.4). Rows of
    equal score are looked at together, as scikit-learn does, so that their order in the file decides nothing. The
    whole ranking counts, exactly, in blocks of bounded memory.

    Parameters
    ----------
    vectors : rows without a label are left out.
    labels : the label of each id. A row that is alone in its class does not ask, but stands in the way of others.
    queries : where more rows could ask, so many of them do, drawn at random by `seed`.
    similarity : how rows are compared; of "l2", squared distances in float32.

    Returns
    -------
    Scores `map` (with a 95 % interval over the queries, by the normal approximation), `r_precision` (precision among
    the first R, where R rows are relevant), and `chance` (the expected average precision of a random order). Notes: the
    counts, `n` being the queries, and `ranked`, the rows that each of them ranks.

    Raises
    ------
    InputError : no id has both a vector and a label, no class has two members, or a similarity overflows float32.
    """
    found = labelled(vectors, labels)
    asked = found.shared()
    if len(asked) > queries:
        asked = np.sort(np.random.default_rng(seed).choice(asked, queries, replace=False))
    matrix, n = vectors.matrix[found.rows], len(found.rows)
    members = np.split(np.argsort(found.codes, kind="stable"), np.cumsum(found.sizes)[:-1])
    compare = Comparison(matrix, similarity)
    precision, r_precision = np.empty(len(asked)), np.empty(len(asked))
    size = max(1, SCORES_AT_ONCE // n)

    def ask(_: int, piece: int) -> None:
        block = asked[piece * size : (piece + 1) * size]
        scores = compare.scores(matrix[block])
        scores[np.arange(len(block)), block] = -np.inf  # itself comes last, and is cut off
        relevant = [np.sort(line[members[found.codes[row]]])[1:] for line, row in zip(scores, block, strict=True)]
        scores.sort(axis=1)
        if not np.isfinite(scores[:, [1, -1]]).all():  # NaN stands last
            raise InputError("The similarity of two vectors overflows float32. Scale the vectors down, or use cosine.")
        for i, (ranked, own) in enumerate(zip(scores, relevant, strict=True), start=piece * size):
            precision[i], r_precision[i] = _average_precision(ranked[1:], own), _r_precision(ranked[1:], own)

    with one_thread():
        run_threads(ask, -(-len(asked) // size), cores(), lambda: None)
    mean, spread = float(precision.mean()), 1.96 * float(precision.std(ddof=min(1, len(asked) - 1))) / len(asked) ** 0.5
    chance = float(_expected(found.sizes - 1, n - 1)[found.codes[asked]].mean())
    scores = (
        Score("map", mean, max(0.0, mean - spread), min(1.0, mean + spread)),
        Score("r_precision", float(r_precision.mean())),
        Score("chance", chance),
    )
    alone = n - len(found.shared())
    counts = {"n": len(asked), "alone": alone, "ranked": n - 1, "seed": seed, "similarity": similarity}
    return Report(scores, found.notes | counts)


def _average_precision(ranked: Matrix, relevant: Matrix) -> float:
    """Of one query. ranked : all scores, ascending. relevant : those of the relevant rows among them, ascending."""
    at_least = len(ranked) - np.searchsorted(ranked, relevant)
    hits = len(relevant) - np.searchsorted(relevant, relevant)
    return float((hits / at_least).mean())


def _r_precision(ranked: Matrix, relevant: Matrix) -> float:
    """Precision among the first R; what is expected in a random order of the rows that share the last score."""
    wanted = len(relevant)
    least = ranked[-wanted]
    above, hits = (len(scores) - np.searchsorted(scores, least, "right") for scores in (ranked, relevant))
    tied, own = (np.searchsorted(s, least, "right") - np.searchsorted(s, least) for s in (ranked, relevant))
    return float((hits + own * (wanted - above) / tied) / wanted)


def _expected(relevant: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Expected average precision of a random order of n rows with so many relevant ones.

    The row at rank k is relevant with probability R / n, and then the precision there is (1 + (k - 1) (R - 1) / (n - 1)) / k
    in the mean; the sum over k is harmonic.
    """
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return (harmonic + (relevant - 1) * (n - harmonic) / max(1, n - 1)) / n
