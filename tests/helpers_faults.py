"""A small project whose inputs change each round, and what must hold after whatever happened in a round."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from embedders.data import Graph
from embedders.graph.node2vec import Node2Vec
from flows.pipeline import Pipeline
from storage import delta, releases, retention
from storage.digests import DigestCache
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
  nodes: {{dataset: links, embedder: node2vec, warm_start: false, params: {{{PARAMS["node2vec"]}}}}}
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
    data = spec.read(spec.scan(folder, DigestCache(folder)), Graph, cache=folder)
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
        assert all(list(verify(one)) == [] for one in store.space(name).versions())
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
