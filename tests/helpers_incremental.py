"""An inductive embedder of a few lines, and pipelines that run it, for the tests of incremental and resumed runs.

It is known through an entry point, as anybody's would be; `installed` declares it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import Field

from embedders import registry
from embedders.base import EXECUTION, Batch, Embedder, Encoder, Vectors, silent
from embedders.data import Images, Rejected
from flows import steps
from flows.pipeline import Pipeline
from flows.progress import Board, reporting_to
from flows.starts import Beginning
from flows.work import work_of
from storage.space import Version
from storage.store import VectorStore
from storage.verify import verify
from storage.writer import Source, writing

REPO = Path(__file__).resolve().parents[1]
BAD = b"bad"  # what begins so is rejected
SKIP = b"skip"  # what begins so is left out by rule
_ticks = itertools.count(1)


@dataclass(frozen=True, eq=False)
class HashedEncoder(Encoder[Images]):
    """key: (1,) uint64, what was learned."""

    recipe: Hashed
    key: np.ndarray

    @property
    def dim(self) -> int:
        return self.recipe.dim

    def vector(self, content: bytes) -> np.ndarray:
        digest = hashlib.sha256(self.key.tobytes() + content).digest()
        return np.random.default_rng(np.frombuffer(digest, np.uint32)).normal(size=self.dim).astype(np.float32)

    def encode(self, data, *, progress=silent) -> Iterator[Batch]:
        recipe = self.recipe
        data = data.select([row for row in range(len(data)) if not self._skipped(data.files[row])])
        for first in range(0, len(data), recipe.batch_size):
            ids, vectors, digests, rejected = [], [], [], []
            rows = range(first, min(first + recipe.batch_size, len(data)))
            for row in rows:
                time.sleep(recipe.slow)
                content = data.files[row].read_bytes()
                if content.startswith(BAD):
                    rejected.append(Rejected(data.ids[row], str(data.files[row]), "bad", f"{content!r} is bad"))
                else:
                    ids.append(data.ids[row])
                    vectors.append(self.vector(content))
                    digests.append(data.digests[row])
            if recipe.log:
                with Path(recipe.log).open("a", encoding="utf-8") as log:
                    log.writelines(f"{data.ids[row]}\t{self.key[0]}\n" for row in rows)
            matrix = np.array(vectors, np.float32).reshape(-1, self.dim)
            yield Batch(Vectors(self.entity, ids, matrix), digests, rejected=tuple(rejected))

    def excluded(self, data) -> Mapping[str, int]:
        skipped = sum(map(self._skipped, data.files))
        return {"skipped": skipped} if skipped else {}

    def _skipped(self, file: Path) -> bool:
        return file.read_bytes().startswith(SKIP)

    def arrays(self) -> Mapping[str, np.ndarray]:
        return {"key": self.key}


class Hashed(Embedder[Images]):
    """Files as random numbers drawn from their bytes. Nothing is learned; `start` changes all numbers."""

    kind: ClassVar[str] = "hashed"
    data: ClassVar[type] = Images
    entity: ClassVar[str] = "file"
    inductive: ClassVar[bool] = True

    dim: int = 3
    batch_size: int = Field(2, json_schema_extra=EXECUTION)
    slow: float = Field(0.0, json_schema_extra=EXECUTION, description="seconds that a row takes")
    log: str = Field("", json_schema_extra=EXECUTION, description="file: a line for each row that was encoded")

    def fit(self, data, *, start=None, progress=silent) -> HashedEncoder:
        return HashedEncoder(self, self.learn(data) + (0 if start is None else start.key))

    def learn(self, data: Images) -> np.ndarray:
        return np.array([self.seed], np.uint64)

    @classmethod
    def restore(cls, recipe, arrays, texts, mode) -> HashedEncoder:
        return HashedEncoder(recipe, arrays["key"], mode=mode)


class Drawn(Hashed):
    """The same with something learned, which is never twice the same."""

    kind: ClassVar[str] = "drawn"

    def learn(self, data: Images) -> np.ndarray:
        return np.frombuffer(os.urandom(4), np.uint32).astype(np.uint64)


@dataclass(frozen=True, eq=False)
class Contents:
    """A dataset without files: (n,) int64 numbers, a vector is made from each."""

    ids: Sequence[str]
    numbers: np.ndarray

    @property
    def digests(self) -> Sequence[str]:
        return [hashlib.sha256(number.tobytes()).hexdigest() for number in self.numbers]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows) -> Contents:
        return Contents([self.ids[row] for row in rows], self.numbers[np.asarray(rows, np.int64)])


@dataclass(frozen=True, eq=False)
class NumberedEncoder(Encoder[Contents]):
    @property
    def dim(self) -> int:
        return self.recipe.dim

    def matrix(self, numbers: np.ndarray) -> np.ndarray:
        """(n, dim) float32, each number in [-1, 1) and like no other: xorshift of Marsaglia 2003."""
        x = numbers.astype(np.uint64)[:, None] * np.uint64(self.dim) + np.arange(1, self.dim + 1, dtype=np.uint64)
        x *= np.uint64(0x9E3779B97F4A7C15)
        for left, right in ((13, 7), (17, 5)):
            x ^= x << np.uint64(left)
            x ^= x >> np.uint64(right)
        return ((x >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23)) - np.float32(1)

    def encode(self, data, *, progress=silent) -> Iterator[Batch]:
        digests = data.digests
        for first in range(0, len(data), 1000):
            some = slice(first, first + 1000)
            yield Batch(Vectors(self.entity, data.ids[some], self.matrix(data.numbers[some])), digests[some])

    def arrays(self) -> Mapping[str, np.ndarray]:
        return {"seed": np.array([self.recipe.seed])}


class Numbered(Embedder[Contents]):
    """Numbers as vectors: fast, for datasets of many rows."""

    kind: ClassVar[str] = "numbered"
    data: ClassVar[type] = Contents
    entity: ClassVar[str] = "number"
    inductive: ClassVar[bool] = True

    dim: int = 64

    def fit(self, data, *, start=None, progress=silent) -> NumberedEncoder:
        return NumberedEncoder(self)

    @classmethod
    def restore(cls, recipe, arrays, texts, mode) -> NumberedEncoder:
        return NumberedEncoder(recipe, mode=mode)


def commit_contents(store: VectorStore, data: Contents, recipe: Numbered) -> Version:
    """What `steps.embed` does, for a dataset without files."""
    digest = hashlib.sha256(data.numbers.tobytes() + json.dumps(data.ids).encode()).hexdigest()
    with writing(store.space("s"), os.urandom(4).hex(), wait=0, waiting=print) as writer:
        source = Source("d", digest, len(data), {})
        work = work_of(writer, recipe, data, source, Beginning, force=False, progress=silent)
        return writer.commit(
            work.source, work.encoder, work.batches, {}, time.monotonic(), reuse=work.reuse, encoder_of=work.encoder_of
        )


@contextmanager
def installed(folder: Path) -> Iterator[Path]:
    """Declare both embedders by entry points in `folder`, the way pip leaves them on the path."""
    info = folder / "hashed_rows-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hashed-rows\nVersion: 1.0\n")
    points = "".join(f"{cls.kind} = {__name__}:{cls.__name__}\n" for cls in (Hashed, Drawn, Numbered))
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{points}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.known.cache_clear()
        yield folder
    registry.known.cache_clear()


def write_rows(folder: Path, rows: Mapping[str, bytes]) -> None:
    """Make `folder` hold these files and no others: id (without .png) to content."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.stem not in rows:
            path.unlink()
    for name, content in rows.items():
        path = folder / f"{name}.png"
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
            stamp = next(_ticks) * 1_000_000_000  # the clock of a file system is coarse; digests are cached by it
            os.utime(path, ns=(stamp, stamp))


