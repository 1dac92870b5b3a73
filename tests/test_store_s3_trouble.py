"""A store in a bucket when things go wrong: damage, lost answers, refusals, silence, and writers on two machines."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from storage import bucket, delta, promotion, retention, tables
from storage.bucket import Bucket
from storage.errors import DamagedError, UnreachableError
from storage.store import VectorStore
from storage.verify import verify
from tests.flow_helpers import command_line
from tests.helpers_store import edit, encoder_of, matrix_of, put, python, run_steps, write_project

pytestmark = pytest.mark.usefixtures("address")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def store(address):
    return VectorStore(address)


def readers(version):
    again = VectorStore(str(version.paths.root)).space("s").version(version.number)
    yield lambda: again.ids
    yield lambda: again.matrix
    yield lambda: list(again.batches())


# Damage


def damaged(version, place: Bucket) -> None:
    """All who read it say so by name, and `verify` finds it."""
    for read in readers(version):
        with pytest.raises(DamagedError) as caught:
            read()
        assert str(place) in str(caught.value)
    assert [finding.place for finding in verify(version)] == [str(place)]


def test_a_missing_part(store):
    version = put(store, encoder_of("ab"))
    version.parts[0].remove()
    damaged(version, version.parts[0])
    assert version.missing() == version.parts


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_part(store, kept):
    version = put(store, encoder_of("ab"))
    version.parts[0].write_bytes(version.parts[0].read_bytes()[:kept])
    damaged(version, version.parts[0])
    assert version.missing() == version.parts


@pytest.mark.parametrize("what", ["part", "model"])
def test_a_flipped_byte_is_found(store, what):
    version = put(store, encoder_of("ab"))
    place = version.parts[0] if what == "part" else store.root / version.manifest.model / "weights.safetensors"
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(bytes(content))
    [finding] = verify(version)
    assert finding.place == str(place) and "another digest" in finding.problem


def test_a_missing_model(store):
    version = put(store, encoder_of("ab"))
    model = store.root / version.manifest.model
    model.remove()
    with pytest.raises(Exception, match=r"encoder\.json") as caught:
        version.encoder()
    assert caught.value.exit_code
    assert {finding.problem for finding in verify(version)} == {"is missing"}


def test_damaged_logs(store):
    put(store, encoder_of("ab"))
    tables.record_metrics(store.paths, "s", 1, "e", "f", [("m", 1.0, None, None)], {})
    [part] = [place for place in store.paths.metrics.iterdir() if place.name.endswith(".parquet")]
    part.write_bytes(b"no parquet")
    with pytest.raises(DamagedError, match="_metrics cannot be read"):
        store.metrics(store.find("s"))
    (store.space("s").folder / "_delta_log" / f"{0:020}.json").write_bytes(b"no json")
    with pytest.raises(DamagedError, match=r"00000\.json cannot be read"):
        store.find("s")


# Answers that get lost


@pytest.mark.parametrize("before", [0, 1])
def test_a_commit_whose_answer_is_lost_stands(store, s3, before):
    for _ in range(before):
        put(store, encoder_of("ab"))
    s3.fail(f"PUT .*{store.root.name}/s/_delta_log/0*{before}.json", times=1, done=True)
    version = put(store, encoder_of("xy", matrix_of(2, seed=1)))
    assert version.number == before + 1
    assert list(verify(store.find("s"))) == []
    assert np.array_equal(store.find("s").matrix, matrix_of(2, seed=1))


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("done", [True, False])
def test_a_commit_that_is_never_answered_takes_nothing_away(store, s3, monkeypatch, before, done):
    """Whether it stands is not known, so that its files have to stay; if it does not, they go with time."""
    for _ in range(before):
        put(store, encoder_of("ab"))
    monkeypatch.setitem(bucket.PATIENCE, "max_retries", "1")
    s3.fail(f"PUT .*{store.root.name}/s/_delta_log/0*{before}.json", times=100, done=done)
    with pytest.raises(UnreachableError):
        put(store, encoder_of("xy", matrix_of(2, seed=1)), run="lost")
    s3.heal()
    made = before + done
    assert [version.number for version in store.space("s").versions()] == list(range(1, made + 1))
    monkeypatch.setattr(retention, "AGE", -60.0)
    left = {one.place.parent.name for one in retention.garbage(store.space("s"))}
    assert {name.partition("-")[2] for name in left} == (set() if done else {"lost", f"v{before + 1}-lost"})
    again = put(store, encoder_of("z"))
    assert again.number == made + 1
    assert all(list(verify(version)) == [] for version in store.space("s").versions())


def test_rows_of_logs_whose_answers_are_lost_are_there_once(store, s3):
    put(store, encoder_of("ab"))
    for number in range(2):
        for log in ("_metrics", "_releases"):
            s3.fail(f"PUT .*{store.root.name}/{log}/_delta_log/0*{number}.json", times=1, done=True)
        tables.record_metrics(store.paths, "s", 1, "e", "f", [(f"m{number}", 1.0, None, None)], {})
        promotion.commit(store.paths, {"s": 1}, f"run{number}")
    assert [row["metric"] for row in store.metrics(store.find("s"))] == ["m0", "m1"]
    assert [(release.number, release.run) for release in store.releases()] == [(1, "run0"), (2, "run1")]


@pytest.mark.parametrize("match", ["GET .*/part-", "PUT .*/part-", "list-type"])
def test_a_hiccup_is_tried_again(store, s3, match):
    put(store, encoder_of("ab"))
    s3.fail(match, times=1, done=False)
    put(store, encoder_of("xy"))
    s3.fail(match, times=1, done=False)
    assert store.find("s").ids.tolist() == ["x", "y"]


# No answers, or refusals


@pytest.fixture(params=["no bucket", "wrong key", "no server"])
def elsewhere(request, address, monkeypatch):
    if request.param == "no bucket":
        return "s3://there-is-no-such-bucket/x"
    if request.param == "wrong key":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    else:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    return address


def test_a_store_that_cannot_be_reached(elsewhere, request, tmp_path, monkeypatch, capsys):
    store = VectorStore(elsewhere)
    with pytest.raises(UnreachableError, match="AWS_ENDPOINT_URL") as caught:
        put(store, encoder_of("ab"))
    assert elsewhere in str(caught.value) and caught.value.exit_code == 2
    edit(write_project(tmp_path), "./vectors", elsewhere)
    cli = command_line(tmp_path, monkeypatch, capsys)
    for command in ("run",) if "server" in request.node.name else ("ls", "run"):
        answer = cli(command)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(f"error: Got {elsewhere}") and "Traceback" not in answer.err


def test_a_store_that_refuses_is_not_a_damaged_one(store, monkeypatch):
    version = put(store, encoder_of("ab"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    asks = [
        lambda: version.ids,
        lambda: version.matrix,
        version.encoder,
        lambda: list(verify(version)),
        version.missing,
    ]
    for ask in (*asks, lambda: store.metrics(version), store.releases):
        with pytest.raises(UnreachableError):
            ask()


def test_a_server_that_fails_half_way_is_not_damage(store, s3):
    version = put(store, encoder_of("ab"))
    s3.fail("GET .*/part-", times=100, done=False)
    with pytest.raises(UnreachableError):
        _ = version.ids


def test_an_address_of_a_server_that_is_none(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(Exception, match="expected http://host:port") as caught:
        store.spaces()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("prefix", ["a%20b", "a?b", "a#b", "*", "[a]", "{a}", "a\\b", "a\nb"])
def test_prefixes_that_readers_would_take_for_something_else(prefix):
    with pytest.raises(Exception, match="expected none of") as caught:
        VectorStore(f"s3://bucket/{prefix}")
    assert caught.value.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["ls", "run", "put", "delta-rs"])
def test_a_server_that_says_nothing_is_given_up(store, tmp_path, monkeypatch, capsys, what):
    edit(write_project(tmp_path), "./vectors", str(store.root))
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        if what in ("put", "delta-rs"):
            with pytest.raises(UnreachableError):
                put(store, encoder_of("ab")) if what == "put" else delta.table(store.space("s").folder)
        else:
            assert command_line(tmp_path, monkeypatch, capsys)(what).code == 2
        assert time.monotonic() - started < 20


# Writers on two machines: processes that share no locks

RACER = """
import sys
from storage.errors import BusyError
from storage.store import VectorStore
from storage.writer import Source, writing
from tests.helpers_store import encoder_of, matrix_of
store, name, seed = VectorStore(sys.argv[1]), sys.argv[2], int(sys.argv[3])
encoder = encoder_of("ab", matrix_of(2, seed=seed))
for number in range(1, 1000):
    sys.stdin.readline() or sys.exit()
    with writing(store.space("s"), f"{name}{number}", wait=0, waiting=print) as writer:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            version = writer.commit(Source("d", "x", 2, {}), encoder, encoder.encode(None), {}, 0.0)
            print("won", version.number, flush=True)
        except BusyError as error:
            print("lost", error, flush=True)
