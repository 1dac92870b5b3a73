"""One Prefect server for all tests of a session, the command line in this process, and a plug-in that fails."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_users = 0
_stack = ExitStack()
_url = ""


@contextmanager
def shared_server(home: Path) -> Iterator[str]:
    """The address of a Prefect test server; started by the first user, stopped after the last.

    The heartbeat is off, because its thread makes each flow a second longer (docs/prefect.md).
    """
    global _users, _url
    if not _users:
        _url = _stack.enter_context(_server(home))
    _users += 1
    try:
        yield _url
    finally:
        _users -= 1
        if not _users:
            _stack.close()


@contextmanager
def _server(home: Path) -> Iterator[str]:
    from flows import settings

    os.environ["PREFECT_HOME"] = str(home)
    settings.apply(quiet=True)
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
        get_current_settings,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_HOME: home, PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}),
        prefect_test_harness(server_startup_timeout=90),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        url = get_current_settings().api.url
        assert url
        yield url


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def table(self) -> list[dict[str, str]]:
        """The tab-separated table that a command prints when nobody watches."""
        rows = [line.split("\t") for line in self.out.splitlines() if "\t" in line]
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


Cli = Callable[..., Answer]


def command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`polyvec ARGS` in `folder`, through the entry point, in this process."""

    def call(*args: str, at: Path = folder) -> Answer:
        from flows.cli.main import main

        monkeypatch.chdir(at)
        monkeypatch.setattr(sys, "argv", ["polyvec", *args])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        assert isinstance(code, int)
        return Answer(code, said.out, said.err)

    return call


PLUGIN = """
from typing import ClassVar
from embedders.graph.node2vec import Node2Vec

class Stumble(Node2Vec):
    kind: ClassVar[str] = "stumble"

    def fit(self, data, *, start=None, progress=None):
        raise RuntimeError("the plug-in stumbled")
"""


def write_plugin(folder: Path, name: str = "stumble", source: str = PLUGIN) -> Path:
    """A folder that, on Python's path, is an installed package with one embedder that fails."""
    info = folder / f"polyvec_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: polyvec-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[polyvec.embedders]\n{name} = polyvec_{name}:{name.title()}\n")
    (folder / f"polyvec_{name}.py").write_text(source)
    return folder


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    """Until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(0.02)