def write_pipeline(folder: Path, spaces: Mapping[str, str] | None = None, rows: Mapping[str, bytes] | None = None):
    """A pipeline file whose dataset is the files of `rows/`; spaces: name to the rest of its line."""
    spaces = {"s": "embedder: hashed"} if spaces is None else spaces
    lines = "".join(f"  {name}: {{dataset: files, {rest}}}\n" for name, rest in spaces.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "polyvec.yaml").write_text(
        f"store: ./vectors\ndatasets:\n  files: {{kind: images, path: rows, id: stem}}\nspaces:\n{lines}",
        encoding="utf-8",
    )
    if rows is not None:
        write_rows(folder / "rows", rows)
    return folder / "polyvec.yaml"


class Said(Board):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass(frozen=True)
class Done:
    """One run of one space. encoded: ids that went through the encoder, in order; keys: of the encoders they went through."""

    ref: steps.VersionRef
    version: Version
    encoded: Sequence[str]
    keys: frozenset[str]
    said: Sequence[str]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """(input, embedded, reused, quarantined)"""
        counts = self.version.manifest.counts
        return counts.input, counts.embedded, counts.reused, counts.quarantined


def embed(file: Path, space: str = "s", **options) -> Done:
    """`steps.embed`, with all that it did."""
    log = file.parent / "encoded.log"
    pipeline = logged(Pipeline.load(file), log)
    log.unlink(missing_ok=True)
    with reporting_to(Said()) as board:
        ref = steps.embed(pipeline, space, os.urandom(4).hex(), **options)[space]
    encoded, keys = read_log(log)
    return Done(ref, pipeline.vectors.space(space).version(ref.version), encoded, frozenset(keys), board.lines)


