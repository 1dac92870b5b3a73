"""Documents, and word vectors for them to start from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from embedders.base import Encoder, Matrix
from embedders.data import Documents
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec


def documents_of(*texts: str, words: Sequence[str] | None = None) -> Documents:
    """Documents `d0`, `d1`, ...; words by frequency, or numbered as given."""
    cut = [text.split() for text in texts]
    counts = Counter(word for text in cut for word in text)
    words = sorted(counts, key=lambda word: (-counts[word], word)) if words is None else list(words)
    row = {word: i for i, word in enumerate(words)}
    tokens = np.array([row[word] for text in cut for word in text], np.int32)
    ends = np.cumsum([0, *map(len, cut)])
    numbers = np.array([counts[word] for word in words], np.int64)
    names = [f"d{i}" for i in range(len(cut))]
    offsets = np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64)
    return Documents(names, [f"digest of {text}" for text in texts], words, numbers, tokens, offsets)


def random_documents(n: int = 60, words: int = 40, seed: int = 0) -> Documents:
    """Documents of 0 to 29 words, frequent ones more often."""
    rng = np.random.default_rng(seed)
    return documents_of(*(" ".join(f"w{int(i)}" for i in words * rng.random(rng.integers(30)) ** 2) for _ in range(n)))


def word_vectors(words: Sequence[str], matrix: Matrix | None = None, dim: int = 8) -> WordVectors:
    matrix = np.random.default_rng(1).normal(size=(len(words), dim)).astype(np.float32) if matrix is None else matrix
    return WordVectors(Word2Vec(dim=matrix.shape[1]), list(words), matrix)


def encoded(encoder: Encoder, data: Documents) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Vectors by id, and codes of the rejected rows by id; the ids are answered in the order of the data."""
    batches = list(encoder.encode(data))
    vectors = {
        name: row for batch in batches for name, row in zip(batch.vectors.ids, batch.vectors.matrix, strict=True)
    }
    rejected = {row.id: row.code for batch in batches for row in batch.rejected}
    assert list(vectors) == [name for name in data.ids if name in vectors]
    assert vectors.keys() | rejected.keys() == set(data.ids) and not vectors.keys() & rejected.keys()
    return vectors, rejected
