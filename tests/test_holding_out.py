"""Which events are held out, and which are left to train on."""

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.interactions import Interactions
from evaluation.holding_out import hold_out, trimmed


def interactions(text: str, times=None, duplicates="sum") -> Interactions:
    """`ax ay bx`: a letter a user, a letter an item, in order."""
    events = text.split()
    users, items = (list(dict.fromkeys(event[at] for event in events)) for at in (0, 1))
    user = np.array([users.index(event[0]) for event in events], np.int32)
    item = np.array([items.index(event[1]) for event in events], np.int32)
    weight = np.arange(1, len(events) + 1, dtype=np.float32)
    time = None if times is None else np.array(times, float)
    return Interactions.of(users, items, user, item, weight, time, duplicates=duplicates)


def told(data: Interactions) -> str:
    return " ".join(data.users[u] + data.items[i] for u, i in zip(data.user, data.item, strict=True))


def many(seed=0, events=3000):
    rng = np.random.default_rng(seed)
    users, items = [str(i) for i in range(100)], [str(i) for i in range(80)]
    return Interactions(
        users, items, rng.integers(0, 100, events, np.int32), (80 * rng.random(events) ** 2).astype(np.int32)
    )


def pairs(data):
    return set(zip(data.user.tolist(), data.item.tolist(), strict=True))


def test_random_takes_a_share_of_each_users_items():
    data = many()
    split = hold_out(data, share=0.25, seed=3)
    train, held = pairs(split.train), pairs(split.held)
    assert not train & held and train | held == pairs(data)
    assert len(split.held) == len(held)  # once each
    for user in range(100):
        all_of, out = (sum(u == user for u, _ in found) for found in (train | held, held))
        assert out == int(0.25 * all_of + 0.5)
    kept = [pair in train for pair in zip(data.user.tolist(), data.item.tolist(), strict=True)]
    assert told(split.train) == told(data.select(np.array(kept)))  # all events of a pair stay, or none
    assert (split.train.users, split.train.items) == (data.users, data.items)
    again, other = hold_out(data, share=0.25, seed=3), hold_out(data, share=0.25, seed=4)
    assert told(again.held) == told(split.held) != told(other.held)


def test_random_draws_every_place_alike():
    data = interactions(" ".join(f"{u}{i}" for u in "abcdefgh" for i in "qrst"))
    out = np.zeros(4)
    for seed in range(300):
        out += np.bincount(hold_out(data, seed=seed).held.item, minlength=4)
    assert out.sum() == 2400 and (abs(out - 600) < 100).all()


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_user_of_one_item_keeps_it_and_others_keep_one(share):
    split = hold_out(interactions("ax bx by cy cy cx"), share=share)
    assert sorted(pairs(split.held))[0][0] == 1 and len(split.held) == 2
    assert "ax" in told(split.train).split() and split.notes == {"split": "random", "single": 1}


def test_time_cuts_at_one_moment():
    data = interactions("ax by bx cy ax ay cz", [70, 10, 20, 30, 40, 50, 60])  # by bx cy ax ay cz ax
    split = hold_out(data, "time", share=3 / 7)
    assert told(split.train) == "by bx cy ax"
    assert told(split.held) == "ay cz"
    assert split.notes == {"split": "time", "single": 0, "order": "time", "repeated": 1}
    assert split.train.weight.tolist() == [2, 3, 4, 5]


def test_events_of_one_moment_stay_together():
    split = hold_out(interactions("ax ay bx by bz", [1, 2, 2, 2, 3]), "time", share=0.4)
    assert (told(split.train), told(split.held)) == ("ax", "ay bx by bz")


def test_without_times_the_order_of_the_file_stands_for_them():
    split = hold_out(interactions("ax ay bx by bz"), "time", share=0.4)
    assert (told(split.train), told(split.held), split.notes["order"]) == ("ax ay bx", "by bz", "file")


def test_leave_last_out():
    data = interactions("ax ay bx ax cz cz by bx az", [1, 2, 3, 4, 5, 6, 7, 8, 0])
    split = hold_out(data, "leave-last-out")  # az ax ay bx ax cz cz by bx
    assert (told(split.train), told(split.held)) == ("az ax bx cz cz", "ay by")
    assert split.notes == {"split": "leave-last-out", "single": 1, "order": "time", "repeated": 2}


def test_where_the_last_event_counts_it_is_what_is_held_out():
    data = interactions("ax ay ax", duplicates="last")
    split = hold_out(data, "leave-last-out")
    assert (told(split.train), told(split.held)) == ("ay", "ax")
    assert split.held.weight.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "by", "says"),
    [
        ("ax by", "random", "2 of them with one item only, of which split: random holds 0 out"),
        ("ax ax by", "leave-last-out", "2 users, 2 of them with one item only"),
        ("ax ay", "time", "holds 2 out and leaves 0 to train on"),
        ("ax ay ax ay", "time", "holds 0 out"),
    ],
)
def test_nothing_to_hold_out(text, by, says):
    times = [5, 5] if text == "ax ay" else None
    with pytest.raises(InputError, match=says):
        hold_out(interactions(text, times), by)


def test_trimmed_leaves_out_who_has_no_event():
    data = interactions("ax by cz bx", [1, 2, 3, 4])
    found = trimmed(data.select(np.array([1, 3])))
    assert (found.users, found.items, told(found)) == (["b"], ["x", "y"], "by bx")
    assert (found.weight.tolist(), found.time.tolist()) == ([2, 4], [2, 4])
