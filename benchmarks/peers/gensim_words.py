"""gensim skip-gram on a file of whitespace tokens, its fastest way (`corpus_file`, compiled loops).

stdin: {"corpus", "out", "dim", "window", "negative", "sample", "min_count", "lr", "epochs", "threads", "seed"}.
stdout: seconds of training alone, and what tells that the fast path was taken. `out` gets words and matrix (.npz).
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from gensim.models import word2vec
from gensim.models.word2vec_inner import MAX_WORDS_IN_BATCH


def main() -> None:
    ask = json.load(sys.stdin)
    if word2vec.FAST_VERSION < 0:
        sys.exit("gensim has no compiled loops here (FAST_VERSION < 0); install it from a wheel.")
    model = word2vec.Word2Vec(
        sg=1, hs=0, vector_size=ask["dim"], window=ask["window"], negative=ask["negative"], sample=ask["sample"],
        min_count=ask["min_count"], alpha=ask["lr"], workers=ask["threads"], seed=ask["seed"], epochs=ask["epochs"],
    )  # fmt: skip
    model.build_vocab(corpus_file=ask["corpus"])
    started = time.perf_counter()
    model.train(corpus_file=ask["corpus"], total_words=model.corpus_total_words, epochs=ask["epochs"])
    seconds = time.perf_counter() - started
    np.savez(ask["out"], words=np.array(model.wv.index_to_key), matrix=model.wv.vectors)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "raw_tokens": model.corpus_total_words,
                "fast_version": word2vec.FAST_VERSION,
                "batch_words": MAX_WORDS_IN_BATCH,
            }
        )
    )


if __name__ == "__main__":
    main()
