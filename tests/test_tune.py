"""`tune:` in the pipeline file: what is refused, which trials there are, what they leave, which parameters they choose.

Steps are plain calls; the flow has its own tests (test_tune_runs.py).
"""

from __future__ import annotations

import threading

import pytest
from pydantic import ValidationError

from embedders.errors import InputError
from flows import steps, trying
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.trials_table import listed, table
from flows.trying import attempt
from flows.tune import LIMIT, Tune, merged
from storage import trials
from storage.errors import FullError
from tests.helpers_store import edit, run_steps, write_labels, write_project

GRID = "grid: {dim: [2, 3, 5]}"
PIPELINE = f"""\
store: ./vectors
datasets:
  links: {{kind: graph, edges: links.tsv}}
spaces:
  nodes: {{dataset: links, embedder: spectral, params: {{max_rounds: 50}}, tune: {{metric: side.same_label, {GRID}}}}}
evaluate:
  nodes: [{{name: side, metric: neighbours, path: labels.tsv, k: 3}}]
"""
MORE = "  more: {dataset: links, embedder: propagation, start: {space: nodes}}\nevaluate:"


@pytest.fixture
def file(tmp_path):
    return write_project(tmp_path, PIPELINE)


def plan_of(file, space="nodes", **more):
    plan = make_plan(Pipeline.load(file), **more)
    return next(s for s in plan.spaces if s.name == space)


def try_all(file, *, force=False):
    """Make the trials that are to be made."""
    due = plan_of(file).tuning
    for trial in due.trials if force else due.pending:
        attempt(Pipeline.load(file), "nodes", trial.number, "run", force=force)


def rows(file):
    """The trials as they stand in the table of metrics, by the parameters tried."""
    found = trials.records(Pipeline.load(file).vectors.paths, "nodes").values()
    return {tuple(one.notes["params"].values()): one for one in found}


def rows_of_all(file):
    return trials.records(Pipeline.load(file).vectors.paths, "nodes")


# What is refused


@pytest.mark.parametrize(
    ("tune", "place", "message"),
    [
        ("metric: side.same_label, grid: {}", "grid", "got nothing in it; expected at least one"),
        ("metric: side.same_label, grid: {dim: []}", "grid.dim", "got nothing in it; expected at least one"),
        ("metric: side.same_label, grid: {dim: 3}", "grid.dim", "got 3; expected a valid list"),
        (
            "metric: side.same_label, grid: {dims: [2, 3]}",
            "grid.dims",
            "got the unknown key 'dims'.*Did you mean 'dim'",
        ),
        ("metric: side.same_label, grid: {dim: [2, 0]}", "grid.dim", "got 0; expected greater than or equal to 1"),
        ("metric: side.same_label, grid: {dim: [2, 2]}", "grid.dim", "got 2 twice"),
        ("metric: side.same_label, grid: {threads: [1, 2]}", "grid.threads", "threads, which changes nothing of what"),
        ("metric: side.same_label, grid: {seed: [1, 2]}", "grid.seed", "seed, which changes nothing of what spectral"),
        (
            "metric: sides.same_label, grid: {dim: [2]}",
            "metric",
            "which no evaluation of nodes gives; expected one of side",
        ),
        ("metric: side.accuracy, grid: {dim: [2]}", "metric", "the evaluation 'side' gives same_label, chance"),
        ("grid: {dim: [2]}", "metric", "got nothing; expected a value"),
        ("metric: side, grid: {dim: [2]}, goal: up", "goal", "got the unknown key 'goal'; expected one of direction"),
        ("metric: side, grid: {dim: [2]}, direction: up", "direction", "expected 'maximize' or 'minimize'"),
        ("metric: side, grid: {dim: [2]}, trials: 0", "trials", "got 0"),
    ],
)
def test_what_is_refused_names_its_line(file, tune, place, message):
    edit(file, f"tune: {{metric: side.same_label, {GRID}}}", f"tune: {{\n    {tune}}}")
    with pytest.raises(InputError, match=rf"polyvec\.yaml:[56]: spaces\.nodes\.tune\.{place}: .*{message}") as caught:
        Pipeline.load(file)
    assert len(str(caught.value).splitlines()) == 1


def test_a_parameter_stands_in_one_place(file):
    edit(file, "max_rounds: 50", "dim: 4")
    with pytest.raises(InputError, match=r"grid\.dim: got dim in params, too; .* Take it out of params"):
        Pipeline.load(file)


def test_an_embedder_of_which_nothing_can_be_chosen(file):
    edit(
        file,
        "embedder: spectral, params: {max_rounds: 50}",
        "embedder: propagation, start: {space: x}",
    )
    edit(file, GRID, "grid: {threads: [1, 2]}")
    with pytest.raises(InputError, match=r"tune\.grid\.threads: .*nothing of what propagation learns"):
        Pipeline.load(file)


