"""Co-occurrence counts (Pennington et al. 2014, section 4.2), exact and in bounded memory.

The corpus goes by in chunks. A chunk is turned round: where does each word stand? Then the row of a word is counted by
looking at the windows around its places, into one array of sums that stays in the cache; nothing is sorted, and rows
are counted on all threads without locks. The rows of the chunks are added up at the end.

Counts are integers in units of 1 / SCALE, so that their sums depend on neither chunks nor threads.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from embedders.base import Progress, silent
from embedders.kernels.threads import run_threads
from embedders.spill import Held, Spill

SCALE = 1 << 26  # a distance of 15 is off by less than 2^-23 of itself; a pair may count to 2^37
PAD = 2**31 - 1  # between two documents, so that no window has to look for their ends
LANES = 16
EVENTS = 4096  # neighbours looked at together, about
AT_ONCE = 1 << 20  # ends of documents that are looked at together
PIECE = 1 << 18  # pairs that a piece of work may give, about
SQUEEZE = llvmlite.binding.get_host_cpu_features().get("avx512f", False)

_INT = ir.IntType(32)
_INTS = ir.VectorType(_INT, LANES)


@intrinsic
def _squeeze(
    typing: Any, tokens: Any, at: Any, weights: Any, lane: Any, last: Any, near: Any, share: Any, n: Any
) -> Any:
    """Append those of tokens[at:at + 16] that are <= last and weigh anything, and their weights; the new n (AVX-512)."""
    signature = types.intp(tokens, types.intp, weights, types.intp, types.int32, near, share, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tokens_, at_, weights_, lane_, last_, near_, share_, n_ = args

        def vector(place: int, array: Any, offset: Any) -> Any:
            data = context.make_array(sig.args[place])(context, builder, value=array).data
            return builder.bitcast(builder.gep(data, [offset]), _INTS.as_pointer())

        zero = ir.Constant(_INTS, [0] * LANES)
        row, weight = builder.load(vector(0, tokens_, at_), align=4), builder.load(vector(2, weights_, lane_), align=4)
        limit = builder.insert_element(ir.Constant(_INTS, ir.Undefined), last_, _INT(0))
        limit = builder.shuffle_vector(limit, limit, zero)
        mask = builder.and_(builder.icmp_signed("<=", row, limit), builder.icmp_signed(">", weight, zero))
        kind = ir.FunctionType(_INTS, [_INTS, _INTS, ir.VectorType(ir.IntType(1), LANES)])
        squeeze = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.compress.v16i32")
        for value, place, array in ((row, 5, near_), (weight, 6, share_)):
            builder.store(builder.call(squeeze, [value, zero, mask]), vector(place, array, n_), align=4)
        found = builder.ctpop(builder.bitcast(mask, ir.IntType(LANES)))
        return builder.add(n_, builder.zext(found, n_.type))

    return signature, generate


@intrinsic
def _lowest(typing: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _fill(tokens, offsets, document, position, words, window, buffer, n, size):
    """Copy rows below `words` into buffer[n:size], `window` pads after each document; where it stopped."""
    while document < len(offsets) - 1:
        room = size - window - n
        if room <= 0:
            break
        end = offsets[document + 1]
        stop = min(end, position + room)
        while position < stop:
            row = tokens[position]
            buffer[n] = row
            n += 0 <= row < words
            position += 1
        if position == end:
            document += 1
            if buffer[n - 1] != PAD:
                for _ in range(window):
                    buffer[n] = PAD
                    n += 1
    return document, position, n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _tally(buffer, first, last, counts):
    for i in range(first, last):
        if buffer[i] != PAD:
            counts[buffer[i]] += 1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _index(buffer, first, last, place, positions):
    """Counting sort of the positions by word; place: where those of each word begin."""
    for i in range(first, last):
        row = buffer[i]
        if row != PAD:
            positions[place[row]] = i
            place[row] += 1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _empty(total, seen, last, columns, sums, n):
    """Append what was summed in columns 0 to `last`, in their order, and leave zeros; the new n."""
    for block in range((last >> 6) + 1):
        bits = seen[block]
        if bits:
            seen[block] = 0
            while bits:
                column = block * 64 + _lowest(bits)
                columns[n], sums[n] = column, total[column]
                total[column] = 0
                n += 1
                bits &= bits - np.uint64(1)
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _count(
    buffer, positions, begin, first, last, below, weights, window, near, share, total, seen, columns, sums, ends
):
    """Rows first:last of one chunk; ends[i] is where row first + i ends in `columns` and `sums`."""
    n, lanes = 0, len(weights)
    together = max(1, EVENTS // lanes)
    for word in range(first, last):
        highest = np.int32(word if below else len(total) - 1)
        k = begin[word]
        while k < begin[word + 1]:
            stop = min(k + together, begin[word + 1])
            found = 0
            while k < stop:
                left = positions[k] - window
                if SQUEEZE:
                    for lane in range(0, lanes, LANES):
                        found = _squeeze(buffer, left + lane, weights, lane, highest, near, share, found)
                else:
                    for lane in range(2 * window + 1):
                        near[found], share[found] = buffer[left + lane], weights[lane]
                        found += (buffer[left + lane] <= highest) & (weights[lane] > 0)
                k += 1
            for i in range(found):
                column = near[i]
                total[column] += share[i]
                seen[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
        if begin[word] < begin[word + 1]:
            n = _empty(total, seen, highest, columns, sums, n)
        ends[word - first] = n
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _merge(columns, sums, begins, total, seen, out_columns, out_sums, ends):
    """Add rows of several chunks: row i of chunk c is begins[c, i]:begins[c, i + 1]."""
    n = 0
    for row in range(begins.shape[1] - 1):
        highest = -1
        for chunk in range(len(begins)):
            for k in range(begins[chunk, row], begins[chunk, row + 1]):
                column = columns[k]
                total[column] += sums[k]
                seen[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
            if begins[chunk, row] < begins[chunk, row + 1]:
                highest = max(highest, columns[begins[chunk, row + 1] - 1])
        n = _empty(total, seen, highest, out_columns, out_sums, n)
        ends[row] = n
    return n


@dataclass(frozen=True, eq=False)
class _Piece:
    """Counted rows of a chunk from `first` on. ends: where each ends in columns and sums."""

    first: int
    ends: NDArray[np.int64]
    columns: Held
    sums: Held


@dataclass(frozen=True, eq=False)
class _Scratch:
    """What a thread sums rows in."""

    total: NDArray[np.int64]
    seen: NDArray[np.uint64]

    @classmethod
    def of(cls, words: int) -> _Scratch:
        return cls(np.zeros(words, np.int64), np.zeros(words // 64 + 1, np.uint64))


@dataclass(eq=False)
class Cooccurrence:
    """The sum of 1 / distance over all places where two words stand within a window, in one document.

    Words that are left out do not count as distance, as in the C code of the authors.

    Parameters
    ----------
    words : rows and columns are the words below this number.
    window : farthest neighbour.
    symmetric : both sides count, X equals its transpose, and only columns up to the row are kept; else row i holds the
        words to the right of i.
    threads : the result does not depend on it.
    memory : bytes to work in, about; nor on this.
    store : keeps the rows of the chunks.
    """

    words: int
    window: int
    symmetric: bool
    threads: int
    memory: int
    store: Spill
    chunks: list[list[_Piece]] = field(default_factory=list)

    def count(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], progress: Progress = silent) -> None:
        """Count a corpus (see `Corpus`)."""
        pieces = (offsets[first : first + AT_ONCE + 1] for first in range(0, len(offsets), AT_ONCE))
        longest = max(int(np.diff(piece).max(initial=0)) for piece in pieces)
        window = max(1, min(self.window, longest - 1))
        distance = np.abs(np.arange(2 * window + 1) - window)
        if not self.symmetric:
            distance[:window] = 0
        weights = np.zeros(-(-len(distance) // LANES) * LANES, np.int32)
        weights[: len(distance)] = np.rint(np.divide(SCALE, distance, out=np.zeros(len(distance)), where=distance > 0))
        for buffer, n, done in self._read(tokens, offsets, window):
            self.chunks.append(self._chunk(buffer, n, window, weights))
            progress(done, len(tokens), "words")

    def _read(
        self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], window: int
    ) -> Iterator[tuple[NDArray[np.int32], int, int]]:
        """Chunks (buffer, n, tokens read); places window:n - window are theirs, the others are of their neighbours."""
        room = min(self.memory // 32, 1 << 30)  # 4 bytes here and 4 for the position: a quarter of the memory
        size = min(max(room, 8 * window + 1024), len(tokens) + len(offsets) * window + 8 * window)
        buffer = np.full(size + 2 * LANES, PAD, np.int32)
        n, document, position = window, 0, int(offsets[0])
        while document < len(offsets) - 1:
            document, position, n = _fill(tokens, offsets, document, position, self.words, window, buffer, n, size)
            yield buffer, n, position
            buffer[: 2 * window] = buffer[n - 2 * window : n].copy()
            n = 2 * window

    def _chunk(self, buffer: NDArray[np.int32], n: int, window: int, weights: NDArray[np.int32]) -> list[_Piece]:
        counts = np.zeros(self.words, np.int64)
        _tally(buffer, window, n - window, counts)
        begin = np.concatenate([[0], np.cumsum(counts)])
        positions = np.empty(begin[-1], np.int32)
        _index(buffer, window, n - window, begin[:-1].copy(), positions)
        widest = np.arange(1, self.words + 1) if self.symmetric else np.full(self.words, self.words)
        most = np.minimum(counts * (2 * window), widest)  # pairs that a row can have
        bounds = cut_rows(most + 4 * counts, PIECE)
        size = int(np.add.reduceat(most, bounds[:-1]).max())
        near = 2 * max(EVENTS, len(weights)) + LANES
        rooms = [
            (np.empty(near, np.int32), np.empty(near, np.int32), _Scratch.of(self.words),
             np.empty(size + 1, np.int32), np.empty(size + 1, np.int64))
            for _ in range(self.threads)
        ]  # fmt: skip
        pieces: dict[int, _Piece] = {}

        def work(thread: int, number: int) -> None:
            first, last = int(bounds[number]), int(bounds[number + 1])
            close, share, scratch, columns, sums = rooms[thread]
            ends = np.empty(last - first, np.int64)
            found = _count(
                buffer, positions, begin, first, last, self.symmetric, weights, window,
                close, share, scratch.total, scratch.seen, columns, sums, ends,
            )  # fmt: skip
            if found:
                pieces[number] = _Piece(first, ends, self.store.put(columns[:found]), self.store.put(sums[:found]))

        run_threads(work, len(bounds) - 1, self.threads, lambda: None)
        return [pieces[number] for number in sorted(pieces)]

    def sizes(self) -> NDArray[np.int64]:
        """(words,) how many pairs of each row were kept, those of different chunks counted each."""
        sizes = np.zeros(self.words, np.int64)
        for piece in itertools.chain.from_iterable(self.chunks):
            sizes[piece.first : piece.first + len(piece.ends)] += np.diff(piece.ends, prepend=0)
        return sizes

    def rows(self, first: int, last: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Rows first:last of the whole corpus: columns in their order, sums in units of 1 / SCALE, where each row ends."""
        parts = [part for chunk in self.chunks if (part := _rows(chunk, first, last)) is not None]
        if not parts:
            return np.empty(0, np.int32), np.empty(0, np.int64), np.zeros(last - first, np.int64)
        if len(parts) == 1:
            columns, sums, begin = parts[0]
            return columns, sums, begin[1:]
        columns = np.concatenate([part[0] for part in parts])
        sums = np.concatenate([part[1] for part in parts])
        shift = np.cumsum([0, *(len(part[0]) for part in parts[:-1])])
        begins = np.stack([part[2] for part in parts]) + shift[:, None]
        scratch, ends = _Scratch.of(self.words), np.empty(last - first, np.int64)
        out = np.empty_like(columns), np.empty_like(sums)
        n = _merge(columns, sums, begins, scratch.total, scratch.seen, *out, ends)
        return out[0][:n], out[1][:n], ends


