"""The documentation says what is true: its tables come from the code, its examples run."""

import re
import textwrap
from pathlib import Path

import pytest

from embedders.registry import embedder_class, known

ROOT = Path(__file__).resolve().parents[1]


def parameter_table(kind: str) -> list[str]:
    """The rows that docs/embedders.md must hold for one embedder."""
    recipe = embedder_class(kind)
    rows = []
    for name, field in recipe.model_fields.items():
        how = "no" if name in recipe.execution_only() else "yes"
        rows.append(f"| `{name}` | `{field.default}` | {how} | {field.description} |")
    return rows


@pytest.mark.parametrize("kind", ["word2vec", "cnn", "node2vec"])
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


def test_the_reading_examples_run_as_written(tmp_path, monkeypatch, capsys):
    from flows.pipeline import Pipeline
    from flows.steps import embed_space

    (tmp_path / "text.txt").write_text("music jazz song\nriver lake water\n" * 40, encoding="utf-8")
    pipeline = Pipeline(
        store="vectors",
        datasets={"text": {"kind": "corpus", "path": "text.txt"}},
        spaces={"words": {"dataset": "text", "embedder": "word2vec", "params": {"dim": 8, "epochs": 1, "threads": 1}}},
        base=tmp_path,
    )
    embed_space(pipeline, "words", "docs")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/reading.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        exec(compile(block, "docs/reading.md", "exec"), names)
    said = capsys.readouterr().out
    assert "(6, 8)" in said
    assert "cosine" in said
    assert said.rstrip().endswith("6")
