"""gensim answering questions about words: `evaluate_word_analogies`, and one process that loads vectors and searches.

stdin: {"do": "analogies", "vectors": .npz of words and matrix, "questions": file}: seconds, accuracy and n.
       {"do": "save", "vectors": .npz, "to": file}: the vectors as gensim keeps them, to be mapped into memory.
       {"do": "ask", "vectors": file that "save" wrote, "positive": [...], "negative": [...]}: the five nearest.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from gensim.models import KeyedVectors


def loaded(path: str) -> KeyedVectors:
    with np.load(path) as found:
        vectors = KeyedVectors(found["matrix"].shape[1])
        vectors.add_vectors(found["words"].tolist(), found["matrix"])
    return vectors


def main() -> None:
    ask = json.load(sys.stdin)
    answer = {}
    if ask["do"] == "save":
        loaded(ask["vectors"]).save(ask["to"])
    elif ask["do"] == "ask":
        vectors = KeyedVectors.load(ask["vectors"], mmap="r")
        answer = {"found": vectors.most_similar(ask["positive"], ask["negative"], topn=5)}
    else:
        vectors = loaded(ask["vectors"])
        vectors.fill_norms()
        started = time.perf_counter()
        accuracy, sections = vectors.evaluate_word_analogies(ask["questions"], restrict_vocab=len(vectors))
        seconds = time.perf_counter() - started
        total = sections[-1]
        answer = {"seconds": seconds, "accuracy": accuracy, "n": len(total["correct"]) + len(total["incorrect"])}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
