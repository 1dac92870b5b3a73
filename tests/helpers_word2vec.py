"""Word2vec as in the papers, in plain Python and float64, with the kernel's random numbers: what the kernel must equal."""

import heapq
import itertools

import numpy as np

from embedders.kernels.noise import noise_table
from embedders.kernels.skipgram import _stream

GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def sigmoid(x):
    """The logistic function; past 6, as in word2vec.c, the answer counts as reached."""
    return np.where(x <= -6, 0.0, np.where(x >= 6, 1.0, 1 / (1 + np.exp(-x))))


def random(counter):
    """splitmix64."""
    z = counter & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def paths_of(counts):
    """Each word's inner nodes from the root down, and its turns, by joining the two lightest of a heap."""
    order = sorted(range(len(counts)), key=lambda i: counts[i])
    heap = [(counts[leaf], place, leaf, [leaf]) for place, leaf in enumerate(order)]
    heapq.heapify(heap)
    paths = [[] for _ in counts]
    for number in range(len(counts) - 1):
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        inner = len(counts) - 2 - number
        for turn, (_, _, _, leaves) in enumerate((first, second)):
            for leaf in leaves:
                paths[leaf].insert(0, (inner, turn))
        heapq.heappush(heap, (first[0] + second[0], len(counts) + number, ~inner, first[3] + second[3]))
    return paths


def blocks_of(path):
    """Blocks of eight, then of six, that hold a path with the least room to spare, which stands in front."""
    sizes = min(
        ([8] * big + [6] * small for big in range(9) for small in range(9) if 8 * big + 6 * small >= len(path)),
        key=lambda sizes: (sum(sizes), len(sizes)),
    )
    ends = np.cumsum(sizes) - sum(sizes) + len(path)
    return [path[max(0, end - size) : end] for size, end in zip(sizes, ends, strict=True)]


class Targets:
    """The targets of centre words, in blocks of up to six (row, goal); of negatives drawn twice in six the last counts."""

    def __init__(self, counts, negative, hs, groups, counter, pool):
        self.counter, self.negative = counter, negative
        parts = np.split(counts.astype(np.float64) ** 0.75, (groups or [])[:-1])
        self.noise = [
            (first, noise_table(part).tolist())
            for first, part in zip([0, *(groups or [])], parts, strict=False)
            for _ in part
        ]
        self.paths = paths_of(counts.tolist()) if hs else None
        self.pool, self.turn, self.owed = [0] * pool, 0, 16 * pool
        self.renew(0)

    def renew(self, words):
        """One row of the pool, the oldest, makes place for sixteen negatives that these words will draw."""
        self.owed += words * self.negative
        while self.pool and self.owed >= 16:
            self.pool[self.turn] = self.row(self.noise[0][1], self.step())
            self.turn, self.owed = (self.turn + 1) % len(self.pool), self.owed - 16

    def row(self, noise, bits):
        row = (bits >> 32) * len(noise) >> 32
        return row if bits & 0xFFFFFFFF < noise[row] >> 32 else noise[row] & 0xFFFFFFFF

    def step(self):
        self.counter += GOLDEN
        return random(self.counter)

    def six(self, centre):
        first, noise = self.noise[centre]
        for k in range(1, 7):
            bits = random(self.counter + k * GOLDEN)
            yield self.pool[(bits >> 32) * len(self.pool) >> 32] if self.pool else first + self.row(noise, bits)
        self.counter += 8 * GOLDEN

    def of(self, centre):
        if self.paths is not None:
            path = [(node, 1.0 - turn) for node, turn in self.paths[centre]]
            return blocks_of(path)
        blocks, left = [], self.negative + 1
        while left > 0:
            drawn = list(self.six(centre))
            if not blocks:
                drawn[-1] = centre
            wanted = drawn[-min(6, left) :]
            left -= 6
            block = [(row, 0.0) for k, row in enumerate(wanted) if row != centre and row not in wanted[k + 1 :]]
            blocks.append(block if blocks else [*block, (centre, 1.0)])
        return blocks


