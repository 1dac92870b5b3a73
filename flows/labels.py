"""Where the labels of a space come from: a file that an evaluation names, or its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedders.errors import InputError
from flows.evaluations import Labelled
from flows.pipeline import Pipeline
from flows.progress import board
from storage.digests import DigestCache
from storage.space import Version


def read_dataset(pipeline: Pipeline, space: str, kind: type | None = None) -> Any:
    """The dataset of a space as it is now. kind : read it as this; without it, as the embedder does."""
    spec, cache = pipeline.dataset(space), pipeline.vectors.paths.cache
    return spec.read(
        spec.scan(pipeline.base, DigestCache(cache)), kind or type(pipeline.recipe(space)).data, cache=cache
    )


def labels_for(pipeline: Pipeline, space: str, evaluation: Labelled) -> dict[str, str]:
    """The one label of each id, as an evaluation asks for them.

    Raises
    ------
    InputError : the file cannot be read, or an id has two; or the dataset names no labels.
    """
    from embedders.labels import read_labels

    if evaluation.path is None:
        return dataset_labels(pipeline, space)
    return read_labels(pipeline.base / evaluation.path, evaluation.id, evaluation.label)


def dataset_labels(pipeline: Pipeline, space: str) -> dict[str, str]:
    """The labels that the dataset of a space names.

    Raises
    ------
    InputError : it names none.
    """
    data = read_dataset(pipeline, space)
    labels = getattr(data, "labels", None)
    found = (
        {} if labels is None else {row: label for row, label in zip(data.ids, labels, strict=True) if label is not None}
    )
    if not found:
        name = pipeline.spec(space).dataset
        raise InputError(
            f"Got labels: dataset, and the dataset {name!r} names no label of any row. Add labels to it, or give the "
            "evaluation a file: path, id, label."
        )
    return found


def honest(version: Version, evaluation: Labelled, labels: dict[str, str]) -> dict[str, str]:
    """The labels that may judge a version: where a network learned labels, those of the pictures that training held out.

    Where it held none out, all of them; that such scores are too high is said.

    Raises
    ------
    InputError : the file of what was held out is gone.
    """
    from embedders.image.labels import held_out
    from embedders.image.options import HoldOut

    train = version.manifest.recipe.params.get("train") or {}
    if train.get("method") != "labels":
        return labels
    if train.get("hold_out") is not None:
        held = held_out(version.ids, HoldOut.model_validate(train["hold_out"]))
        return {name: label for name, label in labels.items() if name in held}
    if seen := sum(name in labels for name in version.ids):
        board().say(
            f"{version.manifest.space}: {evaluation.name} judges by {seen:,} pictures that training could see, so its scores are too high. "
            "Hold some out (train: {hold_out: {share: 0.2}}), or encode another dataset (start: {space: ...})."
        )
    return labels


def known_labels(pipeline: Pipeline, space: str) -> Mapping[str, str]:
    """Labels of a space for pictures: of its first evaluation on labels, else its dataset's; empty when there are none."""
    asked = next((e for e in pipeline.evaluations(space) if isinstance(e, Labelled)), None)
    try:
        if asked is not None:
            return labels_for(pipeline, space, asked)
        dataset = pipeline.datasets.get(pipeline.spec(space).dataset)
        return dataset_labels(pipeline, space) if getattr(dataset, "labels", None) else {}
    except InputError:  # the evaluation itself says what is wrong
        return {}
