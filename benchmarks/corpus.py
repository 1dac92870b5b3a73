"""Text files to a numbered corpus, beside gensim's `build_vocab(corpus_file=...)`; and the memory that takes.

Ours is the whole of reading: words cut, counted and numbered, the token file written and mapped. gensim's pass counts
words and keeps none; its words are what stands between blanks, so `tokens: whitespace` is what compares. Files are warm
in the page cache; JIT compilation is left out. Memory is the peak of a fresh process (VmHWM).
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import Result, Row
from storage.inputs.corpus import lines, read_corpus

SMALL_LINES = 6_000


def plain_text(small: bool, folder: Path) -> Path:
    """The articles unpacked; with `small` their first lines."""
    path = folder / "corpus.txt"
    with path.open("wb") as file:
        for number, line in enumerate(lines(common.data("text_wikipedia_en") / "wikipedia_en.txt.gz")):
            if small and number == SMALL_LINES:
                break
            file.write(line + b"\n")
    return path


def parquet(path: Path) -> Path:
    """The same lines as rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [line.decode() for line in lines(path)]
    pq.write_table(pa.table({"text": rows}), path.with_suffix(".parquet"), row_group_size=10_000)
    return path.with_suffix(".parquet")


def timed(path: Path, found: dict[str, Any], **options: Any) -> Callable[[], float]:
    """A call that reads a file once and gives the seconds; `found` gets what it held."""

    def once() -> float:
        def read() -> None:
            corpus = read_corpus([(path.name, path)], **options)
            found.update(tokens=len(corpus.tokens), words=len(corpus.words))

        return common.seconds(read)

    return once


def rates(options: argparse.Namespace, path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Words a second of each way to read, by turns with gensim."""
    packed = path.with_suffix(".txt.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 6))
    ways: dict[str, tuple[Path, dict[str, Any]]] = {
        "whitespace": (path, {"tokens": "whitespace"}),
        "words": (path, {}),
        "words, .gz": (packed, {}),
        "words, .parquet": (parquet(path), {}),
        "words, sentences": (path, {"sentences": True}),
        "words, phrases": (path, {"phrases": True}),
    }
    found: dict[str, dict[str, Any]] = {name: {} for name in ways}
    calls = {name: timed(source, found[name], **asked) for name, (source, asked) in ways.items()}
    for call in calls.values():  # compiles, and warms the cache
        call()
    theirs: dict[str, Any] = {}

    def gensim() -> float:
        theirs.update(common.peer(options, "gensim_vocabulary.py", {"corpus": str(path), "threads": 2}) or {})
        return float(theirs.get("seconds", 0))

    gensim()
    runs = common.interleaved(calls | ({"gensim": gensim} if theirs else {}), options.rounds)
    if theirs and (theirs["tokens"], theirs["words"]) != (found["whitespace"]["tokens"], found["whitespace"]["words"]):
        raise RuntimeError(f"Got {found['whitespace']} by whitespace; expected what gensim finds: {theirs}.")
    medians = common.medians(runs)
    peer = theirs["tokens"] / medians.pop("gensim") if theirs else None
    rows = [
        Row(
            f"corpus read, {name}, {common.cores()} threads", "words/s", found[name]["tokens"] / seconds, peer,
            "gensim build_vocab(corpus_file)", f"{found[name]['tokens']:,} tokens, {found[name]['words']:,} words",
        )
        for name, seconds in medians.items()
    ]  # fmt: skip
    return rows, runs


def peak(path: Path, asked: dict[str, Any]) -> int:
    """Peak memory in bytes of a process that reads a file."""
    command = [sys.executable, "-m", "benchmarks.corpus", "--stream", json.dumps([str(path), asked])]
    done = subprocess.run(command, cwd=common.REPO, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def memory(path: Path, times: int) -> tuple[list[Row], dict[str, list[int]]]:
    """Peaks of reading a file and the same text so many times over: more tokens, no more words."""
    many = path.with_name("many.txt")
    with many.open("wb") as file:
        for _ in range(times):
            file.write(path.read_bytes())
    found: dict[str, list[int]] = {}
    for name, asked in (("plain", {}), ("sentences and phrases", {"sentences": True, "phrases": True})):
        found[name] = [peak(place, asked) for place in (path, many)]
    rows = [
        Row(
            f"peak memory of reading, {name}, {times} times the corpus", "x", large / small, against="target 1.2 x",
            quality=f"{small / 2**20:.0f} MiB for {path.stat().st_size / 1e6:.0f} MB of text, {large / 2**20:.0f} MiB for {many.stat().st_size / 1e6:.0f}",
        )
        for name, (small, large) in found.items()
    ]  # fmt: skip
    return rows, found


def measure(options: argparse.Namespace) -> Result:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="polyvec-corpus-") as name:
        path = plain_text(options.small, Path(name))
        common.say(f"{path.stat().st_size / 1e6:.0f} MB, {options.rounds} rounds")
        rows, runs = rates(options, path)
        peaks, bytes_ = memory(path, 10)
    return Result("corpus", rows + peaks, {"rounds": options.rounds}, {"seconds": runs, "peak_bytes": bytes_})


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is quoted")
    parser.add_argument("--stream", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stream:
        path, asked = options.stream
        read_corpus([("corpus", Path(path))], **asked)
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        return
    common.run("corpus", measure, options)


if __name__ == "__main__":
    main()
