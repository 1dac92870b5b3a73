"""A matrix to a committed version and back, beside pyarrow's defaults, delta-rs' writer, Lance and plain NumPy files.

Ids are included on all sides. Reading starts from a freshly opened store or path and ends at the ids and a (n, dim)
float32 matrix. Files are warm in the page cache; writes end when the data are in it, as no side calls fsync.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.base import Batch, Embedder, Encoder, Matrix, Progress, Vectors, batches, silent
from storage.store import VectorStore
from storage.writer import Source, writing

SHAPES = ((500_000, 128), (100_000, 1024))
SMALL = ((50_000, 128), (10_000, 1024))
SPACE = "bench"


@dataclass(frozen=True, eq=False)
class Held(Encoder[Vectors]):
    """An encoder whose vectors are in memory already, so that only the store is measured."""

    vectors: Vectors

    @property
    def dim(self) -> int:
        return int(self.vectors.matrix.shape[1])

    def encode(self, data: Vectors, *, progress: Progress = silent) -> Iterator[Batch]:
        yield from batches(data)

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"dim": np.array([self.dim])}


class InMemory(Embedder[Vectors]):
    """The recipe of `Held`; `fit` learns nothing."""

    kind: ClassVar[str] = "in_memory"
    data: ClassVar[type] = Vectors
    entity: ClassVar[str] = "row"

    def fit(self, data: Vectors, *, start: Encoder[Vectors] | None = None, progress: Progress = silent) -> Held:
        return Held(self, data)

    @classmethod
    def restore(
        cls, recipe: Self, arrays: Mapping[str, Any], texts: Mapping[str, Any], mode: Mapping[str, Any]
    ) -> Held:
        raise NotImplementedError("The benchmark reads no encoder back.")


def write_version(root: Path, vectors: Vectors) -> None:
    """Commit `vectors` as the next version: parts, model, manifest, Delta log."""
    with writing(VectorStore(root).space(SPACE), "run", wait=0, waiting=print) as writer:
        encoder = InMemory(seed=0).fit(vectors)
        source = Source("memory", "0" * 64, len(vectors), {})
        writer.commit(source, encoder, encoder.encode(vectors), {}, time.monotonic())


def read_version(root: Path) -> tuple[Any, Matrix]:
    version = VectorStore(root).space(SPACE).version("latest")
    return version.ids, version.matrix


def fixed_table(vectors: Vectors) -> pa.Table:
    """Ids and vectors as a FixedSizeList column."""
    dim = vectors.matrix.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.matrix.reshape(-1)), dim)
    return pa.table({"id": pa.array(vectors.ids, pa.string()), "vector": column})


def list_table(vectors: Vectors) -> pa.Table:
    """Ids and vectors as a List column."""
    n, dim = vectors.matrix.shape
    ends = pa.array(np.arange(0, (n + 1) * dim, dim, dtype=np.int32))
    column = pa.ListArray.from_arrays(ends, pa.array(vectors.matrix.reshape(-1)))
    return pa.table({"id": pa.array(vectors.ids, pa.string()), "vector": column})


def read_parquet(path: Path, dim: int) -> tuple[Any, Matrix]:
    """What a user of pyarrow writes to get ids and a matrix."""
    found = pq.read_table(path)
    flat = [chunk.flatten().to_numpy() for chunk in found["vector"].chunks]
    matrix = flat[0] if len(flat) == 1 else np.concatenate(flat)
    return found["id"].to_numpy(), matrix.reshape(-1, dim)


def write_delta(folder: Path, vectors: Vectors) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(folder), list_table(vectors))


def read_delta(folder: Path, dim: int) -> tuple[Any, Matrix]:
    from deltalake import DeltaTable

    paths = [folder / path for path in pa.table(DeltaTable(str(folder)).get_add_actions())["path"].to_pylist()]
    parts = [read_parquet(path, dim) for path in paths]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([matrix for _, matrix in parts])


def write_numpy(folder: Path, vectors: Vectors) -> None:
    folder.mkdir()
    np.save(folder / "matrix.npy", vectors.matrix)
    np.save(folder / "ids.npy", np.array(vectors.ids))


def read_numpy(folder: Path) -> tuple[Any, Matrix]:
    return np.load(folder / "ids.npy"), np.load(folder / "matrix.npy")


@dataclass(frozen=True)
class Format:
    """One way to write to a path (which does not exist yet) and to read it back."""

    write: Callable[[Path, Vectors], Any]
    read: Callable[[Path, int], tuple[Any, Matrix]]


FORMATS = {
    "polyvec": Format(write_version, lambda path, dim: read_version(path)),
    "pyarrow FixedSizeList": Format(lambda path, v: pq.write_table(fixed_table(v), path), read_parquet),
    "pyarrow List": Format(lambda path, v: pq.write_table(list_table(v), path), read_parquet),
    "delta-rs": Format(write_delta, read_delta),
    "numpy": Format(write_numpy, lambda path, dim: read_numpy(path)),
}


def example(n: int, dim: int) -> Vectors:
    """Random vectors; ids as of files."""
    matrix = np.random.default_rng(0).standard_normal((n, dim), np.float32)
    return Vectors("row", [f"item-{i:08d}" for i in range(n)], matrix)


def timed_write(form: Format, path: Path, vectors: Vectors) -> float:
    remove(path)
    os.sync()  # what others wrote shall not be flushed on our time
    return common.seconds(lambda: form.write(path, vectors))


def timed_read(form: Format, path: Path, dim: int) -> float:
    return common.seconds(lambda: form.read(path, dim))


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def check(form: Format, path: Path, vectors: Vectors) -> None:
    """What comes back must be what went in; this also warms the cache."""
    ids, matrix = form.read(path, vectors.matrix.shape[1])
    if not (np.array_equal(matrix, vectors.matrix) and ids[0] == vectors.ids[0] and ids[-1] == vectors.ids[-1]):
        raise RuntimeError(f"What was read from {path.name} differs from what was written.")


def lance_by(options: argparse.Namespace, n: int, dim: int, folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """Lance's write and read, each a call that gives seconds; nothing when there is no such peer."""
    ask = {"path": str(folder / "lance"), "n": n, "dim": dim}
    made = common.peer(options, "lance_table.py", ask | {"do": "write"})
    if made is None:
        return {}
    sizes["Lance"] = made["bytes"]

    def timed(do: str) -> float:
        os.sync()
        return float((common.peer(options, "lance_table.py", ask | {"do": do}) or {})["seconds"])

    return {"write": partial(timed, "write"), "read": partial(timed, "read")}


