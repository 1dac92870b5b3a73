"""Fine-tuning GloVe on a small domain: beside the untouched vectors, and beside training on the domain alone.

The domain is the science among Wikipedia's vital articles (biology, physical sciences, technology, mathematics). Each
document is the mean of its words' vectors, weighted as in SIF (Arora et al. 2017), and judged by how well its topic is
told: a probe (5-fold, `evaluation.label_probe`), and its nearest neighbours. No vector is trained on a topic, and no
setting is chosen on this domain: learning rate and epochs of each contender are those that probe best on another one
(arts, history, geography, society, philosophy, everyday life), where they are also cut to the same number of documents.
The next so many documents of the domain are a second trial with the same settings, at which nothing was looked before.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.base import Matrix, Vectors
from embedders.data import Corpus
from embedders.text.pretrained import PretrainedWords
from embedders.text.tokens import words as cut
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
from evaluation.label_probe import label_probe
from evaluation.neighbours import neighbours

TUNED_ON = {"Arts", "History", "Geography", "Society and social sciences", "Philosophy and religion", "Everyday life"}
DOMAIN = {"Biology and health sciences", "Physical sciences", "Technology", "Mathematics"}
GRID = [{"lr": lr, "epochs": epochs} for lr, epochs in itertools.product((0.01, 0.025, 0.05), (5, 10, 20, 40))]
CONTENDERS = ("untouched", "scratch", "fine-tuned", "frozen")
MIN_COUNT = 2  # of 250,000 tokens; a vector of a word that occurs once is noise
Scores = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Domain:
    """Documents and their topics. glove: the vectors that GloVe has for their words."""

    data: Corpus
    topics: Mapping[str, str]
    glove: WordVectors


def articles(chosen: set[str]) -> list[dict[str, str]]:
    """All documents of these topics, in an order drawn once."""
    path = common.data("text_vital_articles") / "vital_articles_en.tsv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["topic"] in chosen]
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def domain(rows: Sequence[Mapping[str, str]]) -> Domain:
    """Documents as a corpus of their own."""
    texts = [cut(row["extract"]) for row in rows]
    counts = Counter(word for text in texts for word in text)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    place = {word: i for i, word in enumerate(words)}
    data = Corpus(
        words,
        np.array([counts[word] for word in words], np.int64),
        np.array([place[word] for text in texts for word in text], np.int32),
        np.cumsum([0, *map(len, texts)]).astype(np.int64),
    )
    glove = PretrainedWords(file=str(common.data("glove_6b_50d_20k") / "glove.6B.50d.top20k.txt.gz")).fit(data)
    return Domain(data, {str(i): row["topic"] for i, row in enumerate(rows)}, glove)


def pooled(data: Corpus, words: Sequence[str], matrix: Matrix) -> Matrix:
    """(n_documents, dim): the mean of the known words, each weighted 1e-3 / (1e-3 + its share); first component removed."""
    from scipy.sparse import csr_array

    known = dict(zip(words, matrix, strict=True))
    rows = np.stack([known.get(word, np.zeros(matrix.shape[1], np.float32)) for word in data.words]).astype(np.float64)
    weight = 1e-3 / (1e-3 + data.counts / data.counts.sum()) * [word in known for word in data.words]
    shape = (len(data.offsets) - 1, len(data.words))
    bags = csr_array((weight[data.tokens], data.tokens, data.offsets), shape=shape)
    found = bags @ rows / np.maximum(np.asarray(bags.sum(axis=1)).reshape(-1, 1), 1e-12)
    common_part = np.linalg.svd(found, full_matrices=False)[2][:1]
    return (found - found @ common_part.T @ common_part).astype(np.float32)


def judged(where: Domain, words: Sequence[str], matrix: Matrix) -> Scores:
    """How well the topics of documents are told."""
    vectors = Vectors("document", list(where.topics), pooled(where.data, words, matrix))
    return {
        "probe": label_probe(vectors, where.topics).headline.value,
        "neighbours": neighbours(vectors, where.topics, k=10, similarity="cosine").headline.value,
    }


def trained(where: Domain, contender: str, seed: int, **setting: Any) -> Scores:
    """One training, or none, and its scores."""
    if contender == "untouched":
        return judged(where, where.glove.words, where.glove.matrix)
    freeze = {"freeze": True} if contender == "frozen" else {}
    recipe = Word2Vec.model_validate(
        {"dim": 50, "min_count": MIN_COUNT, "threads": 1, "seed": seed, **setting, **freeze}
    )
    encoder = recipe.fit(where.data, start=None if contender == "scratch" else where.glove)
    return judged(where, encoder.words, encoder.matrix)


def contest(documents: int, seeds: int, grid: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Choose each contender's setting on one domain, and measure it on the other."""
    rows = articles(DOMAIN)
    other, here = domain(articles(TUNED_ON)[:documents]), domain(rows[:documents])
    behind = domain(rows[documents : 2 * documents]) if len(rows) >= 2 * documents else None
    common.say(f"{len(here.topics):,} documents, {len(here.data.tokens):,} tokens; {len(here.glove.words):,} of {len(here.data):,} words in GloVe")  # fmt: skip
    found: dict[str, Any] = {"documents": len(here.topics), "tokens": len(here.data.tokens)}
    for contender in CONTENDERS:
        if contender == "frozen" and "freeze" not in Word2Vec.model_fields:
            continue
        settings = [{}] if contender == "untouched" else grid
        tried = [(trained(other, contender, seeds, **setting)["probe"], i) for i, setting in enumerate(settings)]
        setting = settings[max(tried)[1]]
        tries = range(1 if contender == "untouched" else seeds)
        runs = [trained(here, contender, seed, **setting) for seed in tries]
        found[contender] = {"setting": setting, "chosen on": tried, "runs": runs}
        common.say(f"{contender:<10} {setting} {told(runs)}")
        if behind is not None:
            found[contender]["second"] = [trained(behind, contender, seed, **setting) for seed in tries]
            common.say(f"{contender:<10} the next documents: {told(found[contender]['second'])}")
    return found


