"""Releases and the names that point at them: what is recorded, where a rollback leads, and many at once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake.exceptions import CommitFailedError, DeltaError
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from embedders.errors import InputError
from storage import delta, logs, promotion
from storage.errors import BusyError, DamagedError, MovedError, NotFoundError, NotWritableError
from storage.promotion import commit, move, rollback
from storage.releases import Move, Release, State, read
from storage.store import VectorStore
from tests.helpers_store import encoder_of, put

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def store(tmp_path):
    """Two spaces of three versions each, no release."""
    store = VectorStore(tmp_path / "vectors")
    for space in "st":
        for _ in range(3):
            put(store, encoder_of("ab"), space=space)
    return store


@pytest.fixture
def paths(store):
    return store.paths


def three(paths):
    """Releases 1, 2, 3, each of version 1, 2, 3; production moved with each."""
    for number in (1, 2, 3):
        commit(paths, {"s": number, "t": number}, f"run{number}", who=f"user{number}")
    return read(paths)


# What is recorded


def test_a_release_and_its_move_are_recorded(store, paths):
    before = datetime.now(UTC)
    made = commit(paths, {"t": 2, "s": 1}, "run-a", who="ada")
    state = read(paths)
    assert state.releases == (made,) == store.releases()
    assert (made.number, made.spaces, made.run, made.who) == (1, {"s": 1, "t": 2}, "run-a", "ada")
    assert before <= made.time <= datetime.now(UTC)
    [first] = state.moves
    assert (first.name, first.release, first.previous, first.who) == ("production", 1, None, "ada")
    commit(paths, {"s": 2}, "run-b", why="because")
    state = read(paths)
    assert [(one.name, one.previous, one.release, one.why) for one in state.moves] == [
        ("production", None, 1, "run run-a"),
        ("production", 1, 2, "because"),
    ]
    assert "@" in state.moves[-1].who  # the user and the machine
    assert store.release() == {"s": 2, "t": 2}  # t stays as production had it
    assert (store.find("s").number, store.find("t").number, store.find("s@latest").number) == (2, 2, 3)


def test_before_the_first_release(store, paths):
    assert read(paths) == State(None, 0, (), ())
    assert (store.release(), store.releases()) == (None, ())
    assert store.find("s").number == 3  # the latest, while production holds none of the space
    with pytest.raises(NotFoundError, match=r"Got version 'production' of space 's'; it has 1, 2, 3"):
        store.find("s@production")
    with pytest.raises(NotFoundError, match=r"none yet\. Do: polyvec run"):
        read(paths).release()
    assert not (store.root / "_releases").exists()


def test_what_is_made_of_a_version_that_was_left_is_left_with_it(store, paths):
    three(paths)
    rollback(paths)
    put(store, encoder_of("ab"), space="u", upstream={"s": 3})
    put(store, encoder_of("ab"), space="w", upstream={"u": 1})
    put(store, encoder_of("ab"), space="x")
    made = commit(paths, {"s": 3, "t": 3, "u": 1, "w": 1, "x": 1}, "run4")
    assert (made.number, made.spaces, store.release()) == (4, {"s": 2, "t": 2, "x": 1}, {"s": 2, "t": 2, "x": 1})
    assert read(paths).release().spaces == {"s": 3, "t": 3, "u": 1, "w": 1, "x": 1}  # what `promote` takes
    put(store, encoder_of("ab"), space="u", upstream={"s": 3})
    made = commit(paths, {"s": 3, "u": 2}, "run5")  # nothing comes in, so no name moves
    assert (made.number, made.spaces) == (6, {"s": 3, "t": 2, "u": 2, "x": 1})
    assert store.release() == {"s": 2, "t": 2, "x": 1} and read(paths).pointers["production"] == 4
    made = commit(paths, {"s": 3, "u": 2}, "run6", promote=False)
    assert made.spaces["u"] == 2
    move(paths, 6)
    assert commit(paths, {"s": 3, "u": 2}, "run7").spaces == {"s": 3, "t": 2, "u": 2, "x": 1}


def test_a_release_that_is_not_promoted_leaves_the_names(store, paths):
    commit(paths, {"s": 1, "t": 1}, "a")
    commit(paths, {"s": 2}, "b", promote=False)
    assert store.release() == {"s": 1, "t": 1}
    assert [release.spaces for release in store.releases()] == [{"s": 1, "t": 1}, {"s": 2, "t": 1}]
    commit(paths, {"t": 3}, "c")  # goes on from production, not from the release before
    assert store.release() == {"s": 1, "t": 3}


def test_a_space_that_was_deleted_leaves_the_releases(store, paths):
    import shutil

    commit(paths, {"s": 1, "t": 1}, "a")
    shutil.rmtree(store.root / "t")
    assert commit(paths, {"s": 2}, "b").spaces == {"s": 2}
    with pytest.raises(NotFoundError, match="of which t@1 was taken out"):
        store.promote(1)


def test_names_stand_for_versions_in_references(store, paths):
    three(paths)
    store.promote(2, name="audit-2026", why="for the audit")
    assert store.find("s@audit-2026").number == 2
    assert read(paths).names(2) == ["audit-2026"] and read(paths).names(3) == ["production"]
    assert read(paths).holding("s") == {3: "3 (production)", 2: "2 (audit-2026)", 1: "1"}
    assert read(paths).holding("unknown") == {}
    commit(paths, {"s": 3}, "d")
    assert read(paths).holding("t")[3] == "4 (production), 3"
    with pytest.raises(NotFoundError, match=r"Got version 'staging'.*production, audit-2026"):
        store.find("s@staging")
    with pytest.raises(NotFoundError, match=r"'staging', which points at no release.*production, audit-2026"):
        read(paths).named("staging")


@pytest.mark.parametrize("name", ["latest", "7", "", "a b", "../up", "_x"])
def test_names_that_cannot_be(store, paths, name):
    three(paths)
    with pytest.raises(InputError):
        store.promote(1, name=name)
    assert read(paths).pointers == {"production": 3}


# Moving


def test_a_move_says_what_it_left(store, paths):
    three(paths)
    moved = store.promote(1, expected=3, who="eve", why="checked")
    assert (moved.name, moved.release, moved.previous, moved.who, moved.why) == ("production", 1, 3, "eve", "checked")
    assert read(paths).moves[-1] == moved
    assert store.release() == {"s": 1, "t": 1}


def test_a_move_to_where_it_is_records_nothing(store, paths):
    state = three(paths)
    assert store.promote(3) == state.moves[-1]
    assert read(paths) == state


@pytest.mark.parametrize("expected", [1, 0, 99])
def test_a_stale_expectation_moves_nothing(store, paths, expected):
    state = three(paths)
    for attempt in (lambda: store.promote(1, expected=expected), lambda: store.rollback(expected=expected)):
        with pytest.raises(MovedError, match=rf"points at release 3 by now; expected {expected or 'none'}") as caught:
            attempt()
        assert caught.value.exit_code == 1
    assert read(paths) == state


def test_none_can_be_expected(store, paths):
    three(paths)
    assert store.promote(1, name="staging", expected=0).previous is None
    with pytest.raises(MovedError):
        store.promote(2, name="staging", expected=0)
    assert store.promote(2, name="staging", expected=1).previous == 1


def test_an_unknown_release_lists_those_there_are(store, paths):
    three(paths)
    with pytest.raises(NotFoundError, match=r"Got release 7; expected one of: 1, 2, 3"):
        store.promote(7)


def test_a_store_that_does_not_exist_is_not_made(tmp_path):
    store = VectorStore(tmp_path / "nowhere")
    for attempt in (lambda: store.promote(1), store.rollback):
        with pytest.raises(NotFoundError):
            attempt()
    assert not store.root.exists()


def trail(*moves: int) -> State:
    """A state in which production went through these releases; to those below 0 by a rollback."""
    time = datetime(2026, 1, 1, tzinfo=UTC)
    made = tuple(Release(number, {}, "", "", "", time) for number in sorted(set(map(abs, moves))))
    return State(0, 0, made, tuple(Move("production", abs(one), None, "", "", time, one < 0) for one in moves))


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        ([], None),
        ([1], None),
        ([1, 2], 1),
        ([1, 2, 3], 2),
        ([1, 2, 3, -2], 1),  # rolled back once
        ([1, 2, 3, -2, -1], None),  # twice
        ([1, 2, 3, -2, 4], 2),  # a run after a rollback
        ([1, 2, 3, 2], 3),  # promoted to the one before, which is no rollback
        ([1, 2, 3, 1], 3),  # promoted to an older one
        ([1, 2, 2], 1),
    ],
)
def test_where_a_rollback_leads(moves, before):
    assert trail(*moves).before("production") == before
    assert trail(*moves).before("staging") is None


@settings(max_examples=200, deadline=None)
@drawn(st.lists(st.integers(0, 5), max_size=30))
def test_rollbacks_undo_runs_one_by_one(steps):
    """0 is a rollback, another number a run; the model is a stack."""
    moves: list[int] = []
    stack: list[int] = []
    for step in steps:
        if step:
            number = len(moves) + 1  # a run makes a release of its own
            stack.append(number)
        elif (number := trail(*moves).before("production")) is None:
            assert len(stack) < 2
            continue
        else:
            stack.pop()
            assert number == stack[-1]
            number = -number
        moves.append(number)
    assert trail(*moves).before("production") == (stack[-2] if len(stack) > 1 else None)


def test_rollback(store, paths):
    three(paths)
    moved = store.rollback(expected=3, who="eve", why="wrong labels")
    assert (moved.previous, moved.release, moved.why) == (3, 2, "wrong labels")
    assert store.release() == {"s": 2, "t": 2}
    assert store.rollback().release == 1
    with pytest.raises(NotFoundError, match=r"Got 'production' to roll back, which is at release 1 and left none"):
        store.rollback()
    with pytest.raises(NotFoundError, match=r"Got 'staging' to roll back, which points at no release"):
        store.rollback(name="staging")
    assert len(read(paths).moves) == 5
    assert commit(paths, {"s": 3, "t": 3}, "d").spaces == {"s": 1, "t": 1}  # these were released, and rolled back
    new = put(store, encoder_of("a"), space="s").number
    assert commit(paths, {"s": new, "t": 3}, "e").spaces == {"s": new, "t": 1}


def test_what_was_taken_out_cannot_come_back(store, paths):
    three(paths)
    delta.retire(store.space("s").folder, [1, 2])
    for number in (1, 2):
        with pytest.raises(NotFoundError, match=rf"Got release {number}, of which s@{number} was taken out since"):
            store.promote(number)
    with pytest.raises(NotFoundError, match="of which s@2 was taken out since"):
        store.rollback()
    assert read(paths).pointers == {"production": 3}
    with pytest.raises(BusyError, match="Got s@2 to release, which another run took out in between"):
        commit(paths, {"s": 2, "t": 3}, "late")
    assert len(store.releases()) == 3


def test_where_nothing_can_be_written(store, paths, monkeypatch):
    three(paths)

    def refuse(root):
        raise NotWritableError("read-only")

    monkeypatch.setattr(promotion, "check_writable", refuse)
    for attempt in (lambda: store.promote(1), store.rollback, lambda: commit(paths, {"s": 3}, "d")):
        with pytest.raises(NotWritableError):
            attempt()
    with pytest.raises(NotFoundError):
        store.promote(9)  # what is wrong with the question is said first


# Many at once


def together(count, work):
    """`work(number)` in so many threads at once; what they answer, errors included."""
    answers: list[object] = [None] * count
    gate = threading.Barrier(count)

    def call(number):
        gate.wait(60)
        try:
            answers[number] = work(number)
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return answers


def check_all_there(paths, runs):
    """Numbers are dense, every run is there once, and production went through the promoted ones without a gap."""
    state = read(paths)
    assert [release.number for release in state.releases] == list(range(1, len(runs) + 1))
    assert sorted(release.run for release in state.releases) == sorted(runs)
    assert [one.previous for one in state.moves] == [None, *(one.release for one in state.moves[:-1])]
    assert [one.release for one in state.moves] == list(range(1, len(runs) + 1))
    assert len({row["sequence"] for row in logs.read_rows(paths.releases, promotion.SCHEMA)}) == 2 * len(runs)


@pytest.mark.parametrize("locked", [True, False], ids=["one machine", "without locks"])
@pytest.mark.parametrize("before", [0, 1])
def test_threads_that_commit_at_once(store, paths, monkeypatch, locked, before):
    """Of a store in a bucket the lock holds on one machine only; then Delta's own check is what is left."""
    if not locked:
        monkeypatch.setattr(promotion, "lock", lambda paths: nullcontext())
    runs = [f"before{number}" for number in range(before)]
    for run in runs:
        commit(paths, {"s": 1, "t": 1}, run)

    def work(number):
        return [commit(paths, {"st"[number % 2]: 1 + turn}, f"{number}-{turn}").number for turn in range(3)]

    answers = together(4, work)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    check_all_there(paths, runs + [f"{number}-{turn}" for number in range(4) for turn in range(3)])


