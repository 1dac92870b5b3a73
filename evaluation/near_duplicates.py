"""Pairs of rows that are nearly the same, and rows of the same content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import Matrix, Vectors
from embedders.errors import InputError
from embedders.kernels.blas import one_thread
from embedders.kernels.threads import cores, run_threads
from evaluation.base import Report, Score
from evaluation.neighbours import SCORES_AT_ONCE, inverse_lengths

TILE = 1024, 4096  # rows and columns that are compared at a time
SHOWN = 20  # groups of equal content that the notes name, and ids of each

Found = tuple[NDArray[np.int64], NDArray[np.float64]]  # (m, 2) rows, the lower one first, and (m,) cosines


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows, the most alike first, equal cosines in row order.

    rows : (m, 2) int64, the lower one first. cosine : (m,) float64, of six decimals. exact : (m,) bool, of equal digests.
    """

    rows: NDArray[np.int64]
    cosine: NDArray[np.float64]
    exact: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def columns(self, ids: Sequence[str]) -> dict[str, list[Any]]:
        """A table: id, other, cosine, exact. ids : of the rows."""
        id, other = ([ids[row] for row in self.rows[:, side].tolist()] for side in (0, 1))
        return {"id": id, "other": other, "cosine": self.cosine.tolist(), "exact": self.exact.tolist()}


