"""The tables beside the spaces: metrics and quarantine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from embedders.data import Rejected
from storage import delta
from storage.paths import Paths

TIME = pa.timestamp("us", tz="UTC")
METRICS = pa.schema(
    [
        ("space", pa.string()), ("version", pa.int64()), ("evaluation", pa.string()), ("metric", pa.string()),
        ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
        ("fingerprint", pa.string()), ("notes", pa.string()), ("time", TIME),
    ]
)  # fmt: skip
QUARANTINE = pa.schema(
    [
        ("space", pa.string()), ("version", pa.int64()), ("run", pa.string()), ("id", pa.string()),
        ("location", pa.string()), ("code", pa.string()), ("message", pa.string()), ("time", TIME),
    ]
)  # fmt: skip


def record_metrics(
    paths: Paths,
    space: str,
    version: int,
    evaluation: str,
    fingerprint: str,
    scores: Sequence[tuple[str, float, float | None, float | None]],
    notes: Mapping[str, Any],
) -> None:
    """Append the scores of one evaluation, headline first: (metric, value, low, high). notes stand with the headline."""
    now = datetime.now(UTC)
    rows = [
        dict(
            zip(
                METRICS.names,
                (
                    space,
                    version,
                    evaluation,
                    *score,
                    fingerprint,
                    json.dumps(dict(notes), ensure_ascii=False) if i == 0 else None,
                    now,
                ),
                strict=True,
            )
        )
        for i, score in enumerate(scores)
    ]
    delta.append(paths.metrics, pa.Table.from_pylist(rows, schema=METRICS))


def metrics(paths: Paths, space: str, version: int) -> list[dict[str, Any]]:
    """The recorded metrics of one version, oldest first, each evaluation's headline before its other scores."""
    rows = delta.read_rows(paths.metrics, METRICS, [("space", "==", space), ("version", "==", version)])
    return sorted(rows, key=lambda row: (row["time"], row["evaluation"], row["notes"] is None))


def quarantine(paths: Paths, space: str, version: int, run: str, rejected: Sequence[Rejected]) -> None:
    """Append rejected rows; they are written before the version they belong to, so that none is lost."""
    if rejected:
        now = datetime.now(UTC)
        rows = [
            {
                "space": space,
                "version": version,
                "run": run,
                "id": r.id,
                "location": r.location,
                "code": r.code,
                "message": r.message,
                "time": now,
            }
            for r in rejected
        ]
        delta.append(paths.quarantine, pa.Table.from_pylist(rows, schema=QUARANTINE))


def quarantined(paths: Paths, space: str, version: int, run: str) -> list[dict[str, Any]]:
    """The rows that one version left out, by id."""
    rows = delta.read_rows(
        paths.quarantine, QUARANTINE, [("space", "==", space), ("version", "==", version), ("run", "==", run)]
    )
    return sorted(rows, key=lambda row: (row["id"], row["location"]))
