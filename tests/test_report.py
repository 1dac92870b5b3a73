"""The run report: results, headlines, neighbours and pictures."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from flows import pictures, steps
from flows.pictures import draw
from flows.pipeline import Pipeline
from flows.report import Row, cells, headline, inline, markdown_table, write_report
from flows.report_spaces import neighbours_of
from flows.steps import ScoreRef, VersionRef
from storage.store import VectorStore
from tests.helpers_store import AWKWARD, edit, encoder_of, matrix_of, put, run_steps, write_project

PIL = pytest.importorskip("PIL.Image")


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


def score(**scores):
    return ScoreRef(
        space="s", version=1, evaluation="kind", scores={k.replace("__", "["): v for k, v in scores.items()}
    )


def row(**more):
    ref = {"space": "s", "version": 3, "rows": 12_345, "dim": 8, "seconds": 2.0, "path": "/p", "fresh": True}
    return Row.of(VersionRef(**(ref | more)), [])


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ({"spearman": 0.5}, "kind spearman 0.500"),
        ({"spearman": 0.5, "coverage": 0.9}, "kind spearman 0.500 (coverage 0.900)"),
        ({"same_label": 0.5, "chance": 0.1}, "kind same_label 0.500 (chance 0.100)"),
        ({"accuracy": 0.75, "macro_f1": 0.7, "majority": 0.2, "accuracy[pixels]": 0.4}, "kind accuracy 0.750, macro_f1 0.700 (majority 0.200, pixels 0.400)"),
        ({"micro_f1": 0.4, "macro_f1": 0.3, "majority": 0.2, "micro_f1[degrees]": 0.25, "micro_f1[0.1]": 0.3, "macro_f1[0.1]": 0.2}, "kind micro_f1 0.400, macro_f1 0.300 (majority 0.200, degrees 0.250)"),
        ({"auc": 0.9, "average_precision": 0.8, "auc[common_neighbours]": 0.7, "average_precision[common_neighbours]": 0.6}, "kind auc 0.900, average_precision 0.800 (common_neighbours 0.700)"),
    ],
)  # fmt: skip
def test_headline(scores, shown):
    assert headline(ScoreRef(space="s", version=1, evaluation="kind", scores=scores)) == shown


def test_a_headline_says_how_wide_a_baseline_is_and_leaves_sections_out():
    scores = {"accuracy": 0.85, "macro_f1": 0.8, "accuracy[one_hot]": 0.9, "section[family]": 0.1}
    sizes = {"vectors": {"dim": 100, "bytes": 400}, "one_hot": {"dim": 12_392, "bytes": 5, "sparse_bytes": 1}}
    found = headline(ScoreRef(space="s", version=1, evaluation="topic", scores=scores, sizes=sizes))
    assert found == "topic accuracy 0.850, macro_f1 0.800 (one_hot 0.900 of dim 12,392)"


def test_a_headline_counts_in_whole_numbers():
    scores = {"share": 0.25, "exact_share": 0.125, "pairs": 1_234.0, "exact_groups": 0.0}
    found = headline(ScoreRef(space="s", version=1, evaluation="twins", scores=scores, n=8))
    assert found == "twins share 0.250, n 8 (exact_share 0.125, pairs 1,234, exact_groups 0)"


def test_cells():
    found = cells(row(quarantined=1_234))
    assert (found["rows"], found["seconds"], found["rows/s"], found["version"]) == ("12,345", "2.0", "6,172", "3")
    assert found["status"] == "new, 1,234 quarantined"
    assert cells(row(fresh=False))["status"] == "up to date"
    assert cells(row(seconds=0.0))["seconds"] == "0.0"
    empty = cells(Row(space="s", status="failed"))
    assert (empty["version"], empty["rows"], empty["score (baseline)"], empty["status"]) == ("", "", "", "failed")


def test_markdown_table():
    lines = markdown_table([row(), Row(space="t", status="failed")]).splitlines()
    assert len(lines) == 4
    assert lines[0] == "| space | version | rows | dim | seconds | rows/s | score (baseline) | status |"
    assert set(lines[1]) <= set("|- ")
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| s | 3 | 12,345 | 8 |")


def picture(png: bytes):
    assert png.startswith(b"\x89PNG")
    with PIL.open(io.BytesIO(png)) as opened:
        opened.load()
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_a_picture_without_labels(store, n):
    pixels = picture(draw(put(store, encoder_of([f"n{i}" for i in range(n)])), {}))
    assert pixels.shape == (550, 800, 3)
    assert (pixels != 255).any()


@pytest.mark.parametrize("n", [1, 2, 40])
def test_a_picture_with_labels_is_coloured(store, n):
    version = put(store, encoder_of([f"n{i}" for i in range(n)]))
    pixels = picture(draw(version, {f"n{i}": "even" if i % 2 == 0 else "odd" for i in range(n)})).astype(int)
    saturation = pixels.max(axis=2) - pixels.min(axis=2)
    assert (saturation > 40).any()


def test_any_characters(store):
    version = put(store, encoder_of([*AWKWARD, "$x^2$", "a $ b", "\\frac", "_x", "#1", "[b]"]))
    picture(draw(version, {}))
    picture(draw(version, {name: name for name in version.ids}))


@pytest.mark.parametrize("label", ["_hidden", "$5", "$a$ and $b$", "日本語", "", " ", "x" * 300])
def test_any_label(store, label):
    version = put(store, encoder_of("abcd"))
    picture(draw(version, {"a": label, "b": label, "c": "other"}))
    picture(draw(version, dict.fromkeys("abcd", label)))


def test_labels_of_other_ids_are_no_labels(store):
    version = put(store, encoder_of("abcd"))
    assert draw(version, {"nobody": "x"}) == draw(version, {})


def test_more_labels_than_colours(store):
    ids = [f"n{i}" for i in range(60)]
    picture(draw(put(store, encoder_of(ids)), {name: f"label {i % 30}" for i, name in enumerate(ids)}))


@pytest.mark.parametrize("labelled", [0, 5, 200])
def test_many_rows_are_thinned_out(store, monkeypatch, labelled):
    monkeypatch.setattr(pictures, "POINTS", 50)
    ids = [f"n{i}" for i in range(300)]
    picture(draw(put(store, encoder_of(ids)), {name: "x" for name in ids[:labelled]}))


def test_equal_vectors(store):
    picture(draw(put(store, encoder_of("abcd", np.ones((4, 3), np.float32))), {}))
    picture(draw(put(store, encoder_of("abcd", np.zeros((4, 3), np.float32))), {}))


def test_the_same_version_gives_the_same_picture(store):
    version = put(store, encoder_of([f"n{i}" for i in range(40)]))
    assert draw(version, {}) == draw(version, {})


def test_neighbours(store):
    matrix = matrix_of(6)
    matrix[4] = matrix[1] * 2
    version = put(store, encoder_of("abcdef", matrix))
    [[first, *_], other] = neighbours_of(version, [1, 0], 3)
    assert first[0] == "e" and first[1] == pytest.approx(1)
    assert len(other) == 3 and "a" not in [name for name, _ in other]


def test_the_report_of_a_run(tmp_path):
    file = write_project(tmp_path)
    run_steps(file)
    pipeline = Pipeline.load(file)
    versions = [pipeline.vectors.find(name) for name in ("words", "nodes")]
    fresh = [
        Row.of(steps.version_ref(v, fresh=v.manifest.space == "nodes"), steps.recorded_scores(pipeline, v))
        for v in versions
    ]
    path = write_report(pipeline, "run1", [*fresh, Row(space="other", status="failed")])
    text = path.read_text(encoding="utf-8")
    assert path == pipeline.vectors.paths.report("run1") / "report.md"
    assert text.startswith("# polyvec run run1\n")
    assert "## nodes @ 1" in text and "## words" not in text  # only what is new has a section
    assert "side same_label" in text and "| other |" in text and "input 16, reused 0, excluded 0, quarantined 0" in text
    assert sorted(p.name for p in path.parent.iterdir()) == ["nodes.png", "report.md"]
    picture((path.parent / "nodes.png").read_bytes())
    inside = inline(path)
    assert "](data:image/png;base64," in inside and "nodes.png" not in inside


def test_labels_that_cannot_be_read_cost_only_the_colours(tmp_path):
    """The evaluation that needs them says what is wrong; the report is still written."""
    file = write_project(tmp_path)
    run_steps(file)
    (tmp_path / "labels.tsv").write_text("id\tother\na0\tx\n")
    pipeline = Pipeline.load(file)
    path = write_report(pipeline, "run1", [Row.of(steps.version_ref(pipeline.vectors.find("nodes"), fresh=True), [])])
    assert (path.parent / "nodes.png").exists()


def test_ids_do_not_break_the_markdown(tmp_path):
    file = write_project(tmp_path)
    edit(file, "metric: neighbours, path: labels.tsv, k: 3", "metric: neighbours, path: labels.tsv, k: 2")
    pipeline = Pipeline.load(file)
    ids = [f"{name}|<b>`*_[x](y)\n# head{i}" for i, name in enumerate(AWKWARD)]
    version = put(pipeline.vectors, encoder_of(ids), space="words")
    text = write_report(pipeline, "r", [Row.of(steps.version_ref(version, fresh=True), [])]).read_text(encoding="utf-8")
    section = text[text.index("## words @ 1") :]
    assert "head3" in section
    assert not re.search(r"(?<!\\)[<>|`]|(?<!\\)\](?!\(words\.png\))", section)
    assert [line[:2] for line in section.splitlines() if line.startswith("#")] == ["##"]


def test_recorded_scores_are_the_newest(tmp_path):
    file = write_project(tmp_path)
    run_steps(file)
    version = Pipeline.load(file).vectors.find("nodes")
    pipeline = Pipeline.load(file)
    [before] = steps.recorded_scores(pipeline, version)
    (tmp_path / "labels.tsv").write_text("id\tlabel\n" + "".join(f"{s}{i}\tsame\n" for s in "ab" for i in range(8)))
    run_steps(file)
    [after] = steps.recorded_scores(pipeline, version)
    assert before.scores["chance"] < 0.5 and after.scores == {"same_label": 1.0, "chance": 1.0}
