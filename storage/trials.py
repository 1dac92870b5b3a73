"""Trials of parameters in the table of metrics: rows of version 0, which no version has, so that nobody takes them for
the scores of one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage import tables
from storage.paths import Paths
from storage.space import Version

NO_VERSION = 0
PREFIX = "tune:"  # before the name of the evaluation


@dataclass(frozen=True)
class Record:
    """One trial as it was recorded.

    Parameters
    ----------
    key : what was tried on what: equal keys, equal trials.
    evaluation : its name.
    scores : by metric, the headline first; None where it is not finite. Empty when the trial failed.
    notes : "params" (the values tried), "metric" ("" is the headline), "direction", "recipe" (fingerprint), "dataset" (digest),
        "made_from", "evaluation" (fingerprint), "inner" (judged on a part of the training data, which the evaluation
        itself does not look at), and "seconds", or "error" where it failed.
    """

    key: str
    evaluation: str
    scores: Mapping[str, float | None]
    notes: Mapping[str, Any]
    time: datetime

    @property
    def error(self) -> str:
        """Why it failed; empty when it did not."""
        return str(self.notes.get("error", ""))

    def value_of(self, metric: str = "") -> float | None:
        """One of its scores, without a name the headline; None where there is none."""
        return self.scores.get(metric or next(iter(self.scores), ""))

    @property
    def value(self) -> float | None:
        """The score it was judged by."""
        return self.value_of(self.notes["metric"])

    @property
    def told(self) -> str:
        """What came of it, in a few words."""
        metric = self.notes["metric"] or next(iter(self.scores), "")
        return f"failed: {self.error}" if self.error else f"{self.evaluation}.{metric} {self.value}"


def record(
    paths: Paths,
    entry: str,
    evaluation: str,
    key: str,
    scores: Sequence[tuple[str, float | None, float | None, float | None]],
    notes: Mapping[str, Any],
) -> None:
    """Write a trial of an entry of the pipeline file down; scores and notes as in `Record`."""
    finite = [(name, value if value is None or math.isfinite(value) else None, *ends) for name, value, *ends in scores]
    rows: Any = finite or [("", None, None, None)]  # the notes need a row
    tables.record_metrics(paths, entry, NO_VERSION, PREFIX + evaluation, key, rows, notes)


def records(paths: Paths, entry: str) -> dict[str, Record]:
    """The newest record of each trial of an entry, by key."""
    rounds: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
    for row in tables.metrics(paths, entry, NO_VERSION):  # oldest first, each headline before its other scores
        rounds.setdefault((row["fingerprint"], row["time"]), []).append(row)
    return {
        key: Record(
            key,
            rows[0]["evaluation"].removeprefix(PREFIX),
            {row["metric"]: row["value"] for row in rows if row["metric"]},
            json.loads(rows[0]["notes"]),
            time,
        )
        for (key, time), rows in rounds.items()
        if rows[0]["notes"]
    }


def trials_of(version: Version) -> tuple[Record, ...]:
    """The trials that the recipe of a version was chosen from, the best first, then those that failed; none when it was
    not chosen so. All that were made on the same data by the same evaluation count, also those of an earlier grid.
    """
    m = version.manifest
    entry = m.space.removesuffix(f".{m.side}") if m.side else m.space
    same = [
        found
        for found in records(version.paths, entry).values()
        if (found.notes["dataset"], found.notes["made_from"]) == (m.dataset_digest, m.made_from)
    ]
    chosen = [found for found in same if is_of(found, version)]
    if not chosen:
        return ()
    by = max(chosen, key=lambda found: found.time)
    alike = ("evaluation", "metric", "direction")
    found = [one for one in same if all(one.notes[name] == by.notes[name] for name in alike)]
    sign = 1 if by.notes["direction"] == "minimize" else -1
    return tuple(sorted(found, key=lambda one: (one.value is None, sign * (one.value or 0), one.time)))


def is_of(trial: Record, version: Version) -> bool:
    """Whether the recipe of a version is the one tried."""
    return bool(trial.notes["recipe"] == version.manifest.fingerprint)
