"""LightGCN (He, Deng, Wang, Li, Zhang and Wang, SIGIR 2020, arXiv:2002.02126)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from embedders.base import Encoder, Matrix, Progress, Sides, Threads, silent
from embedders.interaction.factors import Factored, Side, begun
from embedders.interaction.folding import FoldingFactors
from embedders.interactions import Interactions
from embedders.start import picked

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SPREAD = 0.1  # of the random numbers that rows begin at
PARTS = 4  # steps that see as many pairs as there are


@dataclass(frozen=True, eq=False)
class LightFactors(FoldingFactors):
    """One side. first : (n, dim) float32, what its layers begin with, NaN of folded rows: training goes on from these."""

    first: Matrix | None = None

    def fold_in(self, data: Interactions) -> Self:
        assert self.first is not None
        found = super().fold_in(data)
        return replace(found, first=picked(self.ids, self.first, found.ids))


class LightGcn(Factored):
    """Vectors of users and items, each a mean over layers of its own and its neighbours' in the graph of who met what.

    The dot product is greater for an item that was met than for one that was not (see `Bpr`, whose draws these are).
    """

    kind: ClassVar[str] = "lightgcn"
    encoder: ClassVar[type] = LightFactors
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    dim: PositiveInt = Field(64, le=4096, description="numbers in a vector")
    layers: PositiveInt = Field(3, le=16, description="how far neighbours are looked at")
    steps: PositiveInt = Field(600, description="of gradient descent (Adam), each over the whole graph")
    batch: Literal["auto"] | PositiveInt = Field(
        "auto", description="pairs of a user with an item it met that a step learns from; auto: a quarter of them"
    )
    lr: PositiveFloat = Field(0.02, le=1, description="learning rate")
    regularization: NonNegativeFloat = Field(0.002, description="of the squares of what the rows begin with")
    confidence: Literal["binary", "linear"] = Field(
        "binary",
        description="how an edge counts, and how often it is drawn: `binary`: all alike; `linear`: as it weighs",
    )
    threads: Threads = 0

    def fit(
        self, data: Interactions, *, start: Encoder[Interactions] | None = None, progress: Progress = silent
    ) -> Sides[Interactions]:
        """Learn what the layers begin with; with a start of this kind go on from there, in fewer and smaller steps.

        Of another kind its vectors are begun with.

        Raises
        ------
        InputError : there is no event, or the start is of another width.
        MissingPackageError : torch or torch_geometric is not installed.
        """
        from embedders.graph.geometric import import_geometric
        from embedders.graph.training import curve
        from embedders.kernels.threads import cores
        from embedders.torch_threads import torch_threads

        begin = _firsts(start)
        users, items = begun(begin or start, data, self.dim)
        import_geometric(self.kind)
        threads = self.threads or cores()
        first = self._drawn(np.concatenate([users, items]))
        matrix = data.matrix()
        with torch_threads(threads):
            network = Network(self, matrix)
            losses = network.train(first, threads, progress, further=begin is not None)
            users, items = network.split(network.vectors)
            first_users, first_items = network.split(network.first)
            by_users, by_items = network.split(network.passing)
        mode = {"threads": threads, "reproducible": "bytes" if threads == 1 else "no", "loss": curve(losses)}
        of_users = LightFactors(
            self, data.users, users, None, data.items, by_items, first_users, mode={**mode, "side": "users"}
        )
        of_items = LightFactors(
            self, data.items, items, None, data.users, by_users, first_items, mode={**mode, "side": "items"}
        )
        return Sides(self, {"users": of_users, "items": of_items})

    def folded(self, side: Side, met: csr_array, own: Matrix, other: Matrix) -> Matrix:
        """What the layers pass on to a row from those it met, with nothing of its own. See `Folds`."""
        known = np.flatnonzero(~np.isnan(other[:, 0]))
        rows = self.weighed(met[np.flatnonzero(np.isnan(own[:, 0]))][:, known])
        found: Matrix = inverse_root(rows.sum(axis=1))[:, None] * (rows @ other[known])
        return found

    def weighed(self, matrix: csr_array) -> csr_array:
        """Weights as the graph's edges have them."""
        if self.confidence == "linear":
            return matrix
        found = matrix.copy()
        found.data = np.ones_like(found.data)
        return found

    def _drawn(self, rows: Matrix) -> Matrix:
        """Rows that are not known get small random numbers."""
        unknown = np.isnan(rows[:, 0])
        random = np.random.default_rng(self.seed).standard_normal((int(unknown.sum()), self.dim), np.float32)
        rows[unknown] = np.float32(SPREAD) * random
        return rows