COMMITS = """
import sys
from storage.promotion import commit
from storage.store import VectorStore
paths = VectorStore(sys.argv[1]).paths
print("ready", flush=True)
sys.stdin.readline()
print([commit(paths, {"s": 1 + turn % 3}, f"{sys.argv[2]}-{turn}").number for turn in range(4)])
"""


def test_processes_that_commit_at_once(store, paths):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", COMMITS, str(store.root)]
    running = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for number in range(3)
    ]
    try:
        assert [process.stdout.readline() for process in running] == ["ready\n"] * 3
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert sorted(number for numbers in told for number in numbers) == list(range(1, 13))
    check_all_there(paths, [f"{number}-{turn}" for number in range(3) for turn in range(4)])


@pytest.mark.parametrize("locked", [True, False], ids=["one machine", "without locks"])
def test_of_moves_at_once_from_one_place_one_wins(store, paths, monkeypatch, locked):
    three(paths)
    if not locked:
        monkeypatch.setattr(promotion, "lock", lambda paths: nullcontext())
    answers = together(4, lambda number: store.promote(1 + number % 2, expected=3, who=str(number)))
    won = [answer for answer in answers if isinstance(answer, Move)]
    assert len(won) == 1
    assert [type(answer) for answer in answers if answer is not won[0]] == [MovedError] * 3
    assert read(paths).moves[-1] == won[0]
    assert len(read(paths).moves) == 4


