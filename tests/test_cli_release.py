"""Releases by the command line: what runs release, and what people move. In this process, on the session's server."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from embedders import registry
from flows import steps
from flows.pipeline import Pipeline
from storage import delta
from storage.releases import read
from tests.flow_helpers import write_plugin
from tests.helpers_store import PARAMS, edit, process, python, run_steps


@pytest.fixture
def three(file):
    """Three releases, made by plain steps: words 1, 2, 3 with nodes 1."""
    run_steps(file, run="one")
    for epochs in (1, 2):
        edit(file, f"epochs: {epochs}", f"epochs: {epochs + 1}")
        run_steps(file, run=f"run{epochs + 1}")
    return file


def state_of(file):
    return read(Pipeline.load(file).vectors.paths)


def released(file):
    """The spaces of each release, oldest first, and where the names point."""
    state = state_of(file)
    return [dict(release.spaces) for release in state.releases], state.pointers


def tells(answer):
    """Whether a run says that it released something."""
    return re.search(r"^release \d+: ", answer.out, re.MULTILINE) is not None


def refused(answer, *parts, code=2):
    assert (answer.code, answer.out) == (code, ""), answer
    assert answer.err.startswith("error: ") and "Traceback" not in answer.err and "unexpected" not in answer.err
    for part in parts:
        assert part in answer.err


# What runs release


def test_two_runs_are_two_releases(server, file, cli):
    first = cli("run")
    assert first.code == 0 and "release 1: production points at it" in first.out
    edit(file, "epochs: 1", "epochs: 2")
    second = json.loads(cli("run", "--json").out)
    assert second["release"] == {"number": 2, "spaces": {"words": 2, "nodes": 1}, "promoted": True}
    assert released(file) == ([{"words": 1, "nodes": 1}, {"words": 2, "nodes": 1}], {"production": 2})
    rows = cli("releases").table
    assert [(row["release"], row["spaces"], row["names"]) for row in rows] == [
        ("2", "nodes@1, words@2", "production"),
        ("1", "nodes@1, words@1", ""),
    ]
    assert rows[0]["run"] == second["run"] and rows[0]["why"] == f"run {second['run']}"
    assert (
        "Release 2 is production: nodes @ 1, words @ 2."
        in (file.parent / f"vectors/_reports/{second['run']}/report.md").read_text()
    )
    edit(file, "k: 3}", "k: 2}")
    judged = cli("run")  # no new version, no new release
    assert judged.code == 0 and not tells(judged)
    [report] = re.findall("^report: (.*)$", judged.out, re.MULTILINE)
    assert "No new release: no space has a new version." in Path(report).read_text()
    idle = cli("run")
    assert "no flow was started" in idle.out and not tells(idle) and len(cli("releases").table) == 2


def test_readers_see_nothing_of_a_run_that_fails(server, file, cli, stumble):
    assert cli("run").code == 0
    seen = {args: cli(*args).out for args in READING}
    edit(file, "epochs: 1", "epochs: 2")
    edit(file, "embedder: node2vec", "embedder: stumble")
    failed = cli("run")
    assert failed.code == 1 and "nodes: RuntimeError: the plug-in stumbled" in failed.err
    assert not tells(failed) and released(file) == (
        [{"words": 1, "nodes": 1}],
        {"production": 1},
    )
    assert {args: cli(*args).out for args in READING} == seen
    assert "words @ 2" in cli("show", "words@latest").out
    assert "v00002-" in cli("files", "words@latest").out and "v00001-" in cli("files", "words").out
    [words] = [row for row in cli("ls").table if row["space"] == "words"]
    assert (words["latest"], words["production"]) == ("2", "1")

    edit(file, "embedder: stumble", "embedder: node2vec")
    edit(file, "walks: 2", "walks: 3")
    mended = cli("run")
    assert mended.code == 0 and "embed words" not in mended.err  # only what is missing is done
    assert {row["space"]: (row["version"], row["status"]) for row in mended.table} == {
        "words": ("2", "up to date"),
        "nodes": ("2", "new"),
    }
    assert released(file) == ([{"words": 1, "nodes": 1}, {"words": 2, "nodes": 2}], {"production": 2})
    assert "words @ 2" in cli("show", "words").out


READING = (
    ("show", "words", "--json"),
    ("files", "words"),
    ("search", "words", "king"),
    ("analogy", "words", "king", "+", "man"),
)


def test_a_space_that_only_failed_is_released_without_a_flow(server, file, cli, stumble):
    """The failed space goes back to what it was: nothing is left to run, and what had succeeded is released."""
    assert cli("run").code == 0
    edit(file, "epochs: 1", "epochs: 2")
    edit(file, "embedder: node2vec", "embedder: stumble")
    assert cli("run").code == 1
    edit(file, "embedder: stumble", "embedder: node2vec")
    assert cli("plan").out.endswith("to run: release\n")
    answer = cli("run")
    assert "no flow was started" in answer.out and "release 2: production points at it" in answer.out
    assert released(file)[0][1] == {"words": 2, "nodes": 1}


def test_a_release_that_fails_is_made_up_for_without_a_flow(server, file, cli, monkeypatch):
    def fail(*given, **more):
        raise OSError("disk full")

    monkeypatch.setattr(steps, "release", fail)
    answer = cli("run")
    assert answer.code == 1 and "release: OSError: disk full" in answer.err
    assert released(file) == ([], {})
    monkeypatch.undo()
    made_up_for(file, cli)


def made_up_for(file, cli):
    assert cli("plan").out.endswith("to run: release\n")
    answer = cli("run")
    assert answer.code == 0 and answer.err == ""
    assert "no flow was started" in answer.out and "release 1: production points at it" in answer.out
    assert released(file) == ([{"words": 1, "nodes": 1}], {"production": 1})
    [row] = cli("releases").table
    assert row["why"] == "made up for a run that ended before its release"
    assert not tells(cli("run"))


KILLED = """
import os, signal, sys
from flows import steps
from flows.cli.main import main
steps.release = lambda *given, **more: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["polyvec", "run"]
main()
"""


@pytest.mark.slow
def test_a_kill_before_the_release_is_made_up_for_without_a_flow(server, home, file, cli):
    with python("-c", KILLED, cwd=file.parent, home=home, url=server) as running:
        said, err = running.communicate(timeout=120)
    assert running.returncode == -signal.SIGKILL, (said, err)
    made_up_for(file, cli)


def test_a_run_that_finds_all_done_does_not_undo_a_rollback(server, file, cli):
    assert cli("run").code == 0
    edit(file, "epochs: 1", "epochs: 2")
    assert cli("run").code == 0
    assert cli("rollback", "--why", "worse").code == 0
    before = state_of(file)
    answer = cli("run")
    assert "no flow was started" in answer.out and not tells(answer)
    assert cli("plan").out.endswith("nothing to do\n")
    assert state_of(file) == before and before.pointers == {"production": 1}
    assert "words @ 1" in cli("show", "words").out
    edit(file, "walks: 2", "walks: 3")
    assert cli("run").code == 0  # makes a version, so that production moves on
    assert released(file)[1] == {"production": 3}


def test_only_some_spaces(server, file, cli):
    assert cli("run", "--only", "nodes").code == 0
    assert released(file) == ([{"nodes": 1}], {"production": 1})
    assert cli("run").code == 0
    edit(file, "epochs: 1", "epochs: 2")
    edit(file, "walks: 2", "walks: 3")
    assert cli("run", "--only", "nodes").code == 0
    assert released(file) == ([{"nodes": 1}, {"nodes": 1, "words": 1}, {"nodes": 2, "words": 1}], {"production": 3})
    assert cli("run", "--only", "nodes").out.splitlines()[-1] == "everything is up to date; no flow was started"


def test_what_cannot_be_judged_is_not_promoted(server, file, cli):
    assert cli("run").code == 0
    good = (file.parent / "labels.tsv").read_text()
    (file.parent / "labels.tsv").write_text("id\tlabel\nnobody\tx\n")
    edit(file, "walks: 2", "walks: 3")
    for _ in range(2):
        assert cli("run").code == 2
        assert released(file) == ([{"words": 1, "nodes": 1}], {"production": 1})
    (file.parent / "labels.tsv").write_text(good)
    answer = cli("run")
    assert answer.code == 0 and "embed nodes" not in answer.err
    assert released(file) == ([{"words": 1, "nodes": 1}, {"words": 1, "nodes": 2}], {"production": 2})


OTHER = f"""\
store: ./vectors
datasets:
  links: {{kind: graph, edges: links.tsv}}
