"""Text files to a corpus or its documents, by way of a token file in the cache that the next read maps into memory."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from embedders.base import Progress, silent
from embedders.data import Corpus, Documents, Rejected
from embedders.errors import InputError
from embedders.kernels.threads import cores
from storage.inputs import corpus_build
from storage.inputs.corpus_files import Source, lines
from storage.inputs.strings import ArrowStrings, HexStrings
from storage.room import room

if TYPE_CHECKING:
    from storage.digests import File
    from storage.inputs.specs import CorpusSpec, Scan

__all__ = ["lines", "read", "read_corpus", "read_documents"]

KEPT = 8
"""Corpora that stay in a store's cache: those read last."""


def read(spec: CorpusSpec, scan: Scan, kind: type, cache: Path, progress: Progress = silent) -> Corpus | Documents:
    """A dataset as `kind`, Corpus or Documents, from the cache; it is built there first if need be.

    Raises
    ------
    InputError : a file cannot be read or has changed since the scan, two documents have one id, or there is no word.
    FullError : the disk of the cache is full.
    """
    folder = cache / "corpora"
    place = folder / scan.digest
    if (found := _open(place, kind)) is not None:
        with suppress(OSError):
            os.utime(place)
        return found
    try:
        with room(folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError:  # a store that can only be read
        return _read_aside(spec, scan, kind, progress)
    with room(folder), _locked(folder / "lock", scan.bytes, progress):
        found = _open(place, kind)  # another one may have built it meanwhile
        if found is None:
            _clear(folder, place)
            fresh = folder / f"{scan.digest}.tmp"
            try:
                _build(fresh, spec, scan, progress)
                fresh.rename(place)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            found = _open(place, kind)
    assert found is not None
    return found


def read_corpus(files: list[tuple[str, Path]], *, progress: Progress = silent, **options: Any) -> Corpus:
    """Read files without a store: as `read` does, in a folder that goes with the arrays.

    files : (name, path); the ids of documents begin with the name.
    options : of `CorpusSpec`.
    """
    found = _read_files(files, options, Corpus, progress)
    assert isinstance(found, Corpus)
    return found


def read_documents(files: list[tuple[str, Path]], *, progress: Progress = silent, **options: Any) -> Documents:
    """What `read_corpus` reads, with each document a row."""
    found = _read_files(files, options, Documents, progress)
    assert isinstance(found, Documents)
    return found


def _read_files(
    files: list[tuple[str, Path]], options: dict[str, Any], kind: type, progress: Progress
) -> Corpus | Documents:
    from storage.digests import look
    from storage.inputs.specs import CorpusSpec, Scan

    spec = CorpusSpec(kind="corpus", path=".", **options)
    found = tuple(look(path) for _, path in files)
    names, paths = tuple(name for name, _ in files), tuple(str(path) for _, path in files)
    assets = () if spec.stop_words is None else (str(Path(spec.stop_words).absolute()),)
    scan = Scan(names, paths, (), "", sum(file.size for file in found), found, assets)
    return _read_aside(spec, scan, kind, progress)


def _read_aside(spec: CorpusSpec, scan: Scan, kind: type, progress: Progress) -> Corpus | Documents:
    """Build in a folder of its own that is taken away once it is mapped."""
    with tempfile.TemporaryDirectory(prefix="polyvec-", ignore_cleanup_errors=True) as name:
        place = Path(name) / "corpus"
        with room(place):
            _build(place, spec, scan, progress)
        found = _open(place, kind)
    assert found is not None
    return found


def _build(folder: Path, spec: CorpusSpec, scan: Scan, progress: Progress) -> None:
    from storage.digests import look

    folder.mkdir()
    sources = [
        Source(name, path, file.size) for name, path, file in zip(scan.names, scan.files, scan.found, strict=True)
    ]
    stop_words = Path(scan.assets[0]) if scan.assets else None
    threads = min(cores(), corpus_build.THREADS)
    files = [*scan.found, *(look(Path(path)) for path in scan.assets)]
    try:
        corpus_build.build(folder, sources, spec, stop_words, threads, progress)
    except InputError:
        _check_same(files)  # the better reason
        raise
    _check_same(files)


def _check_same(files: Sequence[File]) -> None:
    """Raise if a file is not what the scan found."""
    from storage.digests import look

    for file in files:
        now = look(Path(file.path))
        if (now.size, now.mtime_ns) != (file.size, file.mtime_ns):
            raise InputError(
                f"Got {file.path!r}, which changed while it was read; expected a file that stays as it is. Run again when it is written."
            )


# What lies in a folder


def _open(folder: Path, kind: type) -> Corpus | Documents | None:
    """Map what was built; None where there is nothing, or nothing of use."""
    try:
        if json.loads((folder / "about.json").read_text(encoding="utf-8")) != corpus_build.about():
            return None
        words, ids = _arrow(folder / "words.arrow"), _arrow(folder / "ids.arrow")["id"]
        texts, tokens = _map(folder / "texts.bin", np.int64), _map(folder / "tokens.bin", np.int32)
        held = folder / "documents.bin"
        ends = _map(held, np.int64) if held.exists() else texts
        digests = _map(folder / "digests.bin", np.uint8).reshape(-1, 16)
        if not (texts[-1] == ends[-1] == len(tokens) and len(ids) == len(digests) == len(ends) - 1):
            return None  # files that a crash of the machine cut short
        rejected = tuple(
            Rejected(**row) for batch in _arrow(folder / "rejected.arrow").to_batches() for row in batch.to_pylist()
        )
        names, counts = words["word"].to_pylist(), words["count"].to_numpy()
        if kind is Corpus:
            return Corpus(names, counts, tokens, texts, rejected)
        offsets = np.lib.stride_tricks.sliding_window_view(ends, 2)
        return Documents(ArrowStrings(ids), HexStrings(digests), names, counts, tokens, offsets, rejected)
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        return None


def _map(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """A file of numbers as a read-only array that lies in memory as far as it is used."""
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)


def _arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        return file.read_all()


# The cache


@contextmanager
def _locked(path: Path, size: int, progress: Progress) -> Iterator[None]:
    """Be the only one that builds in this cache: a build takes all cores. The lock goes with its process."""
    lock = FileLock(path)
    while not lock.is_locked:
        with suppress(Timeout):
            lock.acquire(timeout=0.5)
            break
        progress(0, size, "bytes")  # this may be told to stop
    try:
        yield
    finally:
        lock.release()


def _clear(folder: Path, wanted: Path) -> None:
    """Make room for a corpus: take out what is no longer whole or was read longest ago.

    Whoever has one mapped goes on reading it: the system keeps a file until it is closed.
    """
    corpora = sorted((path for path in folder.iterdir() if path.is_dir()), key=_used, reverse=True)
    whole = [path for path in corpora if path.suffix != ".tmp" and path != wanted]
    for path in [path for path in corpora if path not in whole] + whole[KEPT - 1 :]:
        gone = path.with_name(path.name.removesuffix(".tmp") + ".tmp")
        with suppress(OSError):
            path.rename(gone)  # whole or not there
        shutil.rmtree(gone, ignore_errors=True)


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
