"""TF-IDF and a truncated singular value decomposition: latent semantic analysis (LSA), the classic baseline.

Sources: S. Deerwester et al., "Indexing by latent semantic analysis", JASIS 1990; N. Halko, P. Martinsson and J. Tropp,
"Finding structure with randomness", SIAM Review 2011 (arXiv:0909.4061), algorithm 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Batch, Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Documents
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores, run_threads
from embedders.text import bags

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SPARE = 10  # directions beyond `dim` that the iteration carries along, so that the last ones settle
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class LatentDocuments(Encoder[Documents]):
    """Words with their weights, and the leading directions of the documents.

    Parameters
    ----------
    words : that take part.
    idf : (words,) float32, inverse document frequencies.
    directions : (words, dim) float32, orthonormal columns, the strongest first.
    """

    recipe: TfIdf
    words: Sequence[str]
    idf: NDArray[np.float32]
    directions: Matrix

    @property
    def dim(self) -> int:
        return int(self.directions.shape[1])

    def encode(self, data: Documents, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the documents; one without a known word, or orthogonal to all directions, is rejected."""
        yield from bags.answer(
            self, data, self.words, lambda rows, place: self._embed(data, rows, place), threads=self.recipe.threads,
            faint=f"its words have no part in the {self.dim} strongest directions; raise dim", progress=progress,
        )  # fmt: skip

    def _embed(self, data: Documents, rows: slice, place: NDArray[np.int32]) -> bags.Embedded:
        weights = _weights(data, rows, place, self.idf, sublinear=self.recipe.sublinear)
        return bags.Embedded(weights @ self.directions, np.diff(weights.indptr), np.ones(weights.shape[0], np.float32))


class TfIdf(Embedder[Documents]):
    """Weighted bags of words, scaled to length 1 and projected onto their `dim` strongest directions.

    A word weighs (1 + ln(times in the document)) * (1 + ln((1 + n) / (1 + documents with it))). Later documents are
    projected onto the same directions.
    """

    kind: ClassVar[str] = "tfidf"
    data: ClassVar[type] = Documents
    encoder: ClassVar[type] = LatentDocuments
    entity: ClassVar[str] = "document"
    inductive: ClassVar[bool] = True

    dim: int = Field(100, ge=1, le=4096, description="numbers in a vector")
    sublinear: bool = Field(True, description="a word that stands in a document n times counts 1 + ln(n), else n")
    min_count: int = Field(2, ge=1, description="words that are rarer in the corpus are left out")
    max_df: float = Field(1.0, gt=0, le=1, description="words in a larger share of the documents are left out")
    threads: Threads = 0

    def fit(
        self, data: Documents, *, start: Encoder[Any] | None = None, progress: Progress = silent
    ) -> LatentDocuments:
        """Count in how many documents each word stands, and find the strongest directions.

        Memory is bounded by the vocabulary: the documents are gone through several times, some of them at a time.

        Raises
        ------
        InputError : `start` was given, or fewer than `dim` words or documents are left.
        """
        if start is not None:
            raise InputError("Got start=..., but 'tfidf' begins with nothing. Leave start out.")
        words, place, idf = self._vocabulary(data)
        threads = self.threads or cores()
        waiting = bags.pieces(data)

        def weights(piece: int) -> csr_array[Any]:
            return _weights(data, waiting[piece], place, idf, sublinear=self.sublinear)

        directions, share = strongest(
            weights, len(waiting), len(words), self.dim, threads=threads, seed=self.seed, progress=progress
        )
        mode = {
            "threads": threads, "precision": "fp32", "reproducible": "bytes with the same threads", "words": len(words),
            "share_of_squares": round(share, 4),
        }  # fmt: skip
        return LatentDocuments(self, words, idf, directions, mode=mode)

    def _vocabulary(self, data: Documents) -> tuple[list[str], NDArray[np.int32], NDArray[np.float32]]:
        """The words that take part, the column of each word of the data (-1 for none), and their idf."""
        known = bags.frequent(data.counts, self.min_count)
        place = np.full(len(data.words), -1, np.int32)
        place[:known] = np.arange(known)
        within = np.zeros(known, np.int64)
        for rows in bags.pieces(data):
            found = bags.bags(data, rows, place, known)
            found.sum_duplicates()
            within += np.bincount(found.indices, minlength=known)
        chosen = np.flatnonzero((within > 0) & (within <= self.max_df * len(data)))
        if min(len(chosen), len(data)) < self.dim:
            raise InputError(
                f"Got {len(data):,} documents with {len(chosen):,} words that occur min_count={self.min_count} times and "
                f"in at most max_df={self.max_df:g} of them; expected at least dim={self.dim} of both. Lower dim or "
                "min_count, or give more text."
            )
        place[:] = -1
        place[chosen] = np.arange(len(chosen))
        idf = 1 + np.log((1 + len(data)) / (1 + within[chosen]))
        return [data.words[row] for row in chosen.tolist()], place, idf.astype(np.float32)


