"""Ids of documents, which have to be unique: looked for in memory that does not grow with the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.errors import InputError
from storage.inputs.corpus_documents import documents
from storage.inputs.corpus_files import Source, chunks

if TYPE_CHECKING:
    from storage.inputs.specs import CorpusSpec

AT_ONCE = 1 << 22  # hashes that are compared at once


def check_unique(path: Path, sources: Sequence[Source], spec: CorpusSpec) -> None:
    """Two documents with one id are an error that names both places.

    Their hashes are compared, so many at once as fit into a fixed buffer.
    """
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
        batches = file.num_record_batches
        rows = sum(file.get_batch(i).num_rows for i in range(batches))
        parts = rows // (AT_ONCE) + 1
        for part in range(parts):
            every = (_hashes(file.get_batch(i).column(0)) for i in range(batches))
            mine = np.sort(np.concatenate([hashes[hashes % np.uint64(parts) == part] for hashes in every]))
            if len(twice := np.unique(mine[1:][mine[1:] == mine[:-1]])):
                _find_twice(twice, sources, spec)


def _hashes(ids: pa.LargeStringArray) -> NDArray[np.uint64]:
    from embedders.kernels.hash_table import hash_strings

    _, offsets, data = ids.buffers()
    bounds = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    out = np.empty(len(ids), np.uint64)
    hash_strings(np.frombuffer(data or b"", np.uint8), bounds, out)
    return out


def _find_twice(hashes: NDArray[np.uint64], sources: Sequence[Source], spec: CorpusSpec) -> None:
    """Read ids again until one comes twice; a chance meeting of two hashes is none."""
    seen: dict[str, str] = {}
    for pieces in chunks(sources, spec):
        found = documents(pieces, spec)
        for at in np.flatnonzero(np.isin(_hashes(found.ids), hashes)).tolist():
            id, location = found.ids[at].as_py(), found.location(at)
            if id in seen:
                raise InputError(
                    f"Got the id {id!r} twice: {seen[id]} and {location}; expected unique ids. Rename one, or name another column."
                )
            seen[id] = location