"""

LOGGER = """
import sys
from storage import promotion, tables
from storage.store import VectorStore
from tests.helpers_store import batch_of, given, put, rejected

store, name, count = VectorStore(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    tables.record_metrics(store.paths, "s", 1, name, "f", [(f"{name}{number}", 1.0, None, None)], {})
    promotion.commit(store.paths, {"s": 1}, f"{name}{number}")
    put(store, given(batch_of("ab", rejected=rejected(number + 1))), space=name)
"""


@pytest.fixture
def machines(store, tmp_path, monkeypatch):
    """Starts two processes, each with a cache folder of its own, as if on another machine."""
    started = []

    def start(script: str, *args: object) -> list[subprocess.Popen]:
        for number, name in enumerate(("one", "two")):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
            given = [str(store.root), name, *map(str, args or (number,))]
            started.append(python("-c", script, *given, cwd=ROOT, home=tmp_path / name, stdin=subprocess.PIPE))
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def tell(processes: list[subprocess.Popen]) -> None:
    """Let them go on, at once."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def hear(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip() or pytest.fail(process.communicate()[1])


def race(store: VectorStore, machines, rounds: int) -> None:
    """In each round both begin from one base; one version comes of it, whole, and nothing of the loser stays."""
    both = machines(RACER)
    winners = []
    for number in range(1, rounds + 1):
        tell(both)
        assert [hear(process) for process in both] == ["ready", "ready"]
        tell(both)
        answers = [hear(process) for process in both]
        winner, loser = sorted((0, 1), key=lambda i: not answers[i].startswith("won"))
        assert answers[winner] == f"won {number}"
        assert answers[loser].startswith("lost Somebody else committed to 's'")
        winners.append(winner)
        version = store.find("s")
        assert (version.number, version.manifest.run) == (number, f"{('one', 'two')[winner]}{number}")
        assert version.matrix.tobytes() == matrix_of(2, seed=winner).tobytes()
    versions = store.space("s").versions()
    assert [version.number for version in versions] == list(range(1, rounds + 1))
    assert [finding for version in versions for finding in verify(version)] == []
    parts = {str(part) for version in versions for part in version.parts}
    models = {version.manifest.model.rpartition("/")[2] for version in versions}
    assert {str(place) for place, _, _ in store.space("s").folder.walk() if "/_delta_log/" not in str(place)} == parts
    assert {place.parent.name for place, _, _ in store.paths.models("s").walk()} == models
    assert put(store, encoder_of("z")).number == rounds + 1


def test_of_two_machines_that_write_one_space_one_wins(store, machines):
    race(store, machines, 3)


@pytest.mark.slow
def test_of_two_machines_that_write_one_space_one_wins_many_times(store, machines, s3):
    s3.requests()
    race(store, machines, 40)
    tried = Counter(asked for asked in s3.requests() if re.match(r"PUT .*/s/_delta_log/\d+\.json$", asked))
    assert max(tried.values()) == 2  # now and then both came to the door at once


def log_race(store: VectorStore, machines, count: int) -> None:
    """What both append to the logs is all there."""
    put(store, encoder_of("ab"))
    both = machines(LOGGER, count)
    assert [hear(process) for process in both] == ["ready", "ready"]
    tell(both)
    for process in both:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    names = sorted(f"{name}{number}" for name in ("one", "two") for number in range(count))
    assert sorted(row["metric"] for row in store.metrics(store.space("s").version(1))) == names
    assert [release.number for release in store.releases()] == list(range(1, 2 * count + 1))
    assert sorted(release.run for release in store.releases()) == names
    for name in ("one", "two"):
        version = store.space(name).version()
        assert (version.number, len(store.quarantine(version))) == (count, count)


def test_two_machines_append_to_the_logs(store, machines):
    log_race(store, machines, 2)


@pytest.mark.slow
def test_two_machines_append_to_the_logs_many_times(store, machines):
    log_race(store, machines, 15)


def test_a_run_goes_on_from_another_machines_version(store, tmp_path, monkeypatch):
    file = write_project(tmp_path)
    edit(file, "./vectors", str(store.root))
    run_steps(file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert all(space.idle for space in run_steps(file).spaces)
