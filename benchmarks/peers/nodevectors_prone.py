"""ProNE of nodevectors, from a graph in memory to the matrix, on the threads that BLAS takes by itself.

stdin: {"graph": .npz with data, indptr, indices, "out", "dim", "step", "mu", "theta", "exponent", "seed"}. stdout: seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from nodevectors import ProNE
from scipy.sparse import csr_matrix


def adjacency(path: str) -> csr_matrix:
    """The graph with weights of 1 or its own."""
    with np.load(path) as found:
        n = len(found["indptr"]) - 1
        parts = found["data"].astype(np.float64), found["indices"].astype(np.int32), found["indptr"].astype(np.int32)
        return csr_matrix(parts, shape=(n, n))


def embed(graph: csr_matrix, ask: dict[str, Any]) -> tuple[np.ndarray, float]:
    """The matrix and the seconds it took."""
    np.random.seed(ask["seed"])  # noqa: NPY002  (it draws from numpy's global state)
    options = {name: ask[name] for name in ("step", "mu", "theta", "exponent")}
    model = ProNE(n_components=ask["dim"], verbose=False, **options)
    started = time.perf_counter()
    matrix = model.fit_transform(graph)
    return matrix, time.perf_counter() - started


def main() -> None:
    ask = json.load(sys.stdin)
    ring = csr_matrix(np.roll(np.eye(300), 1, axis=1) + np.roll(np.eye(300), -1, axis=1))
    embed(ring, ask)  # imports and compiles what is left to
    matrix, seconds = embed(adjacency(ask["graph"]), ask)
    np.savez(ask["out"], matrix=np.asarray(matrix, np.float32))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
