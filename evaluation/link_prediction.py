"""Whether pairs that were joined score higher than pairs that were not: link prediction on edges held out."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Similarity, Vectors
from embedders.data import Graph, HeldOut
from embedders.errors import InputError
from evaluation.base import Report, Score
from evaluation.matching import rows_by_id

PAIRS = 8192  # looked at together

Pairs = NDArray[np.int64]
Floats = NDArray[np.float64]


def link_prediction(
    vectors: Vectors, held: HeldOut, *, similarity: Similarity = "dot", training: Graph | None = None
) -> Report:
    """AUC and average precision of telling the edges held out from as many pairs that are not joined.

    Parameters
    ----------
    vectors : a row a node. Pairs with a node that has none are left out.
    held : the pairs, `held.edges` against `held.non_edges`.
    similarity : what scores a pair: "dot", "cosine", or "l2" (the smaller the distance, the higher).
    training : the graph without these edges, of the same nodes; gives the baselines.

    Returns
    -------
    Scores `auc` (the chance that an edge scores higher than a pair not joined, ties half; 95 % interval of DeLong et al.
    1988, doi:10.2307/2531595), `average_precision`, and with `training` the same two of counting common neighbours and
    of preferential attachment (product of degrees), `auc[common_neighbours]` and so on (Liben-Nowell and Kleinberg
    2007, doi:10.1002/asi.20591). Notes: `n` pairs, `edges`, `non_edges`, `missing` nodes of the pairs that have no
    vector, and the pairs `left_out` because of them.

    Raises
    ------
    InputError : no edge or no other pair has both vectors; two vectors share an id.
    """
    rows = rows_by_id(vectors.ids)
    place = np.full(len(held.ids), -1, np.int64)
    asked = np.unique(np.concatenate([held.edges, held.non_edges]))
    place[asked] = [rows.get(held.ids[node], -1) for node in asked.tolist()]
    edges, others = (_known(pairs, place) for pairs in (held.edges, held.non_edges))
    if not len(edges) or not len(others):
        raise InputError(
            f"Got {len(edges)} edges held out and {len(others)} other pairs whose nodes both have a vector; expected at least "
            "one of each. Check that the space is of the dataset the edges were held out of."
        )
    truth = np.repeat([True, False], [len(edges), len(others)])
    pairs = np.concatenate([edges, others])
    scores = _measured("", truth, _similarities(vectors.matrix, place[pairs], similarity))
    if training is not None:
        for name, values in _baselines(training, pairs).items():
            scores += _measured(f"[{name}]", truth, values)
    notes = {
        "n": len(pairs),
        "edges": len(edges),
        "non_edges": len(others),
        "missing": int((place[asked] < 0).sum()),
        "left_out": len(held.edges) + len(held.non_edges) - len(pairs),
        "similarity": similarity,
    }
    return Report(tuple(scores), notes)


def _known(pairs: NDArray[np.int32], place: Pairs) -> Pairs:
    return pairs[(place[pairs] >= 0).all(axis=1)].astype(np.int64)


def _measured(suffix: str, truth: NDArray[np.bool_], values: Floats) -> list[Score]:
    from sklearn.metrics import average_precision_score

    precision = float(average_precision_score(truth, values))
    return [Score(f"auc{suffix}", *auc(values[truth], values[~truth])), Score(f"average_precision{suffix}", precision)]


def auc(positive: Floats, negative: Floats) -> tuple[float, float, float]:
    """The area under the ROC curve and its 95 % interval (DeLong et al. 1988, by ranks as Sun and Xu 2014).

    >>> auc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))[0]
    0.875
    """
    from scipy.stats import rankdata

    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n  # the share of negatives below each positive
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    area = float(above.mean())
    reach = 1.959963984540054 * sqrt(
        sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    )
    return area, max(0.0, area - reach), min(1.0, area + reach)


def _batches(pairs: Pairs) -> Iterator[Pairs]:
    return (pairs[first : first + PAIRS] for first in range(0, len(pairs), PAIRS))


def _similarities(matrix: NDArray[np.float32], pairs: Pairs, similarity: Similarity) -> Floats:
    """(pairs,) how alike the two vectors of each pair are; the cosine with a zero vector is 0."""
    found = []
    for batch in _batches(pairs):
        one, two = (matrix[column].astype(np.float64) for column in batch.T)
        if similarity == "l2":
            found.append(-np.linalg.norm(one - two, axis=1))
            continue
        value = np.einsum("ij,ij->i", one, two)
        if similarity == "cosine":
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
            value = np.divide(value, lengths, out=np.zeros_like(value), where=lengths > 0)
        found.append(value)
    return np.concatenate(found)


def _baselines(training: Graph, pairs: Pairs) -> dict[str, Floats]:
    """What the training graph alone says of each pair; directions are not looked at."""
    adjacency: Any = _adjacency(training)
    degrees = np.diff(adjacency.indptr).astype(np.float64)
    common = [
        adjacency[one].multiply(adjacency[two]).sum(axis=1) for one, two in (batch.T for batch in _batches(pairs))
    ]
    return {
        "common_neighbours": np.concatenate(common).astype(np.float64),
        "preferential_attachment": degrees[pairs].prod(axis=1),
    }


def _adjacency(graph: Graph) -> Any:
    """Ones where two nodes are joined, loops left out, both ways."""
    from scipy.sparse import csr_array

    n = len(graph)
    rows = np.repeat(np.arange(n), np.diff(graph.indptr))
    real = rows != graph.indices
    one = csr_array((np.ones(int(real.sum()), np.int32), (rows[real], graph.indices[real])), shape=(n, n))
    both = one + one.T if graph.directed else one
    both.sum_duplicates()
    both.data[:] = 1
    return both
