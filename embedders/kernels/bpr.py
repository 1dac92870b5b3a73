"""Learning to rank by triples: a user should score the item that was met above the one that was not.

Source: S. Rendle, C. Freudenthaler, Z. Gantner and L. Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit
feedback", UAI 2009 (arXiv:1205.2618), figure 4. Threads write the same matrices without locks (Hogwild, Niu et al. 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from embedders.base import Matrix, Progress, silent
from embedders.kernels.centres import aligned
from embedders.kernels.offsets import prefetch
from embedders.kernels.simd import WIDTH
from embedders.kernels.threads import run_threads
from embedders.kernels.triples import Triples

SEGMENT = 1 << 14  # triples that are drawn, then learned: they fit the cache beside the rows
AHEAD = 8  # triples between asking for rows and their turn
LOOK = 64  # one triple in so many is looked at for the loss


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy", fastmath=True)
def learn_triples(w, h, triples, users, items, lr, fall, reg, losses, slot):  # noqa: ANN201
    """One step of gradient ascent for each triple, by the log of the chance that it is ranked well.

    w, h : float32, the rows of users and of items, as wide as a multiple of 16. users, items : that many first rows
    learn, the others stay. lr : falls by `fall` with each triple. losses : gets the summed loss of some, and how many.
    """
    width, n = w.shape[1], len(triples)
    for s in range(n):
        soon = min(s + AHEAD, n - 1)
        prefetch(w, np.int64(triples[soon, 0]) * width)
        prefetch(h, np.int64(triples[soon, 1]) * width)
        prefetch(h, max(0, np.int64(triples[soon, 2])) * width)
        u, i, j = triples[s, 0], triples[s, 1], triples[s, 2]
        if j < 0:
            continue
        a, b, c = w[u], h[i], h[j]
        x = np.float32(0)
        for k in range(width):
            x += a[k] * (b[k] - c[k])
        rate = lr - fall * np.float32(s)
        e, d = rate / (np.float32(1) + np.exp(x)), rate * reg
        if s % LOOK == 0:
            losses[slot, 0] += max(np.float32(0), -x) + np.log1p(np.exp(-abs(x)))
            losses[slot, 1] += 1
        if u < users and i < items and j < items:
            for k in range(width):
                p, q, r = a[k], b[k], c[k]
                a[k] = p + e * (q - r) - d * p
                b[k] = q + e * p - d * q
                c[k] = r - e * p - d * r
        else:
            for k in range(width):
                p, q, r = a[k], b[k], c[k]
                if u < users:
                    a[k] = p + e * (q - r) - d * p
                if i < items:
                    b[k] = q + e * p - d * q
                if j < items:
                    c[k] = r - e * p - d * r


def rank(
    users: Matrix,
    items: Matrix,
    drawn: Sequence[tuple[Triples, int]],
    *,
    free: tuple[int, int],
    lr: float,
    regularization: float,
    seed: int,
    threads: int,
    progress: Progress = silent,
) -> tuple[Matrix, Matrix, list[float]]:
    """Learn from triples that are drawn by the way; lr falls linearly to 0.

    Parameters
    ----------
    users, items : (n, dim) and (m, dim) float32, what the rows begin at.
    drawn : what to draw from, and how many triples in all; several take turns.
    free : that many first users and first items learn, the others stay as they are.

    Returns
    -------
    The rows of users and of items, and the mean loss of a triple in each of at most 100 stretches, where it is known.
    """
    w, h = _padded(users), _padded(items)
    total = sum(n for _, n in drawn)
    pieces = max(1, -(-total // SEGMENT))
    losses, done = np.zeros((pieces, 2)), np.zeros(pieces, np.int64)
    shares = [np.linspace(0, n, pieces + 1).astype(np.int64) for _, n in drawn]
    scratch = [np.empty((SEGMENT + len(drawn), 3), np.int32) for _ in range(threads)]

    def work(slot: int, piece: int) -> None:
        counts = [int(share[piece + 1] - share[piece]) for share in shares]
        out = scratch[slot][: sum(counts)]
        first = 0
        for number, ((triples, _), count) in enumerate(zip(drawn, counts, strict=True)):
            triples.fill(out[first : first + count], seed, piece, number)
            first += count
        if len(drawn) > 1:
            out[:] = out[np.random.default_rng([seed, piece]).permutation(len(out))]
        begin = sum(int(share[piece]) for share in shares)
        learn_triples(
            w, h, out, *free, np.float32(lr * (1 - begin / total)), np.float32(lr / total), np.float32(regularization),
            losses, piece,
        )  # fmt: skip
        done[piece] = len(out)

    run_threads(work, pieces, threads, lambda: progress(float(done.sum()), float(total), "pairs"))
    stretches = [part.sum(axis=0) for part in np.array_split(losses, min(pieces, 100))]
    dim = users.shape[1]
    return (
        np.ascontiguousarray(w[:, :dim]), np.ascontiguousarray(h[:, :dim]),
        [round(float(loss / seen), 5) for loss, seen in stretches if seen],
    )  # fmt: skip


def _padded(rows: Matrix) -> Matrix:
    """The rows at the beginning of a cache line, their width a multiple of WIDTH."""
    found = aligned(len(rows), -(-rows.shape[1] // WIDTH) * WIDTH)
    found[:, : rows.shape[1]] = rows
    return found


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy", fastmath=True)
def slopes(w, h, triples, gw, gh):  # noqa: ANN201
    """Add to gw and gh the slopes of the summed loss of triples by the rows of users w and of items h; returns that loss."""
    width, total = w.shape[1], 0.0
    for s in range(len(triples)):
        u, i, j = triples[s, 0], triples[s, 1], triples[s, 2]
        if j < 0:
            continue
        x = np.float32(0)
        for k in range(width):
            x += w[u, k] * (h[i, k] - h[j, k])
        total += max(np.float32(0), -x) + np.log1p(np.exp(-abs(x)))
        e = np.float32(1) / (np.float32(1) + np.exp(x))
        for k in range(width):
            p = e * w[u, k]
            gw[u, k] += e * (h[j, k] - h[i, k])
            gh[i, k] -= p
            gh[j, k] += p
    return total