spaces:
  others: {{dataset: links, embedder: node2vec, params: {{{PARAMS["node2vec"]}}}}}
"""


def test_two_pipelines_over_one_store(server, file, cli):
    (file.parent / "other.yaml").write_text(OTHER)
    assert cli("run").code == 0
    assert cli("run", "-f", "other.yaml").code == 0
    edit(file, "epochs: 1", "epochs: 2")
    assert cli("run").code == 0
    assert released(file) == (
        [{"words": 1, "nodes": 1}, {"words": 1, "nodes": 1, "others": 1}, {"words": 2, "nodes": 1, "others": 1}],
        {"production": 3},
    )
    assert cli("rollback").code == 0
    edit(file.parent / "other.yaml", "walks: 2", "walks: 3")
    assert cli("run", "-f", "other.yaml").code == 0
    assert released(file)[0][3] == {"words": 1, "nodes": 1, "others": 2}  # words stay rolled back
    assert not tells(cli("run"))  # also when the first pipeline finds nothing to do
    assert released(file)[1] == {"production": 4}


def test_not_promoting(server, file, cli):
    assert cli("run").code == 0
    edit(file, "epochs: 1", "epochs: 2")
    answer = cli("run", "--no-promote")
    assert answer.code == 0 and "release 2: not promoted; production stays where it is" in answer.out
    assert released(file) == ([{"words": 1, "nodes": 1}, {"words": 2, "nodes": 1}], {"production": 1})
    assert "words @ 1" in cli("show", "words").out and "words @ 2" in cli("show", "words@latest").out
    assert not tells(cli("run"))  # a run that finds all done leaves that decision
    assert released(file)[1] == {"production": 1}
    assert cli("promote").out == "production: release 1 -> 2: nodes@1, words@2\n"
    assert "words @ 2" in cli("show", "words").out


def test_another_dimension_is_refused_before_anything_runs(server, file, cli):
    assert cli("run").code == 0
    before = released(file)
    edit(
        file,
        "words: {dataset: text, embedder: word2vec, params: {dim: 8",
        "words: {dataset: text, embedder: word2vec, params: {dim: 9",
    )
    edit(file, "walks: 2", "walks: 3")
    for args in (["run"], ["plan"], ["run", "--force"]):
        refused(
            cli(*args),
            "Got vectors of 9 numbers, compared by cosine, one each word, for space 'words'",
            "run with --replace",
        )
    assert released(file) == before
    assert len(Pipeline.load(file).vectors.space("nodes").versions()) == 1  # nothing ran
    assert "words" in {row["space"] for row in cli("plan", "--replace").table}
    assert cli("run", "--replace").code == 0
    assert "10 x 9 float32" in cli("show", "words").out
    assert cli("rollback").code == 0 and "10 x 8 float32" in cli("show", "words").out


WIDE = """
from typing import ClassVar
import numpy as np
from embedders.base import Embedder, Encoder, Vectors, batches, silent
from embedders.data import Graph

