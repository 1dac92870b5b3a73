"""What embedders made of matrix products take, from rates that were measured on one core (AVX-512, 2025).

Numbers of a row that an entry of the sparse matrix adds up, flops of dense products, and passes over tall matrices.
"""

from __future__ import annotations

from embedders.base import Estimate
from embedders.kernels.threads import cores

ENTRY, NUMBER, FAR = 2e-9, 0.08e-9, 0.125e-9
"""Seconds for an entry, and for each number of its row: one that a cache holds, and one that none does."""
CACHE = 1 << 25
"""Bytes of rows that a cache holds."""
FLOP = 1 / 80e9
"""Seconds for a flop of a dense product in float32."""
BASIS = 50e-12
"""Seconds for a row and a pair of columns of an orthonormal basis: squares in float64, and a turn."""


def sparse(rows: int, edges: int, width: int) -> float:
    """Seconds of one product with (rows, width) numbers; an edge is two entries."""
    number = NUMBER if rows * width * 4 <= CACHE else FAR
    return 2 * edges * (ENTRY + width * number) + rows * (3e-8 + width * number)


def basis(rows: int, width: int) -> float:
    """Seconds of one orthonormal basis: passes over the rows, and a small eigenproblem."""
    return rows * width**2 * BASIS + 1e-9 * width**3


def eigenpairs(rows: int, edges: int, count: int, rounds: int) -> tuple[int, float]:
    """Bytes and seconds of so many rounds of `kernels.eigen.largest`."""
    width = min(rows, count + max(16, count // 4))
    seconds = rounds * (11 * sparse(rows, edges, width) + 3 * basis(rows, width))
    return 4 * rows * (2 * width + count) + 12 * edges, seconds


def estimate(nbytes: int, edges: int, seconds: float, threads: int) -> Estimate:
    """Of `nbytes` beside what telling isolated nodes apart takes of the edges."""
    team = threads or cores()
    return Estimate(nbytes + 50 * edges, seconds / team, team)
