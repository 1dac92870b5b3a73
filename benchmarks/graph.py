"""Node embeddings: quality beside the published figures, speed beside public packages, and what a large graph takes.

One classifier for all (`evaluation.node_classification`, vectors as they are): Cora on its Planetoid split, BlogCatalog
at 90 % labels and DBLP's authors at 50 % on the same ten random splits. Links: 15 % of Cora's edges are held out, as in
PyG's examples (5 % + 10 %), and all of them are judged. Peers that are figures are those of the papers, or of PyG's own
runs; peers that are programs run here, by turns with ours. Walks and node2vec beside PecanPy: `benchmarks.walks`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import common, graph_data, graph_peers
from benchmarks.common import Result, Row
from benchmarks.graph_data import Task
from benchmarks.graph_scale import compiled, scale
from embedders.base import Encoder, Matrix, Vectors
from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.split import hold_out
from embedders.registry import embedder_class
from evaluation.link_prediction import link_prediction

Found = tuple[list[Row], dict[str, Any]]
Params = Mapping[str, Any]

HELD_OUT = 0.15
PRONE = {"dim": 128}
THEIR_PRONE = {"dim": 128, "step": 10, "mu": 0.2, "theta": 0.5, "exponent": 0.75}  # as its authors ran it
BY_VENUE, BY_TERM = (["author", "paper", kind, "paper", "author"] for kind in ("venue", "term"))

CORA: tuple[tuple[str, str, Params, float | None, str], ...] = (
    ("deepwalk", "node2vec", {}, 0.672, "Perozzi et al. 2014, as run by Kipf and Welling 2017"),
    ("dgi", "dgi", {}, 0.82, "bar; Velickovic et al. 2019: 0.823"),
)
LINKS: tuple[tuple[str, str, Params, float | None, float | None], ...] = (
    ("gae", "gae", {}, 0.906, 0.912),
    ("vgae", "vgae", {}, None, None),
)
BLOGCATALOG: tuple[tuple[str, str, Params, float | None, str], ...] = (
    ("deepwalk", "node2vec", {}, None, ""),
    ("node2vec p=0.25 q=0.25", "node2vec", {"p": 0.25, "q": 0.25}, 0.42, "bar; Grover and Leskovec 2016 by Zhang et al.: 0.425"),
    ("prone", "prone", PRONE, 0.432, "bar; Zhang et al. 2019: 0.436"),
    ("netmf", "netmf", {"dim": 128}, 0.43, "bar; Qiu et al. 2018: 0.435"),
    ("spectral", "spectral", {"dim": 128}, None, ""),
)  # fmt: skip
DBLP: tuple[tuple[str, str, Params], ...] = (  # the first is what the others are held against
    ("node2vec, no types", "node2vec", {}),
    ("node2vec, no types, steps as below", "node2vec", {"walks": 4, "epochs": 1}),
    ("metapath2vec by venue", "metapath2vec", {"metapath": BY_VENUE}),
    ("metapath2vec by venue and by term", "metapath2vec", {"metapath": [BY_VENUE, BY_TERM]}),
    ("metapath2vec++ by venue and by term", "metapath2vec", {"metapath": [BY_VENUE, BY_TERM], "typed_noise": True}),
)
LESS = {"node2vec": {"walks": 1}, "metapath2vec": {"walks": 1}} | {
    kind: {"steps": 5} for kind in ("dgi", "gae", "vgae")
}


def there(kind: str) -> bool:
    """Whether there is such an embedder; a line says so where there is none."""
    try:
        embedder_class(kind)
    except InputError as error:
        common.say(f"{kind} skipped: {error}")
        return False
    return True


def fitted(options: argparse.Namespace, kind: str, params: Params, graph: Graph, seed: int) -> tuple[Encoder[Any], Vectors, float]:  # fmt: skip
    """The encoder, its vectors, and the seconds that fitting took."""
    cls = embedder_class(kind)
    asked = {**params, **(LESS.get(kind, {}) if options.small else {}), "seed": seed}
    if "threads" in cls.model_fields:
        asked["threads"] = options.threads
    recipe = cls.model_validate(asked)
    data: Any = graph if cls.data is Graph else cls.data.of(graph)  # type: ignore[attr-defined]
    started = time.perf_counter()
    encoder = recipe.fit(data)
    seconds = time.perf_counter() - started
    found = [batch.vectors for batch in encoder.encode(data)]
    ids = [name for part in found for name in part.ids]
    return encoder, Vectors(found[0].entity, ids, np.concatenate([part.matrix for part in found])), seconds


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The mean and the standard deviation of some scores.

    >>> spread([0.5, 0.7]), spread([0.5])
    ('0.600 ± 0.141', '0.500')
    """
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def labelled(options: argparse.Namespace, task: Task, kind: str, params: Params, seeds: int, train: float = 0.9) -> list[dict[str, float]]:  # fmt: skip
    """Micro and macro F1 of so many seeds."""
    found = []
    for seed in range(1 if options.small or embedder_class(kind).deterministic else seeds):
        _, vectors, seconds = fitted(options, kind, params, task.graph, seed)
        report = task.score(vectors, train)
        names = ("micro_f1", "macro_f1", "majority")
        found.append({"seed": seed, "seconds": seconds} | {name: report.value(name) for name in names})
        common.say(f"{kind} {found[-1]}")
    return found