def logged(pipeline: Pipeline, log: Path) -> Pipeline:
    """The same, where spaces of our embedders write down what they encode."""
    spaces = {
        name: spec.model_copy(update={"params": {**spec.params, "log": str(log)}})
        if spec.embedder in (Hashed.kind, Drawn.kind)
        else spec
        for name, spec in pipeline.spaces.items()
    }
    return pipeline.model_copy(update={"spaces": spaces})


def read_log(log: Path) -> tuple[list[str], list[str]]:
    """Ids that were encoded, and the key of the encoder of each; a line that a kill cut off does not count."""
    lines = [line for line in log.read_text().splitlines(True) if line.endswith("\n")] if log.is_file() else []
    return [line.split("\t")[0] for line in lines], [line.split("\t")[1].strip() for line in lines]


def bits(version: Version) -> dict[str, bytes]:
    """Each id with the bytes of its vector."""
    assert len(set(version.ids)) == len(version.ids) == len(version.matrix) == len(version)
    return {name: row.tobytes() for name, row in zip(version.ids, version.matrix, strict=True)}


def expected(version: Version, rows: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a full rebuild by the encoder of a version gives."""
    encoder = version.encoder()
    return {name: encoder.vector(content).tobytes() for name, content in rows.items() if good(content)}


def good(content: bytes) -> bool:
    """Whether a row with this content has a vector."""
    return not content.startswith((BAD, SKIP))


def check(done: Done, rows: Mapping[str, bytes]) -> None:
    """A version is what a full rebuild gives, to the bit; its accounts, digests, files and quarantine are right."""
    version, counts = done.version, done.version.manifest.counts
    assert bits(version) == expected(version, rows)
    skipped = sum(content.startswith(SKIP) for content in rows.values())
    assert counts.input == len(rows) == counts.embedded + counts.reused + skipped + counts.quarantined
    assert dict(counts.excluded) == ({"skipped": skipped} if skipped else {}) and not counts.folded_in
    digests = dict(version.table(["id", "digest"]).to_pandas().itertuples(index=False))
    assert digests == {name: hashlib.sha256(rows[name]).hexdigest() for name in digests}
    assert set(version.table(["origin"]).column("origin").to_pylist()) <= {"embedded"}
    bad = sorted(name for name, content in rows.items() if content.startswith(BAD))
    store = Pipeline.load(version.paths.root.parent / "polyvec.yaml").vectors
    assert sorted(row["id"] for row in store.quarantine(version)) == bad
    assert counts.quarantined == len(bad) == done.ref.quarantined
    assert done.ref.reused == counts.reused
    assert list(verify(version)) == []
