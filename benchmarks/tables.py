"""Tables: learned columns against one-hot rows, one linear model on both.

MovieLens 100k as rows of user, item, occupation, zip code, gender, year, genres and age, to tell the rating; and its films
by director, first actor, language, country and year, to tell dramas from others. Every score is of rows that neither the
vectors nor the model saw (`evaluation.downstream`); training is timed on all rows, alone.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.table.categories import Categories
from embedders.table.coding import Coding
from embedders.table.one_hot import OneHotRows, OneHotVectors
from embedders.table.vectors import RowVectors
from embedders.tables import Table
from evaluation.base import Report
from evaluation.downstream import Features, downstream
from flows.downstream import one_hot

FOLDER = "useritem_movielens_100k"


def coded(ids: Sequence[str], columns: dict[str, Sequence[str]], **others: Any) -> Table:
    """A table of columns of text."""
    found = {name: np.unique(np.array(values), return_inverse=True) for name, values in columns.items()}
    codes = np.stack([inverse for _, inverse in found.values()], axis=1).astype(np.int32)
    return Table(ids, tuple(found), tuple(values.tolist() for values, _ in found.values()), codes, **others)


def films() -> list[list[str]]:
    """The rows of u.item."""
    with (common.data(FOLDER) / "u.item").open(encoding="latin-1", newline="\n") as file:
        return [line.rstrip("\n").split("|") for line in file]


def ratings() -> Table:
    """Users and films of each rating."""
    folder = common.data(FOLDER)
    with gzip.open(folder / "u.data.gz", "rt") as file:
        events = [line.split("\t") for line in file]
    users = {row[0]: row for row in (line.strip().split("|") for line in (folder / "u.user").open())}
    items = {row[0]: row for row in films()}
    mine, theirs = [users[event[0]] for event in events], [items[event[1]] for event in events]
    columns = {
        "user": [row[0] for row in mine], "item": [row[0] for row in theirs], "occupation": [row[3] for row in mine],
        "zip": [row[4] for row in mine], "gender": [row[2] for row in mine], "year": [row[2][-4:] for row in theirs],
        "genres": ["".join(row[5:]) for row in theirs],
    }  # fmt: skip
    return coded(
        [str(number) for number in range(len(events))], columns, number_columns=("age",),
        numbers=np.array([[float(row[1])] for row in mine], np.float32),
        target=np.array([float(event[2]) for event in events], np.float32), target_column="rating",
    )  # fmt: skip


def dramas() -> Table:
    """Films and whether they are dramas."""
    items = films()
    with gzip.open(common.data(FOLDER) / "plots.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        plots = {row["movie_id"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    told = [plots.get(row[0], {}) for row in items]
    columns: dict[str, Sequence[str]] = {
        name: [(row.get(name) or "").split(",")[0] for row in told]
        for name in ("director", "actors", "language", "country")
    }
    return coded(
        [row[0] for row in items], columns | {"year": [row[2][-4:] for row in items]},
        target=np.array([int(row[5 + 8]) for row in items], np.int32), target_column="drama", classes=["other", "drama"],
    )  # fmt: skip


def hashed(buckets: int) -> Features:
    """Hashed rows, sparse."""

    def features(known: Table, new: Table) -> tuple[Any, Any]:
        recipe = OneHotRows.model_validate({"buckets": buckets})
        encoder = OneHotVectors(recipe, Coding.of(known, len(known) + 1))
        return encoder.sparse(known), encoder.sparse(new)

    return features


class Trained:
    """Rows by what `categories` learned, one training for several kinds of rows."""

    def __init__(self, **params: Any) -> None:
        self.recipe, self.known = Categories.model_validate(params), dict[int, RowVectors]()

    def rows(self, kind: str) -> Features:
        """The vectors of rows. kind : values or hidden."""

        def features(known: Table, new: Table) -> tuple[Any, Any]:
            key = hash(tuple(known.ids))
            if key not in self.known:
                found = self.recipe.fit(known).sides["rows"]
                assert isinstance(found, RowVectors)
                self.known[key] = found
            encoder = replace(self.known[key], mode={**self.known[key].mode, "rows": kind})
            first, second = (np.concatenate([b.vectors.matrix for b in encoder.encode(it)]) for it in (known, new))
            return first, second

        return features


def contenders(small: bool, threads: int) -> dict[str, Features]:
    """Features by name; the first are the judged ones, the others stand beside."""
    params: dict[str, Any] = {"threads": threads, "epochs": 3 if small else 50}
    target, columns = Trained(**params), Trained(**params, learn="columns")
    return {
        "one-hot": one_hot,
        "hashed 256": hashed(256),
        "hashed 4096": hashed(4096),
        "categories": target.rows("values"),
        "categories, hidden": target.rows("hidden"),
        "categories, columns": columns.rows("values"),
    }


def judged(name: str, data: Table, options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Each kind of features against one-hot."""
    rows = 500 if options.small else options.rows
    report: Report = downstream(
        data, contenders(options.small, options.threads), folds=2 if options.small else options.folds, rows=rows
    )
    scores = {score.metric: score.value for score in report.scores}
    sizes = {"one-hot": report.notes["sizes"]["vectors"], **report.notes["sizes"]}
    metric = "accuracy" if data.classes is not None else "r2"
    found = []
    for kind in ["one-hot", *report.notes["baselines"]]:
        tail = "" if kind == "one-hot" else f"[{kind}]"
        cost = sizes[kind]
        memory = cost.get("sparse_bytes", cost["bytes"]) / 2**20
        quality = f"dim {cost['dim']:,}, {memory:.1f} MiB"
        if "rmse" in scores:
            quality += f", rmse {scores['rmse' + tail]:.4f}"
        found.append(Row(f"{name}: {kind}", metric, scores[metric + tail], scores[metric], "one-hot", quality))
    return found, {"scores": scores, "notes": dict(report.notes)}


