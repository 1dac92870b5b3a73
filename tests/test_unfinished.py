"""An encode that was cut off is gone on with: what was finished is not done again, and rows of two encoders never mix."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.base import Batch, Vectors
from flows.pipeline import Pipeline
from storage import layout, unfinished
from storage.unfinished import Unfinished
from storage.verify import verify
from tests.helpers_incremental import (
    BAD,
    REPO,
    Drawn,
    Hashed,
    HashedEncoder,
    bits,
    check,
    embed,
    read_log,
    write_pipeline,
    write_rows,
)
from tests.helpers_store import edit

pytestmark = pytest.mark.usefixtures("site")

Rows = dict[str, bytes]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every batch is kept as soon as it is there."""
    monkeypatch.setattr(unfinished, "EVERY", 0.0)


def rows_of(n: int, first: int = 0) -> Rows:
    return {f"r{i:03d}": b"c%d" % i for i in range(first, first + n)}


class CutOff(BaseException):
    """What a kill is to a run, as far as one in the same process can be."""


def cut(file: Path, after: int, space: str = "s", **options) -> list[str]:
    """A run that is cut off once so many rows went through the encoder; the ids of those."""
    left = after
    real = HashedEncoder.vector

    def vector(self, content):
        nonlocal left
        left -= 1
        if left < 0:
            raise CutOff
        return real(self, content)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(CutOff):
        patch.setattr(HashedEncoder, "vector", vector)
        embed(file, space, **options)
    return read_log(file.parent / "encoded.log")[0]


def folder_of(file: Path, space: str = "s") -> Path:
    return Pipeline.load(file).vectors.paths.unfinished(space)


def parts(file: Path, space: str = "s") -> list[Path]:
    return sorted(folder_of(file, space).rglob("*.parquet"))


def kept(file: Path, space: str = "s") -> list[str]:
    """Ids of rows of cut-off encodes."""
    return sorted(name for path in parts(file, space) for name in pq.read_table(path).column("id").to_pylist())


# Cut off and gone on with


def test_rows_that_were_finished_are_not_embedded_again(tmp_path):
    file = write_pipeline(tmp_path, rows=rows_of(9))
    assert cut(file, 5) == list(rows_of(4))  # batches of two
    assert kept(file) == list(rows_of(4))
    assert Pipeline.load(file).vectors.spaces() == []
    done = embed(file)
    check(done, rows_of(9))
    assert done.encoded == list(rows_of(5, 4))
    assert done.counts == (9, 9, 0, 0)  # embedded for this version, though by two runs
    assert done.said == ["s: 4 rows were embedded by a run that was cut off"]
    assert not folder_of(file).exists()


def test_cut_off_again_and_again(tmp_path):
    file, seen = write_pipeline(tmp_path, rows=rows_of(20)), []
    for _ in range(4):
        seen += cut(file, 4)
    assert kept(file) == sorted(seen) == list(rows_of(16))
    assert not [path for path in folder_of(file).rglob("*") if ".tmp" in path.name]
    done = embed(file)
    check(done, rows_of(20))
    assert done.encoded == list(rows_of(4, 16))


def test_the_rows_of_a_later_version_too(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 3)
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(6))
    first = embed(file)
    rows = rows_of(5) | rows_of(6, 10)
    write_rows(tmp_path / "rows", rows)
    assert cut(file, 4) == list(rows_of(4, 10))
    assert not list(folder_of(file).rglob("learned*"))  # the version has it
    done = embed(file)
    check(done, rows)
    assert (done.encoded, done.counts) == (["r014", "r015"], (11, 6, 5, 0))
    assert done.keys == first.keys
    assert done.version.manifest.files[0] == first.version.manifest.files[0]


