"""What learning words gives: a vocabulary and a vector a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedders.base import Batch, Encoder, Matrix, Progress, Vectors, batches, silent
from embedders.data import Corpus
from embedders.errors import InputError


def frequent(data: Corpus, min_count: int, most: int | None = None) -> Sequence[str]:
    """The words of a corpus that occur `min_count` times, at most so many, most frequent first.

    Raises
    ------
    InputError : there is none.
    """
    known = int(np.searchsorted(-data.counts, -min_count, side="right"))
    if not known:
        raise InputError(
            f"Got a corpus of {len(data):,} distinct words, none of which occurs min_count={min_count} times "
            f"(the most frequent: {int(data.counts.max(initial=0))}). Lower min_count, or give more text."
        )
    return data.words[: min(known, most or known)]


@dataclass(frozen=True, eq=False)
class WordVectors(Encoder[Corpus]):
    """A vocabulary and its vectors. words: most frequent first. matrix: (n, dim) float32."""

    words: Sequence[str]
    matrix: Matrix

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def encode(self, data: Corpus, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the vocabulary, most frequent word first."""
        yield from batches(Vectors(self.entity, self.words, self.matrix))

    def excluded(self, data: Corpus) -> Mapping[str, int]:
        left = len(data) - len(self.words)
        rare = min(left, int((data.counts < getattr(self.recipe, "min_count", 0)).sum()))
        return {"below_min_count": rare} | ({"beyond_max_vocab": left - rare} if left > rare else {})
