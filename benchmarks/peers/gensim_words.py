"""gensim word2vec or FastText on a file of whitespace tokens, its fastest way (`corpus_file`, compiled loops).

stdin: {"corpus", "out", "model", "loss", "subwords", "dim", "window", "negative", "sample", "min_count", "lr", "epochs",
"threads", "seed", "min_n", "max_n", "buckets"}. stdout: seconds of training alone, and what tells that the fast path
was taken. `out` gets words and matrix (.npz).
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from gensim.models import FastText, Word2Vec, word2vec_inner


def main() -> None:
    ask = json.load(sys.stdin)
    if word2vec_inner.FAST_VERSION < 0:
        sys.exit("gensim has no fast loops here (FAST_VERSION < 0); install it from a wheel.")
    same = {
        "sg": int(ask["model"] == "skipgram"), "hs": int(ask["loss"] == "hs"),
        "negative": 0 if ask["loss"] == "hs" else ask["negative"], "vector_size": ask["dim"], "window": ask["window"],
        "sample": ask["sample"], "min_count": ask["min_count"], "alpha": ask["lr"], "workers": ask["threads"],
        "seed": ask["seed"], "epochs": ask["epochs"],
    }  # fmt: skip
    if ask["subwords"]:
        model = FastText(**same, min_n=ask["min_n"], max_n=ask["max_n"], bucket=ask["buckets"])
    else:
        model = Word2Vec(**same)
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
                "fast_version": word2vec_inner.FAST_VERSION,
                "batch_words": word2vec_inner.MAX_WORDS_IN_BATCH,
            }
        )
    )


if __name__ == "__main__":
    main()
