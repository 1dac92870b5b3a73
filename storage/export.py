"""A version handed over to other tools: files of their formats, written in bounded memory, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from embedders.base import Matrix, Progress, silent
from embedders.errors import InputError
from storage.digests import compare
from storage.errors import DamagedError, NotWritableError
from storage.names import SPLITS_LINES, SPLITS_WORDS, Names
from storage.places import AnyPath
from storage.space import Version

MANIFEST = "_manifest.json"  # Spark, pyarrow and pandas pass over names with "_" when they read a folder of Parquet
NUMBERS_AT_ONCE = 1 << 18
ROWS_AT_ONCE = 8192

Pieces = Iterable[tuple[pa.StringArray, Matrix]]
Writer = Callable[[Version, Pieces, Path], int]


@dataclass(frozen=True)
class Export:
    """What was written. files: their names in `folder`; encoded: ids that are written percent-encoded."""

    folder: Path
    files: tuple[str, ...]
    bytes: int
    encoded: int


def export(version: Version, folder: str | os.PathLike[str], form: str, *, progress: Progress = silent) -> Export:
    """Write a version into a new or empty folder, with its manifest beside, in the order of its rows.

    Memory is bounded by a row group, whatever the rows. Numbers are float32; in text they are the shortest that
    give the same float32 back, also by way of float64 (but for one, 7.038531e-26: all were tried).

    Parameters
    ----------
    folder : stands there only when it is whole; the work is done in a hidden folder beside it.
    form : a name of `FORMATS`.

    Raises
    ------
    InputError : no such format; the folder holds something; an id that the format cannot carry.
    NotWritableError : the folder cannot be written.
    DamagedError : a part of the version is missing or broken.
    """
    if form not in FORMATS:
        raise InputError(f"Got the format {form!r}; expected one of {', '.join(FORMATS)}. Name one of these.")
    version.check_vectors()
    root = version.paths.root
    if isinstance(root, Path) and Path(folder).resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"Got the folder {str(folder)!r}, which is inside the store {root}; expected one outside. Name another folder."
        )
    target = _vacant(Path(folder))
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        part.mkdir(parents=True)
        encoded = FORMATS[form](version, _pieces(version, progress), part)
        (part / MANIFEST).write_text(version.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        written = {path.name: path.stat().st_size for path in sorted(part.iterdir())}
        part.rename(target)
    except OSError as error:
        raise NotWritableError(
            f"Got the folder {str(target)!r}, which cannot be written ({error}); expected one with room and the right to "
            "write. Make room, or name another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Export(target, tuple(written), sum(written.values()), encoded)


def _vacant(folder: Path) -> Path:
    """The folder's real path, if nothing is in it."""
    target = folder.resolve()
    try:
        found = next(target.iterdir(), None) if target.exists() else None
    except NotADirectoryError:
        found = target
    except OSError as error:
        raise NotWritableError(
            f"Got the folder {str(folder)!r}, which cannot be looked into ({error}). Name another folder."
        ) from error
    if found is not None:
        what = "which is a file" if found == target else f"which holds {found.name!r}"
        raise InputError(f"Got the folder {str(folder)!r}, {what}; expected a new or empty folder. Name another one.")
    if target == Path.cwd():
        raise InputError(
            f"Got the folder {str(folder)!r}, the one you are in; it would be replaced. Name a new one in it."
        )
    return target


