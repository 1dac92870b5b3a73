"""`tune:` through the flow and the command line: tasks, failures, a killed run, what is shown; and judging inside."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.report_spaces import trials_lines
from flows.trials_table import listed, table
from flows.trying import attempt
from storage import trials
from tests.flow_helpers import wait_for
from tests.helpers_store import edit, process, run_steps, write_project
from tests.test_flow import flow_runs, task_runs
from tests.test_holding_out import many
from tests.test_tune import MORE, PIPELINE


@pytest.fixture
def file(tmp_path):
    return write_project(tmp_path, PIPELINE)


def test_trials_are_tasks(server, file):
    from flows.flow import run_pipeline

    edit(file, "evaluate:", MORE)
    run_pipeline(str(file))
    found = task_runs(flow_runs()[-1])
    tried = {"tune nodes 1/3", "tune nodes 2/3", "tune nodes 3/3"}
    rest = {"read links", "embed nodes", "embed more", "evaluate nodes/side", "release", "report"}
    assert set(found) == tried | rest
    assert {task.state_name for task in found.values()} == {"Completed"}
    assert min(found[name].start_time for name in tried) >= found["read links"].end_time
    assert max(found[name].end_time for name in tried) <= found["embed nodes"].start_time
    assert found["embed more"].start_time >= found["embed nodes"].end_time
    assert make_plan(Pipeline.load(file)).idle

    edit(file, "[2, 3, 5]", "[2, 4, 3, 5]")
    run_pipeline(str(file))
    assert {name for name in task_runs(flow_runs()[-1]) if name.startswith("tune")} == {"tune nodes 2/4"}
    run_pipeline(str(file), force=True, only=["nodes"])
    assert len([name for name in task_runs(flow_runs()[-1]) if name.startswith("tune")]) == 4


def test_a_space_without_a_good_trial_fails_alone(server, file):
    from flows.flow import run_pipeline
    from flows.report import RunFailedError

    edit(
        file,
        "evaluate:",
        MORE.replace("evaluate:", "  other: {dataset: links, embedder: spectral, params: {dim: 3}}\nevaluate:"),
    )
    edit(file, "[2, 3, 5]", "[99, 98]")
    with pytest.raises(RunFailedError, match=r"nodes: All 2 trials failed, the first \(dim=99\)") as caught:
        run_pipeline(str(file))
    assert caught.value.exit_code == 2
    assert {row.space: row.status for row in caught.value.results.rows} == {
        "nodes": "failed", "more": "not run", "other": "new"
    }  # fmt: skip


def test_a_store_that_cannot_be_written_ends_the_space(server, file, monkeypatch):
    from flows import trying
    from flows.flow import run_pipeline
    from flows.report import RunFailedError
    from storage.errors import FullError

    def embed(*args, **more):
        raise FullError("no room")

    monkeypatch.setattr(trying, "embed", embed)
    with pytest.raises(RunFailedError, match="nodes: no room") as caught:
        run_pipeline(str(file))
    assert caught.value.results.errors == {"nodes": ["no room"]}
    assert [row.status for row in caught.value.results.rows] == ["not run"]


def test_plan_and_show(file, cli):
    [planned] = cli("plan").table
    assert planned["why"] == "no version yet; tune: 3 trials, 0 done"
    attempt(Pipeline.load(file), "nodes", 1, "run")
    [planned] = json.loads(cli("plan", "--json").out)
    assert planned["tune"] == {"metric": "side.same_label", "trials": 3, "done": 1, "chosen": None}
    run_steps(file)
    dim = Pipeline.load(file).vectors.find("nodes").dim
    [planned] = json.loads(cli("plan", "--json").out)
    assert planned["tune"] == {"metric": "side.same_label", "trials": 3, "done": 3, "chosen": {"dim": dim}}
    said = cli("show", "nodes").out
    assert "side.same_label" in said and "chosen" in said
    assert "the best of several is chosen for its luck" in said
    shown = json.loads(cli("show", "nodes", "--json").out)
    assert [one["params"]["dim"] for one in shown["trials"] if one["chosen"]] == [dim]
    assert len(shown["trials"]) == 3
    assert {row["version"] for row in shown["metrics"]} == {1}


def test_the_report_shows_the_trials(file):
    run_steps(file)
    version = Pipeline.load(file).vectors.find("nodes")
    said, head, line, first, *_ = trials_lines(version)
    assert said.startswith("3 trials. ")
    assert head == "| dim | side.same_label | seconds | note |" and line == "| --- | --- | --- | --- |"
    assert first.startswith(f"| {version.dim} | ") and first.endswith("| chosen |")


def test_a_version_that_no_trial_chose_shows_none(file):
    run_steps(file)
    edit(file, ", tune: {metric: side.same_label, grid: {dim: [2, 3, 5]}}", "")
    edit(file, "max_rounds: 50", "max_rounds: 50, dim: 4")
    run_steps(file, replace=True)
    store = Pipeline.load(file).vectors
    assert listed(store.find("nodes@2")) == [] and trials_lines(store.find("nodes@2")) == []
    assert len(listed(store.find("nodes@1"))) == 3


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(file, home, server):
    grid = ", ".join(map(str, range(2, 14)))
    edit(file, "[2, 3, 5]", f"[{grid}]")
    paths = Pipeline.load(file).vectors.paths
    run = process("run", cwd=file.parent, home=home, url=server)
    wait_for(lambda: len(trials.records(paths, "nodes")) >= 2)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    before = trials.records(paths, "nodes")
    assert 2 <= len(before) < 12
    run = process("run", cwd=file.parent, home=home, url=server)
    _out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert err.count("tune nodes") == 12 - len(before)
    after = trials.records(paths, "nodes")
    assert {key: after[key].time for key in before} == {key: one.time for key, one in before.items()}
    assert len(after) == 12 and make_plan(Pipeline.load(file)).idle


def test_trials_that_were_cut_off_go_when_no_pipeline_has_the_space(file, cli):
    left = Pipeline.load(file).vectors.paths.trials("nodes") / "0123456789abcdef" / "nodes" / "part.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x" * 100)
    week = time.time() - 8 * 24 * 3600
    os.utime(left, (week, week))
    assert cli("gc").code == 0 and left.exists()
    edit(file, "  nodes: {dataset", "  other: {dataset")
    edit(file, "evaluate:\n  nodes:", "evaluate:\n  other:")
    assert cli("gc").code == 0 and not left.exists()


# Judged inside the training data

RATINGS = """\
store: ./vectors
datasets:
  visits: {kind: interactions, path: visits.tsv}
