"""Whether a version is what its manifest says, to the byte; and whether its rows are what its encoder answers today."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from embedders.data import Rows
from embedders.errors import InputError
from storage import delta
from storage.errors import DamagedError
from storage.layout import read_matrix, read_table
from storage.places import AnyPath
from storage.space import Version


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    place: str
    problem: str


@dataclass(frozen=True)
class Sample:
    """Rows that were embedded again. rows: how many; same: how many gave the same bits; worst: the largest difference of
    a number; cosine: the smallest cosine of a row to what stands in the version.
    """

    rows: int
    same: int
    worst: float
    cosine: float


def verify(version: Version) -> Iterator[Finding]:
    """Compare every file with its digest, the parts with the Delta log, the rows with the counts.

    A part is read twice, one at a time; memory is bounded by a part and the ids.
    """
    manifest, folder = version.manifest, version.paths.space(version.manifest.space)
    rows, ids = 0, []
    for place, entry in zip(version.parts, manifest.files, strict=True):
        problem = _compare(place, entry.xxh128)
        if problem is None:
            try:
                matrix = read_matrix([place], [entry.rows], manifest.dim)
                ids.append(read_table([place], [entry.rows], ["id"]).column("id").combine_chunks())
                bad = int((~np.isfinite(matrix).all(axis=1)).sum())
                problem = f"holds {bad:,} vectors with NaN or infinity" if bad else None
            except DamagedError as error:
                problem = str(error)
        if problem:
            yield Finding(str(place), problem)
        rows += entry.rows
    for name, digest in manifest.model_files.items():
        if problem := _compare(version.paths.root / manifest.model / name, digest):
            yield Finding(f"{version.paths.root}/{manifest.model}/{name}", problem)
    if rows != manifest.counts.rows:
        yield Finding(str(folder), f"holds {rows:,} rows; its counts say {manifest.counts.rows:,}")
    every = pa.chunked_array(
        [piece for one in ids for piece in (one.chunks if isinstance(one, pa.ChunkedArray) else [one])], pa.string()
    )
    if twice := len(every) - pc.count_distinct(every, mode="all").as_py():
        yield Finding(str(folder), f"holds {twice:,} ids more than once")
    log = set(delta.paths(folder, version.delta_version))
    for path in sorted(log ^ {entry.path for entry in manifest.files}):
        where = (
            "in the Delta log and not in the manifest" if path in log else "in the manifest and not in the Delta log"
        )
        yield Finding(f"{folder}/{path}", where)


def _compare(place: AnyPath, digest: str) -> str | None:
    try:
        found = xxhash.xxh3_128(place.read_bytes()).hexdigest()
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
    return None if found == digest else "is not what was written: its bytes have another digest"


def resample(version: Version, data: Rows, rows: int, *, seed: int = 0) -> Sample:
    """Embed some rows again, of those whose input is the same today, and compare.

    Raises
    ------
    InputError : the vectors depend on the whole dataset, or no row's input is as it was.
    """
    encoder = version.encoder()
    if not encoder.recipe.inductive:
        raise InputError(
            f"Got a sample of {version.manifest.space!r}, whose vectors depend on the whole dataset ({encoder.recipe.kind}); "
            "expected a space whose rows are encoded one by one. Leave --sample out."
        )
    found = version.table(["id", "digest"])
    place = pc.fill_null(
        pc.index_in(pa.array(data.ids, pa.string()), value_set=found.column("id").combine_chunks()), -1
    )
    where = place.to_numpy(zero_copy_only=False).astype(np.int64)
    digests = found.column("digest").to_numpy()
    now = np.asarray(data.digests, object)
    same = np.flatnonzero(where >= 0)
    same = same[digests[where[same]] == now[same]]
    if not len(same):
        raise InputError(
            f"No row of {version.manifest.space} @ {version.number} has the input of today. Run the pipeline first."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(same)[:rows])
    stands = dict(zip((data.ids[row] for row in chosen), version.matrix[where[chosen]], strict=True))
    equal, worst, cosine, count = 0, 0.0, 1.0, 0
    for batch in encoder.encode(data.select(chosen)):
        for name, vector in zip(batch.vectors.ids, batch.vectors.matrix, strict=True):
            before = stands[name]
            count += 1
            equal += vector.tobytes() == before.tobytes()
            worst = max(worst, float(np.abs(vector - before).max()))
            norms = float(np.linalg.norm(vector) * np.linalg.norm(before))
            cosine = min(
                cosine, float(vector @ before) / norms if norms else float(vector.tobytes() == before.tobytes())
            )
    return Sample(count, equal, worst, cosine)
