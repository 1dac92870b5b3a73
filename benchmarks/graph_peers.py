"""The peers of `benchmarks.graph`, in their own environment: a graph as a file, a matrix back.

nodevectors is the one public Python package with ProNE that installs beside today's NumPy; karateclub 1.3.3 (2022) wants
NumPy below 1.23 and has no wheel since Python 3.10.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from embedders.base import Matrix
from embedders.data import Graph


@dataclass(frozen=True, eq=False)
class Made:
    """seconds: from the graph in memory to the matrix, compiled before."""

    seconds: float
    matrix: Matrix


def write_graph(graph: Graph, path: Path) -> None:
    """The form that PecanPy's `read_npz` takes, and our scripts in `peers/`."""
    weights = np.ones(len(graph.indices), np.float32) if graph.weights is None else graph.weights
    np.savez(path, IDs=np.array(graph.ids), data=weights, indptr=graph.indptr.astype(np.uint32), indices=graph.indices.astype(np.uint32))  # fmt: skip


def nodevectors_prone(options: argparse.Namespace, path: Path, asked: Mapping[str, Any]) -> Made | None:
    """ProNE of nodevectors; None without the peers' environment."""
    out = path.with_name("nodevectors.npz")
    answer = common.peer(options, "nodevectors_prone.py", {"graph": str(path), "out": str(out), **asked})
    if answer is None:
        return None
    with np.load(out) as found:
        return Made(answer["seconds"], found["matrix"])
