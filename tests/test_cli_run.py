"""`polyvec run`, in this process on the session's server, and in processes of its own where it is stopped."""

from __future__ import annotations

import json
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.pipeline import Pipeline
from storage.store import VectorStore
from tests.flow_helpers import wait_for
from tests.helpers_store import PARAMS, PIPELINE, edit, process, run_steps, write_project


def store_of(file):
    return Pipeline.load(file).vectors


def numbers(file):
    store = store_of(file)
    return {name: [v.number for v in store.space(name).versions()] for name in store.spaces()}


def refused(answer, *parts: str, code: int = 2) -> None:
    """The exit code, one message on stderr that holds all parts, and no traceback."""
    assert answer.code == code
    assert "error: " in answer.err
    for part in parts:
        assert part in answer.err
    assert "Traceback" not in answer.err
    assert "unexpected" not in answer.err


def test_run_run_again_change_run(server, file, cli):
    first = cli("run")
    assert first.code == 0
    rows = {row["space"]: row for row in first.table}
    assert {name: (row["version"], row["dim"], row["status"]) for name, row in rows.items()} == {
        "words": ("1", "8", "new"),
        "nodes": ("1", "8", "new"),
    }
    assert rows["nodes"]["rows"] == "16" and rows["nodes"]["score (baseline)"].startswith("side same_label ")
    assert rows["words"]["path"] == str(file.parent / "vectors/words")
    assert "report: " in first.out
    for line in (
        "starting the flow on",
        "embed words: done in",
        "embed nodes: done in",
        "evaluate nodes/side: done in",
    ):
        assert line in first.err
    assert "Traceback" not in first.err

    second = cli("run")
    assert second.code == 0
    assert second.err == ""
    assert second.out.endswith("everything is up to date; no flow was started\n")
    assert {row["space"]: (row["version"], row["status"], row["score (baseline)"]) for row in second.table} == {
        name: (row["version"], "up to date", row["score (baseline)"]) for name, row in rows.items()
    }
    assert numbers(file) == {"words": [1], "nodes": [1]}

    edit(file, "epochs: 1", "epochs: 2")
    third = cli("run")
    assert {row["space"]: (row["version"], row["status"]) for row in third.table} == {
        "words": ("2", "new"),
        "nodes": ("1", "up to date"),
    }
    assert "embed nodes" not in third.err
    assert numbers(file) == {"words": [1, 2], "nodes": [1]}


def test_run_json(server, file, cli):
    first = json.loads(cli("run", "--json").out)
    assert (first["idle"], first["errors"]) == (False, {})
    assert [(row["space"], row["version"], row["rows"]) for row in first["rows"]] == [
        ("words", 1, 10),
        ("nodes", 1, 16),
    ]
    second = json.loads(cli("run", "--json").out)
    assert second["idle"] is True and [row["status"] for row in second["rows"]] == ["up to date"] * 2


def test_only_and_force(server, file, cli):
    assert cli("run", "--only", "nodes").code == 0
    assert numbers(file) == {"nodes": [1]}
    assert cli("run", "--only", "nodes", "--force").code == 0
    assert numbers(file) == {"nodes": [1, 2]}
    refused(cli("run", "--only", "wrods"), "--only wrods; the pipeline has the spaces words, nodes.")


def test_a_failing_space_leaves_the_others(server, file, cli):
    edit(file, "min_count: 1", "min_count: 9999")
    answer = cli("run")
    refused(
        answer, "words: Got a corpus of 10 distinct words, none of which occurs min_count=9999 times", "Lower min_count"
    )
    assert {row["space"]: row["status"] for row in answer.table} == {"words": "failed", "nodes": "new"}
    assert numbers(file) == {"nodes": [1]}
    edit(file, "min_count: 9999", "min_count: 1")
    assert cli("run").code == 0
    assert numbers(file) == {"nodes": [1], "words": [1]}


def test_a_plugin_that_raises_is_exit_code_1(server, file, cli, stumble):
    edit(file, "embedder: node2vec", "embedder: stumble")
    answer = cli("run")
    refused(answer, "nodes: RuntimeError: the plug-in stumbled", code=1)
    assert {row["space"]: row["status"] for row in answer.table} == {"words": "new", "nodes": "failed"}
    assert numbers(file) == {"words": [1]}


