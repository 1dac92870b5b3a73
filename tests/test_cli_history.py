"""The commands log, diff and explain; what they say is compared with the store read by plain means."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest

from embedders.base import Batch, Vectors
from embedders.data import Rejected
from embedders.graph.node2vec import Node2Vec
from flows.history import log_lines
from flows.pipeline import Pipeline
from storage.store import VectorStore
from tests.flow_helpers import command_line
from tests.helpers_store import AWKWARD, edit, encoder_of, given, matrix_of, put, run_steps, write_project
from tests.test_rooms import HEAVY, loaded_after


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """nodes: three recipes. words: a new line, then a bad one. turned: a rotated space. wide: another dim."""
    file = write_project(tmp_path_factory.mktemp("project"))
    text = file.parent / "text.txt"
    run_steps(file, run="one")
    edit(file, "walks: 2", "walks: 3")
    text.write_bytes(text.read_bytes() + b"new words king queen\n")
    run_steps(file, run="two")
    edit(file, "length: 8", "length: 9")
    text.write_bytes(text.read_bytes() + b"bad \xff [bold]line[/bold]\n")
    run_steps(file, run="three")
    store = Pipeline.load(file).vectors
    ids, before = [f"id{i}" for i in range(60)], matrix_of(60)
    put(store, encoder_of(ids, before), space="turned", run="t1")
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    after = (before @ turn).astype(np.float32)
    after[7] *= -1
    put(store, encoder_of(ids, after), space="turned", run="t2")
    put(store, encoder_of(ids, before), space="wide")
    put(store, encoder_of(ids, matrix_of(60, dim=4)), space="wide", replace=True)
    return file.parent


@pytest.fixture
def cli(project, monkeypatch, capsys):
    return command_line(project, monkeypatch, capsys)


@pytest.fixture
def store(project):
    return Pipeline.load(project / "polyvec.yaml").vectors


@pytest.fixture
def empty(tmp_path):
    """A project with an empty store."""
    write_project(tmp_path)
    return VectorStore(tmp_path / "vectors")


def facts(text):
    """The lines "key: value" before the first table."""
    return dict(re.findall(r"^([a-z@ 0-9]+): +(.*)$", text, re.MULTILINE))


def tables(text):
    """The tab-separated tables, as lists of dictionaries."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if "\t" in line:
            rows.append(line.split("\t"))
        elif rows:
            found.append([dict(zip(rows[0], row, strict=True)) for row in rows[1:]])
            rows = []
    return found


def test_log(cli, store):
    rows = cli("log", "nodes").table
    assert [(row["version"], row["run"], row["rows"], row["change"]) for row in rows] == [
        ("3", "three", "16", "length: 8 -> 9"),
        ("2", "two", "16", "walks: 2 -> 3"),
        ("1", "one", "16", "first version"),
    ]
    m = store.find("nodes@3").manifest
    counts = (str(m.counts.embedded), str(m.counts.reused), str(m.counts.quarantined))
    assert (rows[0]["embedded"], rows[0]["reused"], rows[0]["quarantined"]) == counts
    assert rows[0]["created (UTC)"] == f"{m.created:%Y-%m-%d %H:%M}"
    assert rows[0]["seconds"] == f"{m.seconds:.1f}"
    assert [row["change"] for row in cli("log", "words").table] == [
        "data, went on from version 2",
        "data, went on from version 1",
        "first version",
    ]


def test_log_as_json(cli, store):
    found = json.loads(cli("log", "nodes", "--json").out)
    assert [one["version"] for one in found] == [3, 2, 1]
    assert [one["parent"] for one in found] == [2, 1, None]
    m = store.find("nodes@2").manifest
    assert found[1]["bytes_added"] == sum(entry.size for entry in m.files)
    assert (found[1]["rows"], found[1]["embedded"], found[1]["change"]) == (16, 16, "walks: 2 -> 3")
    assert datetime.fromisoformat(found[1]["created"]) == m.created.astimezone(UTC)


