"""Where the labels of a space come from: a file that an evaluation names, or its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from embedders.errors import InputError
from flows.evaluations import Labelled, LabelProbe
from flows.pipeline import Pipeline
from flows.progress import board
from storage.digests import DigestCache
from storage.errors import NotFoundError
from storage.space import Space, Version

Label = TypeVar("Label")


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


def honest(version: Version, evaluation: Labelled, labels: Mapping[str, Label]) -> dict[str, Label]:
    """The labels that may judge a version: where a network learned labels, those of the pictures that training held out.

    So, too, where a version is fused from that network's, or begins at it on the same dataset. Where training held none
    out, all of them. That scores are too high is said; also where labels chose the weights of a fused space.

    Raises
    ------
    InputError : the file of what was held out is gone.
    """
    from embedders.image.labels import held_out
    from embedders.image.options import HoldOut

    said, found = f"{version.manifest.space}: {evaluation.name} judges by", dict(labels)
    by = version.manifest.recipe.params.get("weigh_by") or {}
    if by.get("labels") and not isinstance(evaluation, LabelProbe):
        board().say(
            f"{said} labels that may have chosen its weights, so its scores may be too high. A label_probe is not misled."
        )
    for taught in _taught(version):
        rule = taught.manifest.recipe.params["train"].get("hold_out")
        if rule is not None:
            seen = set(taught.ids) - held_out(taught.ids, HoldOut.model_validate(rule))
            found = {name: label for name, label in found.items() if name not in seen}
        elif many := sum(name in found for name in taught.ids):
            whose = "" if taught is version else f" of {taught.manifest.space}"
            board().say(
                f"{said} {many:,} pictures that training{whose} could see, so its scores are too high. "
                "Hold some out (train: {hold_out: {share: 0.2}}), or encode another dataset (start: {space: ...})."
            )
    return found


def _taught(version: Version) -> list[Version]:
    """The versions whose networks learned labels of a version's rows: itself, and those that it was made of."""
    m = version.manifest
    found = [version] if (m.recipe.params.get("train") or {}).get("method") == "labels" else []
    for space, number in m.upstream.items():
        with suppress(NotFoundError):  # what training began at may be taken out by now
            view = Space(version.paths, space).version(number)
            if not m.dataset_digest or view.manifest.dataset == m.dataset:
                found += _taught(view)
    return found


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
