"""word2vec: skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Embedder, Encoder, Progress, Threads, silent
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.start import LONGEST, start_rows
from embedders.text.vectors import WordVectors


class Word2Vec(Embedder[Corpus]):
    """Skip-gram word vectors, trained on all cores.

    The window of each centre word is drawn from 1 to `window`; frequent words are subsampled; negatives follow
    count^0.75 and are shared by the contexts of a centre word.
    """

    kind: ClassVar[str] = "word2vec"
    data: ClassVar[type] = Corpus
    entity: ClassVar[str] = "word"
    warm_start: ClassVar[bool] = True

    dim: int = Field(100, ge=1, le=4096, description="numbers in a vector")
    window: int = Field(5, ge=1, le=1000, description="farthest context word")
    negative: int = Field(5, ge=1, le=100, description="noise words a centre word")
    sample: float = Field(1e-3, ge=0, le=1, description="subsampling threshold of frequent words; 0 keeps all")
    epochs: int = Field(5, ge=1, description="passes over the corpus")
    lr: float = Field(0.025, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    min_count: int = Field(5, ge=1, description="rarer words are left out")
    threads: Threads = 0

    def fit(self, data: Corpus, *, start: Encoder[Corpus] | None = None, progress: Progress = silent) -> WordVectors:
        """Train on `data`; words that `start` knows begin at its vectors.

        Raises
        ------
        InputError : no word occurs `min_count` times, or `start` has another dimension.
        """
        from embedders.kernels.skipgram import SkipGram
        from embedders.kernels.threads import cores

        known = int(np.searchsorted(-data.counts, -self.min_count, side="right"))
        if not known:
            raise InputError(
                f"Got a corpus of {len(data):,} distinct words, none of which occurs min_count={self.min_count} times "
                f"(the most frequent: {int(data.counts.max(initial=0))}). Lower min_count, or give more text."
            )
        words = data.words[:known]
        threads = self.threads or cores()
        model = SkipGram(
            data.counts[:known], self.dim, self.window, self.negative, self.lr,
            total=len(data.tokens) * self.epochs, threads=threads, seed=self.seed, sample=self.sample,
            start=None if start is None else start_rows(start, data, words, self.dim, longest=LONGEST),
        )  # fmt: skip
        for _ in range(self.epochs):
            model.train(data.tokens, data.offsets, progress=progress)
        mode = {"threads": threads, "precision": "fp32", "reproducible": "bytes" if threads == 1 else "no"}
        return WordVectors(self, words, model.matrix, mode=mode)

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> WordVectors:
        return WordVectors(recipe, texts["words"], arrays["matrix"], mode=mode)
