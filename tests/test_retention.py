"""Which versions stay, which go with what they alone needed, and what never goes."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from embedders.data import Rejected
from flows.pipeline import Pipeline
from storage import delta, promotion, releases, retention, tables
from storage import writer as writer_module
from storage.errors import BusyError, DamagedError, NotFoundError, NotWritableError
from storage.lock import written_by
from storage.promotion import commit, move, rollback
from storage.retention import Keep, collect, expired, garbage, retire, sweep
from storage.store import VectorStore
from storage.verify import verify
from storage.writer import writing
from tests.helpers_incremental import embed, installed, write_pipeline, write_rows
from tests.helpers_store import edit, encoder_of, matrix_of, put, run_steps, write_project

NEWEST = Keep(versions=1)


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


@pytest.fixture
def space(store):
    """Five versions, no release."""
    for seed in range(5):
        put(store, encoder_of("ab", matrix_of(2, seed=seed)), run=f"run{seed + 1}")
    return store.space("s")


def numbers(space):
    return [version.number for version in space.versions()]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """All that lies below a folder, with size and time."""
    return {
        path.relative_to(root).as_posix(): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")
    }


def parts(space):
    return {path.parent.name for path in space.folder.glob("v*/*.parquet")}


def models(space):
    return {path.name.partition("-")[2] for path in space.paths.models(space.name).iterdir()}


# The rules


def aged(*days: float):
    """Versions 1, 2, ... made so many days ago."""
    return [
        SimpleNamespace(number=i, manifest=SimpleNamespace(created=NOW - timedelta(days=age)))
        for i, age in enumerate(days, 1)
    ]


NOW = datetime(2026, 6, 1, tzinfo=UTC)
AGES = (50, 40, 30, 20, 10, 0)


@pytest.mark.parametrize(
    ("keep", "protected", "stay"),
    [
        (None, (), [1, 2, 3, 4, 5, 6]),
        (Keep(), (), [1, 2, 3, 4, 5, 6]),
        (Keep(versions=2), (), [5, 6]),
        (Keep(versions=1), (), [6]),
        (Keep(versions=9), (), [1, 2, 3, 4, 5, 6]),
        (Keep(days=25), (), [4, 5, 6]),
        (Keep(days=30), (), [3, 4, 5, 6]),  # to the second: not yet older
        (Keep(days=0), (), [6]),  # the newest always stays
        (Keep(days=0.5), (), [6]),
        (Keep(versions=2, days=35), (), [3, 4, 5, 6]),
        (Keep(versions=4, days=5), (), [3, 4, 5, 6]),
        (Keep(versions=1), (2, 3), [2, 3, 6]),
        (Keep(days=15), (1,), [1, 5, 6]),
        (Keep(versions=1), (99,), [6]),
    ],
)
def test_a_version_stays_when_any_rule_keeps_it(keep, protected, stay):
    gone = {version.number for version in expired(aged(*AGES), keep, protected, NOW)}
    assert [number for number in range(1, 7) if number not in gone] == stay


def test_where_there_is_no_version():
    assert expired([], Keep(versions=1), ()) == []


@settings(max_examples=200, deadline=None)
@drawn(
    st.lists(st.floats(0, 100), max_size=8),
    st.none() | st.integers(1, 9),
    st.none() | st.floats(0, 100),
    st.sets(st.integers(1, 8)),
)
def test_the_rules_against_their_definition(ages, count, days, protected):
    ages = sorted(ages, reverse=True)
    gone = {version.number for version in expired(aged(*ages), Keep(count, days), protected, NOW)}
    for number, age in enumerate(ages, 1):
        kept = [
            count is None and days is None,
            number == len(ages),
            number in protected,
            count is not None and number > len(ages) - count,
            days is not None and timedelta(days=age) <= timedelta(days=days),
        ]
        assert (number in gone) == (not any(kept)), (number, kept)


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        (Keep(3, 7.5), "the newest 3 and those of the last 7.5 days"),
        (Keep(versions=1), "the newest"),
        (Keep(days=30), "those of the last 30 days"),
        (Keep(), "all"),
    ],
)
def test_the_rules_in_words(keep, text):
    assert str(keep) == text


def test_days_count_from_the_commit(store, monkeypatch):
    for age in (40, 20, 10, 0):
        clock = SimpleNamespace(now=lambda zone, age=age: datetime.now(zone) - timedelta(days=age))
        monkeypatch.setattr(writer_module, "datetime", clock)
        put(store, encoder_of("a"))
    monkeypatch.undo()
    assert [version.number for version in retire(store.space("s"), Keep(days=15))] == [1, 2]
    assert numbers(store.space("s")) == [3, 4]


# What goes, and what is left


def test_what_goes_is_gone_and_the_rest_reads(store, space):
    kept = space.version(5)
    matrix = kept.matrix
    gone = retire(space, Keep(versions=2))
    assert [version.number for version in gone] == [1, 2, 3]
    assert parts(space) == {f"v0000{i}-run{i}" for i in range(1, 6)}  # the files stand until they are swept
    found = garbage(space, gone)
    assert {(one.version, one.why) for one in found} == {(i, f"of version {i}") for i in (1, 2, 3)}
    assert {one.size for one in found} == {path.place.stat().st_size for path in found}
    sweep(found)
    assert parts(space) == {"v00004-run4", "v00005-run5"} == {path.name for path in space.folder.glob("v*")}
    assert models(space) == {"v4-run4", "v5-run5"}
    assert numbers(space) == numbers(VectorStore(store.root).space("s")) == [4, 5]
    for number in (4, 5):
        version = space.version(number)
        assert (version.matrix == matrix_of(2, seed=number - 1)).all() and version.encoder().ids == ["a", "b"]
        assert not list(verify(version))
    assert (kept.matrix == matrix).all() and kept.ids.tolist() == ["a", "b"]  # a reader from before is not disturbed
    assert DeltaTable(str(space.folder)).to_pyarrow_table().num_rows == 2
    assert garbage(space) == []


@pytest.mark.parametrize("which", [1, "3"])
def test_a_version_that_was_taken_out_says_so(store, space, which):
    retire(space, Keep(versions=2))
    with pytest.raises(
        NotFoundError, match=rf"Got version '?{which}'? .* was taken out \(`keep:`.*it has 4, 5, or"
    ) as e:
        space.version(which)
    assert e.value.exit_code == 2
    with pytest.raises(NotFoundError, match="taken out"):
        store.find(f"s@{which}")
    with pytest.raises(NotFoundError) as e:
        space.version(6)
    assert "taken out" not in str(e.value)


def test_numbers_are_never_used_again(store, space):
    retire(space, NEWEST)
    assert numbers(space) == [5]
    assert put(store, encoder_of("c")).number == 6
    assert retire(space, NEWEST)[0].number == 5
    assert put(store, encoder_of("d")).number == 7
    assert (numbers(space), space.version(7).manifest.parent) == ([6, 7], 6)
    assert delta.retired(space.folder) == {1, 2, 3, 4, 5}


def test_nothing_to_take_out_writes_nothing(space):
    before = tree(space.folder)
    assert retire(space, Keep(versions=5)) == retire(space, None) == retire(space, Keep()) == []
    assert tree(space.folder) == before


def test_other_spaces_are_left_alone(store, space):
    for _ in range(2):
        put(store, encoder_of("a"), space="s.x")
        put(store, encoder_of("a"), space="s-2")
    before = {name: tree(store.root / name) for name in ("s.x", "s-2", "_models/s.x", "_models/s-2")}
    collect(space, NEWEST)
    assert {name: tree(store.root / name) for name in before} == before
    assert numbers(space) == [5]


def test_a_failed_commit_takes_nothing_out(space, monkeypatch):
    class Refusing:
        def create_write_transaction(self, *given, **more):
            raise CommitFailedError("lost a race")

    monkeypatch.setattr(delta, "table", lambda *given: Refusing())
    with pytest.raises(BusyError, match="Somebody else committed to 's' while versions were taken out"):
        retire(space, NEWEST)
    monkeypatch.undo()
    assert numbers(space) == [1, 2, 3, 4, 5]


def test_files_that_cannot_be_deleted_are_told_and_the_others_go(space, monkeypatch):
    gone = retire(space, NEWEST)
    found = garbage(space, gone)
    real = retention.remove

    def remove(place):
        if "v00002" in str(place):
            raise PermissionError(13, "Permission denied", str(place))
        real(place)

    monkeypatch.setattr(retention, "remove", remove)
    with pytest.raises(NotWritableError, match=rf"Got 1 of {len(found)} needless files .*v00002"):
        sweep(found)
    assert parts(space) == {"v00002-run2", "v00005-run5"}
    monkeypatch.undo()
    [left] = garbage(space)  # known as version 2's by what was recorded
    assert (left.version, left.why) == (2, "of version 2")


# What never goes


def test_released_versions_never_go(store, space):
    for number in (1, 2, 3):
        commit(store.paths, {"s": number}, f"r{number}")
    move(store.paths, 1, name="audit")
    assert [version.number for version in retire(space, NEWEST)] == [4]  # 1: audit; 2: rollback; 3: production
    rollback(store.paths)
    assert releases.read(store.paths).protected() == {"s": {1, 2, 3}}  # 3: the newest release
    assert retire(space, NEWEST) == []
    commit(store.paths, {"s": 5}, "r4")
    assert [version.number for version in retire(space, NEWEST)] == [3]  # rolled back from, and not the newest any more
    assert numbers(space) == [1, 2, 5]
    assert rollback(store.paths).release == 2
    assert store.find("s@production").number == 2


def test_the_newest_release_stays_promotable(store, space):
    commit(store.paths, {"s": 1}, "a")
    commit(store.paths, {"s": 3}, "b", promote=False)
    assert [version.number for version in retire(space, NEWEST)] == [2, 4]
    assert store.promote(2).release == 2


def test_a_release_that_nothing_needs_goes_and_says_so(store, space):
    for number in range(1, 6):
        commit(store.paths, {"s": number}, f"r{number}")
    assert [version.number for version in retire(space, NEWEST)] == [1, 2, 3]
    with pytest.raises(NotFoundError, match="Got release 2, of which s@2 was taken out"):
        store.promote(2)


# Files that versions share


@pytest.fixture
def files(tmp_path):
    with installed(tmp_path / "site"):
        yield write_pipeline(tmp_path)


def rows_of(*names):
    return {name: name.encode() for name in names}


def test_shared_parts_and_encoders_stay_while_one_version_needs_them(files):
    space = Pipeline.load(files).vectors.space("s")
    for rows in ("abcdef", "abcdefgh", "abcdefghij", "abcdefghi"):
        write_rows(files.parent / "rows", rows_of(*rows))
        version = embed(files).version
    parents = {number: {entry.path for entry in space.version(number).manifest.files} for number in (1, 2, 3, 4)}
    assert parents[1] < parents[2] < parents[3] and parents[1] < parents[4]
    assert len(models(space)) == 1
    before = version.matrix.copy()
    gone, found = collect(space, NEWEST)
    assert [v.number for v in gone] == [1, 2, 3]
    assert {str(one.place) for one in found} == {str(space.folder / path) for path in parents[3] - parents[4]}
    assert {one.version for one in found} == {3}
    assert not list(verify(space.version("latest"))) and len(models(space)) == 1
    assert (VectorStore(space.paths.root).find("s").matrix == before).all()
    write_rows(files.parent / "rows", rows_of("a", "z"))
    done = embed(files)
    assert (done.version.number, done.counts) == (5, (2, 1, 1, 0))  # goes on from what stayed
    edit(files, "hashed}", "hashed, params: {seed: 1}}")
    embed(files)
    assert [v.number for v in collect(space, NEWEST)[0]] == [4, 5]
    assert models(space) == {name for name in models(space) if name.startswith("v6-")} != set()
    assert not list(verify(space.version("latest")))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(
    st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.integers(0, 5)), min_size=3, max_size=7),
    st.integers(1, 3),
)
def test_any_history_leaves_what_stays_whole(tmp_path_factory, history, count):
    """Rows come and go, releases are made, moved and rolled back, versions are taken out: what stays is whole."""
    folder = tmp_path_factory.mktemp("history")
    with installed(folder / "site"):
        file = write_pipeline(folder)
        store = Pipeline.load(file).vectors
        space, bits = store.space("s"), {}
        for names, action in history:
            write_rows(folder / "rows", rows_of(*names))
            version = embed(file).version
            bits[version.number] = version.matrix.tobytes()
            if action:
                commit(store.paths, {"s": version.number}, "r", promote=action % 2 == 0)
            if action == 4:
                move(store.paths, releases.read(store.paths).release().number, name="audit")
            if action == 5 and releases.read(store.paths).before("production"):
                rollback(store.paths)
            needed = releases.read(store.paths).protected().get("s", set())
            before = set(numbers(space))
            collect(space, Keep(versions=count))
            assert set(numbers(space)) == {n for n in before if n in needed or n in sorted(before)[-count:]}
            assert garbage(space) == []
        for version in space.versions():
            assert not list(verify(version))
            assert version.matrix.tobytes() == bits[version.number]
            version.encoder()


# What runs leave behind


def orphans(store, space="s"):
    """What a run that was killed leaves."""
    folder, learned = store.space(space).folder, store.paths.models(space)
    made = [
        folder / "v00006-dead/part-00000.parquet",
        learned / "0123456789abcdef-v6-dead/encoder.json",
        learned / "0123456789abcdef-v6-dead.tmp/encoder.json",
    ]
    for path in made:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    return made


def test_what_a_killed_run_left_goes(store, space):
    made = orphans(store)
    mine = [space.folder / "notes.txt", space.folder / "v6-final/part-00000.parquet", space.folder / "v00006-x/y.jpg"]
    mine.append(store.paths.models("s") / "notes/x")
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    gone, found = collect(space, None)
    assert gone == [] and {one.place for one in found} == set(made)
    assert {(one.version, one.why) for one in found} == {(None, "left by a run that did not finish")}
    assert not any(path.parent.exists() for path in made)
    assert all(path.exists() for path in mine)
    assert numbers(space) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, None), slice(None)], ids=["parts", "encoders", "both"])
def test_what_a_killed_first_run_left_goes(store, which):
    with writing(store.space("s"), "dead", wait=0, waiting=print):
        pass
    made = orphans(store)
    for path in set(made) - set(made[which]):
        shutil.rmtree(path.parents[1], ignore_errors=True)
    assert store.spaces() == [] and retention.spaces_ever(store.paths) == ["s"]
    collect(store.space("s"), None)
    assert not any(path.exists() for path in made)


def test_folders_of_others_are_no_spaces(tmp_path):
    """A store may be a folder in which other things lie."""
    picture = tmp_path / "photos/v00001-summer/part-00000.parquet"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"mine")
    store = VectorStore(tmp_path)
    put(store, encoder_of("a"))
    assert retention.spaces_ever(store.paths) == ["s"]
    assert retention.spaces_ever(VectorStore(tmp_path / "none").paths) == []


def test_a_kill_between_taking_out_and_sweeping_is_made_up_for(space):
    assert len(retire(space, NEWEST)) == 4
    gone, found = collect(space, NEWEST)
    assert gone == [] and {one.version for one in found} == {1, 2, 3, 4}
    assert parts(space) == {"v00005-run5"}


def test_a_run_takes_its_old_versions_out(tmp_path):
    file = write_project(tmp_path)
    file.write_text(file.read_text() + "keep: {versions: 2}\n")
    run_steps(file)
    for epochs in range(1, 5):
        edit(file, f"epochs: {epochs}", f"epochs: {epochs + 1}")
        run_steps(file)
    store = Pipeline.load(file).vectors
    assert numbers(store.space("words")) == [3, 4, 5]  # at the time of the last one, 3 was the way back
    assert numbers(store.space("nodes")) == [1]
    assert len(parts(store.space("words"))) == len(models(store.space("words"))) == 3
    assert store.release() == {"words": 5, "nodes": 1}


def test_a_version_that_stands_is_no_failure_when_old_ones_cannot_go(tmp_path, monkeypatch):
    file = write_project(tmp_path)
    file.write_text(file.read_text() + "keep: {versions: 1}\n")
    run_steps(file)
    edit(file, "epochs: 1", "epochs: 2")
    run_steps(file)

    def refuse(found):
        raise NotWritableError("no rights")

    monkeypatch.setattr(retention, "sweep", refuse)
    edit(file, "epochs: 2", "epochs: 3")
    run_steps(file)
    edit(file, "epochs: 3", "epochs: 4")
    run_steps(file)
    store = Pipeline.load(file).vectors
    assert store.release() == {"words": 4, "nodes": 1}
    monkeypatch.undo()
    assert {one.version for one in garbage(store.space("words"))} == {1}


def test_encodes_that_were_cut_off_wait_a_week(store):
    folder = store.paths.unfinished("s")
    for name, age in (("k/000000.parquet", 8), ("k/000001.parquet", 6)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"rows")
        os.utime(folder / name, (time.time() - age * 86400,) * 2)
    assert "s" in retention.spaces_ever(store.paths)
    assert collect(store.space("s"), None, abandoned=True) == ([], [])
    os.utime(folder / "k/000001.parquet", (time.time() - 8 * 86400,) * 2)
    assert collect(store.space("s"), None) == ([], [])  # a pipeline has it: its next run goes on from there
    assert len(collect(store.space("s"), None, abandoned=True)[1]) == 2
    assert not folder.exists() or not any(folder.rglob("*.parquet"))


# Tables beside the spaces


def log_files(store):
    return set(store.paths.metrics.glob("*.parquet"))


def test_old_files_of_tables_go_once_no_reader_can_be_at_them(store, space, monkeypatch):
    for number in range(18):
        tables.record_metrics(store.paths, "s", 1, "e", str(number), [("m", 1.0, None, None)], {})
    before = log_files(store)
    for path in before:
        os.utime(path, (1, 1))  # made long ago; out of the table only since it was written anew
    assert len(before) > len(delta.paths(store.paths.metrics)) < 3
    assert retention.log_garbage(store.paths) == []
    monkeypatch.setattr(retention, "READERS", 0.0)
    found = retention.collect_logs(store.paths, dry_run=True)
    assert log_files(store) == before and {one.why for one in found} == {"old file of _metrics"}
    assert retention.collect_logs(store.paths) == found
    assert {path.name for path in log_files(store)} == set(delta.paths(store.paths.metrics))
    assert len(tables.metrics(store.paths, "s", 1)) == 18
    assert retention.log_garbage(store.paths) == []


def test_what_a_kill_left_in_a_log_goes(store, space):
    """The library writes a file of the log beside its place and moves it there; a kill can come between."""
    tables.record_metrics(store.paths, "s", 1, "e", "0", [("m", 1.0, None, None)], {})
    left = [folder / "_delta_log" / "_last_checkpoint#1" for folder in (space.folder, store.paths.metrics)]
    for path in left:
        path.touch()
    before = {path for path in store.root.rglob("*") if path.is_file()} - set(left)
    assert [one.place for one in collect(space, None)[1]] == left[:1]
    assert retention.collect_logs(store.paths) == []  # somebody may be about to move it
    os.utime(left[1], (1, 1))
    assert [one.place for one in retention.collect_logs(store.paths)] == left[1:]
    assert {path for path in store.root.rglob("*") if path.is_file()} == before


def test_tables_that_many_spaces_write_at_once_lose_nothing(store):
    """Each space has one writer; the quarantine and the metrics are everybody's."""

    def work(name):
        for turn in range(4):
            rows = [Rejected(f"{name}{i}", "place", "bad", "message") for i in range(turn, turn + 3)]
            tables.settle(store.paths, name, tables.hold(store.paths, name, turn + 1, "r", rows))
            tables.record_metrics(store.paths, name, 1, "e", str(turn), [("m", float(turn), None, None)], {})

    working = [in_thread(lambda name=name: work(name)) for name in "stuv"]
    for thread, answer in working:
        thread.join(120)
        assert answer == [None]
    for name in "stuv":
        rows = tables.quarantined(store.paths, name)
        assert [(row["id"], row["version"]) for row in rows] == [(f"{name}3", 2), (f"{name}4", 3), (f"{name}5", 4)]
        assert [row["value"] for row in tables.metrics(store.paths, name, 1)] == [0.0, 1.0, 2.0, 3.0]