def near_duplicates(
    vectors: Vectors, digests: Sequence[str | None], *, threshold: float = 0.95, listed: int = 100_000
) -> tuple[Report, Pairs]:
    """Compare every row with every other, in blocks of bounded memory.

    Parameters
    ----------
    vectors : n rows. A zero vector is like no other.
    digests : (n,) of each row's content; None where a row has none.
    threshold : pairs of at least this cosine count. Where float32 cannot tell, float64 does: counts are exact.
    listed : so many pairs are named, the most alike; all are counted.

    Returns
    -------
    Scores `share` (of rows with a near duplicate), `exact_share` (of rows whose content another row has, too), `pairs`
    and `exact_groups` (of equal content). Notes: the counts, `listed`, and `groups`, ids of the largest groups. And the
    pairs that are named.

    Raises
    ------
    InputError : the threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"Got threshold={threshold:g}; expected a cosine above 0 and at most 1.")
    groups = same_content(digests)
    content = np.full(len(vectors), -1, np.int64)
    for number, group in enumerate(groups):
        content[group] = number
    search = _Search(vectors.matrix, threshold, listed)
    with one_thread():
        run_threads(search.look, len(search.tiles), cores(), lambda: None)
    rows, cosine = search.listing()
    exact = (content[rows[:, 0]] >= 0) & (content[rows[:, 0]] == content[rows[:, 1]])
    n, copies = len(vectors), int((content >= 0).sum())
    scores = (
        Score("share", float(search.paired.sum() / max(1, n))),
        Score("exact_share", copies / max(1, n)),
        Score("pairs", float(search.pairs)),
        Score("exact_groups", float(len(groups))),
    )
    largest = sorted(groups, key=lambda group: (-len(group), group[0]))[:SHOWN]
    notes = {
        "n": n, "threshold": threshold, "pairs": search.pairs, "listed": len(rows), "rows": int(search.paired.sum()),
        "exact_groups": len(groups), "exact_rows": copies, "groups": [[vectors.ids[row] for row in group[:SHOWN]] for group in largest],
    }  # fmt: skip
    return Report(scores, notes), Pairs(rows, cosine, exact)


def same_content(digests: Sequence[str | None]) -> list[list[int]]:
    """Rows that share a digest, in row order; those alone with theirs, or without one, are left out.

    >>> same_content(["a", "b", None, "a", None])
    [[0, 3]]
    """
    rows: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest is not None:
            rows.setdefault(digest, []).append(row)
    return [group for group in rows.values() if len(group) > 1]


class _Search:
    """Tiles of the upper triangle of all cosines; what was found in them."""

    def __init__(self, matrix: Matrix, threshold: float, listed: int) -> None:
        self.matrix, self.threshold, self.listed = matrix, threshold, listed
        self.scale = inverse_lengths(matrix)
        n = len(matrix)
        self.tiles = [
            (row, column) for row in range(0, n, TILE[0]) for column in range(row // TILE[1] * TILE[1], n, TILE[1])
        ]
        self.unsure = 8 * np.sqrt(matrix.shape[1] + 1) * np.finfo(np.float32).eps  # what float32 may be off by
        self.pairs, self.paired = 0, np.zeros(n, bool)
        self._found: list[Found] = [(np.empty((0, 2), np.int64), np.empty(0))]
        self._held, self._lock = 0, Lock()
        self._last: tuple[float, int, int] | None = None  # of the best so far, once there are enough: cosine and rows

    def look(self, _: int, tile: int) -> None:
        """Take in the pairs of one tile."""
        top, left = self.tiles[tile]
        cosines = self._unit(top, TILE[0]) @ self._unit(left, TILE[1]).T
        for rows, cosine in self._near(cosines, top, left):
            with self._lock:
                self.pairs += len(rows)
                self.paired[rows] = True
                rows, cosine = self._better(rows, cosine)
                self._found.append((rows, cosine))
                self._held += len(rows)
                if self._held > 2 * self.listed + SCORES_AT_ONCE // 8:
                    rows, cosine = self.best()
                    self._found, self._held = [(rows, cosine)], len(rows)
                    self._last = (float(cosine[-1]), int(rows[-1, 0]), int(rows[-1, 1])) if len(rows) else (2.0, 0, 0)

    def _better(self, rows: NDArray[np.int64], cosine: NDArray[np.float64]) -> Found:
        """Those that come before the last of the best so far; where all vectors are alike, sorting the others takes minutes."""
        if self._last is None:
            return rows, cosine
        least, row, other = self._last
        before = (rows[:, 0] < row) | ((rows[:, 0] == row) & (rows[:, 1] < other))
        chosen = (cosine > least) | ((cosine == least) & before)
        return rows[chosen], cosine[chosen]

    def best(self) -> Found:
        """The pairs of largest cosine, at most `listed`."""
        rows, cosine = (np.concatenate(column) for column in zip(*self._found, strict=True))
        return _first(rows, cosine, self.listed)

    def listing(self) -> Found:
        """The same, with their cosines in float64."""
        rows, _ = self.best()
        size = self._pairs_at_once
        parts = [self._cosines(rows[first : first + size]) for first in range(0, len(rows), size)]
        cosine = np.concatenate([np.empty(0), *parts]).clip(-1, 1).round(6)
        return _first(rows, cosine, self.listed)

    def _unit(self, first: int, size: int) -> Matrix:
        part = slice(first, first + size)
        unit: Matrix = self.matrix[part] * self.scale[part, None]
        return unit

    def _near(self, cosines: Matrix, top: int, left: int) -> Iterator[Found]:
        """Pairs of a tile that reach the threshold, with their cosines, a bounded number at a time."""
        places = np.flatnonzero(cosines >= np.float32(self.threshold - self.unsure))
        for first in range(0, len(places), self._pairs_at_once):
            part = places[first : first + self._pairs_at_once]
            row, column = np.divmod(part, cosines.shape[1])
            once = row + top < column + left
            rows = np.stack([row + top, column + left], axis=1)[once]
            cosine = cosines.reshape(-1)[part[once]].astype(np.float64)
            doubtful = np.flatnonzero(cosine < self.threshold + self.unsure)
            cosine[doubtful] = self._cosines(rows[doubtful])
            near = cosine >= self.threshold - 1e-12
            yield rows[near], cosine[near].round(6)

    @property
    def _pairs_at_once(self) -> int:
        return max(1, SCORES_AT_ONCE // (4 * int(self.matrix.shape[1])))

    def _cosines(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of some pairs, in float64; 0 where a vector is zero."""
        a, b = (self.matrix[rows[:, side]].astype(np.float64) for side in (0, 1))
        lengths = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
        return np.asarray(np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1), np.float64)


def _first(rows: NDArray[np.int64], cosine: NDArray[np.float64], most: int) -> Found:
    order = np.lexsort((rows[:, 1], rows[:, 0], -cosine))[:most]
    return rows[order], cosine[order]
