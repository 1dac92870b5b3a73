"""Word vectors on English Wikipedia, beside gensim's `corpus_file` mode, word2vec.c and fastText: speed, scores of all.

Same lines of tokens, same vocabulary, same hyperparameters. Reading the corpus, counting words and JIT compilation are
left out on all sides (`text_peers` says how each peer was timed); raw tokens x epochs / seconds is quoted. The slowest
peers run one epoch and are not scored, unless --full is given. The arithmetic of skip-gram is quoted beside what the
machine's registers can do.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common, peak, text_peers
from benchmarks.common import Result, Row, SkippedError
from benchmarks.text_peers import Lines, Task
from embedders.base import Embedder, Matrix, Vectors
from embedders.data import Corpus
from embedders.registry import embedder_class
from evaluation.analogies import analogies, read_questions
from evaluation.word_similarity import read_pairs, word_similarity
from storage.inputs.corpus import read_corpus

RESTRICT = 30_000
SMALL_LINES = 6_000
SCORES = ("WS353", "SimLex", "Google")
GENSIM = "gensim corpus_file"
ONE_WORKER = "gensim, 1 worker"
"""With two, each worker's rate falls by its own words against those of all, so that it is a tenth higher in the mean
(`get_next_alpha` in gensim's word2vec_corpusfile.pyx); scores at the rate that was asked for are those of one."""
PEERS = {
    GENSIM: text_peers.gensim,
    ONE_WORKER: text_peers.gensim_alone,
    "word2vec.c": text_peers.word2vec_c,
    "fastText": text_peers.fasttext,
}
Run = dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """One training and who else does it.

    scored : how often each peer runs all epochs. timed : peers that run one epoch, once, for their speed.
    """

    name: str
    task: Task
    scored: Mapping[str, int]
    timed: Sequence[str] = ("word2vec.c", "fastText")


CONTESTS = {
    "sg-100": Contest("skip-gram NS dim 100", Task(), {GENSIM: 3, ONE_WORKER: 3, "word2vec.c": 1, "fastText": 1}, ()),
    "sg-300": Contest("skip-gram NS dim 300", Task(dim=300), {GENSIM: 1}),
    "cbow": Contest("CBOW NS dim 100", Task(model="cbow", lr=0.05), {GENSIM: 3, ONE_WORKER: 3}),
    "sg-hs": Contest("skip-gram HS dim 100", Task(loss="hs"), {GENSIM: 1}),
    "cbow-hs": Contest("CBOW HS dim 100", Task(model="cbow", loss="hs", lr=0.05), {GENSIM: 3}),
    "subwords": Contest("skip-gram NS with subwords dim 100", Task(subwords=True, lr=0.05), {GENSIM: 1}, ("fastText",)),
}


def corpus(options: argparse.Namespace, folder: Path) -> Corpus:
    """The articles; with --small their first lines."""
    path = options.corpus or common.data("text_wikipedia_en") / "wikipedia_en.txt.gz"
    if options.small:
        short = folder / "short.txt"
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            short.write_bytes(b"".join(itertools.islice(file, SMALL_LINES)))
        path = short
    return read_corpus([(path.name, path)])


def write_lines(data: Corpus, path: Path, min_count: int) -> Lines:
    """The tokens of each document on a line, for the peers."""
    words = np.array(data.words, object)
    with path.open("w", encoding="utf-8") as file:
        for first, last in itertools.pairwise(data.offsets.tolist()):
            file.write(" ".join(words[data.tokens[first:last]]) + "\n")
    return Lines(path, len(data.tokens), int(data.counts[data.counts >= min_count].sum()), len(data.offsets) - 1)


def recipe_of(task: Task) -> Embedder[Corpus]:
    """Our embedder with the same hyperparameters."""
    left_out = {"subwords", "loss"} if task.subwords else {"subwords", "min_n", "max_n", "buckets"}
    asked = {name: value for name, value in asdict(task).items() if name not in left_out}
    return embedder_class("fasttext" if task.subwords else "word2vec").model_validate(asked)


def warm_up(data: Corpus, task: Task) -> None:
    """Compile the kernels on a few documents."""
    few = min(200, len(data.offsets) - 1)
    part = Corpus(data.words, data.counts, data.tokens[: data.offsets[few]], data.offsets[: few + 1])
    recipe_of(replace(task, epochs=1)).fit(part)


def scores(words: Sequence[str], matrix: Matrix, known: Sequence[str]) -> Run:
    """What people's judgements say of the vectors; rows are put into our order, so that ties in frequency do no harm."""
    place = {word: row for row, word in enumerate(words)}
    if missing := [word for word in known if word not in place]:
        raise RuntimeError(f"Got {len(words)} words without {missing[:3]}; expected the same {len(known)} words.")
    vectors = Vectors("word", known, np.ascontiguousarray(matrix[[place[word] for word in known]]))
    folder = common.data("word_eval")
    similar = {"WS353": "EN-WS-353-ALL.txt", "SimLex": "EN-SIMLEX-999.txt"}
    found = {name: word_similarity(vectors, read_pairs(folder / file)).headline.value for name, file in similar.items()}
    questions = read_questions(folder / "questions-words.txt")
    return found | {"Google": analogies(vectors, questions, restrict=RESTRICT).headline.value}


def ours(data: Corpus, task: Task, known: Sequence[str]) -> Run:
    """One training of ours."""
    started = time.perf_counter()
    encoder = recipe_of(task).fit(data)
    seconds = time.perf_counter() - started
    parts = [batch.vectors for batch in encoder.encode(data)]
    words = [word for part in parts for word in part.ids]
    return {"seed": task.seed, "epochs": task.epochs, "seconds": seconds} | scores(
        words, np.concatenate([part.matrix for part in parts]), known
    )


def theirs(options: argparse.Namespace, name: str, task: Task, lines: Lines, known: Sequence[str], scored: bool) -> Run:
    """One training of a peer."""
    found = PEERS[name](options, task, lines, lines.path.parent)
    run = {"seed": task.seed, "epochs": task.epochs, "seconds": found.seconds}
    return run | (scores(found.words, found.matrix, known) if scored else {})


def turns(entry: Contest, task: Task, options: argparse.Namespace) -> Iterator[tuple[str, Task, bool]]:
    """Who trains what, and whether it is scored: ours and the peers by turns."""
    often = {"ours": options.seeds}
    for name in (*entry.scored, *entry.timed):
        often[name] = options.peer_seeds if options.full else min(entry.scored.get(name, 1), options.peer_seeds)
    for seed in range(max(often.values())):
        for name in (name for name, times in often.items() if seed < times):
            scored = options.full or name not in entry.timed
            yield name, replace(task, seed=seed, epochs=task.epochs if scored else 1), scored


def contest(
    options: argparse.Namespace, entry: Contest, data: Corpus, lines: Lines
) -> tuple[list[Row], dict[str, list[Run]]]:
    """All trainings of one contest: a row for each peer, and every single run."""
    task = replace(entry.task, epochs=options.epochs, threads=options.threads)
    known = data.words[: int((data.counts >= task.min_count).sum())]
    warm_up(data, task)
    runs: dict[str, list[Run]] = {"ours": [], **{name: [] for name in (*entry.scored, *entry.timed)}}
    against = {name: name for name in runs}
    for name, turn, scored in turns(entry, task, options):
        if against[name] != name:
            continue
        try:
            run = ours(data, turn, known) if name == "ours" else theirs(options, name, turn, lines, known, scored)
        except SkippedError as reason:
            against[name] = f"{name}: {reason}"
            continue
        common.say(f"{name:18} {run}")
        runs[name].append(run)
    what = f"{entry.name}, {lines.raw * task.epochs / 1e6:.1f} M tokens x epochs, {task.threads} threads"
    mine = runs.pop("ours")
    rows = [
        Row(
            what,
            "words/s",
            rate(lines, mine),
            rate(lines, found) if found else None,
            against[name],
            beside(mine, found),
        )
        for name, found in runs.items()
    ]
    if task.model == "skipgram" and task.loss == "ns" and not task.subwords:
        rows.append(to_the_limit(entry.name, data, task, median(run["seconds"] for run in mine)))
    return rows, {"ours": mine, **runs}


def rate(lines: Lines, runs: Sequence[Run]) -> float:
    """Raw tokens a second, of the median run."""
    return float(lines.raw * median(run["epochs"] / run["seconds"] for run in runs))


def spread(runs: Sequence[Run]) -> str:
    """Seconds an epoch of the fastest and the slowest run.

    >>> spread([{"seconds": 10.0, "epochs": 5}, {"seconds": 11.0, "epochs": 5}])
    '2.00-2.20 (2 runs)'
    """
    each = [run["seconds"] / run["epochs"] for run in runs]
    return f"{min(each):.2f}-{max(each):.2f} ({len(each)} runs)" if len(each) > 1 else f"{each[0]:.2f} (1 run)"


def beside(mine: Sequence[Run], others: Sequence[Run]) -> str:
    """Each score, ours against the peer's: mean and standard deviation over seeds.

    >>> beside([{"WS353": 0.5}, {"WS353": 0.52}], [{"WS353": 0.49}])
    'WS353 0.510±0.014 / 0.490'
    """
    parts = []
    for name in SCORES:
        sides = [[run[name] for run in runs if name in run] for runs in (mine, others)]
        told = [f"{mean(side):.3f}" + (f"±{stdev(side):.3f}" if len(side) > 1 else "") for side in sides if side]
        if told:
            parts.append(f"{name} {' / '.join(told)}")
    return ", ".join(parts)


def contexts(counts: NDArray[np.int64], data: Corpus, sample: float, window: int) -> float:
    """Pairs of a centre word and a context that one epoch trains on: kept tokens x mean contexts, in expectation.

    Subsampling keeps a token with the probability of word2vec.c; a window reaches 1 to `window` kept tokens, each as
    often, so that two tokens d apart meet with probability (window - d + 1) / window, once from either side.
    """
    share = counts / counts.sum()
    chance = np.minimum(1, (np.sqrt(share / sample) + 1) * (sample / share)) if sample else np.ones(len(counts))
    kept = np.concatenate([chance, np.zeros(len(data.words) - len(counts))])[data.tokens]
    sums = np.concatenate([[0.0], np.cumsum(kept)])[data.offsets]
    return float(
        sum(2 * (window - d + 1) / window * np.maximum(0, np.diff(sums) - d).sum() for d in range(1, window + 1))
    )


def to_the_limit(name: str, data: Corpus, task: Task, seconds: float) -> Row:
    """Arithmetic a second beside the most that the registers can do.

    Operations: kept tokens x mean contexts x (negative + 1) targets x 6 x dim: of each pair of a context and a target
    a product, and two rows that get a multiple of another, each 2 x dim. Copies, sigmoids and noise are not counted.
    """
    pairs = contexts(data.counts[data.counts >= task.min_count], data, task.sample, task.window)
    operations = task.epochs * pairs * (task.negative + 1) * 6 * task.dim
    product = common.amount(peak.product(task.threads), "flop/s")
    return Row(
        f"{name}: kept tokens x contexts x targets x 6 x dim, {task.threads} threads", "flop/s",
        operations / seconds, peak.registers(task.threads), "FMA in registers", f"numpy's matrix product: {product}",
    )  # fmt: skip


def measure(options: argparse.Namespace) -> Result:
    if unknown := [name for name in options.contests if name not in CONTESTS]:
        raise SystemExit(f"Got {', '.join(unknown)}; expected some of {', '.join(CONTESTS)}.")
    if options.small:
        options.epochs = options.seeds = options.peer_seeds = 1
    names = options.contests or list(CONTESTS)
    rows: list[Row] = []
    runs: dict[str, Any] = {}
    notes = ["scores are means ± standard deviations over seeds, ours / peer's; a peer without scores ran one epoch"]
    with tempfile.TemporaryDirectory(prefix="polyvec-text-") as name:
        folder = Path(name)
        data = corpus(options, folder)
        lines = write_lines(data, folder / "corpus.txt", Task().min_count)
        common.say(f"{lines.raw:,} tokens in {lines.count:,} documents")
        for name in names:
            common.say(CONTESTS[name].name)
            found, runs[name] = contest(options, CONTESTS[name], data, lines)
            rows += found
            each = ", ".join(f"{who} {spread(done)}" for who, done in runs[name].items() if done)
            notes.append(f"{CONTESTS[name].name}, seconds an epoch: {each}")
    settings = {name: asdict(CONTESTS[name].task) for name in names}
    counted = {"tokens": lines.raw, "documents": lines.count, "epochs": options.epochs, "threads": options.threads}
    return Result("text" if not options.contests else "text-" + "-".join(names), rows, counted | settings, runs, notes)


def main() -> None:
    parser = common.arguments(__doc__)
    built = common.REPO / ".venv-peers/c"
    parser.add_argument("contests", nargs="*", metavar="CONTEST", help=f"which: {', '.join(CONTESTS)}; all without one")
    parser.add_argument("--word2vec-c", type=Path, default=built / "word2vec/word2vec", help="the program word2vec")
    parser.add_argument("--fasttext", type=Path, default=built / "fastText/fasttext", help="the program fasttext")
    parser.add_argument("--corpus", type=Path, help="another text file, a document a line; .gz is read too")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of ours")
    parser.add_argument(
        "--peer-seeds",
        type=int,
        default=3,
        help="most trainings of gensim (1 or 3 by contest), with --full of all peers",
    )
    common.run("text", measure, parser.parse_args())


if __name__ == "__main__":
    main()
