"""Whether a version is what its manifest says, to the byte; and whether its rows are what its encoder answers today."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedders.base import Matrix
from embedders.data import Rows
from embedders.errors import InputError
from embedders.registry import embedder_class
from storage import delta
from storage.digests import compare
from storage.errors import DamagedError
from storage.lists import read_lists
from storage.manifest import library_versions
from storage.parts import read_matrix, read_table
from storage.places import AnyPath
from storage.space import Version

ARITHMETIC = ("numpy", "numba", "torch", "torchvision")  # libraries whose other versions may give other last bits
EXACT = ("bytes", "same bits")  # how the manifest of a version begins to say that encoding again gives the same bits


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    place: str
    problem: str


@dataclass(frozen=True)
class Sample:
    """Rows that were embedded again.

    Parameters
    ----------
    rows : how many.
    same : how many gave the same bits.
    worst : the largest difference of a number, relative where numbers are larger than one.
    cosine : the smallest cosine of a row to what stands in the version.
    lost : ids that got no vector this time.
    """

    rows: int
    same: int
    worst: float
    cosine: float
    lost: tuple[str, ...] = ()


def verify(version: Version, seen: MutableMapping[str, str] | None = None) -> Iterator[Finding]:
    """Compare every file with its digest, the parts with the Delta log, the rows with the counts.

    A part is read twice, one at a time; memory is bounded by a part and the ids.

    seen : files that were looked at, each with what is wrong with it, or ""; these are not compared again, as versions
    share files.
    """
    manifest, folder = version.manifest, version.paths.space(version.manifest.space)
    seen = {} if seen is None else seen
    if manifest.table != "vectors":
        yield from _lists_findings(version, seen)
        yield from _log_findings(version, folder)
        return
    ids: list[pa.Array] = []
    for place, entry in zip(version.parts, manifest.files, strict=True):
        if str(place) not in seen:
            seen[str(place)] = compare(place, entry.xxh128) or _unreadable(place, entry.rows, manifest.dim)
        if problem := seen[str(place)]:
            yield Finding(str(place), problem)
        else:
            ids += read_table([place], [entry.rows], ["id"]).column("id").chunks
    model = version.paths.root / manifest.model
    for name, digest in manifest.model_files.items():
        if str(model / name) not in seen:
            seen[str(model / name)] = compare(model / name, digest)
        if problem := seen[str(model / name)]:
            yield Finding(str(model / name), problem)
    if (rows := sum(entry.rows for entry in manifest.files)) != manifest.counts.rows:
        yield Finding(str(folder), f"holds {rows:,} rows; its counts say {manifest.counts.rows:,}")
    every = pa.chunked_array(ids, pa.string())
    if twice := len(every) - pc.count_distinct(every, mode="all").as_py():
        yield Finding(str(folder), f"holds {twice:,} ids more than once")
    yield from _log_findings(version, folder)


def _lists_findings(version: Version, seen: MutableMapping[str, str]) -> Iterator[Finding]:
    """Of recommendations: every part whole, and a list for each user who is counted."""
    users: list[pa.Array] = []
    for place, entry in zip(version.parts, version.manifest.files, strict=True):
        if str(place) not in seen:
            seen[str(place)] = compare(place, entry.xxh128)
        if problem := seen[str(place)]:
            yield Finding(str(place), problem)
            return
        users += [batch.column(0).unique() for batch in read_lists(place, entry.rows, ["user"])]
    found = pc.count_distinct(pa.chunked_array(users, pa.string()), mode="all").as_py()
    if found != (told := version.manifest.counts.rows):
        yield Finding(
            str(version.paths.space(version.manifest.space)), f"holds {found:,} lists; its counts say {told:,}"
        )


def _log_findings(version: Version, folder: AnyPath) -> Iterator[Finding]:
    try:
        log = set(delta.paths(folder, version.delta_version))
    except DamagedError as error:
        yield Finding(f"{folder}/_delta_log", str(error))
        return
    for path in sorted(log ^ {entry.path for entry in version.manifest.files}):
        here, there = ("Delta log", "manifest") if path in log else ("manifest", "Delta log")
        yield Finding(f"{folder}/{path}", f"is in the {here} and not in the {there}")


def _unreadable(place: AnyPath, rows: int, dim: int) -> str:
    """What is wrong with the vectors of a part."""
    try:
        bad = int((~np.isfinite(read_matrix([place], [rows], dim)).all(axis=1)).sum())
    except DamagedError as error:
        return str(error)
    return f"holds {bad:,} vectors with NaN or infinity" if bad else ""


def check_inductive(version: Version) -> None:
    """Refuse to embed rows of a version again where that has no meaning.

    Raises
    ------
    InputError : the vectors depend on the whole dataset.
    """
    version.check_vectors()
    kind = version.manifest.recipe.kind
    if not embedder_class(kind).inductive:
        raise InputError(
            f"Got a sample of {version.manifest.space!r}, whose vectors depend on the whole dataset ({kind}); "
            "expected a space whose rows are encoded one by one. Leave --sample out."
        )


def resample(version: Version, data: Rows, rows: int, *, seed: int = 0) -> Sample:
    """Embed some rows again, of those whose input is the same today, and compare.

    Raises
    ------
    InputError : the vectors depend on the whole dataset, or no row's input is as it was.
    DamagedError : the encoder or a part cannot be read.
    """
    check_inductive(version)
    found = version.table(["id", "digest"]).combine_chunks()
    place = pc.fill_null(pc.index_in(pa.array(data.ids, pa.string()), value_set=found.column("id")), -1)
    where = place.to_numpy(zero_copy_only=False).astype(np.int64)
    known = np.flatnonzero(where >= 0)
    digests = found.column("digest").to_numpy()
    same = known[digests[where[known]] == np.array(data.digests, object)[known]]
    if not len(same):
        raise InputError(
            f"Got no row of {version.manifest.space} @ {version.number} whose input is the same today; expected one to embed again. Run the pipeline first."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(same)[:rows])
    before = _vectors(version, where[chosen])
    answer: dict[str, Matrix] = {}
    for batch in version.encoder().encode(data.select(chosen)):
        answer |= dict(zip(batch.vectors.ids, batch.vectors.matrix, strict=True))
    names = [data.ids[row] for row in chosen]
    back = [i for i, name in enumerate(names) if name in answer]
    lost = tuple(name for name in names if name not in answer)
    if not back:
        return Sample(len(names), 0, 0.0, 1.0, lost)
    now, before = np.stack([answer[names[i]] for i in back]), before[back]
    if now.shape != before.shape:
        raise DamagedError(
            f"The encoder of {version.manifest.space} @ {version.number} gives {now.shape[1]} numbers a row; expected {before.shape[1]}. Restore it from a copy."
        )
    equal = (now.view(np.uint32) == before.view(np.uint32)).all(axis=1)
    worst = float((np.abs(now - before) / np.maximum(1, np.abs(before))).max())
    return Sample(len(names), int(equal.sum()), worst, float(_cosines(now, before, equal).min()), lost)


def sample_problem(version: Version, sample: Sample) -> str:
    """What is wrong with rows that were embedded again; nothing is "".

    The same bits are expected where the manifest promises them and the libraries are those of then; else 1e-5 in
    float32, a cosine of 0.999 in bfloat16.
    """
    m, now = version.manifest, library_versions()
    if sample.lost:
        return f"{len(sample.lost):,} of {sample.rows:,} rows cannot be embedded again, the first {sample.lost[0]!r}"
    promised = str(m.machine.get("reproducible", "")).startswith(EXACT)
    if promised and all(m.libraries.get(name) == now.get(name) for name in ARITHMETIC):
        fine, expected = sample.same == sample.rows, "the same bits"
    elif m.machine.get("precision") == "bf16":
        fine, expected = sample.cosine >= 0.999, "a cosine of 0.999 or more"
    else:
        fine, expected = sample.worst <= 1e-5, "differences up to 1e-5"
    if fine:
        return ""
    return (
        f"embedded again, {sample.rows - sample.same:,} of {sample.rows:,} rows are not the same bits (largest difference "
        f"{sample.worst:.3g}, smallest cosine {sample.cosine:.6f}); expected {expected}"
    )


def _vectors(version: Version, rows: NDArray[np.int64]) -> Matrix:
    """Some vectors of a version; memory is bounded by a part and what is asked for."""
    out = np.empty((len(rows), version.dim), np.float32)
    begin = 0
    for part, entry in zip(version.parts, version.manifest.files, strict=True):
        here = (rows >= begin) & (rows < begin + entry.rows)
        if here.any():
            out[here] = read_matrix([part], [entry.rows], version.dim)[rows[here] - begin]
        begin += entry.rows
    return out


def _cosines(one: Matrix, other: Matrix, equal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each pair of rows; one for equal rows, zero for another pair of which a row has no direction."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found = np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
    return np.where(equal, 1.0, found)
