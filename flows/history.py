"""What is told of a space's history, as JSON-able answers: the lines of its log, two versions compared, one row explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.displacement import aligned, displacement, measure
from flows.report_spaces import neighbours_of
from storage.changes import changes
from storage.history import Diff, Event, RowHistory, Stored, log
from storage.space import Version


def log_lines(versions: Sequence[Version], released: Mapping[int, str]) -> list[dict[str, Any]]:
    """A line a version, in the order given. released : names of the releases that hold a version, by its number.

    "change" says what differs from the parent; "bytes_added" counts the parts that the parent does not have, None where
    the parent is gone.
    """
    lines = []
    for entry in log(versions):
        m, c = entry.version.manifest, entry.version.manifest.counts
        warm = "" if m.warm_start is None else f", went on from version {m.warm_start}"
        first = "first version" if m.parent is None else f"version {m.parent} is gone"
        lines.append(
            {
                "version": m.version, "parent": m.parent, "created": m.created, "run": m.run, "rows": c.rows,
                "embedded": c.embedded, "reused": c.reused, "quarantined": c.quarantined,
                "change": (str(entry.changes) if entry.changes else first) + warm, "warm_start": m.warm_start, "seconds": m.seconds,
                "bytes_added": entry.added, "released": released.get(m.version, ""),
            }
        )  # fmt: skip
    return lines


def compared(diff: Diff, k: int) -> dict[str, Any]:
    """Two versions: how many rows came, went and changed, how far these moved, and at most k ids of each sort.

    "displacement" is measured between the vectors as they are stored, None where the dimension changed. "aligned" takes
    the turn of the whole space out first; it is None unless most common rows moved though their contents did not
    (`Diff.turned`), and more rows than the space has dimensions. The rows that moved most stand first, by "aligned"
    where there is one.
    """
    similarity = diff.after.manifest.similarity
    columns: dict[str, Any] = {}
    chance = 0.0
    if diff.old is not None and diff.new is not None:
        columns["displacement"] = displacement(diff.old, diff.new, similarity)
        if diff.turned and diff.moved.sum() > diff.after.dim:
            found = aligned(diff.old, diff.new, similarity, diff.moved)
            columns["aligned"], chance = found.distances, found.chance
    order = np.arange(len(diff.changed))
    for values in columns.values():  # the last one decides
        order = np.argsort(-values, kind="stable")
    rows: list[dict[str, Any]] = [
        {"row": "changed", "id": str(diff.changed[i])} | {name: float(values[i]) for name, values in columns.items()}
        for i in order[:k]
    ]
    rows += [{"row": "added", "id": str(name)} for name in diff.added[:k]]
    rows += [{"row": "removed", "id": str(name)} for name in diff.removed[:k]]
    raw, turned = columns.get("displacement"), columns.get("aligned")
    return {
        "space": diff.after.manifest.space, "before": diff.before.number, "after": diff.after.number,
        "rows_before": len(diff.before), "rows_after": len(diff.after),
        "changes": {"recipe": diff.changes.recipe, "shape": diff.changes.shape, "data": diff.changes.data},
        "added": len(diff.added), "removed": len(diff.removed), "common": diff.common, "changed": len(diff.changed),
        "moved": int(diff.moved.sum()), "measure": measure(similarity),
        "displacement": None if raw is None else _summary(raw) | {"mean_of_common": float(raw.sum()) / max(1, diff.common)},
        "aligned": None if turned is None else _summary(turned) | {"chance": chance},
        "rows": rows,
    }  # fmt: skip


def _summary(values: Any) -> dict[str, float]:
    return {"mean": float(values.mean()) if len(values) else 0.0, "largest": float(values.max(initial=0))}


def explained(history: RowHistory, refused: Sequence[Mapping[str, Any]], k: int) -> dict[str, Any]:
    """One row: what it is, which run and recipe made its vector, what happened to it, and its k neighbours then and now.

    Then is the version before its last change; where the row is gone, the last version that had it.
    refused : its lines in the quarantine; their "version" is the first without it.
    """
    last, events, newest = history.last, history.events, history.versions[-1]
    then = next((e.before for e in reversed(events) if e.what == "changed"), None) if history.now else last
    made = next((e for e in reversed(events) if e.now), None)
    return {
        "id": history.id, "space": newest.manifest.space, "version": newest.number, "held": history.now is not None,
        "last_held": last and last.version.number, "digest": last and last.digest, "origin": last and last.origin,
        "made": made and _made(made),
        "measure": measure(newest.manifest.similarity), "similarity": newest.manifest.similarity,
        "history": [_event(event, refused) for event in events],
        "quarantine": list(refused),
        "neighbours": {"then": then and _neighbours(then, k), "now": history.now and _neighbours(history.now, k)},
    }  # fmt: skip


def _made(event: Event) -> dict[str, Any]:
    m = event.version.manifest
    return {
        "version": m.version, "or_before": event.what == "there before", "created": m.created, "run": m.run,
        "recipe": m.recipe.model_dump(mode="json"), "fingerprint": m.fingerprint,
    }  # fmt: skip


def _event(event: Event, refused: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    m, old, new = event.version.manifest, event.before, event.now
    why, far, moved = "", None, False
    if event.what == "disappeared":
        why = ", ".join(f"quarantined: {row['code']}" for row in refused if row["version"] == m.version)
    if event.what == "changed" and old is not None and new is not None:
        moved = old.digest is None or old.digest == new.digest
        found = changes(old.version.manifest, m)
        why = str(found) if moved else ", ".join(dict.fromkeys(["its content", *found.recipe, *found.shape]))
        if old.vector.shape == new.vector.shape:
            far = float(displacement(old.vector[None], new.vector[None], m.similarity)[0])
    return {"version": m.version, "created": m.created, "run": m.run, "what": event.what, "displacement": far,
            "why": why, "space_moved": moved}  # fmt: skip


def _neighbours(stored: Stored, k: int) -> dict[str, Any]:
    [found] = neighbours_of(stored.version, [stored.row], k)
    return {"version": stored.version.number, "ids": [{"id": name, "score": round(score, 6)} for name, score in found]}