def label_row(what: str, runs: Sequence[Mapping[str, float]], peer: float | None, against: str, unit: str) -> Row:
    """The mean micro F1, with the rest beside."""
    micro, macro = ([run[name] for run in runs] for name in ("micro_f1", "macro_f1"))
    quality = (
        f"{spread(micro)}, macro {spread(macro)}, {len(runs)} seed(s), {median(r['seconds'] for r in runs):.3g} s each"
    )
    return Row(what, unit, float(np.mean(micro)), peer, against, quality)


def cora(options: argparse.Namespace, folder: Path) -> Found:
    """Accuracy on the Planetoid split."""
    task, rows, runs = graph_data.cora(), [], {}
    for name, kind, params, bar, against in CORA:
        if there(kind):
            runs[name] = labelled(options, task, kind, params, options.seeds)
            rows.append(label_row(f"Cora, Planetoid split: {name}", runs[name], bar, against, "accuracy"))
    return rows, runs


def links(options: argparse.Namespace, folder: Path) -> Found:
    """AUC and average precision of edges held out; another draw of them for each seed."""
    graph = graph_data.cora().graph
    rows: list[Row] = []
    runs: dict[str, Any] = {}
    for name, kind, params, area, precision in LINKS:
        if not there(kind):
            continue
        runs[name] = []
        for seed in range(1 if options.small else options.seeds):
            training, held = hold_out(graph, HELD_OUT, seed)
            encoder, vectors, seconds = fitted(options, kind, params, training, seed)
            report = link_prediction(vectors, held, similarity=encoder.similarity, training=training)
            runs[name].append(
                {"seed": seed, "seconds": seconds} | {score.metric: score.value for score in report.scores}
            )
            common.say(f"{kind} {runs[name][-1]}")
        for metric, bar, unit in (("auc", area, "AUC"), ("average_precision", precision, "AP")):
            values = [run[metric] for run in runs[name]]
            trivial = np.mean([run[f"{metric}[common_neighbours]"] for run in runs[name]])
            quality = f"{spread(values)}, {len(values)} draw(s); common neighbours {trivial:.3f}"
            rows.append(
                Row(
                    f"Cora, links held out: {name}",
                    unit,
                    float(np.mean(values)),
                    bar,
                    "PyG's own runs" if bar else "",
                    quality,
                )
            )
    return rows, runs


def blogcatalog(options: argparse.Namespace, folder: Path) -> Found:
    """Micro F1 at 90 % labels."""
    task, rows, runs = graph_data.blogcatalog(), [], {}
    for name, kind, params, bar, against in BLOGCATALOG:
        if there(kind):
            runs[name] = labelled(options, task, kind, params, min(options.seeds, 3))
            rows.append(label_row(f"BlogCatalog, 90 % labels: {name}", runs[name], bar, against, "micro-F1"))
    return rows, runs


