"""The documentation says what is true: its tables come from the code, its examples run."""

import os
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest

from embedders.registry import embedder_class, known
from tests.flow_helpers import command_line

ROOT = Path(__file__).resolve().parents[1]


def parameter_table(kind: str) -> list[str]:
    """The rows that docs/embedders.md must hold for one embedder."""
    recipe = embedder_class(kind)
    rows = []
    for name, field in recipe.model_fields.items():
        how = "no" if name in recipe.execution_only() else "yes"
        rows.append(f"| `{name}` | `{field.default}` | {how} | {field.description} |")
    return rows


@pytest.mark.parametrize(
    "kind", sorted(name for name, point in known().items() if point.value.startswith("embedders."))
)
def test_every_parameter_stands_in_the_docs_with_its_default(kind):
    text = (ROOT / "docs/embedders.md").read_text(encoding="utf-8")
    section = text.split(f"## {kind}\n")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == parameter_table(kind)


def test_every_installed_embedder_of_ours_is_documented():
    ours = {name for name, point in known().items() if point.value.startswith("embedders.")}
    text = (ROOT / "docs/embedders.md").read_text(encoding="utf-8")
    assert ours == set(re.findall(r"^## (\S+)$", text, re.MULTILINE))


def test_the_embedder_of_the_walkthrough_passes_the_conformance_suite(tmp_path, monkeypatch):
    from embedders import registry
    from embedders.testing import CHECKS, EXAMPLES, Case

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)\n *```", text, re.DOTALL)
    (tmp_path / "my_spectral.py").write_text(textwrap.dedent(block), encoding="utf-8")
    info = tmp_path / "my_spectral-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-spectral\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[polyvec.embedders]\nspectral = my_spectral:Spectral\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the suite also asks a process of its own
    registry.known.cache_clear()
    try:
        recipe = registry.embedder_class("spectral")(dim=4)
        (tmp_path / "data").mkdir()
        case = Case(recipe, EXAMPLES[recipe.data](tmp_path / "data"), tmp_path / "data")
        for check in CHECKS:
            check(case)
    finally:
        registry.known.cache_clear()


PIPELINE = """\
store: ./vectors
datasets:
  text: {kind: corpus, path: text.txt}
spaces:
  words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 1, threads: 1}}
"""


@pytest.fixture
def reading(tmp_path, monkeypatch, capsys):
    """Runs the blocks of docs/reading.md whose text holds something, in their order; returns what they print."""
    from flows.pipeline import Pipeline
    from flows.steps import embed

    (tmp_path / "text.txt").write_text("music jazz song\nriver lake water\n" * 40, encoding="utf-8")
    (tmp_path / "polyvec.yaml").write_text(PIPELINE, encoding="utf-8")
    embed(Pipeline.load(tmp_path / "polyvec.yaml"), "words", "docs")
    cli = command_line(tmp_path, monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}

    def run(wanted):
        said = []
        for language, block in blocks:
            if not wanted(block):
                continue
            if language == "python":
                exec(compile(block, "docs/reading.md", "exec"), names)
                said.append(capsys.readouterr().out)
            else:
                assert language == "bash"
                for line in block.splitlines():
                    program, *args = shlex.split(line)
                    answer = cli(*args)
                    assert (program, answer.code) == ("polyvec", 0), answer.err
                    said.append(answer.out)
        return said

    yield run
    names.clear()  # or DuckDB's relation outlives its library


def test_the_reading_examples_run_as_written(reading):
    numpy, arrow, _, polars, duckdb, stream, *exports, gensim, mapped = reading(lambda block: "pyspark" not in block)
    assert "(6, 8)" in numpy
    assert "'music'" in arrow and "'river'" in arrow and "'jazz'" not in arrow
    assert "dim" in polars and polars.endswith("6\n")
    assert "cosine" in duckdb and "jazz" in duckdb
    assert stream == "6\n"
    assert len(exports) == 3 and all(said.startswith("words @ 1: 6 vectors of 8 numbers") for said in exports)
    assert gensim.count("('") == 3 and "music" not in gensim
    assert gensim.split("\n")[-2] == mapped.rstrip("\n")


@pytest.mark.slow
def test_the_spark_example_runs_as_written(reading, tmp_path, monkeypatch):
    sql = pytest.importorskip("pyspark.sql", reason="no pyspark here; do: pip install -c constraints.txt '.[spark]'")
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("Spark needs Java 17, and there is no java on the path nor in JAVA_HOME")
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "local"))
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[1] --conf spark.ui.enabled=false pyspark-shell")
    try:
        said = reading(lambda block: "pyspark" in block or "files = version.files" in block)
    finally:
        if session := sql.SparkSession.getActiveSession():
            session.stop()
    rows = [line.split("|") for line in said[-1].splitlines() if "|" in line]
    assert [[cell.strip() for cell in row[1:3]] for row in rows] == [
        ["id", "dim"],
        ["jazz", "8"],
        ["lake", "8"],
        ["music", "8"],
    ]
