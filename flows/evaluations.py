"""The entries of `evaluate:`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    pass


class Evaluated(BaseModel):
    """Base of the entries of `evaluate:`. name: its scores are recorded under it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    threads: ClassVar[int] = 1  # cores it works on; 0: all


class Labelled(Evaluated):
    """An evaluation that reads labels of ids: of a file, or those of the dataset."""

    path: str | None = Field(None, description="a .tsv or .csv file with a header, .jsonl or .parquet")
    id: str = Field("id", description="the column of ids")
    label: str = Field("label", description="the column of labels")
    labels: Literal["dataset"] | None = Field(
        None, description="dataset: the labels that the dataset names, not a file"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.labels is None):
            raise ValueError("either path, or labels: dataset")
        if self.labels and (aside := sorted(self.model_fields_set & {"id", "label", "split"})):
            raise ValueError(f"no {' and no '.join(aside)} beside labels: dataset; they are columns of a file")
        return self


class LabelProbe(Labelled):
    """Logistic regression on the vectors predicts a label, 5-fold."""

    metric: Literal["label_probe"]


class Neighbours(Labelled):
    """How often a row's nearest neighbours have its label."""

    metric: Literal["neighbours"]
    k: int = Field(10, ge=1, description="neighbours looked at")


Share = Annotated[float, Field(gt=0, lt=1)]


def _shares(value: Any) -> Any:
    """One share may stand alone."""
    if value == []:
        raise ValueError("a share, such as 0.9, or some")
    return value if isinstance(value, list | tuple) else [value]


class Knn(Labelled):
    """The vote of a row's nearest neighbours predicts its label, leave-one-out."""

    metric: Literal["knn"]
    k: int = Field(5, ge=1, description="neighbours that vote")
    threads: ClassVar[int] = 0


class Retrieval(Labelled):
    """Mean average precision of each row's search for the others of its label."""

    metric: Literal["retrieval"]
    queries: int = Field(10_000, ge=1, description="rows that ask, at most; drawn at random where there are more")
    seed: int = Field(0, ge=0, description="of the draw")
    threads: ClassVar[int] = 0


class NearDuplicates(Evaluated):
    """Pairs of rows that are nearly the same, and rows of the same content."""

    metric: Literal["near_duplicates"]
    threshold: float = Field(0.95, gt=0, le=1, description="least cosine of a pair")
    listed: int = Field(100_000, ge=0, description="pairs that are written down, the most alike; all are counted")
    threads: ClassVar[int] = 0


class NodeClassification(Labelled):
    """One-vs-rest logistic regression predicts the labels, one or several an id (Perozzi et al. 2014)."""

    metric: Literal["node_classification"]
    train: Annotated[tuple[Share, ...], BeforeValidator(_shares, json_schema_input_type=Share | list[Share])] = Field(
        (0.5,), description="share or shares to train on"
    )
    repeats: int = Field(10, ge=1, le=1000, description="random splits of each share")
    seed: int = Field(0, ge=0, description="of the random splits")
    split: str | None = Field(
        None, min_length=1, description="a column that says train, val or test of each id, instead of random splits"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.split is not None and self.model_fields_set & {"train", "repeats", "seed"}:
            raise ValueError("either split, or train, repeats and seed")
        return self


class LinkPrediction(Evaluated):
    """Edges held out of the dataset score higher than pairs that are not joined: needs its `hold_out`."""

    metric: Literal["link_prediction"]


class CrossModal(Evaluated):
    """One view of an entity finds another, of entities that the recipe is fitted again without (contrastive, cca)."""

    metric: Literal["cross_modal"]
    held_out: int = Field(300, ge=2, description="entities that are kept out of the training and looked for")
    seed: int = Field(0, ge=0, description="of the draw")


class Ranking(Evaluated):
    """What users went on to do stands high among what is recommended to them; trained anew on part of the events."""

    metric: Literal["ranking"]
    k: int = Field(10, ge=1, le=10_000, description="items of a list")
    split: Literal["random", "time", "leave-last-out"] = Field(
        "random",
        description="held out: a share of each user's items at random; all that comes after one moment; or each user's last new item",
    )
    share: Share = Field(0.25, description="held out, of `random` and `time`")
    repeats: int = Field(3, ge=1, le=100, description="splits and trainings, each with the next seed")
    users: int = Field(10_000, ge=1, description="users judged, at most; drawn at random where there are more")
    seed: int = Field(0, ge=0, description="of the first split")
    threads: ClassVar[int] = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.split == "leave-last-out" and "share" in self.model_fields_set:
            raise ValueError("no share beside split: leave-last-out, which holds one item of each user out")
        return self


class Downstream(Evaluated):
    """A linear model tells the target of a table from the vectors of its rows, learned anew in each fold."""

    metric: Literal["downstream"]
    folds: int = Field(5, ge=2, le=100, description="parts, each told by what was learned from the others")
    rows: int = Field(100_000, ge=10, description="rows at most; drawn at random where there are more")
    seed: int = Field(0, ge=0, description="of the folds and the draw")
    threads: ClassVar[int] = 0


class WordSimilarity(Evaluated):
    """Rank correlation with people's judgements of word pairs."""

    metric: Literal["word_similarity"]
    path: str = Field(description="word, word, score on each line")


class Analogies(Evaluated):
    """a is to b as c is to ... (Mikolov et al. 2013)."""

    metric: Literal["analogies"]
    path: str = Field(description="four words on each line, sections start with ':'")
    restrict: int | None = Field(None, ge=2, description="only the most frequent words")
    method: Literal["add", "mul"] = Field("add", description="3CosAdd or 3CosMul (Levy and Goldberg 2014)")


Evaluation = Annotated[
    LabelProbe
    | Neighbours
    | Knn
    | Retrieval
    | NearDuplicates
    | NodeClassification
    | LinkPrediction
    | CrossModal
    | Ranking
    | Downstream
    | WordSimilarity
    | Analogies,
    Field(discriminator="metric"),
]