def errors_of(block, c, inputs, rate):
    """The errors of each input and target, and their loss."""
    rows, goals = [row for row, _ in block], np.array([goal for _, goal in block])
    errors = [(goals - sigmoid(c[rows] @ x)) * rate for x in inputs]
    return rows, errors, -sum(np.log(np.maximum(1 - np.abs(e) / rate, 1 / (1 + np.exp(6)))).sum() for e in errors)


def skipgram(w, c, contexts, blocks, rate, frozen, together):
    """All contexts of one centre word, sixteen at a time; a block of targets changes when sixteen are done.

    together : all blocks' errors are taken before one learns.
    """
    blocks, total = list(filter(None, blocks)), 0.0
    parts = [contexts[k : k + 16] for k in range(0, len(contexts), 16)]
    for turn in (
        [[(some, block) for block in blocks] for some in parts]
        if together
        else [[(s, b)] for b in blocks for s in parts]
    ):
        for (some, _), (rows, errors, loss) in [(t, errors_of(t[1], c, w[t[0]], rate)) for t in turn]:
            total, held = total + loss, c[rows]
            for context, e in zip(some, errors, strict=True):
                x = w[context].copy()
                if context not in frozen:
                    w[context] += e @ held
                c[rows] += e[:, None] * x
    return [total / len(contexts)] * len(contexts)


def cbow(w, c, contexts, blocks, rate, frozen, together):
    """The mean of the contexts of one centre word; what it learns is added to each of them."""
    blocks, mean, total = list(filter(None, blocks)), w[contexts].mean(axis=0), 0.0
    learned = mean.copy()
    for turn in [blocks] if together else [[block] for block in blocks]:
        for rows, (e,), loss in [errors_of(block, c, [learned], rate) for block in turn]:
            total, x = total + loss, learned.copy()
            learned += e @ c[rows]
            c[rows] += e[:, None] * x
    for context in contexts:
        if context not in frozen:
            w[context] += learned - mean
    return [total]


def reference(
    tokens,
    offsets,
    counts,
    *,
    dim,
    window,
    negative,
    lr,
    seed,
    sample=0.0,
    mean=False,
    hs=False,
    groups=None,
    frozen=(),
    start=None,
    look=1,
    pool=0,
):
    """One pass on one thread over less than a segment: the rows, and the mean loss of one centre word in `look`.

    Targets are chosen three centre words ahead.
    """
    n, share = len(counts), counts / counts.sum()
    targets = Targets(counts, negative, hs, groups, int(_stream(seed, 0)), pool)
    w = (np.random.default_rng(seed).random((n, dim), np.float32).astype(np.float64) - 0.5) / dim
    if start is not None:
        w = np.where(np.isnan(start), w, start)
    c = np.zeros((n, dim))
    keep = np.minimum(1, (np.sqrt(share / sample) + 1) * (sample / share)) if sample else np.ones(n)
    keep = (keep * (2**32 - 1)).astype(np.int64).tolist()
    trained, losses = 0, []
    for first, last in itertools.pairwise(offsets):
        kept = [t for t in tokens[first:last] if 0 <= t < n and targets.step() >> 32 <= keep[t]]
        rate = lr * max(1 - trained / len(tokens), 1e-4)
        trained += last - first
        targets.renew(len(kept))
        queue = [targets.of(centre) for centre in kept[:3]]
        for i in range(len(kept)):
            bits = targets.step()
            queue += [targets.of(centre) for centre in kept[i + 3 : i + 4]]
            reach, blocks = 1 + (bits >> 32) * window // 2**32, queue.pop(0)
            contexts = kept[max(0, i - reach) : i] + kept[i + 1 : i + reach + 1]
            if contexts:
                loss = (cbow if mean else skipgram)(w, c, contexts, blocks, rate, frozen, hs)
                losses += loss if bits % look == 0 else []
    return w, np.mean(losses) if losses else np.nan
