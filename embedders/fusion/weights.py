"""Weights of spaces, chosen so that near neighbours have the same label, or are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedders.base import EXECUTION, Matrix
from embedders.digests import file_digest
from embedders.errors import InputError

TRIED = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights that a space may get."""
MOST = 4000
"""Labelled entities, or linked pairs a view, that are looked at; more are drawn."""
NEIGHBOURS = 5
FOLDS = 5
ROUNDS = 3
GAIN = 1e-9


class WeighBy(BaseModel):
    """What weights are chosen by: a table of labels, or of links between entities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: str | None = Field(
        None, min_length=1, json_schema_extra=EXECUTION, description="a table of labels, as evaluations read them"
    )
    id: str = Field("id", description="its column of ids")
    label: str = Field("label", description="its column of labels")
    links: str | None = Field(None, min_length=1, json_schema_extra=EXECUTION, description="a table of pairs of ids")
    source: str = Field("source", description="its columns of ids")
    target: str = "target"

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.labels is None) == (self.links is None):
            raise ValueError("either labels or links, a file")
        return self

    @property
    def path(self) -> str:
        return str(self.labels or self.links)

    @property
    def columns(self) -> tuple[str, str]:
        """Its columns of ids, and of what is told of them."""
        return (self.id, self.label) if self.labels else (self.source, self.target)

    def located(self, base: Path) -> Self:
        """With the file's name taken from the folder `base`."""
        name = "labels" if self.labels else "links"
        return self.model_copy(update={name: str(base / Path(self.path).expanduser())})

    def assets(self) -> dict[str, str]:
        """The digest of the file: where it lies does not matter."""
        if not Path(self.path).is_file():
            raise InputError(f"Got weigh_by {self.path!r}, where there is no such file. Mend the path.")
        return {f"weigh_by.{'labels' if self.labels else 'links'}": file_digest(Path(self.path))}


@dataclass(frozen=True)
class Chosen:
    """Weights by space; what was looked at; the score they got, that of equal weights, and a score of unseen folds."""

    weights: dict[str, float]
    measure: str
    n: int
    score: float
    equal: float
    unseen: float | None
    alone: dict[str, float] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """For the manifest."""
        numbers = {"score": self.score, "equal": self.equal} | ({} if self.unseen is None else {"unseen": self.unseen})
        alone = {space: round(value, 4) for space, value in self.alone.items()}
        return {"measure": self.measure, "n": self.n, **{k: round(v, 4) for k, v in numbers.items()}, "alone": alone}


def choose(parts: Mapping[str, Matrix], ids: Sequence[str], told: Mapping[str, Sequence[str]], by: WeighBy) -> Chosen:
    """Choose weights of spaces, one after the other from equal ones, as long as something is gained.

    By labels: how many entities get their own label by the vote of their 5 nearest others (cosine), leave-one-out; also,
    told only, how many in each fifth with weights that were chosen on the others. By links: the AUC of telling pairs
    that are joined from as many at random.

    Parameters
    ----------
    parts : (n, d) of each space, of one scale, complete.
    told : the label of an id, or those it is joined to.

    Raises
    ------
    InputError : of fewer than two labels, or ten entities or pairs, anything is told.
    """
    rng = np.random.default_rng(0)
    place = {name: row for row, name in enumerate(ids)}
    if by.labels:
        return _by_labels(parts, {place[name]: values[0] for name, values in told.items() if name in place}, rng)
    ends = ((place[a], place[b]) for a, many in told.items() if a in place for b in many if b in place and a != b)
    pairs = {(min(pair), max(pair)) for pair in ends}  # a link in both directions is one
    return _by_links(parts, np.array(sorted(pairs), np.int64).reshape(-1, 2), rng)


def _by_labels(parts: Mapping[str, Matrix], labels: Mapping[int, str], rng: np.random.Generator) -> Chosen:
    rows = np.array(sorted(labels), np.int64)
    if len(rows) > MOST:
        rows = np.sort(rng.permutation(rows)[:MOST])
    classes, codes = np.unique([labels[row] for row in rows.tolist()], return_inverse=True)
    if len(classes) < 2 or len(rows) < 10:
        raise InputError(
            f"Got {len(rows)} labelled entities of {len(classes)} labels to choose weights by; expected at least ten of two. "
            "Check the columns of weigh_by, or give the weights."
        )
    grams = np.stack([part[rows] @ part[rows].T for part in parts.values()])

    def score(weights: NDArray[np.float64], ask: NDArray[np.int64], among: NDArray[np.int64]) -> float:
        return _votes(grams, weights, codes, ask, among)

    everything = np.arange(len(rows))
    names = list(parts)
    found, best = _search(len(parts), lambda weights: score(weights, everything, everything))
    fold = rng.permutation(len(rows)) % FOLDS
    right = 0.0
    for held in range(FOLDS):
        rest, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        weights, _ = _search(len(parts), lambda weights, rest=rest: score(weights, rest, rest))
        right += score(weights, test, rest) * len(test)
    equal = score(np.ones(len(parts)), everything, everything)
    alone = {name: score(one, everything, everything) for name, one in zip(names, np.eye(len(parts)), strict=True)}
    chosen = dict(zip(names, found.tolist(), strict=True))
    return Chosen(chosen, "leave-one-out accuracy of 5 neighbours", len(rows), best, equal, right / len(rows), alone)


