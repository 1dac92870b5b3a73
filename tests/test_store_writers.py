"""One writer a space; a killed writer, a lost race and a lost lock leave the last version as it was."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from storage import layout, writer
from storage.errors import BusyError
from storage.store import VectorStore
from storage.verify import verify
from storage.writer import Source, Writer, writing
from tests.helpers_store import encoder_of, matrix_of, put


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


def leftovers(store: VectorStore, space: str = "s") -> set[str]:
    """Folders of parts and models that belong to no version, and temporary files."""
    versions = store.space(space).versions()
    known = {store.space(space).folder / entry.path for v in versions for entry in v.manifest.files}
    models = {store.root / v.manifest.model for v in versions}
    parts = {path for path in store.space(space).folder.glob("v*/*")} - known
    empty = {path for path in store.space(space).folder.glob("v*") if not any(path.iterdir())}
    return {str(path) for path in parts | empty | set(store.paths.models(space).glob("*")) - models}


def test_a_second_writer_waits_and_goes_on(store):
    put(store, encoder_of("a"))
    order, said = [], []
    inside, leave = threading.Event(), threading.Event()

    def first():
        with writing(store.space("s"), "first", wait=0, waiting=said.append) as w:
            inside.set()
            leave.wait(20)
            w.commit(Source("d", "x", 1, {}), encoder_of("b"), encoder_of("b").encode(None), {}, 0.0)
            order.append("first")

    def second():
        with writing(store.space("s"), "second", wait=20, waiting=said.append) as w:
            order.append("second")
            assert w.parent.number == 2
            w.commit(Source("d", "x", 1, {}), encoder_of("c"), encoder_of("c").encode(None), {}, 0.0)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert order == ["first", "second"]
    assert len(said) == 1
    assert "is being written by run first" in said[0]
    assert [v.ids.tolist() for v in store.space("s").versions()] == [["a"], ["b"], ["c"]]


def test_two_spaces_are_written_at_once(store):
    with writing(store.space("s"), "a", wait=0, waiting=pytest.fail):
        put(store, encoder_of("a"), space="t")
    assert store.spaces() == ["t"]


def test_a_busy_space_says_who_holds_it(store):
    with (
        writing(store.space("s"), "run-7", wait=0, waiting=print),
        pytest.raises(BusyError, match="Wait for that run, or stop it") as caught,
        writing(store.space("s"), "run-8", wait=0, waiting=print),
    ):
        pass
    for part in ("run run-7", f"process {os.getpid()} on {socket.gethostname()}", "since 20"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 1
    put(store, encoder_of("a"))  # the refused one did not break the lock


def test_the_lock_is_free_after_an_error(store):
    with pytest.raises(RuntimeError), writing(store.space("s"), "a", wait=0, waiting=print):
        raise RuntimeError
    put(store, encoder_of("a"))
    assert not list(store.root.glob("_locks/*.json"))


HOLD = """
import sys
from storage.store import VectorStore
from storage.writer import writing
with writing(VectorStore(sys.argv[1]).space("s"), "other-process", wait=0, waiting=print):
    print("inside", flush=True)
    sys.stdin.read()