def test_rejected_rows_are_tried_again(tmp_path):
    rows = {"a": b"a", "b": BAD, "c": b"c", "d": BAD + b"d", "e": b"e", "f": b"f"}
    file = write_pipeline(tmp_path, rows=rows)
    cut(file, 3)
    assert kept(file) == ["a", "c"]
    done = embed(file)
    check(done, rows)
    assert (done.encoded, done.counts) == (["b", "d", "e", "f"], (6, 4, 0, 2))


def test_a_dataset_that_changed_meanwhile(tmp_path):
    file = write_pipeline(tmp_path, rows=rows_of(8))
    cut(file, 6)
    rows = {"r000": b"new", "x": b"c1", "r003": b"c3", "y": b"c3", "r005": BAD, "r006": b"c6", "r007": b"c0"}
    write_rows(tmp_path / "rows", rows)
    done = embed(file)
    check(done, rows)
    assert done.encoded == ["r000", "r005", "r006"]
    assert done.said == ["s: 4 rows were embedded by a run that was cut off"]
    assert not folder_of(file).exists()


def test_nothing_of_it_is_wanted_any_more(tmp_path):
    file = write_pipeline(tmp_path, rows=rows_of(4))
    cut(file, 4 - 1)
    write_rows(tmp_path / "rows", rows_of(4, 10))
    done = embed(file)
    check(done, rows_of(4, 10))
    assert (done.encoded, done.said) == (list(rows_of(4, 10)), [])


def test_another_recipe_does_not_take_them_and_they_wait(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: hashed, params: {seed: 1}"}, rows_of(8))
    cut(file, 4)
    edit(file, "seed: 1", "seed: 2")
    assert cut(file, 2) == list(rows_of(2))
    edit(file, "seed: 2", "seed: 1")
    done = embed(file)
    check(done, rows_of(8))
    assert (done.encoded, done.keys) == (list(rows_of(4, 4)), {"1"})
    assert not folder_of(file).exists()  # of the other recipe too


def test_another_upstream_does_not_take_them(tmp_path):
    """Names of a hundred characters, which cut to a length hid the number of the version."""
    name = "b" * 100
    spaces = {name: "embedder: hashed, params: {seed: 1}", "s": f"embedder: hashed, start: {{space: {name}}}"}
    file = write_pipeline(tmp_path, spaces, rows_of(6))
    embed(file, name)
    cut(file, 4)
    edit(file, "seed: 1", "seed: 2")
    embed(file, name)
    done = embed(file)
    check(done, rows_of(6))
    assert (done.encoded, done.keys) == (list(rows_of(6)), {"2"})


def test_two_spaces_of_one_recipe_do_not_share(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn", "t": "embedder: drawn"}, rows_of(6))
    cut(file, 4, "s")
    other = embed(file, "t")
    assert other.encoded == list(rows_of(6))
    assert kept(file, "s") == list(rows_of(4))
    done = embed(file, "s")
    check(done, rows_of(6))
    assert done.encoded == ["r004", "r005"] and done.keys != other.keys


# Encoders that were learned


def test_what_was_learned_is_gone_on_with(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(8))
    cut(file, 4)
    _, before = read_log(tmp_path / "encoded.log")
    done = embed(file)
    check(done, rows_of(8))
    assert done.encoded == list(rows_of(4, 4)) and done.keys == set(before)
    later = embed(write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(9)))
    assert later.keys == done.keys


def test_what_was_learned_quickly_is_kept_with_the_first_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "EVERY", 60.0)
    monkeypatch.setattr(unfinished, "MOST", 1)
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(8))
    assert cut(file, 1) == []
    assert not folder_of(file).exists()
    cut(file, 4)
    _, before = read_log(tmp_path / "encoded.log")
    assert len(list(folder_of(file).glob("learned-*"))) == 1
    done = embed(file)
    check(done, rows_of(8))
    assert done.encoded == list(rows_of(4, 4)) and done.keys == set(before)


def test_what_was_learned_last_is_gone_on_with(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(8))
    cut(file, 4)
    write_rows(tmp_path / "rows", rows_of(9))
    cut(file, 6)
    _, before = read_log(tmp_path / "encoded.log")
    done = embed(file)
    check(done, rows_of(9))
    assert done.encoded == list(rows_of(3, 6)) and done.keys == set(before)


