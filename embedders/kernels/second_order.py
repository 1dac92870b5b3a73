"""Random walks of second order on CSR (node2vec: Grover and Leskovec 2016, arXiv:1607.00653, section 3.2).

An edge is drawn by its weight and accepted with a probability that depends on p and q (rejection sampling; Yang et al.
2019, KnightKing), so no table an edge is needed. The way back has a dart of its own where p makes it likelier than all
others, and a step that is rejected too often is drawn from its exact probabilities, so that no p, q or graph makes a
step cost much more than looking through its row. Walks take turns and have streams as in `first_order`; whether the
nodes they reached are near the ones before is asked for all of them together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from embedders.kernels.first_order import LANES, advance, below, drawn, stream, unit
from embedders.kernels.offsets import prefetch_one

TRIES = 8  # rejections of a step before its row is looked through, and one more ...
SHARE = 16  # ... for so many entries of the two rows that this takes


@njit(inline="always")
def find(indices, low, high, node) -> Any:
    """The first place of sorted indices[low:high] that holds `node`, else -1. No branch depends on what is read."""
    n = high - low
    while n > 1:
        half = n >> 1
        low += half * (indices[low + half - 1] < node)
        n -= half
    return low if n == 1 and indices[low] == node else -1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _exact(indices, weights, begin, end, previous, low, high, back, away, state):
    """A neighbour drawn from the exact probabilities, in one pass (Chao 1982); the previous row is [low, high)."""
    total, chosen = 0.0, indices[begin]
    for i in range(begin, end):
        following = indices[i]
        if following == previous:
            share = back
        elif find(indices, low, high, following) >= 0:
            share = 1.0
        else:
            share = away
        if weights is not None:
            share *= weights[i]
        total += share
        state = advance(state)
        if unit(state) * total < share:
            chosen = following
    return chosen, state


@njit(inline="always")
def _dart(indices, weights, totals, single, node, begin, end, previous, spare, most):
    """The chance of the dart that goes straight back, of all darts, when edges fill their shares of `most`."""
    there, total = 1.0, np.float64(end - begin)
    if weights is not None:
        total = totals[node]
    if not single:
        there, i = 0.0, find(indices, begin, end, previous)
        while 0 <= i < end and indices[i] == previous:
            there += 1.0 if weights is None else weights[i]
            i += 1
    return 1.0 / (1.0 + most * total / (spare * there))  # 0 where no edge leads back


@njit(inline="always")
def _find_all(indices, low, left, node, found, n):
    """`find` for n lists at once, so that their reads overlap: found[i] where the first left[i] from low[i] hold node[i]."""
    longest = 2
    while longest > 1:
        longest = 1
        for i in range(n):
            half = left[i] >> 1
            low[i] += half * (indices[low[i] + half - (half > 0)] < node[i])
            left[i] -= half
            longest = max(longest, left[i])
    for i in range(n):
        found[i] = indices[low[i]] == node[i]


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def second_order(indptr, indices, alias, weights, totals, single, p, q, starts, first, last, number, out, seed) -> None:
    """As `first_order`. totals : None, or (n,) sums of weights. single : what leads there leads back, by one entry."""
    length = out.shape[1]
    back, away = min(1.0 / p, 1e100), min(1.0 / q, 1e100)
    most, least = max(1.0, away), min(1.0, away)
    spare = back - most  # by what the way back is likelier than any other
    walk, step, tries = np.full(LANES, -1), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    node, begin, end = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    previous, low, high = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    place, following = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    dart, stays, state = np.zeros(LANES, np.float64), np.zeros(LANES, np.bool_), np.zeros(LANES, np.uint64)
    asked, at, left = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    sought, found = np.zeros(LANES, np.int64), np.zeros(LANES, np.bool_)
    begun, lanes = first, min(LANES, last - first)
    while lanes:
        k = 0
        while k < lanes:
            if walk[k] < 0:
                if begun < last:
                    walk[k], step[k], tries[k], previous[k] = begun, 1, 0, -1
                    state[k], node[k] = stream(seed, number + begun), starts[begun]
                    out[begun, 0] = starts[begun]
                    begun += 1
                else:  # the last lane moves here
                    lanes -= 1
                    walk[k], step[k], tries[k], previous[k] = walk[lanes], step[lanes], tries[lanes], previous[lanes]
                    state[k], node[k], low[k], high[k] = state[lanes], node[lanes], low[lanes], high[lanes]
                    dart[k] = dart[lanes]
                    continue
            begin[k], end[k] = indptr[node[k]], indptr[node[k] + 1]
            if step[k] == length or begin[k] == end[k]:
                out[walk[k], step[k] :] = -1
                walk[k] = -1
                continue
            state[k] = advance(state[k])
            place[k] = begin[k] + below(state[k], end[k] - begin[k])
            if spare > 0 and previous[k] >= 0:
                if tries[k] == 0:
                    dart[k] = _dart(
                        indices, weights, totals, single, node[k], begin[k], end[k], previous[k], spare, most
                    )
                state[k] = advance(state[k])
                place[k] = -1 if unit(state[k]) < dart[k] else place[k]
            prefetch_one(indices, max(place[k], 0))
            k += 1
        n = 0
        for k in range(lanes):
            reached, state[k] = drawn(indices, alias, max(place[k], 0), state[k])
            state[k] = advance(state[k])
            bar = unit(state[k]) * most
            same = reached == previous[k]
            free = (place[k] < 0) | (previous[k] < 0) | (end[k] - begin[k] == 1) | (bar < (back if same else least))
            reached = previous[k] if place[k] < 0 else reached
            following[k], stays[k] = reached, free
            asked[n], at[n], left[n], sought[n] = k, low[k], high[k] - low[k], reached
            n += not (free | same)
        _find_all(indices, at, left, sought, found, n)
        for i in range(n):
            stays[asked[i]] = found[i] == (away < 1.0)
        for k in range(lanes):
            ok = stays[k]
            tries[k] = 0 if ok else tries[k] + 1
            if tries[k] > TRIES + (end[k] - begin[k] + high[k] - low[k]) // SHARE:
                following[k], state[k] = _exact(
                    indices, weights, begin[k], end[k], previous[k], low[k], high[k], back, away, state[k]
                )
                ok, tries[k] = True, 0
            out[walk[k], step[k]] = following[k]
            step[k] += ok
            previous[k] = node[k] if ok else previous[k]
            low[k] = begin[k] if ok else low[k]
            high[k] = end[k] if ok else high[k]
            node[k] = following[k] if ok else node[k]
            prefetch_one(indptr, node[k])
