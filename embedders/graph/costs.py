"""What fitting on a graph takes, from rates that were measured. A machine may be twice as fast or as slow."""

from __future__ import annotations

from embedders.base import Estimate
from embedders.kernels.threads import cores

STEPS = 2.6e6
"""Steps of walks that one core draws and learns a second at dim 128 and window 10 (3.3 M with 2,000 nodes, 3.0 M with
100,000, 2.5 M with a million, whose matrices no cache holds)."""
CHUNK = 1 << 28
"""Bytes of walks, alias tables and counts beside the matrices."""


def of_walks(rows: int, edges: int, steps: int, dim: int, window: int, threads: int) -> Estimate:
    """Of skip-gram on `steps` steps of walks: two matrices of `rows` by `dim`, the one that is given out, and a chunk."""
    team = threads or cores()
    rate = STEPS * (0.8 if rows * dim * 8 > 1 << 28 else 1.0) / (0.3 + 0.5 * dim / 128 + 0.2 * window / 10)
    return Estimate(3 * 4 * rows * dim + CHUNK, steps / rate / team, team)