def test_a_line_of_the_log_names_its_releases(store):
    lines = log_lines(store.space("nodes").versions(), {2: "production, 4"})
    assert [line["released"] for line in lines] == ["", "production, 4", ""]


def test_a_log_without_the_parent(store):
    [line] = log_lines(store.space("nodes").versions()[1:2], {})
    assert (line["change"], line["bytes_added"]) == ("version 1 is gone", None)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["log", "wrods"], "Spaces there: nodes, turned, wide, words"),
        (["log", "nodes@2"], "expected a space without a version. Do: polyvec log nodes"),
        (["diff", "nodes@1", "nodes@9"], "it has 1, 2, 3"),
        (["diff", "nodes@1", "words@1"], "Got nodes @ 1 and words @ 1; expected two versions of one space"),
        (["explain", "wrods", "x"], "Spaces there: nodes, turned, wide, words"),
        (["explain", "nodes@9", "a1"], "it has 1, 2, 3"),
        (["explain", "words", "kingg"], "Got 'kingg', which was no id of words up to version 3 and is not in its quarantine"),
        (["explain", "words", "kingg"], "Close ones: 'king'."),
        (["explain", "words@1", "new"], "no id of words up to version 1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_what_is_not_there(cli, args, said, json_):
    answer = cli(*args, *json_)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: Got ") and said in answer.err


@pytest.mark.parametrize(
    "args", [["log"], ["diff", "nodes@1"], ["explain", "nodes"], ["diff", "nodes", "nodes", "-k", "-1"]]
)
def test_wrong_usage(cli, args):
    answer = cli(*args)
    assert (answer.code, answer.out) == (2, "") and "Usage: " in answer.err


@pytest.mark.parametrize("command", ["log", "diff", "explain"])
def test_help(cli, command):
    assert re.search(rf"^\s+{command}\s+[A-Z]", cli("--help").out, re.MULTILINE)
    answer = cli(command, "--help")
    assert answer.code == 0 and f"polyvec {command}" in answer.out


# diff


def cosine_distance(one, two):
    one, two = one.astype(np.float64), two.astype(np.float64)
    return 1 - (one * two).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(two, axis=-1)


def test_diff_of_rows(cli, empty, tmp_path):
    ids = [f"id{i}" for i in range(10)]
    vectors = matrix_of(10)
    contents = [str(i) for i in range(10)]
    put(empty, given(Batch(Vectors("node", ids, vectors), digests=contents)), digest="1" * 64)
    later = [*ids[3:], "x", "y"]
    moved = np.concatenate([vectors[3:], matrix_of(2, seed=5)])
    moved[[1, 4, 5]] += np.array([[0.1], [3], [0.5]], np.float32)
    contents = [f"new {name}" for name in later]
    put(empty, given(Batch(Vectors("node", later, moved), digests=contents)), digest="2" * 64)
    far = dict(zip(ids[3:], cosine_distance(vectors[3:], moved[:7]), strict=True))
    order = sorted(["id4", "id7", "id8"], key=lambda name: -far[name])

    answer = cli("diff", "s@1", "s@2", at=tmp_path)
    assert answer.out.startswith("s @ 1 -> s @ 2\n")
    said = facts(answer.out)
    assert said["changes"] == "data"
    assert said["rows"] == "10 -> 9: 2 added, 3 removed, 3 of 7 common ones changed"
    assert "aligned" not in said and "note" not in said  # new contents are no turn
    mean, largest = np.mean([far[name] for name in order]), far[order[0]]
    assert said["displacement"] == (
        f"1 - cosine, mean {mean:.4g} and largest {largest:.4g} of the changed rows; mean of the common rows {3 / 7 * mean:.4g}"
    )
    [rows] = tables(answer.out)
    assert [(row["row"], row["id"]) for row in rows] == [
        *(("changed", name) for name in order),
        *(("added", name) for name in ("x", "y")),
        *(("removed", name) for name in ("id0", "id1", "id2")),
    ]
    assert [float(row["displacement"]) for row in rows[:3]] == pytest.approx([far[name] for name in order], rel=1e-3)

    found = json.loads(cli("diff", "s@1", "s@2", "--json", at=tmp_path).out)
    assert [found[key] for key in ("before", "after", "added", "removed", "common", "changed", "moved")] == [
        1,
        2,
        2,
        3,
        7,
        3,
        0,
    ]
    assert found["measure"] == "1 - cosine" and found["aligned"] is None
    assert found["changes"] == {"recipe": [], "shape": [], "data": ["data"]}
    assert found["displacement"] == pytest.approx(
        {"mean": mean, "largest": largest, "mean_of_common": 3 / 7 * mean}, rel=1e-5
    )
    assert [row["id"] for row in found["rows"]] == [*order, "x", "y", "id0", "id1", "id2"]

    few = tables(cli("diff", "s@1", "s@2", "-k", "1", at=tmp_path).out)
    assert [[row["id"] for row in rows] for rows in few] == [[order[0], "x", "id0"]]
    none = cli("diff", "s@1", "s@2", "-k", "0", at=tmp_path)
    assert tables(none.out) == [] and facts(none.out) == said


def test_diff_takes_the_turn_out(cli, store):
    answer = cli("diff", "turned@1", "turned@2", "-k", "2")
    said = facts(answer.out)
    a, b = store.find("turned@1"), store.find("turned@2")
    raw = cosine_distance(a.matrix, b.matrix)
    assert f"mean {raw.mean():.4g} and largest {raw.max():.4g}" in said["displacement"]
    assert "60 rows moved though their contents did not change or are not known" in said["note"]
    found = json.loads(cli("diff", "turned@1", "turned@2", "-k", "60", "--json").out)
    assert found["rows"][0]["id"] == "id7"  # the only one that moved against the others; by aligned, not as stored
    assert found["rows"][0]["aligned"] > 1.9 and found["aligned"]["largest"] == found["rows"][0]["aligned"]
    assert max(row["aligned"] for row in found["rows"][1:]) < 0.05
    assert found["aligned"]["mean"] < 0.1 < 0.5 < found["aligned"]["chance"]
    assert f"{found['aligned']['mean']:.4g} and largest {found['aligned']['largest']:.4g}" in said["aligned"]
    assert said["aligned"].endswith(f"{found['aligned']['chance']:.4g} by chance")
    [rows] = tables(answer.out)
    assert [row["id"] for row in rows] == [row["id"] for row in found["rows"][:2]]
    assert set(rows[0]) == {"row", "id", "displacement", "aligned"}


def test_diff_of_a_turned_space_with_few_rows(cli, empty, tmp_path):
    put(empty, encoder_of(["a", "b", "c"]))
    put(empty, encoder_of(["a", "b", "c"], matrix_of(3, seed=1)))
    said = facts(cli("diff", "s@1", "s@2", at=tmp_path).out)
    assert "aligned" not in said and "too few for its dimension" in said["note"]


def test_a_few_moved_rows_are_no_turn(cli, empty, tmp_path):
    ids, vectors = [f"id{i}" for i in range(40)], matrix_of(40)
    put(empty, encoder_of(ids, vectors))
    put(empty, encoder_of(ids, vectors + (np.arange(40) < 15)[:, None].astype(np.float32)))
    said = facts(cli("diff", "s@1", "s@2", at=tmp_path).out)
    assert "15 of 40 common ones changed" in said["rows"] and "displacement" in said
    assert "aligned" not in said and "note" not in said


def test_diff_of_other_dimensions(cli):
    answer = cli("diff", "wide@1", "wide@2", "-k", "3")
    said = facts(answer.out)
    assert said["changes"] == "dim: 3 -> 4"
    assert said["displacement"] == "none: vectors of different dimensions cannot be compared"
    [rows] = tables(answer.out)
    assert len(rows) == 3 and set(rows[0]) == {"row", "id"}
    found = json.loads(cli("diff", "wide@1", "wide@2", "--json").out)
    assert found["displacement"] is None and found["aligned"] is None and found["changed"] == 60
    found = json.loads(cli("explain", "wide", "id1", "--json").out)
    assert [(e["what"], e["displacement"], e["why"]) for e in found["history"]] == [
        ("appeared", None, ""), ("changed", None, "dim: 3 -> 4"),
    ]  # fmt: skip
    assert found["neighbours"]["then"]["version"] == 1 and found["neighbours"]["now"]["version"] == 2


def test_diff_of_a_version_and_itself(cli):
    answer = cli("diff", "nodes@3", "nodes@latest")
    assert answer.code == 0 and tables(answer.out) == []
    assert facts(answer.out) == {
        "changes": "same data, same recipe", "rows": "16 -> 16: 0 added, 0 removed, 0 of 16 common ones changed",
    }  # fmt: skip
    found = json.loads(cli("diff", "nodes@3", "nodes", "--json").out)
    assert found["displacement"] == {"mean": 0, "largest": 0, "mean_of_common": 0}


# explain


def nearest(version, name, k):
    unit = version.matrix / np.linalg.norm(version.matrix, axis=1, keepdims=True)
    row = version.ids.tolist().index(name)
    scores = unit @ unit[row]
    order = [i for i in np.argsort(-scores, kind="stable") if i != row][:k]
    return [(version.ids[i], pytest.approx(scores[i], abs=1e-4)) for i in order]


def test_explain(cli, store):
    answer = cli("explain", "nodes@2", "a3", "-k", "4")
    one, two = store.find("nodes@1"), store.find("nodes@2")
    said = facts(answer.out)
    assert said["id"] == "'a3'" and said["state"] == "held by nodes @ 2" and said["origin"] == "embedded"
    assert said["digest"] == "none: the vector depends on the whole dataset"
    assert said["made"] == f"in version 2, {two.manifest.created:%Y-%m-%d %H:%M:%S} UTC, by run two"
    assert two.manifest.fingerprint in said["recipe"] and "walks=3" in said["params"]
    events, near = tables(answer.out)
    assert [(row["version"], row["run"], row["what"], row["why"]) for row in events] == [
        ("1", "one", "appeared", ""),
        ("2", "two", "changed", "walks: 2 -> 3"),
    ]
    row = two.ids.tolist().index("a3")
    assert float(events[1]["1 - cosine"]) == pytest.approx(cosine_distance(one.matrix[row], two.matrix[row]), rel=1e-3)
    assert "learned anew" in answer.out
    assert [(r["neighbours then, @ 1"], float(r["cosine then"])) for r in near] == nearest(one, "a3", 4)
    assert [(r["neighbours now, @ 2"], float(r["cosine now"])) for r in near] == nearest(two, "a3", 4)
    same = {r["neighbours then, @ 1"] for r in near} & {r["neighbours now, @ 2"] for r in near}
    assert answer.out.endswith(f"{len(same)} of 4 neighbours are the same\n")
    answer = cli("explain", "turned", "id7", "-k", "4")  # the one that turned around
    assert answer.out.endswith("0 of 4 neighbours are the same\n")


def test_explain_as_json(cli, store):
    found = json.loads(cli("explain", "nodes", "a3", "--json").out)
    assert (found["id"], found["space"], found["version"], found["held"], found["last_held"]) == (
        "a3",
        "nodes",
        3,
        True,
        3,
    )
    assert (found["made"]["version"], found["made"]["run"], found["made"]["recipe"]["params"]["length"]) == (
        3,
        "three",
        9,
    )
    assert [(e["version"], e["what"], e["displacement"] is None) for e in found["history"]] == [
        (1, "appeared", True), (2, "changed", False), (3, "changed", False),
    ]  # fmt: skip
    assert found["quarantine"] == []
    for when, number in (("then", 2), ("now", 3)):
        near = found["neighbours"][when]
        assert near["version"] == number
        assert [(one["id"], one["score"]) for one in near["ids"]] == nearest(store.find(f"nodes@{number}"), "a3", 5)


def test_explain_takes_the_newest_version_unless_told(cli, monkeypatch):
    asked = []
    find = VectorStore.find
    monkeypatch.setattr(VectorStore, "find", lambda self, reference: asked.append(reference) or find(self, reference))
    for reference in ("nodes", "nodes@", "nodes@2"):
        assert cli("explain", reference, "a3").code == 0
    assert asked == ["nodes@latest", "nodes@latest", "nodes@2"]  # a version that is not released yet counts, too


def test_explain_a_row_that_never_changed(cli):
    answer = cli("explain", "words@2", "new")
    [events, near] = tables(answer.out)
    assert [(row["version"], row["what"]) for row in events] == [("2", "appeared")]
    assert set(near[0]) == {"neighbours now, @ 2", "cosine now"} and "learned anew" not in answer.out


def test_explain_when_older_versions_were_taken_out(store, monkeypatch, cli):
    from storage.space import Space

    left = store.space("nodes").versions()[1:]
    assert json.loads(cli("explain", "nodes", "a3", "--json").out)["made"]["or_before"] is False
    monkeypatch.setattr(Space, "versions", lambda self: left)
    answer = cli("explain", "nodes@2", "a3")
    assert facts(answer.out)["made"].endswith("by run two, or in an older version that was taken out")
    assert [row["what"] for row in tables(answer.out)[0]] == ["there before"]
    assert [row["change"] for row in cli("log", "nodes").table] == ["length: 8 -> 9", "version 1 is gone"]
    assert [row["added"] == "" for row in cli("log", "nodes").table] == [False, True]


def test_explain_a_row_in_quarantine(cli):
    answer = cli("explain", "words", "text.txt:62")
    said = facts(answer.out)
    assert answer.code == 0 and tables(answer.out) == []
    assert said["state"] == "not in words @ 3, nor in an older version"
    assert said["quarantine @ 3"].startswith("not_utf8: byte 4 of the line is 0xff")
    found = json.loads(cli("explain", "words", "text.txt:62", "--json").out)
    assert (found["held"], found["last_held"], found["made"], found["history"]) == (False, None, None, [])
    assert [row["code"] for row in found["quarantine"]] == ["not_utf8"]
    assert found["neighbours"] == {"then": None, "now": None}


def test_explain_a_row_that_came_and_went(cli, empty, tmp_path):
    """In the first version; with other contents in the second; rejected in the third and fourth; back at last."""

    def version(ids, digests, rejected=(), shift=0.0):
        vectors = matrix_of(len(ids)) + np.float32(shift)
        put(empty, given(Batch(Vectors("node", ids, vectors), digests=digests, rejected=tuple(rejected))))

    version(["cat", "dog", "cow"], ["1", "2", "3"])
    version(["cat", "dog", "cow"], ["1b", "2", "3"], shift=1)
    bad = Rejected("cat", "pictures/cat.png", "broken_image", "the file ends early")
    version(["dog", "cow"], ["2", "3"], [bad])
    version(["dog", "cow"], ["2", "3"], [bad])
    answer = cli("explain", "s", "cat", at=tmp_path)
    said = facts(answer.out)
    assert answer.code == 0
    assert said["state"] == "not in s @ 4; the last version that holds it is 2"
    assert said["digest"] == "1b" and said["made"].startswith("in version 2, ")
    assert said["quarantine @ 3"] == "broken_image: the file ends early (pictures/cat.png)"
    events, near = tables(answer.out)
    assert [(row["version"], row["what"], row["why"]) for row in events] == [
        ("1", "appeared", ""), ("2", "changed", "its content"), ("3", "disappeared", "quarantined: broken_image"),
    ]  # fmt: skip
    assert "learned anew" not in answer.out
    assert set(near[0]) == {"neighbours then, @ 2", "cosine then"}
    assert {row["neighbours then, @ 2"] for row in near} == {"dog", "cow"}
    assert "learned anew" in cli("explain", "s@2", "dog", at=tmp_path).out  # its vector changed, its content did not
    assert (
        facts(cli("explain", "s@3", "cat", at=tmp_path).out)["state"]
        == "not in s @ 3; the last version that holds it is 2"
    )
    assert facts(cli("explain", "s@2", "cat", at=tmp_path).out)["state"] == "held by s @ 2"

    assert "quarantine" not in cli("explain", "s@2", "cat", at=tmp_path).out  # it was refused later
    version(["dog"], ["2"], [bad])
    late = Rejected("cow", "pictures/cow.png", "broken_image", "the file ends early")
    version(["dog"], ["2"], [bad, late])  # the cow was away before it was refused
    found = json.loads(cli("explain", "s", "cow", "--json", at=tmp_path).out)
    assert (found["history"][-1]["what"], found["history"][-1]["why"]) == ("disappeared", "")
    assert [row["id"] for row in found["quarantine"]] == ["cow"]
    version(["cat", "dog", "cow"], ["1b", "2", "3"])
    again = json.loads(cli("explain", "s", "cat", "--json", at=tmp_path).out)
    assert [(e["version"], e["what"]) for e in again["history"]][2:] == [(3, "disappeared"), (7, "appeared")]
    assert again["made"]["version"] == 7 and again["quarantine"] == []


def test_explain_names_content_and_recipe(cli, empty, tmp_path):
    for digest, dim in (("1", 3), ("2", 4)):
        batch = Batch(Vectors("node", ["a"], matrix_of(1, dim=dim)), digests=[digest])
        put(empty, dataclasses.replace(given(batch), recipe=Node2Vec(dim=dim), width=dim), replace=True)
    found = json.loads(cli("explain", "s", "a", "--json", at=tmp_path).out)
    assert found["history"][1]["why"] == "its content, dim: 3 -> 4"


def test_awkward_ids(cli, empty, tmp_path):
    ids = [*AWKWARD, "-x", "--dash", "[bold]markup[/bold]"]
    put(empty, encoder_of(ids))
    put(empty, encoder_of([*ids[1:], "other"], matrix_of(len(ids), seed=1)))
    for name in ids:
        answer = cli("explain", "s", name, at=tmp_path)
        assert answer.code == 0, name
        assert facts(answer.out)["id"] == repr(name)
        assert json.loads(cli("explain", "s", name, "--json", at=tmp_path).out)["id"] == name
        events, _ = tables(answer.out)
        assert [row["what"] for row in events] == ["appeared", "changed" if name != ids[0] else "disappeared"]
    found = json.loads(cli("diff", "s@1", "s@2", "-k", "99", "--json", at=tmp_path).out)
    assert {row["id"] for row in found["rows"] if row["row"] == "changed"} == set(ids[1:])
    [rows] = tables(cli("diff", "s@1", "s@2", "-k", "99", at=tmp_path).out)
    assert len(rows) == len(ids) + 1
    assert {"[bold]markup[/bold]", "", "tab and newline", "日本語"} <= {row["id"] for row in rows}


def test_a_row_alone(cli, empty, tmp_path):
    put(empty, encoder_of(["only"]))
    answer = cli("explain", "s", "only", at=tmp_path)
    assert answer.code == 0 and len(tables(answer.out)) == 1


@pytest.mark.parametrize("args", [["log", "nodes"], ["diff", "nodes@1", "nodes@2"], ["explain", "nodes", "a1"]])
def test_looking_back_loads_nothing_heavy(project, args):
    code = f"""
import sys
from flows.cli.main import app
sys.argv = ["polyvec", *{args}, "-f", {str(project / "polyvec.yaml")!r}]
try:
    app()
except SystemExit as leave:
    assert not leave.code, leave.code
"""
    assert not loaded_after(code) & HEAVY
