"""word2vec skip-gram on English Wikipedia, beside gensim's `corpus_file` mode: speed, and scores of both.

Same token lines, same vocabulary, same hyperparameters. Reading the corpus, counting words and JIT compilation are
left out on both sides; raw tokens x epochs / seconds is quoted.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.base import Vectors
from embedders.data import Corpus
from embedders.text.word2vec import Word2Vec
from evaluation.analogies import analogies, read_questions
from evaluation.word_similarity import read_pairs, word_similarity
from storage.inputs.corpus import lines, read_corpus

RESTRICT = 30_000
SMALL_LINES = 6_000
Scores = dict[str, float]


def corpus(small: bool, folder: Path) -> Corpus:
    """The articles; with `small` their first lines."""
    path = common.data("text_wikipedia_en") / "wikipedia_en.txt.gz"
    if small:
        short = folder / "short.txt"
        short.write_bytes(b"\n".join(itertools.islice(lines(path), SMALL_LINES)))
        path = short
    return read_corpus([(path.name, path)])


def write_lines(data: Corpus, path: Path) -> None:
    """The tokens of each document on a line, for gensim."""
    words = np.array(data.words, object)
    with path.open("w", encoding="utf-8") as file:
        for first, last in itertools.pairwise(data.offsets.tolist()):
            file.write(" ".join(words[data.tokens[first:last]]) + "\n")


def warm_up(data: Corpus, recipe: Word2Vec) -> None:
    """Compile the kernels on a few documents."""
    few = min(200, len(data.offsets) - 1)
    part = Corpus(data.words, data.counts, data.tokens[: data.offsets[few]], data.offsets[: few + 1])
    recipe.model_copy(update={"epochs": 1}).fit(part)


def scores(vectors: Vectors) -> Scores:
    """What people's judgements say of the vectors."""
    folder = common.data("word_eval")
    similar = {"WS353": "EN-WS-353-ALL.txt", "SimLex": "EN-SIMLEX-999.txt"}
    found = {name: word_similarity(vectors, read_pairs(folder / file)).headline.value for name, file in similar.items()}
    questions = read_questions(folder / "questions-words.txt")
    return found | {"Google": analogies(vectors, questions, restrict=RESTRICT).headline.value}


def ours(data: Corpus, recipe: Word2Vec, seed: int) -> dict[str, Any]:
    """One training of ours."""
    started = time.perf_counter()
    encoder = recipe.model_copy(update={"seed": seed}).fit(data)
    seconds = time.perf_counter() - started
    return {"seed": seed, "seconds": seconds, **scores(Vectors("word", encoder.words, encoder.matrix))}


def gensim(options: argparse.Namespace, data: Corpus, recipe: Word2Vec, folder: Path, seed: int) -> dict[str, Any]:
    """One training of gensim; its rows are put into our order, so that ties in frequency make no difference."""
    out = folder / "gensim.npz"
    parameters = recipe.model_dump(exclude={"seed"})
    message = {**parameters, "seed": seed + 1, "corpus": str(folder / "corpus.txt"), "out": str(out)}
    answer = common.peer(options, "gensim_words.py", message)
    if answer is None:
        return {}
    with np.load(out) as found:
        place = {word: row for row, word in enumerate(found["words"].tolist())}
        matrix = found["matrix"]
    known = data.words[: int((data.counts >= recipe.min_count).sum())]
    if place.keys() != set(known) or answer["raw_tokens"] != len(data.tokens):
        raise RuntimeError(
            f"Got {len(place)} words and {answer['raw_tokens']} tokens from gensim; expected the same {len(known)} and {len(data.tokens)}."
        )
    rows = np.ascontiguousarray(matrix[[place[word] for word in known]])
    return {"seed": seed, **answer, **scores(Vectors("word", known, rows))}


def measure(options: argparse.Namespace) -> Result:
    """Ours and gensim by turns: ours, gensim, ours, gensim, ... until each has its number of seeds."""
    fixed = {"window": 5, "negative": 5, "sample": 1e-3, "min_count": 5}
    epochs = 1 if options.small else options.epochs
    asked = {"dim": options.dim, "lr": options.lr, "epochs": epochs, "threads": options.threads}
    recipe = Word2Vec.model_validate(fixed | asked)
    with tempfile.TemporaryDirectory(prefix="polyvec-words-") as name:
        folder = Path(name)
        data = corpus(options.small, folder)
        write_lines(data, folder / "corpus.txt")
        common.say(f"{len(data.tokens):,} tokens; {recipe!r}")
        warm_up(data, recipe)
        mine: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        for seed in range(max(options.seeds, options.peer_seeds)):
            if seed < options.seeds:
                mine.append(ours(data, recipe, seed))
                common.say(f"ours   {mine[-1]}")
            if seed < options.peer_seeds and (answer := gensim(options, data, recipe, folder, seed)):
                theirs.append(answer)
                common.say(f"gensim {answer}")
    work = len(data.tokens) * recipe.epochs
    row = Row(
        f"word2vec dim {recipe.dim}, {work / 1e6:.1f} M tokens x epochs, {recipe.threads} threads", "words/s",
        work / median(run["seconds"] for run in mine), work / median(run["seconds"] for run in theirs) if theirs else None,
        "gensim corpus_file", beside(mine, theirs),
    )  # fmt: skip
    settings = {**recipe.model_dump(), "tokens": len(data.tokens), "vocabulary": int((data.counts >= 5).sum())}
    notes = [f"scores are means of {len(mine)} seed(s) of ours and {len(theirs)} of gensim"]
    return Result(
        "words" if options.dim == 100 else f"words-{options.dim}",
        [row],
        settings,
        {"ours": mine, "gensim": theirs},
        notes,
    )


def beside(mine: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> str:
    """Each score, ours against the peer's."""
    parts = []
    for name in ("WS353", "SimLex", "Google"):
        against = f" / {mean(run[name] for run in theirs):.3f}" if theirs else ""
        parts.append(f"{name} {mean(run[name] for run in mine):.3f}{against}")
    return ", ".join(parts)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.025, help="first learning rate of both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of ours")
    parser.add_argument("--peer-seeds", type=int, default=1, help="trainings of gensim; each takes about a minute")
    common.run("words", measure, parser.parse_args())


if __name__ == "__main__":
    main()
