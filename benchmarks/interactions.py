"""Users and items: nDCG@10 of each embedder on MovieLens-100k beside popularity and `implicit`; with `--scale`, ALS from a
file of events to two versions against `implicit` alone (1 M events; with `--full` 20 M of 1 M users).

Judged as `metric: ranking` does: a quarter of each user's items, drawn at random, is held out; items met in training are
left out of the ranking. Means of three seeds, which draw the split and train the embedder.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, interactions_scale
from benchmarks.common import Result, Row
from embedders.base import Encoder, Sides, Vectors
from embedders.interactions import Interactions
from embedders.registry import embedder_class
from evaluation.base import Report
from evaluation.holding_out import Split, hold_out, trimmed
from evaluation.ranking import ranking

SEEDS, TOP = 3, 10
OURS: Mapping[str, Mapping[str, Any]] = {
    "als": {"dim": 50, "alpha": 2, "regularization": 10, "iterations": 15}, "bpr": {}, "lightgcn": {}, "item2vec": {},
}  # fmt: skip
TARGETS = {"als": ">= 0.45", "als, chosen inside": ">= 0.45", "bpr": "published 0.442", "lightgcn": ">= 0.42"}
Fit = Callable[[Interactions, int], tuple[Vectors, Vectors]]


def movielens(folder: Path) -> Interactions:
    """The ratings as events, whatever their stars."""
    rows = [line.split("\t") for line in gzip.open(folder / "u.data.gz", "rt")]
    users, items = (list(dict.fromkeys(row[column] for row in rows)) for column in (0, 1))
    places = [{name: i for i, name in enumerate(names)} for names in (users, items)]
    user, item = (np.array([place[row[k]] for row in rows], np.int32) for k, place in enumerate(places))
    return Interactions.of(users, items, user, item, time=np.array([float(row[3]) for row in rows]))


def ours(kind: str, threads: int, **params: Any) -> Fit:
    """Fit an embedder."""

    def fit(data: Interactions, seed: int) -> tuple[Vectors, Vectors]:
        found = embedder_class(kind).model_validate({**params, "seed": seed, "threads": threads}).fit(data)
        assert isinstance(found, Sides)
        users, items = (vectors(found.sides[side]) for side in ("users", "items"))
        return users, items

    return fit


def vectors(side: Encoder[Any]) -> Vectors:
    parts = [batch.vectors for batch in side.encode(None)]
    return Vectors(side.entity, [name for part in parts for name in part.ids], np.concatenate([part.matrix for part in parts]))  # fmt: skip


def chosen(threads: int, grid: Sequence[Mapping[str, Any]], taken: list[Mapping[str, Any]]) -> Fit:
    """ALS with the parameters that rank best on a part of the training events, as `tune` takes them."""

    def fit(data: Interactions, seed: int) -> tuple[Vectors, Vectors]:
        inside = hold_out(data, seed=seed)
        trials = [score(ours("als", threads, **params), inside, seed).headline.value for params in grid]
        taken.append(grid[int(np.argmax(trials))])
        return ours("als", threads, **taken[-1])(data, seed)

    return fit


def score(fit: Fit, split: Split, seed: int) -> Report:
    """Train on what is not held out, and judge by the rest."""
    return ranking(*fit(trimmed(split.train), seed), split, k=TOP, seed=seed)


def implicit_bpr(threads: int, **params: Any) -> Fit:
    """The library's BPR, which draws the item that was not met as the item of a random event."""

    def fit(data: Interactions, seed: int) -> tuple[Vectors, Vectors]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from scipy.sparse import csr_matrix

        model = BayesianPersonalizedRanking(num_threads=threads, random_state=seed, **params)
        model.fit(csr_matrix(data.matrix()), show_progress=False)
        return Vectors("user", data.users, model.user_factors), Vectors("item", data.items, model.item_factors)

    return fit


def quality(options: argparse.Namespace, threads: int) -> tuple[list[Row], Mapping[str, Any]]:
    """Scores and seconds of all."""
    data = movielens(common.data("useritem_movielens_100k"))
    parts = [hold_out(data, seed=seed) for seed in range(1 if options.small else SEEDS)]
    taken: list[Mapping[str, Any]] = []
    grid = [{"dim": dim, "regularization": penalty} for dim in (32, 50, 64) for penalty in (5, 10, 20, 50, 100)]
    contenders: dict[str, Fit] = {kind: ours(kind, threads, **OURS[kind]) for kind in OURS}
    contenders["als, chosen inside"] = chosen(threads, grid[::7] if options.small else grid, taken)
    for factors, rate in ((64, 0.01), (200, 0.01)):
        name = f"implicit's BPR, {factors} factors, lr {rate:g}"
        contenders[name] = implicit_bpr(threads, factors=factors, learning_rate=rate)
    scores: dict[str, list[float]] = {name: [] for name in ("popularity", *contenders)}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for name, fit in contenders.items():
        if name != "als, chosen inside":
            fit(data.select(np.arange(200)), 0)  # compiles
        for seed, split in enumerate(parts):
            started = time.perf_counter()
            report = score(fit, split, seed)
            seconds[name].append(time.perf_counter() - started)
            scores[name].append(report.headline.value)
            if name == "als":
                scores["popularity"].append(report.value(f"ndcg@{TOP}[popularity]"))
        common.say(f"{name}: {np.mean(scores[name]):.4f}, {np.median(seconds[name]):.1f} s")
    found = []
    for name in contenders:
        target = f"; target {TARGETS[name]}" if name in TARGETS else ""
        spread = ", ".join(f"{score:.3f}" for score in scores[name])
        beside = f"nDCG@10 {np.mean(scores[name]):.4f} ({spread}){target}"
        peer = "implicit's BPR, 64 factors, lr 0.01" if name == "bpr" else None
        other = float(np.median(seconds[peer])) if peer else None
        found.append(Row(f"MovieLens-100k: {name}, {threads} threads", "s", float(np.median(seconds[name])), other, peer or "", beside))  # fmt: skip
    return found, {"ndcg@10": scores, "seconds": seconds, "als takes": taken}


def measure(options: argparse.Namespace) -> Result:
    threads = options.threads or common.cores()
    found, runs = quality(options, threads)
    if options.scale or options.full:
        with tempfile.TemporaryDirectory() as folder:
            more, taken = interactions_scale.scale(options, Path(folder), threads)
        found, runs = [*found, *more], {**runs, "scale": taken}
    notes = [
        f"popularity: nDCG@10 {np.mean(runs['ndcg@10']['popularity']):.4f}; als chosen on events held out inside the training ones: {runs['als takes']}; seconds are of training and judging.",
        "implicit's BPR draws the item that was not met by popularity (its issue 255); ours draws all alike, as the paper does.",
    ]
    return Result("interactions", found, {"threads": threads, "seeds": SEEDS, "params": OURS}, runs, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--scale", action="store_true", help="also ALS from a file, on generated events")
    parser.add_argument("--threads", type=int, default=0, help="threads of all; 0: all cores")
    common.run("interactions", measure, parser.parse_args())


if __name__ == "__main__":
    main()
