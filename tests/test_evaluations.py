"""Judging graphs through a pipeline file: what is asked, what is refused, what is scored again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from embedders.data import HeldOut
from embedders.errors import InputError
from flows.evaluations import LinkPrediction
from flows.judging import judge
from flows.labels import known_labels
from flows.pipeline import Pipeline, schema
from flows.plan import make_plan
from storage.digests import DigestCache
from tests.helpers_store import PARAMS, edit, run_steps, write_edges, write_project

PIPELINE = f"""\
store: ./vectors
datasets:
  links: {{kind: graph, edges: links.tsv, hold_out: {{share: 0.2, seed: 3}}}}
  all: {{kind: graph, edges: links.tsv}}
  text: {{kind: corpus, path: text.txt}}
spaces:
  nodes: {{dataset: links, embedder: node2vec, params: {{{PARAMS["node2vec"]}}}}}
  whole: {{dataset: all, embedder: node2vec, params: {{dim: 8, walks: 100, length: 20, window: 2, lr: 0.1, threads: 1}}}}
evaluate:
  nodes:
    - {{name: links, metric: link_prediction}}
  whole:
    - {{name: sides, metric: node_classification, path: labels.tsv, train: [0.5, 0.25], repeats: 4}}
"""


@pytest.fixture
def file(tmp_path):
    return write_project(tmp_path, PIPELINE)


def scores(file, space, number="latest"):
    store = Pipeline.load(file).vectors
    version = store.space(space).version(number)
    return {row["metric"]: row for row in store.metrics(version)}


def test_links_are_judged_on_edges_that_no_training_saw(file):
    run_steps(file)
    found = scores(file, "nodes")
    assert list(found) == [
        f"{name}{of}"
        for of in ("", "[common_neighbours]", "[preferential_attachment]")
        for name in ("auc", "average_precision")
    ]
    assert 0.5 < found["auc"]["value"] <= 1 and found["auc"]["low"] < found["auc"]["value"]
    notes = json.loads(found["auc"]["notes"])
    assert (notes["edges"], notes["non_edges"], notes["missing"], notes["n"]) == (11, 11, 0, 22)  # of 57

    pipeline = Pipeline.load(file)
    spec = pipeline.datasets["links"]
    scan = spec.scan(pipeline.base, DigestCache(pipeline.vectors.paths.cache))
    held, training = (
        spec.read(scan, kind, cache=pipeline.base) for kind in (HeldOut, type(pipeline.recipe("nodes")).data)
    )
    for a, b in held.edges:
        assert b not in training.indices[training.indptr[a] : training.indptr[a + 1]]
    assert make_plan(pipeline).idle


def test_another_draw_of_edges_trains_and_judges_anew(file):
    run_steps(file)
    edit(file, "seed: 3", "seed: 4")
    plan = {space.name: space for space in make_plan(Pipeline.load(file)).spaces}
    assert (plan["nodes"].reason, plan["nodes"].evaluations) == ("the dataset changed", ("links",))
    assert plan["whole"].idle
    run_steps(file)
    assert len(scores(file, "nodes", 1)) == len(scores(file, "nodes", 2)) == 6


def test_a_version_is_not_judged_on_edges_it_may_know(file):
    run_steps(file)
    edit(file, "seed: 3", "seed: 4")
    pipeline = Pipeline.load(file)
    version = pipeline.vectors.space("nodes").version("latest")
    with pytest.raises(InputError, match=r"nodes @ 1, trained on the dataset 'links' before it changed"):
        judge(pipeline, version, LinkPrediction(name="links", metric="link_prediction"))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (", hold_out: {share: 0.2, seed: 3}", "", r"yaml:11: evaluate\.nodes\.0\.metric: got link_prediction, and nodes is of 'links', a dataset of kind graph that holds no edges out\. Add hold_out: \{share: 0\.1, seed: 0\} to links\."),
        ("nodes: {dataset: links, embedder: node2vec, params: {" + PARAMS["node2vec"], "nodes: {dataset: text, embedder: word2vec, params: {" + PARAMS["word2vec"], r"dataset of kind corpus that holds no edges out\. Take it out\."),
        ("dataset: links", "dataset: lonks", "lonks"),
        ("train: [0.5, 0.25]", "train: 1.5", r"^[^\n]*yaml:13: evaluate\.whole\.0\.train: got 1\.5; expected less than 1\.$"),
        ("train: [0.5, 0.25]", "train: []", r"yaml:13: evaluate\.whole\.0\.train: got \[\]; expected a share, such as 0\.9, or some\."),
        ("train: [0.5, 0.25]", "train: [0.5, x]", r"evaluate\.whole\.0\.train\.1: got \"x\"; expected a valid number"),
        ("repeats: 4", "repeats: 0", r"evaluate\.whole\.0\.repeats: got 0; expected"),
        ("repeats: 4", "split: part", r"either split, or train, repeats and seed"),
        ("repeats: 4", "part: x", r"unknown key 'part'; expected one of id, label, labels, metric, name, path, repeats, seed, split, train"),
        ("metric: link_prediction", "metric: link_prediction, path: labels.tsv", r"unknown key 'path'; expected one of metric, name"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(file, before, after, message):
    edit(file, before, after)
    with pytest.raises(InputError, match=message):
        Pipeline.load(file)


def test_each_share_is_recorded_and_degrees_stand_beside(file):
    run_steps(file)
    found = scores(file, "whole")
    names = {"micro_f1", "macro_f1", "majority", "micro_f1[degrees]"}
    assert set(found) == names | {f"{name}[{share}]" for name in ("micro_f1", "macro_f1") for share in (0.25, 0.5)}
    assert found["micro_f1"]["value"] == found["micro_f1[0.5]"]["value"] > 0.8
    assert found["micro_f1[degrees]"]["value"] < 0.8
    assert json.loads(found["micro_f1"]["notes"])["repeats"] == 4


def test_labels_are_several_where_a_file_says_so(file):
    labels = file.parent / "labels.jsonl"
    rows = [{"node": f"{side}{i}", "groups": [side, "first"] if i < 4 else [side]} for side in "ab" for i in range(8)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    edit(file, "path: labels.tsv", "path: labels.jsonl, id: node, label: groups")
    run_steps(file)
    notes = json.loads(scores(file, "whole")["micro_f1"]["notes"])
    assert notes["multi_label"] and (notes["n"], notes["classes"], notes["labels"]) == (16, 3, 1.5)
    assert known_labels(Pipeline.load(file), "whole") == {}  # no colours for two labels


def test_a_split_of_the_file(file):
    labels = file.parent / "labels.tsv"
    parts = ["train"] * 4 + ["val"] + ["test"] * 3
    rows = [f"{side}{i}\t{side}\t{parts[i]}" for side in "ab" for i in range(8)]
    labels.write_text("\n".join(["id\tlabel\tpart", *rows, ""]))
    edit(file, "train: [0.5, 0.25], repeats: 4", "split: part")
    run_steps(file)
    assert json.loads(scores(file, "whole")["micro_f1"]["notes"])["split"] == {"train": 8, "val": 2, "test": 6}
    labels.write_text(labels.read_text().replace("test", "dev"))
    with pytest.raises(InputError, match="'dev'"):
        run_steps(file)


def test_what_was_judged_is_judged_again_when_labels_or_options_change(file):
    run_steps(file)
    assert make_plan(Pipeline.load(file)).idle
    edit(file, "repeats: 4", "repeats: 5")
    assert [space.evaluations for space in make_plan(Pipeline.load(file)).spaces] == [(), ("sides",)]
    edit(file, "repeats: 5", "repeats: 4")
    labels = file.parent / "labels.tsv"
    labels.write_text(labels.read_text().replace("a0\ta", "a0\tb"))
    assert [(space.action, space.evaluations) for space in make_plan(Pipeline.load(file)).spaces] == [
        ("up to date", ()),
        ("up to date", ("sides",)),
    ]


def test_a_graph_that_grew_is_held_out_and_judged_anew(file):
    run_steps(file)
    write_edges(file.parent / "links.tsv", size=9)
    run_steps(file)
    assert json.loads(scores(file, "nodes", 2)["auc"]["notes"])["edges"] == round(0.2 * 73)


def test_editors_know_the_new_keys():
    known = schema()["$defs"]
    assert set(known["NodeClassification"]["properties"]) == {"name", "path", "id", "label", "labels", "metric", "train", "repeats", "seed", "split"}  # fmt: skip
    assert set(known["LinkPrediction"]["properties"]) == {"name", "metric"}
    assert np.all([name in known for name in ("LabelProbe", "Neighbours", "WordSimilarity", "Analogies")])
