"""PecanPy walks at a rate, and node2vec end to end with gensim; compilation is left out.

`simulate_walks` compiles its loop anew at each call, so the compiled loop it calls is taken out and called here twice.
stdin: {"graph": .npz with IDs, data, indptr, indices, "runs": [{"mode", "p", "q", "walks", "steps"}], "embed": null or
{"out", "p", "q", "walks", "steps", "dim", "window", "negative", "lr", "threads", "seed"}}. stdout: rates and seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from numba_progress import ProgressBar
from pecanpy import pecanpy


class Walks:
    """One graph and one (p, q), compiled."""

    def __init__(self, path: str, mode: str, p: float, q: float, seed: int = 1) -> None:
        self.graph = getattr(pecanpy, mode)(p=p, q=q, random_state=seed)
        self.graph.read_npz(path, weighted=False)
        started = time.perf_counter()
        self.graph._preprocess_transition_probs()
        self.prepared = time.perf_counter() - started
        self.forward, self.has = self.graph.get_move_forward(), self.graph.get_has_nbrs()
        self.draw(np.zeros(1, np.uint32), 2)

    def draw(self, starts: np.ndarray, steps: int) -> np.ndarray:
        """(n, steps + 2) rows of nodes; the last column counts the nodes of a walk."""
        with ProgressBar(total=len(starts), disable=True) as progress:
            return self.graph._random_walks(
                len(starts), steps, self.graph.random_state, starts, self.has, self.forward, progress
            )

    def starts(self, walks: float, seed: int = 0) -> np.ndarray:
        """Every node `walks` times, or the share of nodes for less than one walk a node, shuffled."""
        rng, nodes = np.random.default_rng(seed), np.arange(self.graph.num_nodes, dtype=np.uint32)
        if walks < 1:
            return rng.permutation(nodes)[: max(1, int(walks * len(nodes)))]
        return rng.permutation(np.concatenate([nodes] * int(walks)))


def rate(path: str, mode: str, p: float, q: float, walks: float, steps: int) -> dict[str, Any]:
    """Steps a second."""
    loop = Walks(path, mode, p, q)
    starts = loop.starts(walks)
    started = time.perf_counter()
    found = loop.draw(starts, steps)
    seconds = time.perf_counter() - started
    return {
        "mode": mode,
        "p": p,
        "q": q,
        "steps": int(found[:, -1].astype(np.int64).sum() - len(found)),
        "seconds": seconds,
        "prepared": loop.prepared,
    }


def embed(
    path: str, out: str, *, p: float, q: float, walks: int, steps: int, dim: int, window: int, negative: int, lr: float,
    threads: int, seed: int,
) -> dict[str, float]:  # fmt: skip
    """Walks, then gensim on them, as PecanPy's own `embed` does it."""
    from gensim.models import Word2Vec

    loop = Walks(path, "SparseOTF", p, q, seed)
    starts = loop.starts(walks, seed)
    began = time.perf_counter()
    sentences = [loop.graph._map_walk(row) for row in loop.draw(starts, steps)]
    walked = time.perf_counter()
    model = Word2Vec(
        sentences, vector_size=dim, window=window, sg=1, min_count=0, negative=negative, alpha=lr, sample=0,
        workers=threads, epochs=1, seed=seed,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    np.savez(out, matrix=model.wv[[str(node) for node in range(loop.graph.num_nodes)]])
    return {"seconds": seconds, "walk_seconds": walked - began}


def main() -> None:
    ask = json.load(sys.stdin)
    answer = {"runs": [rate(ask["graph"], **run) for run in ask["runs"]]}
    if ask.get("embed"):
        answer["embed"] = embed(ask["graph"], **ask["embed"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
