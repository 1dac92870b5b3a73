"""What `train:` of the embedder `cnn` may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from embedders.base import EXECUTION
from embedders.digests import file_digest
from embedders.errors import InputError

DATASET = "dataset"
Share = Annotated[float, Field(gt=0, lt=1)]


class Frozen(BaseModel):
    """Base of the options. A place of a file is marked as execution: its content is in the fingerprint instead."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class HoldOut(Frozen):
    """Pictures that training never sees, so that scores on them are honest."""

    share: Share | None = Field(None, description="about this share of the pictures, chosen by their ids and the seed")
    seed: NonNegativeInt = 0
    file: str | None = Field(None, json_schema_extra=EXECUTION, description="a text file with one id on each line")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.share is None) == (self.file is None):
            raise ValueError("one of share and file")
        return self


class Training(Frozen):
    """How a network is trained; `method: labels` tells classes apart, `method: simclr` needs none."""

    method: Literal["labels", "simclr"] = Field(
        "labels", description="tell labels apart, or tell pictures apart whatever piece of them is seen (simclr)"
    )
    labels: str | None = Field(
        None,
        json_schema_extra=EXECUTION,
        description="dataset (those of the dataset), or a file: .csv or .tsv with a header, .jsonl, .parquet",
    )
    id: str = Field("id", description="the file's column of ids")
    label: str = Field("label", description="the file's column of labels")
    layers: Literal["head", "last", "all"] = Field(
        "all", description="what learns: all layers, the last block and what follows it, or only what `dim` adds"
    )
    dim: PositiveInt | None = Field(
        None,
        description="numbers in a vector: a linear layer that is learned after the pooling; none: the pooled features",
    )
    epochs: PositiveInt = Field(20, description="passes over the pictures, at most")
    batch_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="pictures a step; none: 64, with simclr 256"
    )
    learning_rate: PositiveFloat | None = Field(
        None,
        description="the highest one; none: 0.003 from random weights, else 0.0003; new layers learn ten times as fast",
    )
    weight_decay: NonNegativeFloat = Field(0.05, description="of AdamW")
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of a label that is spread over all classes"
    )
    validation: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1,
        description="share of each class that is not learned from: the weights of the epoch that tells it best are kept",
    )
    patience: NonNegativeInt = Field(5, description="epochs that do not tell it better and end training; 0: none do")
    crop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="smallest share of a picture that a random piece covers; none: 0.5, with simclr 0.2"
    )
    flip: bool = Field(True, description="pieces may be mirrored; not for digits, letters or signs")
    jitter: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="how much colours change, 0 to 1; none: 0.2, with simclr 0.5"
    )
    temperature: PositiveFloat = Field(
        0.2, description="of simclr: the lower, the more the nearest other pictures count"
    )
    hold_out: HoldOut | None = Field(None, description="pictures that training never sees: {share, seed} or {file}")
    memory: PositiveInt = Field(
        1024,
        json_schema_extra=EXECUTION,
        description="MiB of decoded pictures that are kept; others are decoded in each epoch",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.method == "labels" and self.labels is None:
            raise ValueError("labels: dataset or a file, or method: simclr, which needs none")
        if self.method == "simclr" and self.labels is not None:
            raise ValueError("no labels with method: simclr")
        if self.layers == "head" and self.dim is None:
            raise ValueError("a dim with layers: head, which learns nothing else; the pooled features stay as they are")
        return self

    def located(self, base: Path) -> Training:
        """The same with relative files taken from the folder `base`."""
        here: dict[str, object] = {}
        if self.labels not in (None, DATASET):
            here["labels"] = str(base / Path(str(self.labels)).expanduser())
        if self.hold_out is not None and self.hold_out.file is not None:
            file = str(base / Path(self.hold_out.file).expanduser())
            here["hold_out"] = self.hold_out.model_copy(update={"file": file})
        return self.model_copy(update=here)

    @property
    def assets(self) -> dict[str, str]:
        """Digests of the files it names."""
        found = {"train.labels": self.labels, "train.hold_out": self.hold_out and self.hold_out.file}
        return {
            name: place if place == DATASET else f"sha256:{_digest(name, place)}"
            for name, place in found.items()
            if place
        }


def _digest(name: str, place: str) -> str:
    try:
        return file_digest(Path(place))
    except OSError as error:
        raise InputError(
            f"Got {name} {place!r}, which cannot be read ({error.strerror}); expected a file. Check the path (it is relative to the pipeline file)."
        ) from error