def test_what_was_learned_from_other_data_is_not(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(8))
    cut(file, 4)
    _, before = read_log(tmp_path / "encoded.log")
    write_rows(tmp_path / "rows", rows_of(9))
    done = embed(file)
    check(done, rows_of(9))
    assert done.encoded == list(rows_of(9)) and not done.keys & set(before)


def test_training_that_took_long_is_kept_before_the_first_row(tmp_path, monkeypatch):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(4))
    drawn, real = [], Drawn.learn
    monkeypatch.setattr(Drawn, "learn", lambda self, data: drawn.append(real(self, data)) or drawn[-1])
    assert cut(file, 0) == []
    assert embed(file).keys == {str(drawn[0][0])} and len(drawn) == 1
    monkeypatch.setattr(unfinished, "EVERY", 60.0)
    write_rows(tmp_path / "rows", rows_of(5))
    cut(file, 0, force=True)
    assert not folder_of(file).exists()


def test_rows_of_a_forced_run_and_a_plain_run_never_mix(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(4))
    first = embed(file)
    write_rows(tmp_path / "rows", rows_of(10))
    cut(file, 2)
    assert kept(file) == ["r004", "r005"]
    cut(file, 4, force=True)  # the plain run's rows are forgotten
    assert kept(file) == list(rows_of(4))
    cut(file, 2)
    assert kept(file) == sorted([*rows_of(4), "r004", "r005"])
    plain = embed(file)
    check(plain, rows_of(10))
    assert plain.encoded == list(rows_of(4, 6)) and plain.keys == first.keys

    cut(file, 4, force=True)
    forced = embed(file, force=True)
    check(forced, rows_of(10))
    assert forced.encoded == list(rows_of(10)) and forced.keys != first.keys and len(forced.keys) == 1
    assert not folder_of(file).exists()


@pytest.mark.parametrize("kind", ["hashed", "drawn"])
def test_a_forced_run_begins_anew_though_nothing_can_be_deleted(tmp_path, monkeypatch, kind):
    file = write_pipeline(tmp_path, {"s": f"embedder: {kind}"}, rows_of(6))
    cut(file, 4)
    _, before = read_log(tmp_path / "encoded.log")
    with monkeypatch.context() as patch:
        patch.setattr(unfinished, "remove", lambda _: None)
        done = embed(file, force=True)
    check(done, rows_of(6))
    assert done.encoded == list(rows_of(6)) and len(done.keys) == 1
    assert (done.keys == set(before)) == (kind == "hashed")


def test_a_forced_run_that_was_the_first_can_be_gone_on_with(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(6))
    cut(file, 4, force=True)
    _, before = read_log(tmp_path / "encoded.log")
    done = embed(file)
    check(done, rows_of(6))
    assert done.encoded == ["r004", "r005"] and done.keys == set(before)


def test_a_cut_off_run_whose_version_lost_its_model(tmp_path):
    """Rows by an encoder that is gone are of no use to another."""
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(4))
    first = embed(file)
    write_rows(tmp_path / "rows", rows_of(8))
    cut(file, 2)
    (tmp_path / "vectors" / first.version.manifest.model / "weights.safetensors").unlink()
    done = embed(file)
    check(done, rows_of(8))
    assert done.encoded == list(rows_of(8)) and done.keys != first.keys