"""


def hold(store: VectorStore) -> subprocess.Popen:
    pipe = subprocess.PIPE
    found = subprocess.Popen([sys.executable, "-c", HOLD, str(store.root)], stdin=pipe, stdout=pipe, text=True)
    assert found.stdout.readline() == "inside\n"
    return found


def test_another_process_holds_the_lock_and_a_killed_one_does_not(store):
    with hold(store) as process:
        with pytest.raises(BusyError, match=rf"run other-process \(process {process.pid} on"):
            put(store, encoder_of("a"))
        process.kill()
        process.wait()
    assert (store.root / "_locks/s.lock").exists() or (store.root / "_locks/s.json").exists()
    assert put(store, encoder_of("a")).number == 1


def test_a_writer_waits_for_another_process(store):
    with hold(store) as process:
        threading.Timer(0.3, process.stdin.close).start()
        said = []
        with writing(store.space("s"), "me", wait=20, waiting=said.append) as mine:
            mine.commit(Source("d", "x", 1, {}), encoder_of("a"), encoder_of("a").encode(None), {}, 0.0)
    assert f"process {process.pid}" in said[0]
    assert store.find("s").number == 1


@pytest.mark.parametrize("text", ["", "no json", "{}"])
def test_a_holder_that_cannot_be_read_is_another_run(store, text):
    with hold(store) as process:
        (store.root / "_locks/s.json").write_text(text)
        with pytest.raises(BusyError, match="by another run after 0 s"):
            put(store, encoder_of("a"))
        process.stdin.close()


@pytest.mark.parametrize("before", [0, 1])
def test_a_lost_race_commits_nothing_and_harms_nothing(store, before):
    """Where locks do not work (some network folders), Delta's own check is what is left."""
    for _ in range(before):
        put(store, encoder_of("ab", matrix_of(2, seed=9)))
    space = store.space("s")
    with writing(space, "slow", wait=0, waiting=print) as slow:
        fast = Writer(store.paths, store.space("s"), "fast", slow.parent, slow.base, slow.last)
        mine, theirs = encoder_of("ab", matrix_of(2, seed=1)), encoder_of("ab", matrix_of(2, seed=2))
        fast.commit(Source("d", "x", 2, {}), theirs, theirs.encode(None), {}, 0.0)
        with pytest.raises(BusyError, match=rf"'s' while version {before + 1} was made.*Run again"):
            slow.commit(Source("d", "x", 2, {}), mine, mine.encode(None), {}, 0.0)
    latest = store.find("s")
    assert (latest.number, latest.manifest.run) == (before + 1, "fast")
    assert np.array_equal(latest.matrix, matrix_of(2, seed=2))
    assert np.array_equal(latest.encoder().matrix, matrix_of(2, seed=2))
    assert not leftovers(store)
    assert put(store, mine).number == before + 2


def test_rows_appended_by_another_tool_make_the_commit_fail_and_versions_still_read(store):
    put(store, encoder_of("ab"))
    strange = layout.batch_table(next(encoder_of("z").encode(None)))
    with writing(store.space("s"), "mine", wait=0, waiting=print) as mine:
        write_deltalake(str(store.space("s").folder), pa.table(strange), mode="append")
        with pytest.raises(BusyError):
            mine.commit(Source("d", "x", 1, {}), encoder_of("c"), encoder_of("c").encode(None), {}, 0.0)
    assert (store.find("s").number, store.find("s").ids.tolist()) == (1, ["a", "b"])
    again = put(store, encoder_of("c"))
    assert (again.number, again.ids.tolist(), len(again.files)) == (2, ["c"], 1)


def test_what_a_killed_run_left_is_swept_by_the_next(store):
    kept = put(store, encoder_of("a"))
    space = store.space("s").folder
    orphans = [
        space / "v00002-dead",
        store.paths.models("s") / "0123456789abcdef-v2-dead",
        store.paths.models("s") / "0123456789abcdef-v1-dead.tmp",
    ]
    for folder in orphans:
        folder.mkdir()
        (folder / "x").write_text("x")
    mine = [space / "video", store.paths.models("s") / "notes", space / "vacation-1"]
    for folder in mine:
        folder.mkdir()
    assert put(store, encoder_of("b"), run="next").number == 2
    assert not any(folder.exists() for folder in orphans)
    assert all(folder.exists() for folder in mine)
    assert Path(kept.files[0]).exists()
    assert store.find("s@1").encoder().ids == ["a"]


def test_nothing_of_another_space_is_swept(store):
    put(store, encoder_of("a"), space="s.x")
    put(store, encoder_of("a"), space="s.x")
    put(store, encoder_of("a"), space="s")
    assert store.find("s.x@2").encoder().ids == ["a"]


COMMITS = """
import sys
import numpy as np
from storage import promotion, tables
from storage.store import VectorStore
from storage.writer import Source, writing
from tests.helpers_store import batch_of, given, rejected

store, me, many = VectorStore(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(many):
    made = {}
    for name in ("shared", me):
        ids, bad = [f"{me}-{turn}-{i}" for i in range(5)], rejected(2, code=me)
        encoder = given(batch_of(ids, seed=turn, rejected=bad))
        with writing(store.space(name), f"{me}-{turn}", wait=300, waiting=lambda _: None) as writer:
            version = writer.commit(Source("d", me, 7, {}), encoder, encoder.encode(None), {}, 0.0)
        tables.record_metrics(store.paths, name, version.number, me, "f", [("turn", turn, None, None)], {})
        made[name] = version.number
    release = promotion.commit(store.paths, made, f"{me}-{turn}")
    print(made["shared"], made[me], release.number, flush=True)
"""


