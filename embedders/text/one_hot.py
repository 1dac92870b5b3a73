"""One-hot vectors of words: the baseline that says what a dense space buys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Batch, Embedder, Encoder, Progress, Vectors, silent
from embedders.data import Corpus
from embedders.errors import InputError

NUMBERS_AT_ONCE = 1 << 24  # of a batch, 64 MiB


@dataclass(frozen=True, eq=False)
class OneHotWords(Encoder[Corpus]):
    """A vocabulary, and the one number of each word that is not 0.

    Parameters
    ----------
    columns : (words,) int32, its place.
    values : (words,) float32, 1 or -1.
    width : numbers in a vector.
    """

    words: Sequence[str]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    width: int

    @property
    def dim(self) -> int:
        return self.width

    def encode(self, data: Corpus, *, progress: Progress = silent) -> Iterator[Batch]:
        """The vectors of the vocabulary, most frequent word first."""
        size = max(1, min(65536, NUMBERS_AT_ONCE // self.width))
        for first in range(0, len(self.words), size):
            columns = self.columns[first : first + size]
            matrix = np.zeros((len(columns), self.width), np.float32)
            matrix[np.arange(len(columns)), columns] = self.values[first : first + size]
            yield Batch(Vectors(self.entity, self.words[first : first + size], matrix))

    def excluded(self, data: Corpus) -> Mapping[str, int]:
        return {"below_min_count": len(data) - len(self.words)}

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"columns": self.columns, "values": self.values, "width": np.array([self.width])}

    def texts(self) -> Mapping[str, Sequence[str]]:
        return {"words": self.words}


class OneHot(Embedder[Corpus]):
    """A coordinate for each word, as long as there are enough; nothing is learned, and no two words are alike.

    A larger vocabulary is hashed down to `dim` numbers, with signs, so that the words that share a coordinate cancel
    on average (Weinberger et al. 2009, arXiv:0902.2206).
    """

    kind: ClassVar[str] = "one-hot"
    data: ClassVar[type] = Corpus
    entity: ClassVar[str] = "word"
    deterministic: ClassVar[bool] = True

    dim: int = Field(512, ge=1, le=65536, description="numbers in a vector at most; more words are hashed down to it")
    min_count: int = Field(5, ge=1, description="rarer words are left out")

    def fit(self, data: Corpus, *, start: Encoder[Any] | None = None, progress: Progress = silent) -> OneHotWords:
        """Number the words.

        Raises
        ------
        InputError : `start` was given, or no word occurs `min_count` times.
        """
        from xxhash import xxh3_64_intdigest

        if start is not None:
            raise InputError("Got start=..., but 'one-hot' learns nothing. Leave start out.")
        known = int(np.searchsorted(-data.counts, -self.min_count, side="right"))
        if not known:
            raise InputError(
                f"Got a corpus of {len(data):,} distinct words, none of which occurs min_count={self.min_count} times. "
                "Lower min_count, or give more text."
            )
        words = data.words[:known]
        exact = known <= self.dim
        columns, values = np.arange(known, dtype=np.int32), np.ones(known, np.float32)
        if not exact:
            digests = np.fromiter((xxh3_64_intdigest(word.encode()) for word in words), np.uint64, known)
            columns = ((digests >> np.uint64(1)) % np.uint64(self.dim)).astype(np.int32)
            values[digests & np.uint64(1) == 1] = -1
        mode = {"precision": "fp32", "reproducible": "bytes", "hashed": not exact}
        return OneHotWords(self, words, columns, values, known if exact else self.dim, mode=mode)

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> OneHotWords:
        return OneHotWords(
            recipe, texts["words"], arrays["columns"], arrays["values"], int(arrays["width"][0]), mode=mode
        )
