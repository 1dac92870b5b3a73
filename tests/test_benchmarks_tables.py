"""The benchmark of tables: the small run works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_small_run(tmp_path, shared_data):
    shared_data("useritem_movielens_100k")
    command = [sys.executable, "-m", "benchmarks.tables", "--small", "--threads", "1", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row["ours"] for row in json.loads((tmp_path / "tables.json").read_text())["rows"]}
    assert len(rows) == 15 and rows["ratings: one-hot"] < 1 and 0.4 < rows["dramas: categories"] < 1
