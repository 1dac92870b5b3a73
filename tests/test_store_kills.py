"""kill -9 at any moment of a run: the store opens, the last release reads, the next run finishes, nothing is left over."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.helpers_children import DEATHS, STATUS, STEPS, Nursery, Where
from tests.helpers_faults import REPO, check_next_run, check_reads, next_round, round_of, run_round, write_project
from tests.helpers_store import edit, process

pytestmark = pytest.mark.usefixtures("site")


def told(folder: Path) -> int:
    path = folder / "told"
    return int(path.read_text() or -1) if path.exists() else -1


def kill_in(children: Nursery, folder: Path, step: str | None, rng: np.random.Generator) -> str:
    """Let rounds run and kill them: at a random moment, or soon after `step` began; where it was."""
    place = Where(folder / "where")
    place.step = ""
    child = children.child("rounds", folder)
    end = time.monotonic() + 60
    while (place.step != step) if step else (place.step in ("", "between")):
        assert time.monotonic() < end, f"never came to {step}"
        time.sleep(0.0001)
    time.sleep(rng.uniform(0, 0.004) if step else rng.uniform(0, 0.5))
    assert child.kill() == -signal.SIGKILL
    return place.step


def kill_and_check(children: Nursery, folder: Path, steps: list[str | None]) -> Counter[str]:
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    hit: Counter[str] = Counter()
    write_project(folder)
    for step in steps:
        where = kill_in(children, folder, step, rng)
        hit[where] += 1
        check_reads(folder, told=told(folder))
        check_next_run(folder)
    return hit


def test_killed_a_few_times(children, tmp_path):
    kill_and_check(children, tmp_path / "p", [None, "parts", "commit", "release"])


@pytest.mark.slow
def test_killed_many_times(children, tmp_path):
    """26 kills at any moment, 24 soon after a step began."""
    hit = kill_and_check(children, tmp_path / "p", [*[None] * 26, *list(STEPS) * 2])
    assert len(hit) > 6, hit
    sys.stdout.write(f"hit {dict(hit)}\n")  # pytest -rP shows it


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, site) -> Path:
    """A project after three rounds, so that there is something to retire and to take over."""
    folder = tmp_path_factory.mktemp("faults") / "p"
    write_project(folder)
    for _ in range(3):
        run_round(folder)
    return folder


OFTEN = {
    "half a part",
    "half a model",
    "after hold",
    "after commit",
    "after retire",
    "half of the sweep",
    "before release",
}


@pytest.mark.parametrize(
    "moment", [pytest.param(moment, marks=() if moment in OFTEN else pytest.mark.slow) for moment in DEATHS]
)
def test_a_death_at_a_moment_of_a_run(children, prepared, tmp_path, moment):
    """Not at random: the process ends without a word (os._exit) at the named moment."""
    folder = tmp_path / "p"
    shutil.copytree(prepared, folder)
    if moment.endswith("model"):  # a new recipe is learned anew
        edit(folder / "polyvec.yaml", "batch_size: 8", "batch_size: 8, seed: 1")
    before = check_reads(folder)
    assert children.child("death", folder, moment).wait() == STATUS
    assert check_reads(folder) == before + (moment == "after release")
    check_next_run(folder)


# Through the flow, with its server


def run_and_kill(folder: Path, home: Path, ready: Callable[[], bool], rest: float) -> int | None:
    """`polyvec run` as a process of its own, killed `rest` seconds after something is so; None where it ended before."""
    with process("run", cwd=folder, home=home, start_new_session=True) as started:
        try:
            end = time.monotonic() + 120
            while not ready() and started.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.001)
            time.sleep(rest)
            if started.poll() is None:
                started.kill()
            out, err = started.communicate(timeout=60) if started.poll() == 0 else ("", "")
            assert started.wait(60) in (0, -signal.SIGKILL), out + err
            return started.returncode
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # the embedded server, which a kill leaves behind


@pytest.mark.slow
def test_the_flow_killed_at_random_moments(site, tmp_path, monkeypatch):
    """Soon after it writes a lock, a part, a model, a commit of a space or of the quarantine, a release."""
    folder, rng = tmp_path / "p", np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (site, REPO))))
    write_project(folder)
    vectors, rounds = folder / "vectors", {"": -1}
    killed = 0
    for pattern in ("_locks/rows.json", "rows/v*", "_models/*/*", "*/_delta_log/*", "_quarantine/*", "_releases/*/*"):
        run_round(folder)
        number = next_round(folder)
        before = set(vectors.glob(pattern))
        code = run_and_kill(
            folder, tmp_path / "home", lambda before=before, pattern=pattern: not before >= set(vectors.glob(pattern)),
            rng.uniform(0, 0.05),
        )  # fmt: skip
        killed += code != 0

        def number_of(run: str, number: int = number) -> int:
            return round_of(run) if run.startswith("round-") else rounds.setdefault(run, number)

        check_reads(folder, number_of=number_of)
    sys.stdout.write(f"killed {killed} of 6 flows\n")
    assert killed > 3
    check_next_run(folder)
    number = next_round(folder)
    assert run_and_kill(folder, tmp_path / "home", lambda: False, 0) == 0
    assert check_reads(folder, number_of=lambda run: number) == number