def dblp(options: argparse.Namespace, folder: Path) -> Found:
    """Areas of authors: walks along paths of types, and walks on the same graph that know no types."""
    task = graph_data.dblp()
    authors = sum(name.startswith("author ") for name in task.graph.ids)
    rows: list[Row] = []
    runs: dict[str, Any] = {}
    for name, kind, params in DBLP:
        runs[name] = labelled(options, task, kind, params, min(options.seeds, 4), train=0.5)
        recipe: Any = embedder_class(kind).model_validate(params)
        begin = len(task.graph) if kind == "node2vec" else authors
        steps = begin * recipe.walks * recipe.length * recipe.epochs
        against = (rows[0].ours, DBLP[0][0]) if rows else (None, "")
        row = label_row(f"DBLP authors, 50 % labels: {name}", runs[name], *against, "micro-F1")
        rows.append(replace(row, quality=f"{row.quality}, {steps / 1e6:.0f} M steps"))
    return rows, runs


def prone(options: argparse.Namespace, folder: Path) -> Found:
    """Graph in memory to matrix, beside nodevectors, by turns."""
    if not there("prone"):
        return [], {}
    task = graph_data.blogcatalog()
    large = (2_000, 20_000) if options.small else (100_000, 1_000_000)
    graphs: dict[str, tuple[Graph, Callable[[Matrix], str]]] = {
        "BlogCatalog": (task.graph, lambda matrix: f"{task.score(task.vectors(matrix)).headline.value:.3f}"),
        f"power law, {large[0]:,} nodes, {large[1]:,} edges": (graph_data.power_law(*large), lambda matrix: ""),
    }
    compiled(embedder_class("prone").model_validate(PRONE))
    rows, runs = [], {}
    for name, (graph, quality) in graphs.items():
        path = folder / "graph.npz"
        graph_peers.write_graph(graph, path)
        mine: list[float] = []
        theirs: list[graph_peers.Made] = []
        for number in range(1 if options.small else options.rounds):
            _, vectors, seconds = fitted(options, "prone", PRONE, graph, number)
            mine.append(seconds)
            if made := graph_peers.nodevectors_prone(options, path, {**THEIR_PRONE, "seed": number}):
                theirs.append(made)
        scores = [
            score for found in (vectors.matrix, *(made.matrix for made in theirs[-1:])) if (score := quality(found))
        ]
        runs[name] = {"ours": mine, "peer": [made.seconds for made in theirs], "micro_f1": scores}
        beside = f"micro-F1 at 90 % labels {' / '.join(scores)}" if scores else ""
        peer = median(made.seconds for made in theirs) if theirs else None
        rows.append(Row(f"prone end to end, {name}, dim 128", "s", median(mine), peer, "nodevectors", beside))
        common.say(str(rows[-1]))
    return rows, runs


def large(options: argparse.Namespace, folder: Path) -> Found:
    """Prone and node2vec on power-law graphs of up to 10 million edges."""
    walks = {"walks": 1} if options.small else {}
    recipes = {"prone": PRONE, "node2vec": {"dim": 128, "threads": options.threads, **walks}}
    return scale(options, folder, {kind: params for kind, params in recipes.items() if there(kind)})


SECTIONS: Mapping[str, Callable[[argparse.Namespace, Path], Found]] = {
    "cora": cora, "links": links, "blogcatalog": blogcatalog, "dblp": dblp, "prone": prone, "scale": large,
}  # fmt: skip


def measure(options: argparse.Namespace) -> Result:
    """The sections that were asked for."""
    rows: list[Row] = []
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="polyvec-graph-") as folder:
        for name in options.only or SECTIONS:
            found, runs[name] = SECTIONS[name](options, Path(folder))
            rows += found
    settings = {"seeds": options.seeds, "threads": options.threads, "held_out": HELD_OUT, "prone": THEIR_PRONE}
    notes = [
        "a peer without seconds is a published figure or the bar that was set; ± is the standard deviation over seeds"
    ]
    return Result("graph" if not options.only else f"graph-{'-'.join(options.only)}", rows, settings, runs, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), help="some of it")
    parser.add_argument(
        "--seeds", type=int, default=10, help="of what is random: Cora; BlogCatalog takes 3 at most, DBLP 4"
    )
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many timings is quoted")
    parser.add_argument("--threads", type=int, default=2)
    common.run("graph", measure, parser.parse_args())


if __name__ == "__main__":
    main()
