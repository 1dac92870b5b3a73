"""The pipelines of `examples/`: what they read is written as they expect it, and they run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.pipeline import Pipeline
from flows.plan import make_plan
from tests.helpers_store import process

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def movielens(tmp_path):
    return Path(shutil.copytree(EXAMPLES / "movielens", tmp_path / "movielens", ignore=shutil.ignore_patterns("data", "vectors")))  # fmt: skip


def prepare(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, folder / "prepare.py", *given], capture_output=True, text=True)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/polyvec.yaml")), ids=lambda file: file.parent.name)
def test_every_example_is_a_pipeline(file):
    assert Pipeline.load(file).spaces


def test_what_is_missing_is_said(movielens, tmp_path):
    done = prepare(movielens, str(tmp_path))
    assert done.returncode == 1 and "u.item is missing" in done.stderr


def test_movielens_is_prepared_and_planned(movielens, shared_data):
    assert prepare(movielens, str(shared_data("useritem_movielens_100k"))).returncode == 0
    lines = (movielens / "data/ratings.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 100_001 and lines[1] == "196\tKolya (1996)\t3\t881250949"
    assert len({line.split("\t")[1] for line in lines[1:]}) == 1_682  # films of one title keep apart
    made = make_plan(Pipeline.load(movielens / "polyvec.yaml"))
    assert {space.name for space in made.spaces} >= {"taste.users", "liked.items", "seen.rows", "seen.film"}


@pytest.mark.slow
def test_movielens_runs(movielens, shared_data, tmp_path):
    prepare(movielens, str(shared_data("useritem_movielens_100k")))
    done = process("run", cwd=movielens, home=tmp_path)
    assert done.wait() == 0, done.stderr
    store = Pipeline.load(movielens / "polyvec.yaml").vectors
    scores = {row["metric"]: row["value"] for row in store.metrics(store.space("taste.users").version("latest"))}
    assert scores["ndcg@10"] > 1.5 * scores["ndcg@10[popularity]"]
    assert len(store.find("picks")) == 943 * 10
