"""A corpus to numbers on disk, in two streaming passes whose memory grows with the vocabulary, not with the corpus.

The first pass cuts documents into words on several threads and writes provisional numbers as the words come. The second
renumbers them by frequency, so that the result does not depend on the threads. What it leaves in a folder:

tokens.bin      int32, all words in order
texts.bin       (n + 1,) int64, where each text ends: a document or a sentence, after a first 0
documents.bin   the same of documents, where texts are sentences
digests.bin     (n, 16) bytes a document
ids.arrow, words.arrow, rejected.arrow, about.json
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedders.base import Progress
from embedders.errors import InputError
from storage.inputs.corpus_cut import Cutter, Int64s
from storage.inputs.corpus_documents import ID
from storage.inputs.corpus_files import Source, chunks
from storage.inputs.corpus_ids import check_unique

if TYPE_CHECKING:
    from embedders.text.vocabulary import Vocabulary
    from storage.inputs.specs import CorpusSpec

FORMAT = 1
WORDS = pa.schema([("word", ID), ("count", pa.int64())])
IDS = pa.schema([("id", ID)])
REJECTED = pa.schema([(name, ID) for name in ("id", "location", "code", "message")])
AT_ONCE = 1 << 20  # tokens that are renumbered at once
THREADS = 8  # more do not tokenise faster than one can unpack
T = TypeVar("T")
R = TypeVar("R")


def about() -> dict[str, Any]:
    """What a folder must have been made with to be of use."""
    return {"format": FORMAT, "unicode": unicodedata.unidata_version}


def build(
    folder: Path, sources: Sequence[Source], spec: CorpusSpec, stop_words: Path | None, threads: int, progress: Progress
) -> None:
    """Read files and write what they hold into an empty folder.

    Raises
    ------
    InputError : a file cannot be read, two documents have one id, or there is no word.
    OSError : the folder cannot be written.
    """
    from embedders.text.vocabulary import Vocabulary

    vocabulary = Vocabulary()
    if stop_words is not None:
        vocabulary.add(_stop_words(stop_words, spec))
    cutter = Cutter(spec, vocabulary, least=len(vocabulary))
    rejected = _first_pass(folder, sources, cutter, threads, progress)
    vocabulary.counts[: cutter.least] = 0
    size = sum(source.size for source in sources)

    def tell() -> None:
        progress(size, size, "bytes")  # of which all are read by now; this may be told to stop

    if not vocabulary.counts.any():
        left = "" if stop_words is None else f" that is no stop word of {str(stop_words)!r}"
        raise InputError(
            f"Got {len(sources)} file(s) without a word{left}, {rejected} document(s) rejected (first file: {str(sources[0].path)!r}); "
            "expected UTF-8 text, one document a line."
        )
    if spec.text_columns.id is not None:
        check_unique(folder / "ids.arrow", sources, spec)
    if spec.phrases is not None:
        from storage.inputs.corpus_phrases import join_phrases

        join_phrases(folder, vocabulary, spec.phrases, tell)
    _second_pass(folder, vocabulary, tell)
    (folder / "about.json").write_text(json.dumps(about()), encoding="utf-8")


# The first pass


def _first_pass(folder: Path, sources: Sequence[Source], cutter: Cutter, threads: int, progress: Progress) -> int:
    """Write provisional numbers, ids and rejected documents; how many of these there are."""
    sizes = np.cumsum([0, *(source.size for source in sources)]).tolist()
    before = {source.name: size for source, size in zip(sources, sizes, strict=False)}
    bad = 0
    with (
        (folder / "tokens.bin").open("wb") as tokens,
        Ends(folder / "texts.bin") as texts,
        Ends(folder / "documents.bin") as held,
        _table(folder / "ids.arrow", IDS) as ids,
        _table(folder / "rejected.arrow", REJECTED) as rejected,
    ):
        for cut in in_order(cutter, chunks(sources, cutter.spec), threads):
            tokens.write(cut.tokens.data)
            texts.write(cut.lengths)
            held.write(cut.texts)
            ids.write_batch(pa.record_batch([cut.ids], schema=IDS))
            if cut.rejected:
                rows = [dict(zip(REJECTED.names, astuple(row), strict=True)) for row in cut.rejected]
                rejected.write_batch(pa.RecordBatch.from_pylist(rows, REJECTED))
                bad += len(rows)
            progress(before[cut.done.source.name] + cut.done.done, sizes[-1], "bytes")
    if not cutter.spec.sentences:  # the two are one
        (folder / "documents.bin").unlink()
    return bad


class Ends:
    """A file of where things end, written by their lengths."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._last = 0
        self._file.write(bytes(8))

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, lengths: Int64s) -> None:
        """Go on by so many lengths."""
        if len(lengths):
            ends = np.cumsum(lengths, dtype=np.int64) + self._last
            self._last = int(ends[-1])
            self._file.write(ends.data)


