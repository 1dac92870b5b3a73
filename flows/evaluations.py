"""The entries of `evaluate:`, and how a version is scored as one of them says."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from embedders.base import Vectors
from embedders.data import Documents, Graph, HeldOut, Images
from embedders.errors import InputError
from evaluation.base import Report
from storage.digests import DigestCache
from storage.space import Space, Version

if TYPE_CHECKING:
    from flows.pipeline import Pipeline


class Evaluated(BaseModel):
    """Base of the entries of `evaluate:`. name: its scores are recorded under it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str


class Labelled(Evaluated):
    """An evaluation that reads labels of ids."""

    path: str = Field(description="a .tsv or .csv file with a header, .jsonl or .parquet")
    id: str = Field("id", description="the column of ids")
    label: str = Field("label", description="the column of labels")


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
    LabelProbe | Neighbours | NodeClassification | LinkPrediction | WordSimilarity | Analogies,
    Field(discriminator="metric"),
]


def judge(pipeline: Pipeline, version: Version, evaluation: Any) -> Report:
    """Score a version as one entry of `evaluate:` says."""
    from evaluation.analogies import analogies, read_questions
    from evaluation.label_probe import label_probe
    from evaluation.labels import read_label_sets, read_labels
    from evaluation.neighbours import neighbours
    from evaluation.node_classification import node_classification
    from evaluation.word_similarity import read_pairs, word_similarity

    vectors, similarity = version.vectors, version.manifest.similarity
    if isinstance(evaluation, LinkPrediction):
        return _links(pipeline, version)
    path = pipeline.base / evaluation.path
    match evaluation:
        case LabelProbe():
            labels = read_labels(path, evaluation.id, evaluation.label)
            return label_probe(vectors, labels, trivial=trivial_features(pipeline, version, vectors, labels))
        case Neighbours():
            labels = read_labels(path, evaluation.id, evaluation.label)
            return neighbours(vectors, labels, k=evaluation.k, similarity=similarity)
        case NodeClassification():
            sets = read_label_sets(path, evaluation.id, evaluation.label)
            return node_classification(
                vectors, sets, train=evaluation.train, repeats=evaluation.repeats, seed=evaluation.seed,
                split=None if evaluation.split is None else read_labels(path, evaluation.id, evaluation.split),
                trivial=trivial_features(pipeline, version, vectors, sets, kinds=(Graph,)),
            )  # fmt: skip
        case WordSimilarity():
            return word_similarity(vectors, read_pairs(path))
        case Analogies():
            return analogies(vectors, read_questions(path), method=evaluation.method, restrict=evaluation.restrict)
    raise AssertionError(evaluation)


def _links(pipeline: Pipeline, version: Version) -> Report:
    """Link prediction on the edges that the version's dataset held out."""
    from evaluation.link_prediction import link_prediction

    spec, cache = pipeline.dataset(version.manifest.space), version.paths.cache
    scan = spec.scan(pipeline.base, DigestCache(cache))
    if scan.digest != version.manifest.dataset_digest:
        raise InputError(
            f"Got {version.manifest.space} @ {version.number}, trained on the dataset {version.manifest.dataset!r} before it "
            "changed; expected what it is now, or edges it was trained on would count as held out. Do: polyvec run."
        )
    held, training = (spec.read(scan, kind, cache=cache) for kind in (HeldOut, Graph))
    return link_prediction(version.vectors, held, similarity=version.manifest.similarity, training=training)


def _views(version: Version, vectors: Vectors) -> dict[str, Any]:
    """What a space was fused from, each alone; zeros where an entity is not in it."""
    import numpy as np

    found = {}
    for space, number in version.manifest.upstream.items():
        view = Space(version.paths, space).version(number).vectors
        place = {row: i for i, row in enumerate(view.ids)}
        rows = np.array([place.get(row, -1) for row in vectors.ids])
        found[space] = np.where(rows[:, None] >= 0, view.matrix[rows], np.float32(0))
    return found


def trivial_features(
    pipeline: Pipeline,
    version: Version,
    vectors: Vectors,
    labels: Container[str],
    kinds: tuple[type, ...] = (Documents, Graph, Images),
) -> dict[str, Any] | None:
    """What a label could be guessed from without learning: pixels of a picture, degrees of a node, words of a document."""
    import numpy as np

    if pipeline.spec(version.manifest.space).fuse:
        return _views(version, vectors)
    spec = pipeline.dataset(version.manifest.space)  # by the space: the dataset may have another name by now
    kind = Graph if Graph in spec.gives else type(pipeline.recipe(version.manifest.space)).data
    if kind not in kinds:
        return None
    cache = version.paths.cache
    data: Any = spec.read(spec.scan(pipeline.base, DigestCache(cache)), kind, cache=cache)
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

    chosen = Images(
        [data.ids[i] for i in rows[wanted]],
        [data.files[i] for i in rows[wanted]],
        [data.digests[i] for i in rows[wanted]],
    )
    found = pixels(chosen)
    features = np.zeros((len(vectors), found.shape[1]), np.float32)
    features[wanted] = found
    return {"pixels": features}
