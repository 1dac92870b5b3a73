"""Events held out from training, so that recommendations can be judged by what users went on to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError
from embedders.interactions import Interactions

By = Literal["random", "time", "leave-last-out"]

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """What is trained on, and what is asked for.

    Parameters
    ----------
    train, held : of the same users and items. `held` has one event for each pair, and no pair of `train`.
    notes : JSON-able: how it was split, and what was counted.
    """

    train: Interactions
    held: Interactions
    notes: Mapping[str, Any]


def hold_out(data: Interactions, by: By = "random", *, share: float = 0.25, seed: int = 0) -> Split:
    """Hold out pairs of a user and an item.

    A pair counts once, where its first event is (with `duplicates: last`, its last, as the others do not count): what a
    user met before the split is no news to recommend.

    Parameters
    ----------
    by : "random": this share of each user's items, rounded, at least one and not all; a user of one item keeps it.
        "time": one moment for all, after which this share of the events lies; what comes later is held out, and what a
        user repeats then is dropped. "leave-last-out": each user's last new item; a user of one item keeps it, and what
        a user repeats later is dropped. Without times, the order of the file stands for theirs.
    share : of "random" and "time", between 0 and 1.
    seed : of the draw of "random"; the others draw nothing.

    Returns
    -------
    A Split. Notes: `split`, `order` ("time" or "file", where it matters), `single` users who have one item only and are
    not asked for, `repeated` events that were dropped.

    Raises
    ------
    InputError : nothing can be held out, or nothing is left to train on.
    """
    if data.duplicates == "last":
        data = data.select(np.sort(_lasts(data)))
    firsts = np.sort(_firsts(data))  # the event that each pair begins with
    news = data.user[firsts]
    counts = np.bincount(news, minlength=len(data.users))
    if by == "random":
        chosen = _drawn(firsts, news, counts, share, seed)
        pairs = _pairs(data)
        trained = ~np.isin(pairs, pairs[chosen]) if len(firsts) < len(data) else ~_flags(chosen, len(data))
        dropped = 0
    else:
        begins = _moment(data, share) if by == "time" else _last_news(firsts, news, counts, len(data))
        cut = np.broadcast_to(begins, len(data.users))
        trained = np.arange(len(data)) < cut[data.user]
        chosen = firsts[firsts >= cut[news]]
        dropped = len(data) - int(trained.sum()) - len(chosen)
    notes: dict[str, str | int] = {"split": by, "single": int((counts == 1).sum())}
    notes |= {"order": "file" if data.time is None else "time", "repeated": dropped} if by != "random" else {}
    if not len(chosen) or not trained.any():
        raise InputError(
            f"Got {len(data):,} events of {int((counts > 0).sum()):,} users, {notes['single']:,} of them with one item only, of which "
            f"split: {by} holds {len(chosen):,} out and leaves {int(trained.sum()):,} to train on; expected some of both. Give more "
            "events, or split in another way."
        )
    return Split(data.select(trained), data.select(chosen), notes)


def trimmed(data: Interactions) -> Interactions:
    """The same events, of the users and the items that have one: as if it had been read from a file of its own."""
    users, user = np.unique(data.user, return_inverse=True)
    items, item = np.unique(data.item, return_inverse=True)
    return Interactions(
        [data.users[i] for i in users.tolist()], [data.items[i] for i in items.tolist()],
        user.astype(np.int32), item.astype(np.int32), data.weight, data.time, data.duplicates,
    )  # fmt: skip


def _pairs(data: Interactions) -> Places:
    """A number for each event's user and item."""
    return data.user.astype(np.int64) * len(data.items) + data.item


def _firsts(data: Interactions) -> Places:
    found: Places = np.unique(_pairs(data), return_index=True)[1]
    return found


def _lasts(data: Interactions) -> Places:
    found: Places = len(data) - 1 - np.unique(_pairs(data)[::-1], return_index=True)[1]
    return found


def _flags(places: Places, n: int) -> NDArray[np.bool_]:
    found = np.zeros(n, bool)
    found[places] = True
    return found


def _drawn(firsts: Places, news: NDArray[np.int32], counts: Places, share: float, seed: int) -> Places:
    """Of each user's pairs some at random, in order."""
    mixed = np.random.default_rng(seed).permutation(len(firsts))
    mixed = mixed[np.argsort(news[mixed], kind="stable")]  # user by user
    rank = np.arange(len(firsts)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.clip(np.floor(share * counts + 0.5).astype(np.int64), 1, np.maximum(counts - 1, 0))
    return np.sort(firsts[mixed[rank < np.repeat(held, counts)]])


def _moment(data: Interactions, share: float) -> int:
    """The event that the last part begins with; events of one time stay together."""
    place = len(data) - max(1, round(share * len(data)))
    return place if data.time is None else int(np.searchsorted(data.time, data.time[place]))


def _last_news(firsts: Places, news: NDArray[np.int32], counts: Places, n: int) -> Places:
    """(users,) the event at which each user met the last new item; n for those of one item."""
    found = np.full(len(counts), n, np.int64)
    found[news] = firsts  # ascending, so that the last one stays
    found[counts < 2] = n
    return found