def second(found: Mapping[str, Any], contender: str) -> str:
    """Probes of the second trial."""
    mine, theirs = (mean(run["probe"] for run in found[name]["second"]) for name in ("fine-tuned", contender))
    return (
        f"the next {found['documents']:,} documents, the same settings: {mine:.3f} against {theirs:.3f} ({contender})"
    )


def told(runs: Sequence[Scores]) -> str:
    """Each score, its mean and its spread over seeds."""
    parts = []
    for name in runs[0]:
        values = [run[name] for run in runs]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        parts.append(f"{name} {mean(values):.3f}{spread}")
    return ", ".join(parts)


def measure(options: argparse.Namespace) -> Result:
    """A table of all contenders, for the whole domain and for a part of it."""
    sizes = [300] if options.small else options.documents
    grid = GRID[:1] if options.small else GRID
    runs = {str(size): contest(size, options.seeds, grid) for size in sizes}
    rows, notes = [], []
    for found in runs.values():
        mine = mean(run["probe"] for run in found["fine-tuned"]["runs"])
        for contender in CONTENDERS:
            if contender == "fine-tuned" or contender not in found:
                continue
            if "second" in found[contender]:
                notes.append(second(found, contender))
            rows.append(
                Row(
                    f"GloVe-50d fine-tuned, {found['documents']:,} documents, {found['tokens'] / 1e3:.0f} k tokens: topic probe",
                    "accuracy", mine, mean(run["probe"] for run in found[contender]["runs"]), contender,
                    f"neighbours {mean(run['neighbours'] for run in found['fine-tuned']['runs']):.3f} / "
                    f"{mean(run['neighbours'] for run in found[contender]['runs']):.3f}",
                )
            )  # fmt: skip
        notes += [f"{found['documents']:,} documents, {name}: {told(found[name]['runs'])}, {found[name]['setting'] or 'nothing to set'}" for name in CONTENDERS if name in found]  # fmt: skip
    settings = {"seeds": options.seeds, "dim": 50, "min_count": MIN_COUNT, "threads": 1, "grid": grid}
    return Result(
        "finetune", rows, settings, runs, [*notes, f"{options.seeds} seeds; lr and epochs chosen on other topics"]
    )


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--documents", type=int, nargs="+", default=[800, 1600, 3216], help="sizes of the domain")
    common.run("finetune", measure, parser.parse_args())


if __name__ == "__main__":
    main()
