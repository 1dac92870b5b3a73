"""Spaces side by side: each normalised and weighted, what an entity lacks predicted from what it has."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from embedders.base import Embedder, Encoder, Matrix, Progress, silent
from embedders.errors import InputError
from embedders.fusion.fused import Fused
from embedders.kernels.blas import one_thread
from embedders.views import Views


class Concat(Embedder[Views]):
    """The vectors of several spaces joined, and projected on the directions in which they vary most.

    Of each space the mean is taken away, and its vectors are scaled by one number so that their mean square length is
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
    normalize: Literal["space", "rows", "none"] = Field(
        "space",
        description="`space`: as said above; `rows`: each vector to length 1 beforehand, as cosines compare; `none`: as they are",
    )
    rows: str = Field(
        "any",
        min_length=1,
        description="which entities: `any` space holds them, `all` hold them, or the name of a space that does",
    )
    ridge: PositiveFloat = Field(1.0, description="penalty of the regression, on parts of mean square length 1")

    def fit(self, data: Views, *, start: Encoder[Views] | None = None, progress: Progress = silent) -> Fused:
        """Join the spaces.

        Raises
        ------
        InputError : a weight or `rows` names a space that is not fused, all weights are 0, or no entity is left.
        """
        self._check(data)
        chosen = np.flatnonzero(self._chosen(data))
        if not len(chosen):
            raise InputError(
                f"Got no entity that {'all spaces hold' if self.rows == 'all' else 'is asked for'}; expected some. Set rows: any."
            )
        names = [space for space in data.vectors if self.weights.get(space, 1.0) > 0]
        parts = {space: self._part(data, space) for space in names}
        here = np.array([data.rows[space] >= 0 for space in names]).T
        with one_thread():
            whole = filled([parts[space] for space in names], here, self.ridge)[chosen]
            matrix = whole if self.dim is None else components(whole, self.dim)
        patterns = Counter("+".join(np.array(names)[row]) for row in here[chosen])
        mode = {
            "reproducible": "same bytes",
            "entity": data.entity,
            "patterns": dict(patterns.most_common()),
            "weights": {space: self.weights.get(space, 1.0) for space in data.vectors},
        }
        ids = [data.ids[row] for row in chosen.tolist()]
        imputed: NDArray[np.bool_] = ~np.all(here[chosen], axis=1)
        return Fused(self, ids, np.ascontiguousarray(matrix, np.float32), imputed, mode=mode)

    def _check(self, data: Views) -> None:
        known = ", ".join(data.vectors)
        for space in self.weights:
            if space not in data.vectors:
                raise InputError(f"Got a weight of {space!r}; expected one of the spaces that are fused: {known}.")
        if self.rows not in ("any", "all", *data.vectors):
            raise InputError(f"Got rows: {self.rows!r}; expected any, all or one of {known}.")
        if not any(self.weights.get(space, 1.0) for space in data.vectors):
            raise InputError("Got weights of 0 for all spaces; expected one that counts. Raise one.")

    def _chosen(self, data: Views) -> NDArray[np.bool_]:
        """Which entities get a vector; one that only spaces of weight 0 hold has nothing to be made of."""
        known = [data.rows[space] >= 0 for space in data.vectors if self.weights.get(space, 1.0) > 0]
        some: NDArray[np.bool_] = np.any(known, axis=0)
        if self.rows == "any":
            return some
        return some & (data.complete if self.rows == "all" else data.rows[self.rows] >= 0)

    def _part(self, data: Views, space: str) -> Matrix:
        """(n, d) normalised and weighted vectors of a space; zeros where an entity has none."""
        found = data.vectors[space].matrix.astype(np.float32)
        if self.normalize == "rows":
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)
        if self.normalize != "none":
            found -= found.mean(axis=0)
            found /= max(float(np.sqrt(np.einsum("ij,ij->i", found, found).mean())), 1e-30)
        rows = data.rows[space]
        out = np.zeros((len(data), found.shape[1]), np.float32)
        out[rows >= 0] = np.float32(self.weights.get(space, 1.0)) * found[rows[rows >= 0]]
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
    centred = matrix.astype(np.float64) - matrix.mean(axis=0)
    wide = centred.shape[1] > centred.shape[0]
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    top = vectors[:, ::-1][:, :dim]
    found = top * np.sqrt(np.maximum(values[::-1][:dim], 0)) if wide else centred @ top
    loadings = centred.T @ top if wide else top
    signs = np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(dim)])
    signed: Matrix = (found * np.where(signs == 0, 1, signs)).astype(np.float32)
    return signed
