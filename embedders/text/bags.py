"""Documents as bags of words: sparse rows of counts, a bounded number of documents at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedders.base import Batch, Encoder, Matrix, Progress, Vectors
from embedders.data import Documents, Rejected
from embedders.kernels.threads import cores, run_threads

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DOCUMENTS_AT_ONCE = 4096
TOKENS_AT_ONCE = 1 << 20
FAINT = 1e-5
"""A vector that is shorter than so much of what it was made of holds rounding errors and no direction."""


def places(words: Sequence[str], known: Sequence[str]) -> NDArray[np.int32]:
    """(len(words),) the row of each word in `known`, -1 where it is not there.

    >>> places(["a", "b"], ["b", "c"]).tolist()
    [-1, 0]
    """
    row = {word: i for i, word in enumerate(known)}
    return np.fromiter((row.get(word, -1) for word in words), np.int32, len(words))


def frequent(counts: NDArray[np.int64], min_count: int) -> int:
    """How many words occur at least so often; they are the first ones."""
    return int(np.searchsorted(-counts, -min_count, side="right"))


def pieces(data: Documents) -> list[slice]:
    """Runs of documents of at most DOCUMENTS_AT_ONCE and, where there are several in it, TOKENS_AT_ONCE tokens."""
    ends = np.cumsum(data.offsets[:, 1] - data.offsets[:, 0])
    found, first, before = [], 0, 0
    while first < len(ends):
        fitting = int(np.searchsorted(ends, before + TOKENS_AT_ONCE, side="right"))
        last = min(max(fitting, first + 1), first + DOCUMENTS_AT_ONCE)
        found.append(slice(first, last))
        first, before = last, int(ends[last - 1])
    return found


def bags(data: Documents, rows: slice, place: NDArray[np.int32], width: int) -> csr_array[Any]:
    """How often each word stands in each of some documents.

    Parameters
    ----------
    place : (len(data.words),) the column of each word, -1 to leave it out.
    width : columns.

    Returns
    -------
    (documents, width) float32; a word that stands in a document several times has as many entries of 1.
    """
    from scipy.sparse import csr_array

    begin, end = data.offsets[rows].T
    ends = np.cumsum(end - begin)
    total = int(ends[-1]) if len(ends) else 0
    at = np.arange(total) + np.repeat(begin - ends + (end - begin), end - begin)
    columns = place[data.tokens[at]]
    known = columns >= 0
    counted = np.concatenate([[0], np.cumsum(known)])[np.concatenate([[0], ends])]
    columns = columns[known]
    return csr_array((np.ones(len(columns), np.float32), columns, counted), shape=(len(ends), width))


def presence(data: Documents, min_count: int = 5) -> csr_array[Any]:
    """Which words stand in which documents, one-hot: (n, words) float32 of 0 and 1; rarer words are left out, if not all are."""
    from scipy.sparse import csr_array, vstack

    known = frequent(data.counts, min_count) or len(data.words)
    place = np.where(np.arange(len(data.words)) < known, np.arange(len(data.words)), -1).astype(np.int32)
    parts: list[Any] = [csr_array((0, known), dtype=np.float32)]
    for rows in pieces(data):
        parts.append(bags(data, rows, place, known))
        parts[-1].sum_duplicates()
        parts[-1].data[:] = 1
    whole: csr_array[Any] = vstack(parts, format="csr")
    return whole


class Embedded(NamedTuple):
    """What a run of documents became.

    matrix : (n, dim) float32. known : (n,) how many of its words have vectors. scale : (n,) how long the vector was
    before something was taken out of it.
    """

    matrix: Matrix
    known: NDArray[Any]
    scale: NDArray[Any]


def answer(
    encoder: Encoder[Documents],
    data: Documents,
    known: Sequence[str],
    embed: Callable[[slice, NDArray[np.int32]], Embedded],
    *,
    threads: int,
    faint: str,
    progress: Progress,
) -> Iterator[Batch]:
    """The batches of a document encoder; several are embedded at a time.

    known : the words that the encoder has vectors of. embed : of a run of documents and the place of each word in
        `known`. faint : why nothing may be left of a document that has known words.
    """
    place, waiting, team = places(data.words, known), pieces(data), threads or cores()
    for first in range(0, len(waiting), team):
        some = waiting[first : first + team]
        found: list[Embedded | None] = [None] * len(some)

        def work(thread: int, piece: int, some: list[slice] = some, found: list[Any] = found) -> None:
            found[piece] = embed(some[piece], place)

        run_threads(work, len(some), team, lambda: None)
        for rows, embedded in zip(some, found, strict=True):
            assert embedded is not None
            yield _batch(encoder, data, rows, embedded, len(known), faint)
            progress(rows.stop, len(data), "documents")


def _batch(
    encoder: Encoder[Documents], data: Documents, rows: slice, embedded: Embedded, words: int, faint: str
) -> Batch:
    ids, digests, lengths = data.ids[rows], data.digests[rows], np.diff(data.offsets[rows], axis=1)[:, 0]
    none, gone = embedded.known == 0, np.linalg.norm(embedded.matrix, axis=1) <= FAINT * embedded.scale
    rejected = []
    for row in np.flatnonzero(none | gone).tolist():
        code, message = "zero_vector", faint
        if none[row]:
            code = "no_known_word"
            message = f"none of its {lengths[row]:,} words is among the {words:,} that have a vector"
        rejected.append(Rejected(ids[row], ids[row], code, message))
    good = np.flatnonzero(~(none | gone)).tolist()
    vectors = Vectors(encoder.entity, [ids[row] for row in good], embedded.matrix[good])
    return Batch(vectors, [digests[row] for row in good], rejected=tuple(rejected))
