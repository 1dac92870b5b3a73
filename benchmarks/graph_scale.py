"""What an embedder takes on a large graph: minutes and peak memory of a fresh process, whose start is left out.

The graph is made before, so that the peak (VmHWM) is that of reading it in and embedding it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Row
from benchmarks.graph_data import power_law
from embedders.base import Embedder
from embedders.data import Graph
from embedders.registry import embedder_class

FULL = ((100_000, 1_000_000), (1_000_000, 10_000_000))
SMALL = ((1_000, 10_000), (10_000, 100_000))


def write(graph: Graph, path: Path) -> None:
    """Unpacked, so that reading takes no more memory than the graph."""
    np.savez(path, indptr=graph.indptr, indices=graph.indices)


def read(path: Path) -> Graph:
    with np.load(path) as found:
        return Graph([str(i) for i in range(len(found["indptr"]) - 1)], found["indptr"], found["indices"])


def compiled(recipe: Embedder[Any]) -> Embedder[Any]:
    """The same recipe, its kernels compiled on a tiny graph."""
    less = {name: 1 for name in ("walks", "epochs") if hasattr(recipe, name)}
    recipe.model_copy(update=less).fit(power_law(400, 2000))
    return recipe


def embed(path: Path, kind: str, params: Mapping[str, Any]) -> dict[str, float]:
    """Seconds and bytes; run in a process of its own."""
    recipe = compiled(embedder_class(kind).model_validate(dict(params)))
    graph = read(path)
    before = peak()
    started = time.perf_counter()
    encoder = recipe.fit(graph)
    seconds = time.perf_counter() - started
    finite = all(np.isfinite(batch.vectors.matrix).all() for batch in encoder.encode(graph))
    return {"seconds": seconds, "before": before, "peak": peak(), "finite": finite}


def peak() -> int:
    """The most memory this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def measured(path: Path, kind: str, params: Mapping[str, Any]) -> dict[str, float]:
    """`embed` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.graph_scale", json.dumps([str(path), kind, params])]
    done = subprocess.run(command, cwd=common.REPO, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{kind} failed with code {done.returncode}:\n{done.stderr[-3000:]}")
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def scale(
    options: argparse.Namespace, folder: Path, recipes: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Row], dict[str, Any]]:
    """Every recipe on the smaller and on the larger graph, and what an edge of the larger one costs of the smaller's."""
    sizes = SMALL if options.small else FULL
    runs: dict[str, Any] = {kind: [] for kind in recipes}
    rows = []
    for nodes, edges in sizes:
        path = folder / f"{edges}.npz"
        common.say(f"power-law graph, {nodes:,} nodes, {edges:,} edges")
        write(power_law(nodes, edges), path)
        for kind, params in recipes.items():
            found = measured(path, kind, params)
            if not found["finite"]:
                raise RuntimeError(f"{kind} gave numbers that are not finite.")
            runs[kind].append({"nodes": nodes, "edges": edges, **params, **found})
            rows.append(
                Row(
                    f"{kind}, {nodes:,} nodes, {edges:,} edges (power law), {common.cores()} threads", "s", found["seconds"],
                    against="", quality=f"{found['seconds'] / 60:.1f} min, peak {found['peak'] / 2**30:.2f} GiB, {1e6 * found['seconds'] / edges:.2f} us an edge",
                )
            )  # fmt: skip
            common.say(str(rows[-1]))
    for kind, (small, large) in runs.items():
        ratio = (large["seconds"] / large["edges"]) / (small["seconds"] / small["edges"])
        what = f"{kind}: cost of an edge at {sizes[1][1]:,} edges over that at {sizes[0][1]:,}"
        rows.append(Row(what, "x", ratio, against="target: flat"))
    return rows, runs


if __name__ == "__main__":
    place, name, asked = json.loads(sys.argv[1])
    print(json.dumps(embed(Path(place), name, asked)))
