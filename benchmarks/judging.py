"""Judging and asking: analogies beside gensim, whole `polyvec` processes at 400,000 words, and topics of documents.

The analogies are Google's, asked of vectors trained on Wikipedia; gensim gets the same vectors and, as it does by
default, compares words in capitals. Processes are timed from their start to their end, files in the page cache. Topics
of documents are read by the label probe: SIF means, LSA and, beside both, one-hot bags of words.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from embedders.base import Encoder, Vectors
from embedders.data import Corpus, Documents
from embedders.text.bags import presence
from embedders.text.documents import DocumentMean
from embedders.text.tfidf import TfIdf
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
from evaluation.analogies import Method, analogies, read_questions
from evaluation.label_probe import label_probe
from evaluation.neighbours import neighbours
from storage.inputs.corpus import read_corpus, read_documents
from storage.store import VectorStore
from storage.writer import Source, writing

WORDS = 70_000
ASKED = ("king", "man", "woman")


def wikipedia() -> Corpus:
    folder = common.data("text_wikipedia_en")
    return read_corpus([("wikipedia", folder / "wikipedia_en.txt.gz")])


def trained(data: Corpus, small: bool, **params: Any) -> WordVectors:
    asked = {"dim": 100, "epochs": 1 if small else 5, "threads": common.cores()}
    return Word2Vec.model_validate(asked | params).fit(data)


# Analogies


def asked(options: argparse.Namespace, data: Corpus, folder: Path, runs: dict[str, Any]) -> list[Row]:
    """All questions, ours by both methods, gensim by its one."""
    found = trained(data, options.small, min_count=2)
    vectors = Vectors("word", found.words[:WORDS], np.ascontiguousarray(found.matrix[:WORDS]))
    file = common.data("word_eval") / "questions-words.txt"
    if options.small:
        lines = file.read_text(encoding="utf-8").splitlines()[:400]
        file = folder / "questions.txt"
        file.write_text("\n".join(lines), encoding="utf-8")
    questions = read_questions(file)
    np.savez(folder / "words.npz", words=np.array(vectors.ids), matrix=vectors.matrix)

    def ours(method: Method) -> float:
        started = time.perf_counter()
        report = analogies(vectors, questions, method=method)
        runs[f"accuracy {method}"], runs["n"] = report.headline.value, report.notes["n"]
        return time.perf_counter() - started

    contenders = {"add": lambda: ours("add"), "mul": lambda: ours("mul")}
    seconds = common.interleaved(contenders, 1 if options.small else 5)
    message = {"do": "analogies", "vectors": str(folder / "words.npz"), "questions": str(file)}
    theirs = common.peer(options, "gensim_words_asked.py", message)
    runs["analogies"], runs["gensim analogies"] = seconds, theirs
    total, median = sum(map(len, questions.values())), common.medians(seconds)
    beside = f"accuracy {runs['accuracy add']:.4f}" + (f" / {theirs['accuracy']:.4f}" if theirs else "")
    return [
        Row(f"{total:,} analogies over {len(vectors):,} x 100, 3CosAdd", "s", median["add"],
            theirs and theirs["seconds"], "gensim evaluate_word_analogies", f"n {runs['n']:,}, {beside}"),
        Row("the same, 3CosMul", "s", median["mul"], quality=f"accuracy {runs['accuracy mul']:.4f}"),
    ]  # fmt: skip


# Whole processes


def processes(options: argparse.Namespace, folder: Path, runs: dict[str, Any]) -> list[Row]:
    """`polyvec search` and `polyvec analogy` on a committed space, and gensim on a file that it maps into memory."""
    n, dim = (20_000, 50) if options.small else (400_000, 300)
    words = [*ASKED, *(f"w{i:06}" for i in range(n - len(ASKED)))]
    matrix = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    encoder = WordVectors(Word2Vec.model_validate({"dim": dim}), words, matrix)
    with writing(VectorStore(folder / "vectors").space("words"), "bench", wait=0, waiting=common.say) as writer:
        writer.commit(Source("made", "0" * 64, n, {}), encoder, encoder.encode(None), {}, time.monotonic())  # type: ignore[arg-type]
    (folder / "polyvec.yaml").write_text("store: ./vectors\n", encoding="utf-8")
    busy: dict[str, list[float]] = {"search": [], "analogy": [], "analogy mul": []}
    analogy = ["analogy", "words", "king", "-", "man", "+", "woman"]
    contenders = {
        "search": lambda: process(folder, busy["search"], "search", "words", "king"),
        "analogy": lambda: process(folder, busy["analogy"], *analogy),
        "analogy mul": lambda: process(folder, busy["analogy mul"], *analogy, "--method", "mul"),
    }
    np.savez(folder / "many.npz", words=np.array(words), matrix=matrix)
    saved = {"do": "save", "vectors": str(folder / "many.npz"), "to": str(folder / "many.kv")}
    if common.peer(options, "gensim_words_asked.py", saved) is not None:
        ask = {"do": "ask", "vectors": str(folder / "many.kv"), "positive": ["king", "woman"], "negative": ["man"]}

        def gensim() -> float:
            return common.seconds(lambda: common.peer(options, "gensim_words_asked.py", ask))

        contenders["gensim"] = gensim
    runs["processes"] = common.interleaved(contenders, 1 if options.small else 7)
    runs["processor"] = busy
    median, busiest = common.medians(runs["processes"]), common.medians(busy)
    used = {name: f"{value:.2f} s of processor" for name, value in busiest.items()}
    size = f"{n:,} x {dim}"
    return [
        Row(f"polyvec search, whole process, {size}", "s", median["search"], quality=used["search"]),
        Row(f"polyvec analogy, whole process, {size}", "s", median["analogy"], median.get("gensim"),
            "gensim: import, load(mmap), most_similar", used["analogy"]),
        Row(f"polyvec analogy --method mul, {size}", "s", median["analogy mul"], quality=used["analogy mul"]),
    ]  # fmt: skip


def process(folder: Path, processor: list[float], *args: str) -> float:
    """Seconds of one whole process; those that it kept a core busy are added to `processor`."""
    environment = {**os.environ, "PYTHONPATH": str(common.REPO)}
    command = [sys.executable, "-m", "flows.cli.main", *args]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    if done.returncode or len(done.stdout.splitlines()) < 6:
        raise RuntimeError(f"polyvec {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


# Documents


def articles(folder: Path) -> tuple[Documents, dict[str, str]]:
    """The short articles, a line each, and the topics of those that have one."""
    import csv
    import gzip

    source = common.data("text_vital_articles") / "vital_articles_en.tsv.gz"
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    path = folder / "articles.txt"
    path.write_text("".join(" ".join(row["extract"].split()) + "\n" for row in rows), encoding="utf-8")
    data = read_documents([("articles", path)])
    topics = {f"articles:{i}": row["topic"] for i, row in enumerate(rows, start=1) if row["topic"] != "Uncategorized"}
    return data, topics


def documents(options: argparse.Namespace, words: Corpus, folder: Path, runs: dict[str, Any]) -> list[Row]:
    """Accuracy of the probe on each space, beside one-hot bags of words."""
    data, topics = articles(folder)
    own = read_corpus([("articles", folder / "articles.txt")])
    spaces = {
        "SIF, word2vec on the articles": (DocumentMean.model_validate({}), trained(own, options.small, epochs=10)),
        "SIF, word2vec on Wikipedia": (DocumentMean.model_validate({}), trained(words, options.small)),
        "LSA (tfidf)": (TfIdf.model_validate({}), None),
    }
    one_hot = presence(data)
    rows = []
    for name, (recipe, start) in spaces.items():
        started = time.perf_counter()
        encoder = recipe.fit(data, start=start)
        fitted = time.perf_counter()
        vectors = joined(encoder, data)
        encoded = time.perf_counter()
        report = label_probe(vectors, topics, trivial={"one_hot": one_hot} if len(vectors) == len(data) else None)
        near = neighbours(vectors, topics)
        runs[name] = {
            "fit": fitted - started, "encode": encoded - fitted, "scores": {s.metric: s.value for s in report.scores},
            "near": near.headline.value, "notes": report.notes,
        }  # fmt: skip
        sizes = report.notes["sizes"]
        cost = " / ".join(f"{size['bytes'] / 1e6:,.0f} MB" for size in sizes.values())
        sparse = f" ({sizes['one_hot']['sparse_bytes'] / 1e6:.0f} MB sparse)" if "one_hot" in sizes else ""
        rows.append(
            Row(f"topics of {len(vectors):,} documents, {name}, dim {encoder.dim}", "accuracy", report.headline.value,
                report.value("accuracy[one_hot]") if "one_hot" in sizes else None, f"one-hot, dim {one_hot.shape[1]:,}",
                f"macro F1 {report.value('macro_f1'):.3f}, same topic among 10 nearest {near.headline.value:.3f}; {cost}{sparse}")
        )  # fmt: skip
    return rows


def joined(encoder: Encoder[Documents], data: Documents) -> Vectors:
    ids: list[str] = []
    parts: list[Any] = []
    for batch in encoder.encode(data):
        ids += batch.vectors.ids
        parts.append(batch.vectors.matrix)
    return Vectors("document", ids, np.concatenate(parts))


def measure(options: argparse.Namespace) -> Result:
    runs: dict[str, Any] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="polyvec-judging-") as name:
        folder = Path(name)
        words = wikipedia()
        for part in (lambda: processes(options, folder, runs), lambda: asked(options, words, folder, runs),
                     lambda: documents(options, words, folder, runs)):  # fmt: skip
            rows += part()
            common.say(common.table(common.HEADER, [common.cells(row) for row in rows]).splitlines()[-1])
    return Result("judging", rows, {"words": WORDS, "cores": common.cores()}, json.loads(json.dumps(runs)), NOTES)


NOTES: Sequence[str] = (
    "the ratio of an accuracy is that to one-hot bags of words, which take as many numbers as there are words",
    "SIF on 100 numbers is not expected to beat one-hot bags of 12,000: it buys the size",
)


def main() -> None:
    common.run("judging", measure, common.arguments(__doc__).parse_args())


if __name__ == "__main__":
    main()