def cut_rows(load: NDArray[np.int64], piece: int) -> NDArray[np.int64]:
    """Bounds of consecutive rows whose load is about `piece`, a row at least."""
    before = np.cumsum(load) - load
    starts = np.flatnonzero(np.diff(before // piece, prepend=-1))
    return np.append(starts, len(load))


def _rows(chunk: list[_Piece], first: int, last: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]] | None:
    """Columns, sums and begins of rows first:last of one chunk; None where it has none."""
    begin = np.zeros(last - first + 1, np.int64)
    columns, sums, n = [], [], 0
    low = max(0, bisect_right(chunk, first, key=lambda piece: piece.first) - 1)
    for piece in chunk[low : bisect_left(chunk, last, key=lambda piece: piece.first)]:
        a, b = max(first, piece.first), min(last, piece.first + len(piece.ends))
        if a >= b:
            continue
        bounds = np.concatenate([[0], piece.ends])[a - piece.first : b - piece.first + 1]
        columns.append(piece.columns.read(int(bounds[0]), int(bounds[-1])))
        sums.append(piece.sums.read(int(bounds[0]), int(bounds[-1])))
        begin[a - first + 1 : b - first + 1] = np.diff(bounds)
        n += len(columns[-1])
    if not n:
        return None
    return np.concatenate(columns), np.concatenate(sums), np.cumsum(begin)
