"""Runs of shared spaces: found by text and picture, judged across views."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from embedders.errors import InputError
from flows import steps
from flows.cli.main import app
from flows.pipeline import Pipeline
from flows.plan import make_plan

PIPELINE = """
store: ./vectors
datasets:
  texts: {kind: corpus, path: texts.jsonl, columns: {id: id, text: text}}
  links: {kind: graph, edges: links.tsv}
  shots: {kind: images, path: shots, id: stem}
spaces:
  said: {dataset: texts, embedder: tfidf, params: {dim: 6, min_count: 1, threads: 1}}
  linked: {dataset: links, embedder: spectral, params: {dim: 6, threads: 1}}
  looks: {dataset: shots, embedder: cnn, params: {backbone: small, weights: random, threads: 1, compile: false}}
  both: {fuse: [said, linked], embedder: cca, params: {dim: 3, rows: said}}
  seen: {fuse: [said, looks], embedder: cca, params: {dim: 2}}
  deep: {fuse: [both, linked], embedder: contrastive, params: {dim: 4, epochs: 20}}
evaluate:
  both: [{name: find, metric: cross_modal, held_out: 10}]
"""
TOPICS = ("wine grape cellar", "rail train station", "sea wave shore")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    words = [topic.split() for topic in TOPICS]
    rows = [{"id": f"э{i}", "text": " ".join(rng.choice(words[i % 3], 8))} for i in range(45)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [(i, j) for i in range(60) for j in range(i) if rng.random() < (0.5 if i % 3 == j % 3 else 0.03)]
    (tmp_path / "links.tsv").write_text("".join(f"э{i}\tэ{j}\n" for i, j in pairs))
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path


def made(folder, *names):
    pipeline = Pipeline.load(folder / "polyvec.yaml")
    return pipeline, [steps.embed(pipeline, name, name)[name] for name in names]


def search(folder, *words):
    return CliRunner().invoke(app, ["search", *words, "-f", str(folder / "polyvec.yaml"), "-k", "3", "--json"])


def of_topic(result, topic):
    found = [row["id"] for row in json.loads(result.stdout)]
    return len(found) == 3 and all(int(name[1:]) % 3 == topic for name in found)


def test_a_text_finds_rows_of_documents_and_of_spaces_made_of_them(folder):
    made(folder, "said", "linked", "both", "deep")
    for space in ("said", "both", "deep"):
        result = search(folder, space, "Train and RAIL")
        assert of_topic(result, 1), space
        assert "'Train and RAIL' is a text; its vector was made with the encoder of said @ 1." in result.stderr
    assert of_topic(search(folder, "both", "э3"), 0)  # an id
    assert "is a text" not in search(folder, "both", "э3").stderr


def test_texts_without_a_known_word(folder):
    made(folder, "said", "linked", "both")
    for words, says in (
        ("quux", "Got 'quux', of which said @ 1 has no vector. no_known_word"),
        ("!?", "Got '!?', which is no id and holds no word"),
    ):
        result = search(folder, "both", words)
        assert isinstance(result.exception, InputError)
        assert says in str(result.exception)
    result = search(folder, "linked", "rail")
    assert isinstance(result.exception, InputError)
    assert "Got 'rail', which is no id of linked @ 1" in str(result.exception)


def test_the_versions_that_it_was_made_of_answer(folder):
    made(folder, "said", "linked", "both")
    before = json.loads(search(folder, "both", "sea wave").stdout)
    with (folder / "texts.jsonl").open("a") as file:
        file.write(json.dumps({"id": "э45", "text": "grape grape sea"}) + "\n")
    pipeline, _ = made(folder, "said")
    assert pipeline.vectors.space("said").latest().number == 2
    assert json.loads(search(folder, "both", "sea wave").stdout) == before
    assert {s.name: s.reason for s in make_plan(pipeline, only=["both"]).spaces}["both"] == "said changed"


def test_a_picture_finds_texts(folder):
    from PIL import Image

    (folder / "shots").mkdir()
    for i in range(45):
        colour = tuple(200 if c == i % 3 else 20 + i for c in range(3))
        Image.new("RGB", (32, 32), colour).save(folder / "shots" / f"э{i}.png")
    made(folder, "said", "looks", "seen")
    result = search(folder, "seen", str(folder / "shots" / "э4.png"))
    assert of_topic(result, 1)
    assert "is a picture file; its vector was made with the encoder of looks @ 1." in result.stderr
    assert of_topic(search(folder, "seen", "shore"), 2)
    gone = search(folder, "seen", "./gone.png")
    assert isinstance(gone.exception, InputError) and "gone.png" in str(gone.exception)


def test_a_long_question(folder):
    """Longer than the name of a file may be."""
    from PIL import Image

    (folder / "shots").mkdir()
    for i in range(45):
        Image.new("RGB", (32, 32), tuple(200 if c == i % 3 else 20 + i for c in range(3))).save(folder / "shots" / f"э{i}.png")  # fmt: skip
    made(folder, "said", "looks", "seen")
    assert of_topic(search(folder, "seen", "sea wave shore " * 40), 2)
    result = search(folder, "looks", "sea " * 100)
    assert isinstance(result.exception, InputError) and "no picture file" in str(result.exception)


def test_views_find_each_other(folder):
    pipeline, refs = made(folder, "said", "linked", "both")
    score = steps.evaluate_space(pipeline, refs[-1], "find")
    assert list(score.scores)[:2] == ["recall@10", "chance"]
    assert {"recall@1[said>linked]", "median_rank[linked>said]"} <= set(score.scores)
    assert score.n == 10
    assert steps.evaluate_space(pipeline, refs[-1], "find") == score
    both = pipeline.vectors.space("both").latest()
    notes = next(row["notes"] for row in pipeline.vectors.metrics(both) if row["notes"])
    assert (json.loads(notes)["trained_on"], json.loads(notes)["held_out"]) == (50, 10)
    assert len(both) == 45
    assert both.manifest.counts.excluded == {"not asked for by rows: said": 15}


def test_too_few_to_hold_out(folder):
    (folder / "polyvec.yaml").write_text(PIPELINE.replace("held_out: 10", "held_out: 30"))
    pipeline, refs = made(folder, "said", "linked", "both")
    with pytest.raises(InputError, match="Got held_out: 30, and 45 entities of both are in two spaces or more"):
        steps.evaluate_space(pipeline, refs[-1], "find")


def test_sides_can_be_fused(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"u{u}\ti{3 * rng.integers(0, 8) + u % 3}" for u in range(30) for _ in range(6)]
    (tmp_path / "events.tsv").write_text("".join(f"{row}\n" for row in dict.fromkeys(rows)))
    (tmp_path / "links.tsv").write_text(
        "".join(f"i{i}\ti{j}\n" for i in range(24) for j in range(i) if (i - j) % 3 == 0)
    )
    (tmp_path / "polyvec.yaml").write_text("""
store: ./vectors
datasets:
  events: {kind: interactions, path: events.tsv}
  links: {kind: graph, edges: links.tsv}
spaces:
  taste: {dataset: events, embedder: als, params: {dim: 4, threads: 1}}
  linked: {dataset: links, embedder: prone, params: {dim: 4}}
  items: {fuse: [taste.items, linked], embedder: cca, params: {dim: 1}}
  side: {fuse: [taste.items, linked], embedder: concat}
""")
    pipeline = Pipeline.load(tmp_path / "polyvec.yaml")
    for name in ("taste", "linked", "items", "side"):
        steps.embed(pipeline, name, name)
    assert pipeline.vectors.space("items").latest().manifest.upstream == {"taste.items": 1, "linked": 1}
    assert pipeline.vectors.space("side").latest().dim == 8