def test_both_kinds_of_failure_are_exit_code_1(server, file, cli, stumble):
    edit(file, "embedder: node2vec", "embedder: stumble")
    edit(file, "min_count: 1", "min_count: 9999")
    answer = cli("run")
    refused(answer, "the plug-in stumbled", "min_count=9999", code=1)
    assert numbers(file) == {}
    found = json.loads(cli("run", "--json").out)
    assert set(found["errors"]) == {"words", "nodes"}


def test_a_failing_evaluation_keeps_the_version(server, file, cli):
    (file.parent / "labels.tsv").write_text("id\tlabel\nnobody\tx\n")
    answer = cli("run")
    refused(answer, "nodes: evaluation 'side': Got no id that has both a vector and a label")
    assert numbers(file) == {"words": [1], "nodes": [1]}
    (file.parent / "labels.tsv").write_text("id\tlabel\na0\ta\na1\ta\nb0\tb\n")
    assert cli("run").code == 0
    assert numbers(file) == {"words": [1], "nodes": [1]}


def test_every_failing_evaluation_is_named(server, file, cli):
    edit(file, "k: 3}", "k: 3}, {name: more, metric: label_probe, path: wrong.tsv}")
    (file.parent / "wrong.tsv").write_text("name\tkind\n")
    (file.parent / "labels.tsv").write_text("id\tlabel\nnobody\tx\n")
    answer = cli("run")
    refused(answer, "nodes: evaluation 'side': Got", "nodes: evaluation 'more': Got")
    assert {row["space"]: row["status"] for row in answer.table} == {"words": "new", "nodes": "new, 2 not judged"}


def test_the_table_shows_the_scores_that_the_file_asks_for(server, file, cli):
    def score(answer):
        return {row["space"]: row["score (baseline)"] for row in answer.table}["nodes"]

    third = score(cli("run"))
    edit(file, "k: 3}", "k: 1}")
    first = score(cli("run"))
    assert third != first
    edit(file, "k: 1}", "k: 3}")
    assert score(cli("run")) == third  # judged before: nothing runs, and the right one is shown
    edit(file, "k: 3}", "k: 3}, {name: other, metric: neighbours, path: labels.tsv, k: 2}")
    both = score(cli("run"))
    assert both.startswith(third + "; other ")  # what stood already is shown beside the new one
    edit(file, "epochs: 1", "epochs: 2")
    assert score(cli("run")) == both  # another space ran
    [row] = [row for row in json.loads(cli("run", "--json").out)["rows"] if row["space"] == "nodes"]
    assert [s["evaluation"] for s in row["scores"]] == ["side", "other"] and row["scores"][0]["scores"][
        "same_label"
    ] > 0


def test_a_lost_part_is_made_again(server, file, cli):
    assert cli("run").code == 0
    for path in VectorStore(file.parent / "vectors").find("nodes").files:
        Path(path).unlink()
    assert "1 of its Parquet files are missing" in cli("plan").out
    assert cli("run").code == 0
    assert numbers(file) == {"words": [1], "nodes": [1, 2]}


