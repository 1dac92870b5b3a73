"""A hash table from words to numbers: open addressing with linear probing over an arena of UTF-8 bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

OFFSET = np.uint64(0xCBF29CE484222325)
PRIME = np.uint64(0x100000001B3)
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_33 = np.uint64(33)
FIRST = 1 << 12  # slots of a new table


class Table(NamedTuple):
    """Word w is `arena[bounds[w]:bounds[w + 1]]`.

    Parameters
    ----------
    slots : (2^k,) int32, word number + 1, 0 where empty; only the first `sizes[1]` are in use.
    hashes : (capacity,) uint64, of each word.
    bounds : (capacity + 1,) int64.
    arena : (bytes,) uint8.
    sizes : (2,) int64, how many words there are, and the slots in use (a power of two, more than twice the words).
    """

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    arena: NDArray[np.uint8]
    sizes: NDArray[np.int64]


def new_table(words: int, size: int) -> Table:
    """An empty table with room for so many words of so many bytes in all; memory is used as it fills."""
    slots = max(FIRST, 1 << (2 * words + 2).bit_length())
    return Table(
        np.zeros(slots, np.int32), np.empty(words, np.uint64), np.zeros(words + 1, np.int64), np.empty(size, np.uint8),
        np.array([0, FIRST]),
    )  # fmt: skip


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def add_byte(h, byte) -> Any:
    """FNV-1a, 64 bits (Fowler, Noll, Vo): the hash of what was read so far and one more byte."""
    return (h ^ np.uint64(byte)) * PRIME


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def mix(h) -> Any:
    """The finaliser of MurmurHash3 (Appleby), so that every bit of the result depends on every bit of `h`."""
    h ^= h >> _33
    h *= _MIX[0]
    h ^= h >> _33
    h *= _MIX[1]
    return h ^ (h >> _33)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def find(slots, hashes, bounds, arena, mask, h, start, size) -> Any:
    """The number of the word that stands at `arena[start:start + size]`; -1 - slot, the one it would take, if it is new.

    slots to arena : of a table, one by one, and small enough to be inlined: passing them costs more than the search.
    mask : slots in use - 1. h : the word's hash (`add_byte` over its bytes, then `mix`).
    """
    slot = np.int64(h & np.uint64(mask))
    while slots[slot] != 0:
        word = slots[slot] - 1
        if hashes[word] == h and bounds[word + 1] - bounds[word] == size:
            first, i = bounds[word], 0
            while i < size and arena[first + i] == arena[start + i]:
                i += 1
            if i == size:
                return word
        slot = (slot + 1) & mask
    return -1 - slot


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def add(slots, hashes, bounds, sizes, h, end, slot) -> Any:
    """Keep the word that stands in the arena past the last one, up to `end`, in a free slot; its number."""
    n = sizes[0]
    slots[slot] = n + 1
    hashes[n] = h
    bounds[n + 1] = end
    sizes[0] = n + 1
    if 2 * (n + 1) >= sizes[1]:
        sizes[1] *= 2
        refill(slots, hashes, sizes)
    return n


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def refill(slots, hashes, sizes) -> None:
    """Put all words into the first `sizes[1]` slots."""
    mask = sizes[1] - 1
    slots[: mask + 1] = 0
    for word in range(sizes[0]):
        place = np.int64(hashes[word] & np.uint64(mask))
        while slots[place] != 0:
            place = (place + 1) & mask
        slots[place] = word + 1


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def merge(source, counts, table, totals, numbers) -> None:
    """Add the words of `source` that were counted, and their counts, to another table that has room for them.

    counts : (words of source,) int64. totals : (capacity of table,) int64, added to.
    numbers : (words of source,) int32, filled with each word's number in `table`; of words not counted -1.
    """
    slots, hashes, bounds, arena, sizes = table
    for word in range(source.sizes[0]):
        if counts[word] == 0:
            numbers[word] = -1
            continue
        first = source.bounds[word]
        size = source.bounds[word + 1] - first
        tail = bounds[sizes[0]]
        for i in range(size):
            arena[tail + i] = source.arena[first + i]
        h = source.hashes[word]
        number = find(slots, hashes, bounds, arena, sizes[1] - 1, h, tail, size)
        if number < 0:
            number = add(slots, hashes, bounds, sizes, h, tail + size, -1 - number)
        numbers[word] = number
        totals[number] += counts[word]


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def hash_strings(data, bounds, out) -> None:
    """The hash of each string `data[bounds[i]:bounds[i + 1]]`, as of words."""
    for i in range(len(out)):
        h = OFFSET
        for at in range(bounds[i], bounds[i + 1]):
            h = add_byte(h, data[at])
        out[i] = mix(h)
