"""What many versions cost: open + commit on a table of 1,000 versions, bytes of ten versions, peak memory of streaming.

No peer: the bounds are our own. Ten versions that each append 1 % of rows, that each change 1 % of rows at random, and
that each change 1 % among the same 2 % of rows; all bytes that the store holds (parts, log, models) over those of the
first version. Peak memory (VmHWM) is of a process of its own that does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Result, Row
from benchmarks.store import SPACE, Held, InMemory, example, size, write_version
from embedders.base import Batch, Encoder, Progress, Vectors, silent
from storage.reuse import Known, plan_reuse
from storage.store import VectorStore
from storage.writer import Source, writing

DIM = 128
STEP = 8192  # rows of a batch


def open_and_commit(versions: int, last: int) -> list[float]:
    """Seconds to open the store and commit a small version, for the last of so many."""
    found = []
    with tempfile.TemporaryDirectory(prefix="polyvec-versions-") as folder:
        for _ in range(versions):
            found.append(common.seconds(lambda: write_version(Path(folder), example(1000, 16))))
    return found[-last:]


@dataclass(frozen=True)
class Rows:
    """A dataset whose content is a number a row: its vector comes from it."""

    contents: NDArray[np.int64]

    @property
    def ids(self) -> Sequence[str]:
        return [f"item-{i:08d}" for i in range(len(self.contents))]

    @property
    def digests(self) -> Sequence[str]:
        return [hashlib.sha256(content.tobytes()).hexdigest() for content in self.contents]


def change(contents: NDArray[np.int64], how: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """The next state of a dataset: 1 % of rows appended, changed anywhere, or changed among the first 2 %."""
    few, new = len(contents) // 100, contents.max() + 1
    if how == "append":
        return np.concatenate([contents, np.arange(new, new + few)])
    after = contents.copy()
    among = len(contents) if how == "random" else 2 * few
    after[rng.permutation(among)[:few]] = np.arange(new, new + few)
    return after


def cost(rows: int, how: str) -> tuple[float, float]:
    """Bytes of ten versions over those of the first, and rows written for each row that changed."""
    rng = np.random.default_rng(0)
    contents = np.arange(rows)
    with tempfile.TemporaryDirectory(prefix="polyvec-versions-") as folder:
        first, written = 0, 0
        for number in range(10):
            contents = change(contents, how, rng) if number else contents
            written += commit(Path(folder), Rows(contents)) if number else commit(Path(folder), Rows(contents)) * 0
            first = first or size(Path(folder))
        return size(Path(folder)) / first, written / (9 * (rows // 100))


def commit(root: Path, data: Rows) -> int:
    """Commit a dataset as an inductive embedder's run does; how many rows were written."""
    with writing(VectorStore(root).space(SPACE), "run", wait=0, waiting=print) as writer:
        parent = writer.parent
        known = [] if parent is None else [
            Known.read(place, entry.rows, entry) for place, entry in zip(parent.parts, parent.manifest.files, strict=True)
        ]  # fmt: skip
        ids, digests = data.ids, data.digests
        reuse = plan_reuse(ids, digests, known, DIM)
        matrix = np.random.default_rng(0).standard_normal((len(reuse.fresh), DIM), np.float32)
        batches = [
            Batch(Vectors("row", [ids[row] for row in reuse.fresh], matrix), [digests[row] for row in reuse.fresh])
        ]
        encoder = Held(InMemory(), Vectors("row", [], np.empty((0, DIM), np.float32)))
        source = Source("memory", hashlib.sha256(data.contents.tobytes()).hexdigest(), len(ids), {})
        writer.commit(source, encoder, batches, {}, time.monotonic(), reuse=reuse, encoder_of=parent)
        return len(reuse.fresh) + sum(len(copy.rows) for copy in reuse.settled)


@dataclass(frozen=True, eq=False)
class Streamed(Encoder[int]):
    """An encoder that makes its rows as it goes."""

    @property
    def dim(self) -> int:
        return DIM

    def encode(self, data: int, *, progress: Progress = silent) -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        for first in range(0, data, STEP):
            ids = [f"item-{i:08d}" for i in range(first, min(first + STEP, data))]
            yield Batch(Vectors("row", ids, rng.standard_normal((len(ids), DIM), np.float32)))

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"dim": np.array([DIM])}


def stream(root: Path, rows: int, do: str) -> None:
    """Write or read so many rows as a stream."""
    if do == "read":
        count = sum(len(batch) for batch in VectorStore(root).space(SPACE).version().batches())
        assert count == rows
        return
    with writing(VectorStore(root).space(SPACE), "run", wait=0, waiting=print) as writer:
        encoder = Streamed(InMemory())
        writer.commit(Source("made", "0" * 64, rows, {}), encoder, encoder.encode(rows), {}, time.monotonic())


def peak(root: Path, rows: int, do: str) -> int:
    """Peak memory in bytes of a process that streams so many rows."""
    command = [sys.executable, "-m", "benchmarks.versions", "--stream", json.dumps([str(root), rows, do])]
    done = subprocess.run(command, cwd=common.REPO, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def memory(few: int, many: int) -> dict[str, list[int]]:
    """Peak bytes of writing and reading few and many rows."""
    found: dict[str, list[int]] = {"write": [], "read": []}
    with tempfile.TemporaryDirectory(prefix="polyvec-versions-") as folder:
        for rows in (few, many):
            for do in found:
                found[do].append(peak(Path(folder) / str(rows), rows, do))
    return found


def measure(options: argparse.Namespace) -> Result:
    """All of it."""
    versions, rows, few, many = (60, 20_000, 20_000, 60_000) if options.small else (1000, 500_000, 100_000, 2_000_000)
    common.say(f"{versions:,} versions")
    commits = open_and_commit(versions, min(100, versions))
    found = [
        Row(
            f"open + commit on a table of {versions:,} versions, median of the last {len(commits)}",
            "s",
            median(commits),
            against="target 0.05 s",
        )
    ]
    costs = {}
    for how, says in (
        ("append", "append 1 %"),
        ("random", "change 1 % at random"),
        ("hot", "change 1 % among the same 2 %"),
    ):
        common.say(f"ten versions that {says}")
        costs[how] = cost(rows, how)
        quality = f"{costs[how][1]:.1f} rows written for each that changed"
        found.append(
            Row(
                f"ten versions that {says} of {rows:,} x {DIM}: bytes over one version",
                "x",
                costs[how][0],
                quality=quality,
            )
        )
    common.say(f"{few:,} and {many:,} rows as a stream")
    peaks = memory(few, many)
    for do, (small, large) in peaks.items():
        quality = f"{small / 2**20:.0f} MiB at {few:,} rows, {large / 2**20:.0f} MiB at {many:,}"
        found.append(
            Row(
                f"peak memory, {do} as a stream, {many // few} times the rows",
                "x",
                large / small,
                against="target 1.2 x",
                quality=quality,
            )
        )
    settings = {"versions": versions, "rows": rows, "dim": DIM, "streamed": [few, many]}
    return Result("versions", found, settings, {"commit_s": commits, "cost": costs, "peak_bytes": peaks})


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--stream", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stream:
        root, rows, do = options.stream
        stream(Path(root), rows, do)
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        return
    common.run("versions", measure, options)


if __name__ == "__main__":
    main()
