"""Weighted matrix factorisation by alternating least squares (Hu, Koren and Volinsky 2008), by the library `implicit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from embedders.base import Encoder, Matrix, Progress, Sides, Threads, silent
from embedders.errors import InputError, MissingPackageError
from embedders.interaction.factors import Factored, Factors, begun
from embedders.interactions import Interactions
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NO_KNOWN = "nothing known to fold in by"


@dataclass(frozen=True, eq=False)
class AlsFactors(Factors):
    """One side, with what folding in needs of the other.

    others : the names of the other side as trained. other : (m, dim) float32, their vectors.
    """

    recipe: Als
    others: Sequence[str] = ()
    other: Matrix | None = None

    def excluded(self, data: Interactions) -> Mapping[str, int]:
        left = len(data.users if self.side == "users" else data.items) - len(self.ids)
        return {NO_KNOWN: left} if left else {}

    def fold_in(self, data: Interactions) -> Self:
        """Solve for the rows that are new in `data`, against the other side as it was trained.

        One step of the alternation (Hu et al. 2008, equation 4). Those that met nothing that was trained are left out.
        Trained rows keep their vectors; those that are gone vanish.
        """
        assert self.other is not None
        matrix = data.matrix() if self.side == "users" else data.matrix().T.tocsr()
        ids, others = (data.users, data.items) if self.side == "users" else (data.items, data.users)
        trained = np.ones(len(self.ids), bool) if self.folded is None else ~self.folded
        place = {name: row for row, name in enumerate(self.ids) if trained[row]}
        old = np.array([place.get(name, -1) for name in ids], np.int64)
        known = {name: row for row, name in enumerate(self.others)}
        column = np.array([known.get(name, -1) for name in others], np.int64)
        new = np.flatnonzero(old < 0)
        met = _columns(matrix[new], column, len(self.others))
        solved = self.recipe.solve(met, self.other)
        kept = np.ones(len(ids), bool)
        kept[new[np.diff(met.indptr) == 0]] = False
        found = np.empty((len(ids), self.dim), np.float32)
        found[old >= 0] = self.matrix[old[old >= 0]]
        found[new] = solved
        return replace(
            self,
            ids=[name for name, it in zip(ids, kept, strict=True) if it],
            matrix=found[kept],
            folded=(old < 0)[kept],
        )


def _matrix(matrix: csr_array) -> Any:
    """As `implicit` takes it without a remark."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix)


def _columns(matrix: csr_array, column: NDArray[np.int64], width: int) -> csr_array:
    """A matrix with its columns put where `column` says; those at -1 are left out."""
    from scipy.sparse import coo_array, csr_array

    found = coo_array(matrix)
    there = column[found.col] >= 0
    return csr_array((found.data[there], (found.row[there], column[found.col[there]])), shape=(matrix.shape[0], width))


class Als(Factored):
    """Factors of users and items whose dot product is the preference, 1 for what they met and 0 for the rest.

    What they met counts with a confidence, the rest with 1.
    """

    kind: ClassVar[str] = "als"
    encoder: ClassVar[type] = AlsFactors
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
        InputError : there is no event, or the start is of another width.
        """
        if not len(data):
            raise InputError("Got no event; expected users with items. Is the file empty?")
        model = self._model()
        if start is not None:
            users, items = begun(start, data)
            if users.shape[1] != self.dim:
                raise InputError(f"Got a start of dimension {users.shape[1]}; expected {self.dim}. Set dim to it.")
            model.user_factors, model.item_factors = self._drawn(users, 0), self._drawn(items, 1)

        def tell(iteration: int, seconds: float, loss: float | None) -> None:
            progress(iteration + 1, self.iterations, "iterations")

        with one_thread():
            model.fit(_matrix(self.weighted(data.matrix())), show_progress=False, callback=tell)
        users, items = model.user_factors, model.item_factors
        mode = {"threads": self.threads, "reproducible": "same bytes with threads: 1"}
        sides = {
            "users": AlsFactors(self, data.users, users, None, data.items, items, mode={**mode, "side": "users"}),
            "items": AlsFactors(self, data.items, items, None, data.users, users, mode={**mode, "side": "items"}),
        }
        return Sides(self, sides)

    def weighted(self, matrix: csr_array) -> csr_array:
        """Weights as confidences."""
        found = matrix.copy()
        if self.confidence == "binary":
            found.data = np.full_like(found.data, self.alpha)
        else:
            found.data = np.float32(self.alpha) * found.data + np.float32(self.confidence == "1+linear")
        return found

    def solve(self, matrix: csr_array, other: Matrix) -> Matrix:
        """(n, dim) the factors of rows by their weights (n, m), against the other side's (m, dim)."""
        model = self._model()
        model.item_factors = np.ascontiguousarray(other)
        model.user_factors = np.zeros((0, self.dim), np.float32)
        rows = matrix.shape[0]
        if not rows:
            return np.empty((0, self.dim), np.float32)
        with one_thread():
            found: Matrix = model.recalculate_user(np.arange(rows), _matrix(self.weighted(matrix)))
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
