"""How a version is scored as an entry of `evaluate:` says."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedders.base import Similarity, Vectors
from embedders.data import Documents, Graph, HeldOut, Images
from embedders.errors import InputError
from evaluation.base import Report
from flows.evaluations import (
    Analogies,
    CrossModal,
    Downstream,
    Knn,
    Labelled,
    LabelProbe,
    LinkPrediction,
    NearDuplicates,
    Neighbours,
    NodeClassification,
    Ranking,
    Retrieval,
    WordSimilarity,
)
from flows.fusion import beside, cross_modal_report, refitted, views_of, with_views
from storage import tables
from storage.digests import DigestCache
from storage.inputs.specs import Scan
from storage.space import Version

if TYPE_CHECKING:
    from flows.pipeline import Pipeline


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
        sets = honest(version, evaluation, sets)
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
