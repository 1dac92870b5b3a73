"""The entries of `evaluate:`, and how a version is scored as one of them says."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from embedders.base import Similarity, Vectors
from embedders.data import Documents, Graph, HeldOut, Images
from embedders.errors import InputError
from evaluation.base import Report
from flows.fusion import beside, cross_modal_report, refitted, views_of, with_views
from storage import tables
from storage.digests import DigestCache
from storage.inputs.specs import Scan
from storage.space import Version

if TYPE_CHECKING:
    from flows.pipeline import Pipeline


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


def judge(pipeline: Pipeline, version: Version, evaluation: Any) -> Report:
    """Score a version as one entry of `evaluate:` says."""
    from evaluation.analogies import analogies, read_questions
    from evaluation.word_similarity import read_pairs, word_similarity

    match evaluation:
        case Labelled():
            return _labels(pipeline, version, evaluation)
        case LinkPrediction():
            return _links(pipeline, version)
        case CrossModal():
            return cross_modal_report(pipeline, version, evaluation)
        case Ranking():
            return _ranking(pipeline, version, evaluation)
        case Downstream():
            from flows.downstream import downstream

            return downstream(pipeline, version, evaluation)
        case NearDuplicates():
            return _duplicates(version, evaluation)
        case WordSimilarity():
            return word_similarity(version.vectors, read_pairs(pipeline.base / evaluation.path))
        case Analogies():
            questions = read_questions(pipeline.base / evaluation.path)
            return analogies(version.vectors, questions, method=evaluation.method, restrict=evaluation.restrict)
    raise AssertionError(evaluation)


def _labels(pipeline: Pipeline, version: Version, evaluation: Labelled) -> Report:
    """How well vectors tell labels."""
    from embedders.labels import read_label_sets, read_labels
    from evaluation.knn import knn
    from evaluation.label_probe import label_probe
    from evaluation.neighbours import neighbours
    from evaluation.node_classification import node_classification
    from evaluation.retrieval import retrieval
    from flows.labels import honest, labels_for

    vectors, similarity, space = version.vectors, version.manifest.similarity, version.manifest.space
    if isinstance(evaluation, NodeClassification):
        if evaluation.path is None:
            sets: dict[str, tuple[str, ...]] = {
                row: (label,) for row, label in labels_for(pipeline, space, evaluation).items()
            }
        else:
            sets = read_label_sets(pipeline.base / evaluation.path, evaluation.id, evaluation.label)
        report = node_classification(
            vectors, sets, train=evaluation.train, repeats=evaluation.repeats, seed=evaluation.seed,
            split=None if evaluation.split is None else read_labels(pipeline.base / str(evaluation.path), evaluation.id, evaluation.split),
            trivial=trivial_features(pipeline, version, vectors, sets, kinds=(Graph,)),
        )  # fmt: skip
        return with_views(report, version)
    labels = honest(version, evaluation, labels_for(pipeline, space, evaluation))
    if isinstance(evaluation, LabelProbe):
        trivial = trivial_features(pipeline, version, vectors, labels)
        report = label_probe(vectors, labels, trivial=trivial, refit=refitted(pipeline, version))
        return with_views(report, version)

    def judged(rows: Vectors, similarity: Similarity) -> Report:
        match evaluation:
            case Neighbours():
                return neighbours(rows, labels, k=evaluation.k, similarity=similarity)
            case Knn():
                return knn(rows, labels, k=evaluation.k, similarity=similarity)
            case Retrieval():
                return retrieval(rows, labels, queries=evaluation.queries, seed=evaluation.seed, similarity=similarity)
        raise AssertionError(evaluation)

    return beside(pipeline, version, judged) if pipeline.spec(space).fuse else judged(vectors, similarity)


def _duplicates(version: Version, evaluation: NearDuplicates) -> Report:
    """Near duplicates; their pairs are written beside the metrics."""
    from evaluation.near_duplicates import near_duplicates

    vectors = version.vectors
    digests = version.table(["digest"]).column("digest").to_pylist()
    report, pairs = near_duplicates(vectors, digests, threshold=evaluation.threshold, listed=evaluation.listed)
    tables.record_pairs(
        version.paths, version.manifest.space, version.number, evaluation.name, pairs.columns(vectors.ids)
    )
    return report


def _unchanged(pipeline: Pipeline, version: Version, why: str) -> Scan:
    """The dataset of a version, which must be what it was learned from. why : what would be wrong else."""
    scan = pipeline.dataset(version.manifest.space).scan(pipeline.base, DigestCache(version.paths.cache))
    if scan.digest != version.manifest.dataset_digest:
        raise InputError(
            f"Got {version.manifest.space} @ {version.number}, trained on the dataset {version.manifest.dataset!r} before it "
            f"changed; expected what it is now, or {why}. Do: polyvec run."
        )
    return scan


def _ranking(pipeline: Pipeline, version: Version, evaluation: Ranking) -> Report:
    """Ranking by the recipe of the version, trained on part of the events."""
    from flows.ranking import rank

    _unchanged(pipeline, version, "its recipe would be judged on other events")
    space = version.manifest.space
    return rank(pipeline, space, pipeline.recipe(space), evaluation)


def _links(pipeline: Pipeline, version: Version) -> Report:
    """Link prediction on the edges that the version's dataset held out."""
    from evaluation.link_prediction import link_prediction

    spec, cache = pipeline.dataset(version.manifest.space), version.paths.cache
    scan = _unchanged(pipeline, version, "edges it was trained on would count as held out")
    held, training = (spec.read(scan, kind, cache=cache) for kind in (HeldOut, Graph))
    return link_prediction(version.vectors, held, similarity=version.manifest.similarity, training=training)


def trivial_features(
    pipeline: Pipeline,
    version: Version,
    vectors: Vectors,
    labels: Container[str],
    kinds: tuple[type, ...] = (Documents, Graph, Images),
) -> dict[str, Any] | None:
    """What a label could be guessed from without learning: pixels of a picture, degrees of a node, words of a document."""
    import numpy as np

    from flows.labels import read_dataset

    space = version.manifest.space
    if pipeline.spec(space).fuse:
        return views_of(pipeline, version, vectors)
    kind = Graph if Graph in pipeline.dataset(space).gives else type(pipeline.recipe(space)).data
    if kind not in kinds:
        return None
    data = read_dataset(pipeline, space, kind)  # by the space: the dataset may have another name by now
    place = {row: i for i, row in enumerate(data.ids)}
    rows = np.array([place.get(row, -1) for row in vectors.ids])
    wanted = np.array([row in labels for row in vectors.ids]) & (rows >= 0)
    if isinstance(data, Graph):
        from embedders.graph.degrees import degrees

        return {"degrees": degrees(data)[rows]}
    if isinstance(data, Documents):
        from embedders.text.bags import presence

        pieces = np.where(wanted[:, None], data.offsets[rows], 0)  # the others are not looked at
        return {"one_hot": presence(replace(data, ids=vectors.ids, digests=vectors.ids, offsets=pieces))}
    from embedders.image.pixels import pixels

    found = pixels(data.select(rows[wanted].tolist()))
    features = np.zeros((len(vectors), found.shape[1]), np.float32)
    features[wanted] = found
    return {"pixels": features}
