"""Damaged logs, checkpoints and tables, and manifests from the future: told by name by every command that needs them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from flows.cli import work
from storage import delta
from storage.errors import DamagedError, NotFoundError
from storage.manifest import KEY
from storage.store import VectorStore
from tests.flow_helpers import Cli, command_line
from tests.helpers_faults import check_next_run, check_reads, next_round, run_round, write_project
from tests.helpers_incremental import installed
from tests.helpers_store import encoder_of, matrix_of, put, run_steps


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Iterator[Path]:
    with installed(tmp_path_factory.mktemp("plugin") / "site"):
        folder = tmp_path_factory.mktemp("faults") / "p"
        write_project(folder)
        for _ in range(3):
            run_round(folder)
        yield folder


@pytest.fixture
def project(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "p")


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Cli:
    def without_server(file: Path, *_: object, **__: object) -> None:
        run_steps(file)
        raise SystemExit(0)

    monkeypatch.setattr(work, "_run_flow", without_server)
    return command_line(tmp_path, monkeypatch, capsys)


# The damages


def log(folder: Path, table: str) -> list[Path]:
    return sorted((folder / "vectors" / table / "_delta_log").glob("*.json"))


def newest(folder: Path) -> Path:
    """The log entry that holds the newest version."""
    return next(path for path in reversed(log(folder, "rows")) if f'"{KEY}"' in path.read_text())


def live(folder: Path, table: str) -> Path:
    """A file that a table consists of."""
    return folder / "vectors" / table / delta.paths(folder / "vectors" / table)[0]


def checkpoint(folder: Path) -> Path:
    DeltaTable(str(folder / "vectors" / "rows")).create_checkpoint()
    [found] = (folder / "vectors" / "rows" / "_delta_log").glob("*.checkpoint.parquet")
    return found


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """A bit of the dataset's digest in the manifest: it stays one, and JSON."""
    content = bytearray(path.read_bytes())
    digest = re.search(rb"dataset_digest[^0-9a-f]+([0-9a-f]{64})", content)
    content[np.random.default_rng().integers(*digest.span(1))] ^= 1
    path.write_bytes(content)


def make_newer(path: Path) -> None:
    """The manifest as a later polyvec might write it."""
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    for action in actions:
        if info := action.get("commitInfo"):
            info[KEY] = json.dumps(json.loads(info[KEY]) | {"format": 2, "surprise": 1})
            info |= delta._sealed(info)
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


LOOK = ["plan", "ls", "show rows", "files rows", "log rows", "diff rows@1 rows@3", "explain rows r002", "search rows r002",
        "releases", "verify", "gc --dry-run"]  # fmt: skip
CHANGE = ["gc", "promote 2", "rollback", "run"]
NEEDS_LOG = {*LOOK, *CHANGE} - {"releases"}
NEEDS_RELEASES = {*LOOK, *CHANGE} - {"diff rows@1 rows@3", "explain rows r002"}
DAMAGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a log entry that is cut": (lambda folder: cut(newest(folder)), NEEDS_LOG),
    "a log entry that is empty": (lambda folder: empty(newest(folder)), NEEDS_LOG),
    "a log entry that is text": (lambda folder: newest(folder).write_text("no log\n"), NEEDS_LOG),
    "a log entry with a flipped bit": (lambda folder: flip(newest(folder)), NEEDS_LOG),
    "a manifest of a later polyvec": (lambda folder: make_newer(newest(folder)), NEEDS_LOG),
    "no newest log entry": (lambda folder: newest(folder).unlink(), {"show rows", "files rows", "search rows r002", "verify", "gc", "run"}),
    "no log entry in the middle": (lambda folder: log(folder, "rows")[1].unlink(), {"log rows", "verify", "gc --dry-run", "gc", "run"}),
    "no first log entry": (lambda folder: log(folder, "rows")[0].unlink(), {"verify", "run"}),
    "no log": (lambda folder: shutil.rmtree(folder / "vectors" / "rows" / "_delta_log"), {"verify", "gc", "run"}),
    "a checkpoint that is cut": (lambda folder: cut(checkpoint(folder)), {"verify", "run"}),
    "a checkpoint that is empty": (lambda folder: empty(checkpoint(folder)), {"verify", "run"}),
    "no checkpoint": (lambda folder: checkpoint(folder).unlink(), {"verify", "run"}),
}  # fmt: skip
for _table, _needs in {"_releases": NEEDS_RELEASES, "_metrics": {"plan", "show rows"}, "_quarantine": {"show rows", "run"}}.items():  # fmt: skip
    DAMAGES |= {
        f"{_table}: a file that is cut": (lambda folder, table=_table: cut(live(folder, table)), _needs),
        f"{_table}: a file that is missing": (lambda folder, table=_table: live(folder, table).unlink(), _needs),
        f"{_table}: a log entry that is cut": (lambda folder, table=_table: cut(log(folder, table)[-1]), _needs),
        f"{_table}: a log entry that is empty": (lambda folder, table=_table: empty(log(folder, table)[-1]), _needs),
    }


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a store but caches and locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in ("_cache", "_locks")
    }