spaces:
  club: {dataset: visits, embedder: als, params: {threads: 1, iterations: 3}, tune: {metric: ranking.ndcg@5, grid: {dim: [4, 2], alpha: [8, 1]}}}
evaluate:
  club: [{name: ranking, metric: ranking, k: 5, repeats: 1}]
"""


@pytest.fixture
def club(tmp_path):
    data = many()
    lines = [f"{data.users[u]}\t{data.items[i]}\n" for u, i in zip(data.user, data.item, strict=True)]
    (tmp_path / "visits.tsv").write_text("".join(lines))
    (tmp_path / "polyvec.yaml").write_text(RATINGS)
    return tmp_path / "polyvec.yaml"


def test_what_is_reported_was_seen_by_no_trial(club):
    """Trials of a ranking are judged by a split of the events that are left to train on."""
    from flows.ranking import rank

    run_steps(club)
    pipeline = Pipeline.load(club)
    version = pipeline.vectors.find("club.items")
    found = listed(version)
    assert len(found) == 4 and [one["chosen"] for one in found].count(True) == 1
    chosen = found[0]["params"]
    assert {name: version.manifest.recipe.params[name] for name in chosen} == chosen
    assert pipeline.recipe("club").model_dump().items() & chosen.items() != chosen.items()  # not just the first
    recipe = pipeline.recipe("club").model_copy(update=chosen)
    [evaluation] = pipeline.evaluations("club.users")
    inner, outer = (rank(pipeline, "club", recipe, evaluation, inner=inner) for inner in (True, False))
    assert found[0]["scores"]["ndcg@5"] == pytest.approx(inner.headline.value)
    users = pipeline.vectors.find("club.users")
    [reported, *_] = pipeline.vectors.metrics(users)
    assert reported["value"] == pytest.approx(outer.headline.value) != pytest.approx(inner.headline.value)
    assert found[0]["inner"] and "inside the training data" in table(users)[2]
    left = pipeline.vectors.paths.trials("club.users").rglob("*")
    assert not [path for path in left if path.name != "_locks"]  # and no version was made for them
    assert all(space.idle for space in make_plan(pipeline).spaces)


def test_a_score_within_another_k_is_refused(club):
    edit(club, "ndcg@5", "ndcg@10")
    from embedders.errors import InputError

    with pytest.raises(InputError, match="the evaluation 'ranking' gives ndcg@5, recall@5, map@5, coverage@5"):
        Pipeline.load(club)


# What evaluations give

ALL = """\
store: ./vectors
datasets:
  text: {kind: corpus, path: text.txt}
  links: {kind: graph, edges: links.tsv, hold_out: {share: 0.2, seed: 0}}
  visits: {kind: interactions, path: visits.tsv}
spaces:
  nodes: {dataset: links, embedder: spectral, params: {dim: 3}}
  words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 1, min_count: 1, threads: 1}}
  club: {dataset: visits, embedder: als, params: {threads: 1, iterations: 1, dim: 2}}
evaluate:
  nodes:
    - {name: label_probe, metric: label_probe, path: labels.tsv}
    - {name: neighbours, metric: neighbours, path: labels.tsv}
    - {name: knn, metric: knn, path: labels.tsv}
    - {name: retrieval, metric: retrieval, path: labels.tsv}
    - {name: near_duplicates, metric: near_duplicates}
    - {name: node_classification, metric: node_classification, path: labels.tsv, train: [0.5, 0.7]}
    - {name: link_prediction, metric: link_prediction}
  words:
    - {name: word_similarity, metric: word_similarity, path: pairs.tsv}
    - {name: analogies, metric: analogies, path: questions.txt}
  club:
    - {name: ranking, metric: ranking, k: 3, repeats: 1}
"""


def test_the_scores_of_evaluations_are_known_by_their_names(club):
    from flows.tune_checks import SCORES

    file = write_project(club.parent, ALL)
    (club.parent / "pairs.tsv").write_text("king\tqueen\t3\nboat\triver\t2\nman\twater\t1\nfish\tbank\t5\n")
    (club.parent / "questions.txt").write_text(": kin\nking queen man woman\nqueen king woman man\n")
    run_steps(file)
    pipeline = Pipeline.load(file)
    given = {}
    for space in pipeline.entries:
        for row in pipeline.vectors.metrics(pipeline.vectors.find(space)):
            given.setdefault(row["evaluation"], {})[row["metric"].partition("[")[0]] = None
    assert given.keys() == SCORES.keys()
    assert {name: tuple(text.format(k=3) for text in texts) for name, texts in SCORES.items()} == {
        name: tuple(scores) for name, scores in given.items()
    }
