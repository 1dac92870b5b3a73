"""Skip-gram and CBOW with negative sampling on torch tensors: what `kernels.skipgram` does, for GPUs.

Windows, subsampling and noise words are drawn on the device; the centre words of a step learn together, as batched
matrix products, and the gradients of a row are summed in a fixed order, so that a device repeats itself. The noise words
of a centre are shared by its contexts (Ji et al. 2016, arXiv:1604.04661).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Progress, silent
from embedders.errors import InputError
from embedders.kernels.alias import alias_table
from embedders.kernels.initial import chances_to_stay, put_known

BLOCK = 1 << 18  # tokens brought to the device together; windows end at its ends
MOST = 16384  # centre words of a step
TOGETHER = 8  # times that the most frequent word may be a centre of one step, on average: they learn from equal rows

SLACK = 4  # how far the bound of the curvature may be passed: it adds up steps in all directions as if they were one


@dataclass(eq=False)
class TorchSkipGram:
    """The two matrices and the schedule of one training on a device.

    Parameters
    ----------
    weights, dim, window, negative, lr, total, seed, sample, start, start_context, frozen, cbow : as of `SkipGram`.
    threads : of no account; torch has its own.
    device : "cpu" or "cuda", as torch names it.

    Raises
    ------
    InputError : there is no such device.
    """

    weights: NDArray[Any]
    dim: int
    window: int
    negative: int
    lr: float
    total: int
    threads: int
    seed: int
    sample: float = 0.0
    start: Matrix | None = None
    start_context: Matrix | None = None
    frozen: NDArray[np.bool_] | None = None
    cbow: bool = False
    device: str = "cuda"
    loss: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        import torch

        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"Got device={self.device!r}; torch sees no GPU here. Use device: cpu or auto.")
        n = len(self.weights)
        rng = np.random.default_rng(self.seed)
        rows = (rng.random((n, self.dim), np.float32) - np.float32(0.5)) / np.float32(self.dim)
        context = np.zeros((n, self.dim), np.float32)
        put_known(rows, self.start)
        put_known(context, self.start_context)
        keep = chances_to_stay(self.weights, self.sample)
        noise, other = alias_table(np.asarray(self.weights, np.float64) ** 0.75)
        moves = np.ones(n, bool) if self.frozen is None else ~self.frozen

        def sent(array: NDArray[Any]) -> Any:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        self._rows, self._context, self._moves = sent(rows), sent(context), sent(moves.astype(np.float32))
        self._keep, self._noise, self._other = sent(keep.astype(np.float32)), sent(noise), sent(other.astype(np.int64))
        kept = self.weights * keep
        self._size = int(np.clip(TOGETHER * kept.sum() / kept.max(), 1, MOST))
        self._shifts = sent(np.array([*range(-self.window, 0), *range(1, self.window + 1)]))
        self._random = torch.Generator(self.device).manual_seed(self.seed)
        self._done = 0

    @property
    def matrix(self) -> Matrix:
        """(n, dim) float32, the rows as they stand."""
        return np.array(self._rows.cpu().numpy())

    @property
    def context(self) -> Matrix:
        """(n, dim) float32, the rows that answer."""
        return np.array(self._context.cpu().numpy())

    def train(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], *, progress: Progress = silent, unit: str = "words"
    ) -> None:
        """One pass over `tokens`: rows of the matrix; documents end at `offsets`; other numbers are skipped.

        `loss` gets the mean cross-entropy of the pass, a (context, centre) pair or, of CBOW, a centre; NaN without any.
        """
        import torch

        spent = torch.zeros(2, dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for first in range(0, len(tokens), BLOCK):
                last = min(first + BLOCK, len(tokens))
                low, high = np.searchsorted(offsets, (first, last), side="right")
                ends = torch.from_numpy(np.asarray(offsets[low:high]) - first).to(self.device)
                block = torch.from_numpy(np.array(tokens[first:last], np.int64)).to(self.device)
                self._block(block, ends, spent)
                progress(float(self._done), self.total, unit)
        total, pairs = spent.tolist()
        self.loss.append(total / pairs if pairs else float("nan"))

    def _block(self, tokens: Any, ends: Any, spent: Any) -> None:
        """Train on a block of tokens; `ends` are the places where documents end."""
        import torch

        random, device = self._random, self.device
        n = len(self._keep)
        place = torch.nonzero((tokens >= 0) & (tokens < n))[:, 0]
        chance = torch.rand(len(place), generator=random, device=device)
        place = place[chance < self._keep[tokens[place]]]
        words, document = tokens[place], torch.searchsorted(ends, place, right=True)
        reach = torch.randint(1, self.window + 1, (len(words), 1), generator=random, device=device)
        for first in range(0, len(words), self._size):
            centre = torch.arange(first, min(first + self._size, len(words)), device=device)
            where = centre[:, None] + self._shifts
            inside = (where >= 0) & (where < len(words)) & (self._shifts.abs() <= reach[centre])
            where = where.clamp(0, len(words) - 1)
            inside &= document[where] == document[centre][:, None]
            noise = torch.randint(n, (len(centre), self.negative), generator=random, device=device)
            chance = torch.rand(noise.shape, generator=random, device=device)
            noise = torch.where(chance < self._noise[noise], noise, self._other[noise])
            targets = torch.cat([words[centre][:, None], noise], dim=1)
            done = self._done + len(tokens) * first / len(words)
            rate = self.lr * max(1 - done / self.total, 1e-4)
            self._step(words[where], inside.to(torch.float32), targets, rate, spent)
        self._done += len(tokens)

    def _step(self, contexts: Any, inside: Any, targets: Any, rate: float, spent: Any) -> None:
        """Learn from b centre words at once.

        contexts : (b, 2 window) rows; inside : 1 where one is in reach, else 0; targets : (b, 1 + negative), the centre
        first. spent : loss and the number of pairs, added to.
        """
        import torch

        x, t = self._rows[contexts], self._context[targets]
        goal = torch.zeros(targets.shape[1], device=self.device)
        goal[0] = 1
        counted = (targets != targets[:, :1]).to(torch.float32)
        counted[:, 0] = 1  # a noise word that is the centre itself is left out
        asked = inside
        if self.cbow:
            parts = inside.sum(dim=1, keepdim=True)
            x = (x * inside[:, :, None]).sum(dim=1, keepdim=True) / parts.clamp(min=1)[:, :, None]
            asked = (parts > 0).to(torch.float32)
        f = x @ t.transpose(1, 2)
        weight = asked[:, :, None] * counted[:, None, :]
        spent += torch.stack([((torch.nn.functional.softplus(f) - goal * f) * weight).sum(), asked.sum()])
        error = (goal - torch.sigmoid(f)) * weight * rate
        for_rows, for_context = error @ t, error.transpose(1, 2) @ x
        if self.cbow:
            for_rows = for_rows * inside[:, :, None]
        bend = rate / 4 * weight  # a bound of how fast an error falls by its own step: sigmoid' <= 1 / 4
        bend_rows = (bend @ (t * t).sum(dim=2)[:, :, None])[:, :, 0].expand(inside.shape)
        bend_context = (bend.transpose(1, 2) @ (x * x).sum(dim=2)[:, :, None])[:, :, 0]
        met = inside.reshape(-1).nonzero()[:, 0]
        self._add(
            self._rows,
            contexts.reshape(-1)[met],
            for_rows.reshape(-1, self.dim)[met],
            bend_rows.reshape(-1)[met],
            self._moves,
        )
        self._add(self._context, targets.reshape(-1), for_context.reshape(-1, self.dim), bend_context.reshape(-1), None)

    def _add(self, matrix: Any, rows: Any, gradients: Any, bend: Any, moves: Any) -> None:
        """matrix[rows] += gradients, the repeats of a row summed in their order.

        One after another they would shrink as the row moves; together they may overshoot. So a row goes not much farther
        than the bound of its curvature allows: the sum is divided by that of `bend` / SLACK where it is above 1.
        """
        import torch

        if not len(rows):
            return
        ordered, order = torch.sort(rows, stable=True)
        distinct, counts = torch.unique_consecutive(ordered, return_counts=True)
        sums = torch.segment_reduce(gradients[order], "sum", lengths=counts, axis=0)
        sums /= torch.segment_reduce(bend[order], "sum", lengths=counts, axis=0).div(SLACK).clamp(min=1)[:, None]
        if moves is not None:
            sums *= moves[distinct][:, None]
        matrix[distinct] += sums