def compare(options: argparse.Namespace, n: int, dim: int, folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Write and read one shape in all formats."""
    rounds = options.rounds
    vectors, paths = example(n, dim), {name: folder / name.replace(" ", "-") for name in FORMATS}
    for name, form in FORMATS.items():
        form.write(paths[name], vectors)
        check(form, paths[name], vectors)
    sizes = {name: size(path) for name, path in paths.items()}
    lance = lance_by(options, n, dim, folder, sizes)
    read_by: dict[str, Any] = {name: partial(timed_read, form, paths[name], dim) for name, form in FORMATS.items()}
    reads = common.interleaved(read_by | ({"Lance": lance["read"]} if lance else {}), rounds)
    written_by: dict[str, Any] = {
        name: partial(timed_write, form, paths[name], vectors) for name, form in FORMATS.items()
    }
    writes = common.interleaved(written_by | ({"Lance": lance["write"]} if lance else {}), rounds)
    for path in paths.values():
        remove(path)
    rows = [
        *rows_of(f"{n:,} x {dim} matrix -> committed version", writes, sizes),
        *rows_of(f"{n:,} x {dim} version -> matrix", reads, sizes),
    ]
    return rows, {"write_s": writes, "read_s": reads, "bytes": sizes}


def rows_of(what: str, runs: Mapping[str, list[float]], sizes: Mapping[str, int]) -> list[Row]:
    found = common.medians(runs)
    ours = found.pop("polyvec")
    return [Row(what, "s", ours, value, name, quality(sizes, name)) for name, value in found.items()]


def quality(sizes: Mapping[str, int], name: str) -> str:
    return f"bytes identical; {sizes['polyvec'] / 1e6:.0f} against {sizes[name] / 1e6:.0f} MB on disk"


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def measure(options: argparse.Namespace) -> Result:
    """All shapes."""
    shapes = SMALL if options.small else SHAPES
    rows: list[Row] = []
    runs: dict[str, Any] = {}
    for n, dim in shapes:
        common.say(f"{n:,} x {dim}, {options.rounds} rounds")
        with tempfile.TemporaryDirectory(prefix="polyvec-store-") as folder:
            found, runs[f"{n}x{dim}"] = compare(options, n, dim, Path(folder))
            rows += found
    return Result("store", rows, {"shapes": shapes, "rounds": options.rounds}, runs)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is quoted")
    common.run("store", measure, parser.parse_args())


if __name__ == "__main__":
    main()