# Damage


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "flipped", "another's"])
def test_a_damaged_part_is_embedded_again(tmp_path, how):
    file = write_pipeline(tmp_path, rows=rows_of(12))
    cut(file, 8)
    paths = {pq.read_table(path).column("id")[0].as_py(): path for path in parts(file)}
    assert sorted(paths) == ["r000", "r002", "r004", "r006"]
    path = paths["r002"]
    content = bytearray(path.read_bytes())
    if how == "flipped":
        vector = Hashed().fit(None).vector(b"c3").tobytes()
        content[content.index(vector)] ^= 1
    changed = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "text": b"x" * len(content),
        "flipped": content,
        "another's": paths["r000"].read_bytes(),
    }
    path.write_bytes(changed[how])
    done = embed(file)
    check(done, rows_of(12))
    assert done.encoded == ["r002", "r003", *rows_of(4, 8)]
    if how == "flipped":  # a part that can be opened is looked at whole before it is copied from
        assert done.said[0].startswith(f"s: embedding 2 rows again. The part {path} is not what was written")


@pytest.mark.parametrize("how", ["weights", "weights gone", "about", "about gone", "no json", "other json", "gone"])
def test_without_its_encoder_rows_are_worth_nothing(tmp_path, how):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(8))
    cut(file, 4)
    _, before = read_log(tmp_path / "encoded.log")
    [learned] = folder_of(file).glob("learned-*")
    weights, about = learned / "encoder/weights.safetensors", learned / "about.json"
    match how:
        case "weights":
            content = bytearray(weights.read_bytes())
            content[-8] ^= 1
            weights.write_bytes(content)
        case "weights gone":
            weights.unlink()
        case "about":
            about.write_text(json.dumps(json.loads(about.read_text()) | {"contents": "0" * 32}))
        case "about gone":
            about.unlink()
        case "no json":
            about.write_text("{")
        case "other json":
            about.write_text("[]")
        case "gone":
            learned.rename(tmp_path / "elsewhere")
    done = embed(file)
    check(done, rows_of(8))
    assert done.encoded == list(rows_of(8)) and not done.keys & set(before)


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(6))
    folder = folder_of(file)
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    cut(file, 4)
    done = embed(file)
    check(done, rows_of(6))
    assert done.encoded == list(rows_of(6))


# How much is held, and for how long


def batches(count: int, rows: int = 2):
    for i in range(count):
        names = [f"{i}-{j}" for j in range(rows)]
        yield Batch(Vectors("file", names, np.zeros((rows, 3), np.float32)), names)


def test_nothing_is_written_before_its_time_or_size(tmp_path, monkeypatch):
    place, encoder = Unfinished(tmp_path / "s", "key", "data"), Hashed().fit(None)
    monkeypatch.setattr(unfinished, "EVERY", 60.0)
    assert len(list(place.keep(batches(5), encoder, learned=True))) == 5
    assert not place.folder.exists()
    monkeypatch.setattr(unfinished, "MOST", 3 * 2 * 3 * 4)
    found = [len(place.known(encoder)) for _ in place.keep(batches(7), encoder, learned=True)]
    assert found == [0, 0, 1, 1, 1, 2, 2]
    assert [part.rows for part in place.known(encoder)] == [6, 6]
    now = iter(range(0, 1000, 25))
    monkeypatch.setattr(unfinished.time, "monotonic", lambda: float(next(now)))
    place.clear()
    monkeypatch.setattr(unfinished, "MOST", 10**9)
    found = [len(place.known(encoder)) for _ in place.keep(batches(6), encoder, learned=True)]
    assert found == [0, 0, 1, 1, 1, 2]
    place.clear()
    assert not place.folder.exists()


def test_parts_are_no_larger_than_a_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)
    place, encoder = Unfinished(tmp_path / "s", "key", "data"), Hashed().fit(None)
    list(place.keep(batches(2, 9), encoder, learned=False))
    assert sorted(part.rows for part in place.known(encoder)) == [1, 1, 4, 4, 4, 4]
    assert not list(place.folder.glob("learned*"))


# Any history


