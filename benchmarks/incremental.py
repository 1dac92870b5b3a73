"""What a run costs when little changed: `polyvec run` over many tiny pictures, unchanged and with 1 % of them changed.

Whole fresh processes. The peer is the same command on an empty store: a full run. The network is the cheapest of
torchvision, with random weights, so that what does not depend on it (finding files, digests, the plan, Prefect, the
commit, the report) weighs as much as it ever will. After each run the vectors are compared with the version before.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from benchmarks.orchestration import environment, server
from storage.space import Version
from storage.store import VectorStore

FILES, SMALL = 100_000, 2000
PER_FOLDER = 1000
SPACE = "looks"
BACKBONE = "mobilenet_v3_small"
PIPELINE = f"""\
store: ./vectors
datasets:
  photos: {{kind: images, path: photos}}
spaces:
  {SPACE}: {{dataset: photos, embedder: cnn, params: {{backbone: {BACKBONE}, weights: random}}}}
"""
SERVED, EMBEDDED = "running server", "embedded server"
ALLOWED = {SERVED: 5.0, EMBEDDED: 12.0}  # seconds a changed run may take beside 3 % of a full one
UNCHANGED = 5.0  # seconds an unchanged run may take
TOO_LONG = 3600.0


class Pictures:
    """A pipeline file and a dataset of JPEG files, 32 x 32 pixels of noise from a fixed seed, which changes."""

    def __init__(self, folder: Path, number: int) -> None:
        self.file = folder / "polyvec.yaml"
        self._folder, self._rng, self._made = folder / "photos", np.random.default_rng(0), 0
        self.names: set[str] = set()
        for _ in range(number):
            self._add()
        self.file.write_text(PIPELINE, encoding="utf-8")

    def change(self) -> None:
        """Paint 1 % of the pictures anew; add and delete a few."""
        few = max(1, len(self.names) // 10_000)
        drawn = self._rng.permutation(sorted(self.names))[: few + len(self.names) // 100].tolist()
        for name in drawn[:few]:
            (self._folder / name).unlink()
            self.names.remove(name)
        for name in drawn[few:]:
            self._paint(name)
        for _ in range(few):
            self._add()

    def _add(self) -> None:
        name = f"{self._made // PER_FOLDER:03d}/{self._made:06d}.jpg"
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        self._paint(name)
        self.names.add(name)
        self._made += 1

    def _paint(self, name: str) -> None:
        from PIL import Image

        Image.fromarray(self._rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(self._folder / name)

    def digests(self) -> dict[str, str]:
        """Name to digest of what lies there now."""
        return {name: hashlib.sha256((self._folder / name).read_bytes()).hexdigest() for name in self.names}

    def version(self) -> Version:
        """The newest version."""
        return VectorStore(self.file.parent / "vectors").space(SPACE).version("latest")


@dataclass(frozen=True)
class Change:
    """How many rows of a version are new or changed, and how many of its rows were embedded and taken over."""

    rows: int
    embedded: int
    reused: int


def polyvec(file: Path, environment: Mapping[str, str], *options: str, idle: bool = False) -> float:
    """Seconds of a whole `polyvec run`.

    Raises
    ------
    RuntimeError : it failed, or did something when it should be idle, or nothing when it should not.
    """
    command = [sys.executable, "-c", "from flows.cli.main import process; process()", "run", "-f", str(file), "--json"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, *options], cwd=file.parent, env=dict(environment), capture_output=True, text=True, timeout=TOO_LONG
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"polyvec run ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    if json.loads(done.stdout)["idle"] != idle:
        raise RuntimeError(f"Expected a run with {'nothing' if idle else 'something'} to do, got:\n{done.stdout}")
    return seconds


def changed(pictures: Pictures, environment: Mapping[str, str], found: list[Change]) -> float:
    """Change the pictures and run; what was found in the new version is added to `found`."""
    before = pictures.version()
    pictures.change()
    seconds = polyvec(pictures.file, environment)
    found.append(compare(before, pictures.version(), pictures.digests()))
    return seconds


def compare(before: Version, after: Version, digests: Mapping[str, str]) -> Change:
    """Check the version that an incremental run made.

    Raises
    ------
    RuntimeError : a row is missing or too many, of other contents than its file, or has a vector it should not have.
    """
    old, new = contents(before), contents(after)
    wrong = [name for name in {**new, **digests} if name not in new or new[name][1] != digests.get(name)]
    for name, (row, digest) in new.items():
        if name in old:
            same = bool(np.array_equal(before.matrix[old[name][0]], after.matrix[row]))
            wrong += [name] if same != (digest == old[name][1]) else []
    if wrong:
        raise RuntimeError(f"Version {after.number}: {len(wrong):,} rows are not as they should be, first {wrong[0]}.")
    rows = sum(name not in old or digest != old[name][1] for name, (_, digest) in new.items())
    return Change(rows, after.manifest.counts.embedded, after.manifest.counts.reused)


def contents(version: Version) -> dict[str, tuple[int, str]]:
    """Id to row and digest."""
    columns = version.table(["id", "digest"])
    ids, digests = columns.column("id").to_pylist(), columns.column("digest").to_pylist()
    return {name: (row, digest) for row, (name, digest) in enumerate(zip(ids, digests, strict=True))}


def again(pictures: Pictures, environment: Mapping[str, str]) -> tuple[float, int]:
    """Seconds of a full run after the others, and how many rows it gives other bits than they did."""
    before = pictures.version()
    seconds = polyvec(pictures.file, environment, "--force")
    after = pictures.version()
    old, new = contents(before), contents(after)
    return seconds, sum(
        not np.array_equal(before.matrix[row], after.matrix[new[name][0]]) for name, (row, _) in old.items()
    )


def measure(options: argparse.Namespace) -> Result:
    """A full run, then the others by turns; unmeasured runs over few pictures make the databases."""
    if missing := [name for name in ("torch", "torchvision", "PIL") if importlib.util.find_spec(name) is None]:
        raise common.SkippedError(f"got no {', '.join(missing)}; install polyvec[image].")
    number, rounds = (SMALL, 1) if options.small else (options.files, options.rounds)
    changes, notes = list[Change](), list[str]()
    with tempfile.TemporaryDirectory(prefix="polyvec-incremental-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with server(folder / "served", folder / "server.log") as address:
            embedded = environment(folder / "embedded")
            places = {SERVED: {**embedded, "PREFECT_API_URL": address}, EMBEDDED: embedded}
            for place, where in places.items():
                polyvec(Pictures(folder / f"first {place}", 8).file, where)
            common.say(f"painting {number:,} pictures")
            pictures = Pictures(folder / "work", number)
            runs = {"full": [polyvec(pictures.file, places[SERVED])]}
            common.say(f"full run: {runs['full'][0]:.1f} s; rounds of the others: {rounds}")
            ways: dict[str, Callable[[], float]] = {
                "unchanged": partial(polyvec, pictures.file, embedded, idle=True),
                **{place: partial(changed, pictures, where, changes) for place, where in places.items()},
            }
            runs |= common.interleaved(ways, rounds)
            if options.full:
                seconds, other = again(pictures, places[SERVED])
                runs["full"].append(seconds)
                notes.append(f"a full run afterwards: other bits in {other:,} of {len(pictures.names):,} rows")
    settings = {"files": number, "backbone": BACKBONE, "changes": [vars(change) for change in changes]}
    return Result("incremental", rows(number, common.medians(runs), changes), settings, runs, notes)


def rows(number: int, found: Mapping[str, float], changes: Sequence[Change]) -> list[Row]:
    """Each way beside the full run."""
    full, one = found["full"], changes[0]
    quality = f"{one.rows:,} rows new or changed: {one.embedded:,} embedded, {one.reused:,} taken over, none wrong"
    unchanged = Row(f"polyvec run, {number:,} files, unchanged", "s", found["unchanged"], full, "full run", f"target {UNCHANGED:.0f} s")  # fmt: skip
    return [unchanged] + [
        Row(
            f"polyvec run, {number:,} files, 1% changed, {place}", "s", found[place], full, "full run",
            f"target {0.03 * full + allowed:.1f} s; {quality}",
        )
        for place, allowed in ALLOWED.items()
    ]  # fmt: skip


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is quoted; there is one full run")
    parser.add_argument("--files", type=int, default=FILES, help="how many pictures")
    options: Any = parser.parse_args()
    common.run("incremental", measure, options)


if __name__ == "__main__":
    main()