def _pieces(version: Version, progress: Progress) -> Iterator[tuple[pa.StringArray, Matrix]]:
    """Ids and (k, dim) float32 of a few rows at a time."""
    dim, total, done = version.dim, len(version), 0
    for batch in version.batches(rows=max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // dim))):
        column = batch.column("vector")
        if (np.diff(column.offsets.to_numpy()) != dim).any():
            raise DamagedError(
                f"Got vectors of other lengths among those of {version!r}; expected {dim} numbers each. Restore its files "
                "from a copy, or run the pipeline with --force."
            )
        yield batch.column("id"), column.flatten().to_numpy().reshape(-1, dim)
        done += batch.num_rows
        progress(done, total, "rows")
    if done != total:
        raise DamagedError(
            f"Got {done:,} rows of {version!r}; expected {total:,}. Restore its files from a copy, or run the pipeline "
            "with --force."
        )


def write_parquet(version: Version, pieces: Pieces, folder: Path) -> int:
    """`part-00000.parquet`, ...: the version's own files; hard links where the file system can, otherwise copies."""
    for number, (place, entry) in enumerate(zip(version.parts, version.manifest.files, strict=True)):
        if problem := compare(place, entry.xxh128):
            raise DamagedError(f"The part {place} {problem}. Restore it from a copy, or run the pipeline with --force.")
        _link_or_copy(place, folder / f"part-{number:05d}.parquet")
    return 0


def _link_or_copy(place: AnyPath, target: Path) -> None:
    if isinstance(place, Path):
        try:
            os.link(place, target)
            return
        except OSError:  # another file system, or one without hard links
            pass
    with place.open("rb") as source, target.open("xb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def write_word2vec(version: Version, pieces: Pieces, folder: Path) -> int:
    """`vectors.txt`: a line "rows dim", then a line "id number number ..." each row."""
    names = Names(version, SPLITS_WORDS)
    with (folder / "vectors.txt").open("xb") as file:
        file.write(f"{len(version)} {version.dim}\n".encode())
        for ids, matrix in pieces:
            file.write(_text(pc.binary_join_element_wise(names(ids), _numbers(matrix, " "), " ")))
    return names.encoded


def write_word2vec_binary(version: Version, pieces: Pieces, folder: Path) -> int:
    """`vectors.bin`: a line "rows dim", then each row's id, a space, little-endian float32, a newline, as word2vec.c has it."""
    names = Names(version, SPLITS_WORDS)
    with (folder / "vectors.bin").open("xb") as file:
        file.write(f"{len(version)} {version.dim}\n".encode())
        for ids, matrix in pieces:
            rows = zip(names(ids).to_pylist(), matrix.astype("<f4", copy=False), strict=True)
            file.writelines(b"%b %b\n" % (name.encode(), row) for name, row in rows)
    return names.encoded


def write_npy(version: Version, pieces: Pieces, folder: Path) -> int:
    """`vectors.npy`: (n, dim) float32; `ids.json`: a list of n strings, one a line."""
    shape = (len(version), version.dim)
    with (folder / "vectors.npy").open("xb") as vectors, (folder / "ids.json").open("x", encoding="utf-8") as names:
        np.lib.format.write_array_header_1_0(vectors, {"descr": "<f4", "fortran_order": False, "shape": shape})
        before = "[\n"
        for ids, matrix in pieces:
            vectors.write(matrix.astype("<f4", copy=False).data)
            names.write(before + ",\n".join(json.dumps(name, ensure_ascii=False) for name in ids.to_pylist()))
            before = ",\n"
        names.write("\n]\n")
    return 0


def write_tensorboard(version: Version, pieces: Pieces, folder: Path) -> int:
    """`vectors.tsv`, `metadata.tsv` (one column, so no header) and `projector_config.pbtxt`: a log folder of TensorBoard."""
    names = Names(version, SPLITS_LINES)
    with (folder / "vectors.tsv").open("xb") as vectors, (folder / "metadata.tsv").open("xb") as metadata:
        for ids, matrix in pieces:
            vectors.write(_text(_numbers(matrix, "\t")))
            metadata.write(_text(names(ids)))
    config = f"""\
embeddings {{
  tensor_name: "{version.manifest.space}@{version.manifest.version}"
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
}}
"""
    (folder / "projector_config.pbtxt").write_text(config, encoding="utf-8")
    return names.encoded


def write_csv(version: Version, pieces: Pieces, folder: Path) -> int:
    """`vectors.csv`: a header, then `id` in quotes and a column each dimension, `v0`, `v1`, ..."""
    numbers = [pa.field(f"v{i}", pa.float32(), nullable=False) for i in range(version.dim)]
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), *numbers])
    with pyarrow.csv.CSVWriter(folder / "vectors.csv", schema) as file:
        for ids, matrix in pieces:
            file.write(pa.RecordBatch.from_arrays([ids, *map(pa.array, np.ascontiguousarray(matrix.T))], schema=schema))
    return 0


def _numbers(matrix: Matrix, between: str) -> pa.StringArray:
    """(k, dim) float32 as k texts."""
    ends = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pc.binary_join(
        pa.ListArray.from_arrays(pa.array(ends), pa.array(matrix.reshape(-1)).cast(pa.string())), between
    )


def _text(lines: pa.StringArray) -> bytes:
    """Lines, each with its end."""
    whole = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), "\n")
    return bytes(whole[0].as_buffer()) + b"\n"


FORMATS: Mapping[str, Writer] = {
    "parquet": write_parquet,
    "word2vec": write_word2vec,
    "word2vec-bin": write_word2vec_binary,
    "npy": write_npy,
    "tensorboard": write_tensorboard,
    "csv": write_csv,
}