class WideEncoder(Encoder):
    @property
    def dim(self):
        return self.recipe.layers * 2

    def encode(self, data, *, progress=silent):
        yield from batches(Vectors("node", list(data.ids), np.ones((len(data), self.dim), np.float32)))

    def arrays(self):
        return {"x": np.zeros(1, np.float32)}

class Wide(Embedder[Graph]):
    kind: ClassVar[str] = "wide"
    data: ClassVar[type] = Graph
    entity: ClassVar[str] = "node"
    layers: int = 2

    def fit(self, data, *, start=None, progress=silent):
        return WideEncoder(self)

    @classmethod
    def restore(cls, recipe, arrays, texts, mode):
        return WideEncoder(recipe, mode=mode)
"""


def test_a_width_that_is_known_only_after_fitting_is_refused_by_the_step(server, file, cli, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(write_plugin(tmp_path / "site", "wide", WIDE)))
    registry.known.cache_clear()
    try:
        edit(file, f"node2vec, params: {{{PARAMS['node2vec']}}}", "wide, params: {layers: 2}")
        assert cli("run").code == 0
        edit(file, "layers: 2", "layers: 3")
        edit(file, "epochs: 1", "epochs: 2")
        assert cli("plan").code == 0  # nobody can know yet
        answer = cli("run")
        assert (
            answer.code == 2
            and "nodes: Got vectors of 6 numbers, compared by cosine, one each node, for space 'nodes'" in answer.err
        )
        assert "run with --replace" in answer.err
        assert {row["space"]: row["status"] for row in answer.table} == {"words": "new", "nodes": "failed"}
        assert released(file) == ([{"words": 1, "nodes": 1}], {"production": 1})
        assert cli("run", "--replace").code == 0
        assert released(file)[0][1] == {"words": 2, "nodes": 2}
        assert "16 x 6 float32" in cli("show", "nodes").out
    finally:
        registry.known.cache_clear()


# What people move


def test_releases_newest_first(three, cli):
    answer = cli("releases")
    assert answer.code == 0
    assert list(answer.table[0]) == ["release", "time (UTC)", "run", "spaces", "who", "why", "names"]
    assert [(row["release"], row["run"], row["spaces"], row["names"]) for row in answer.table] == [
        ("3", "run3", "nodes@1, words@3", "production"),
        ("2", "run2", "nodes@1, words@2", ""),
        ("1", "one", "nodes@1, words@1", ""),
    ]
    found = json.loads(cli("releases", "--json").out)
    assert [one["spaces"] for one in found] == [{"nodes": 1, "words": number} for number in (3, 2, 1)]
    assert found[0]["names"] == ["production"] and found[0]["time"].endswith("+00:00")


def test_moves(three, cli):
    cli("promote", "1", "--name", "audit", "--why", "for the [bold]audit[/bold]")
    cli("rollback")
    rows = cli("releases", "--moves").table
    assert [(row["name"], row["from"], row["to"]) for row in rows] == [
        ("production", "3", "2"), ("audit", "", "1"), ("production", "2", "3"), ("production", "1", "2"),
        ("production", "", "1"),
    ]  # fmt: skip
    assert rows[1]["why"] == "for the [bold]audit[/bold]" and "@" in rows[0]["who"]
    found = json.loads(cli("releases", "--moves", "--json").out)
    assert (found[1]["from"], found[1]["to"], found[1]["why"]) == (None, 1, "for the [bold]audit[/bold]")


def test_before_the_first_run(file, cli):
    for args in (["releases"], ["releases", "--moves"]):
        answer = cli(*args)
        assert answer.code == 0 and "yet; do: polyvec run" in answer.out
    assert cli("releases", "--json").out == "[]\n"
    refused(cli("promote"), "there is none yet. Do: polyvec run")
    refused(cli("promote", "1"), "Got release 1; there is none yet")
    refused(cli("rollback"), "'production' to roll back, which points at no release")
    assert not (file.parent / "vectors").exists()


def test_promote_and_rollback(three, cli):
    assert cli("promote", "1", "--why", "checked").out == "production: release 3 -> 1: nodes@1, words@1\n"
    assert "words @ 1" in cli("show", "words").out and "words @ 3" in cli("show", "words@latest").out
    assert cli("promote", "1").out == "production points at release 1 already: nodes@1, words@1\n"
    assert cli("rollback").out == "production: release 1 -> 3: nodes@1, words@3\n"
    assert cli("rollback", "--why", "again").out == "production: release 3 -> 2: nodes@1, words@2\n"
    assert cli("promote").out == "production: release 2 -> 3: nodes@1, words@3\n"  # the newest
    assert [one.why for one in state_of(three).moves][3:] == ["checked", "", "again", ""]


def test_other_names(three, cli):
    assert (
        cli("promote", "2", "--name", "staging", "--expect", "0").out
        == "staging: release none -> 2: nodes@1, words@2\n"
    )
    assert "words @ 2" in cli("show", "words@staging").out and "words @ 3" in cli("show", "words@production").out
    assert "v00002-" in cli("files", "words@staging").out and cli("search", "words@staging", "king").code == 0
    assert "words @ 2" in cli("show", "words@2").out and "releases:    2 (staging)" in cli("show", "words@2").out
    assert [row["names"] for row in cli("releases").table] == ["production", "staging", ""]
    assert cli("promote", "staging").out == "production: release 3 -> 2: nodes@1, words@2\n"
    refused(
        cli("promote", "nobody"),
        "Got the name 'nobody', which points at no release. Names that do: production, staging",
    )
    refused(cli("show", "words@nobody"), "it has 1, 2, 3, or say 'latest', production, staging")
    refused(cli("promote", "1", "--name", "latest"), "stands for a version already")


@pytest.mark.parametrize("args", [["promote", "1"], ["rollback"]])
def test_a_stale_expectation(three, cli, args):
    before = state_of(three)
    refused(
        cli(*args, "--expect", "2"), "'production' points at release 3 by now; expected 2", "polyvec releases", code=1
    )
    assert state_of(three) == before
    assert cli(*args, "--expect", "3").code == 0


@pytest.mark.parametrize("args", [["promote", "99"], ["promote", "0"], ["promote", "--", "-1"], ["promote", "1.5"]])
def test_an_unknown_release(three, cli, args):
    refused(cli(*args), "Got ", "polyvec releases" if args[-1] in {"99", "0"} else "points at no release")


@pytest.mark.parametrize(
    "args", [["promote", "1", "--expect", "x"], ["rollback", "--expect", "-1"], ["promote", "1", "2"]]
)
def test_wrong_usage(three, cli, args):
    answer = cli(*args)
    assert (answer.code, answer.out) == (2, "") and "Usage: " in answer.err


def test_a_release_of_which_something_was_taken_out(three, cli):
    delta.retire(Pipeline.load(three).vectors.space("words").folder, [1])
    refused(cli("promote", "1"), "Got release 1, of which words@1 was taken out since (`keep:`")
    assert cli("rollback").code == 0
    assert released(three)[1] == {"production": 2}
    refused(cli("rollback"), "words@1 was taken out")
    refused(cli("show", "words@1"), "Got version '1' of space 'words', which was taken out", "it has 2, 3")


def test_of_processes_that_move_at_once_one_wins(three, home):
    running = [
        process("promote", str(number), "--expect", "3", "--why", f"process {number}", cwd=three.parent, home=home)
        for number in (1, 2, 1)
    ]
    ends = []
    for one in running:
        with one:
            said, err = one.communicate(timeout=120)
            ends.append((one.returncode, said, err))
    assert sorted(code for code, _, _ in ends) == [0, 1, 1], ends
    [won] = [said for code, said, _ in ends if not code]
    state = state_of(three)
    assert len(state.moves) == 4 and won.startswith(f"production: release 3 -> {state.moves[-1].release}")
    assert all("expected 3. Nothing was moved." in err for code, _, err in ends if code)


def test_the_commands_load_nothing_heavy(three):
    from tests.test_rooms import HEAVY, loaded_after

    for args in (
        ["releases"],
        ["promote", "1"],
        ["rollback"],
        ["verify"],
        ["gc", "--dry-run"],
        ["ls"],
        ["show", "words"],
    ):
        code = f"""
import sys
sys.argv = ["polyvec", {", ".join(map(repr, args))}, "-f", {str(three)!r}]
from flows.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
        assert not loaded_after(code) & (HEAVY - {"numba"} if args[0] == "gc" else HEAVY), args
