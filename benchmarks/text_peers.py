"""The peers of `benchmarks.text`: gensim in its own environment, word2vec.c and fastText as programs.

Each is asked for one training on the same lines of tokens and says how long the training alone took; reading the
vocabulary, first matrices, noise tables and writing the result are left out:

- gensim: the clock around `train(corpus_file=...)`.
- word2vec.c prints its progress while it trains; the time between the first and the last such line, stretched to 100 %.
- fastText prints words/sec/thread over its training threads at the end. It counts the line end as a word and, against
  its own intention, passes over words that are too rare without counting them, so that five epochs are a few per cent
  more than five; the rate is taken as it is and put into raw tokens.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.common import SkippedError
from embedders.base import Matrix

LINE_END = "</s>"  # a word of word2vec.c's and fastText's vocabularies, not of the corpus


@dataclass(frozen=True)
class Task:
    """One training, in our words. `min_n`, `max_n` and `buckets` are used with `subwords` only."""

    model: str = "skipgram"  # skipgram | cbow
    loss: str = "ns"  # ns | hs
    subwords: bool = False
    dim: int = 100
    window: int = 5
    negative: int = 5
    sample: float = 1e-3
    min_count: int = 5
    lr: float = 0.025
    epochs: int = 5
    threads: int = 2
    seed: int = 0
    min_n: int = 3
    max_n: int = 6
    buckets: int = 2_000_000


@dataclass(frozen=True, eq=False)
class Trained:
    """seconds: of training, for `epochs` passes over the corpus. matrix: a row for each of `words`."""

    seconds: float
    words: Sequence[str]
    matrix: Matrix


@dataclass(frozen=True)
class Lines:
    """The corpus as a file of tokens. known: tokens of words that occur `min_count` times."""

    path: Path
    raw: int
    known: int
    count: int


Peer = Callable[[argparse.Namespace, Task, Lines, Path], Trained]


def gensim(options: argparse.Namespace, task: Task, lines: Lines, folder: Path) -> Trained:
    """One training of gensim from its `corpus_file`."""
    out = folder / "gensim.npz"
    message = {**asdict(task), "seed": task.seed + 1, "corpus": str(lines.path), "out": str(out)}
    answer = common.peer(options, "gensim_words.py", message)
    if answer is None:
        raise SkippedError("not here (make bench)")
    if answer["raw_tokens"] != lines.raw:
        raise RuntimeError(f"Got {answer['raw_tokens']} tokens from gensim; expected the same {lines.raw}.")
    with np.load(out) as found:
        return Trained(answer["seconds"], found["words"].tolist(), found["matrix"])


def gensim_alone(options: argparse.Namespace, task: Task, lines: Lines, folder: Path) -> Trained:
    """The same on one thread, whose learning rate falls as it should."""
    return gensim(options, replace(task, threads=1), lines, folder)


def word2vec_c(options: argparse.Namespace, task: Task, lines: Lines, folder: Path) -> Trained:
    """One training of the original program; it has no seed, its runs differ by the race of its threads."""
    if task.subwords:
        raise ValueError("Got subwords; word2vec.c has none.")
    program, out = present(options.word2vec_c), folder / "word2vec.bin"
    asked = {
        "train": lines.path, "output": out, "size": task.dim, "window": task.window, "sample": task.sample,
        "hs": int(task.loss == "hs"), "negative": 0 if task.loss == "hs" else task.negative, "threads": task.threads,
        "iter": task.epochs, "min-count": task.min_count, "alpha": task.lr, "cbow": int(task.model == "cbow"),
        "binary": 1, "debug": 2,
    }  # fmt: skip
    marks: list[tuple[float, float]] = []
    with subprocess.Popen([str(program), *flags(asked)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while text := os.read(process.stdout.fileno(), 1 << 16):
            if found := re.findall(rb"Progress: ([\d.]+)%", text):
                marks.append((time.perf_counter(), float(found[-1])))
    if process.returncode:
        raise RuntimeError(f"word2vec.c ended with code {process.returncode}.")
    return Trained(stretched(marks), *read_binary(out))


def stretched(marks: Sequence[tuple[float, float]]) -> float:
    """Seconds for 100 %, from (clock, per cent) of the first and the last report.

    >>> stretched([(10.0, 1.0), (12.0, 30.0), (19.9, 100.0)])
    10.0
    """
    (began, low), (ended, high) = marks[0], marks[-1]
    return (ended - began) / (high - low) * 100


def fasttext(options: argparse.Namespace, task: Task, lines: Lines, folder: Path) -> Trained:
    """One training of fastText; without subwords the lengths of its n-grams are 0."""
    program, out = present(options.fasttext), folder / "fasttext"
    model = out.with_suffix(".bin")
    model.unlink(missing_ok=True)
    model.symlink_to(os.devnull)  # up to a gigabyte that nobody reads; the vectors go to fasttext.vec
    asked = {
        "input": lines.path, "output": out, "dim": task.dim, "ws": task.window, "t": task.sample, "loss": task.loss,
        "neg": task.negative, "thread": task.threads, "epoch": task.epochs, "minCount": task.min_count, "lr": task.lr,
        "seed": task.seed, "minn": task.min_n if task.subwords else 0, "maxn": task.max_n if task.subwords else 0,
        "bucket": task.buckets, "verbose": 1,
    }  # fmt: skip
    command = [str(program), "cbow" if task.model == "cbow" else "skipgram", *flags(asked)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fastText ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    rate = float(re.findall(r"words/sec/thread:\s*(\d+)", done.stderr)[-1]) * task.threads
    seconds = task.epochs * (lines.known + lines.count) / rate
    return Trained(seconds, *read_text(out.with_suffix(".vec")))


def flags(asked: Mapping[str, object]) -> list[str]:
    """Options of a program.

    >>> flags({"dim": 3, "lr": 0.5})
    ['-dim', '3', '-lr', '0.5']
    """
    return [word for name, value in asked.items() for word in (f"-{name}", str(value))]


def present(program: Path) -> Path:
    """The program, or why it is left out."""
    if not program.is_file():
        raise SkippedError("not here (make peers-c)")
    return program


def read_binary(path: Path) -> tuple[list[str], Matrix]:
    """Vectors that word2vec.c wrote with `-binary 1`; without the line end."""
    data = path.read_bytes()
    place = data.index(b"\n") + 1
    n, dim = map(int, data[:place].split())
    words, matrix = [], np.empty((n, dim), np.float32)
    for row in range(n):
        space = data.index(b" ", place)
        words.append(data[place:space].decode())
        matrix[row] = np.frombuffer(data, np.float32, dim, space + 1)
        place = space + 1 + 4 * dim + 1
    return without_line_end(words, matrix)


def read_text(path: Path) -> tuple[list[str], Matrix]:
    """Vectors that fastText wrote as text; without the line end."""
    with path.open(encoding="utf-8") as file:
        n, dim = map(int, file.readline().split())
        words, matrix = [], np.empty((n, dim), np.float32)
        for row, line in enumerate(file):
            word, numbers = line.split(" ", 1)
            words.append(word)
            matrix[row] = np.fromstring(numbers, np.float32, sep=" ")
    return without_line_end(words, matrix)


def without_line_end(words: Sequence[str], matrix: Matrix) -> tuple[list[str], Matrix]:
    kept = [row for row, word in enumerate(words) if word != LINE_END]
    return [words[row] for row in kept], matrix[kept]
