"""Random walks and node2vec on BlogCatalog, beside PecanPy (walks on the fly) and gensim (training).

Compilation is left out on both sides. A step is a move from a node to the next. End to end is node2vec from the graph
in memory to the matrix; PecanPy with gensim takes about a minute for that and runs with --full only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from benchmarks.graph_data import Task, blogcatalog
from benchmarks.graph_peers import write_graph
from embedders.data import Graph
from embedders.graph.node2vec import Node2Vec
from embedders.kernels.walks import Walker

PAIRS = ((1.0, 1.0), (1.0, 0.5), (0.25, 4.0))
LENGTH = 80
LABELLED = 0.9


def our_rate(graph: Graph, p: float, q: float, walks: int, threads: int) -> float:
    """Steps a second; the first, short call compiles."""
    walker = Walker(graph, p=p, q=q, threads=threads)
    starts = np.random.default_rng(0).permutation(np.tile(np.arange(len(graph), dtype=np.int32), walks))
    walker.walks(starts[:8], length=LENGTH, seed=0)
    started = time.perf_counter()
    found = walker.walks(starts, length=LENGTH, seed=1)
    seconds = time.perf_counter() - started
    return (int((found >= 0).sum()) - len(found)) / seconds


def peer_runs(options: argparse.Namespace, mode: str, p: float, q: float) -> dict[str, Any]:
    """How the peer is asked; it is slow on the fly, so it draws fewer walks (its rate does not depend on that)."""
    quick = mode == "FirstOrderUnweighted"
    walks = 20 if quick else 0.05 if options.small else 0.5
    return {"mode": mode, "p": p, "q": q, "walks": walks, "steps": LENGTH - 1}


def walk_rows(options: argparse.Namespace, graph: Graph, path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Rates at all (p, q); ours and the peer's by turns."""
    wanted = [("SparseOTF", p, q) for p, q in PAIRS] + [("FirstOrderUnweighted", 1.0, 1.0)]
    runs: dict[str, Any] = {}
    rows = []
    for mode, p, q in wanted:
        mine: list[float] = []
        theirs: list[float] = []
        for _ in range(1 if options.small else options.rounds):
            mine.append(our_rate(graph, p, q, 2 if options.small else 20, options.threads))
            message = {"graph": str(path), "runs": [peer_runs(options, mode, p, q)]}
            if answer := common.peer(options, "pecanpy_walks.py", message):
                theirs.append(answer["runs"][0]["steps"] / answer["runs"][0]["seconds"])
        runs[f"{mode} p={p:g} q={q:g}"] = {"ours": mine, "peer": theirs}
        rate = median(theirs) if theirs else None
        rows.append(Row(f"walks p={p:g} q={q:g}, {options.threads} threads", "steps/s", median(mine), rate, f"PecanPy {mode}"))  # fmt: skip
        common.say(str(rows[-1]))
    return rows, runs


def node2vec_rows(options: argparse.Namespace, task: Task, path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Graph to matrix, with micro-F1 beside; ours with the same work as the peer's, and with two rounds of walks."""
    walks = 1 if options.small else 10
    asked = {"p": options.p, "q": options.q, "walks": walks, "length": LENGTH, "threads": options.threads}
    recipe = Node2Vec.model_validate({"dim": 128, "window": 10, "epochs": 1, **asked})
    recipe.model_copy(update={"walks": 1, "length": 4}).fit(task.graph)
    theirs = peer_node2vec(options, recipe, task, path) if options.full or options.small else None
    rows, runs = [], {}
    for epochs in (1, 2):
        mine = []
        for seed in range(1 if options.small else options.seeds):
            started = time.perf_counter()
            encoder = recipe.model_copy(update={"seed": seed, "epochs": epochs}).fit(task.graph)
            seconds = time.perf_counter() - started
            f1 = task.score(task.vectors(encoder.matrix), LABELLED).headline.value
            mine.append({"seed": seed, "seconds": seconds, "f1": f1})
            common.say(f"ours, {epochs} epochs: {mine[-1]}")
        quality = f"micro-F1 at {LABELLED:.0%} labels {np.mean([run['f1'] for run in mine]):.3f}"
        if theirs:
            quality += f" / {theirs['f1']:.3f}"
        what = f"node2vec end to end p={recipe.p:g} q={recipe.q:g}, {walks} walks of {LENGTH}, dim 128"
        rows.append(
            Row(
                what if epochs == 1 else f"{what}, ours twice (epochs: 2)", "s", median(run["seconds"] for run in mine),
                theirs["seconds"] if theirs else None, "PecanPy + gensim" if theirs else "PecanPy + gensim: with --full", quality,
            )
        )  # fmt: skip
        runs[f"{epochs} epochs"] = mine
    return rows, {"ours": runs, "peer": theirs}


def peer_node2vec(options: argparse.Namespace, recipe: Node2Vec, task: Task, path: Path) -> dict[str, Any] | None:
    """PecanPy's walks, gensim's training, our classifier."""
    out = path.with_name("pecanpy.npz")
    parameters = recipe.model_dump(include={"p", "q", "walks", "dim", "window", "negative", "lr", "threads"})
    message = {"graph": str(path), "runs": [], "embed": {**parameters, "steps": LENGTH - 1, "seed": 1, "out": str(out)}}
    answer = common.peer(options, "pecanpy_walks.py", message)
    if answer is None:
        return None
    with np.load(out) as found:
        return {**answer["embed"], "f1": task.score(task.vectors(found["matrix"]), LABELLED).headline.value}


def measure(options: argparse.Namespace) -> Result:
    """Rates first, then node2vec."""
    task = blogcatalog()
    graph = task.graph
    with tempfile.TemporaryDirectory(prefix="polyvec-walks-") as folder:
        path = Path(folder) / "graph.npz"
        write_graph(graph, path)
        rows, runs = walk_rows(options, graph, path)
        ends, runs["node2vec"] = node2vec_rows(options, task, path)
    settings = {"length": LENGTH, "threads": options.threads, "nodes": len(graph), "edges": len(graph.indices) // 2}
    notes = ["SparseOTF is PecanPy's general walk on the fly; FirstOrderUnweighted is its own choice for p = q = 1"]
    return Result("walks", [*rows, *ends], settings, runs, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many rates is quoted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="node2vec trainings of ours")
    parser.add_argument("--p", type=float, default=1.0, help="of node2vec end to end")
    parser.add_argument("--q", type=float, default=1.0, help="of node2vec end to end")
    common.run("walks", measure, parser.parse_args())


if __name__ == "__main__":
    main()
