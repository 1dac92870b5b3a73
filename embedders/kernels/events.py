"""Events of users with items, user by user in one pass each: which is the first of its pair, and which to hold out."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def by_user(user, users) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Events grouped by user, in order: those of user u are order[start[u]:start[u + 1]].

    user : (n,) int32, below `users`.

    Returns
    -------
    start : (users + 1,) int64. order : (n,) int64.
    """
    start = np.zeros(users + 1, np.int64)
    for event in range(len(user)):
        start[user[event] + 1] += 1
    start = np.cumsum(start)
    place, order = start[:-1].copy(), np.empty(len(user), np.int64)
    for event in range(len(user)):
        order[place[user[event]]] = event
        place[user[event]] += 1
    return start, order


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def firsts(start, order, item, items, last, out) -> None:
    """Mark the first event of each pair of a user and an item; the last one where `last` is set.

    item : (n,) int32, below `items`. out : (n,) bool, all False.
    """
    met_by = np.full(items, -1, np.int64)
    for user in range(len(start) - 1):
        for i in range(start[user], start[user + 1]):
            event = order[start[user] + start[user + 1] - 1 - i] if last else order[i]
            if met_by[item[event]] != user:
                met_by[item[event]] = user
                out[event] = True


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def draw(start, order, first, keys, share, out) -> None:
    """Mark, of each user's first events of a pair, a share at random: rounded, at least one, and not all.

    first : (n,) bool. keys : (n,) float32, drawn at random; the smallest are taken. out : (n,) bool, all False.
    """
    for user in range(len(start) - 1):
        events = order[start[user] : start[user + 1]]
        events = events[first[events]]
        if len(events) > 1:
            wanted = min(max(int(np.floor(share * len(events) + 0.5)), 1), len(events) - 1)
            for event in events[np.argsort(keys[events])[:wanted]]:
                out[event] = True


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def without_pairs(start, order, item, items, held, out) -> None:
    """Mark the events whose pair is not among those held.

    held : (n,) bool, one event of each pair or more. out : (n,) bool.
    """
    held_for = np.full(items, -1, np.int64)
    for user in range(len(start) - 1):
        for event in order[start[user] : start[user + 1]]:
            if held[event]:
                held_for[item[event]] = user
        for event in order[start[user] : start[user + 1]]:
            out[event] = held_for[item[event]] != user