def test_values_that_do_not_go_together_are_named_together(file):
    links = "embedder: node2vec, params: {threads: 1}"
    edit(file, "embedder: spectral, params: {max_rounds: 50}", links)
    edit(file, GRID, "grid: {dim: [8, 4], window: [2, 0]}")
    with pytest.raises(InputError, match=r"tune\.grid\.window: got 0; expected greater"):
        Pipeline.load(file)


def test_a_grid_has_a_bound():
    with pytest.raises(ValidationError, match="combinations to draw from; take values out"):
        Tune(metric="m", grid={f"p{i}": list(range(10)) for i in range(20)}, trials=3)
    grid = {name: list(range(11)) for name in "abc"}
    with pytest.raises(ValueError, match=f"at most {LIMIT:,} combinations; add trials: N to draw some of these 1,331"):
        Tune(metric="m", grid=grid)
    some = Tune(metric="m", grid=grid, trials=20).combinations()
    assert len({tuple(one.items()) for one in some}) == 20
    assert some == Tune(metric="m", grid=grid, trials=20).combinations()
    assert some != Tune(metric="m", grid=grid, trials=20, seed=1).combinations()
    assert some == sorted(some, key=lambda one: tuple(one.values()))
    assert len(Tune(metric="m", grid={"a": [1, 2]}, trials=20).combinations()) == 2


# What is done, and what is known afterwards


def test_trials_choose_the_parameters(file):
    assert (plan_of(file).action, plan_of(file).reason) == ("embed", "no version yet; tune: 3 trials, 0 done")
    attempt(Pipeline.load(file), "nodes", 2, "run")
    assert plan_of(file).reason == "no version yet; tune: 3 trials, 1 done"
    with pytest.raises(InputError, match="Got 2 of 3 trials that were not made"):
        steps.embed(Pipeline.load(file), "nodes", "run")
    try_all(file)
    found = {params: one.value for params, one in rows(file).items()}
    best = max(found, key=lambda params: (found[params], -params[0]))
    assert len(set(found.values())) > 1
    run_steps(file)
    version = Pipeline.load(file).vectors.find("nodes")
    assert version.manifest.recipe.params["dim"] == best[0] == version.dim
    [side, _chance] = Pipeline.load(file).vectors.metrics(version)
    assert side["value"] == found[best]  # nothing is drawn at random here
    idle = plan_of(file)
    said = f"same data, same recipe; tuned: dim={best[0]} (side.same_label {found[best]:.3f}, the best of 3 trials)"
    assert (idle.action, idle.reason, idle.idle) == ("up to date", said, True)
    assert make_plan(Pipeline.load(file)).idle


def test_the_lowest_where_lower_is_better(file):
    edit(file, GRID, f"{GRID}, direction: minimize")
    run_steps(file)
    found = {params: one.value for params, one in rows(file).items()}
    chosen = Pipeline.load(file).vectors.find("nodes").manifest.recipe.params["dim"]
    assert found[(chosen,)] == min(found.values()) < max(found.values())
    [*_, last] = table(Pipeline.load(file).vectors.find("nodes"))[1]
    assert float(last[1]) == pytest.approx(max(found.values()), abs=1e-4)  # the best first, and that is the lowest


