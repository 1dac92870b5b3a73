"""ALS from a Parquet file to two committed versions, against `implicit` alone on the same matrix, each in a fresh process.

Imports and the start of the process are left out of the seconds; the peak (VmHWM) is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Row
from benchmarks.graph_scale import peak

SIZES = {"small": (5_000, 1_000, 100_000), "usual": (50_000, 5_000, 1_000_000), "full": (1_000_000, 100_000, 20_000_000)}  # fmt: skip
DIM, ITERATIONS, ROUNDS = 64, 15, 3
PIPELINE = """\
store: ./vectors
datasets:
  visits: {{kind: interactions, path: events.parquet, columns: {{user: user, item: item}}}}
spaces:
  taste: {{dataset: visits, embedder: als, params: {{dim: {dim}, iterations: {iterations}, threads: {threads}}}}}
"""


def power_law(n: int, size: int, exponent: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """`size` numbers below n; the k-th most frequent, whichever it is, comes about k^-exponent as often as the first.

    >>> drawn = power_law(100, 10_000, 0.8, np.random.default_rng(0))
    >>> len(drawn), bool(drawn.max() < 100), bool(np.bincount(drawn).max() > 5 * len(drawn) / 100)
    (10000, True, True)
    """
    ends = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -exponent)
    ranks = np.searchsorted(ends, rng.random(size) * ends[-1])
    return np.asarray(rng.permutation(n)[ranks])


def write(folder: Path, users: int, items: int, events: int, seed: int = 0) -> None:
    """`events.parquet`: distinct pairs of names in random order; `matrix.npz`: the same for `implicit`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy.sparse import csr_matrix, save_npz

    rng = np.random.default_rng(seed)
    pairs = np.empty(0, np.int64)
    while len(pairs) < events:
        more = int(1.2 * (events - len(pairs))) + 100
        drawn = power_law(users, more, 0.5, rng) * items + power_law(items, more, 0.8, rng)
        pairs = np.unique(np.concatenate([pairs, drawn]))
    pairs = rng.permutation(pairs)[:events]
    user, item = pairs // items, pairs % items
    names = {"user": [f"user-{i:07}" for i in range(users)], "item": [f"item {i:06}" for i in range(items)]}
    with pq.ParquetWriter(folder / "events.parquet", pa.schema([("user", pa.string()), ("item", pa.string())])) as file:
        for first in range(0, events, 1 << 20):
            part = slice(first, first + (1 << 20))
            columns = {
                "user": pa.array(names["user"]).take(user[part]),
                "item": pa.array(names["item"]).take(item[part]),
            }
            file.write_table(pa.table(columns))
    save_npz(folder / "matrix.npz", csr_matrix((np.full(events, 2, np.float32), (user, item)), (users, items)), False)


def ours(folder: Path, threads: int) -> dict[str, float]:
    """The steps of a run; run in a process of its own."""
    from embedders.interaction.als import Als
    from flows.pipeline import Pipeline
    from flows.steps import embed

    Als.model_validate({})._model()  # the library is imported before the clock starts, as for the peer
    path = folder / "polyvec.yaml"
    path.write_text(PIPELINE.format(dim=DIM, iterations=ITERATIONS, threads=threads), encoding="utf-8")
    shutil.rmtree(folder / "vectors", ignore_errors=True)
    started = time.perf_counter()
    pipeline = Pipeline.load(path)
    made = embed(pipeline, "taste", uuid.uuid4().hex[:8])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak": peak(), "rows": sum(version.rows for version in made.values())}


def alone(folder: Path, threads: int) -> dict[str, float]:
    """`implicit` with a matrix in memory; run in a process of its own."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import load_npz

    from embedders.kernels.blas import one_thread

    matrix = load_npz(folder / "matrix.npz")
    with one_thread():
        model = AlternatingLeastSquares(
            factors=DIM, regularization=10.0, iterations=ITERATIONS, random_state=0, num_threads=threads
        )
        started = time.perf_counter()
        model.fit(matrix, show_progress=False)
    return {"seconds": time.perf_counter() - started, "peak": peak(), "rows": sum(matrix.shape)}


CONTENDERS = {"ours": ours, "implicit": alone}


def measured(folder: Path, name: str, threads: int) -> dict[str, float]:
    """One of the contenders in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.interactions_scale", json.dumps([str(folder), name, threads])]
    done = subprocess.run(command, cwd=common.REPO, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed with code {done.returncode}:\n{done.stderr[-3000:]}")
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def scale(options: argparse.Namespace, folder: Path, threads: int) -> tuple[list[Row], Mapping[str, Any]]:
    """Both on generated events, in turns."""
    users, items, events = SIZES["small" if options.small else "full" if options.full else "usual"]
    common.say(f"{users:,} users, {items:,} items, {events:,} events (power law)")
    write(folder, users, items, events)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(1 if options.small else ROUNDS):
        for name, found in runs.items():
            found.append(measured(folder, name, threads))
            common.say(f"{name}: {found[-1]}")
    seconds = common.medians({name: [run["seconds"] for run in found] for name, found in runs.items()})
    peaks = {name: max(run["peak"] for run in found) / 2**30 for name, found in runs.items()}
    overhead = seconds["ours"] / seconds["implicit"] - 1
    what = f"als, Parquet to two versions: {users:,} users, {items:,} items, {events:,} events, {DIM} factors, {ITERATIONS} iterations, {threads} threads"
    quality = f"overhead {overhead:+.1%} (target <= 10 %); peak {peaks['ours']:.2f} GiB, implicit's {peaks['implicit']:.2f} GiB"
    return [Row(what, "s", seconds["ours"], seconds["implicit"], "implicit alone, matrix in memory", quality)], runs


if __name__ == "__main__":
    place, contender, count = json.loads(sys.argv[1])
    print(json.dumps(CONTENDERS[contender](Path(place), count)))
