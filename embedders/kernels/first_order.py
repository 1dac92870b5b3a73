"""Random walks of first order on CSR, along a pattern of node types.

A thread moves several walks in turn: while one waits for memory the others go on. Each walk has a random stream of its
own, so that walks depend neither on threads nor on which walks are drawn together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from embedders.kernels.offsets import prefetch_one

LANES = 64  # walks that a thread moves in turn
MULTIPLY, ADD = 6364136223846793005, 1442695040888963407  # Knuth's MMIX
UNIT = 2.0**-53


@njit(inline="always")
def stream(seed, walk) -> Any:
    """The random state that a walk begins with."""
    state = (np.uint64(walk) + seed) * np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(31)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    return state ^ (state >> np.uint64(27))


@njit(inline="always")
def advance(state) -> Any:
    """The next random state; its high bits are good."""
    return state * np.uint64(MULTIPLY) + np.uint64(ADD)


@njit(inline="always")
def below(state, n) -> Any:
    """A number from 0 to n - 1, n < 2^32."""
    return np.int64(((state >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(inline="always")
def unit(state) -> Any:
    """A number in [0, 1)."""
    return np.float64(state >> np.uint64(11)) * UNIT


@njit(inline="always")
def drawn(indices, alias, place, state) -> Any:
    """The node that a drawn entry of a row leads to, and the random state after."""
    node = np.int64(indices[place])
    if alias is not None:
        state = advance(state)
        entry = alias[place]
        if state >> np.uint64(32) >= entry >> np.uint64(32):
            node = np.int64(entry & np.uint64(0xFFFFFFFF))
    return node, state


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def first_order(indptr, indices, alias, pattern, kinds, starts, first, last, number, out, seed) -> None:
    """Walks first to last - 1 of the chunk whose first walk has this number.

    alias : None, or see `alias_rows`. pattern : the type wanted at each step, repeated; of node v and type t the row is
    v * kinds + t.
    """
    node, place, state = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.uint64)
    for base in range(first, last, LANES):
        n = min(LANES, last - base)
        for k in range(n):
            state[k] = stream(seed, number + base + k)
            node[k] = out[base + k, 0] = starts[base + k]
        turn = 0
        for step in range(1, out.shape[1]):
            turn = turn + 1 if turn + 1 < len(pattern) else 0
            for k in range(n):
                place[k] = -1
                if node[k] >= 0:
                    row = node[k] * kinds + pattern[turn]
                    begin = indptr[row]
                    degree = indptr[row + 1] - begin
                    if degree > 0:
                        state[k] = advance(state[k])
                        place[k] = begin + below(state[k], degree)
                        prefetch_one(indices, place[k])
                        if alias is not None:
                            prefetch_one(alias, place[k])
            for k in range(n):
                following = np.int64(-1)
                if place[k] >= 0:
                    following, state[k] = drawn(indices, alias, place[k], state[k])
                node[k] = out[base + k, step] = following
                if following >= 0:
                    prefetch_one(indptr, following * kinds)
