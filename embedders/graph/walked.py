"""Skip-gram over random walks: what node2vec and metapath2vec share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Encoder, Matrix, Progress
from embedders.start import LONGEST, start_rows

if TYPE_CHECKING:
    from embedders.kernels.walks import Walker

CHUNK = 1 << 22  # nodes of walks that are drawn, then learned: 16 MiB
POOLED = 1 << 25  # bytes of a matrix that no cache holds: from there on negatives come from a pool of noise rows


@dataclass(frozen=True, eq=False)
class Learned:
    """matrix : (n, dim) float32. reached : (n,) bool, nodes that stood beside another. mode : of the encoder."""

    matrix: Matrix
    reached: NDArray[np.bool_]
    mode: Mapping[str, Any]


def learn(
    recipe: Any, walker: Walker, ids: Sequence[str], begin: NDArray[np.int32], start: Encoder[Any] | None, data: Any, progress: Progress,
    groups: Sequence[int] | None = None,
) -> Learned:  # fmt: skip
    """Draw walks and learn from them, a chunk at a time.

    Parameters
    ----------
    recipe : has dim, walks, length, window, negative, epochs, lr and seed.
    ids : (n,) names of the walker's nodes.
    begin : nodes that walks begin at, so many `walks` from each in an epoch.
    groups : where groups of nodes end whose noise is of their own; see `SkipGram`.
    start : an encoder, asked for the vectors of `data` that the nodes begin at; None for at random.

    Raises
    ------
    InputError : `start` has another dimension.
    """
    from embedders.kernels.skipgram import SkipGram

    visits, reached = np.zeros(len(ids), np.int64), np.zeros(len(ids) + 1, bool)  # the last: where walks have ended
    for tokens in _chunks(recipe, walker, begin, 0, 1):  # noise follows the visits of the first round
        visits += np.bincount(tokens[tokens >= 0], minlength=len(ids))
    model = SkipGram(
        visits, recipe.dim, recipe.window, recipe.negative, recipe.lr,
        total=recipe.epochs * recipe.walks * recipe.length * len(begin), threads=walker.threads, seed=recipe.seed,
        start=None if start is None else start_rows(start, data, ids, recipe.dim, longest=LONGEST), groups=groups,
        pool=4 * len(ids) * recipe.dim > POOLED,
    )  # fmt: skip
    losses = []
    for epoch in range(recipe.epochs):
        before = len(model.loss)
        for tokens in _chunks(recipe, walker, begin, epoch * recipe.walks, recipe.walks):
            reached[tokens[tokens[:, 1] >= 0]] = True
            ends = np.arange(0, tokens.size + 1, recipe.length, dtype=np.int64)
            model.train(tokens.reshape(-1), ends, progress=progress, unit="steps")
        known = [loss for loss in model.loss[before:] if np.isfinite(loss)]
        losses.append(round(float(np.mean(known)), 5) if known else None)
    mode = {
        "threads": walker.threads, "precision": "fp32", "reproducible": "bytes" if walker.threads == 1 else "no",
        "loss": losses,
    }  # fmt: skip
    return Learned(model.matrix, reached[:-1], mode)


def _chunks(recipe: Any, walker: Walker, begin: NDArray[np.int32], first: int, rounds: int) -> Iterator[NDArray[np.int32]]:  # fmt: skip
    """Walks of some rounds, one from each node a round, as (walks, length) pieces of bounded size."""

    @lru_cache(maxsize=1)
    def order(number: int) -> NDArray[np.int32]:
        return np.random.default_rng([recipe.seed, number]).permutation(begin)

    n, size = len(begin), max(1, CHUNK // recipe.length)
    for walk in range(first * n, (first + rounds) * n, size):
        end = min(walk + size, (first + rounds) * n)
        pieces = [order(i)[max(walk - i * n, 0) : end - i * n] for i in range(walk // n, -(-end // n))]
        yield walker.walks(np.concatenate(pieces), length=recipe.length, seed=recipe.seed, first=walk)
