"""Spaces projected linearly so that what they share correlates.

Sources: H. Hotelling, "Relations between two sets of variates", Biometrika 1936; for more than two, J. R. Kettenring,
"Canonical analysis of several sets of variables", Biometrika 1971 (MAXVAR); ridge of H. D. Vinod, "Canonical ridge and
econometrics of joint production", Journal of Econometrics 1976.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from embedders.base import Encoder, Matrix, Progress, silent
from embedders.errors import InputError
from embedders.fusion.principal import centred, directions
from embedders.fusion.shared import Head, Projection, Shared, mode_of, pairs_of
from embedders.kernels.blas import one_thread
from embedders.views import Views


class Cca(Projection):
    """Regularised canonical correlation analysis of two spaces, or of several."""

    kind: ClassVar[str] = "cca"
    encoder: ClassVar[type] = Shared
    deterministic: ClassVar[bool] = True

    dim: PositiveInt = Field(32, description="canonical directions that are kept, at most as many as there are")
    ridge: PositiveFloat = Field(
        0.3, description="added to the variance in each direction, as a share of the mean variance of the space"
    )
    power: NonNegativeFloat = Field(1.0, description="directions are weighted by their correlation to this power")

    def fit(self, data: Views, *, start: Encoder[Views] | None = None, progress: Progress = silent) -> Shared:
        """Learn on the entities that spaces have in common.

        Raises
        ------
        InputError : a space shares too few ids with the others, has equal vectors, or there are fewer directions than `dim`.
        """
        data.asked(self.rows)
        pairs = pairs_of(data)
        with one_thread():
            heads, correlations = canonical(data, pairs, self.dim, self.ridge, self.power)
        shared = {f"{a}+{b}": n for (a, b), n in pairs.items()}
        told = {"shared": shared, "correlations": [round(float(value), 4) for value in correlations[:10]]}
        return Shared(self, heads, mode=mode_of(data, reproducible="same bytes", **told))


def canonical(
    data: Views, pairs: Mapping[tuple[str, str], int], dim: int, ridge: float, power: float
) -> tuple[dict[str, Head], NDArray[np.float64]]:
    """Linear heads of all spaces, and (dim,) how much what they give correlates; of several spaces, the sum over others.

    Each space is whitened with the ridge; the correlations of whitened spaces, from the entities that two have in
    common, are the blocks of a symmetric matrix whose leading eigenvectors are the directions.
    """
    from scipy.linalg import eigh

    means, white, parts = {}, {}, {}
    for space, found in data.vectors.items():
        rest, means[space], _ = centred(found.matrix)
        variances, axes = directions(rest)
        white[space] = axes / np.sqrt(variances + ridge * variances.sum() / rest.shape[1])
        parts[space] = rest @ white[space]
    ends = np.cumsum([0, *(axes.shape[1] for axes in white.values())])
    place = {space: slice(*ends[i : i + 2]) for i, space in enumerate(white)}
    blocks = np.zeros((ends[-1], ends[-1]))
    for (a, b), shared in pairs.items():
        if shared < 2:
            continue
        both = (data.rows[a] >= 0) & (data.rows[b] >= 0)
        block = parts[a][data.rows[a][both]].T @ parts[b][data.rows[b][both]] / shared
        blocks[place[a], place[b]], blocks[place[b], place[a]] = block, block.T
    first = max(0, len(blocks) - dim)
    values, vectors = eigh(blocks, subset_by_index=(first, len(blocks) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    if (some := int((values > 1e-6).sum())) < dim:
        raise InputError(
            f"Got dim: {dim}, and the spaces {', '.join(white)} correlate in {some} directions; expected at most so many. "
            f"Set dim: {max(some, 1)}."
        )
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    vectors = vectors * np.where(peaks < 0, -1, 1) * values**power
    none: Matrix = np.empty(0, np.float32)
    heads = {
        space: Head(means[space], (np.ascontiguousarray(white[space] @ vectors[place[space]], np.float32),), none)
        for space in white
    }
    return heads, values