def test_what_a_lost_race_left_in_a_table_goes_after_an_hour(store, space):
    commit(store.paths, {"s": 1}, "a")
    left = [store.paths.releases / f"part-{name}.parquet" for name in ("old", "young")]
    for path in left:
        path.write_bytes(b"rows")
    os.utime(left[0], (time.time() - 7200,) * 2)
    assert [one.place for one in retention.log_garbage(store.paths)] == [left[0]]


# Together with others


def test_looking_changes_nothing(store, space):
    orphans(store)
    before = tree(store.root)
    gone, found = collect(space, NEWEST, dry_run=True)
    assert tree(store.root) == before
    assert [version.number for version in gone] == [1, 2, 3, 4]
    assert [(one.place, one.size, one.version) for one in found] == [
        (one.place, one.size, one.version) for one in collect(space, NEWEST)[1]
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_space_that_is_written_is_left_alone(store, space, dry_run):
    orphans(store)
    with writing(space, "run-7", wait=0, waiting=print, tidy=False):
        before = tree(store.root)
        with pytest.raises(BusyError, match=rf"run run-7 \(process {os.getpid()} on"):
            collect(space, NEWEST, dry_run=dry_run)
        assert tree(store.root) == before
        assert written_by(space).startswith("run run-7")
    assert written_by(space) is None
    assert written_by(store.space("never")) is None
    collect(space, NEWEST, dry_run=dry_run)


def test_a_name_left_by_a_killed_run_holds_nothing(space):
    space.paths.lock("s").with_suffix(".json").write_text("{}")
    assert written_by(space) is None


def waiting_for(thread):
    """Whether it goes on waiting."""
    thread.join(0.4)
    return thread.is_alive()


def in_thread(work):
    """`work` in a thread, and the list that its answer or its error will be in."""
    answer: list[object] = []

    def call():
        try:
            answer.append(work())
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, answer


@pytest.mark.parametrize("way", ["promote", "rollback", "commit"])
def test_a_name_cannot_come_to_what_is_being_taken_out(store, space, monkeypatch, way):
    for number in (1, 2, 3, 4):
        commit(store.paths, {"s": number}, f"r{number}")
    rollback(store.paths)
    rollback(store.paths)  # at 2; the way back is 1
    commit(store.paths, {"s": 5}, "r5")  # at 5; the way back is 2
    real, asked = retention.outdated, {}

    def outdated(space, keep):
        found = real(space, keep)
        thread, answer = in_thread(
            {
                "promote": lambda: store.promote(3),
                "rollback": lambda: store.rollback(expected=5),
                "commit": lambda: commit(store.paths, {"s": 4}, "late"),
            }[way]
        )
        assert waiting_for(thread)
        asked["thread"], asked["answer"] = thread, answer
        return found

    monkeypatch.setattr(retention, "outdated", outdated)
    assert [version.number for version in retire(space, NEWEST)] == [1, 3, 4]
    asked["thread"].join(30)
    [answer] = asked["answer"]
    if way == "rollback":  # 2 was never to go
        assert answer.release == 2
    else:
        assert isinstance(answer, NotFoundError if way == "promote" else BusyError)
        assert re.search("s@[34].* (was taken|took) out", str(answer))
    assert store.find("s@production").number == (2 if way == "rollback" else 5)


def test_nothing_is_taken_out_while_a_name_comes_to_it(store, space, monkeypatch):
    for number in (1, 2, 3, 4, 5):
        commit(store.paths, {"s": number}, f"r{number}")
    real, asked = promotion._check_versions, {}

    def check(paths, release):
        real(paths, release)
        asked["thread"], asked["answer"] = in_thread(lambda: retire(space, NEWEST))
        assert waiting_for(asked["thread"])

    monkeypatch.setattr(promotion, "_check_versions", check)
    store.promote(2)
    asked["thread"].join(30)
    [gone] = asked["answer"]
    assert [version.number for version in gone] == [1, 3, 4]  # 5: the newest release, and the way back
    assert store.find("s").number == 2


def test_a_log_that_cannot_be_read_stops_it(store, space):
    (space.folder / "_delta_log/00000000000000000002.json").write_text("no json")
    before = parts(space)
    with pytest.raises(DamagedError):
        collect(space, NEWEST)
    assert parts(space) == before
