"""Looks at datasets, handed from the plan of a run to its steps: a hundred thousand files take a second to look at."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flows.pipeline import Pipeline
from storage.digests import DigestCache
from storage.inputs.specs import Scan

FRESH = 10.0  # seconds after which a step looks again
_looks: dict[str, tuple[float, Mapping[str, Scan]]] = {}


def hand_over(run: str, scans: Mapping[str, Scan]) -> None:
    """Let the steps of a run in this process take the scans of its plan."""
    _looks[run] = time.monotonic(), scans


def forget(run: str) -> None:
    """The run has ended."""
    _looks.pop(run, None)


def look(pipeline: Pipeline, name: str, run: str) -> Scan:
    """A dataset's files and digests: those of the run's plan while they are fresh, else as they are now."""
    seen, scans = _looks.get(run, (0.0, {}))
    if name in scans and time.monotonic() - seen < FRESH:
        return scans[name]
    return pipeline.datasets[name].scan(pipeline.base, DigestCache(pipeline.vectors.paths.cache))
