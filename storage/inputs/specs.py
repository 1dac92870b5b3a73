"""Datasets as the pipeline file names them: where the files are and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from embedders.base import Progress, silent
from embedders.data import Corpus, Documents
from embedders.errors import InputError
from embedders.text.tokens import Tokens
from storage.inputs.base import DatasetSpec, Files, Scan
from storage.inputs.graph_spec import EdgeColumns, GraphSpec
from storage.inputs.images_spec import ImagesSpec
from storage.inputs.interactions import InteractionsSpec
from storage.inputs.table import TableSpec

__all__ = ["AnyDataset", "CorpusSpec", "DatasetSpec", "EdgeColumns", "Files", "GraphSpec", "ImagesSpec", "InteractionsSpec", "Phrasing", "Scan", "TableSpec", "TextColumns"]  # fmt: skip


class TextColumns(BaseModel):
    """Role to column name, in files of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field("text", min_length=1, description="the documents")
    id: str | None = Field(None, min_length=1, description="what identifies each; without it `path:row`")


class Phrasing(BaseModel):
    """Which neighbouring words are joined: those that come together far more often than by chance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: Literal["npmi", "original"] = Field(
        "npmi", description="`npmi`: Bouma 2009, -1 to 1; `original`: Mikolov et al. 2013, of any size"
    )
    threshold: float | None = Field(
        None,
        strict=True,
        allow_inf_nan=False,
        description="pairs that score more are joined; without it 0.5, or 100 for `original`",
    )
    min_count: int = Field(5, ge=1, strict=True, description="pairs and words that come less often are not joined")
    passes: int = Field(1, ge=1, le=4, strict=True, description="each may join what the one before joined")

    @property
    def least(self) -> float:
        """The threshold that holds."""
        return self.threshold if self.threshold is not None else 0.5 if self.score == "npmi" else 100.0


def _phrasing(value: Any) -> Any:
    """`true` is all defaults, `false` none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class CorpusSpec(DatasetSpec):
    """Text: a document a line, a file or a row."""

    gives: ClassVar[tuple[type, ...]] = (Corpus, Documents)
    suffixes: ClassVar[tuple[str, ...]] = (
        ".txt", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet",
    )  # fmt: skip

    kind: Literal["corpus"]
    path: str = Field(
        min_length=1, description="a .txt, .jsonl (these also .gz or .zst) or .parquet file, a folder, or a glob"
    )
    tokens: Tokens = Field(
        "words",
        description="`words`: lower-cased letters and digits with inner apostrophes; `whitespace`: as it stands",
    )
    document: Literal["line", "file"] = Field("line", description="what is a document in files of plain text")
    columns: TextColumns | None = Field(None, description="role to column name, in .jsonl and .parquet files")
    sentences: bool = Field(False, strict=True, description="contexts of words end at the ends of sentences")
    stop_words: str | None = Field(None, min_length=1, description="a file of words that are left out")
    phrases: Annotated[Phrasing | None, BeforeValidator(_phrasing, json_schema_input_type=bool | Phrasing | None)] = (
        Field(None, description="join words that often come together, as in new_york: true, or how")
    )

    @property
    def pattern(self) -> str:
        return self.path

    @property
    def text_columns(self) -> TextColumns:
        """The columns of files of rows."""
        return self.columns or TextColumns.model_validate({})

    @property
    def options(self) -> dict[str, Any]:
        """Those that are as they would be without a word do not count, so that new ones change no old digest."""
        phrases = self.phrases and self.phrases.model_dump() | {"threshold": self.phrases.least}
        added = {
            "document": self.document != "line" and self.document,
            "columns": self.text_columns != TextColumns.model_validate({}) and self.text_columns.model_dump(),
            "sentences": self.sentences,
            "phrases": phrases,
        }
        return {"kind": self.kind, "tokens": self.tokens} | {name: value for name, value in added.items() if value}

    @property
    def assets(self) -> dict[str, str]:
        return {} if self.stop_words is None else {"stop_words": self.stop_words}

    def check(self, paths: Sequence[str]) -> None:
        plain = [
            not path.lower().removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".parquet")) for path in paths
        ]
        if self.columns is not None and all(plain):
            raise InputError(
                f"Got columns for {paths[0]!r}, which is plain text; expected .jsonl or .parquet files. Leave `columns:` out."
            )
        if self.document == "file" and not any(plain):
            raise InputError(
                f"Got `document: file` for {paths[0]!r}, where each row is a document; expected files of plain text. Leave it out."
            )

    def read(self, scan: Scan, kind: type, *, cache: Path, progress: Progress = silent) -> Corpus | Documents:
        from storage.inputs import corpus

        return corpus.read(self, scan, kind, cache, progress)


AnyDataset = Annotated[CorpusSpec | ImagesSpec | GraphSpec | InteractionsSpec | TableSpec, Field(discriminator="kind")]