OFTEN = {
    "a log entry that is empty", "a log entry with a flipped bit", "a manifest of a later polyvec", "no newest log entry",
    "a checkpoint that is cut", "_releases: a file that is cut", "_quarantine: a log entry that is empty",
}  # fmt: skip


@pytest.mark.parametrize(
    "damage", [pytest.param(damage, marks=() if damage in OFTEN else pytest.mark.slow) for damage in DAMAGES]
)
def test_a_damage_is_told_by_every_command_that_meets_it(project, cli, damage):
    """On one line, by name, with what to do; a run writes nothing over it."""
    do, told_by = DAMAGES[damage]
    do(project)
    for command in LOOK + CHANGE:
        if command == "run":
            next_round(project)
            before = tree(project / "vectors")
        answer = cli(*command.split(), at=project)
        skipped = command.startswith("gc") and ": skipped. " in answer.out  # gc goes on with other spaces
        assert command not in told_by or skipped or answer.code == 1, (command, answer)
        if answer.code == 1:
            told = answer.err[answer.err.index("error: ") :]
            assert "unexpected" not in told and len(told.splitlines()) == 1, (command, answer.err)
            assert "rows" in told or damage.split(":")[0] in told, (command, answer.err)
            assert "Restore" in told or "Upgrade polyvec" in told, (command, answer.err)
    if "run" in told_by:
        assert before.items() <= tree(project / "vectors").items()


def test_after_the_copy_is_back_the_next_run_goes_on(project, prepared, cli):
    shutil.rmtree(project / "vectors" / "rows" / "_delta_log")
    number = next_round(project)
    assert cli("run", at=project).code == 1
    shutil.copytree(prepared / "vectors/rows/_delta_log", project / "vectors/rows/_delta_log")
    assert check_reads(project) == number - 1
    check_next_run(project)


def test_a_damaged_checkpoint_can_be_deleted(project, cli):
    path = checkpoint(project)
    empty(path)
    next_round(project)
    assert "can be deleted, with _last_checkpoint" in cli("run", at=project).err
    path.unlink()
    (path.parent / "_last_checkpoint").unlink()
    check_next_run(project)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_version_is_never_taken_for_another(tmp_path, lost):
    """A log entry is lost, then everything that can be asked is asked."""
    store = VectorStore(tmp_path)
    for number in range(1, 5):
        put(store, encoder_of("ab", matrix_of(2, seed=number)))
    (store.space("s").folder / "_delta_log" / f"{lost:020d}.json").unlink()
    for number in range(1, 5):
        try:
            version = store.space("s").version(number)
            assert version.number == number
            assert np.array_equal(version.matrix, matrix_of(2, seed=number))
        except DamagedError as error:
            assert f"{lost:020d}.json" in str(error)
        except NotFoundError:
            assert number == lost + 1 == 4  # nothing came after it that could tell
