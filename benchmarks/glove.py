"""GloVe on English Wikipedia, beside the authors' C code: counting, training, cost of each epoch, and scores of both.

Same token lines, same vocabulary, same hyperparameters. Our counting goes from token numbers to blocks ready for training;
theirs (`cooccur`) from text to pairs on disk, on one thread, and `shuffle` comes after it, which is quoted beside.
JIT compilation, reading the corpus and counting words are left out; training is timed without start and saving on both
sides.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import Result, Row
from benchmarks.text import beside, corpus, scores, write_lines
from embedders.data import Corpus
from embedders.kernels.adagrad import AdaGrad
from embedders.kernels.cooccurrence import Cooccurrence
from embedders.kernels.pairs import arrange
from embedders.spill import Spill
from embedders.text.glove import Glove

TOOLS = ("vocab_count", "cooccur", "shuffle", "glove")
MEMORY = "4"  # GB for their counting and shuffling: their default


def ours(data: Corpus, recipe: Glove, seed: int) -> dict[str, Any]:
    """One counting and training of ours, the steps of `Glove.fit` timed apart."""
    known = int((data.counts >= recipe.min_count).sum())
    memory = recipe.memory << 20
    with Spill(memory // 2) as kept, Spill(memory // 2) as rows:
        started = time.perf_counter()
        counted = Cooccurrence(known, recipe.window, recipe.symmetric, recipe.threads, memory, rows)
        counted.count(data.tokens, data.offsets)
        pairs = arrange(counted, data.counts[:known], recipe.x_max, recipe.alpha, kept)
        counting = time.perf_counter() - started
        model = AdaGrad(known, recipe.dim, recipe.lr, recipe.symmetric, recipe.threads, seed)
        started = time.perf_counter()
        loss = [model.train(pairs) for _ in range(recipe.epochs)]
        training = time.perf_counter() - started
    found = {"seed": seed, "counting": counting, "training": training, "pairs": pairs.count, "loss": loss}
    words = data.words[:known]
    return found | scores(words, model.matrix, words)


def theirs(tools: Path, data: Corpus, recipe: Glove, folder: Path, seed: int) -> dict[str, Any]:
    """One counting, shuffling and training of the C code; its rows are put into our order."""
    files = {name: folder / name for name in ("corpus.txt", "vocab.txt", "pairs.bin", "shuffled.bin", "vectors")}
    size = ["-memory", MEMORY, "-verbose", "0"]
    steps = {
        "vocabulary": ("vocab_count", ["-min-count", str(recipe.min_count)], "corpus.txt", "vocab.txt"),
        "counting": (
            "cooccur",
            [*size, "-window-size", str(recipe.window), "-vocab-file", str(files["vocab.txt"]), "-overflow-file", str(folder / "overflow")],
            "corpus.txt", "pairs.bin",
        ),
        "shuffling": ("shuffle", [*size, "-seed", str(seed + 1), "-temp-file", str(folder / "temp")], "pairs.bin", "shuffled.bin"),
    }  # fmt: skip
    seconds = {}
    for step, (tool, options, source, target) in steps.items():
        with files[source].open("rb") as into, files[target].open("wb") as out:
            started = time.perf_counter()
            subprocess.run([tools / tool, *options], stdin=into, stdout=out, stderr=subprocess.DEVNULL, check=True)
            seconds[step] = time.perf_counter() - started
    training, loss = trained(tools / "glove", recipe, files, seed)
    words = [line.rsplit(" ", 1)[0] for line in files["vocab.txt"].read_text(encoding="utf-8").splitlines()]
    known = data.words[: int((data.counts >= recipe.min_count).sum())]
    if set(words) != set(known):
        raise RuntimeError(f"Got {len(words)} words from vocab_count; expected the same {len(known)}.")
    both = np.fromfile(files["vectors"].with_suffix(".bin")).reshape(2, -1, recipe.dim + 1)[
        :, : len(words), : recipe.dim
    ]
    matrix = both.sum(axis=0).astype(np.float32)
    pairs = files["pairs.bin"].stat().st_size // 16
    found = {"seed": seed, **seconds, "training": training, "pairs": pairs, "loss": loss}
    return found | scores(words, matrix, known)


def trained(tool: Path, recipe: Glove, files: dict[str, Path], seed: int) -> tuple[float, list[float]]:
    """Seconds from the end of its preparations to that of the last epoch, and the cost of each."""
    given = {
        "input-file": files["shuffled.bin"], "vocab-file": files["vocab.txt"], "save-file": files["vectors"], "binary": 1,
        "vector-size": recipe.dim, "threads": recipe.threads, "iter": recipe.epochs, "eta": recipe.lr,
        "alpha": recipe.alpha, "x-max": recipe.x_max, "seed": seed + 1, "verbose": 2,
    }  # fmt: skip
    command = [str(tool), *(str(word) for name, value in given.items() for word in (f"-{name}", value))]
    loss, started, last = [], 0.0, 0.0
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = time.perf_counter()
            if "alpha:" in line:
                started = last
            elif "cost:" in line:
                loss.append(float(line.rsplit(":", 1)[1]))
                finished = last
    if process.returncode or len(loss) != recipe.epochs:
        raise RuntimeError(f"The peer {tool.name} failed with code {process.returncode} after {len(loss)} epochs.")
    return finished - started, loss


def measure(options: argparse.Namespace) -> Result:
    """Ours and theirs by turns until each has its number of seeds."""
    asked = {"dim": options.dim, "epochs": 2 if options.small else options.epochs, "threads": options.threads}
    recipe = Glove.model_validate(asked)
    there = all((options.glove / tool).is_file() for tool in TOOLS)
    if not there:
        print(f"  peer skipped: no {', '.join(TOOLS)} in {common.shown(options.glove)}; see benchmarks/README.md, or name a folder with --glove")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="polyvec-glove-") as name:
        folder = Path(name)
        data = corpus(options, folder)
        write_lines(data, folder / "corpus.txt", recipe.min_count)
        common.say(f"{len(data.tokens):,} tokens; {recipe!r}")
        warm_up(data, recipe)
        mine: list[dict[str, Any]] = []
        peers: list[dict[str, Any]] = []
        for seed in range(max(options.seeds, options.peer_seeds)):
            if seed < options.seeds:
                mine.append(ours(data, recipe, seed))
                common.say(f"ours   {mine[-1]}")
            if there and seed < options.peer_seeds:
                peers.append(theirs(options.glove, data, recipe, folder, seed))
                common.say(f"theirs {peers[-1]}")
    settings = {
        **recipe.model_dump(),
        "tokens": len(data.tokens),
        "vocabulary": int((data.counts >= recipe.min_count).sum()),
    }
    notes = [
        f"scores are means of {len(mine)} seed(s) of ours and {len(peers)} of theirs; costs are those of the first"
    ]
    if peers:
        notes.append(f"their shuffling, which ours needs not: {median(run['shuffling'] for run in peers):.1f} s")
    return Result(
        "glove", rows(mine, peers, len(data.tokens), recipe), settings, {"ours": mine, "theirs": peers}, notes
    )


def warm_up(data: Corpus, recipe: Glove) -> None:
    """Compile the kernels on a few documents."""
    few = min(200, len(data.offsets) - 1)
    part = Corpus(data.words, data.counts, data.tokens[: data.offsets[few]], data.offsets[: few + 1])
    recipe.model_copy(update={"epochs": 1, "min_count": 1}).fit(part)


def rows(mine: Sequence[dict[str, Any]], peers: Sequence[dict[str, Any]], tokens: int, recipe: Glove) -> list[Row]:
    """Counting and training."""

    def rate(runs: Sequence[dict[str, Any]], step: str, work: float) -> float | None:
        return work / median(run[step] for run in runs) if runs else None

    def pair(show: Any) -> str:
        return " / ".join(show(runs[0]) for runs in (mine, peers) if runs)

    work = mine[0]["pairs"] * recipe.epochs
    counting, training = (
        rate(mine, step, amount) or 0.0 for step, amount in (("counting", tokens), ("training", work))
    )
    costs = sorted({0, 1, recipe.epochs // 2, recipe.epochs - 1})
    cost = "; ".join(f"{k + 1}: {pair(lambda run, k=k: format(run['loss'][k], '.5f'))}" for k in costs)
    return [
        Row(
            f"GloVe co-occurrence, {tokens / 1e6:.1f} M words, window {recipe.window}, {recipe.threads} threads", "words/s",
            counting, rate(peers, "counting", tokens), "Stanford C cooccur", f"pairs {pair(lambda run: format(run['pairs'], ','))}",
        ),
        Row(
            f"GloVe training dim {recipe.dim}, {recipe.epochs} epochs, {recipe.threads} threads", "pairs/s",
            training, rate(peers, "training", work), "Stanford C glove", f"{beside(mine, peers)}; cost of epoch {cost}",
        ),
    ]  # fmt: skip


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--glove", type=Path, default=common.REPO / ".venv-peers/c/GloVe/build", help="folder of the C tools"
    )
    parser.add_argument("--corpus", type=Path, help="another text file, a document a line; .gz is read too")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of ours")
    parser.add_argument("--peer-seeds", type=int, default=1, help="trainings of theirs; each takes minutes")
    common.run("glove", measure, parser.parse_args())


if __name__ == "__main__":
    main()
