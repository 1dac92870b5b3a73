"""The commands that look and ask; the store is made by plain steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.pipeline import Pipeline
from storage.errors import QuarantinedError
from storage.promotion import commit
from tests.flow_helpers import command_line
from tests.helpers_incremental import BAD, embed, installed, write_pipeline, write_rows
from tests.helpers_store import (
    AWKWARD,
    batch_of,
    edit,
    encoder_of,
    given,
    matrix_of,
    process,
    put,
    rejected,
    run_steps,
    write_project,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    file = write_project(tmp_path_factory.mktemp("project"))
    (file.parent / "text.txt").write_bytes((file.parent / "text.txt").read_bytes() + b"bad \xff [bold]line[/bold]\n")
    run_steps(file)
    run_steps(file, only=["nodes"], force=True)
    return file.parent


@pytest.fixture
def cli(project, monkeypatch, capsys):
    return command_line(project, monkeypatch, capsys)


@pytest.fixture
def store(project):
    return Pipeline.load(project / "polyvec.yaml").vectors


COMMANDS = [
    "init", "plan", "run", "ls", "show", "files", "log", "diff", "explain", "releases", "promote", "rollback", "verify", "gc",
    "schema", "doctor", "search", "analogy", "export",
]  # fmt: skip


@pytest.mark.parametrize("args", [["--help"], ["-h"], []])
def test_help_lists_the_commands(cli, args):
    answer = cli(*args)
    assert answer.code == (0 if args else 2)
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\s+[A-Z]", answer.out + answer.err, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(cli, command):
    answer = cli(command, "--help")
    assert answer.code == 0 and f"polyvec {command}" in answer.out


def test_version(cli):
    from importlib.metadata import version

    assert cli("--version").out == f"polyvec {version('polyvec')}\n"


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["run", "--nonsense"],
        ["show"],
        ["search", "words", "king", "-k", "0"],
        ["search", "words", "king", "-k", "x"],
    ],
)
def test_wrong_usage(cli, args):
    answer = cli(*args)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: " in answer.err and "Traceback" not in answer.err


def test_help_is_quick_to_import(project):
    """`polyvec --help` imports no heavy package."""
    heavy = ["torch", "torch_geometric", "numba", "prefect", "dask", "sklearn", "matplotlib", "pandas"]
    code = f"""
import sys
sys.argv = ["polyvec", "--help"]
from flows.cli.main import main
try:
    main()
except SystemExit:
    pass
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_ls(cli, store):
    rows = {row["space"]: row for row in cli("ls").table}
    assert list(rows) == ["nodes", "words"]
    assert (rows["nodes"]["latest"], rows["nodes"]["rows"], rows["nodes"]["dim"], rows["nodes"]["embedder"]) == (
        "2",
        "16",
        "8",
        "node2vec",
    )
    found = json.loads(cli("ls", "--json").out)
    assert [(one["space"], one["versions"], one["latest"], one["production"], one["rows"]) for one in found] == [
        ("nodes", 2, 2, 2, 16),
        ("words", 1, 1, 1, len(store.find("words"))),
    ]


def test_production_stands_beside_the_latest(tmp_path, cli):
    file = write_project(tmp_path)
    store = Pipeline.load(file).vectors
    for seed in (0, 1):
        put(store, encoder_of(["a", "b"], matrix_of(2, seed=seed)))
        put(store, encoder_of(["a"]), space="t")

    def spaces():
        rows = {row["space"]: (row["latest"], row["production"]) for row in cli("ls", at=tmp_path).table}
        found = json.loads(cli("ls", "--json", at=tmp_path).out)
        assert {one["space"]: (str(one["latest"]), str(one["production"] or "")) for one in found} == rows
        return rows

    assert spaces() == {"s": ("2", ""), "t": ("2", "")}
    commit(store.paths, {"s": 1}, "r1")
    assert spaces() == {"s": ("2", "1"), "t": ("2", "")}
    assert cli("files", "s", at=tmp_path).out.splitlines() == store.find("s@1").files  # production's, not the latest
    assert cli("files", "t", at=tmp_path).out.splitlines() == store.find("t@2").files
    answer = cli("files", "t@production", at=tmp_path)
    assert (
        answer.code == 2
        and "Got space 't', which is not in release 1 (production); it holds s. Say t@latest" in answer.err
    )


def test_ls_before_the_first_run(tmp_path, cli):
    write_project(tmp_path)
    answer = cli("ls", at=tmp_path)
    assert answer.code == 0 and "no space in" in answer.out and "polyvec run" in answer.out
    assert cli("ls", "--json", at=tmp_path).out == "[]\n"
    assert not (tmp_path / "vectors").exists()


