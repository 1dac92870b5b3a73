"""Lance: a table of ids and vectors written, or read back as ids and a matrix; its own defaults, its own threads.

stdin: {"do": "write" | "read", "path", "n", "dim"}. stdout: seconds, and the size on disk after a write.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa


def table(n: int, dim: int) -> pa.Table:
    """The same numbers and ids as on our side."""
    matrix = np.random.default_rng(0).standard_normal((n, dim), np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), dim)
    return pa.table({"id": pa.array([f"item-{i:08d}" for i in range(n)]), "vector": vectors})


def read(path: str, dim: int) -> tuple[np.ndarray, np.ndarray]:
    found = lance.dataset(path).to_table()
    flat = [chunk.flatten().to_numpy() for chunk in found["vector"].chunks]
    return found["id"].to_numpy(), (flat[0] if len(flat) == 1 else np.concatenate(flat)).reshape(-1, dim)


def main() -> None:
    ask = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:  # its runtime and threads start before the clock does
        lance.write_dataset(table(100, 8), f"{folder}/warm")
        read(f"{folder}/warm", 8)
    answer = {}
    if ask["do"] == "write":
        shutil.rmtree(ask["path"], ignore_errors=True)
        rows = table(ask["n"], ask["dim"])
        started = time.perf_counter()
        lance.write_dataset(rows, ask["path"])
        answer["seconds"] = time.perf_counter() - started
        answer["bytes"] = sum(path.stat().st_size for path in Path(ask["path"]).rglob("*") if path.is_file())
    else:
        started = time.perf_counter()
        ids, matrix = read(ask["path"], ask["dim"])
        answer["seconds"] = time.perf_counter() - started
        expected = table(ask["n"], ask["dim"])
        if not np.array_equal(matrix.reshape(-1), expected["vector"].combine_chunks().flatten().to_numpy()):
            sys.exit("Lance read other numbers than were written.")
        if ids[-1] != expected["id"][-1].as_py():
            sys.exit("Lance read other ids than were written.")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
