"""Spaces side by side: each normalised and weighted, what an entity lacks predicted from what it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from embedders.base import Embedder, Encoder, Matrix, Progress, silent
from embedders.errors import InputError
from embedders.fusion.fused import Fused
from embedders.fusion.principal import centred, directions
from embedders.fusion.weights import WeighBy, choose
from embedders.kernels.blas import one_thread
from embedders.views import Rows, Views


class Concat(Embedder[Views]):
    """The vectors of several spaces joined, and projected on the directions in which they vary most.

    Of each space the mean is taken away, it is projected on its own first directions (`view_dim`), and its vectors are scaled by one number so that their mean square length is
    the square of its weight: no space speaks louder because its numbers are larger or more. A part that an entity lacks
    is predicted from those it has by ridge regression, learned on entities that have both.
    """

    kind: ClassVar[str] = "concat"
    data: ClassVar[type] = Views
    encoder: ClassVar[type] = Fused
    entity: ClassVar[str] = "entity"
    deterministic: ClassVar[bool] = True

    dim: PositiveInt | None = Field(None, description="principal components that are kept; without it all numbers")
    weights: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="of the spaces by name; 1 where none is given, 0 leaves a space out"
    )
    weigh_by: WeighBy | None = Field(
        None,
        description="weights are chosen, not given: {labels: FILE, id: id, label: label}, so that near neighbours have the same label; or {links: FILE, source: source, target: target}, so that they are joined; 0 leaves out a space that only hurts",
    )
    view_dim: PositiveInt | None = Field(
        None,
        description="principal components that are kept of each space before they are joined; without it all numbers",
    )
    normalize: Literal["space", "rows", "none"] = Field(
        "space",
        description="`space`: as said above; `rows`: each vector to length 1 beforehand, as cosines compare; `none`: as they are",
    )
    rows: Rows = "any"
    ridge: PositiveFloat = Field(1.0, description="penalty of the regression, on parts of mean square length 1")

    @model_validator(mode="after")
    def _given_or_chosen(self) -> Self:
        if self.weights and self.weigh_by:
            raise ValueError("either weights or weigh_by")
        return self

    def located(self, base: Path) -> Self:
        return self if self.weigh_by is None else self.model_copy(update={"weigh_by": self.weigh_by.located(base)})

    def assets(self) -> Mapping[str, str]:
        return {} if self.weigh_by is None else self.weigh_by.assets()

    def fit(self, data: Views, *, start: Encoder[Views] | None = None, progress: Progress = silent) -> Fused:
        """Join the spaces.

        Raises
        ------
        InputError : a weight or `rows` names a space that is not fused, all weights are 0, or no entity is left.
        """
        self._check(data)
        weights, told = self._weights(data)
        names = [space for space in data.vectors if weights[space] > 0]
        here = np.array([data.rows[space] >= 0 for space in names]).T
        chosen = np.flatnonzero(self._chosen(data, here))
        if not len(chosen):
            raise InputError(
                f"Got rows: {self.rows}, and no such entity is in a space of weight above 0; expected some. Set rows: any."
            )
        with one_thread():
            parts = [np.float32(weights[space]) * self._part(data, space) for space in names]
            whole = filled(parts, here, self.ridge)[chosen]
            matrix = whole if self.dim is None else components(whole, self.dim)
        patterns = Counter("+".join(np.array(names)[row]) for row in here[chosen])
        mode = {
            "reproducible": "same bytes",
            "entity": data.entity,
            "patterns": dict(patterns.most_common()),
            "weights": weights,
            **told,
        }
        if without := int((~here.any(axis=1)).sum()):
            mode["left_out"] = without  # only spaces of weight 0 hold them
        ids = [data.ids[row] for row in chosen.tolist()]
        imputed: NDArray[np.bool_] = ~np.all(here[chosen], axis=1)
        return Fused(self, ids, np.ascontiguousarray(matrix, np.float32), imputed, mode=mode)

    def _weights(self, data: Views) -> tuple[dict[str, float], dict[str, Any]]:
        """Of all spaces, as given or chosen; and what is told of the choice."""
        if self.weigh_by is None:
            return {space: self.weights.get(space, 1.0) for space in data.vectors}, {}
        if data.told is None:
            raise InputError(
                f"Got views without what {self.weigh_by.path!r} tells; expected it in Views.told: labels, or linked ids. A "
                "pipeline reads it."
            )
        here = np.array([data.rows[space] >= 0 for space in data.vectors]).T
        with one_thread():
            whole = filled([self._part(data, space) for space in data.vectors], here, self.ridge)
            ends = np.cumsum([0, *(self._width(data, space) for space in data.vectors)])
            parts = {space: whole[:, ends[i] : ends[i + 1]] for i, space in enumerate(data.vectors)}
            found = choose(parts, data.ids, data.told, self.weigh_by)
        return found.weights, {"weighed_by": found.told}

    def _check(self, data: Views) -> None:
        known = ", ".join(data.vectors)
        for space in self.weights:
            if space not in data.vectors:
                raise InputError(f"Got a weight of {space!r}; expected one of the spaces that are fused: {known}.")
        if self.weigh_by is None and not any(self.weights.get(space, 1.0) for space in data.vectors):
            raise InputError("Got weights of 0 for all spaces; expected one that counts. Raise one.")

    def _chosen(self, data: Views, here: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which entities get a vector; one that only spaces of weight 0 hold has nothing to be made of."""
        some: NDArray[np.bool_] = np.any(here, axis=1)
        return some & data.asked(self.rows)

    def _width(self, data: Views, space: str) -> int:
        """Numbers of a space's part."""
        rows, width = map(int, data.vectors[space].matrix.shape)
        return width if self.view_dim is None else min(rows, width, self.view_dim)

    def _part(self, data: Views, space: str) -> Matrix:
        """(n, d) normalised vectors of a space; zeros where an entity has none, and of vectors that are all equal."""
        found = data.vectors[space].matrix.astype(np.float32)
        if self.normalize == "rows":
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)
        if (width := self._width(data, space)) < found.shape[1]:
            found = components(centred(found)[0], width)
        if self.normalize != "none":
            found, _, length = centred(found)
            found /= np.float32(length or 1)
        rows = data.rows[space]
        out = np.zeros((len(data), found.shape[1]), np.float32)
        out[rows >= 0] = found[rows[rows >= 0]]
        return out


