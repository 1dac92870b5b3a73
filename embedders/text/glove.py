"""GloVe: global vectors from co-occurrence counts (Pennington, Socher and Manning 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from embedders.base import EXECUTION, Embedder, Encoder, Progress, Threads, silent
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.start import check_freeze, start_rows
from embedders.text.vectors import WordVectors, frequent


class Glove(Embedder[Corpus]):
    """Word vectors whose products tell how often words stand near each other: sums of word and context vectors.

    A pair counts 1 / distance within the window. Counting goes to disk where memory ends. Training is AdaGrad as in
    version 1.2 of the authors' C code; the same seed gives the same bytes on any number of threads.
    """

    kind: ClassVar[str] = "glove"
    data: ClassVar[type] = Corpus
    encoder: ClassVar[type] = WordVectors
    entity: ClassVar[str] = "word"

    dim: int = Field(100, ge=1, le=4096, description="numbers in a vector")
    window: int = Field(15, ge=1, le=1000, description="farthest neighbour; one at distance d counts 1/d")
    symmetric: bool = Field(True, description="neighbours on both sides count; false: only those to the left")
    x_max: float = Field(100.0, gt=0, description="pairs that occur more often weigh no more")
    alpha: float = Field(0.75, ge=0, le=1, description="rarer pairs weigh (count / x_max) to this power")
    epochs: int = Field(25, ge=1, description="passes over the pairs")
    lr: float = Field(0.05, gt=0, le=1, description="first learning rate; AdaGrad lowers it for each number")
    min_count: int = Field(5, ge=1, description="rarer words are left out")
    max_vocab: int | None = Field(None, ge=1, description="most words; the rarest are left out")
    freeze: bool = Field(False, description="words that the start knows keep their vectors; only the others learn")
    threads: Threads = 0
    memory: int = Field(
        1024,
        ge=1,
        json_schema_extra=EXECUTION,
        description="MiB for counting, besides the vectors; the rest goes to disk",
    )
    scratch: str | None = Field(
        None, json_schema_extra=EXECUTION, description="folder for temporary data; none: that of the system"
    )

    def located(self, base: Path) -> Self:
        """Take a relative `scratch` from the folder `base`."""
        if self.scratch is None:
            return self
        return self.model_copy(update={"scratch": str(base / Path(self.scratch).expanduser())})

    def fit(self, data: Corpus, *, start: Encoder[Corpus] | None = None, progress: Progress = silent) -> WordVectors:
        """Count and train; words that `start` knows begin at its vectors, and stay there with `freeze`.

        Raises
        ------
        InputError : no word occurs `min_count` times; no two of them are neighbours; `start` has another dimension; `freeze`
            without a start; the rate is too high; `scratch` cannot be written to.
        PolyvecError : the disk is full.
        """
        from embedders.kernels.adagrad import AdaGrad
        from embedders.kernels.cooccurrence import Cooccurrence
        from embedders.kernels.pairs import arrange
        from embedders.kernels.threads import cores
        from embedders.spill import Spill

        check_freeze(self.freeze, start)
        words = frequent(data, self.min_count, self.max_vocab)
        known, counts = len(words), data.counts[: len(words)]
        before = None if start is None else start_rows(start, data, words, self.dim)
        threads, memory = self.threads or cores(), self.memory << 20
        folder = None if self.scratch is None else Path(self.scratch)
        with Spill(memory // 2, folder) as kept:
            with Spill(memory // 2, folder) as rows:
                counted = Cooccurrence(known, self.window, self.symmetric, threads, memory, rows)
                counted.count(data.tokens, data.offsets, progress)
                pairs = arrange(counted, counts, self.x_max, self.alpha, kept)
            if not pairs.count:
                raise InputError(
                    f"Got no two words of the vocabulary ({known:,} words) beside each other in any document; expected "
                    "documents of several words. Lower min_count, or look how the text is cut."
                )
            model = AdaGrad(known, self.dim, self.lr, self.symmetric, threads, self.seed, before, self.freeze)
            done, total = np.arange(self.epochs) * pairs.count, self.epochs * pairs.count
            loss = [model.train(pairs, progress, int(so_far), total) for so_far in done]
        mode = {
            "threads": threads, "precision": "fp32", "reproducible": "bytes",
            "tokens": len(data.tokens), "vocabulary": known, "pairs": pairs.count, "loss": loss,
        }  # fmt: skip
        return WordVectors(self, words, model.matrix, mode=mode)