def _table(path: Path, schema: pa.Schema) -> Any:
    return pa.ipc.new_file(str(path), schema)


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """What `work` makes of each item, in their order, done on some threads; few items are held at once."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="corpus") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _stop_words(path: Path, spec: CorpusSpec) -> list[str]:
    """The words of a file, cut as the texts are."""
    from embedders.text.tokens import tokenizer
    from storage.inputs.corpus_files import lines

    try:
        found = [word for line in lines(path) for word in tokenizer(spec.tokens)(line.decode())]
    except UnicodeDecodeError as error:
        raise InputError(
            f"Got stop words in {str(path)!r} that are not UTF-8 ({error}); expected UTF-8 text."
        ) from error
    return list(dict.fromkeys(found))


# The second pass


def _second_pass(folder: Path, vocabulary: Vocabulary, tell: Callable[[], None]) -> None:
    """Renumber by frequency, ties in code-point order, and take the digests of documents."""
    from embedders.kernels.tokenise import digest, renumber

    order = _order(vocabulary)
    numbers = np.full(len(vocabulary), -1, np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    words = word_array(vocabulary).take(pa.array(order))
    with _table(folder / "words.arrow", WORDS) as file:
        file.write_batch(pa.record_batch([words, pa.array(vocabulary.counts[order])], schema=WORDS))
    hashes = vocabulary.table.hashes[order]
    ends = _document_ends(folder)
    with (folder / "tokens.bin").open("r+b") as file, (folder / "digests.bin").open("wb") as digests:
        for first, stops in groups(ends):
            file.seek(4 * first)
            tokens = np.fromfile(file, np.int32, int(stops[-1]))
            renumber(tokens, numbers, stops, 0)
            file.seek(4 * first)
            file.write(tokens.data)
            out = np.empty((len(stops), 2), np.uint64)
            digest(tokens, np.concatenate([[0], stops[:-1]]), stops, hashes, out)
            digests.write(out.astype(">u8").data)
            tell()


def _order(vocabulary: Vocabulary) -> Int64s:
    """The numbers of all words that occur, most frequent first."""
    counts = vocabulary.counts[: len(vocabulary)]
    held = np.flatnonzero(counts)
    table = pa.table({"count": counts[held], "word": word_array(vocabulary).take(pa.array(held))})
    found = pc.sort_indices(table, [("count", "descending"), ("word", "ascending")])
    ordered: Int64s = held[found.to_numpy()]
    return ordered


def word_array(vocabulary: Vocabulary) -> pa.LargeStringArray:
    """All words by their provisional number."""
    n, table = len(vocabulary), vocabulary.table
    return pa.LargeStringArray.from_buffers(n, pa.py_buffer(table.bounds[: n + 1]), pa.py_buffer(table.arena))


def _document_ends(folder: Path) -> Path:
    """The file of where documents end; where texts are sentences, it is made of how many each document has."""
    texts, held = folder / "texts.bin", folder / "documents.bin"
    if not held.exists():
        return texts
    with held.open("r+b") as file, texts.open("rb") as ends:
        while len(places := np.fromfile(file, np.int64, AT_ONCE)):
            ends.seek(8 * int(places[0]))
            found = np.fromfile(ends, np.int64, int(places[-1] - places[0]) + 1)
            file.seek(-places.nbytes, os.SEEK_CUR)
            file.write(found[places - places[0]].data)
    return held


def groups(ends: Path) -> Iterator[tuple[int, Int64s]]:
    """Neighbouring texts of about AT_ONCE tokens: the first token, and where each text ends, from there."""
    last = 0
    with ends.open("rb") as file:
        file.seek(8)
        while len(found := np.fromfile(file, np.int64, AT_ONCE)):
            at = 0
            while at < len(found):
                stop = max(at + 1, int(np.searchsorted(found, last + AT_ONCE, side="right")))
                yield last, found[at:stop] - last
                last, at = int(found[stop - 1]), stop
