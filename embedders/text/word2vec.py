"""word2vec (Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from embedders.base import EXECUTION, Embedder, Encoder, Matrix, Progress, Threads, silent
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.start import LONGEST, check_freeze, picked, start_rows
from embedders.text.vectors import WordVectors, frequent


@dataclass(frozen=True, eq=False)
class Word2Vectors(WordVectors):
    """Word vectors, and what training goes on from. context: (n, dim) float32, rows that answer; hs: (0, dim)."""

    context: Matrix


class Word2Vec(Embedder[Corpus]):
    """Word vectors by skip-gram or CBOW, with negative sampling or hierarchical softmax, trained on all cores.

    The window of each centre word is drawn from 1 to `window`; frequent words are subsampled; negatives follow
    count^0.75 and are shared by the contexts of a centre word.
    """

    kind: ClassVar[str] = "word2vec"
    data: ClassVar[type] = Corpus
    encoder: ClassVar[type] = Word2Vectors
    entity: ClassVar[str] = "word"
    version: ClassVar[int] = 3
    warm_start: ClassVar[bool] = True

    model: Literal["skipgram", "cbow"] = Field(
        "skipgram", description="each context word answers for the centre word (skipgram), or their mean does (cbow)"
    )
    loss: Literal["ns", "hs"] = Field(
        "ns", description="what it answers: the centre among noise words (ns), or its path in a Huffman tree (hs)"
    )
    dim: int = Field(100, ge=1, le=4096, description="numbers in a vector")
    window: int = Field(5, ge=1, le=1000, description="farthest context word")
    negative: int = Field(5, ge=1, le=100, description="noise words a centre word, if loss is ns")
    sample: float = Field(1e-3, ge=0, le=1, description="subsampling threshold of frequent words; 0 keeps all")
    epochs: int = Field(5, ge=1, description="passes over the corpus")
    lr: float = Field(0.025, gt=0, le=1, description="first learning rate; falls linearly to a ten-thousandth")
    min_count: int = Field(5, ge=1, description="rarer words are left out")
    max_vocab: int | None = Field(None, ge=1, description="most words; the rarest are left out")
    freeze: bool = Field(False, description="words that the start knows keep their vectors; only the others learn")
    threads: Threads = 0
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        json_schema_extra=EXECUTION,
        description="auto: a CUDA device where torch can use one and loss is ns, else the processor",
    )

    def fit(self, data: Corpus, *, start: Encoder[Corpus] | None = None, progress: Progress = silent) -> Word2Vectors:
        """Train on `data`; words that `start` knows begin at its vectors, and stay there with `freeze`.

        If `start` is of the same model and loss, words begin at its context rows as well, others at zero.

        `mode` of the encoder holds the number of tokens and of words, and for each epoch the mean loss of a (context, centre) pair or, of CBOW, of a centre word, taken from a sample of them.

        Raises
        ------
        InputError : no word occurs `min_count` times; `start` has another dimension; `freeze` without a start.
        """
        from embedders.kernels.threads import cores

        check_freeze(self.freeze, start)
        words = frequent(data, self.min_count, self.max_vocab)
        threads, total = self.threads or cores(), len(data.tokens) * self.epochs
        longest = None if self.freeze else LONGEST
        rows = None if start is None else start_rows(start, data, words, self.dim, longest=longest)
        device = self._device()
        kernel = _on_cuda() if device == "cuda" else _on_cpu(hs=self.loss == "hs")
        model = kernel(
            data.counts[: len(words)], self.dim, self.window, self.negative, self.lr,
            total=total, threads=threads, seed=self.seed, sample=self.sample,
            start=rows, start_context=_answering(self, start, words),
            frozen=~np.isnan(rows[:, 0]) if self.freeze and rows is not None else None,
            cbow=self.model == "cbow",
        )  # fmt: skip
        for _ in range(self.epochs):
            model.train(data.tokens, data.offsets, progress=progress)
        mode = {
            "device": device, "threads": threads, "precision": "fp32", "reproducible": "bytes" if threads == 1 and device == "cpu" else "no",
            "tokens": len(data.tokens), "vocabulary": len(words),
            "loss": [round(value, 5) if np.isfinite(value) else None for value in model.loss],
        }  # fmt: skip
        context = model.context if self.loss == "ns" else np.zeros((0, self.dim), np.float32)
        return Word2Vectors(self, words, model.matrix, context, mode=mode)

    def _device(self) -> str:
        """Where to train. The driver is looked for first, because importing torch takes a second."""
        if self.device == "cuda" and self.loss == "hs":
            raise InputError("Got device: cuda with loss: hs; expected loss: ns there. Use device: auto or cpu.")
        if self.device != "auto":
            return self.device
        if self.loss == "hs" or not Path("/dev/nvidiactl").exists() or find_spec("torch") is None:
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


def _on_cpu(*, hs: bool) -> Callable[..., Any]:
    from embedders.kernels.skipgram import SkipGram

    return partial(SkipGram, hs=hs)


def _on_cuda() -> Callable[..., Any]:
    from embedders.text.torch_skipgram import TorchSkipGram

    return partial(TorchSkipGram, device="cuda")


def _answering(recipe: Word2Vec, start: Encoder[Corpus] | None, words: Sequence[str]) -> Matrix | None:
    """(len(words), dim) float32: context rows of a start of the same model and loss, NaN where it has none; else None."""
    if not isinstance(start, Word2Vectors) or not isinstance(start.recipe, Word2Vec) or not len(start.context):
        return None
    if (start.recipe.model, start.recipe.loss) != (recipe.model, recipe.loss):
        return None
    return picked(start.words, start.context, words)