@st.composite
def steps_of(draw):
    """(state of the dataset, rows until the run is cut off or None, forced)"""
    ids, contents = st.integers(0, 13), st.integers(0, 19)
    state = draw(st.dictionaries(ids, contents, min_size=3, max_size=14))
    found = []
    for _ in range(draw(st.integers(2, 6))):
        if draw(st.booleans()):
            state = state | draw(st.dictionaries(ids, contents, max_size=4))
            for one in draw(st.lists(ids, max_size=2)):
                state = {name: content for name, content in state.items() if name != one or len(state) < 3}
        rows = {f"r{i:02d}": (BAD if c > 17 else b"c") + b"%d" % c for i, c in state.items()} | {"anchor": b"anchor"}
        found.append(
            (rows, draw(st.one_of(st.none(), st.integers(0, 10), st.integers(0, 10))), draw(st.integers(0, 5)) == 0)
        )
    return found


def go(folder: Path, kind: str, history) -> None:
    """Runs that are cut off or not, beside a model of what each may do again."""
    file = write_pipeline(folder, {"s": f"embedder: {kind}"})
    done, parent, latest = None, set(), None  # the newest version, its contents, the dataset it was made from
    waiting: dict[str, set[bytes]] = {}  # contents that were kept, by the key of their encoder
    learned: tuple[Rows, str | None] | None = None  # the dataset of an encoder without version, and its key
    for rows, cut_after, force in history:
        write_rows(folder / "rows", rows)
        if force:
            waiting, learned = {}, None
        elif rows == latest:
            assert embed(file).ref.fresh is False
            continue
        adds = done is not None and not force
        if not adds and (learned is None or (kind == "drawn" and learned[0] != rows)):
            learned = (rows, None if kind == "drawn" else "0")
        key = str(done.version.encoder().key[0]) if adds else learned[1]
        known = (parent if adds else set()) | waiting.get(key, set())
        fresh = [name for name in sorted(rows) if rows[name] not in known]
        good = [name for name in fresh if not rows[name].startswith(BAD)]
        if cut_after is not None and cut_after < len(good):
            finished = fresh[: fresh.index(good[cut_after]) // 2 * 2]  # batches of two
            assert cut(file, cut_after, force=force) == finished
            if finished:
                key = read_log(folder / "encoded.log")[1][0]
                waiting.setdefault(key, set()).update(rows[name] for name in set(finished) & set(good))
                learned = learned if adds else (learned[0], key)
            continue
        done = embed(file, force=force)
        check(done, rows)
        assert done.encoded == fresh
        assert done.keys <= ({key} if key else done.keys) and len(done.keys) <= 1
        assert not folder_of(file).exists()
        parent, latest = {rows[name] for name in rows if not rows[name].startswith(BAD)}, rows
        waiting, learned = {}, None
    versions = Pipeline.load(file).vectors.space("s").versions()
    assert [finding for version in versions for finding in verify(version)] == []


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["hashed", "drawn"]), steps_of(), st.integers(1, 6))
def test_any_history_of_cut_off_runs(tmp_path_factory, kind, history, rows_per_file):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", rows_per_file)
        go(tmp_path_factory.mktemp("history"), kind, history)


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["hashed", "drawn"]), steps_of(), st.integers(1, 6))
def test_any_history_of_many_cut_off_runs(tmp_path_factory, kind, history, rows_per_file):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", rows_per_file)
        go(tmp_path_factory.mktemp("history"), kind, history)


# Killed processes

RUN = """
import sys
from pathlib import Path
from storage import layout, unfinished
from tests.helpers_incremental import embed
unfinished.EVERY = float(sys.argv[2])
layout.ROWS_PER_FILE = 7
print("ready", flush=True)
embed(Path(sys.argv[1]), force=sys.argv[3] == "force")
"""


@contextmanager
def running(file: Path, plugin: Path, *, every: float = 0.0, force: bool = False) -> Iterator[subprocess.Popen]:
    """A run in a process of its own, from the moment it begins; killed at the end of the block."""
    path = os.pathsep.join([str(plugin), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(file), str(every), "force" if force else "plain"],
        cwd=REPO, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        process.stdout.readline()
        yield process
        process.kill()
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), process.stderr.read().decode()