def test_moves_and_commits_at_once_lose_nothing(store, paths):
    three(paths)

    def work(number):
        if number % 2:
            return [commit(paths, {"s": 1}, f"{number}-{turn}") for turn in range(3)]
        return [store.promote(1 + turn, name=f"name{number}") for turn in range(3)]

    assert not [answer for answer in together(4, work) if isinstance(answer, Exception)]
    state = read(paths)
    assert [release.number for release in state.releases] == list(range(1, 10))
    assert state.pointers == {"production": 9, "name0": 3, "name2": 3}
    assert [one.release for one in state.moves if one.name == "name2"] == [1, 2, 3]


def test_a_failure_after_the_commit_is_no_second_release(store, paths, monkeypatch):
    """A hook of the commit fails (a checkpoint that cannot be written), though its rows stand."""
    real = logs.append_to

    def append_to(*given):
        real(*given)
        raise CommitFailedError("after the fact")

    monkeypatch.setattr(logs, "append_to", append_to)
    assert commit(paths, {"s": 1, "t": 1}, "a").number == 1
    commit(paths, {"s": 2}, "b")
    assert store.promote(1).release == 1
    monkeypatch.undo()
    assert [release.run for release in store.releases()] == ["a", "b"]
    assert [one.release for one in read(paths).moves] == [1, 2, 1]


