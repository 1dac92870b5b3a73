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

from embedders.base import Progress, silent
from embedders.data import Corpus, Rejected
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
    cut = tokenizer(tokens)
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
    return Corpus(
        names[order].tolist(),
        counts[order].astype(np.int64),
        rank[first_seen],
        np.frombuffer(ends, np.int64),
        tuple(rejected),
    )