def test_a_server_that_does_not_answer(file, cli, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        refused(cli("run"), "Got no answer from the Prefect server at http://127.0.0.1:9/api", "unset PREFECT_API_URL")


def test_reading_needs_only_the_store_of_the_file(server, file, cli):
    assert cli("run").code == 0
    edit(file, "embedder: word2vec", "embedder: word3vec")
    refused(cli("plan"), "word3vec")
    assert cli("ls").code == cli("show", "nodes").code == cli("search", "nodes", "a0").code == 0


def test_bad_lines_of_text_are_quarantined(server, file, cli):
    (file.parent / "text.txt").write_bytes((file.parent / "text.txt").read_bytes() + b"\xff\xfe\n")
    answer = cli("run")
    assert answer.code == 0 and {row["space"]: row["status"] for row in answer.table}["words"] == "new, 1 quarantined"
    assert "1 documents quarantined" in cli("show", "words").out
    assert [row["code"] for row in cli("show", "words", "--quarantine").table] == ["not_utf8"]


def test_a_broken_picture_among_good_ones(server, tmp_path, cli):
    for package in ("torch", "torchvision", "PIL"):
        if find_spec(package) is None:
            pytest.skip(f"the extra image is not installed: no {package}")
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(folder / f"good{i}.png")
    (folder / "broken.png").write_bytes((folder / "good0.png").read_bytes()[:100])
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    params = "backbone: mobilenet_v3_small, weights: random, batch_size: 4, precision: fp32, threads: 1"
    (tmp_path / "polyvec.yaml").write_text(
        f"datasets: {{photos: {{kind: images, path: photos, id: stem}}}}\nspaces: {{looks: {{dataset: photos, embedder: cnn, params: {{{params}}}}}}}\n"
    )
    answer = cli("run")
    assert answer.code == 0, answer.err
    assert answer.table[0]["status"] == "new, 3 quarantined"
    found = json.loads(cli("show", "looks", "--json").out)
    counts = found["manifest"]["counts"]
    assert (counts["input"], counts["embedded"], counts["quarantined"]) == (7, 4, 3)
    rows = cli("show", "looks", "--quarantine").table
    assert {row["id"] for row in rows} == {"broken", "text", "empty"}
    assert all(row["code"] and row["message"] and str(folder) in row["location"] for row in rows)
    assert store_of(tmp_path / "polyvec.yaml").find("looks").ids.tolist() == [f"good{i}" for i in range(4)]
    for path in folder.glob("good*"):
        path.unlink()
    refused(cli("run"), "Got 3 rows for space 'looks', none of which could be embedded")
    assert numbers(tmp_path / "polyvec.yaml") == {"looks": [1]}


EDGES = "links: {kind: graph, edges: links.tsv}"
BAD_INPUT = {
    "a missing data file": (lambda f: (f / "text.txt").unlink(), ["dataset 'text': Got path 'text.txt'", "no such file"]),
    "a missing label file": (lambda f: (f / "labels.tsv").unlink(), ["evaluation 'side': got path 'labels.tsv'"]),
    "an empty corpus": (lambda f: (f / "text.txt").write_text("\n \n"), ["words: Got 1 file(s) without a word"]),
    "an empty graph": (lambda f: (f / "links.tsv").write_text(""), ["nodes: Got", "without an edge"]),
    "a malformed edge": (lambda f: (f / "links.tsv").write_text("a\tb\nb\tc\nc\n"), ["nodes: Got 1 field(s) on line 3 of", "links.tsv'; expected 2"]),
    "a folder without pictures": (lambda f: _pictures(f), ["dataset 'photos': Got path 'photos'", "end in .jpg"]),
    "two pictures of one id": (lambda f: _pictures(f, "a/x.png", "b/x.jpg"), ["dataset 'photos': Got the id 'x' twice", "a/x.png", "b/x.jpg"]),
    "an unknown embedder": (lambda f: edit(f / "polyvec.yaml", "word2vec", "word3vec"), ["polyvec.yaml:6", "word3vec", "installed are: als, bpr, "]),
    "an unknown parameter": (lambda f: edit(f / "polyvec.yaml", "epochs", "epoch"), ["polyvec.yaml:6", "'epoch'", "Did you mean 'epochs'?"]),
    "a wrong value": (lambda f: edit(f / "polyvec.yaml", "dim: 8, epochs", "dim: 0, epochs"), ["polyvec.yaml:6", "got 0; expected greater than or equal to 1"]),
    "a cycle": (lambda f: edit(f / "polyvec.yaml", "words: {", "words: {start: {space: words}, "), ["Got a cycle among the spaces: words -> words"]),
    "an object store of another kind": (lambda f: edit(f / "polyvec.yaml", "./vectors", "gs://bucket"), ["expected a folder, or s3://bucket/prefix"]),
    "a store below a file": (lambda f: edit(f / "polyvec.yaml", "./vectors", "text.txt/vectors"), ["Got the store path", "cannot be written"]),
    "a store that is a file": (lambda f: edit(f / "polyvec.yaml", "./vectors", "text.txt"), ["Got the store path", "cannot be written"]),
    "a key of later": (lambda f: (f / "polyvec.yaml").write_text(PIPELINE + "gates: {}\n"), ["polyvec.yaml:10: gates: not available yet"]),
}  # fmt: skip


def _pictures(folder, *names):
    (folder / "photos").mkdir()
    for name in names:
        (folder / "photos" / name).parent.mkdir()
        (folder / "photos" / name).touch()
    edit(folder / "polyvec.yaml", "datasets:", "datasets:\n  photos: {kind: images, path: photos, id: stem}")
    edit(
        folder / "polyvec.yaml",
        "spaces:",
        "spaces:\n  looks: {dataset: photos, embedder: cnn, params: {backbone: resnet18, weights: random}}",
    )


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(server, file, cli, case):
    damage, parts = BAD_INPUT[case]
    damage(file.parent)
    refused(cli("run"), *parts)
    if "words: " not in parts[0] and "nodes: " not in parts[0]:  # those are found when the file is read
        assert not (file.parent / "vectors").exists()


@pytest.mark.parametrize(
    "case", ["a missing data file", "an unknown parameter", "a cycle", "two pictures of one id", "a key of later"]
)
def test_bad_input_is_found_by_the_plan_already(file, cli, case):
    damage, parts = BAD_INPUT[case]
    damage(file.parent)
    refused(cli("plan"), *parts)


def test_another_run_holds_a_space(server, file, cli, monkeypatch):
    from flows import steps
    from storage.writer import writing

    monkeypatch.setattr(steps, "LOCK_WAIT", 0.3)
    with writing(store_of(file).space("words"), "the-other", wait=0, waiting=print):
        answer = cli("run")
    refused(answer, "words: Space 'words' is still being written by run the-other (process", code=1)
    assert "waiting up to" in answer.err
    assert numbers(file) == {"nodes": [1]}


@pytest.mark.slow
def test_without_a_server_it_brings_its_own(file, tmp_path):
    with process("run", cwd=tmp_path, home=tmp_path / "home") as running:
        said, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    assert "Traceback" not in err
    assert numbers(file) == {"words": [1], "nodes": [1]}
    assert "report: " in said
    with process("run", cwd=tmp_path, home=tmp_path / "second") as running:
        said, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert "no flow was started" in said
    assert not (tmp_path / "second").exists()


def long_project(folder):
    """Words in a moment, nodes in about an hour."""
    file = write_project(folder)
    edit(file, PARAMS["node2vec"], "dim: 64, walks: 100, length: 80, epochs: 2000, threads: 1")
    return file


def start_long(folder, home, url):
    """A run whose second space is being learned."""
    file = long_project(folder)
    running = process("run", cwd=folder, home=home, url=url)
    try:
        wait_for(lambda: (folder / "vectors/_locks/nodes.json").exists() or running.poll() is not None, 90)
        wait_for(
            lambda: (
                (folder / "vectors/words/_delta_log/00000000000000000000.json").exists() or running.poll() is not None
            )
        )
        time.sleep(1)
        assert running.poll() is None
    except BaseException:
        running.kill()
        running.communicate()
        raise
    return file, running


@pytest.mark.slow
def test_ctrl_c(server, home, tmp_path):
    file, running = start_long(tmp_path, home, server)
    with running:
        running.send_signal(signal.SIGINT)
        started = time.monotonic()
        said, err = running.communicate(timeout=90)
    assert running.returncode == 130, (said, err)
    assert "interrupted; what was committed stays, and the next run goes on from there" in err
    assert "Traceback" not in err
    assert time.monotonic() - started < 30
    after(file)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_kill_9(server, home, tmp_path, wait):
    file, running = start_long(tmp_path, home, server)
    with running:
        time.sleep(wait)
        running.kill()
        running.communicate(timeout=30)
    assert running.returncode == -signal.SIGKILL
    after(file)


def after(file):
    """The finished space reads, the other has no version, and the next run finishes."""
    assert numbers(file) == {"words": [1]}
    assert len(store_of(file).find("words").matrix) == 10
    edit(file, "epochs: 2000", "epochs: 1")
    edit(file, "walks: 100", "walks: 1")
    run_steps(file)
    assert numbers(file) == {"words": [1], "nodes": [1]}
    store_of(file).find("nodes").encoder()
