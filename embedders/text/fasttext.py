"""fastText: words made of character n-grams (Bojanowski et al. 2017, arXiv:1607.04606), so that unseen words have vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from embedders.base import Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.start import check_freeze, picked, start_rows
from embedders.text.vectors import WordVectors, frequent


@dataclass(frozen=True, eq=False)
class SubwordVectors(WordVectors):
    """A vocabulary, its vectors, and what its n-grams learned.

    buckets : (m,) int32, ascending: the buckets that occur in the vocabulary.
    ngrams : (m, dim) float32, their rows.
    context : (n, dim) float32, the rows that answered in training; a warm start goes on from them.
    """

    buckets: NDArray[np.int32]
    ngrams: Matrix
    context: Matrix

    def vectors_of(self, words: Sequence[str]) -> Matrix:
        """(len(words), dim) float32: vectors of any words, those of the vocabulary as they stand.

        A word that is not there is the mean of the rows of its n-grams; n-grams that the vocabulary never saw add
        nothing.

        Raises
        ------
        InputError : no n-gram of a word is known.
        """
        from embedders.kernels.subwords import ngram_buckets

        recipe = self.recipe
        assert isinstance(recipe, FastText)
        out = np.empty((len(words), self.dim), np.float32)
        row = {word: i for i, word in enumerate(self.words)}
        indptr, buckets = ngram_buckets(words, recipe.min_n, recipe.max_n, recipe.buckets)
        for i, word in enumerate(words):
            if word in row:
                out[i] = self.matrix[row[word]]
                continue
            asked = buckets[indptr[i] : indptr[i + 1]]
            place = np.searchsorted(self.buckets, asked)
            known = place[place < len(self.buckets)]
            known = known[self.buckets[known] == asked[place < len(self.buckets)]]
            if not len(known):
                raise InputError(
                    f"Got {word!r}, which is not in the vocabulary and shares no run of {recipe.min_n} to {recipe.max_n} "
                    "characters with it; expected a word of the same language and script. Ask for another word."
                )
            out[i] = self.ngrams[known].mean(axis=0)
        return out


class FastText(Embedder[Corpus]):
    """Word vectors as means of a word's own row and those of its character n-grams, trained on all cores.

    In skip-gram the composed centre word finds the words around it, in CBOW the mean of all rows around it finds the
    centre word. Frequent words are subsampled; noise words follow count^0.75. Memory: a row for each word and for each
    bucket that occurs in the vocabulary, not for all buckets.
    """

    kind: ClassVar[str] = "fasttext"
    data: ClassVar[type] = Corpus
    encoder: ClassVar[type] = SubwordVectors
    entity: ClassVar[str] = "word"
    subwords: ClassVar[bool] = True  # its encoder has `vectors_of`, for words that the vocabulary lacks

    model: Literal["skipgram", "cbow"] = Field(
        "skipgram", description="the centre finds the words around it (skipgram), or they find the centre (cbow)"
    )
    dim: int = Field(100, ge=1, le=4096, description="numbers in a vector")
    window: int = Field(5, ge=1, le=1000, description="farthest context word")
    negative: int = Field(5, ge=1, le=100, description="noise words a context word")
    sample: float = Field(1e-3, ge=0, le=1, description="subsampling threshold of frequent words; 0 keeps all")
    epochs: int = Field(5, ge=1, description="passes over the corpus")
    lr: float = Field(0.05, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    min_count: int = Field(5, ge=1, description="rarer words are left out")
    max_vocab: int | None = Field(None, ge=1, description="most words; the rarest are left out")
    min_n: int = Field(3, ge=1, le=100, description="fewest characters of an n-gram of <word>")
    max_n: int = Field(6, ge=1, le=100, description="most characters of an n-gram of <word>")
    buckets: int = Field(2_000_000, ge=1, le=2**31 - 1, description="n-grams are hashed into so many numbers")
    freeze: bool = Field(False, description="words that the start knows keep their vectors; only the others learn")
    threads: Threads = 0

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.max_n < self.min_n:
            raise ValueError(f"Got min_n={self.min_n} and max_n={self.max_n}; expected max_n to be no smaller.")
        return self

    def fit(self, data: Corpus, *, start: Encoder[Corpus] | None = None, progress: Progress = silent) -> SubwordVectors:
        """Train on `data`; words that `start` knows begin at its vectors, and stay there with `freeze`.

        If `start` is a fastText with the same n-grams, their rows go on as well, and the rows that answer; else each
        n-gram begins at the mean vector of the words of `start` that hold it. With `freeze` the n-grams of known words stay
        as well: a new word learns by its own row and by the n-grams that are new.

        Raises
        ------
        InputError : no word occurs `min_count` times; `start` has another dimension; `freeze` without a start.
        """
        from embedders.kernels.subword_gram import SubwordGram
        from embedders.kernels.subwords import Subwords
        from embedders.kernels.threads import cores

        check_freeze(self.freeze, start)
        words = frequent(data, self.min_count, self.max_vocab)
        table = Subwords.of(words, self.min_n, self.max_n, self.buckets)
        threads = self.threads or cores()
        rows = ngrams = context = frozen = None
        if start is not None:
            rows = start_rows(start, data, words, self.dim)
            frozen = ~np.isnan(rows[:, 0]) if self.freeze else None
            if isinstance(start, SubwordVectors) and _ngrams_of(start.recipe) == _ngrams_of(self):
                ngrams = picked(start.buckets.tolist(), start.ngrams, table.buckets.tolist())
                if start.recipe.model_dump()["model"] == self.model:
                    context = picked(start.words, start.context, words)
            else:
                ngrams = table.means(rows)
        model = SubwordGram(
            data.counts[: len(words)], table, self.dim, self.window, self.negative, self.lr,
            total=len(data.tokens) * self.epochs, threads=threads, seed=self.seed, sample=self.sample,
            cbow=self.model == "cbow", start=rows, start_ngrams=ngrams, start_context=context, frozen=frozen,
        )  # fmt: skip
        for _ in range(self.epochs):
            model.train(data.tokens, data.offsets, progress=progress)
        mode = {
            "threads": threads, "precision": "fp32", "reproducible": "bytes" if threads == 1 else "no",
            "tokens": len(data.tokens), "vocabulary": len(words), "buckets": len(table.buckets),
        }  # fmt: skip
        order, matrix = np.argsort(table.buckets), model.matrix
        if frozen is not None and rows is not None:
            matrix[frozen] = rows[frozen]  # which the mean of the parts is but for rounding
        return SubwordVectors(self, words, matrix, table.buckets[order], model.ngrams[order], model.context, mode=mode)


def _ngrams_of(recipe: Any) -> tuple[int, int, int]:
    """What decides which n-gram has which number."""
    return recipe.min_n, recipe.max_n, recipe.buckets
