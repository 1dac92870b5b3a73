"""The benchmarks of text: what they count and read, and that the small run works whether peers are there or not."""

import doctest
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedders.data import Corpus

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(REPO)


def test_their_examples_hold():
    from benchmarks import common, text, text_peers

    for module in (common, text, text_peers):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_vectors_of_word2vec_c_are_read(tmp_path):
    from benchmarks.text_peers import read_binary

    matrix = np.arange(9, dtype=np.float32).reshape(3, 3) + 10  # 10.0 has the byte of a line end in its pattern
    rows = [
        word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(("</s>", "año", "b"), matrix, strict=True)
    ]
    (tmp_path / "vectors.bin").write_bytes(b"3 3\n" + b"".join(rows))
    words, found = read_binary(tmp_path / "vectors.bin")
    assert words == ["año", "b"]
    assert np.array_equal(found, matrix[1:])


def test_vectors_of_fasttext_are_read(tmp_path):
    from benchmarks.text_peers import read_text

    # a line separator is no end of a line here
    (tmp_path / "vectors.vec").write_text("3 2\na\u2028b 1 -0.5 \n</s> 2 2 \nc 1e-05 3 \n", encoding="utf-8")
    words, found = read_text(tmp_path / "vectors.vec")
    assert words == ["a\u2028b", "c"]
    assert np.array_equal(found, np.array([[1, -0.5], [1e-5, 3]], np.float32))


def test_contexts_are_those_of_a_simulation():
    from benchmarks.text import contexts

    rng = np.random.default_rng(0)
    tokens = rng.choice(6, 4000, p=[0.5, 0.2, 0.1, 0.1, 0.06, 0.04]).astype(np.int32)
    offsets = np.concatenate([[0], np.arange(300), np.arange(300, 2000, 30), [2000, 4000]])  # 299 of one word
    counts = np.bincount(tokens)
    data = Corpus(list("abcdef"), counts, tokens, offsets)
    known, sample, window = counts[:5], 0.05, 4
    share = known / known.sum()
    chance = np.append(np.minimum(1, (np.sqrt(share / sample) + 1) * sample / share), 0)
    rounds, seen = 30, 0
    for _ in range(rounds):
        kept = rng.random(len(tokens)) < chance[tokens]
        for first, last in itertools.pairwise(offsets):
            n = int(kept[first:last].sum())
            reach = rng.integers(1, window + 1, n)
            place = np.arange(n)
            seen += int((np.minimum(place, reach) + np.minimum(n - 1 - place, reach)).sum())
    assert contexts(known, data, sample, window) == pytest.approx(seen / rounds, rel=0.01)


@pytest.mark.slow
def test_a_small_run_of_text_and_its_rows(shared_data, tmp_path):
    shared_data("text_wikipedia_en"), shared_data("word_eval")
    command = [
        sys.executable,
        "-m",
        "benchmarks.text",
        "--small",
        "--results",
        str(tmp_path),
        "--fasttext",
        str(tmp_path / "none"),
    ]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "text.json").read_text(encoding="utf-8"))["rows"]
    whats = {row["what"].split(",")[0].split(":")[0] for row in rows}
    assert len(whats) == 6
    assert all(row["ours"] > 0 for row in rows)
    absent = [row for row in rows if row["against"].startswith("fastText")]
    assert len(absent) == 6
    assert all(row["peer"] is None and "make peers-c" in row["against"] for row in absent)
    limits = [row for row in rows if row["unit"] == "flop/s"]
    assert len(limits) == 2
    assert all(row["ratio"] > 0 for row in limits)
