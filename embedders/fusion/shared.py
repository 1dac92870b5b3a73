"""A space that several others are projected into: an entity stands where its vectors of any of them put it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedders.base import Batch, Embedder, Encoder, Matrix, Progress, Vectors, silent
from embedders.data import Rejected
from embedders.errors import InputError
from embedders.fusion.principal import EQUAL
from embedders.views import Rows, Views

ROWS_AT_ONCE = 65536


@dataclass(frozen=True, eq=False)
class Head:
    """What projects the vectors of one space: linear, or with one hidden layer (ReLU).

    Parameters
    ----------
    mean : (d,) float32, of the vectors it was learned on.
    weights : one or two matrices (in, out), float32.
    bias : (hidden,) float32, of the hidden layer; of length 0 without one.
    """

    mean: Matrix
    weights: Sequence[Matrix]
    bias: Matrix

    def __call__(self, matrix: Matrix) -> Matrix:
        """(n, dim) of length 1, or zeros where nothing of a vector is left."""
        scale = np.linalg.norm(self.mean) + np.linalg.norm(matrix, axis=1, keepdims=True)
        rest = matrix - self.mean
        rest *= np.linalg.norm(rest, axis=1, keepdims=True) > EQUAL * scale
        out: NDArray[np.floating[Any]] = rest @ self.weights[0]
        if len(self.weights) > 1:
            out = np.maximum(out + self.bias, 0) @ self.weights[1]
        return unit(out)


def unit(matrix: NDArray[np.floating[Any]]) -> Matrix:
    """(n, d) float32 the rows at length 1; zeros stay."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    found: Matrix = (matrix / np.where(lengths > 1e-12, lengths, np.inf)).astype(np.float32)
    return found


class Projection(Embedder[Views]):
    """Base of recipes that learn heads."""

    data: ClassVar[type] = Views
    entity: ClassVar[str] = "entity"

    rows: Rows = "any"

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> Shared:
        heads = {}
        for place, space in enumerate(texts["spaces"]):
            layers = [arrays[name] for layer in (0, 1) if (name := f"{place}.weights{layer}") in arrays]
            heads[space] = Head(arrays[f"{place}.mean"], layers, arrays[f"{place}.bias"])
        return Shared(recipe, heads, mode=mode)


@dataclass(frozen=True, eq=False)
class Shared(Encoder[Views]):
    """A head for each space. The vector of an entity is the mean direction of what the heads make of those it has."""

    recipe: Projection
    heads: Mapping[str, Head]

    @property
    def entity(self) -> str:
        return str(self.mode["entity"])

    @property
    def dim(self) -> int:
        return int(next(iter(self.heads.values())).weights[-1].shape[1])

    def project(self, space: str, matrix: Matrix) -> Matrix:
        """(n, dim) of length 1: vectors (n, d) of one of the spaces, in the shared one; zeros where nothing is left.

        Raises
        ------
        InputError : it has no head for that space, or vectors of another width were given.
        """
        if space not in self.heads:
            raise InputError(f"Got the space {space!r}; expected one of those it was made of: {', '.join(self.heads)}.")
        head = self.heads[space]
        if matrix.ndim != 2 or matrix.shape[1] != len(head.mean):
            raise InputError(f"Got vectors of shape {matrix.shape} of {space!r}; expected (n, {len(head.mean)}).")
        return head(matrix)

    def excluded(self, data: Views) -> Mapping[str, int]:
        left = len(data) - int(data.asked(self.recipe.rows).sum())
        return {f"not asked for by rows: {self.recipe.rows}": left} if left else {}

    def encode(self, data: Views, *, progress: Progress = silent) -> Iterator[Batch]:
        """Vectors of length 1 of the entities; one of which nothing is left is rejected."""
        asked = np.flatnonzero(data.asked(self.recipe.rows))
        for first in range(0, len(asked), ROWS_AT_ONCE):
            places = asked[first : first + ROWS_AT_ONCE]
            ids = [data.ids[row] for row in places.tolist()]
            total = np.zeros((len(ids), self.dim), np.float32)
            for space in self.heads:
                rows = data.rows[space][places]
                here = np.flatnonzero(rows >= 0)
                total[here] += self.project(space, data.vectors[space].matrix[rows[here]])
            matrix = unit(total)
            some = matrix.any(axis=1)
            message = (
                "its vectors are the mean of their spaces, or point against each other, and nothing is left of them"
            )
            rejected = (Rejected(ids[row], ids[row], "zero_vector", message) for row in np.flatnonzero(~some).tolist())
            good = np.flatnonzero(some).tolist()
            vectors = Vectors(self.entity, [ids[row] for row in good], matrix[good])
            yield Batch(vectors, rejected=tuple(rejected))
            progress(first + len(ids), len(asked), "entities")

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for place, head in enumerate(self.heads.values()):
            found |= {f"{place}.mean": head.mean, f"{place}.bias": head.bias}
            found |= {f"{place}.weights{layer}": weights for layer, weights in enumerate(head.weights)}
        return found

    def texts(self) -> Mapping[str, Sequence[str]]:
        return {"spaces": list(self.heads)}


def projects(recipe: type[Embedder[Any]] | None) -> bool:
    """Whether recipes of a class leave a head for each space; not all name the class of their encoder."""
    return issubclass(getattr(recipe, "encoder", object), Shared)


def pairs_of(data: Views) -> dict[tuple[str, str], int]:
    """How many entities each two spaces have in common.

    Raises
    ------
    InputError : a space shares none with any other, or has vectors that are all equal, so that nothing is to be learned.
    """
    from embedders.fusion.principal import centred

    here = {space: rows >= 0 for space, rows in data.rows.items()}
    found = {(a, b): int((here[a] & here[b]).sum()) for a, b in combinations(here, 2)}
    for space in here:
        if max(n for pair, n in found.items() if space in pair) < 2:
            raise InputError(
                f"Got {space!r}, which shares fewer than two ids with each of the other spaces; expected pairs to learn "
                "from. Leave it out of `fuse:`, or set `id:` of the datasets so that they agree."
            )
        if not centred(data.vectors[space].matrix)[2]:
            raise InputError(
                f"Got {space!r}, whose {len(data.vectors[space]):,} vectors are all equal; expected vectors that tell "
                "entities apart. Leave it out of `fuse:`."
            )
    return found


def mode_of(data: Views, **more: Any) -> dict[str, Any]:
    """What the manifest tells of a shared space: how many entities each set of spaces holds, and what is given."""
    return {"entity": data.entity, "patterns": patterns(data), **more}


def patterns(data: Views) -> dict[str, int]:
    """How many entities are held by which spaces, most first.

    >>> thing = lambda *ids: Vectors("thing", ids, np.zeros((len(ids), 1), np.float32))
    >>> patterns(Views.of({"a": thing("x", "y"), "b": thing("y", "z", "w")}))
    {'b': 2, 'a': 1, 'a+b': 1}
    """
    names = np.array(list(data.rows))
    here = np.array([rows >= 0 for rows in data.rows.values()]).T
    found = Counter("+".join(names[row]) for row in here)
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
