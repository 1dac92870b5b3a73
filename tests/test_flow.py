"""The Prefect flow on a server: named task runs, artifacts, failures. What the steps do is tested without Prefect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedders import registry
from flows.pipeline import Pipeline
from flows.progress import Lines, reporting_to
from tests.flow_helpers import shared_server, write_plugin
from tests.helpers_store import PARAMS, edit, write_project


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with shared_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def file(tmp_path):
    return write_project(tmp_path)


def flow_runs():
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return sorted(client.read_flow_runs(), key=lambda run: run.start_time)


def task_runs(flow_run):
    """The flow run's task runs by name; the server writes them a moment after they end."""
    import time

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    before: set[str] = set()
    for _ in range(100):
        with get_client(sync_client=True) as client:
            found = {run.name: run for run in client.read_task_runs(flow_run_filter=chosen)}
        ended = all(r.state and (r.state.is_final() or r.state_name == "NotReady") for r in found.values())
        if found and ended and before == set(found):  # none came in since the last look
            return found
        before = set(found)
        time.sleep(0.3)
    raise AssertionError({name: run.state_name for name, run in found.items()})


def artifact(key):
    """The newest artifact of a key (`Artifact.get` leaves its connection open)."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=chosen, sort=ArtifactSort.UPDATED_DESC, limit=1)
    return found[0] if found else None


def test_a_run_on_a_server(server, file):
    from flows.flow import run_pipeline

    answer = run_pipeline(str(file))
    assert [(row["space"], row["status"], row["version"]) for row in answer["rows"]] == [
        ("words", "new", 1),
        ("nodes", "new", 1),
    ]
    json.dumps(answer)

    run = flow_runs()[-1]
    assert (run.name, run.state_name) == (f"{file.parent.name}/polyvec.yaml", "Completed")
    assert run.parameters == {"file": str(file), "only": None, "force": False, "promote": True, "replace": False}
    names = {"read text", "read links", "embed words", "embed nodes", "evaluate nodes/side", "release", "report"}
    found = task_runs(run)
    assert set(found) == names
    assert {task.state_name for task in found.values()} == {"Completed"}
    assert found["evaluate nodes/side"].end_time >= found["embed nodes"].end_time

    table = artifact("polyvec-results")
    assert table.type == "table"
    rows = json.loads(table.data)
    assert [row["space"] for row in rows] == ["words", "nodes"]
    assert rows[1]["score (baseline)"].startswith("side same_label ")
    report = artifact("polyvec-report")
    assert report.type == "markdown"
    assert "## words @ 1" in report.data and "data:image/png;base64," in report.data
    assert report.flow_run_id == run.id
    assert Path(answer["report"]).read_text().startswith("# polyvec run ")


def test_only_what_is_due_is_run(server, file):
    from flows.flow import run_pipeline

    run_pipeline(str(file))
    edit(file, "epochs: 1", "epochs: 2")
    answer = run_pipeline(str(file))
    assert set(task_runs(flow_runs()[-1])) == {"read text", "embed words", "release", "report"}
    assert [(row["space"], row["status"], row["version"]) for row in answer["rows"]] == [
        ("words", "new", 2),
        ("nodes", "up to date", 1),
    ]
    edit(file, "k: 3", "k: 2")
    run_pipeline(str(file))
    assert set(task_runs(flow_runs()[-1])) == {"evaluate nodes/side", "report"}


def test_a_start_waits_for_its_upstream(server, file):
    from flows.flow import run_pipeline

    edit(
        file,
        "evaluate:",
        f"  more: {{dataset: text, embedder: word2vec, start: {{space: words}}, params: {{{PARAMS['word2vec']}}}}}\nevaluate:",
    )
    run_pipeline(str(file))
    found = task_runs(flow_runs()[-1])
    assert found["embed more"].start_time >= found["embed words"].end_time
    assert dict(Pipeline.load(file).vectors.find("more").manifest.upstream) == {"words": 1}


@pytest.fixture
def stumble(tmp_path, monkeypatch):
    """An installed plug-in whose fit raises."""
    monkeypatch.syspath_prepend(str(write_plugin(tmp_path / "site")))
    registry.known.cache_clear()
    yield
    monkeypatch.undo()
    registry.known.cache_clear()


def test_a_failed_task_fails_the_flow_and_finished_spaces_stay(server, file, stumble):
    from flows.flow import run_pipeline
    from flows.report import RunFailedError

    edit(file, "embedder: node2vec", "embedder: stumble")
    with pytest.raises(RunFailedError, match="nodes: RuntimeError: the plug-in stumbled") as caught:
        run_pipeline(str(file))
    assert caught.value.exit_code == 1
    assert {row.space: row.status for row in caught.value.results.rows} == {"words": "new", "nodes": "failed"}
    run = flow_runs()[-1]
    assert run.state_name == "Failed"
    found = task_runs(run)
    states = {name: task.state_name for name, task in found.items()}
    assert [name.split("-")[0] for name, state in states.items() if state == "NotReady"] == ["evaluate"]
    assert {name: state for name, state in states.items() if state != "NotReady"} == {
        "read text": "Completed",
        "read links": "Completed",
        "embed words": "Completed",
        "embed nodes": "Failed",
        "report": "Completed",
    }
    assert Pipeline.load(file).vectors.spaces() == ["words"]


def test_what_starts_from_a_failed_space_is_not_run(server, file):
    from flows.flow import run_pipeline
    from flows.report import RunFailedError

    edit(file, "min_count: 1", "min_count: 9999")
    edit(
        file,
        "evaluate:",
        f"  more: {{dataset: text, embedder: word2vec, start: {{space: words}}, params: {{{PARAMS['word2vec']}}}}}\nevaluate:",
    )
    with pytest.raises(RunFailedError, match="min_count=9999") as caught:
        run_pipeline(str(file))
    assert {row.space: row.status for row in caught.value.results.rows} == {
        "words": "failed",
        "more": "not run",
        "nodes": "new",
    }
    assert set(caught.value.results.errors) == {"words"}
    assert caught.value.exit_code == 2
    assert Pipeline.load(file).vectors.spaces() == ["nodes"]


def test_a_dataset_that_cannot_be_read_any_more_fails_its_spaces(server, file, monkeypatch):
    """Between the plan and the step, somebody took a file away."""
    from embedders.errors import InputError
    from flows import steps
    from flows.flow import run_pipeline
    from flows.report import RunFailedError

    def scan(pipeline, name, run):
        if name == "text":
            raise InputError("text.txt is gone")
        return real(pipeline, name, run)

    real = steps.scan_dataset
    monkeypatch.setattr(steps, "scan_dataset", scan)
    with pytest.raises(RunFailedError, match=r"words: text\.txt is gone") as caught:
        run_pipeline(str(file))
    assert caught.value.exit_code == 2
    assert {row.space: row.status for row in caught.value.results.rows} == {"words": "not run", "nodes": "new"}
    assert Pipeline.load(file).vectors.spaces() == ["nodes"]


def test_bad_input_fails_before_any_task(server, file):
    from embedders.errors import InputError
    from flows.flow import run_pipeline

    edit(file, "dim: 8, epochs", "dim: 0, epochs")
    with pytest.raises(InputError, match=r"polyvec\.yaml:6"):
        run_pipeline(str(file))
    assert flow_runs()[-1].state_name == "Failed"
    assert not (file.parent / "vectors").exists()


def test_a_long_step_shows_its_progress(server, monkeypatch):
    from prefect import flow

    from flows import tasks

    monkeypatch.setattr(tasks, "ARTIFACT_AFTER", 0.0)
    seen = []

    @flow(name="long")
    def long():
        with tasks.shown_on_server("My.Space") as tell:
            for done in (10, 25):
                tell(done, 40, "words")
                seen.append(artifact("progress-my-space").data)

    long()
    assert seen == [25.0, 62.5]
    last = artifact("progress-my-space")
    assert (last.type, last.data) == ("progress", 100.0)
    assert last.description == "embed My.Space (40 words)"


def test_a_short_step_makes_no_artifact(server):
    from prefect import flow

    from flows import tasks

    @flow(name="short")
    def short():
        with tasks.shown_on_server("short-one") as tell:
            tell(1, 1, "words")

    short()
    assert artifact("progress-short-one") is None


def test_a_server_that_goes_away_does_not_end_the_training(monkeypatch):
    """Telling how far a step is must not decide whether it is done."""
    from flows import tasks

    said = []

    def lost(*given, **more):
        raise ConnectionError("gone")

    monkeypatch.setattr(tasks, "create_progress_artifact", lost)
    monkeypatch.setattr(tasks, "ARTIFACT_AFTER", 0.0)
    with reporting_to(Lines(said.append)), tasks.shown_on_server("words") as progress:
        for done in range(5):
            progress(done, 5, "words")
    assert said == ["embed words: the Prefect server does not answer (gone); going on without telling it"]
