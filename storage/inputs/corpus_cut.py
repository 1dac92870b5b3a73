"""What a thread makes of a chunk of a corpus: documents as provisional numbers of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.data import Rejected
from storage.inputs.corpus_documents import documents, not_utf8, nul
from storage.inputs.corpus_files import Piece

if TYPE_CHECKING:
    from embedders.text.vocabulary import Texts, Vocabulary
    from storage.inputs.specs import CorpusSpec

Int64s = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cut:
    """Documents as provisional numbers.

    lengths : of each text that has words. texts : how many of them each document has. ids : of the documents.
    done : the last piece.
    """

    tokens: NDArray[np.int32]
    lengths: Int64s
    texts: Int64s
    ids: pa.LargeStringArray
    rejected: list[Rejected]
    done: Piece


@dataclass(frozen=True, eq=False)
class Cutter:
    """What a thread does with a chunk. least: the first number that is no stop word's."""

    spec: CorpusSpec
    vocabulary: Vocabulary
    least: int

    def __call__(self, pieces: list[Piece]) -> Cut:
        from embedders.kernels import tokenise

        found = documents(pieces, self.spec)
        state = found.texts.state(self.spec.tokens)
        bad = np.flatnonzero((state == tokenise.NUL) | (state == tokenise.NOT_UTF8))
        what = "line" if pieces[0].source.form == "text" and self.spec.document == "line" else "text"
        rejected = [
            _refused(found.texts.bytes_of(at), found.ids[at].as_py(), found.location(at), what) for at in map(int, bad)
        ]
        texts, of = self._texts(found.texts, state)
        tokens, stops = self.vocabulary.number(texts, self.spec.tokens, state[of], self.least)
        lengths = np.diff(stops, prepend=0)
        held = lengths > 0
        documents_held, counts = np.unique(of[held], return_counts=True)
        ids = found.ids if len(documents_held) == len(found.ids) else found.ids.take(pa.array(documents_held))
        return Cut(tokens, lengths[held], counts, ids, found.rejected + rejected, pieces[-1])

    def _texts(self, texts: Texts, state: NDArray[np.uint8]) -> tuple[Texts, Int64s]:
        """What is cut into words, good documents or their sentences, and the number of the document of each."""
        from embedders.kernels import tokenise
        from embedders.text.vocabulary import Texts

        good = np.flatnonzero((state == tokenise.GOOD) | (state == tokenise.BY_PYTHON))
        if len(good) < len(texts):
            texts = Texts(texts.data, texts.starts[good], texts.ends[good])
        if not self.spec.sentences:
            return texts, good
        from embedders.kernels.sentences import split
        from embedders.text.sentences import kinds

        most = int((texts.ends - texts.starts).sum()) + len(texts)
        firsts, lasts, of = (np.empty(most, np.int64) for _ in range(3))
        n = split(texts.data, texts.starts, texts.ends, kinds(), firsts, lasts, of)
        return Texts(texts.data, firsts[:n].copy(), lasts[:n].copy()), good[of[:n]]


def _refused(text: bytes, id: str, location: str, what: str) -> Rejected:
    if 0 in text:
        return Rejected(id, location, "nul_byte", nul(text, what))
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return Rejected(id, location, "not_utf8", not_utf8(error, what))
    raise AssertionError(location)
