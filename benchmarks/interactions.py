"""Users and items: nDCG@10 of each embedder on MovieLens-100k beside popularity and `implicit`; with `--scale`, ALS from a
file of events to two versions against `implicit` alone (1 M events; with `--full` 20 M of 1 M users).

A quarter of each user's events, drawn at random, is the test; an item counts as relevant if it was met there, items met in
training are left out of the ranking. Means of three seeds, which draw the split and train the embedder.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common, interactions_scale
from benchmarks.common import Result, Row
from embedders.base import Encoder, Matrix, Sides
from embedders.interactions import Interactions
from embedders.registry import embedder_class

SEEDS, TOP = 3, 10
OURS: Mapping[str, Mapping[str, Any]] = {
    "als": {"dim": 50, "alpha": 2, "regularization": 10, "iterations": 15}, "bpr": {}, "lightgcn": {}, "item2vec": {},
}  # fmt: skip
TARGETS = {"popularity": "0.248", "als": ">= 0.45", "bpr": "published 0.442", "lightgcn": ">= 0.42"}
Fit = Callable[[Interactions, int], tuple[Matrix, Matrix]]


def movielens(folder: Path) -> Interactions:
    """The ratings as events, whatever their stars."""
    rows = [line.split("\t") for line in gzip.open(folder / "u.data.gz", "rt")]
    users, items = (list(dict.fromkeys(row[column] for row in rows)) for column in (0, 1))
    places = [{name: i for i, name in enumerate(names)} for names in (users, items)]
    user, item = (np.array([place[row[k]] for row in rows], np.int32) for k, place in enumerate(places))
    return Interactions.of(users, items, user, item, time=np.array([float(row[3]) for row in rows]))


def split(data: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Three quarters of each user's events, and the rest."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(data)), data.user))
    counts = np.bincount(data.user, minlength=len(data.users))
    place = np.arange(len(data)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.zeros(len(data), bool)
    kept[order] = place < np.round(0.75 * np.repeat(counts, counts))
    return data.select(kept), data.select(~kept)


def ndcg(scores: NDArray[Any], train: Interactions, test: Interactions, k: int = TOP) -> float:
    """The mean over users with a test event; binary relevance.

    >>> one = lambda item: Interactions(["u"], list("abc"), np.array([0], np.int32), np.array([item], np.int32))
    >>> round(ndcg(np.array([[3.0, 2.0, 1.0]]), one(0), one(1), 2), 3), round(ndcg(np.array([[3.0, 1.0, 2.0]]), one(0), one(1), 2), 3)
    (1.0, 0.631)
    """
    scores = scores.copy()
    scores[train.user, train.item] = -np.inf
    relevant = np.zeros(scores.shape, bool)
    relevant[test.user, test.item] = True
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    gains = 1 / np.log2(np.arange(best.shape[1]) + 2)
    counts = relevant.sum(axis=1)
    ideal = np.cumsum(gains)[np.minimum(counts, len(gains)).clip(1) - 1]
    found = (np.take_along_axis(relevant, best, axis=1) * gains).sum(axis=1) / ideal
    return float(found[counts > 0].mean())


def ours(kind: str, threads: int) -> Fit:
    """Fit an embedder; rows that it leaves out are zeros."""

    def fit(data: Interactions, seed: int) -> tuple[Matrix, Matrix]:
        found = embedder_class(kind).model_validate({**OURS[kind], "seed": seed, "threads": threads}).fit(data)
        assert isinstance(found, Sides)
        return rows(found.sides["users"], data.users), rows(found.sides["items"], data.items)

    return fit


def rows(side: Encoder[Any], names: Any) -> Matrix:
    place = {name: i for i, name in enumerate(names)}
    found = np.zeros((len(names), side.dim), np.float32)
    for batch in side.encode(None):
        found[[place[name] for name in batch.vectors.ids]] = batch.vectors.matrix
    return found


def popularity(data: Interactions, seed: int) -> tuple[Matrix, Matrix]:
    counts = np.bincount(data.item, minlength=len(data.items)).astype(np.float32)
    return np.ones((len(data.users), 1), np.float32), counts[:, None]


def implicit_bpr(threads: int, **params: Any) -> Fit:
    """The library's BPR, which draws the item that was not met as the item of a random event."""

    def fit(data: Interactions, seed: int) -> tuple[Matrix, Matrix]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from scipy.sparse import csr_matrix

        model = BayesianPersonalizedRanking(num_threads=threads, random_state=seed, **params)
        model.fit(csr_matrix(data.matrix()), show_progress=False)
        return model.user_factors, model.item_factors

    return fit


def quality(options: argparse.Namespace, threads: int) -> tuple[list[Row], Mapping[str, Any]]:
    """Scores and seconds of all."""
    data = movielens(common.data("useritem_movielens_100k"))
    parts = [split(data, seed) for seed in range(1 if options.small else SEEDS)]
    contenders: dict[str, Fit] = {"popularity": popularity, **{kind: ours(kind, threads) for kind in OURS}}
    for factors, rate in ((64, 0.01), (200, 0.01)):
        name = f"implicit's BPR, {factors} factors, lr {rate:g}"
        contenders[name] = implicit_bpr(threads, factors=factors, learning_rate=rate)
    scores: dict[str, list[float]] = {name: [] for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for name, fit in contenders.items():
        fit(data.select(np.arange(200)), 0)  # compiles
        for seed, (train, test) in enumerate(parts):
            started = time.perf_counter()
            users, items = fit(train, seed)
            seconds[name].append(time.perf_counter() - started)
            scores[name].append(ndcg(users @ items.T, train, test))
        common.say(f"{name}: {np.mean(scores[name]):.4f}, {np.median(seconds[name]):.1f} s")
    found = []
    for name in contenders:
        target = f"; target {TARGETS[name]}" if name in TARGETS else ""
        spread = ", ".join(f"{score:.3f}" for score in scores[name])
        beside = f"nDCG@10 {np.mean(scores[name]):.4f} ({spread}){target}"
        peer = "implicit's BPR, 64 factors, lr 0.01" if name == "bpr" else None
        other = float(np.median(seconds[peer])) if peer else None
        found.append(Row(f"MovieLens-100k: {name}, {threads} threads", "s", float(np.median(seconds[name])), other, peer or "", beside))  # fmt: skip
    return found, {"ndcg@10": scores, "seconds": seconds}


def measure(options: argparse.Namespace) -> Result:
    threads = options.threads or common.cores()
    found, runs = quality(options, threads)
    if options.scale or options.full:
        with tempfile.TemporaryDirectory() as folder:
            more, taken = interactions_scale.scale(options, Path(folder), threads)
        found, runs = [*found, *more], {**runs, "scale": taken}
    notes = ["implicit's BPR draws the item that was not met by popularity (its issue 255); ours draws all alike, as the paper does."]  # fmt: skip
    return Result("interactions", found, {"threads": threads, "seeds": SEEDS, "params": OURS}, runs, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--scale", action="store_true", help="also ALS from a file, on generated events")
    parser.add_argument("--threads", type=int, default=0, help="threads of all; 0: all cores")
    common.run("interactions", measure, parser.parse_args())


if __name__ == "__main__":
    main()