def killed(file: Path, plugin: Path, after: int, delay: float, **options) -> list[str]:
    """A run that is killed `delay` seconds after so many rows were encoded; the ids of those."""
    log = file.parent / "encoded.log"
    log.unlink(missing_ok=True)
    with running(file, plugin, **options) as process:
        while len(read_log(log)[0]) < after and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
    assert process.returncode != 0
    return read_log(log)[0]


def kill_and_finish(folder: Path, plugin: Path, kills: int, seed: int, every: float = 0.0) -> None:
    rng = random.Random(seed)
    file = write_pipeline(folder, {"s": "embedder: drawn, params: {slow: 0.003}"}, rows_of(60))
    encoded: list[str] = []
    for _ in range(kills):
        now = killed(file, plugin, rng.randint(1, 12), rng.random() * 0.02, every=every)
        held = kept(file)
        assert len(held) == len(set(held))
        assert not set(now) & set(encoded)  # what was kept is not done again
        assert set(held) <= set(encoded) | set(now)
        encoded = held
        if every == 0:
            assert len(set(now) - set(held)) <= 2  # the batch that was on its way
    done = embed(file)
    check(done, rows_of(60))
    assert sorted([*done.encoded, *encoded]) == list(rows_of(60))
    assert not folder_of(file).exists()
    assert not list((folder / "vectors").rglob("*.tmp"))
    assert len(Pipeline.load(file).vectors.space("s").versions()) == 1
    left = {path.parent.name for path in (folder / "vectors/s").glob("v*/*.parquet")}
    assert left == {Path(done.version.files[0]).parent.name}


def test_a_killed_run_is_gone_on_with(tmp_path, site):
    kill_and_finish(tmp_path, site, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("every", [0.0, 0.01])
def test_runs_killed_at_any_moment_are_gone_on_with(tmp_path, site, seed, every):
    kill_and_finish(tmp_path, site, kills=4, seed=seed, every=every)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_runs_killed_before_after_and_within_the_commit(tmp_path, site, seed):
    """At whatever moment: the store reads as it did or as it will, and the next run makes it whole."""
    rng, rows = random.Random(seed), rows_of(12)
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows)
    for number in range(8):
        with running(file, site):
            time.sleep(rng.random() * 0.25)
        for version in Pipeline.load(file).vectors.space("s").versions():
            assert list(verify(version)) == []
        if rng.random() < 0.5:
            rows = rows_of(number, 20) | {name: content for name, content in rows.items() if rng.random() < 0.9}
            write_rows(tmp_path / "rows", rows)
    rows["last"] = b"last"
    write_rows(tmp_path / "rows", rows)
    done = embed(file)
    check(done, rows)
    assert not folder_of(file).exists()
    space, models = tmp_path / "vectors/s", tmp_path / "vectors/_models/s"
    versions = Pipeline.load(file).vectors.space("s").versions()
    assert set(map(str, space.glob("v*/*"))) == {path for version in versions for path in version.files}
    assert {path.name for path in models.iterdir()} == {Path(version.manifest.model).name for version in versions}


@pytest.mark.slow
def test_a_run_killed_while_it_adds_to_a_version(tmp_path, site):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn, params: {slow: 0.003}"}, rows_of(20))
    first = embed(file)
    rows = {name: content for name, content in rows_of(60).items() if name != "r003"}
    write_rows(tmp_path / "rows", rows)
    killed(file, site, 6, 0.0, force=True)
    forced = set(kept(file))
    killed(file, site, 8, 0.0)
    held = sorted(set(kept(file)) - set(rows_of(20)) - forced)
    assert len(held) >= 6
    assert bits(first.version) == bits(Pipeline.load(file).vectors.find("s"))
    done = embed(file)
    check(done, rows)
    assert done.keys == first.keys and not set(done.encoded) & set(held)
    assert sorted([*done.encoded, *held]) == list(rows_of(40, 20))
