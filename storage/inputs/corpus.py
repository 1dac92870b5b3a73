"""Text files to a corpus: one document a line, plain or gzip, UTF-8."""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

from embedders.base import Progress, silent
from embedders.data import Corpus, Documents, Rejected
from embedders.errors import InputError
from embedders.text.tokens import Tokens, tokenizer


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a text or .gz file without their ends.

    Raises
    ------
    InputError : the .gz is truncated or is no gzip file.
    """
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file):
                yield (line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip(b"\r\n")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"Got {str(path)!r}, which cannot be unpacked ({error}); expected a whole gzip file. Fetch it again."
            ) from error


def read_corpus(files: list[tuple[str, Path]], *, tokens: Tokens = "words", progress: Progress = silent) -> Corpus:
    """Read every file, a document a line, and number its words by frequency.

    Parameters
    ----------
    files : (name, path); a document's id is `name:line`.
    tokens : how text is cut into words (`embedders.text.tokens`).

    Returns
    -------
    A corpus; lines that are not UTF-8 stand in its `rejected`, blank lines are no documents.

    Raises
    ------
    InputError : there is no word in any file.
    """
    return _read(files, tokens, progress)[0]


def read_documents(
    files: list[tuple[str, Path]], *, tokens: Tokens = "words", progress: Progress = silent
) -> Documents:
    """What `read_corpus` reads, with each document a row."""
    corpus, ids = _read(files, tokens, progress)
    known = np.array([xxh3_64_intdigest(word.encode()) for word in corpus.words], np.uint64)
    pieces = zip(corpus.offsets[:-1].tolist(), corpus.offsets[1:].tolist(), strict=True)
    digests = [xxh3_128_hexdigest(known[corpus.tokens[first:last]].tobytes()) for first, last in pieces]
    offsets = np.stack([corpus.offsets[:-1], corpus.offsets[1:]], axis=1)
    return Documents(ids, digests, corpus.words, corpus.counts, corpus.tokens, offsets, corpus.rejected)


def _read(files: list[tuple[str, Path]], tokens: Tokens, progress: Progress) -> tuple[Corpus, list[str]]:
    cut = tokenizer(tokens)
    ids = []
    number: defaultdict[str, int] = defaultdict(count().__next__)
    stream, ends, rejected = array("i"), array("q", [0]), []
    for done, (name, path) in enumerate(files):
        for line_number, line in enumerate(lines(path), start=1):
            place = f"{name}:{line_number}"
            if b"\0" in line:
                message = f"byte {line.index(0)} of the line is NUL; expected UTF-8 text, not UTF-16 or a binary file"
                rejected.append(Rejected(place, f"{path}:{line_number}", "nul_byte", message))
                continue
            try:
                found = cut(line.decode())
            except UnicodeDecodeError as error:
                rejected.append(
                    Rejected(
                        place,
                        f"{path}:{line_number}",
                        "not_utf8",
                        f"byte {error.start} of the line is {line[error.start]:#04x}, not UTF-8",
                    )
                )
                continue
            if found:
                stream.extend(map(number.__getitem__, found))
                ends.append(len(stream))
                ids.append(place)
        progress(done + 1, len(files), "files")
    if not stream:
        raise InputError(
            f"Got {len(files)} file(s) without a word, {len(rejected)} line(s) rejected (first file: {str(files[0][1])!r}); "
            "expected UTF-8 text, one document a line."
        )
    first_seen = np.frombuffer(stream, np.int32)
    counts = np.bincount(first_seen, minlength=len(number))
    names = np.array(list(number), dtype=object)
    order = np.lexsort((np.argsort(np.argsort(names)), -counts))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    corpus = Corpus(
        names[order].tolist(),
        counts[order].astype(np.int64),
        rank[first_seen],
        np.frombuffer(ends, np.int64),
        tuple(rejected),
    )
    return corpus, ids