def test_show(cli, store):
    answer = cli("show", "nodes")
    for fact in (
        "nodes @ 2",
        "parent 1",
        "16 x 8 float32, cosine, one vector each node",
        "walks=2",
        "16 in = 16 embedded + 0 quarantined",
        "threads=1",
    ):
        assert fact in answer.out, fact
    assert store.find("nodes").manifest.fingerprint in answer.out
    assert {row["metric"] for row in answer.table} == {"same_label", "chance"}
    assert "nodes @ 1" in cli("show", "nodes@1").out
    assert "nodes @ 2" in cli("show", "nodes@latest").out


def test_show_names_the_releases_that_hold_a_version(tmp_path, cli):
    store = Pipeline.load(write_project(tmp_path)).vectors
    for _ in range(2):
        put(store, encoder_of(["a"]))

    def releases(reference):
        found = re.search("^releases: +(.*)$", cli("show", reference, at=tmp_path).out, re.MULTILINE)
        return found[1], json.loads(cli("show", reference, "--json", at=tmp_path).out)["releases"]

    assert releases("s@1") == ("in none", [])
    for run in "ab":
        commit(store.paths, {"s": 1}, run)
    store.promote(1, name="audit")
    assert releases("s@1") == (
        "2 (production), 1 (audit)",
        [{"release": 2, "names": ["production"]}, {"release": 1, "names": ["audit"]}],
    )
    assert releases("s@2") == ("in none", [])


def test_show_accounts_for_every_row(tmp_path, cli):
    with installed(tmp_path / "site"):
        write_pipeline(tmp_path, rows={"a": b"a", "b": b"b", "c": BAD})
        embed(tmp_path / "polyvec.yaml")
        write_rows(tmp_path / "rows", {"a": b"a", "b": b"b", "c": BAD, "d": b"d"})
        embed(tmp_path / "polyvec.yaml")
        assert "counts:      3 in = 2 embedded + 1 quarantined" in cli("show", "s@1", at=tmp_path).out
        assert "counts:      4 in = 1 embedded + 2 reused + 1 quarantined" in cli("show", "s", at=tmp_path).out


def test_show_json(cli, store):
    found = json.loads(cli("show", "words", "--json").out)
    assert found["manifest"] == store.find("words").manifest.model_dump(mode="json")
    assert found["delta_version"] == 0 and found["metrics"] == []
    assert [row["id"] for row in found["quarantine"]] == ["text.txt:61"]


def test_show_quarantine(cli):
    answer = cli("show", "words", "--quarantine")
    [row] = answer.table
    assert (row["id"], row["code"], row["since"]) == ("text.txt:61", "not_utf8", "@1")
    assert "0xff" in row["message"] and row["location"].endswith("text.txt:61")
    assert answer.out.endswith("1 rows in quarantine\n")
    assert cli("show", "nodes", "--quarantine").out.endswith("0 rows in quarantine\n")


def last(answer):
    assert answer.code == 0
    return answer.out.splitlines()[-1]


def ids(answer):
    return [(row["id"], row["since"]) for row in answer.table]


def test_the_quarantine_of_now_and_of_a_version(tmp_path, cli):
    store = Pipeline.load(write_project(tmp_path)).vectors
    put(store, given(batch_of("a", rejected=rejected(3))))
    put(store, given(batch_of("ab", rejected=(*rejected(2), *rejected(1, "too_large")))))
    with pytest.raises(QuarantinedError):  # nothing embeds any more, so that there is no version 3
        put(store, given(batch_of("", rejected=(*rejected(1), *rejected(4)[3:]))))

    def show(reference):
        return cli("show", reference, "--quarantine", at=tmp_path)

    assert ids(show("s")) == [("bad0", "@1"), ("bad0", "@2"), ("bad1", "@1"), ("bad3", "@3")]
    assert last(show("s")) == "4 rows in quarantine; 1 of them came after s @ 2"
    assert ids(show("s@2")) == [("bad0", "@1"), ("bad0", "@2"), ("bad1", "@1")]
    assert last(show("s@2")) == "3 rows in quarantine"
    assert ids(show("s@1")) == [("bad0", "@1"), ("bad1", "@1")]
    gone = "1 more that s @ 1 left out are gone since: they embed by now, or their input changed"
    assert last(show("s@1")) == f"2 rows in quarantine; {gone}"
    commit(store.paths, {"s": 1}, "r")
    assert last(show("s")) == f"4 rows in quarantine; {gone}; 2 of them came after s @ 1"  # without @V: production's
    found = json.loads(cli("show", "s@1", "--quarantine", "--json", at=tmp_path).out)
    assert [row["id"] for row in found["quarantine"]] == ["bad0", "bad1"]
    assert len(json.loads(cli("show", "s", "--json", at=tmp_path).out)["quarantine"]) == 4


