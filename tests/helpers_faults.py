"""A small project whose inputs change each round, processes that run its rounds until they are killed, and what must hold
afterwards.

Run as a module, it is a nursery: a process that has imported everything and forks a child for each line it reads.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from embedders.base import Encoder
from embedders.data import Graph
from embedders.graph.node2vec import Node2Vec
from flows.pipeline import Pipeline
from storage import delta, layout, logs, promotion, releases, retention, splice, tables, unfinished, writer
from storage.digests import DigestCache
from storage.errors import FullError
from storage.inputs.specs import GraphSpec
from storage.retention import Keep
from storage.space import Version
from storage.store import VectorStore
from storage.verify import verify
from tests.helpers_incremental import BAD, Hashed, bits
from tests.helpers_store import PARAMS, run_steps, write_edges, write_labels

REPO = Path(__file__).resolve().parents[1]
PIPELINE = f"""\
store: ./vectors
keep: {{versions: 2}}
datasets:
  files: {{kind: images, path: rows, id: stem}}
  links: {{kind: graph, edges: links.tsv}}
spaces:
  rows: {{dataset: files, embedder: hashed, params: {{batch_size: 8}}}}
  nodes: {{dataset: links, embedder: node2vec, params: {{{PARAMS["node2vec"]}}}}}
evaluate:
  nodes: [{{name: side, metric: neighbours, path: labels.tsv, k: 3}}]
"""

# The project


def write_project(folder: Path) -> Path:
    """The pipeline file, and the inputs of round 0."""
    (folder / "rows").mkdir(parents=True)
    (folder / "polyvec.yaml").write_text(PIPELINE, encoding="utf-8")
    write_labels(folder / "labels.tsv")
    write_inputs(folder, 0)
    return folder / "polyvec.yaml"


def rows_of(number: int) -> dict[str, bytes]:
    """The files of a round: a few come, go, change, are renamed; two cannot be embedded."""
    kept = {f"r{i:03d}": b"content %d" % i for i in range(60) if (i + number) % 7}
    changed = {f"r{i:03d}": b"content %d of %d" % (i, number) for i in range(number % 3, 60, 9)}
    bad = {f"r{i:03d}": BAD + b" %d" % number for i in (number % 11, 20 + number % 5)}
    return kept | changed | bad | {f"new{number}": b"content 8"}


def size_of(number: int) -> int:
    """The size of the graph's cliques in a round; never that of the round before."""
    return 6 + number % 3


def write_inputs(folder: Path, number: int) -> None:
    """Make the files those of a round."""
    rows = rows_of(number)
    for path in (folder / "rows").iterdir():
        if path.stem not in rows:
            path.unlink()
    for name, content in rows.items():
        path = folder / "rows" / f"{name}.png"
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    write_edges(folder / "links.tsv", size_of(number))


def next_round(folder: Path) -> int:
    """A number that no round had; written down before anything of the round is done."""
    number = 1 + max((int(path.name) for path in (folder / "rounds").glob("*")), default=-1)
    (folder / "rounds").mkdir(exist_ok=True)
    (folder / "rounds" / str(number)).touch()
    write_inputs(folder, number)
    return number


def run_round(folder: Path) -> int:
    """Inputs change, all is embedded, judged and released."""
    number = next_round(folder)
    run_steps(folder / "polyvec.yaml", run=f"round-{number}")
    return number


@cache
def nodes_of(size: int, folder: Path) -> dict[str, bytes]:
    """Each node of a graph with the bytes of its vector: with one thread and one seed, always the same."""
    path = folder / f"expected-{size}.tsv"
    write_edges(path, size)
    spec = GraphSpec(kind="graph", edges=str(path))
    recipe = Pipeline.load(folder / "polyvec.yaml").recipe("nodes")
    assert isinstance(recipe, Node2Vec)
    data = spec.read(spec.scan(folder, DigestCache(folder)))
    found = [batch.vectors for batch in recipe.fit(data).encode(data)]
    return {name: row.tobytes() for one in found for name, row in zip(one.ids, one.matrix, strict=True)}


def expected(folder: Path, version: Version, number: int) -> dict[str, bytes]:
    """What a version of a round must hold: each id with the bytes of its vector."""
    if version.manifest.space == "nodes":
        return nodes_of(size_of(number), folder)
    encoder = Hashed.model_validate(version.manifest.recipe.params).fit(None)
    rows = {name: content for name, content in rows_of(number).items() if not content.startswith(BAD)}
    return {name: encoder.vector(content).tobytes() for name, content in rows.items()}


# What must hold


