"""Scans handed from a run's plan to its steps."""

import pytest

from flows import looks, steps
from flows.pipeline import Pipeline
from flows.plan import make_plan
from storage.inputs.specs import DatasetSpec
from tests.helpers_store import write_project


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline.load(write_project(tmp_path))


@pytest.fixture
def scanned(monkeypatch):
    """Names of the kinds of datasets that were looked at."""
    seen, real = [], DatasetSpec.scan
    monkeypatch.setattr(DatasetSpec, "scan", lambda self, *rest: seen.append(self.kind) or real(self, *rest))
    return seen


def test_the_steps_of_a_run_take_the_scans_of_its_plan(pipeline, scanned):
    plan = make_plan(pipeline)
    looks.hand_over("run", plan.scans)
    planned = list(scanned)
    assert steps.scan_dataset(pipeline, "text", "run").digest == plan.scans["text"].digest
    assert steps.embed(pipeline, "words", "run")["words"].fresh
    assert scanned == planned and sorted(set(planned)) == sorted(planned)
    looks.forget("run")
    steps.scan_dataset(pipeline, "text", "run")
    assert len(scanned) == len(planned) + 1


def test_other_runs_and_late_steps_look_again(pipeline, monkeypatch):
    looks.hand_over("run", make_plan(pipeline).scans)
    file = pipeline.base / "text.txt"
    file.write_text(file.read_text() + "something new\n")
    before, now = (looks.look(pipeline, "text", run).digest for run in ("run", "another"))
    assert before != now
    monkeypatch.setattr(looks, "FRESH", 0.0)
    assert looks.look(pipeline, "text", "run").digest == now
    looks.forget("run")
