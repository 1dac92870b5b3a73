"""Word2vec's two matrices and their schedule, which words and nodes share (Mikolov et al. 2013, arXiv:1301.3781, 1310.4546).

Skip-gram teaches every context of a centre word to answer for the centre, CBOW the mean of the contexts. The targets
are the centre and its negatives, which its contexts share (Ji et al. 2016, arXiv:1604.04661; see `sampled`), or the
nodes on the centre's path in a Huffman tree (see `tree`). Threads write the same matrices without locks (Hogwild, Niu
et al. 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Progress, silent
from embedders.kernels.block import LANES
from embedders.kernels.centres import CACHE_LINE, CHUNK, RING, SPARE, aligned
from embedders.kernels.copies import Copies
from embedders.kernels.initial import chances_to_stay, put_known
from embedders.kernels.noise import noise_table
from embedders.kernels.pool import SIZE
from embedders.kernels.sampled import train_sampled
from embedders.kernels.simd import TARGETS, WIDTH
from embedders.kernels.threads import run_threads
from embedders.kernels.tree import SPAN, train_tree, tree_paths

SEGMENT = 1 << 16  # tokens between two looks at the clock and at a request to stop
LOOK = 256  # of a large corpus, one centre word in so many is looked at for the loss
SEEN = 8192  # of a smaller one about as many centre words as this, or all


def _stream(seed: int, number: int) -> np.uint64:
    """The random state of one segment (splitmix64), so that streams do not depend on which thread runs them."""
    mixed = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return np.uint64(mixed)


@dataclass(frozen=True)
class Answer:
    """How a centre word's targets come about.

    train : the loop. blocks : of targets whose errors it needs at once. mine : a thread's last arguments of it.
    """

    train: Callable[..., Any]
    blocks: int
    mine: Callable[[int], tuple[Any, ...]]


@dataclass(eq=False)
class SkipGram:
    """The two matrices and the schedule of one training.

    Parameters
    ----------
    weights : counts of the rows; count^0.75 is the noise distribution.
    dim, window, negative, lr : as in the paper; lr falls linearly to lr / 10,000 over `total` tokens.
    total : tokens that will be seen in all rounds.
    sample : subsampling threshold of frequent rows (Mikolov et al. 2013, section 2.3, in word2vec.c's form); 0 is off.
    start : (n, dim) rows to begin with; NaN rows and None begin at random.
    start_context : the same for the rows that answer; NaN rows and None begin at zero.
    frozen : (n,) bool; rows that stay as they are.
    groups : where groups of rows end, the last at n; the noise of a centre word is of its group. None: of all rows.
    pool : negatives are drawn from a small pool of noise rows, which is faster with vectors larger than the caches; see
        `pool`. Of no account with groups.
    cbow : the mean of the contexts learns, as in word2vec.c with cbow_mean; else each context does.
    hs : hierarchical softmax stands in for negative sampling; `negative` is of no account.
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
    groups: Sequence[int] | None = None
    pool: bool = False
    cbow: bool = False
    hs: bool = False

    def __post_init__(self) -> None:
        n = len(self.weights)
        width = -(-self.dim // WIDTH) * WIDTH
        rng = np.random.default_rng(self.seed)
        first = (rng.random((n, self.dim), np.float32) - np.float32(0.5)) / np.float32(self.dim)
        self._copies = Copies(n, self.threads if self.hs else 1)
        self._rows = aligned(n + self.threads * SPARE, width)
        self._context = aligned(n + self._copies.spare, width)
        self._rows[:n, : self.dim] = first
        put_known(self._rows, self.start)
        put_known(self._context, self.start_context)
        self._keep = (chances_to_stay(self.weights, self.sample) * (2**32 - 1)).astype(np.uint32)
        self._frozen = self.frozen if self.frozen is not None and self.frozen.any() else None
        self._done = np.zeros(self.threads * CACHE_LINE, np.int64)
        self._losses = np.zeros(self.threads * CACHE_LINE, np.float64)
        self._answer = self._by_tree() if self.hs else self._by_sampling()
        self._segments = 0
        self.loss: list[float] = []

    @property
    def matrix(self) -> Matrix:
        """(n, dim) float32, the rows as they stand."""
        return np.ascontiguousarray(self._rows[: len(self.weights), : self.dim])

    @property
    def context(self) -> Matrix:
        """(n, dim) float32, the rows that answer: of words as centres, or of the tree's nodes."""
        return np.ascontiguousarray(self._context[: len(self.weights), : self.dim])

    def _by_sampling(self) -> Answer:
        often = np.asarray(self.weights, np.float64) ** 0.75
        ends = list(self.groups or [len(often)])
        spans = list(zip([0, *ends], ends, strict=False))
        noise = np.concatenate([noise_table(own if (own := often[i:j]).any() else own + 1) for i, j in spans])
        span_of = None if self.groups is None else np.repeat(spans, np.diff(spans)[:, 0], axis=0)
        size = RING * ((self.negative + TARGETS) // TARGETS) * LANES

        def mine(slot: int) -> tuple[Any, ...]:
            room = np.zeros(size, np.int64), np.zeros(size, np.float32)
            pool = np.zeros(SIZE, np.uint64) if self.pool and span_of is None else None
            return noise, span_of, self.negative, *room, pool

        return Answer(train_sampled, 1, mine)

    def _by_tree(self) -> Answer:
        places, numbers = tree_paths(self.weights)
        longest, copies = int(np.diff(places[:, 0]).max()), self._copies

        def mine(slot: int) -> tuple[Any, ...]:
            room = np.zeros(RING * longest, np.int64), np.zeros(RING * longest, np.float32)
            shift = copies.shift(slot, self._rows.shape[1])
            return places, numbers, *room, shift, copies.levels, copies.locks, copies.turns

        return Answer(train_tree, longest // LANES, mine)

    def _room(self) -> tuple[Any, ...]:
        """What a thread needs for itself: words, line, sinks, errors; see `centres.read`."""
        line = np.zeros(CHUNK + 2, np.int64)
        sinks = line.copy() if self._frozen is not None else line
        return np.zeros(CHUNK + 1, np.int64), line, sinks, aligned(self._answer.blocks, SPAN).reshape(-1)

    def train(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], *, progress: Progress = silent, unit: str = "words"
    ) -> None:
        """One pass over `tokens`: rows of the matrix; documents end at `offsets`; other numbers are skipped.

        `loss` gets the mean cross-entropy of the pass, a (context, centre) pair or, of CBOW, a centre; it is taken from
        a sample of them, as they are met, and NaN when there was none.
        """
        starts = np.arange(0, len(tokens), SEGMENT)
        documents = np.searchsorted(offsets, starts, side="right") - 1
        base = self._segments
        self._segments += len(starts)
        self._losses[:] = 0
        look = np.uint64(min(LOOK, 1 << max(0, (len(tokens) // SEEN).bit_length() - 1)) - 1)
        rooms = [self._room() for _ in range(self.threads)]
        own = [self._answer.mine(slot) for slot in range(self.threads)]
        fresh = [(len(self.weights) + slot * SPARE + 3) * self._rows.shape[1] for slot in range(self.threads)]
        alone = [np.array([place]) if self.cbow else None for place in fresh]

        def work(slot: int, number: int) -> None:
            begin = int(starts[number])
            self._answer.train(
                tokens, offsets, begin, min(begin + SEGMENT, len(tokens)), int(documents[number]),
                self._keep, self._frozen, self._rows, *rooms[slot],
                self.window, self.lr, self._done, float(self.total), slot * CACHE_LINE,
                self._losses, look, _stream(self.seed, base + number), alone[slot], self._context, *own[slot],
            )  # fmt: skip

        self._copies.begin(self._context)
        run_threads(work, len(starts), self.threads, lambda: progress(float(self._done.sum()), self.total, unit))
        self._copies.finish(self._context)
        pairs = self._losses[1::CACHE_LINE].sum()
        self.loss.append(float(self._losses[::CACHE_LINE].sum() / pairs) if pairs else float("nan"))