def strongest(
    blocks: Callable[[int], csr_array[Any]],
    count: int,
    width: int,
    dim: int,
    *,
    threads: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Matrix, float]:
    """The first right singular vectors of a sparse matrix that is made a block at a time, by subspace iteration.

    Parameters
    ----------
    blocks : block number to (n, width) float32, of `count` blocks; asked for in several rounds.
    threads : each holds a (width, dim + SPARE) sum of its own.

    Returns
    -------
    (width, dim) float32, orthonormal columns, and the share of the matrix's squares that they carry.
    """
    from scipy.linalg import qr

    carried = min(dim + SPARE, width)
    basis = np.random.default_rng(seed).standard_normal((width, carried), np.float32)
    for number in range(ROUNDS + 1):
        with one_thread():
            basis = qr(basis, mode="economic", overwrite_a=True, check_finite=False)[0]
        last = number == ROUNDS
        sums = [np.zeros((carried if last else width, carried), np.float32) for _ in range(min(threads, count))]
        squares = np.zeros(len(sums))

        def work(thread: int, piece: int, basis: Matrix = basis, sums: list[Matrix] = sums, last: bool = last,
                 squares: NDArray[np.float64] = squares) -> None:  # fmt: skip
            for i in range(piece, count, len(sums)):  # always the same ones, so that the sums are
                block = blocks(i)
                along = block @ basis
                sums[piece] += along.T @ along if last else block.T @ along
                squares[piece] += float(np.square(block.data, dtype=np.float64).sum())

        with one_thread():
            run_threads(work, len(sums), len(sums), lambda: None)
        progress(number + 1, ROUNDS + 1, "rounds")
        total = sum(sums[1:], sums[0])
        if last:
            values, turn = np.linalg.eigh(total.astype(np.float64))
            strongest_first = slice(None, -dim - 1, -1)
            found = basis @ turn[:, strongest_first].astype(np.float32)
            share = float(values[strongest_first].clip(0).sum() / max(squares.sum(), 1e-30))
            peak = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)
            return np.ascontiguousarray(found * np.sign(peak)), share
        basis = total
    raise AssertionError


def _weights(
    data: Documents, rows: slice, place: NDArray[np.int32], idf: NDArray[np.float32], *, sublinear: bool
) -> csr_array[Any]:
    """(n, words) float32 TF-IDF of some documents, rows of length 1, or 0 without a known word."""
    found = bags.bags(data, rows, place, len(idf))
    found.sum_duplicates()
    if sublinear:
        found.data = 1 + np.log(found.data)
    found.data *= idf[found.indices]
    owner = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
    lengths = np.sqrt(np.bincount(owner, found.data.astype(np.float64) ** 2, minlength=found.shape[0]))
    found.data /= lengths.astype(np.float32)[owner]
    return found
