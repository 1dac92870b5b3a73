"""What must not happen when somebody deletes, moves or renames things by hand, or comes with another file."""

from __future__ import annotations

import shutil

import pytest

from embedders.errors import InputError
from flows.pipeline import Pipeline
from flows.plan import make_plan
from storage import promotion, tables
from storage.errors import DamagedError, ReplacedError
from storage.store import VectorStore
from storage.verify import verify
from tests.helpers_store import batch_of, edit, encoder_of, given, put, rejected, run_steps, write_project


@pytest.fixture
def store(tmp_path):
    """A space of two released versions."""
    found = VectorStore(tmp_path / "vectors")
    for run in ("one", "two"):
        version = put(found, encoder_of("ab"), run=run)
        promotion.commit(found.paths, {"s": version.number}, run)
    return found


@pytest.fixture
def file(tmp_path):
    return write_project(tmp_path / "project")


def test_a_space_whose_log_is_gone_is_neither_swept_nor_begun_anew(store, tmp_path):
    before = {path for path in store.root.rglob("*.parquet") if "_releases" not in path.parts}
    (store.root / "s/_delta_log").rename(tmp_path / "kept")
    with pytest.raises(DamagedError, match=r"A release holds s@2, and the log in .* is gone\. Restore it"):
        put(store, encoder_of("c"))
    assert before <= set(store.root.rglob("*.parquet"))
    (tmp_path / "kept").rename(store.root / "s/_delta_log")
    assert list(verify(store.find("s"))) == []


def test_a_space_that_was_deleted_begins_anew_with_the_next_number(store):
    """Release 2 means s@2 for ever: another s@2 would put other vectors under it."""
    shutil.rmtree(store.root / "s")
    assert put(store, encoder_of("c")).number == 3
    assert store.find("s@3").ids.tolist() == ["c"]
    assert put(store, encoder_of("d")).number == 4
    assert store.find("s@3").ids.tolist() == ["c"]


def test_releases_whose_log_is_gone_are_not_taken_for_none(store):
    shutil.rmtree(store.root / "_releases/_delta_log")
    with pytest.raises(DamagedError, match="_releases has lost its log"):
        store.find("s")


def test_a_run_does_not_undo_a_rollback_of_another_space(file):
    run_steps(file)
    edit(file, "epochs: 1", "epochs: 2")
    run_steps(file)
    store = Pipeline.load(file).vectors
    assert store.release() == {"words": 2, "nodes": 1}
    store.rollback(why="bad words")
    edit(file, "walks: 2", "walks: 3")
    run_steps(file)
    assert store.release() == {"words": 1, "nodes": 2}
    edit(file, "epochs: 2", "epochs: 3")
    run_steps(file)
    assert store.release() == {"words": 3, "nodes": 2}


def test_what_readers_have_is_guarded_as_the_newest_is(file):
    """dim 8, replaced by 9, rolled back to 8: the next run of dim 9 needs --replace again."""
    run_steps(file)
    edit(file, "dim: 8, epochs: 1", "dim: 9, epochs: 1")
    run_steps(file, replace=True)
    Pipeline.load(file).vectors.rollback()
    edit(file, "epochs: 1", "epochs: 2")
    with pytest.raises(ReplacedError, match="whose version 1 has 8"):
        make_plan(Pipeline.load(file))


def test_rows_of_another_kind_need_another_name(file):
    run_steps(file)
    edit(file, "dataset: links, embedder: node2vec, params: {dim: 8, walks: 2, length: 8, window: 2, threads: 1}", "dataset: text, embedder: word2vec, params: {dim: 8, min_count: 1}")  # fmt: skip
    with pytest.raises(ReplacedError, match="one each word, for space 'nodes'"):
        make_plan(Pipeline.load(file))


def test_a_dataset_must_not_hold_the_store(tmp_path):
    (tmp_path / "vectors/_reports/x").mkdir(parents=True)
    for name in ("a.png", "vectors/_reports/x/looks.png"):
        (tmp_path / name).write_bytes(b"picture")
    pipeline = Pipeline.model_validate(
        {
            "base": tmp_path,
            "datasets": {"all": {"kind": "images", "path": "**/*.png"}},
            "spaces": {"looks": {"dataset": "all", "embedder": "cnn"}},
        }
    )
    with pytest.raises(InputError, match=r"dataset 'all': got .*looks\.png', a file of the store"):
        make_plan(pipeline)


@pytest.mark.parametrize(
    "keep", ["{days: .inf}", "{days: 1e9}", "{versions: true}", "{versions: 0}", "{versions: 1.5}"]
)
def test_rules_that_mean_nothing(file, keep):
    file.write_text(f"keep: {keep}\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(InputError, match="keep"):
        Pipeline.load(file)


def test_rows_of_an_attempt_that_failed_leave_the_quarantine_when_their_input_is_back(store):
    from flows.steps import forget_attempts

    with pytest.raises(InputError):
        put(store, given(batch_of("", rejected=rejected(2))))
    assert len(tables.quarantined(store.paths, "s")) == 2
    forget_attempts(store, store.find("s"))
    assert tables.quarantined(store.paths, "s") == []