def test_a_failure_that_is_no_race_is_told(store, paths, monkeypatch):
    def append_to(*given):
        raise DeltaError("disk full")

    monkeypatch.setattr(logs, "append_to", append_to)
    with pytest.raises(DeltaError, match="disk full"):
        commit(paths, {"s": 1}, "a")


def test_others_that_never_stop_are_told(store, paths, monkeypatch):
    three(paths)
    monkeypatch.setattr(promotion, "TRIES", 3)
    monkeypatch.setattr(promotion, "_put", lambda *given: False)
    with pytest.raises(BusyError, match="3 times"):
        commit(paths, {"s": 1}, "a")
    with pytest.raises(BusyError, match="3 times"):
        store.promote(1)


# The table


def test_many_releases_stay_few_files(store, paths):
    for number in range(20):
        commit(paths, {"s": 1}, f"r{number}")
        move(paths, 1, name="other")
        rollback(paths) if number % 5 == 4 else None
    assert len(list(delta.paths(paths.releases))) <= logs.FILES
    state = read(paths)
    assert [release.run for release in state.releases] == [f"r{number}" for number in range(20)]
    assert [one.time for one in state.moves] == sorted(one.time for one in state.moves)


def test_a_reader_whose_files_are_swept_looks_again(store, paths, monkeypatch):
    """Between the look into the log and the read, the files were written anew as one and the old ones deleted."""
    three(paths)
    old = list(delta.paths(paths.releases))
    real = delta.table
    stale = real(paths.releases)
    assert len(old) == 3
    real(paths.releases).optimize.compact()
    for name in old:
        (paths.releases / name).unlink()
    answers = [stale]
    monkeypatch.setattr(delta, "table", lambda folder, version=None: answers.pop() if answers else real(folder))
    assert [release.number for release in read(paths).releases] == [1, 2, 3]
    assert not answers


def test_a_damaged_table_is_named(store, paths):
    three(paths)
    [first, *_] = delta.paths(paths.releases)
    (paths.releases / first).write_bytes(b"no parquet")
    with pytest.raises(DamagedError, match=r"_releases cannot be read .* Restore it from a copy"):
        store.find("s")
    (paths.releases / first).unlink()
    with pytest.raises(DamagedError, match=r"_releases cannot be read .* Restore it from a copy"):
        store.find("s")


def test_a_log_entry_that_is_no_json_is_named(store):
    entry = store.root / "s/_delta_log/00000000000000000001.json"
    entry.write_text('{"commitInfo": ')
    with pytest.raises(DamagedError, match=r"00000000000000000001\.json cannot be read .* Restore it from a copy"):
        store.space("s").versions()
    assert store.find("s").number == 3  # what needs it not reads


def test_times_are_of_this_moment(store, paths):
    made = commit(paths, {"s": 1}, "a")
    assert abs(made.time - datetime.now(UTC)) < timedelta(minutes=1)
    assert read(paths).releases[0].time.utcoffset() == timedelta(0)
