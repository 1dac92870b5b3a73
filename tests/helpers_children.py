"""Processes that run rounds of the project of `helpers_faults` until they are killed, die, or have no room to write.

Run as a module, it is a nursery: a process that has imported everything and forks a child for each line it reads.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import mmap
import os
import re
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedders.base import Encoder
from embedders.data import Graph
from embedders.graph.node2vec import Node2Vec
from storage import delta, layout, logs, promotion, retention, splice, tables, unfinished, writer
from storage.errors import FullError
from storage.store import VectorStore
from tests.helpers_faults import REPO, collect, run_round

# Where a child is: it writes the name of the step it is at into a file that it shares with who watches it

STEPS: dict[str, tuple[Any, str]] = {
    "parts": (writer, "write_parts"),
    "unfinished": (unfinished.Unfinished, "_write"),
    "hold": (tables, "hold"),
    "model": (writer, "save_model"),
    "commit": (delta, "commit"),
    "settle": (tables, "settle"),
    "clear": (unfinished.Unfinished, "clear"),
    "retire": (delta, "retire"),
    "sweep": (retention, "sweep"),
    "metrics": (tables, "record_metrics"),
    "release": (promotion, "commit"),
    "compact": (logs, "compact"),
}
WIDTH = 32


class Where:
    """The step a child is in. path: of the shared file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(WIDTH))
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), WIDTH)

    @property
    def step(self) -> str:
        return self.memory[:].rstrip(b"\0").decode()

    @step.setter
    def step(self, name: str) -> None:
        self.memory[:] = name.encode().ljust(WIDTH, b"\0")

    def watch(self) -> None:
        """Let each of STEPS say when it is at work."""
        for name, (owner, attribute) in STEPS.items():
            setattr(owner, attribute, self._told(name, getattr(owner, attribute)))

    def _told(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            before, self.step = self.step, name
            try:
                return function(*args, **more)
            finally:
                self.step = before

        return call


def rounds(folder: Path) -> None:
    """One round after the other, until killed; rows are kept from each batch, logs compacted soon, garbage collected."""
    unfinished.EVERY, logs.FILES = 0.0, 3
    place = Where(folder / "where")
    place.watch()
    while True:
        place.step = "between"
        number = run_round(folder)
        (folder / "told").write_text(str(number))
        if number % 3 == 0:
            collect(VectorStore(folder / "vectors"))


# Deaths at a named moment

STATUS = 9


def die(*_args: Any, **_more: Any) -> None:
    """The process ends without a word: nothing is flushed, nothing is cleared up."""
    os._exit(STATUS)


def dying(function: Callable[..., Any], calls: int = 1) -> Callable[..., Any]:
    """The function, and death after so many calls of it."""
    left = itertools.count(calls - 1, -1)

    def call(*args: Any, **more: Any) -> Any:
        answer = function(*args, **more)
        if not next(left):
            die()
        return answer

    return call


def _half_a_part(*args: Any, **more: Any) -> None:
    out: Callable[[Any], Any] = args[4]
    splice.write_spliced(*args[:4], lambda piece: (out(memoryview(piece)[: len(piece) // 2 + 1]), die()), **more)


def _half_a_model(encoder: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"half of it")
    die()


HALVES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "half a part": (layout, "write_spliced", _half_a_part),
    "half of the parts": (layout, "write_part", dying(layout.write_part, 2)),
    "half a model": (Encoder, "save", _half_a_model),
    "a part of rows cut off, not named yet": (unfinished, "write_part", dying(unfinished.write_part)),
    "half of the sweep": (retention, "remove", dying(retention.remove, 2)),
    "half of the quarantine": (logs, "replace", die),
}
DEATHS = [f"{when} {step}" for step in STEPS for when in ("before", "after")] + list(HALVES)


def death(folder: Path, moment: str) -> None:
    """One round that ends at a moment of DEATHS."""
    unfinished.EVERY, logs.FILES, layout.ROWS_PER_FILE = 0.0, 3, 20
    if moment in HALVES:
        owner, attribute, function = HALVES[moment]
    else:
        when, _, step = moment.partition(" ")
        owner, attribute = STEPS[step]
        function = die if when == "before" else dying(getattr(owner, attribute))
    setattr(owner, attribute, function)
    run_round(folder)


# Full disks


@contextlib.contextmanager
def at(step: str, before: Callable[[], None]) -> Iterator[None]:
    """Something happens whenever one of STEPS begins."""
    owner, attribute = STEPS[step]

    def call(*args: Any, **more: Any) -> Any:
        before()
        return function(*args, **more)

    function = getattr(owner, attribute)
    setattr(owner, attribute, call)
    try:
        yield
    finally:
        setattr(owner, attribute, function)


FULL = 7


def without_room(folder: Path, step: str) -> None:
    """One round in which no file can be written any more once a step has begun; ends with FULL where that is told."""
    unfinished.EVERY, logs.FILES = 0.0, 3
    none = (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1])  # the kernel refuses all bytes, as a full disk does
    with at(step, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, none)):
        try:
            run_round(folder)
        except FullError as error:
            assert re.fullmatch(r"Got a full disk at .*/vectors.* Make room there, then run again\.", str(error)), error
            os._exit(FULL)


# The nursery


class Child:
    """A forked process. kill: at once; the exit status, negative for a signal."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid, self.nursery = pid, nursery

    def kill(self) -> int:
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        line = self.nursery.process.stdout.readline()
        return os.waitstatus_to_exitcode(int(line))


class Nursery:
    """Forks processes that have everything imported, one at a time."""

    def __init__(self, site: Path) -> None:
        pipe = subprocess.PIPE
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (site, REPO)))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers_children"], cwd=REPO, env=env, stdin=pipe, stdout=pipe, text=True
        )

    def child(self, what: str, folder: Path, *args: str) -> Child:
        self.process.stdin.write(json.dumps([what, str(folder), *args]) + "\n")
        self.process.stdin.flush()
        return Child(int(self.process.stdout.readline()), self)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@contextlib.contextmanager
def nursery(site: Path) -> Iterator[Nursery]:
    """A nursery. site : a folder of `helpers_incremental.installed`."""
    made = Nursery(site)
    try:
        yield made
    finally:
        made.close()


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _main() -> None:
    for late in ("evaluation.neighbours", "embedders.labels", "pandas", "ruamel.yaml", "safetensors.numpy"):
        importlib.import_module(late)  # what a first round would import
    data = Graph.from_edges(["a", "b", "c"], np.array([0, 1]), np.array([1, 2]))
    Node2Vec(dim=8, walks=2, length=8, window=2, threads=1).fit(data)  # loads the kernels, and leaves no thread behind
    jobs: dict[str, Callable[..., None]] = {"rounds": rounds, "death": death, "without_room": without_room}
    for line in sys.stdin:
        what, folder, *args = json.loads(line)
        if pid := os.fork():
            _say(pid)
            _say(os.waitpid(pid, 0)[1])
            continue
        try:
            jobs[what](Path(folder), *args)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)


if __name__ == "__main__":
    _main()
