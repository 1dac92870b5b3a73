"""The trials that a version was chosen from, for people and for JSON."""

from __future__ import annotations

from typing import Any

from storage.space import Version
from storage.trials import is_of, trials_of

SHOWN = 20
"""Trials in a table."""
OPTIMISTIC = (
    "They were judged by the evaluation that is reported: the best of several is chosen for its luck, too, so that its "
    "score is optimistic."
)
INNER = "They were judged inside the training data: what is held out for the score of the version was seen by none."


def table(version: Version) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and a word on them; all empty where no trials chose the version's parameters."""
    found = trials_of(version)
    if not found:
        return [], [], ""
    names = list(dict.fromkeys(name for one in found for name in one.notes["params"]))
    metric = found[0].notes["metric"] or next(iter(found[0].scores), "")
    rows = [
        [
            *(str(one.notes["params"].get(name, "")) for name in names),
            "" if one.value is None else f"{one.value:.4f}",
            f"{one.notes['seconds']:.1f}" if "seconds" in one.notes else "",
            "chosen" if is_of(one, version) else f"failed: {one.error}" if one.error else "",
        ]
        for one in found[:SHOWN]
    ]
    more = f", the best {SHOWN} of which are shown" if len(found) > SHOWN else ""
    said = f"{len(found):,} trials{more}. {INNER if found[0].notes['inner'] else OPTIMISTIC}"
    return [*names, f"{found[0].evaluation}.{metric}", "seconds", "note"], rows, said


def listed(version: Version) -> list[dict[str, Any]]:
    """Each trial as JSON can hold it, the best first."""
    kept = ("params", "metric", "direction", "inner", "seconds", "error")
    return [
        {name: one.notes.get(name) for name in kept}
        | {"evaluation": one.evaluation, "scores": dict(one.scores), "chosen": is_of(one, version), "time": one.time}
        for one in trials_of(version)
    ]
