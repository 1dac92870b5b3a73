"""Documents as weighted means of word vectors, without what all of them share.

Source: S. Arora, Y. Liang and T. Ma, "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017 (smooth
inverse frequency, SIF).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Batch, Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Documents
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.text import bags


@dataclass(frozen=True, eq=False)
class DocumentMeans(Encoder[Documents]):
    """Word vectors by weight, and the directions that are taken out of their means.

    Parameters
    ----------
    words : that have a vector.
    weighted : (words, dim) float32, each vector times a / (a + p(word)).
    common : (components, dim) float32, orthonormal.
    """

    recipe: DocumentMean
    words: Sequence[str]
    weighted: Matrix
    common: Matrix

    @property
    def dim(self) -> int:
        return int(self.weighted.shape[1])

    def encode(self, data: Documents, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the documents; one without a known word, or of which nothing is left, is rejected."""
        faint = "its vector is all common component, and nothing is left of it; set components: 0 to keep that"
        yield from bags.answer(
            self, data, self.words, lambda rows, place: self._embed(data, rows, place), threads=self.recipe.threads,
            faint=faint, progress=progress,
        )  # fmt: skip

    def _embed(self, data: Documents, rows: slice, place: NDArray[np.int32]) -> bags.Embedded:
        means, known = _means(data, rows, place, self.weighted)
        scale = np.linalg.norm(means, axis=1)
        for direction in self.common:
            means -= np.einsum("ij,j->i", means, direction)[:, None] * direction
        return bags.Embedded(means, known, scale)


class DocumentMean(Embedder[Documents]):
    """The mean of the word vectors of a document, rare words first, without the direction that all documents share.

    The word vectors come from `start`; words that the documents do not hold are kept for documents to come.
    """

    kind: ClassVar[str] = "documents"
    data: ClassVar[type] = Documents
    encoder: ClassVar[type] = DocumentMeans
    entity: ClassVar[str] = "document"
    inductive: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    needs_start: ClassVar[bool] = True

    a: float = Field(1e-3, gt=0, le=1e6, description="a word of relative frequency p weighs a / (a + p)")
    components: int = Field(1, ge=0, le=64, description="common components that are taken out")
    threads: Threads = 0

    def fit(self, data: Documents, *, start: Encoder[Any] | None = None, progress: Progress = silent) -> DocumentMeans:
        """Weigh the word vectors of `start` by how frequent the words are in `data`, and find the common component.

        Raises
        ------
        InputError : there is no start, it has no word vectors, or no document holds a known word.
        """
        if start is None or start.entity != "word":
            got = "no start" if start is None else f"a start that gives {start.entity} vectors"
            raise InputError(
                f"Got {got}; 'documents' averages the vectors of words. Write start: {{space: WORDS}}, with a space "
                "that word2vec or another embedder of words makes."
            )
        words: list[str] = []
        parts: list[Matrix] = []
        for batch in start.encode(data):
            words += batch.vectors.ids
            parts.append(batch.vectors.matrix)
        if not words:
            raise InputError("Got a start without a word; expected word vectors. Look at the space it names.")
        place = bags.places(data.words, words)
        share = np.zeros(len(words))
        share[place[place >= 0]] = data.counts[place >= 0] / max(1, data.counts.sum())
        weighted = np.concatenate(parts)
        weighted *= (self.a / (self.a + share)).astype(np.float32)[:, None]
        common = self._common(data, place, weighted, progress)
        return DocumentMeans(self, words, weighted, common, mode={"precision": "fp32", "reproducible": "bytes"})

    def _common(self, data: Documents, place: NDArray[np.int32], weighted: Matrix, progress: Progress) -> Matrix:
        """(components, dim) the first right singular vectors of the matrix of all documents, which is not centred."""
        dim = weighted.shape[1]
        if self.components >= dim:
            raise InputError(
                f"Got components={self.components}; expected less than the {dim} numbers of a word vector."
            )
        products, known = np.zeros((dim, dim)), 0
        with one_thread():
            for rows in bags.pieces(data) if self.components else ():
                means, counts = _means(data, rows, place, weighted)
                products += means.T.astype(np.float64) @ means
                known += int((counts > 0).sum())
                progress(rows.stop, len(data), "documents")
            found = np.linalg.eigh(products)[1][:, ::-1].T[: self.components]
        if self.components and not known:
            raise InputError(
                f"Got {len(data):,} documents, none of which holds one of the {len(weighted):,} words of the start. "
                "Check the language of both, and how the dataset cuts words (tokens)."
            )
        peak = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)  # a sign that does not depend
        return np.ascontiguousarray(found * np.sign(peak), np.float32)  # on the library


def _means(
    data: Documents, rows: slice, place: NDArray[np.int32], weighted: Matrix
) -> tuple[Matrix, NDArray[np.int64]]:
    """(n, dim) float32 the mean over the known words of each document, 0 where there is none; and how many these are."""
    found = bags.bags(data, rows, place, len(weighted))
    known = np.diff(found.indptr).astype(np.int64)
    means: Matrix = found @ weighted
    means /= np.maximum(known, 1).astype(np.float32)[:, None]
    return means, known
