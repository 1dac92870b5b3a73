"""The network that learns tables of values: a table a column, hidden layers over the values of a row, an answer.

Source: C. Guo and F. Berkhahn, "Entity embeddings of categorical variables", 2016 (arXiv:1604.06737).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

SPREAD = 0.05
"""Standard deviation of what tables begin at, as in the authors' code (uniform on +-0.05 there)."""
SAMPLED = 4096
"""A masked column of more values is told from a sample of this many of them."""


@dataclass(frozen=True, eq=False)
class Network:
    """Weights, as tensors.

    Parameters
    ----------
    tables : of each column, (values, width).
    layers : weight and bias of each hidden layer.
    direct : weight and bias from the row's vector straight to the target; None without a target.
    heads : weight and bias from the last layer to the target; or of each column to a vector of its table, and the
        biases are those of its values.
    """

    tables: Sequence[Tensor]
    layers: Sequence[tuple[Tensor, Tensor]]
    direct: tuple[Tensor, Tensor] | None
    heads: Sequence[tuple[Tensor, Tensor]]

    @classmethod
    def drawn(
        cls, sizes: Sequence[int], widths: Sequence[int], numbers: int, hidden: Sequence[int], out: int | None, random: Generator
    ) -> Network:  # fmt: skip
        """Begin at random. out : numbers that the target is told by; None: the columns tell each other."""
        import torch

        def layer(width: int, into: int, biases: int | None = None) -> tuple[Tensor, Tensor]:
            reach = (6 / (width + into)) ** 0.5
            weight = torch.rand((into, width), generator=random) * 2 * reach - reach
            return weight, torch.zeros(into if biases is None else biases)

        tables = [torch.randn((n, width), generator=random) * SPREAD for n, width in zip(sizes, widths, strict=True)]
        joined = sum(widths) + numbers
        ends = [joined, *hidden]
        layers = [layer(width, into) for width, into in zip(ends, hidden, strict=False)]
        if out is not None:
            return cls(tables, layers, layer(joined, out), [layer(ends[-1], out)])
        return cls(tables, layers, None, [layer(ends[-1], w, n) for w, n in zip(widths, sizes, strict=True)])

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """All weights but the tables, by name."""
        groups = {"layer": self.layers, "direct": [self.direct] if self.direct else [], "head": self.heads}
        for name, pairs in groups.items():
            for place, (weight, bias) in enumerate(pairs):
                yield f"{name} {place} weight", weight
                yield f"{name} {place} bias", bias

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The same as arrays."""
        return {name: weight.detach().numpy().copy() for name, weight in self.named()}

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Begin at the weights of another one, those that are of the same shape; where they are NaN at what was drawn."""
        import torch

        for name, weight in self.named():
            if name in arrays and arrays[name].shape == tuple(weight.shape):
                found = torch.from_numpy(np.array(arrays[name]))
                weight.copy_(torch.where(torch.isnan(found), weight, found))

    def weights(self) -> list[Tensor]:
        """All of them."""
        return [*self.tables, *(weight for _, weight in self.named())]

    def inputs(self, codes: Tensor, numbers: Tensor, sparse: Sequence[bool]) -> Tensor:
        """(n, joined) the vectors of the values of each row, and its numbers. sparse: tables whose gradients are."""
        import torch
        from torch.nn.functional import embedding

        found = [embedding(codes[:, j], table, sparse=sparse[j]) for j, table in enumerate(self.tables)]
        return torch.cat([*found, numbers], dim=1)

    def last(self, inputs: Tensor) -> Tensor:
        """(n, width of the last hidden layer)."""
        from torch.nn.functional import linear, relu

        for weight, bias in self.layers:
            inputs = relu(linear(inputs, weight, bias))
        return inputs

    def column_loss(
        self, last: Tensor, column: int, codes: Tensor, shares: Tensor, random: Generator, *, sparse: bool
    ) -> Tensor:
        """The mean loss of telling the values of a column, by softmax over all of them.

        Of more than SAMPLED values, over those of the rows and others drawn by their share, which is taken back out
        (Bengio and Senécal 2008).

        shares : (values,) of the rows that have each. random : for the draw. sparse : whether the table's gradient is.
        """
        import torch
        from torch.nn.functional import cross_entropy, embedding, linear

        (weight, bias), table = self.heads[column], self.tables[column]
        asked = linear(last, weight)
        if len(table) <= SAMPLED:
            return cross_entropy(asked @ table.T + bias, codes.long())
        drawn = torch.multinomial(shares, SAMPLED, replacement=True, generator=random)
        among, places = torch.unique(torch.cat([codes.long(), drawn]), return_inverse=True)
        logits = (
            asked @ embedding(among, table, sparse=sparse).T + bias[among] - torch.log(SAMPLED * shares[among] + 1e-12)
        )
        return cross_entropy(logits, places[: len(codes)])
