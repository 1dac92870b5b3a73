"""Character n-grams of words, hashed into buckets as fastText does (Bojanowski et al. 2017, arXiv:1607.04606)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embedders.base import Matrix


@njit(nogil=True, cache=True, inline="always")
def _fnv(value, byte):
    """FNV-1a on 32 bits, of bytes with a sign, as fastText has it."""
    return ((value ^ np.uint64(np.int8(byte))) * np.uint64(16777619)) & np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _hash(text, ends, min_n, max_n, buckets, out, indptr):
    """Fill `out` with the buckets of each `<word>`, its n-grams by where they begin, then by length.

    text : bytes of all words in UTF-8, each within < and >, word i before ends[i]. An empty `out` only counts.
    """
    filled = 0
    first = 0
    for word in range(len(ends)):
        last = ends[word]
        for begin in range(first, last):
            if text[begin] & 0xC0 == 0x80:  # inside a character
                continue
            value = np.uint64(2166136261)
            length = 0
            at = begin
            while at < last and length < max_n:
                value = _fnv(value, text[at])
                at += 1
                while at < last and text[at] & 0xC0 == 0x80:
                    value = _fnv(value, text[at])
                    at += 1
                length += 1
                if length >= min_n and not (length == 1 and (begin == first or at == last)):
                    if len(out):
                        out[filled] = value % np.uint64(buckets)
                    filled += 1
        first = last
        indptr[word + 1] = filled
    return filled


def ngram_buckets(
    words: Sequence[str], min_n: int, max_n: int, buckets: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The buckets of the n-grams of each word, in fastText's numbers.

    min_n, max_n : fewest and most characters (code points) of an n-gram of `<word>`; < and > alone are none.
    buckets : how many there are; an n-gram's is its FNV-1a hash modulo that number.

    Returns indptr (n_words + 1,) int64 and buckets int32; word i has buckets[indptr[i]:indptr[i + 1]], repeats
    included.
    """
    coded = [b"<" + word.encode("utf-8", "surrogatepass") + b">" for word in words]
    text = np.frombuffer(b"".join(coded), np.uint8)
    ends = np.cumsum([len(word) for word in coded], dtype=np.int64)
    indptr = np.zeros(len(words) + 1, np.int64)
    total = _hash(text, ends, min_n, max_n, buckets, np.empty(0, np.int32), indptr)
    out = np.empty(total, np.int32)
    if total:
        _hash(text, ends, min_n, max_n, buckets, out, indptr)
    return indptr, out


@dataclass(frozen=True, eq=False)
class Subwords:
    """The rows of a matrix that make up each word: a row of its own, then a row for each of its n-grams.

    indptr, rows : CSR, word i is made of rows[indptr[i]:indptr[i + 1]]; rows[indptr[i]] is i.
    buckets : (m,) int32; row n_words + j belongs to bucket buckets[j]. Only buckets that occur have a row; they stand
        in order of first appearance, so those of frequent words are neighbours in memory.
    """

    indptr: NDArray[np.int64]
    rows: NDArray[np.int32]
    buckets: NDArray[np.int32]

    @classmethod
    def of(cls, words: Sequence[str], min_n: int, max_n: int, buckets: int) -> Subwords:
        """The table of a vocabulary, most frequent word first."""
        n = len(words)
        starts, found = ngram_buckets(words, min_n, max_n, buckets)
        distinct, first, inverse = np.unique(found, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        indptr = starts + np.arange(n + 1)
        rows = np.empty(len(found) + n, np.int32)
        own = np.zeros(len(rows), bool)
        own[indptr[:-1]] = True
        rows[own], rows[~own] = np.arange(n), n + place[inverse]
        return cls(indptr, rows, distinct[order])

    def without(self, words: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """`indptr` and `rows`, less all rows that some of these words hold. words: (n_words,) bool."""
        held = np.zeros(len(words) + len(self.buckets), bool)
        held[self.rows[np.repeat(words, np.diff(self.indptr))]] = True
        stays = ~held[self.rows]
        return np.concatenate([[0], np.cumsum(stays)])[self.indptr], self.rows[stays]

    def means(self, vectors: Matrix) -> Matrix:
        """(m, dim) float32: for each bucket the mean vector of the words that hold it, NaN where none is known.

        vectors : (n_words, dim) float32; a NaN row is unknown.
        """
        from scipy.sparse import csr_array

        n = len(vectors)
        shape = (n, n + len(self.buckets))
        holds = csr_array((np.ones(len(self.rows), np.float32), self.rows, self.indptr), shape=shape)[:, n:]
        known = np.asarray(np.isfinite(vectors).all(axis=1))
        parts = np.where(known[:, None], vectors, np.float32(0))
        held_by: Any = holds.T.tocsr()
        with np.errstate(invalid="ignore"):
            return np.asarray(held_by @ parts / (held_by @ known.astype(np.float32))[:, None], np.float32)
