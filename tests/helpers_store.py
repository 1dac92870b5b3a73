"""Small versions and pipelines for the tests of the store, the plan and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedders.base import Batch, Encoder, Vectors, silent
from embedders.data import Rejected
from embedders.graph.node2vec import Node2Vec, NodeVectors
from flows import steps
from flows.pipeline import Pipeline
from flows.plan import Plan, make_plan
from storage.space import Version
from storage.store import VectorStore
from storage.writer import Source, writing

AWKWARD = [
    "plain",
    "naïve café",
    "日本語",
    "😀👩‍👩‍👧",
    "tab\tand\nnewline",
    'it\'s "quoted", twice',
    "\\back",
    "",
    " ",
    "%20#?&",
]


def matrix_of(n: int, dim: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def encoder_of(ids: Sequence[str], matrix: np.ndarray | None = None, **params) -> NodeVectors:
    matrix = matrix_of(len(ids)) if matrix is None else matrix
    recipe = Node2Vec(dim=matrix.shape[1], **params)
    return NodeVectors(recipe, list(ids), matrix, np.zeros(len(ids), bool), mode={"threads": 1, "precision": "fp32"})


@dataclass(frozen=True, eq=False)
class Given(Encoder):
    """An encoder that answers the batches it is given."""

    batches: Sequence[Batch]
    width: int = 3

    @property
    def dim(self) -> int:
        return self.width

    def encode(self, data, *, progress=silent) -> Iterator[Batch]:
        yield from self.batches

    def arrays(self):
        return {"matrix": np.zeros((1, self.width), np.float32), "isolated": np.zeros(1, bool)}

    def texts(self):
        return {"ids": ["x"]}


def batch_of(ids: Sequence[str], seed: int = 0, **more) -> Batch:
    return Batch(Vectors("node", list(ids), matrix_of(len(ids), seed=seed)), **more)


def given(*batches: Batch) -> Given:
    return Given(Node2Vec(dim=3), batches, mode={"threads": 1})


def rejected(n: int, code: str = "broken_image") -> tuple[Rejected, ...]:
    return tuple(Rejected(f"bad{i}", f"folder/bad{i}.png", code, f"message {i}") for i in range(n))


def put(
    store: VectorStore,
    encoder: Encoder,
    *,
    space: str = "s",
    run: str | None = None,
    rows: int | None = None,
    replace: bool = False,
    **source,
) -> Version:
    """Commit what an encoder answers as the next version of a space."""
    answer = list(encoder.encode(None))
    rows = sum(len(b.vectors) + len(b.rejected) for b in answer) if rows is None else rows
    with writing(store.space(space), run or uuid.uuid4().hex[:8], wait=0, waiting=print) as writer:
        given_source = Source("d", source.pop("digest", "0" * 64), rows, source.pop("upstream", {}), **source)
        return writer.commit(given_source, encoder, answer, {}, time.monotonic(), replace=replace)


# Pipelines

PARAMS = {
    "word2vec": "dim: 8, epochs: 1, min_count: 1, threads: 1",
    "node2vec": "dim: 8, walks: 2, length: 8, window: 2, threads: 1",
}


def write_corpus(path: Path, seed: int = 0, lines: int = 60) -> None:
    rng = np.random.default_rng(seed)
    topics = ["king queen man woman crown".split(), "river boat water fish bank".split()]
    path.write_text("".join(" ".join(rng.choice(topics[i % 2], 8)) + "\n" for i in range(lines)), encoding="utf-8")


def write_edges(path: Path, size: int = 8) -> None:
    """Two cliques, joined by one edge."""
    sides = [[f"{side}{i}" for i in range(size)] for side in "ab"]
    edges = [(one, two) for side in sides for i, one in enumerate(side) for two in side[i + 1 :]] + [("a0", "b0")]
    path.write_text("".join(f"{one}\t{two}\n" for one, two in edges), encoding="utf-8")


def write_labels(path: Path, size: int = 8) -> None:
    path.write_text(
        "id\tlabel\n" + "".join(f"{side}{i}\t{side}\n" for side in "ab" for i in range(size)), encoding="utf-8"
    )


PIPELINE = f"""\
store: ./vectors
datasets:
  text: {{kind: corpus, path: text.txt}}
  links: {{kind: graph, edges: links.tsv}}
spaces:
  words: {{dataset: text, embedder: word2vec, params: {{{PARAMS["word2vec"]}}}}}
  nodes: {{dataset: links, embedder: node2vec, params: {{{PARAMS["node2vec"]}}}}}
evaluate:
  nodes: [{{name: side, metric: neighbours, path: labels.tsv, k: 3}}]
"""


def write_project(folder: Path, pipeline: str = PIPELINE) -> Path:
    """A pipeline file with a corpus, a graph and labels beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "text.txt")
    write_edges(folder / "links.tsv")
    write_labels(folder / "labels.tsv")
    (folder / "polyvec.yaml").write_text(pipeline, encoding="utf-8")
    for path in folder.iterdir():  # as if written an hour ago: digests of files just written are not kept
        os.utime(path, ns=(0, time.time_ns() - 3_600 * 10**9))
    return folder / "polyvec.yaml"


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def run_steps(
    file: Path, *, run: str | None = None, only: Sequence[str] = (), force: bool = False, replace: bool = False
) -> Plan:
    """What the flow does, as plain calls; returns the plan that was carried out."""
    pipeline = Pipeline.load(file)
    plan = make_plan(pipeline, only=only, force=force, replace=replace)
    versions, made = {}, {}
    for space in plan.spaces:
        if space.action == "embed":
            if space.entry not in made:
                name = run or uuid.uuid4().hex[:8]
                made[space.entry] = steps.embed(pipeline, space.entry, name, force=force, replace=replace)
            ref = made[space.entry][space.name]
        else:
            ref = steps.version_ref(space.latest, fresh=False)
        for name in space.evaluations:
            steps.evaluate_space(pipeline, ref, name)
        versions[space.name] = ref.version
    if not plan.released or any(space.action == "embed" for space in plan.spaces):
        steps.release(pipeline, versions, run or "run", promote=True)
    return plan


# Processes


def process(*args: str, cwd: Path, home: Path, url: str | None = None, **more) -> subprocess.Popen:
    """`polyvec ARGS` in a process of its own; Prefect's files go to `home`, its server is `url` or an embedded one."""
    return python("-m", "flows.cli.main", *args, cwd=cwd, home=home, url=url, **more)


def python(*args: str, cwd: Path, home: Path, url: str | None = None, **more) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "POLYVEC_"))}
    env = kept | {"PREFECT_HOME": str(home), "PYTHONUNBUFFERED": "1"} | ({"PREFECT_API_URL": url} if url else {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *args], cwd=cwd, env=env, text=True, **pipes, **more)
