"""Frequent collocations joined to one word, in the token file of a corpus (Mikolov et al. 2013, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.inputs.corpus_build import Ends, groups, word_array

if TYPE_CHECKING:
    from embedders.text.vocabulary import Vocabulary
    from storage.inputs.specs import Phrasing

SLOTS = 1 << 23  # of the table of pairs, 16 bytes each; where it would fill up, pairs are counted part by part
Counts = NDArray[np.int64]


def join_phrases(folder: Path, vocabulary: Vocabulary, phrasing: Phrasing, tell: Callable[[], None]) -> None:
    """Join pairs of neighbours that score above the threshold, once or several times over.

    tell : called now and then.
    """
    for _ in range(phrasing.passes):
        pairs = _chosen(folder, vocabulary, phrasing, tell)
        if not len(pairs):
            return
        words = word_array(vocabulary)
        first, second = words.take(pairs >> 32), words.take(pairs & 0xFFFFFFFF)
        names = [f"{a}_{b}" for a, b in zip(first.to_pylist(), second.to_pylist(), strict=True)]
        _join(folder, vocabulary, pairs, vocabulary.add(names), tell)


def scores(pairs: Counts, first: Counts, second: Counts, total: int, phrasing: Phrasing) -> NDArray[np.float64]:
    """How much more often pairs come together than by chance.

    `npmi` is ln(p(ab) / (p(a) p(b))) / -ln p(ab) (Bouma 2009), `original` (n(ab) - min_count) / (n(a) n(b)) times the
    number of words, as word2phrase.c has it.

    pairs, first, second : (k,) int64, counts of each pair and its words. total : all words of the corpus.
    """
    by_chance = first.astype(np.float64) * second / total
    if phrasing.score == "original":
        return (pairs - phrasing.min_count) / by_chance
    return np.log(pairs / by_chance) / -np.log(pairs / total)


def _chosen(folder: Path, vocabulary: Vocabulary, phrasing: Phrasing, tell: Callable[[], None]) -> Counts:
    """The pairs that are joined, `first << 32 | second`, ascending."""
    parts = 1
    found: list[Counts] = []
    while len(found) < parts:
        pairs = _counted(folder, vocabulary, phrasing, len(found), parts, tell)
        if pairs is None:
            parts, found = 2 * parts, []
        else:
            found.append(pairs)
    return np.sort(np.concatenate(found))


def _counted(
    folder: Path, vocabulary: Vocabulary, phrasing: Phrasing, part: int, parts: int, tell: Callable[[], None]
) -> Counts | None:
    """What is chosen of one part of all pairs; None when they are too many for the table."""
    from embedders.kernels.phrases import EMPTY, count_pairs

    counts = vocabulary.counts[: len(vocabulary)]
    total = int(counts.sum())
    slots = min(SLOTS, 1 << (2 * total).bit_length())
    keys, found = np.full(slots, EMPTY, np.int64), np.zeros(slots, np.int64)
    common, held = counts >= phrasing.min_count, 0
    with (folder / "tokens.bin").open("rb") as file:
        for _, stops in groups(folder / "texts.bin"):
            tokens = np.fromfile(file, np.int32, int(stops[-1]))
            held = count_pairs(tokens, stops, common, part, parts, keys, found, held)
            if held < 0:
                return None
            tell()
    frequent = np.flatnonzero(found >= phrasing.min_count)
    keys, found = keys[frequent], found[frequent]
    score = scores(found, counts[keys >> 32], counts[keys & 0xFFFFFFFF], total, phrasing)
    return keys[score > phrasing.least]


def _join(
    folder: Path, vocabulary: Vocabulary, pairs: Counts, numbers: NDArray[np.int32], tell: Callable[[], None]
) -> None:
    """Rewrite the token file in place: what is written never overtakes what is read."""
    from embedders.kernels.phrases import EMPTY, fill, join_pairs

    slots = 1 << (2 * len(pairs)).bit_length()
    keys, values = np.full(slots, EMPTY, np.int64), np.empty(slots, np.int32)
    fill(pairs, numbers, keys, values)
    texts = folder / "texts.bin"
    with (folder / "tokens.bin").open("r+b") as file, Ends(texts.with_suffix(".tmp")) as ends:
        written = 0
        for first, stops in groups(texts):
            file.seek(4 * first)
            tokens = np.fromfile(file, np.int32, int(stops[-1]))
            left = join_pairs(tokens, stops, keys, values, vocabulary.counts)
            file.seek(4 * written)
            file.write(tokens[:left].data)
            written += left
            ends.write(np.diff(stops, prepend=0))
            tell()
        file.truncate(4 * written)
    texts.with_suffix(".tmp").replace(texts)
