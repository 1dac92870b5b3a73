"""Copies of a matrix's hottest rows for each thread, added up without losing anything.

A row that all threads write at every step moves between the caches of their cores at every step. So each thread writes
a copy, and now and then adds to the row what the copy has learnt since it last was the row's equal, and makes it so
again. Rows take turns, one a step: row 0 each LEVELS steps, the two after it half as often, the four after those a
quarter, as the nodes of a tree are visited that are numbered from the root by falling weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.kernels.centres import CACHE_LINE
from embedders.kernels.offsets import _data, _load, _store, _width, prefetch
from embedders.kernels.simd import _INT, _loop

LEVELS = 10  # of 1, 2, 4 ... rows: what a core's second cache holds


@intrinsic
def _merge(typing: Any, c: Any, row: Any, copy: Any, base: Any) -> Any:
    """Add `copy` less `base` to `row` (offsets in c); copy and base become the sum."""
    signature = types.void(c, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        c_, *places = args
        dim = _width(context, builder, sig.args[0], c_)
        c_ = _data(context, builder, sig.args[0], c_)

        def block(offset: Any, _: list[Any]) -> list[Any]:
            at = builder.gep(c_, [offset])
            row, copy, base = (_load(builder, at, place) for place in places)
            total = builder.fadd(row, builder.fsub(copy, base))
            for place in places:
                _store(builder, total, at, place)
            return []

        _loop(builder, dim, [], block)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _take(typing: Any, locks: Any, place: Any) -> Any:
    """Close the lock at an offset (int32) unless it is closed: whether it was open."""
    signature = types.boolean(locks, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        was = builder.atomic_rmw("xchg", _data(context, builder, sig.args[0], *args), _INT(1), "acquire")
        return builder.icmp_unsigned("==", was, _INT(0))

    return signature, generate


@intrinsic
def _give(typing: Any, locks: Any, place: Any) -> Any:
    """Open the lock at an offset (int32)."""
    signature = types.void(locks, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(_INT(0), _data(context, builder, sig.args[0], *args), "release", 4)
        return context.get_dummy_value()

    return signature, generate


@njit(inline="always")
def share(c, shift, levels, locks, turns, slot) -> None:
    """Merge the row whose turn it is, unless another thread is at it: then it waits for its next turn.

    shift : offset from a row to its thread's copy. turns : of each thread, from `slot` on, the level, the round, the row.
    """
    width = c.shape[1]
    row = turns[slot + 2]
    if _take(locks, row * CACHE_LINE):
        copy = row * width + shift
        _merge(c, row * width, copy, copy + ((1 << levels) - 1) * width)
        _give(locks, row * CACHE_LINE)
    level = turns[slot] + 1
    if level == levels:
        level = 0
        turns[slot + 1] += 1
    inside = (1 << level) - 1
    row = inside + (turns[slot + 1] & inside)
    turns[slot], turns[slot + 2] = level, row
    prefetch(c, row * width)
    prefetch(locks, row * CACHE_LINE)


@dataclass(eq=False)
class Copies:
    """Copies of the first 2^levels - 1 of `n` rows of a matrix for each thread; without copies levels is 0.

    The matrix has `spare` more rows behind the n: of each thread the copies, then what they were at the last merge.
    """

    n: int
    threads: int

    def __post_init__(self) -> None:
        self.levels = min(LEVELS, self.n.bit_length() - 1) if self.threads > 1 else 0
        self.hot = (1 << self.levels) - 1
        self.spare = 2 * self.hot * self.threads
        self.locks = np.zeros((max(1, self.hot), CACHE_LINE), np.int32)
        self.turns: NDArray[np.int64] = np.zeros(self.threads * CACHE_LINE, np.int64)

    def shift(self, thread: int, width: int) -> int | None:
        """Offset from a row to its copy for one thread; None without copies."""
        return (self.n + 2 * self.hot * thread) * width if self.hot else None

    def _rows(self, matrix: Matrix) -> Matrix:
        return matrix[self.n : self.n + self.spare].reshape(self.threads, 2, self.hot, matrix.shape[1])

    def begin(self, matrix: Matrix) -> None:
        """Make the copies. No thread runs."""
        if self.hot:
            self._rows(matrix)[:] = matrix[: self.hot]

    def finish(self, matrix: Matrix) -> None:
        """Add to the rows what the copies have learnt since they were merged. No thread runs."""
        if self.hot:
            copies = self._rows(matrix)
            matrix[: self.hot] += (copies[:, 0] - copies[:, 1]).sum(axis=0)
