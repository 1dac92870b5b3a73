"""A vocabulary that grows while many threads tokenise: each counts a block by itself, then adds what it found."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.kernels import hash_table, tokenise
from embedders.kernels.hash_table import Table, new_table
from embedders.text.characters import characters
from embedders.text.tokens import Tokens, words


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts in one buffer of UTF-8. data: (bytes,) uint8; text i is `data[starts[i]:ends[i]]`."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def bytes_of(self, text: int) -> bytes:
        """One text."""
        return self.data[self.starts[text] : self.ends[text]].tobytes()

    def state(self, tokens: Tokens) -> NDArray[np.uint8]:
        """(n,) uint8, what `kernels.tokenise.inspect` says of each: only those that are GOOD or BY_PYTHON can be cut."""
        found = np.empty(len(self), np.uint8)
        tokenise.inspect(self.data, self.starts, self.ends, tokens == "words", characters(), found)
        return found


class Vocabulary:
    """All words so far, numbered in the order of their coming, and how often each was counted."""

    def __init__(self) -> None:
        self.table = new_table(1 << 12, 1 << 16)
        self.counts = np.zeros(1 << 12, np.int64)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.table.sizes[0])

    def number(
        self, texts: Texts, tokens: Tokens, state: NDArray[np.uint8], least: int = 0
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Cut texts into words, count them and give their numbers.

        state : (n,) of each text, GOOD or BY_PYTHON. least : words of lower numbers are left out of the texts.

        Returns
        -------
        numbers : (n_tokens,) int32, text after text.
        stops : (n,) int64, where the numbers of each text end.
        """
        by_words = np.full(len(texts), tokens == "words")
        if len(special := np.flatnonzero(state == tokenise.BY_PYTHON)):
            texts = _replaced(texts, special)
            by_words[special] = False
        size = int((texts.ends - texts.starts).sum())
        most = size // 2 + len(texts)  # words: one and a blank between two
        table = new_table(most, size + size // 2)  # a lower-case letter may take half as many bytes again
        found, stops = np.empty(most, np.int32), np.empty(len(texts), np.int64)
        tokenise.tokenise(texts.data, texts.starts, texts.ends, by_words, characters(), table, found, stops)
        found = found[: stops[-1]] if len(stops) else found[:0]
        counts = np.zeros(int(table.sizes[0]), np.int64)
        tokenise.count(found, counts)
        tokens_left = tokenise.renumber(found, self.merge(table, counts), stops, least)
        return found[:tokens_left].copy(), stops

    def merge(self, table: Table, counts: NDArray[np.int64]) -> NDArray[np.int32]:
        """Add the counted words of a table; the number that each has here."""
        numbers = np.empty(len(counts), np.int32)
        with self._lock:
            self._make_room(len(counts), int(table.bounds[len(counts)]))
            hash_table.merge(table, counts, self.table, self.counts, numbers)
        return numbers

    def add(self, new: Iterable[str]) -> NDArray[np.int32]:
        """The numbers of words, which are added where they are new, and not counted. They hold no blanks."""
        line = np.frombuffer("\n".join(new).encode(), np.uint8)
        texts = Texts(line, np.zeros(1, np.int64), np.array([len(line)]))
        numbers, _ = self.number(texts, "whitespace", np.zeros(1, np.uint8))
        np.subtract.at(self.counts, numbers, 1)
        return numbers

    def _make_room(self, words: int, size: int) -> None:
        """Grow to hold so many more words of so many bytes."""
        n = len(self)
        if n + words > len(self.counts):
            room = new_table(2 * (n + words), 0)
            for new, old in ((room.hashes, self.table.hashes[:n]), (room.bounds, self.table.bounds[: n + 1])):
                new[: len(old)] = old
            room.slots[: self.table.sizes[1]] = self.table.slots[: self.table.sizes[1]]
            self.table = room._replace(arena=self.table.arena, sizes=self.table.sizes)
            self.counts = np.concatenate([self.counts[:n], np.zeros(len(room.hashes) - n, np.int64)])
        used = int(self.table.bounds[n])
        if used + size > len(self.table.arena):
            arena = np.empty(2 * (used + size), np.uint8)
            arena[:used] = self.table.arena[:used]
            self.table = self.table._replace(arena=arena)


def _replaced(texts: Texts, special: NDArray[np.int64]) -> Texts:
    """The texts, of which some are replaced by their words, as `tokens.words` finds them, with blanks between."""
    parts = [texts.data.tobytes()]
    starts, ends = texts.starts.copy(), texts.ends.copy()
    end = len(parts[0])
    for text in special:
        part = " ".join(words(texts.bytes_of(text).decode())).encode()
        parts.append(part)
        starts[text], end = end, end + len(part)
        ends[text] = end
    return Texts(np.frombuffer(b"".join(parts), np.uint8), starts, ends)
