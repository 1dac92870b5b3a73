"""The pipeline file: every error names the line, what was got and what was expected."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from embedders.errors import InputError
from embedders.text.word2vec import Word2Vec
from flows.checks import problems
from flows.evaluations import Neighbours
from flows.pipeline import LATER, Pipeline, schema
from flows.plan import make_plan
from storage.inputs.specs import CorpusSpec, GraphSpec
from tests.helpers_store import PIPELINE, edit, run_steps


def refused(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        Pipeline.load(file)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{file}:", "line ")


WRONG = [
    # before, after, line, what the message says
    ("store:", "stroe:", 1, "stroe: got the unknown key 'stroe'; expected one of datasets, evaluate, keep, outputs, spaces, store. Did you mean 'store'?"),
    ("words: {dataset: text", "words: {dataset: text, daatset: x", 6, "spaces.words.daatset: got the unknown key 'daatset'; expected one of dataset, embedder, fold_in, fuse, params, start, tune, warm_start. Did you mean 'dataset'?"),
    ("kind: corpus,", "kind: corpus, patj: x,", 3, "datasets.text.patj: got the unknown key 'patj'; expected one of columns, document, kind, path, phrases, sentences, stop_words, tokens. Did you mean 'path'?"),
    ("epochs: 1", "epoch: 1", 6, "spaces.words.params.epoch: got the unknown key 'epoch'; expected one of device, dim, epochs, freeze, loss, lr, max_vocab, min_count, model, negative, sample, seed, threads, window. Did you mean 'epochs'?"),
    ("dim: 8, epochs", "dim: eight, epochs", 6, 'spaces.words.params.dim: got "eight"; expected a valid integer'),
    ("dim: 8, epochs", "dim: 0, epochs", 6, "spaces.words.params.dim: got 0; expected greater than or equal to 1."),
    ("dim: 8, epochs", "dim: 8.5, epochs", 6, "spaces.words.params.dim: got 8.5; expected a valid integer"),
    ("dim: 8, walks", "dim: 8, p: .nan, walks", 7, "spaces.nodes.params.p: got NaN; expected a finite number."),
    ("dim: 8, walks", "dim: [8], walks", 7, "spaces.nodes.params.dim: got [8]; expected a valid integer."),
    ("embedder: word2vec", "embedder: word3vec", 6, "spaces.words.embedder: Got embedder 'word3vec'; installed are: als, bpr, "),
    ("dataset: text", "dataset: txet", 6, "spaces.words.dataset: got the dataset 'txet', which the file does not name; expected one of text, links. Did you mean 'text'?"),
    ("dataset: text", "dataset: links", 6, "spaces.words.dataset: got 'links', a dataset of kind graph; word2vec reads Corpus."),
    ("kind: corpus", "kind: corpse", 3, "datasets.text: got 'corpse'; expected one of 'corpus', 'images', 'graph', 'interactions', 'table'."),
    ("kind: corpus, ", "", 3, "datasets.text: got no kind; expected kind: one of corpus, images, graph, interactions."),
    (", path: text.txt", "", 3, "datasets.text.path: got nothing; expected a value. Add the key."),
    ("embedder: word2vec, ", "", 6, "spaces.words.embedder: got nothing; expected a value. Add the key."),
    ("{kind: corpus, path: text.txt}", "", 3, "datasets.text: got null; expected keys with values."),
    ("path: text.txt", 'path: ""', 3, 'datasets.text.path: got ""; expected'),
    ("store: ./vectors", "store: 7", 1, "store: got 7; expected a valid string."),
    ("store: ./vectors", "store: 2024-01-01", 1, 'store: got "2024-01-01"; expected a valid string.'),
    ("words: {dataset", '"../words": {dataset', 6, "Got the space name '../words'; expected 1 to 100 characters"),
    ("words: {dataset", "_words: {dataset", 6, "Got the space name '_words'; expected 1 to 100 characters"),
    ("  text: {", '  "a/b": {', 3, "Got the dataset name 'a/b'; expected 1 to 100 characters"),
    ("words: {dataset", "2024: {daatset", 6, "spaces.2024.daatset: got the unknown key 'daatset'"),
    ("words: {dataset", "words: {start: {space: nods}, dataset", 6, "spaces.words.start.space: got the space 'nods', which the file does not name; expected one of words, nodes. Did you mean 'nodes'?"),
    ("words: {dataset", "words: {start: nodes, dataset", 6, 'spaces.words.start: got "nodes"; expected keys with values.'),
    ("nodes: [{", "nods: [{", 9, "evaluate.nods: got the space 'nods', which the file does not name; expected one of words, nodes. Did you mean 'nodes'?"),
    ("metric: neighbours", "metric: neighbors", 9, "evaluate.nodes.0: got 'neighbors'; expected one of 'label_probe', 'neighbours', 'knn', 'retrieval', 'near_duplicates', 'node_classification', 'link_prediction', 'cross_modal', 'ranking', 'downstream', 'word_similarity', 'analogies'."),
    ("metric: neighbours, ", "", 9, "evaluate.nodes.0: got no metric; expected metric: one of label_probe, knn, neighbours, retrieval, near_duplicates, node_classification, link_prediction, cross_modal, ranking, word_similarity, analogies."),
    ("k: 3", "kk: 3", 9, "evaluate.nodes.0.kk: got the unknown key 'kk'; expected one of id, k, label, labels, metric, name, path. Did you mean 'k'?"),
    ("k: 3", "k: 0", 9, "evaluate.nodes.0.k: got 0; expected greater than or equal to 1."),
    ("k: 3}", "k: 3}, {name: side, metric: neighbours, path: labels.tsv}", 9, "evaluate.nodes: got the evaluation name 'side' twice; expected unique names. Rename one."),
    ("edges: links.tsv", "edges: links.tsv, columns: {source: a}", 4, 'datasets.links.columns: got {"source": "a"}; expected both source and target, or neither in files that name them.'),
    ("evaluate:", "base: /tmp\nevaluate:", 8, "got the unknown key 'base'; expected one of datasets, evaluate, keep, outputs, spaces, store."),
    ("evaluate:", "store: twice\nevaluate:", 8, "got the key 'store' twice; expected it once. Remove one."),
    ("  nodes: {dataset", "  words: {dataset", 7, "got the key 'words' twice; expected it once. Remove one."),
    ("spaces:", "spaces: ]", 5, "got YAML that cannot be read: "),
    ("  words: {", "\twords: {", 6, "got YAML that cannot be read: "),
    ("./vectors", "*nowhere", 1, "got YAML that cannot be read: found undefined alias 'nowhere'. Mend the line."),
    ("text.txt", "a\0b", 3, "got YAML that cannot be read: "),
    ("nodes: {dataset: links", "nodes: {<<: {daatset: 1}, dataset: links", 7, "spaces.nodes.daatset: got the unknown key 'daatset'"),
    ("dataset: text, ", "fuse: [nodes], ", 6, "spaces.words.embedder: got 'word2vec' of 'nodes'; expected dataset: NAME with it."),
    ("dataset: text, ", "fuse: [nodes], dataset: text, ", 6, "expected a dataset, or fuse with the names of spaces."),
    ("dataset: text, ", "fuse: [nods], ", 6, "spaces.words.fuse: got the space 'nods', which the file does not name; expected one of words, nodes. Did you mean 'nodes'?"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "line", "says"), WRONG, ids=[f"{a!r}"[:40] for _, a, _, _ in WRONG])
def test_a_wrong_file(file, before, after, line, says):
    text = file.read_text()
    file.write_text(text.replace(before, after, 1))
    assert file.read_text() != text
    message = refused(file)
    assert f"line {line}: " in message
    assert says in message
    first = next(part for part in message.splitlines() if says in part)
    assert first.startswith(f"line {line}: ")


@pytest.mark.parametrize("key", sorted(LATER))
def test_a_key_of_a_later_version_is_refused_by_name(file, key):
    assert {"gates", "schedule"} <= set(LATER)
    file.write_text(file.read_text() + f"{key}: {{x: 1}}\n")
    assert refused(file).startswith(f"line 10: {key}: not available yet. ")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "an empty file"),
        ("# nothing\n", "an empty file"),
        ("- a\n", "a list"),
        ("hello\n", "'hello'"),
        ("3\n", "'3'"),
    ],
)
def test_a_file_without_keys(file, text, got):
    file.write_text(text)
    assert refused(file) == f"line 1: got {got}; expected the keys store, datasets, spaces."


def test_all_wrong_keys_are_told_at_once(file):
    file.write_text("stroe: x\nspaces: {}\n")
    message = refused(file)
    assert "line 1: stroe: got the unknown key" in message
    assert "line 1: datasets: got nothing; expected a value. Add the key." in message
    assert "line 2: spaces: got nothing in it; expected at least one. Add one." in message


def test_two_wrong_parameters_are_told_at_once(file):
    edit(file, "threads: 1", "threads: -1")
    assert [line.split(":")[0] for line in refused(file).splitlines()] == ["line 6", "line 7"]


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(InputError, match=r"does not exist\. Do: polyvec init DIR, or name one with -f FILE"):
        Pipeline.load(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        Pipeline.load(tmp_path)


def test_a_file_that_is_not_utf8(file):
    file.write_bytes(PIPELINE.replace("text.txt", "té.txt").encode("latin-1"))
    with pytest.raises(InputError, match="expected UTF-8 text"):
        Pipeline.load(file)


@pytest.mark.parametrize("text", ["[" * 1000, "a: " + "{b: " * 1000])
def test_a_file_nested_too_deeply(file, text):
    file.write_text(text)
    with pytest.raises(InputError):
        Pipeline.load(file)


@pytest.mark.parametrize("text", ["datasets: &a {x: *a}\n", "store: &a [*a]\n"])
def test_a_file_that_holds_itself(file, text):
    file.write_text(text)
    assert "line 1: " in refused(file)


def test_no_code_is_run(file, tmp_path):
    file.write_text(f"store: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n" + PIPELINE.split("\n", 1)[1])
    with pytest.raises(InputError, match="store: got"):
        Pipeline.load(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "circle"),
    [
        ({"words": "words"}, "words -> words"),
        ({"words": "more", "more": "words"}, "words -> more -> words"),
        ({"words": "more", "more": "most", "most": "words"}, "words -> more -> most -> words"),
    ],
)
def test_a_cycle_shows_the_circle(file, change, circle):
    names = ["words", "more", "most"]
    spaces = {name: {"dataset": "text", "embedder": "word2vec"} for name in names}
    for name, start in change.items():
        spaces[name]["start"] = {"space": start}
    edit(file, PIPELINE[PIPELINE.index("spaces:") :], "spaces: " + json.dumps(spaces) + "\n")
    pipeline = Pipeline.load(file)
    with pytest.raises(InputError, match="Got a cycle among the spaces") as caught:
        make_plan(pipeline)
    shown = str(caught.value).split(": ")[1].split(";")[0].split(" -> ")
    assert shown[0] == shown[-1]
    want = circle.split(" -> ")
    assert sorted(set(shown)) == sorted(set(want)) and len(shown) == len(want)
    for one, two in itertools.pairwise(shown):
        assert change[two] == one or change[one] == two


def test_values_are_those_of_yaml_1_2(file):
    edit(file, "dim: 8, epochs", "lr: 1e-3, dim: 0o10, epochs")
    edit(file, "  words: {", "  on: {")
    edit(file, "  nodes: {", "  no: {")
    edit(file, "  nodes: [", "  no: [")
    edit(file, "  text: {", "  images: {")
    edit(file, "dataset: text", "dataset: images")
    pipeline = Pipeline.load(file)
    assert list(pipeline.spaces) == ["on", "no"]
    assert list(pipeline.datasets) == ["images", "links"]
    recipe = pipeline.recipe("on")
    assert (recipe.lr, recipe.dim) == (0.001, 8)
    run_steps(file, only=["on"])
    assert pipeline.vectors.spaces() == ["on"]


@pytest.mark.parametrize("name", ["corpus", "images", "graph", "neighbours"])
def test_a_dataset_may_be_called_like_a_kind(file, name):
    edit(file, "  text: {kind: corpus, ", f"  {name}: {{kind: corpus, nonsense: 1, ")
    edit(file, "dataset: text", f"dataset: {name}")
    assert "expected one of columns, document, kind, path, phrases, sentences, stop_words, tokens." in refused(file)


def test_anchors_and_merges(file):
    edit(file, "words: {dataset", "words: &one {dataset")
    edit(file, "spaces:\n", "spaces:\n")
    file.write_text(file.read_text().replace("evaluate:", "  more: {<<: *one, params: {dim: 4}}\nevaluate:"))
    pipeline = Pipeline.load(file)
    assert (pipeline.spaces["more"].dataset, pipeline.recipe("more").dim) == ("text", 4)
    assert isinstance(pipeline.recipe("more"), Word2Vec)


@pytest.mark.parametrize("form", ["bom", "crlf"])
def test_other_line_ends_and_a_byte_order_mark(file, form):
    plain = Pipeline.load(file)
    text = file.read_bytes()
    file.write_bytes(b"\xef\xbb\xbf" + text if form == "bom" else text.replace(b"\n", b"\r\n"))
    assert Pipeline.load(file) == plain


def test_relative_paths_start_from_the_file(file, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run_steps(Path("..") / "polyvec.yaml")
    assert (tmp_path / "vectors/words/_delta_log").is_dir()
    assert list(elsewhere.iterdir()) == []


def test_absolute_paths_stay(file, tmp_path):
    edit(file, "./vectors", str(tmp_path / "other place"))
    edit(file, "path: text.txt", f"path: {tmp_path / 'text.txt'}")
    pipeline = Pipeline.load(file)
    assert pipeline.vectors.root == tmp_path / "other place"
    assert list(make_plan(pipeline).spaces[0].scan.files) == [tmp_path / "text.txt"]


def test_the_store_may_be_left_out(file, tmp_path):
    edit(file, "store: ./vectors\n", "")
    assert Pipeline.load(file).vectors.root == tmp_path / "vectors"


def test_the_same_in_python(file, tmp_path):
    from polyvec import Pipeline as Public

    loaded = Pipeline.load(file)
    plain = Public.model_validate(
        {
            "base": tmp_path,
            "datasets": {
                "text": {"kind": "corpus", "path": "text.txt"},
                "links": {"kind": "graph", "edges": "links.tsv"},
            },
            "spaces": {name: spec.model_dump() for name, spec in loaded.spaces.items()},
            "evaluate": {"nodes": [{"name": "side", "metric": "neighbours", "path": "labels.tsv", "k": 3}]},
        }
    )
    typed = Public(
        base=tmp_path,
        datasets={
            "text": CorpusSpec(kind="corpus", path="text.txt"),
            "links": GraphSpec(kind="graph", edges="links.tsv"),
        },
        spaces=loaded.spaces,
        evaluate={"nodes": [Neighbours(name="side", metric="neighbours", path="labels.tsv", k=3)]},
    )
    assert loaded == plain == typed
    assert list(problems(typed)) == []
    assert make_plan(typed).spaces == make_plan(loaded).spaces
    assert "base" not in loaded.model_dump()


def test_a_pipeline_is_frozen(file):
    with pytest.raises(ValueError, match="frozen"):
        Pipeline.load(file).store = "elsewhere"


def test_other_object_stores_are_refused(file):
    edit(file, "./vectors", "gs://bucket/prefix")
    with pytest.raises(InputError, match="expected a folder, or s3://bucket/prefix"):
        make_plan(Pipeline.load(file))


def test_the_schema_is_one_and_has_no_internal_keys():
    from jsonschema import Draft202012Validator

    found = schema()
    Draft202012Validator.check_schema(found)
    assert set(found["properties"]) == {"store", "datasets", "spaces", "evaluate", "outputs", "keep"}
    assert '"base"' not in json.dumps(found) and "base :" not in json.dumps(found)
    assert found["additionalProperties"] is False
    json.dumps(found, allow_nan=False)


def test_the_schema_accepts_what_is_accepted_and_refuses_the_rest(file):
    from jsonschema import Draft202012Validator
    from ruamel.yaml import YAML

    check = Draft202012Validator(schema())
    good = YAML(typ="safe").load(file.read_text())
    assert list(check.iter_errors(good)) == []
    for bad in (
        {},
        good | {"stroe": 1},
        good | {"datasets": {"x": {"kind": "corpse", "path": "x"}}},
        good | {"spaces": {"w": {"dataset": "text"}}},
    ):
        assert list(check.iter_errors(bad)), bad
