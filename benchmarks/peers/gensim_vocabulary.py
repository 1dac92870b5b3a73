"""gensim's first pass over a file of whitespace tokens: `build_vocab(corpus_file=...)`.

stdin: {"corpus", "threads"}. stdout: seconds, tokens, words.
"""

from __future__ import annotations

import json
import sys
import time

from gensim.models import word2vec


def main() -> None:
    ask = json.load(sys.stdin)
    model = word2vec.Word2Vec(vector_size=1, min_count=1, workers=ask["threads"])
    started = time.perf_counter()
    model.build_vocab(corpus_file=ask["corpus"])
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "tokens": model.corpus_total_words, "words": len(model.wv)}))


if __name__ == "__main__":
    main()
