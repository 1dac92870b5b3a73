"""What is different between two versions' recipes and sources, in words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from embedders.errors import PolyvecError
from storage.manifest import Manifest, Recipe, Start


def recipe_changes(before: Recipe, after: Recipe, execution_only: Collection[str]) -> list[str]:
    """Embedder, its own version, or the parameters that changed, each as "name: before -> after".

    execution_only : parameters that change how it runs and not what it gives; these are left out.

    >>> old, new = (Recipe(kind="word2vec", version=1, params={"epochs": n, "threads": n}) for n in (3, 5))
    >>> recipe_changes(old, new, {"threads"})
    ['epochs: 3 -> 5']
    """
    if before.kind != after.kind:
        return [f"embedder: {before.kind} -> {after.kind}"]
    if before.version != after.version:
        return [f"{after.kind} itself changed: version {before.version} -> {after.version}"]
    return [
        f"{key}: {before.params.get(key)} -> {after.params.get(key)}"
        for key in {**after.params, **before.params}
        if before.params.get(key) != after.params.get(key) and key not in execution_only
    ]


@dataclass(frozen=True)
class Changes:
    """What is different between two versions, each in words and empty where nothing is.

    Parameters
    ----------
    recipe : embedder and parameters; "weights, labels or precision" where only the fingerprint tells.
    shape : dimension and similarity.
    data : dataset, upstream versions, and vectors that training began at.
    """

    recipe: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    def __str__(self) -> str:
        """All of it on one line; a parameter that is the dimension stands there once."""
        return ", ".join(dict.fromkeys([*self.recipe, *self.shape, *self.data])) or "same data, same recipe"


def changes(before: Manifest, after: Manifest) -> Changes:
    """What is different in the making of two versions of a space; reads no vectors."""
    recipe: list[str] = []
    if before.fingerprint != after.fingerprint:
        recipe = recipe_changes(before.recipe, after.recipe, _execution_only(after.recipe.kind))
        recipe = recipe or ["weights, labels or precision"]
    shape = [
        f"{name}: {old} -> {new}"
        for name, old, new in (
            ("dim", before.dim, after.dim),
            ("similarity", before.similarity, after.similarity),
        )
        if old != new
    ]
    data: list[str] = []
    if before.dataset != after.dataset:
        data = [f"dataset: {before.dataset} -> {after.dataset}"]
    elif before.dataset_digest != after.dataset_digest:
        data = ["data"]
    data += [
        f"{name}: {_at(before, name)} -> {_at(after, name)}"
        for name in {**after.upstream, **before.upstream}
        if before.upstream.get(name) != after.upstream.get(name)
    ]
    data += filter(None, [start_change(before.start, after.start)])
    return Changes(tuple(recipe), tuple(shape), tuple(data))


def start_change(before: Start | None, after: Start | None) -> str:
    """What is another with the vectors that training began at; empty when nothing is, wherever they lie.

    >>> start_change(None, Start(name="glove.txt", digest="sha256:1"))
    'start: none -> glove.txt'
    """
    old, new = ("none" if it is None else it.name for it in (before, after))
    if (before and before.digest) == (after and after.digest):
        return ""
    return f"start: {old} -> {new}" if old != new else f"start: {new} changed"


def _at(manifest: Manifest, upstream: str) -> str:
    return f"@{manifest.upstream[upstream]}" if upstream in manifest.upstream else "none"


def _execution_only(kind: str) -> set[str]:
    """What the installed embedder says; nothing where it is not installed, so that all parameters are told."""
    from embedders.registry import embedder_class

    try:
        return embedder_class(kind).execution_only()
    except PolyvecError:
        return set()