def filled(parts: list[Matrix], here: NDArray[np.bool_], ridge: float) -> Matrix:
    """(n, sum of widths) the parts side by side, those that are lacking predicted.

    For each set of parts that some entities have, each part that they lack is regressed on what they have, over the
    entities that have all of these; where there are none, it stays at its mean, 0.

    here : (n, parts) bool.
    """
    from sklearn.linear_model import Ridge

    out = [part.copy() for part in parts]
    for pattern in np.unique(here, axis=0):
        if pattern.all() or not pattern.any():
            continue
        rows = np.flatnonzero((here == pattern).all(axis=1))
        given = np.hstack([part for part, it in zip(parts, pattern, strict=True) if it])
        for lacking in np.flatnonzero(~pattern):
            known = np.flatnonzero(here[:, pattern].all(axis=1) & here[:, lacking])
            if len(known):
                model = Ridge(alpha=ridge, solver="cholesky").fit(given[known], parts[lacking][known])
                out[lacking][rows] = model.predict(given[rows])
    return np.hstack(out)


def components(matrix: Matrix, dim: int) -> Matrix:
    """(n, dim) the principal components, each with the sign that makes its largest loading positive.

    Raises
    ------
    InputError : there are not so many.
    """
    most = min(matrix.shape)
    if dim > most:
        raise InputError(
            f"Got dim: {dim} for {matrix.shape[0]} entities of {matrix.shape[1]} numbers; expected at most {most}."
        )
    rest = matrix.astype(np.float64) - matrix.mean(axis=0)
    _, axes = directions(rest, dim)
    found = rest @ axes  # fewer directions than asked for where rows are equal
    return np.pad(found, ((0, 0), (0, dim - found.shape[1]))).astype(np.float32)
