"""Disks that are full or read-only, and names that would lead elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import VectorStore
from tests.flow_helpers import Cli, command_line, shared_server
from tests.helpers_children import FULL, STEPS, at
from tests.helpers_faults import check_next_run, check_reads, next_round, run_round, unaccounted, write_project

pytestmark = pytest.mark.usefixtures("site")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, site) -> Path:
    """A project after three rounds, so that there is something to retire and to take over."""
    folder = tmp_path_factory.mktemp("faults") / "p"
    write_project(folder)
    for _ in range(3):
        run_round(folder)
    return folder


@pytest.fixture
def project(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "p")


@contextlib.contextmanager
def mounted(place: Path, *command: str) -> Iterator[None]:
    """Something mounted at `place` for the while; skips where that is not permitted."""
    done = subprocess.run(["mount", *command, str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# Full


def half_made(folder: Path) -> list[str]:
    """Files of no version; what log tables wrote stands until readers are done with it, rows of a cut-off encode stay."""
    kept = ("_metrics/", "_quarantine/", "_releases/", "_cache/unfinished/")
    return [path for path in unaccounted(VectorStore(folder / "vectors")) if not path.startswith(kept)]


OFTEN = {"parts", "hold", "commit", "release"}


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=() if step in OFTEN else pytest.mark.slow) for step in STEPS]
)
def test_no_room_from_a_step_on(children, project, step):
    before = check_reads(project)
    assert children.child("without_room", project, step).wait() == FULL
    assert check_reads(project) == before
    assert half_made(project) == []
    check_next_run(project)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Cli:
    return command_line(tmp_path, monkeypatch, capsys)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while ballast.write(bytes(size)) == size:
                    pass


@pytest.mark.slow
@pytest.mark.parametrize("step", ["commit", "release"])
def test_a_run_on_a_full_disk_says_so(prepared, tmp_path, cli, step):
    disk, home = tmp_path / "disk", tmp_path / "home"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=16m", "tmpfs"), shared_server(home):
        folder = shutil.copytree(prepared, disk / "p")
        before = check_reads(folder)
        number = next_round(folder)
        with at(step, lambda: fill(disk)):
            answer = cli("run", at=folder)
        assert answer.code == 1
        told = answer.err[answer.err.index("error: ") :].splitlines()
        assert told[0].startswith(f"error: {'release' if step == 'release' else 'rows'}: Got a full disk at {folder}")
        assert all(": Got a full disk at " in line for line in told), told
        assert "Traceback" not in answer.err
        assert check_reads(folder) == before
        assert cli("ls", at=folder).code == cli("verify", at=folder).code == 0
        (disk / "ballast").unlink()
        answer = cli("run", at=folder)
        assert answer.code == 0, answer.err
        assert check_reads(folder, number_of=lambda run: number) == number


def test_garbage_is_collected_from_a_full_disk(prepared, tmp_path, cli):
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=16m", "tmpfs"):
        folder = shutil.copytree(prepared, disk / "p")
        orphan = folder / "vectors" / "rows" / "v00009-dead" / "part-00000.parquet"
        orphan.parent.mkdir()
        orphan.write_bytes(bytes(5 << 20))
        fill(disk)
        answer = cli(
            "gc", at=folder
        )  # of the first space, nodes, versions are to be taken out, for which there is no room yet
        assert "nodes: skipped. Got a full disk" in answer.out
        assert not orphan.parent.exists()
        answer = cli("gc", at=folder)
        assert (answer.code, "skipped" in answer.out) == (0, False), answer
        assert cli("verify", at=folder).code == 0


# Read-only


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder without the right to write; for root, whom rights do not bind, as a read-only mount."""
    rights = {place: place.stat().st_mode for place in [folder, *folder.rglob("*")]}
    try:
        for place, mode in rights.items():
            place.chmod(mode & ~0o222)
        if not os.access(folder, os.W_OK):
            yield
            return
    finally:
        for place, mode in rights.items():
            place.chmod(mode)
    with mounted(folder, "--bind", str(folder)):
        done = subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a mount cannot be made read-only here: {done.stderr.strip()}")
        yield


LOOK = [
    ["plan"],
    ["ls"],
    ["show", "rows"],
    ["show", "rows@latest", "--quarantine"],
    ["files", "nodes"],
    ["log", "rows"],
    ["diff", "rows@2", "rows@3"],
    ["explain", "rows", "r005"],
    ["search", "nodes", "a0"],
    ["releases"],
    ["verify"],
    ["gc", "--dry-run"],
    ["export", "rows", "--format", "npy", "--to", "../out"],
]
CHANGE = [["run"], ["gc"], ["promote", "1"], ["rollback"]]


def test_a_store_that_can_only_be_read(project, cli):
    store = VectorStore(project / "vectors")
    next_round(project)
    with read_only(store.root):
        for command in LOOK:
            answer = cli(*command, at=project)
            assert answer.code == 0 and "error" not in answer.err, (command, answer)
        for command in CHANGE:
            answer = cli(*command, at=project)
            assert answer.code == 2, (command, answer)
            assert answer.err.startswith(f"error: Got the store path '{store.root}', which cannot be written (")
            assert len(answer.err.splitlines()) == 1
        assert len(store.find("rows").matrix) == len(store.find("rows"))
        check_reads(project)
    check_next_run(project)