def test_the_quarantine_of_a_space_without_a_version(tmp_path, cli):
    store = Pipeline.load(write_project(tmp_path)).vectors
    with pytest.raises(QuarantinedError):
        put(store, given(batch_of("", rejected=rejected(2))), space="looks")
    answer = cli("show", "looks", "--quarantine", at=tmp_path)
    assert ids(answer) == [("bad0", "@1"), ("bad1", "@1")]
    assert last(answer) == "2 rows in quarantine; no version yet"
    found = json.loads(cli("show", "looks", "--quarantine", "--json", at=tmp_path).out)
    assert (found["manifest"], found["releases"], [row["id"] for row in found["quarantine"]]) == (
        None,
        [],
        ["bad0", "bad1"],
    )
    answer = cli("show", "looks", at=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "all of its rows were rejected. Do: polyvec show looks --quarantine" in answer.err
    for wrong in ("wrods", "looks@1"):
        answer = cli("show", wrong, "--quarantine", at=tmp_path)
        assert answer.code == 2 and answer.err.startswith("error: Got space")


@pytest.mark.parametrize("reference", ["nodes", "nodes@1", "words"])
def test_files(cli, store, reference):
    answer = cli("files", reference)
    assert answer.out.splitlines() == store.find(reference).files
    assert all(Path(line).is_absolute() and Path(line).is_file() for line in answer.out.splitlines())
    assert json.loads(cli("files", reference, "--json").out) == store.find(reference).files


def test_the_files_of_a_shell_feed_duckdb(cli, store):
    import duckdb

    files = cli("files", "words").out.splitlines()
    [(rows, dim)] = duckdb.execute(
        "SELECT count(*), max(len(vector)) FROM read_parquet($files)", {"files": files}
    ).fetchall()
    assert (rows, dim) == (len(store.find("words")), 8)


def test_search(cli, store):
    answer = cli("search", "nodes", "a3", "-k", "4")
    version = store.find("nodes")
    unit = version.matrix / np.linalg.norm(version.matrix, axis=1, keepdims=True)
    row = version.ids.tolist().index("a3")
    order = [i for i in np.argsort(-(unit @ unit[row]), kind="stable") if i != row][:4]
    assert [one["id"] for one in answer.table] == version.ids[order].tolist()
    assert float(answer.table[0]["cosine"]) == pytest.approx(float(unit[order[0]] @ unit[row]), abs=1e-4)
    found = json.loads(cli("search", "nodes", "a3", "-k", "4", "--json").out)
    assert [one["id"] for one in found] == version.ids[order].tolist()
    assert len(cli("search", "nodes", "a3").table) == 10
    assert len(cli("search", "nodes", "a3", "-k", "99").table) == 15


def test_search_for_an_unknown_id_shows_close_ones(cli):
    answer = cli("search", "words", "kingg")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: Got 'kingg', which is no id of words @ 1; expected one of its 1")
    assert "Close ones: king" in answer.err
    assert "Close ones" not in cli("search", "words", "zzzzzzzz").err


def test_analogy(cli):
    answer = cli("analogy", "words", "king", "-", "man", "+", "woman", "-k", "3")
    assert answer.code == 0
    assert len(answer.table) == 3
    assert not {row["id"] for row in answer.table} & {"king", "man", "woman"}
    assert [row["id"] for row in answer.table] == [
        one["id"]
        for one in json.loads(cli("analogy", "words", "king", "-", "man", "+", "woman", "-k", "3", "--json").out)
    ]


@pytest.mark.parametrize("words", [["king"], ["-", "king"], ["king", "-"]])
def test_an_analogy_needs_two_words(cli, words):
    answer = cli("analogy", "words", *words)
    assert answer.code == 2 and "king - man + woman" in answer.err and "Traceback" not in answer.err


def test_an_analogy_of_an_unknown_word(cli):
    answer = cli("analogy", "words", "kingg", "-", "man", "+", "woman")
    assert answer.code == 2 and "kingg" in answer.err


def test_schema(cli):
    found = json.loads(cli("schema").out)
    assert found["title"] == "polyvec pipeline" and "spaces" in found["properties"]


def test_doctor(cli, tmp_path):
    facts = json.loads(cli("doctor", "--json", at=tmp_path).out)
    assert {"python", "cores", "memory", "embedders", "packages", "compiler"} <= set(facts)
    assert {"word2vec", "node2vec", "cnn"} <= set(facts["embedders"])
    assert any(line.startswith("pyarrow ") for line in facts["packages"])
    answer = cli("doctor", at=tmp_path)
    assert answer.code == 0 and "cores:" in answer.out


@pytest.mark.parametrize("reference", ["wrods", "nodes@9", "nodes@staging", "../words", "_models", "", "nodes@@1"])
@pytest.mark.parametrize("command", ["show", "files"])
def test_unknown_spaces_and_versions(cli, command, reference):
    answer = cli(command, reference)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: Got ") and "Traceback" not in answer.err
    assert ("it has 1, 2" if reference.startswith("nodes@") else "Spaces there: nodes, words") in answer.err


def test_from_any_folder(cli, tmp_path, project):
    answer = cli("ls", "-f", str(project / "polyvec.yaml"), at=tmp_path)
    assert [row["space"] for row in answer.table] == ["nodes", "words"]
    relative = os.path.relpath(project / "polyvec.yaml", tmp_path)
    assert cli("ls", "--file", relative, at=tmp_path).table == answer.table


@pytest.mark.parametrize(
    "args",
    [
        ["ls"],
        ["plan"],
        ["run"],
        ["show", "x"],
        ["files", "x"],
        ["search", "x", "y"],
        ["analogy", "x", "a", "+", "b"],
        ["releases"],
        ["promote", "1"],
        ["rollback"],
        ["verify"],
        ["verify", "--sample", "9"],
        ["gc"],
    ],
)
def test_without_a_pipeline_file(cli, tmp_path, args):
    answer = cli(*args, at=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert (
        answer.err
        == "error: Got the pipeline file 'polyvec.yaml', which does not exist. Do: polyvec init DIR, or name one with -f FILE.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_awkward_ids_survive_the_table_and_json(tmp_path, cli):
    write_project(tmp_path)
    store = Pipeline.load(tmp_path / "polyvec.yaml").vectors
    ids = [*AWKWARD, "[bold]markup[/bold]", ":smile:"]
    put(store, encoder_of(ids), space="odd")
    found = json.loads(cli("search", "odd", "plain", "-k", "99", "--json", at=tmp_path).out)
    assert {one["id"] for one in found} == set(ids) - {"plain"}
    table = cli("search", "odd", "plain", "-k", "99", at=tmp_path).table
    assert len(table) == len(ids) - 1
    assert "[bold]markup[/bold]" in {row["id"] for row in table}
    assert len(json.loads(cli("search", "odd", "tab\tand\nnewline", "-k", "2", "--json", at=tmp_path).out)) == 2


def test_a_closed_pipe_is_no_error(project, tmp_path):
    """`polyvec schema | head -1` ends quietly."""
    with process("schema", cwd=project, home=tmp_path) as running:
        running.stdout.readline()
        running.stdout.close()
        said = running.stderr.read()
    assert "Traceback" not in said


def test_a_damaged_part_is_told(tmp_path, cli):
    file = write_project(tmp_path)
    run_steps(file, only=["nodes"])
    [part] = Pipeline.load(file).vectors.find("nodes").files
    Path(part).write_bytes(Path(part).read_bytes()[:-20])
    answer = cli("search", "nodes", "a1", at=tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert part in answer.err and "Restore" in answer.err and "Traceback" not in answer.err


def test_debug_shows_the_traceback(cli):
    plain, full = cli("show", "wrods"), cli("--debug", "show", "wrods")
    assert (plain.code, full.code) == (2, 2)
    assert "Traceback" not in plain.err
    assert "Traceback" in full.err and plain.err in full.err


def test_a_plan_as_a_table_and_as_json(tmp_path, cli):
    file = write_project(tmp_path)
    answer = cli("plan", at=tmp_path)
    assert [(row["space"], row["from"], row["action"], row["why"], row["now"]) for row in answer.table] == [
        ("words", "text -> word2vec", "embed", "no version yet", ""),
        ("nodes", "links -> node2vec", "embed", "no version yet", ""),
    ]
    assert answer.out.endswith("to run: words, nodes\n")
    assert not (tmp_path / "vectors").exists()
    run_steps(file)
    edit(file, "epochs: 1", "epochs: 2")
    found = json.loads(cli("plan", "--json", at=tmp_path).out)
    assert [
        (one["space"], one["action"], one["reason"], one["version"], one["dataset"], one["files"]) for one in found
    ] == [
        ("words", "embed", "epochs: 1 -> 2", 1, "text", 1),
        ("nodes", "up to date", "same data, same recipe", 1, "links", 1),
    ]
    assert [row["space"] for row in cli("plan", "--only", "nodes", at=tmp_path).table] == ["nodes"]
    assert cli("plan", "--only", "nodes", at=tmp_path).out.endswith("nothing to do\n")
    assert cli("plan", "--only", "nodes", "--force", at=tmp_path).table[0]["why"] == "forced"
    answer = cli("plan", "--only", "wrods", at=tmp_path)
    assert answer.code == 2 and "--only wrods; the pipeline has the spaces words, nodes." in answer.err
