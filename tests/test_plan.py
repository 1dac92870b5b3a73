"""What has to run, and why. Steps are plain calls; nothing of Prefect."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from embedders.errors import InputError
from flows import plan as plan_module
from flows.pipeline import Pipeline
from flows.plan import build_graph, make_plan, selected
from storage import digests
from tests.helpers_store import edit, run_steps, write_corpus, write_edges


@pytest.fixture
def done(file):
    run_steps(file)
    return file


def plan(file, **more):
    return make_plan(Pipeline.load(file), **more)


def actions(file, **more) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    return {s.name: (s.action, s.reason, s.evaluations) for s in plan(file, **more).spaces}


IDLE = ("up to date", "same data, same recipe", ())
START = "start: {space: words}, "
CHAIN = "  more: {dataset: text, embedder: word2vec, start: {space: words}, params: {dim: 8, epochs: 1, min_count: 1, threads: 1}}\nevaluate:"


def test_before_the_first_run(file):
    assert actions(file) == {"words": ("embed", "no version yet", ()), "nodes": ("embed", "no version yet", ("side",))}
    assert not plan(file).idle
    [words, _nodes] = plan(file).spaces
    assert (len(words.scan.files), words.scan.bytes, words.latest) == (
        1,
        (file.parent / "text.txt").stat().st_size,
        None,
    )
    assert words.fingerprint == Pipeline.load(file).recipe("words").fingerprint


def test_planning_makes_nothing(file):
    before = {path: path.stat().st_mtime_ns for path in file.parent.rglob("*")}
    plan(file)
    plan(file, force=True)
    assert {path: path.stat().st_mtime_ns for path in file.parent.rglob("*")} == before
    assert not (file.parent / "vectors").exists()


def test_planning_an_existing_store_changes_no_space(done):
    def found():
        return {p: p.stat().st_mtime_ns for p in (done.parent / "vectors").rglob("*") if "_cache" not in p.parts}

    before = found()
    edit(done, "epochs: 1", "epochs: 2")
    (done.parent / "text.txt").write_text("other words now\n")
    plan(done)
    assert found() == before


def test_up_to_date(done):
    assert actions(done) == {"words": IDLE, "nodes": IDLE}
    assert plan(done).idle
    assert {s.name: s.latest.number for s in plan(done).spaces} == {"words": 1, "nodes": 1}


def test_running_again_commits_nothing(done):
    again = run_steps(done)
    assert again.idle
    store = Pipeline.load(done).vectors
    assert [len(store.space(name).versions()) for name in store.spaces()] == [1, 1]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("epochs: 1", "epochs: 2", "epochs: 1 -> 2"),
        ("dim: 8, epochs: 1", "dim: 9, epochs: 3", "dim: 8 -> 9, epochs: 1 -> 3"),
        ("epochs: 1", "epochs: 1, lr: 0.05", "lr: 0.025 -> 0.05"),
        ("epochs: 1", "epochs: 1, seed: 7", "seed: 0 -> 7"),
    ],
)
def test_a_changed_parameter_is_named(done, before, after, reason):
    edit(done, before, after)
    assert actions(done, replace=True) == {"words": ("embed", reason, ()), "nodes": IDLE}
    run_steps(done, replace=True)
    store = Pipeline.load(done).vectors
    assert (store.find("words").number, store.find("nodes").number) == (2, 1)
    assert actions(done) == {"words": IDLE, "nodes": IDLE}


def test_a_default_that_is_written_out_changes_nothing(done):
    edit(done, "epochs: 1", "epochs: 1, window: 5, lr: 2.5e-2")
    assert plan(done).idle


@pytest.mark.parametrize("threads", [0, 2])
def test_an_execution_only_parameter_changes_nothing(done, threads):
    edit(done, "threads: 1", f"threads: {threads}")
    assert plan(done).idle


def test_another_embedder(done):
    edit(done, "dataset: links, embedder: node2vec, params: {dim: 8, walks: 2, length: 8, window: 2, threads: 1}", "dataset: text, embedder: word2vec, params: {min_count: 1}")  # fmt: skip
    assert actions(done, replace=True)["nodes"][:2] == ("embed", "embedder: node2vec -> word2vec")


def test_another_class_version(done, monkeypatch):
    from embedders.graph.node2vec import Node2Vec

    before = Node2Vec.version
    monkeypatch.setattr(Node2Vec, "version", 99)
    assert actions(done)["nodes"][:2] == ("embed", f"node2vec itself changed: version {before} -> 99")


def test_changed_data(done):
    write_corpus(done.parent / "text.txt", seed=1)
    assert actions(done) == {"words": ("embed", "the dataset changed", ()), "nodes": IDLE}
    run_steps(done)
    assert plan(done).idle


def test_a_renamed_file_is_another_dataset(done):
    (done.parent / "text.txt").rename(done.parent / "other.txt")
    edit(done, "text.txt", "other.txt")
    assert actions(done)["words"][:2] == ("embed", "the dataset changed")


def test_another_way_of_reading_is_another_dataset(done):
    edit(done, "path: text.txt", "path: text.txt, tokens: whitespace")
    assert actions(done)["words"][:2] == ("embed", "the dataset changed")


def test_a_file_more_is_another_dataset(file):
    edit(file, "path: text.txt", 'path: "*.txt"')
    run_steps(file)
    write_corpus(file.parent / "second.txt", seed=3)
    assert actions(file)["words"][:2] == ("embed", "the dataset changed")
    (file.parent / "second.txt").unlink()
    assert plan(file).idle


def test_a_new_time_stamp_changes_nothing(done):
    for name in ("text.txt", "links.tsv", "labels.tsv"):
        os.utime(done.parent / name, ns=(1, 10**18))
    assert plan(done).idle


def test_the_same_time_stamp_and_size_are_trusted_and_others_are_read(done, monkeypatch):
    seen = []
    real = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: seen.append(path.name) or real(path))
    plan(done)
    assert seen == []
    os.utime(done.parent / "text.txt", ns=(1, 10**18))
    plan(done)
    assert seen == ["text.txt"]
    plan(done)
    assert seen == ["text.txt"]


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_a_broken_digest_cache_does_no_harm(done, damage):
    cache = done.parent / "vectors/_cache/digests.sqlite"
    assert cache.is_file()
    if damage == "missing":
        cache.unlink()
    else:
        cache.write_bytes(b"garbage" * 1000 if damage == "garbage" else b"")
    assert plan(done).idle


def test_upstream(file):
    edit(file, "evaluate:", CHAIN)
    run_steps(file)
    store = Pipeline.load(file).vectors
    assert dict(store.find("more").manifest.upstream) == {"words": 1}
    assert plan(file).idle
    edit(file, "words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 1", "words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 2")  # fmt: skip
    assert actions(file) == {
        "words": ("embed", "epochs: 1 -> 2", ()),
        "more": ("embed", "words will change", ()),
        "nodes": IDLE,
    }
    run_steps(file, only=["words"])
    assert actions(file)["more"][:2] == ("embed", "words changed")
    run_steps(file)
    assert dict(store.find("more").manifest.upstream) == {"words": 2}
    assert plan(file).idle
    edit(file, "start: {space: words}, ", "")
    assert actions(file)["more"][:2] == ("embed", "starts from no space any more")


def test_a_warm_start_begins_at_its_upstream(file):
    """With a learning rate that moves nothing, the downstream vectors are the upstream ones."""
    edit(file, "evaluate:", CHAIN.replace("epochs: 1,", "epochs: 1, lr: 1e-12,"))
    run_steps(file)
    store = Pipeline.load(file).vectors
    words, more = store.find("words"), store.find("more")
    assert words.ids.tolist() == more.ids.tolist()
    assert np.allclose(words.matrix, more.matrix, atol=1e-6)


def test_a_start_that_was_added_changes_the_space(file):
    edit(file, "evaluate:", CHAIN.replace(START, ""))
    run_steps(file)
    edit(file, "more: {dataset: text, embedder: word2vec, ", "more: {dataset: text, embedder: word2vec, " + START)
    assert actions(file)["more"][:2] == ("embed", "words changed")


def test_force(done):
    assert {name: it[:2] for name, it in actions(done, force=True).items()} == dict.fromkeys(
        ["words", "nodes"], ("embed", "forced")
    )
    assert actions(done, force=True)["nodes"][2] == ("side",)
    assert actions(done, only=["nodes"], force=True) == {"nodes": ("embed", "forced", ("side",))}
    run_steps(done, only=["nodes"], force=True)
    store = Pipeline.load(done).vectors
    assert (store.find("words").number, store.find("nodes").number) == (1, 2)
    assert np.array_equal(store.find("nodes@1").matrix, store.find("nodes@2").matrix)  # threads: 1


def test_only_brings_its_ancestors(file):
    edit(file, "evaluate:", CHAIN)
    assert list(actions(file, only=["more"])) == ["words", "more"]
    assert list(actions(file, only=["nodes"])) == ["nodes"]
    assert list(actions(file, only=["nodes", "words"])) == ["words", "nodes"]
    run_steps(file)
    assert actions(file, only=["more"], force=True)["words"] == IDLE
    assert actions(file, only=["more"], force=True)["more"][:2] == ("embed", "forced")


def test_only_of_an_unknown_space(file):
    with pytest.raises(InputError, match=r"Got --only wrods; the pipeline has the spaces words, nodes\."):
        plan(file, only=["wrods"])


def test_only_does_not_look_at_other_datasets(file):
    (file.parent / "text.txt").unlink()
    assert list(actions(file, only=["nodes"])) == ["nodes"]
    with pytest.raises(InputError, match=r"dataset 'text': .*text\.txt"):
        plan(file)


@pytest.mark.parametrize(("before", "after"), [("k: 3", "k: 2"), ("name: side", "name: half")])
def test_a_changed_evaluation_is_judged_again_and_nothing_else(done, before, after):
    edit(done, before, after)
    name = "half" if "half" in after else "side"
    assert actions(done) == {"words": IDLE, "nodes": ("up to date", f"to be judged: {name}", (name,))}
    assert not plan(done).idle
    run_steps(done)
    store = Pipeline.load(done).vectors
    assert store.find("nodes").number == 1
    assert len(store.metrics(store.find("nodes"))) == 4
    assert plan(done).idle
    edit(done, after, before)
    assert plan(done).idle  # what was scored before is still known


def test_changed_labels_are_judged_again(done):
    labels = done.parent / "labels.tsv"
    labels.write_text(labels.read_text().replace("a0\ta", "a0\tb"))
    assert actions(done)["nodes"] == ("up to date", "to be judged: side", ("side",))


def test_an_added_evaluation(done):
    edit(done, "k: 3}", "k: 3}, {name: probe, metric: label_probe, path: labels.tsv}")
    assert actions(done)["nodes"] == ("up to date", "to be judged: probe", ("probe",))
    run_steps(done)
    store = Pipeline.load(done).vectors
    found = {row["metric"]: row["value"] for row in store.metrics(store.find("nodes")) if row["evaluation"] == "probe"}
    assert set(found) >= {"accuracy", "macro_f1", "majority", "accuracy[degrees]"}
    assert found["majority"] == 0.5


def test_a_new_version_is_judged(done):
    write_edges(done.parent / "links.tsv", size=9)
    assert actions(done)["nodes"] == ("embed", "the dataset changed", ("side",))
    run_steps(done)
    store = Pipeline.load(done).vectors
    assert [len(store.metrics(v)) for v in store.space("nodes").versions()] == [2, 2]


def test_a_missing_label_file(file):
    (file.parent / "labels.tsv").unlink()
    with pytest.raises(InputError, match=r"evaluation 'side': got path 'labels\.tsv' .*no such file"):
        plan(file)


@pytest.mark.parametrize(("name", "what"), [("text.txt", "dataset 'text'"), ("links.tsv", "dataset 'links'")])
def test_a_missing_data_file(file, name, what):
    (file.parent / name).unlink()
    with pytest.raises(InputError, match=rf"{what}: Got path '{name}'.*no such file.*relative to the pipeline file"):
        plan(file)


def test_the_graph(file):
    edit(file, "evaluate:", CHAIN)
    graph = build_graph(Pipeline.load(file))
    assert set(graph.edges) == {
        (("dataset", "text"), ("space", "words")),
        (("dataset", "text"), ("space", "more")),
        (("space", "words"), ("space", "more")),
        (("dataset", "links"), ("space", "nodes")),
        (("space", "nodes"), ("evaluation", "nodes/side")),
    }
    assert nx.is_directed_acyclic_graph(graph)


def test_the_order_is_that_of_the_file_where_it_may_be(file):
    text = file.read_text()
    more = CHAIN.splitlines()[0]
    file.write_text(text.replace("spaces:\n", f"spaces:\n{more}\n"))
    pipeline = Pipeline.load(file)
    assert list(pipeline.spaces) == ["more", "words", "nodes"]
    assert selected(build_graph(pipeline), pipeline, []) == ["words", "more", "nodes"]


def test_a_space_that_left_the_file_stays_in_the_store(done):
    edit(done, "evaluate:", "x:")
    text = done.read_text()
    done.write_text(text[: text.index("  nodes: {")])
    assert list(actions(done)) == ["words"]
    assert Pipeline.load(done).vectors.spaces() == ["nodes", "words"]


def test_what_another_run_has_just_done_is_taken(done):
    """Between plan and step, another run did the work: its version is taken, none is added."""
    from flows import steps

    ref = steps.embed(Pipeline.load(done), "words", "late")["words"]
    assert (ref.version, ref.fresh) == (1, False)


def test_a_plan_names_no_machine(file):
    """The fingerprints that decide hold no absolute path: a copied project is up to date."""
    run_steps(file)
    copy = file.parent.parent / "copy"
    import shutil

    shutil.copytree(file.parent, copy)
    assert plan(copy / "polyvec.yaml").idle
    assert Path(plan_module.__file__).is_file()


def test_a_pipeline_made_in_python_is_checked_too(tmp_path):
    pipeline = Pipeline(
        datasets={"d": {"kind": "graph", "edges": "e.tsv"}},
        spaces={"s": {"dataset": "d", "embedder": "node2vec", "params": {"p": float("inf"), "dims": 3}}},
        base=tmp_path,
    )
    with pytest.raises(
        InputError, match=r"(?s)spaces.s.params.p: got Infinity.*spaces.s.params.dims: got the unknown key"
    ):
        make_plan(pipeline)


def test_a_start_of_another_width_is_found_before_anything_runs(tmp_path):
    pipeline = Pipeline(
        datasets={"d": {"kind": "graph", "edges": "e.tsv"}},
        spaces={
            "a": {"dataset": "d", "embedder": "node2vec", "params": {"dim": 4}},
            "b": {"dataset": "d", "embedder": "node2vec", "params": {"dim": 5}, "start": {"space": "a"}},
        },
        base=tmp_path,
    )
    with pytest.raises(InputError, match=r"spaces.b.start: got 'a' of dim 4; expected dim 5"):
        make_plan(pipeline)