def _votes(
    grams: NDArray[Any], weights: NDArray[np.float64], codes: NDArray[np.int64], ask: NDArray[np.int64],
    among: NDArray[np.int64],
) -> float:  # fmt: skip
    """Share of `ask` that get their own label by the vote of their nearest of `among`, themselves left out; near ones first."""
    used = np.flatnonzero(weights)
    squares = (weights[used] ** 2).astype(np.float32)
    whole = np.zeros((len(ask), len(among)), np.float32)
    lengths = np.zeros(len(codes), np.float32)
    for square, view in zip(squares, used, strict=True):
        whole += square * grams[view][np.ix_(ask, among)]
        lengths += square * grams[view].diagonal()
    lengths = np.sqrt(np.maximum(lengths, 1e-12))
    whole /= lengths[ask][:, None] * lengths[among]
    whole[ask[:, None] == among] = -np.inf
    k = min(NEIGHBOURS, len(among) - 1)
    near = np.argpartition(-whole, k - 1, axis=1)[:, :k]
    likeness = np.take_along_axis(whole, near, axis=1)
    votes = np.zeros((len(ask), int(codes.max()) + 1), np.float32)
    for column in range(k):
        votes[np.arange(len(ask)), codes[among[near[:, column]]]] += 1 + 1e-3 * likeness[:, column]
    return float((votes.argmax(axis=1) == codes[ask]).mean())


def _by_links(parts: Mapping[str, Matrix], pairs: NDArray[np.int64], rng: np.random.Generator) -> Chosen:
    if len(pairs) < 10:
        raise InputError(
            f"Got {len(pairs)} links between entities to choose weights by; expected at least ten. Check the columns of "
            "weigh_by (both hold ids of the fused spaces), or give the weights."
        )
    joined = set(map(tuple, pairs.tolist()))  # all of them, also those that are not looked at
    if len(pairs) > MOST:
        pairs = pairs[np.sort(rng.permutation(len(pairs))[:MOST])]
    n = len(next(iter(parts.values())))
    drawn = np.sort(rng.integers(0, n, (2 * len(pairs), 2)), axis=1)
    apart = [pair for pair in drawn.tolist() if pair[0] != pair[1] and tuple(pair) not in joined][: len(pairs)]
    left, right = np.concatenate([pairs, np.array(apart, np.int64).reshape(-1, 2)]).T
    dots = np.stack([np.einsum("ij,ij->i", part[left], part[right]) for part in parts.values()])
    squares = np.stack([np.einsum("ij,ij->i", part, part) for part in parts.values()])

    def score(weights: NDArray[np.float64]) -> float:
        from scipy.stats import rankdata

        lengths = np.sqrt(np.maximum(weights**2 @ squares, 1e-12))
        ranks = rankdata((weights**2 @ dots) / (lengths[left] * lengths[right]))
        above = ranks[: len(pairs)].sum() - len(pairs) * (len(pairs) + 1) / 2
        return float(above / (len(pairs) * max(1, len(apart))))

    found, best = _search(len(parts), score)
    alone = {name: score(one) for name, one in zip(parts, np.eye(len(parts)), strict=True)}
    weights = dict(zip(parts, found.tolist(), strict=True))
    return Chosen(weights, "AUC of links by cosine", len(pairs), best, score(np.ones(len(parts))), None, alone)


def _search(views: int, score: Any) -> tuple[NDArray[np.float64], float]:
    """Weights and their score: from equal ones, or one view alone, each weight in turn is set to what is best."""
    starts = [np.ones(views), *np.eye(views)]
    scores = [score(start) for start in starts]
    weights, best = starts[int(np.argmax(scores))].copy(), max(scores)
    for _ in range(ROUNDS):
        before = best
        for view in range(views):
            for tried in TRIED:
                other = weights.copy()
                other[view] = tried
                if other.any() and tried != weights[view] and (now := score(other)) > best + GAIN:
                    weights, best = other, now
        if best <= before:
            break
    return weights / weights.max(), best