def speed(data: Table, options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Rows times passes a second of training."""

    def trained(**asked: Any) -> Callable[[], float]:
        recipe = Categories.model_validate({"epochs": 1 if options.small else 3, "patience": 50} | asked)

        def measure() -> float:
            started = time.perf_counter()
            mode = recipe.fit(data).sides["rows"].mode
            return float(mode["rows_trained"] * len(mode["loss"]) / (time.perf_counter() - started))

        return measure

    runs = common.interleaved(
        {
            "target, 1 thread": trained(threads=1),
            f"target, {options.threads} threads": trained(threads=options.threads),
            "columns, 1 thread": trained(threads=1, learn="columns"),
        },
        1 if options.small else options.rounds,
    )
    rows = [Row(f"training on {kind}", "rows/s", value) for kind, value in common.medians(runs).items()]
    return rows, runs


def measure(options: argparse.Namespace) -> Result:
    """Scores, then speed."""
    data = ratings()
    found, runs = speed(data.select(np.arange(2000)) if options.small else data, options)
    for name, table in (("dramas", dramas()), ("ratings", data)):
        rows, runs[name] = judged(name, table, options)
        found += rows
        for row in rows:
            common.say(f"{row.what} {row.ours:.4f} {row.quality}")
    settings = {"folds": options.folds, "rows": options.rows, "table": [len(data), *data.columns, *data.number_columns]}
    notes = [
        "memory is of sparse rows where they are sparse; the ratio is of scores to one-hot's: above 1 the vectors win",
        "hidden layers tell what pairs of values do, which a linear model on one-hot rows or on values side by side cannot",
    ]
    return Result("tables", found, settings, runs, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000, help="that are judged at most")
    parser.add_argument("--threads", type=int, default=common.cores(), help="of the trainings that are judged")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many rates is quoted")
    common.run("tables", measure, parser.parse_args())


if __name__ == "__main__":
    main()
