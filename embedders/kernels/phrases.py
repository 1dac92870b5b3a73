"""Pairs of neighbouring words: how often each comes, and joining those that were chosen (Mikolov et al. 2013, section 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from embedders.kernels.hash_table import mix

EMPTY = -1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _slot(keys, key, h):
    """Where a key stands, or would."""
    mask = len(keys) - 1
    slot = np.int64(h & np.uint64(mask))
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def count_pairs(tokens, stops, common, part, parts, keys, counts, held) -> Any:
    """Count pairs `first << 32 | second` of neighbours within texts, of one part of all pairs.

    common : (words,) bool, pairs of other words are not counted.
    keys, counts : (2^k,) int64, a hash table of pairs, EMPTY where there is none. held : how many it holds.

    Returns
    -------
    How many it holds now; -1 when it is too full.
    """
    start = 0
    for stop in stops:
        for at in range(start, stop - 1):
            first, second = tokens[at], tokens[at + 1]
            if not (common[first] and common[second]):
                continue
            key = np.int64(first) << 32 | np.int64(second)
            h = mix(np.uint64(key))
            if np.int64(h >> np.uint64(40)) % parts != part:
                continue
            slot = _slot(keys, key, h)
            if keys[slot] == EMPTY:
                if 4 * (held + 1) > 3 * len(keys):
                    return -1
                keys[slot] = key
                held += 1
            counts[slot] += 1
        start = stop
    return held


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def fill(pairs, numbers, keys, values) -> None:
    """Put pairs and what each becomes into an empty hash table."""
    for i in range(len(pairs)):
        slot = _slot(keys, pairs[i], mix(np.uint64(pairs[i])))
        keys[slot] = pairs[i]
        values[slot] = numbers[i]


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def join_pairs(tokens, stops, keys, values, counts) -> Any:
    """Replace chosen pairs by their joined word, from left to right; a word goes into one pair only.

    stops : (n,) where each text ends, changed alike. counts : (words,) int64, kept right.

    Returns
    -------
    How many tokens are left, at the front.
    """
    n, at = 0, 0
    for i in range(len(stops)):
        while at < stops[i]:
            token = tokens[at]
            at += 1
            if at < stops[i]:
                key = np.int64(token) << 32 | np.int64(tokens[at])
                slot = _slot(keys, key, mix(np.uint64(key)))
                if keys[slot] == key:
                    counts[token] -= 1
                    counts[tokens[at]] -= 1
                    token = values[slot]
                    counts[token] += 1
                    at += 1
            tokens[n] = token
            n += 1
        stops[i] = n
    return n
