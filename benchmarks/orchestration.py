"""What Prefect costs: one pipeline as plain functions and as `polyvec run`, in whole fresh processes.

The plain process calls the same steps in order, the report included. The flow runs on a server that is up already, on
its embedded server with an existing database, and on a fresh database. Every run starts from an empty store.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row

PIPELINE = """\
store: ./vectors
datasets:
  articles: {kind: corpus, path: data/articles.txt}
  links: {kind: graph, edges: data/links.tsv, columns: {source: source, target: target}}
spaces:
  words: {dataset: articles, embedder: word2vec, params: {dim: 64, epochs: 5, threads: 1}}
  nodes: {dataset: links, embedder: node2vec, params: {dim: 64, walks: 10, length: 40, threads: 1}}
evaluate:
  words: [{name: pairs, metric: word_similarity, path: data/pairs.tsv}]
  nodes: [{name: community, metric: label_probe, path: data/labels.tsv, id: id, label: label}]
"""
COMMUNITIES = 5
UP = 120.0  # seconds a server may take to start
TOO_LONG = 600.0


def write_pipeline(folder: Path, scale: int) -> Path:
    """A pipeline file with a corpus and a graph of known communities; `scale` is about seconds of learning."""
    rng = np.random.default_rng(0)
    data = folder / "data"
    data.mkdir(parents=True)
    write_corpus(data, rng, 4000 * scale)
    write_graph(data, rng, 1000 * scale)
    path = folder / "polyvec.yaml"
    path.write_text(PIPELINE, encoding="utf-8")
    return path


def write_corpus(data: Path, rng: np.random.Generator, documents: int) -> None:
    """Documents of 50 words, each about one topic; pairs of words of one topic or of two."""
    topics = rng.integers(COMMUNITIES, size=documents)
    words = rng.zipf(1.3, size=(documents, 50)) % 400
    text = [" ".join(f"topic{topic}word{word}" for word in row) for topic, row in zip(topics, words, strict=True)]
    (data / "articles.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    drawn = rng.integers(COMMUNITIES, size=(200, 2))
    pairs = [
        f"topic{a}word{i % 10 + 1}\ttopic{b}word{i % 7 + 2}\t{9 if a == b else 1}" for i, (a, b) in enumerate(drawn)
    ]
    (data / "pairs.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")


def write_graph(data: Path, rng: np.random.Generator, nodes: int) -> None:
    """A graph in which most edges stay in a community, and the community of each node."""
    source = rng.integers(nodes, size=10 * nodes)
    inside = source + COMMUNITIES * rng.integers(1, nodes // COMMUNITIES, size=len(source))
    target = np.where(rng.random(len(source)) < 0.9, inside % nodes, rng.integers(nodes, size=len(source)))
    edges = [f"n{a}\tn{b}" for a, b in zip(source.tolist(), target.tolist(), strict=True)]
    (data / "links.tsv").write_text("\n".join(["source\ttarget", *edges]) + "\n", encoding="utf-8")
    labels = [f"n{node}\tc{node % COMMUNITIES}" for node in range(nodes)]
    (data / "labels.tsv").write_text("\n".join(["id\tlabel", *labels]) + "\n", encoding="utf-8")


def process(command: list[str], file: Path, environment: Mapping[str, str]) -> float:
    """Seconds of a whole process on an empty store.

    Raises
    ------
    RuntimeError : it failed; its last words are in the message.
    """
    shutil.rmtree(file.parent / "vectors", ignore_errors=True)
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=file.parent, env=dict(environment), capture_output=True, text=True, timeout=TOO_LONG
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return seconds


def plain(file: Path, environment: Mapping[str, str]) -> float:
    """The steps as functions."""
    where = {**environment, "PYTHONPATH": os.pathsep.join([str(common.REPO), environment.get("PYTHONPATH", "")])}
    return process([sys.executable, "-m", "benchmarks.plain_steps", str(file)], file, where)


def flow(file: Path, environment: Mapping[str, str]) -> float:
    """`polyvec run`."""
    return process(
        [sys.executable, "-c", "from flows.cli.main import process; process()", "run", "-f", str(file)],
        file,
        environment,
    )


def fresh(file: Path, environment: Mapping[str, str], homes: Iterator[Path]) -> float:
    """`polyvec run` with a database that does not exist yet."""
    return flow(file, {**environment, "PREFECT_HOME": str(next(homes))})


def environment(home: Path) -> dict[str, str]:
    """The environment of this process without its Prefect settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def server(home: Path, log: Path) -> Iterator[str]:
    """A Prefect server of our own with its own database; yields the address of its API."""
    from flows import settings

    port, place = free_port(), environment(home)
    address = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out:
        running = subprocess.Popen(
            command, env={**settings.PREFECT, **place}, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_for(f"{address}/health", running, log)
            yield address
        finally:
            stop(running)


def wait_for(address: str, running: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers.

    Raises
    ------
    RuntimeError : it ended, or does not answer in time.
    """
    end = time.monotonic() + UP
    while time.monotonic() < end and running.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"The Prefect server did not come up at {address}:\n{log.read_text(errors='replace')[-3000:]}")


def stop(running: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: the session is its own."""
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if running.poll() is None:
            os.killpg(running.pid, how)
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                continue


def measure(options: argparse.Namespace) -> Result:
    """All ways by turns; the first, unmeasured runs compile kernels and make the databases."""
    with tempfile.TemporaryDirectory(prefix="polyvec-flow-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        file = write_pipeline(folder / "work", options.scale)
        homes = (folder / f"fresh-{i}" for i in range(1000))
        with server(folder / "served", folder / "server.log") as address:
            embedded = environment(folder / "embedded")
            ways: dict[str, Callable[[], float]] = {
                "plain": partial(plain, file, environment(folder / "plain")),
                "running server": partial(flow, file, {**embedded, "PREFECT_API_URL": address}),
                "embedded server": partial(flow, file, embedded),
            }
            warm = {way: run() for way, run in ways.items()}
            common.say(f"unmeasured first runs: {warm}")
            ways["fresh database"] = partial(fresh, file, embedded, homes)
            runs = common.interleaved(ways, 1 if options.small else options.rounds)
    return Result("orchestration", rows(common.medians(runs)), {"scale": options.scale}, {**runs, "first": warm})


def rows(found: Mapping[str, float]) -> list[Row]:
    """Each way beside the plain functions."""
    return [
        Row(
            f"polyvec run, {way}", "s", seconds, found["plain"], "plain functions",
            f"overhead {seconds - found['plain']:+.1f} s (target {goal(way, found['plain']):.1f} s)",
        )
        for way, seconds in found.items() if way != "plain"
    ]  # fmt: skip


def goal(way: str, plain_seconds: float) -> float:
    """The design's allowance: 5 % and 3, 10 or 20 seconds."""
    return 0.05 * plain_seconds + {"running server": 3, "embedded server": 10, "fresh database": 20}[way]


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is quoted")
    parser.add_argument("--scale", type=int, default=2, help="size of the corpus and the graph")
    options: Any = parser.parse_args()
    common.run("orchestration", measure, options)


if __name__ == "__main__":
    main()