def _firsts(start: Encoder[Any] | None) -> Sides[Any] | None:
    """An encoder of this kind, with what its layers begin with for vectors."""
    if not isinstance(start, Sides):
        return None
    sides: dict[str, Encoder[Any]] = {
        name: replace(side, matrix=side.first)
        for name, side in start.sides.items()
        if isinstance(side, LightFactors) and side.first is not None
    }
    return replace(start, sides=sides) if sides else None


def inverse_root(degrees: NDArray[Any]) -> NDArray[np.float32]:
    """1 / sqrt of each; 0 of 0."""
    return np.where(degrees > 0, np.maximum(degrees, 1e-30) ** -0.5, 0).astype(np.float32)


class Network:
    """The graph of users and items, users first, and its layers: equations 3 and 4 of the paper, all layers alike."""

    def __init__(self, recipe: LightGcn, matrix: csr_array) -> None:
        from scipy.sparse import block_array, csr_array

        from embedders.graph.geometric import import_geometric, tensor
        from embedders.kernels.triples import Triples

        matrix.sort_indices()
        self.recipe, self.users, self.items, self.pairs = recipe, *matrix.shape, matrix.nnz
        self._draws = Triples(
            matrix.indptr, matrix.indices, self.items, matrix.data if recipe.confidence == "linear" else None
        )
        edges = recipe.weighed(matrix)
        self._roots = np.concatenate([inverse_root(edges.sum(axis=1)), inverse_root(edges.sum(axis=0))])
        rows = np.repeat(np.arange(self.users), np.diff(edges.indptr))
        edges.data = self._roots[rows] * edges.data * self._roots[self.users + edges.indices]
        blocks: list[list[Any]] = [[None, edges], [edges.T, None]]
        self._graph = tensor(csr_array(block_array(blocks)), "cpu")
        self._layer = import_geometric(recipe.kind).LGConv(normalize=False)

    def passed(self, rows: Any) -> Any:
        """The mean of the rows and of what each layer makes of them. It is symmetric: slopes go the same way back."""
        return self._sum(rows, self.recipe.layers) / (self.recipe.layers + 1)

    def _sum(self, rows: Any, layers: int) -> Any:
        total = rows
        for _ in range(layers):
            rows = self._layer(rows, self._graph)
            total = total + rows
        return total

    def train(self, first: Matrix, threads: int, progress: Progress, *, further: bool) -> list[float]:
        """Find the rows that the layers begin with; returns the mean loss of a pair in each step."""
        import torch

        from embedders.graph.training import train

        recipe = self.recipe
        size = max(1, self.pairs // PARTS) if recipe.batch == "auto" else recipe.batch
        self._module = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(first))])

        def draw(step: int) -> NDArray[np.int32]:
            found = np.empty((size, 3), np.int32)
            self._draws.fill(found, recipe.seed, step)
            return found

        return train(
            self._module, draw, self._loss, steps=recipe.steps, lr=recipe.lr, threads=threads, progress=progress,
            further=further,
        )  # fmt: skip

    def _loss(self, triples: NDArray[np.int32]) -> Any:
        """The mean loss of the triples, which knows its slopes."""
        import torch

        from embedders.kernels.bpr import slopes

        (first,), n, size = self._module, self.users, len(triples)
        triples = triples[triples[:, 2] >= 0]  # who met all there is tells nothing, and pulls at nothing
        with torch.no_grad():
            vectors = self.passed(first).numpy()
            slope = np.zeros_like(vectors)
            loss = slopes(vectors[:n], vectors[n:], triples, slope[:n], slope[n:]) / size
            counts = np.bincount(triples[:, 0], minlength=len(vectors))
            for column in (1, 2):
                counts += np.bincount(n + triples[:, column], minlength=len(vectors))
            share = torch.from_numpy((self.recipe.regularization / size * counts).astype(np.float32))
            found = self.passed(torch.from_numpy(slope / np.float32(size))) + share[:, None] * first
        value = (first * found).sum()  # its slopes are `found`
        return value - value.detach() + loss

    @property
    def first(self) -> Matrix:
        """(users + items, dim) what the layers begin with."""
        found: Matrix = self._module[0].detach().numpy()
        return found

    @property
    def vectors(self) -> Matrix:
        """(users + items, dim) what they make of it."""
        import torch

        with torch.no_grad():
            found: Matrix = self.passed(self._module[0]).numpy()
        return found

    @property
    def passing(self) -> Matrix:
        """(users + items, dim) what each row adds to the vector of a new one that met it, but for the new one's degree."""
        import torch

        with torch.no_grad():
            layers = self.recipe.layers
            shorter = self._sum(self._module[0], layers - 1) / (layers + 1)
            found: Matrix = self._roots[:, None] * shorter.numpy()
        return found

    def split(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """Of users and of items."""
        return rows[: self.users], rows[self.users :]
