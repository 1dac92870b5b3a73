"""The tables beside the spaces: metrics, quarantine, near duplicates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from embedders.data import Rejected
from storage import logs
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

PAIRS = pa.schema(
    [
        ("space", pa.string()), ("version", pa.int64()), ("evaluation", pa.string()),
        ("id", pa.string()), ("other", pa.string()), ("cosine", pa.float64()), ("exact", pa.bool_()), ("time", TIME),
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
    logs.append(paths.metrics, pa.Table.from_pylist(rows, schema=METRICS))


def metrics(paths: Paths, space: str, version: int) -> list[dict[str, Any]]:
    """The recorded metrics of one version, oldest first, each evaluation's headline before its other scores."""
    rows = logs.read_rows(paths.metrics, METRICS, {"space": space, "version": version})
    return sorted(rows, key=lambda row: (row["time"], row["evaluation"], row["notes"] is None))


def record_pairs(paths: Paths, space: str, version: int, evaluation: str, pairs: Mapping[str, Sequence[Any]]) -> None:
    """Write near duplicates down in the place of those that the evaluation found in the version before.

    pairs : equally long columns "id", "other", "cosine", "exact".
    """
    n = len(pairs["id"])
    fixed = {"space": space, "version": version, "evaluation": evaluation, "time": datetime.now(UTC)}
    columns = {name: pairs[name] if name in pairs else [fixed[name]] * n for name in PAIRS.names}
    name = evaluation.replace("'", "''")
    rows = pa.table(columns, schema=PAIRS)
    logs.replace(paths.near_duplicates, rows, f"space = '{space}' AND evaluation = '{name}'")


def near_duplicates(paths: Paths, space: str, version: int, evaluation: str) -> list[dict[str, Any]]:
    """Pairs that an evaluation found in a version, the most alike first; none where a newer version was judged since."""
    wanted = {"space": space, "version": version, "evaluation": evaluation}
    rows = logs.read_rows(paths.near_duplicates, PAIRS, wanted)
    return sorted(rows, key=lambda row: (-row["cosine"], row["id"], row["other"]))


def quarantined(paths: Paths, space: str) -> list[dict[str, Any]]:
    """The rows of a space that could not be embedded when it was last tried, by id. version: the first without them."""
    rows = logs.read_rows(paths.quarantine, QUARANTINE, {"space": space})
    return sorted(rows, key=lambda row: (row["id"], row["location"], row["code"]))


def hold(paths: Paths, space: str, version: int, run: str, rejected: Sequence[Rejected]) -> list[dict[str, Any]]:
    """Add rejected rows to the quarantine; done before the commit, so that none is lost.

    Returns
    -------
    The rows that stay once the version is committed; those that were there before keep their first version and time.
    """
    before = quarantined(paths, space)
    known = {_key(row): row for row in before}
    now = datetime.now(UTC)
    stay = []
    for r in rejected:
        row = {
            "space": space, "version": version, "run": run, "id": r.id, "location": r.location, "code": r.code,
            "message": r.message, "time": now,
        }  # fmt: skip
        stay.append(known.get(_key(row), row))
    if new := [row for row in stay if _key(row) not in known]:
        _put(paths, space, [*before, *new])
    return stay


def settle(paths: Paths, space: str, stay: Sequence[dict[str, Any]]) -> None:
    """Let go of the rows that embed by now, or whose input is gone; done after the commit."""
    if {_key(row) for row in quarantined(paths, space)} != {_key(row) for row in stay}:
        _put(paths, space, stay)


def _put(paths: Paths, space: str, rows: Sequence[dict[str, Any]]) -> None:
    logs.replace(paths.quarantine, pa.Table.from_pylist(list(rows), schema=QUARANTINE), f"space = '{space}'")


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["id"], row["location"], row["code"], row["message"]
