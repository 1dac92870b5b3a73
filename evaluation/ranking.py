"""Whether what users went on to do stands high among the items that their vectors recommend, beside popularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Similarity, Vectors
from embedders.errors import InputError
from embedders.interactions import Interactions
from evaluation.base import Report, Score
from evaluation.holding_out import Split
from evaluation.recommending import best_items, places

if TYPE_CHECKING:
    from scipy.sparse import csr_array

POPULARITY = "popularity"

Floats = NDArray[np.float64]


def ranking(
    users: Vectors, items: Vectors, split: Split, *, k: int = 10, similarity: Similarity = "dot", at_most: int = 10_000, seed: int = 0
) -> Report:  # fmt: skip
    """nDCG, recall and mean average precision of each user's first k items, what they met in training left out.

    Judged are users with a held-out item and an event in training, each alike. A held-out item that is not in training
    is missed by every method; a user in training without a vector is answered nothing.

    Parameters
    ----------
    users, items : vectors that were learned from `split.train`.
    split : from `holding_out.hold_out`.
    k : items of a list.
    similarity : how users and items are compared.
    at_most : users who are judged; drawn where there are more.
    seed : of that draw, and of the order of items with equal scores.

    Returns
    -------
    Scores, each with a 95 % interval over the users (normal approximation) but the last:
        `ndcg@k` : relevance 0 or 1, gain 1 / log2(rank + 1), divided by that of an ideal list, which begins with
            min(k, held out) relevant items (Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418).
        `recall@k` : hits / held out.
        `map@k` : precision at the ranks of the hits, summed, divided by min(k, held out), so that 1 can be reached.
        `coverage@k` : share of the items in training that some judged user is recommended.
    And the same of recommending to everybody what most users of the training met, `ndcg@k[popularity]` and so on.
    Notes: counts, `n` being the users judged.

    Raises
    ------
    InputError : nobody can be judged, or there is no vector of an item in training.
    """
    train, held = split.train, split.held
    known = np.bincount(train.user, minlength=len(train.users)) > 0
    asked = np.unique(held.user)
    strangers, asked = asked[~known[asked]], asked[known[asked]]
    if not len(asked):
        raise InputError(
            f"Got {len(strangers):,} users with events held out, none of whom has one left to train on; expected some who "
            "have. Split in another way."
        )
    can_be_asked, rng = len(asked), np.random.default_rng([seed, 1])
    if len(asked) > at_most:
        asked = np.sort(rng.choice(asked, at_most, replace=False))
    seen, relevant = _rows(train, asked), _rows(held, asked)
    counts = _users_of_items(train)
    catalogue = rng.permutation(np.flatnonzero(counts))  # equal scores in no order that tells anything
    seen = _columns(seen, catalogue)
    truth = _Truth(relevant, k)

    user = places(users.ids, [train.users[i] for i in asked.tolist()])
    item = places(items.ids, [train.items[i] for i in catalogue.tolist()])
    here, there = user >= 0, np.flatnonzero(item >= 0)
    if not here.any() or not len(there):
        raise InputError(
            f"Got vectors of {len(users):,} users and {len(items):,} items, among them {here.sum():,} of the users to be judged and "
            f"{len(there):,} of the items of the training; expected what was learned from it."
        )
    lists = np.full((len(asked), k), -1)
    lists[here] = _lists(
        users.matrix[user[here]],
        items.matrix[item[there]],
        catalogue[there],
        _columns(seen[here], there),
        k,
        similarity,
    )
    popular = _lists(
        np.ones((len(asked), 1), np.float32), counts[catalogue, None].astype(np.float32), catalogue, seen, k, "dot"
    )
    scores = [*truth.scores(lists, "", len(catalogue)), *truth.scores(popular, f"[{POPULARITY}]", len(catalogue))]
    relevant_items = relevant.indices
    notes = {
        "n": len(asked), "k": k, "users": can_be_asked, "strangers": len(strangers), "without_vector": int((~here).sum()),
        "items": len(catalogue), "items_without_vector": len(catalogue) - len(there), "held_out": len(relevant_items),
        "held_out_of_new_items": int((counts[relevant_items] == 0).sum()), "train": len(train), "similarity": similarity,
        **split.notes,
    }  # fmt: skip
    return Report(tuple(scores), notes)


def averaged(reports: Sequence[Report]) -> Report:
    """The mean of several splits. Their intervals are averaged as well: they are of the same users, so that repeating
    makes them no narrower. Notes: those of the first, and `repeats`, the headline of each.
    """
    found = []
    for scores in zip(*(report.scores for report in reports), strict=True):
        low, high = ([getattr(score, end) for score in scores] for end in ("low", "high"))
        ends = (None, None) if None in low else (float(np.mean(low)), float(np.mean(high)))
        found.append(Score(scores[0].metric, float(np.mean([score.value for score in scores])), *ends))
    repeats = [round(report.headline.value, 6) for report in reports]
    return Report(tuple(found), {**reports[0].notes, "repeats": repeats})


def _users_of_items(train: Interactions) -> NDArray[np.int64]:
    """(items,) how many users met each."""
    pairs = np.unique(train.user.astype(np.int64) * len(train.items) + train.item)
    return np.bincount(pairs % len(train.items), minlength=len(train.items))


def _rows(data: Interactions, asked: NDArray[Any]) -> csr_array:
    """(asked, items) what each of some users met; indices sorted."""
    place = np.full(len(data.users), -1, np.int64)
    place[asked] = np.arange(len(asked))
    mine = place[data.user] >= 0
    return _matrix(place[data.user[mine]], data.item[mine], (len(asked), len(data.items)))


def _matrix(row: NDArray[Any], column: NDArray[Any], shape: tuple[int, int]) -> csr_array:
    from scipy.sparse import coo_array, csr_array

    found = csr_array(coo_array((np.ones(len(row), np.int8), (row, column)), shape=shape))
    found.sum_duplicates()
    return found


def _columns(matrix: csr_array, chosen: NDArray[Any]) -> csr_array:
    """Some columns in another order; indices sorted."""
    found = matrix[:, chosen]
    found.sort_indices()
    return found


def _lists(
    users: Matrix, items: Matrix, names: NDArray[np.int64], seen: csr_array, k: int, similarity: Similarity
) -> NDArray[np.int64]:
    """(users, k) item numbers, -1 where a list is shorter."""
    found = np.concatenate([columns for columns, _ in best_items(users, items, k, seen=seen, similarity=similarity)])
    return np.where(found >= 0, names[found], -1)


@dataclass(frozen=True, eq=False)
class _Truth:
    """What was held out. relevant : (users, items); every user has some."""

    relevant: csr_array
    k: int

    def scores(self, lists: NDArray[np.int64], suffix: str, catalogue: int) -> list[Score]:
        """What lists of items are worth. catalogue : how many items there are to recommend."""
        hits, wanted = self.hits(lists), np.diff(self.relevant.indptr)
        ranks = np.arange(1, self.k + 1)
        gains, ideal = 1 / np.log2(ranks + 1), np.minimum(wanted, self.k)
        precision = np.cumsum(hits, axis=1) / ranks
        found = {
            "ndcg": (hits * gains).sum(axis=1) / np.cumsum(gains)[ideal - 1],
            "recall": hits.sum(axis=1) / wanted,
            "map": (hits * precision).sum(axis=1) / ideal,
        }
        shown = len(np.unique(lists[lists >= 0]))
        return [
            *(_score(f"{name}@{self.k}{suffix}", values) for name, values in found.items()),
            Score(f"coverage@{self.k}{suffix}", shown / catalogue),
        ]

    def hits(self, lists: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(users, k) whether each item was held out."""
        users, items = self.relevant.shape
        pairs = np.repeat(np.arange(users), np.diff(self.relevant.indptr)) * items + self.relevant.indices
        asked = np.arange(users)[:, None] * items + lists
        found: NDArray[np.bool_] = np.isin(asked, pairs) & (lists >= 0)
        return found


def _score(metric: str, values: Floats) -> Score:
    """The mean over users, with its interval."""
    mean = float(values.mean())
    reach = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Score(metric, mean, max(0.0, mean - reach), min(1.0, mean + reach))