def round_of(run: str) -> int:
    """The round of a run of `run_round`."""
    return int(run.partition("-")[2])


def check_reads(folder: Path, *, told: int = -1, number_of: Callable[[str], int] = round_of) -> int:
    """The store opens; the last release reads, whole and right; what is released and what is newest is as written.

    told : the last round that said it was released. number_of : the round of a run.

    Returns
    -------
    The round of the last release; -1 where there is none.
    """
    store = VectorStore(folder / "vectors")
    state = releases.read(store.paths)
    if not state.releases:
        assert told == -1
        return -1
    last = state.releases[-1]
    number = number_of(last.run)
    assert number >= told
    assert state.pointers == {"production": last.number}
    assert [release.number for release in state.releases] == list(range(1, last.number + 1))
    assert set(last.spaces) == {"rows", "nodes"}
    for name, held in last.spaces.items():
        version = store.space(name).version(held)
        assert version.number == store.find(name).number == held
        assert bits(version) == expected(folder, version, number), name
        check_version(version)
        check_version(store.find(f"{name}@latest"))
    return number


def check_version(version: Version) -> None:
    """It is what was written, reads by every way of reading, and is what a full rebuild gives."""
    assert list(verify(version)) == []
    found = version.table(["id", "vector"])
    assert np.array_equal(np.array(found["vector"].to_pylist(), np.float32), version.matrix)
    assert found["id"].to_pylist() == version.ids.tolist()
    assert version.encoder().dim == version.dim


def check_next_run(folder: Path) -> None:
    """The next run finishes and releases; then no file is left that nothing needs."""
    number = run_round(folder)
    assert check_reads(folder) == number
    store = VectorStore(folder / "vectors")
    for space in map(store.space, ("rows", "nodes")):
        rejected = {row["id"] for row in store.quarantine(space.version("latest"))}
        bad = {name for name, content in rows_of(number).items() if content.startswith(BAD)}
        assert rejected == (bad if space.name == "rows" else set())
    nodes = store.find("nodes")
    assert [row["metric"] for row in store.metrics(nodes)].count("precision") <= 1
    assert store.metrics(nodes)
    collect(store)
    for space in map(store.space, ("rows", "nodes")):
        numbers = [version.number for version in space.versions()]
        newest = numbers[-1]
        protected = releases.read(store.paths).protected()[space.name]
        assert numbers == sorted({max(1, newest - 1), newest} | protected), space.name
    assert unaccounted(store) == []
    assert check_reads(folder) == number


def collect(store: VectorStore) -> None:
    """`gc` as if everything had lain there for weeks; afterwards there is nothing more to clear away."""
    before = retention.READERS
    retention.READERS = 0.0
    try:
        old = time.time() - 30 * 24 * 3600
        for path in store.root.rglob("*"):
            if path.is_file():
                os.utime(path, (old, old))
        for name in retention.spaces_ever(store.paths):
            retention.collect(store.space(name), Keep(versions=2), abandoned=True)
        retention.collect_logs(store.paths)
        assert retention.log_garbage(store.paths) == []
        assert all(retention.garbage(store.space(name)) == [] for name in store.spaces())
    finally:
        retention.READERS = before


LOG = re.compile(r"\d{20}\.(json|checkpoint\.parquet)|_last_checkpoint")


def unaccounted(store: VectorStore) -> list[str]:
    """Files of a store of which nobody can say what they are for."""
    known = {store.root / "_cache" / "digests.sqlite", store.root / "_locks" / "_releases.lock"}
    for space in map(store.space, store.spaces()):
        for version in space.versions():
            known |= {Path(file) for file in version.files}
            known |= {store.root / version.manifest.model / name for name in version.manifest.model_files}
        known.add(store.paths.lock(space.name))
    for folder in (store.paths.metrics, store.paths.quarantine, store.paths.releases):
        if delta.is_table(folder):
            known |= {folder / name for name in delta.paths(folder)}
    found = [path for path in store.root.rglob("*") if path.is_file() and path not in known]
    lost = [path for path in known if not path.is_file() and path.parent.name not in ("_cache", "_locks")]
    assert not lost, lost
    return sorted(
        str(path.relative_to(store.root))
        for path in found
        if not (path.parent.name == "_delta_log" and LOG.fullmatch(path.name))
        and path.relative_to(store.root).parts[0] != "_reports"
    )


# Where a child is: it writes the name of the step into a file that it shares with who watches it

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
            [sys.executable, "-m", "tests.helpers_faults"], cwd=REPO, env=env, stdin=pipe, stdout=pipe, text=True
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
    from evaluation import neighbours  # noqa: F401  (what the steps import late)

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