def test_trials_are_no_scores_of_a_version(file):
    run_steps(file)
    store = Pipeline.load(file).vectors
    assert {row["metric"] for row in store.metrics(store.find("nodes"))} == {"same_label", "chance"}
    assert len(store.metrics(store.find("nodes"))) == 2
    import pyarrow.parquet as pq

    every = [row for path in store.paths.metrics.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {(row["version"], row["evaluation"]) for row in every} == {(0, "tune:side"), (1, "side")}


def test_nothing_of_a_trial_stays_but_its_record(file):
    try_all(file)
    store = Pipeline.load(file).vectors
    assert store.spaces() == [] and store.quarantined("nodes") == []
    assert not [path for path in (store.paths.trials("nodes")).rglob("*") if path.is_file()]


def test_only_new_combinations_are_tried(file):
    run_steps(file)
    before = rows(file)
    edit(file, "[2, 3, 5]", "[2, 3, 4, 5]")
    assert plan_of(file).reason == "tune: 4 trials, 3 done"
    assert plan_of(file).tuning.pending[0].number == 3
    run_steps(file)
    after = rows(file)
    assert set(after) - set(before) == {(4,)}
    assert {params: after[params].time for params in before} == {params: one.time for params, one in before.items()}
    edit(file, "side.same_label, ", "side.chance, ")  # another score of the same trials
    assert plan_of(file).tuning.settled


def test_a_trial_that_is_recorded_is_not_made_again(file):
    one = attempt(Pipeline.load(file), "nodes", 1, "run")
    assert attempt(Pipeline.load(file), "nodes", 1, "other") == one
    assert attempt(Pipeline.load(file), "nodes", 1, "other", force=True).time > one.time


def test_force_says_so_and_makes_all_again(file):
    run_steps(file)
    before = rows(file)
    assert plan_of(file, force=True).reason == "forced; tune: 3 trials again"
    try_all(file, force=True)
    assert all(rows(file)[params].time > one.time for params, one in before.items())


def test_other_data_another_evaluation_other_trials(file):
    run_steps(file)
    with (file.parent / "links.tsv").open("a") as out:
        out.write("a1\tb1\n")
    assert plan_of(file).reason == "the dataset changed; tune: 3 trials, 0 done"
    run_steps(file)
    assert plan_of(file).idle
    assert len(rows_of_all(file)) == 6 and len(listed(Pipeline.load(file).vectors.find("nodes"))) == 3
    edit(file, "k: 3", "k: 2")
    assert plan_of(file).reason == "tune: 3 trials, 0 done"
    run_steps(file)
    write_labels(file.parent / "labels.tsv", 5)
    assert plan_of(file).reason == "tune: 3 trials, 0 done"


def test_what_follows_waits_for_the_choice(file):
    edit(file, "evaluate:", MORE)
    run_steps(file)
    assert plan_of(file, "more").idle
    edit(file, "[2, 3, 5]", "[2, 3, 4, 5]")
    more = plan_of(file, "more")
    assert (more.action, more.reason) == ("embed", "nodes will change")


def test_the_first_of_equal_trials(file):
    edit(
        file,
        "nodes: [{name: side, metric: neighbours, path: labels.tsv, k: 3}]",
        "nodes: [{name: side, metric: neighbours, path: labels.tsv, k: 15}]",
    )  # all others are neighbours
    edit(file, "[2, 3, 5]", "[5, 2, 3]")
    run_steps(file)
    assert len({one.value for one in rows(file).values()}) == 1
    assert Pipeline.load(file).vectors.find("nodes").dim == 5


# What goes wrong


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(file):
    edit(file, "[2, 3, 5]", "[99, 2, 3]")
    try_all(file)
    found = rows(file)
    assert "dim" in found[(99,)].error and found[(99,)].value is None
    assert plan_of(file).tuning.settled  # it is not tried again for ever
    run_steps(file)
    version = Pipeline.load(file).vectors.find("nodes")
    columns, lines, said = table(version)
    assert columns == ["dim", "side.same_label", "seconds", "note"]
    assert lines[0][-1] == "chosen" and lines[-1][-1].startswith("failed: ") and lines[-1][0] == "99"
    assert said.startswith("3 trials. They were judged by the evaluation that is reported: ") and "optimistic" in said
    [best, _other, failed] = listed(version)
    assert (best["chosen"], failed["chosen"], failed["scores"]) == (True, False, {})
    assert failed["error"] == found[(99,)].error


def test_all_trials_fail(file):
    edit(file, "[2, 3, 5]", "[99, 98]")
    with pytest.raises(InputError, match=r"All 2 trials failed, the first \(dim=99\) with: Got "):
        run_steps(file)
    assert len(plan_of(file).tuning.pending) == 2  # these are
    before = rows(file)[(99,)].time
    try_all(file)
    assert rows(file)[(99,)].time > before


def test_a_score_that_is_no_number_is_never_the_best(file, monkeypatch):
    """As the correlation of constant vectors."""
    from evaluation.base import Report, Score

    def judge(pipeline, version, evaluation):
        value = {2: float("nan"), 3: 0.5, 5: 0.25}[version.dim]
        return Report((Score("same_label", value),), {})

    monkeypatch.setattr(trying, "judge", judge)
    try_all(file)
    assert rows(file)[(2,)].error == "the score is not a number"
    assert rows(file)[(2,)].scores == {"same_label": None}
    assert plan_of(file).tuning.best.values == {"dim": 3}


def test_a_full_disk_is_no_fault_of_the_parameters(file, monkeypatch):
    def embed(*args, **more):
        raise FullError("no room")

    monkeypatch.setattr(trying, "embed", embed)
    with pytest.raises(FullError):
        attempt(Pipeline.load(file), "nodes", 1, "run")
    assert rows(file) == {}
    assert plan_of(file).reason == "no version yet; tune: 3 trials, 0 done"


def test_a_score_that_the_evaluation_does_not_give(file, monkeypatch):
    """Of an evaluation whose scores are not known beforehand: what it gives is said, and the trials stay."""
    from flows import tune_checks

    monkeypatch.setattr(tune_checks, "SCORES", {})
    edit(file, "side.same_label", "side.accuracy")
    with pytest.raises(
        InputError, match=r"Got tune\.metric 'side\.accuracy'; the evaluation 'side' gives same_label, chance"
    ):
        run_steps(file)
    edit(file, "side.accuracy", "side")
    assert plan_of(file).tuning.settled


def test_input_that_changes_during_a_trial_is_no_score_of_what_it_was(file, monkeypatch):
    real = trying.judge

    def changed(pipeline, version, evaluation):
        labels = file.parent / evaluation.path
        labels.write_text(labels.read_text().replace("a0\ta", "a0\tb"))
        return real(pipeline, version, evaluation)

    monkeypatch.setattr(trying, "judge", changed)
    with pytest.raises(InputError, match="Got other input for nodes, trial 1, than when it began"):
        attempt(Pipeline.load(file), "nodes", 1, "one")
    assert trials.records(Pipeline.load(file).vectors.paths, "nodes") == {}


def test_what_was_cut_off_is_gone_on_from(file, monkeypatch):
    """The first attempt ends as by Ctrl-C after its version was made; the second takes that version."""

    class Stop(BaseException):
        pass

    real = trying.judge

    def stop(*args):
        raise Stop

    monkeypatch.setattr(trying, "judge", stop)
    with pytest.raises(Stop):
        attempt(Pipeline.load(file), "nodes", 1, "first")
    left = Pipeline.load(file).vectors.paths.trials("nodes")
    [scratch] = [path for path in left.iterdir() if path.name != "_locks"]
    part = next(scratch.glob("nodes/v*/*.parquet"))
    seen = []

    def look(pipeline, version, evaluation):
        seen.append((version.number, version.manifest.run, part.exists()))
        return real(pipeline, version, evaluation)

    monkeypatch.setattr(trying, "judge", look)
    attempt(Pipeline.load(file), "nodes", 1, "second")
    assert seen == [(1, "first", True)]
    assert not scratch.exists()


def test_what_nobody_goes_on_from_is_deleted(file):
    old = Pipeline.load(file).vectors.paths.trials("nodes") / "0123456789abcdef"
    old.mkdir(parents=True)
    attempt(Pipeline.load(file), "nodes", 1, "run")
    assert not old.exists()


def test_two_runs_make_a_trial_once(file, monkeypatch):
    pipeline, met, made = Pipeline.load(file), threading.Barrier(2, timeout=20), []
    real = trying.tuning_now

    def both(*args):
        found = real(*args)
        if args[-1]:
            met.wait()  # both have seen that nothing is recorded
        return found

    monkeypatch.setattr(trying, "tuning_now", both)
    runs = [
        threading.Thread(target=lambda: made.append(attempt(pipeline, "nodes", 1, "run", force=True))) for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(made) == 2 and made[0] == made[1]


# Spaces of other kinds


def test_a_fused_space_reads_what_it_is_made_of_in_the_real_store(file):
    edit(
        file,
        "embedder: spectral, params: {max_rounds: 50}, tune: {metric: side.same_label, " + GRID + "}",
        "embedder: spectral, params: {dim: 5}",
    )
    edit(file, "evaluate:", "  both: {fuse: [nodes, other], embedder: concat, tune: {metric: probe, grid: {weights: [{nodes: 1, other: 0}, {nodes: 0.5, other: 1}], dim: [2]}}}\n"
         "  other: {dataset: links, embedder: spectral, params: {dim: 3}}\nevaluate:\n  both: [{name: probe, metric: label_probe, path: labels.tsv}]")  # fmt: skip
    run_steps(file)
    store = Pipeline.load(file).vectors
    version = store.find("both")
    assert version.manifest.upstream == {"nodes": 1, "other": 1}
    assert [one["chosen"] for one in listed(version)].count(True) == 1
    assert len(listed(version)) == 2
    edit(file, "params: {dim: 3}", "params: {dim: 3, tau: 2}")
    assert plan_of(file, "both").reason == "other will change; tune: 2 trials, 0 done"
    assert all(one["error"] is None for one in listed(version))
    run_steps(file, only=["other"])
    assert plan_of(file, "both").reason == "other changed; tune: 2 trials, 0 done"
    run_steps(file)
    assert [len(listed(store.find(f"both@{n}"))) for n in (1, 2)] == [2, 2]


def test_a_parameter_in_another():
    assert merged({"weights": {"a": 1}}, {"weights.b": 2, "x": 3}) == {"weights": {"a": 1, "b": 2}, "x": 3}
    params = {"weights": {"a": 1}}
    merged(params, {"weights.a": 5})
    assert params == {"weights": {"a": 1}}
