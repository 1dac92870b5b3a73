"""Events held out from training, so that recommendations can be judged by what users went on to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    A Split. Notes: `split`; `single` users who have one item only and keep it; where time matters, `order` ("time" or
    "file") and the `repeated` events that were dropped.

    Raises
    ------
    InputError : nothing can be held out, or nothing is left to train on.
    """
    from embedders.kernels.events import by_user, draw, without_pairs

    if data.duplicates == "last":
        data = data.select(first_of_pairs(data, last=True))
    first = first_of_pairs(data)
    counts = np.bincount(data.user[first], minlength=len(data.users))
    held, trained, dropped = np.zeros(len(data), bool), np.empty(len(data), bool), 0
    if by == "random":
        start, order = by_user(data.user, len(data.users))
        keys = np.random.default_rng(seed).random(len(data), np.float32)
        draw(start, order, first, keys, share, held)
        without_pairs(start, order, data.item, len(data.items), held, trained)
    else:
        begins = _moment(data, share) if by == "time" else _last_news(data.user, first, counts)
        later = np.arange(len(data)) >= np.broadcast_to(begins, len(data.users))[data.user]
        held, trained = first & later, ~later
        dropped = int((later & ~first).sum())
    single = int((counts == 1).sum())
    notes: dict[str, str | int] = {"split": by}
    notes |= {} if by == "time" else {"single": single}
    notes |= {} if by == "random" else {"order": "file" if data.time is None else "time", "repeated": dropped}
    if not held.any() or not trained.any():
        raise InputError(
            f"Got {len(data):,} events of {int((counts > 0).sum()):,} users, {single:,} of them with one item only, of which "
            f"split: {by} holds {int(held.sum()):,} out and leaves {int(trained.sum()):,} to train on; expected some of both. Give more "
            "events, or split in another way."
        )
    return Split(data.select(trained), data.select(held), notes)


def trimmed(data: Interactions) -> Interactions:
    """The same events, of the users and the items that have one: as if it had been read from a file of its own."""
    users, user = _met(data.users, data.user)
    items, item = _met(data.items, data.item)
    return Interactions(users, items, user, item, data.weight, data.time, data.duplicates)


def _met(names: Sequence[str], places: NDArray[np.int32]) -> tuple[list[str], NDArray[np.int32]]:
    """The names that are met, and places in these."""
    met = np.bincount(places, minlength=len(names)) > 0
    anew = (np.cumsum(met) - 1).astype(np.int32)
    return [names[i] for i in np.flatnonzero(met).tolist()], anew[places]


def first_of_pairs(data: Interactions, *, last: bool = False) -> NDArray[np.bool_]:
    """The first event of each pair, or the last."""
    from embedders.kernels.events import by_user, firsts

    found = np.zeros(len(data), bool)
    start, order = by_user(data.user, len(data.users))
    firsts(start, order, data.item, len(data.items), last, found)
    return found


def _moment(data: Interactions, share: float) -> int:
    """The event that the last part begins with; events of one time stay together."""
    place = len(data) - max(1, round(share * len(data)))
    return place if data.time is None else int(np.searchsorted(data.time, data.time[place]))


def _last_news(user: NDArray[np.int32], first: NDArray[np.bool_], counts: Places) -> Places:
    """(users,) the event at which each user met the last new item; past the end for those of one item."""
    found = np.full(len(counts), len(user), np.int64)
    found[user[first]] = np.flatnonzero(first)  # ascending, so that the last one stays
    found[counts < 2] = len(user)
    return found