def commit_at_once(store: VectorStore, names: list[str], many: int) -> dict[str, list[list[int]]]:
    """Processes that commit to a shared space, to one of their own and to the releases; the numbers each was given."""
    root, pipe = Path(__file__).resolve().parents[1], subprocess.PIPE
    command = [sys.executable, "-c", COMMITS, str(store.root)]
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                subprocess.Popen([*command, name, str(many)], cwd=root, stdin=pipe, stdout=pipe, text=True)
            )
            for name in names
        }
        for process in processes.values():
            assert process.stdout.readline() == "ready\n"
        for process in processes.values():
            process.stdin.write("go\n")
            process.stdin.flush()
        told = {}
        for name, process in processes.items():
            told[name] = [[int(field) for field in line.split()] for line in process.stdout]
            assert process.wait() == 0
    return told


@pytest.mark.parametrize("many", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_four_processes_commit_at_once(store, many):
    """To one space, to spaces of their own, to metrics, quarantine and releases: all is there, nothing twice."""
    names = ["a", "b", "c", "d"]
    told = commit_at_once(store, names, many)
    assert all(len(lines) == many for lines in told.values())
    shared = {numbers[0]: (name, turn) for name in names for turn, numbers in enumerate(told[name])}
    assert sorted(shared) == list(range(1, 4 * many + 1))
    for space in ["shared", *names]:
        versions = store.space(space).versions()
        assert [v.number for v in versions] == list(range(1, (4 * many if space == "shared" else many) + 1))
        for version in versions:
            name, turn = shared[version.number] if space == "shared" else (space, version.number - 1)
            assert version.manifest.run == f"{name}-{turn}"
            assert version.ids.tolist() == [f"{name}-{turn}-{i}" for i in range(5)]
            assert np.array_equal(version.matrix, matrix_of(5, seed=turn))
            assert [(row["evaluation"], row["value"]) for row in store.metrics(version)] == [(name, turn)]
            assert list(verify(version)) == []
        last = shared[4 * many][0] if space == "shared" else space
        assert [row["code"] for row in store.quarantine(version)] == [last, last]
        assert not leftovers(store, space)
    assert sorted(numbers[2] for lines in told.values() for numbers in lines) == list(range(1, 4 * many + 1))
    for release in store.releases():
        name, _, turn = release.run.partition("-")
        expected = told[name][int(turn)]
        assert [release.spaces["shared"], release.spaces[name], release.number] == expected
    assert store.release() == store.releases()[-1].spaces
    for before, after in itertools.pairwise(store.releases()):  # each builds on the one before
        name = after.run.partition("-")[0]
        assert {**before.spaces, **after.spaces} == after.spaces
        assert all(
            after.spaces[other] == before.spaces[other] for other in before.spaces if other not in ("shared", name)
        )


def test_the_holder_file_says_who_writes(store):
    with writing(store.space("s"), "run-1", wait=0, waiting=print):
        found = json.loads((store.root / "_locks/s.json").read_text())
    assert (found["run"], found["pid"], found["host"]) == ("run-1", os.getpid(), socket.gethostname())


def test_committing_follows_the_data(store, monkeypatch):
    """When the commit entry is written, the parts and the model it names are already there."""
    seen = []

    def look(folder, manifest, base):
        seen.append([(folder / entry.path).is_file() for entry in manifest.files])
        seen.append([(store.root / manifest.model / "encoder.json").is_file()])
        return commit(folder, manifest, base)

    commit = writer.delta.commit
    monkeypatch.setattr(writer.delta, "commit", look)
    put(store, encoder_of("a"))
    assert seen == [[True], [True]]


def test_what_fails_after_the_commit_harms_nothing(tmp_path, monkeypatch):
    """An interruption just after the log was written must not take the committed files away."""
    from storage import delta

    store = VectorStore(tmp_path)
    real = delta.commit

    def commit(*given):
        real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(delta, "commit", commit)
    with pytest.raises(KeyboardInterrupt):
        put(store, encoder_of(["a", "b"]))
    version = store.space("s").version("latest")
    assert len(version.matrix) == 2 and version.encoder().dim == version.dim
