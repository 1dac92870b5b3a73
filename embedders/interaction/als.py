"""Weighted matrix factorisation by alternating least squares (Hu, Koren and Volinsky 2008), by the library `implicit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from embedders.base import Encoder, Matrix, Progress, Sides, Threads, silent
from embedders.errors import InputError, MissingPackageError
from embedders.interaction.factors import Factored, Side, begun, check_events
from embedders.interaction.folding import FoldingFactors
from embedders.interactions import Interactions
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def _matrix(matrix: csr_array) -> Any:
    """As `implicit` takes it without a remark."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix)


class Als(Factored):
    """Factors of users and items whose dot product is the preference, 1 for what they met and 0 for the rest.

    What they met counts with a confidence, the rest with 1.
    """

    kind: ClassVar[str] = "als"
    encoder: ClassVar[type] = FoldingFactors
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    dim: PositiveInt = Field(64, le=4096, description="factors")
    iterations: PositiveInt = Field(15, description="alternations")
    regularization: NonNegativeFloat = Field(10.0, description="of the factors' squares")
    alpha: PositiveFloat = Field(2.0, description="how much confidence grows with weight")
    confidence: Literal["binary", "linear", "1+linear"] = Field(
        "binary",
        description="in what was met: `binary`: alpha, whatever the weight; `linear`: alpha * weight; `1+linear`: 1 + alpha * weight (Hu et al.)",
    )
    threads: Threads = 0

    def fit(
        self, data: Interactions, *, start: Encoder[Interactions] | None = None, progress: Progress = silent
    ) -> Sides[Interactions]:
        """Alternate between solving for the users and for the items.

        Raises
        ------
        InputError : there is no event, the start is of another width, or confidences are so large that nothing is learned.
        """
        check_events(data)
        model = self._model()
        if start is not None:
            users, items = begun(start, data, self.dim)
            model.user_factors, model.item_factors = self._drawn(users, 0), self._drawn(items, 1)

        def tell(iteration: int, seconds: float, loss: float | None) -> None:
            progress(iteration + 1, self.iterations, "iterations")

        from implicit.recommender_base import ModelFitError

        try:
            with one_thread():
                model.fit(_matrix(self.weighted(data.matrix())), show_progress=False, callback=tell)
        except ModelFitError:
            raise InputError(
                f"Got factors that are no numbers, by confidence: {self.confidence} and alpha: {self.alpha:g}; expected some. "
                "Scale the weights down, set a smaller alpha or a larger regularization, or say confidence: binary."
            ) from None
        users, items = model.user_factors, model.item_factors
        mode = {"threads": self.threads, "reproducible": "same bytes with threads: 1"}
        sides = {
            "users": FoldingFactors(self, data.users, users, None, data.items, items, mode={**mode, "side": "users"}),
            "items": FoldingFactors(self, data.items, items, None, data.users, users, mode={**mode, "side": "items"}),
        }
        return Sides(self, sides)

    def weighted(self, matrix: csr_array) -> csr_array:
        """Weights as confidences."""
        found = matrix.copy()
        with np.errstate(over="ignore"):  # `fit` says what came of it
            if self.confidence == "binary":
                found.data = np.full_like(found.data, self.alpha)
            else:
                found.data = np.float32(self.alpha) * found.data + np.float32(self.confidence == "1+linear")
        return found

    def folded(self, side: Side, met: csr_array, own: Matrix, other: Matrix) -> Matrix:
        """One step of the alternation (Hu et al. 2008, equation 4); see `Folds`."""
        new, known = np.flatnonzero(np.isnan(own[:, 0])), np.flatnonzero(~np.isnan(other[:, 0]))
        model = self._model()
        model.item_factors = other[known]
        model.user_factors = np.zeros((0, self.dim), np.float32)
        with one_thread():
            found: Matrix = model.recalculate_user(np.arange(len(new)), _matrix(self.weighted(met[new][:, known])))
        return found.astype(np.float32, copy=False)

    def _drawn(self, rows: Matrix, stream: int) -> Matrix:
        """The start of one side: rows that are not known get small random numbers, as all do without a start."""
        unknown = np.isnan(rows[:, 0])
        rng = np.random.default_rng([self.seed, stream])
        rows[unknown] = rng.random((int(unknown.sum()), self.dim), np.float32) * np.float32(0.01)
        return rows

    def _model(self) -> Any:
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise MissingPackageError("implicit", "interactions", f"The embedder {self.kind!r}") from None
        with one_thread():
            return AlternatingLeastSquares(
                factors=self.dim, regularization=self.regularization, iterations=self.iterations, random_state=self.seed,
                num_threads=self.threads or cores(),
            )  # fmt: skip
