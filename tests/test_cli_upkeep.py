"""The commands verify and gc; and a store that cannot be written, by every command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.pipeline import Pipeline
from storage import delta
from storage.promotion import commit
from storage.writer import writing
from tests.flow_helpers import command_line
from tests.helpers_incremental import HashedEncoder, embed, installed, write_pipeline, write_rows
from tests.helpers_store import edit, run_steps, write_project

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def file(tmp_path):
    """words in three versions and releases, nodes in one."""
    file = write_project(tmp_path)
    run_steps(file)
    for epochs in (1, 2):
        edit(file, f"epochs: {epochs}", f"epochs: {epochs + 1}")
        run_steps(file)
    return file


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    return command_line(tmp_path, monkeypatch, capsys)


def store_of(file):
    return Pipeline.load(file).vectors


def refused(answer, *parts, code=2):
    assert answer.code == code, answer
    assert answer.err.startswith("error: Got ") and "Traceback" not in answer.err
    for part in parts:
        assert part in answer.err


def tree(root: Path):
    return {
        path.relative_to(root).as_posix(): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")
    }


def checked(answer):
    return [(row["space"], row["version"], row["result"]) for row in answer.table]


# verify


def test_what_readers_get_is_checked(file, cli):
    answer = cli("verify")
    assert (answer.code, answer.err) == (0, "")
    assert checked(answer) == [("nodes", "1", "fine"), ("words", "3", "fine")]
    [words] = [row for row in answer.table if row["space"] == "words"]
    assert (words["rows"], words["files"]) == ("10", "4")  # a part, and three files of the encoder
    cli("rollback")
    assert checked(cli("verify")) == [("nodes", "1", "fine"), ("words", "2", "fine"), ("words", "3", "fine")]
    assert checked(cli("verify", "words")) == [("words", "2", "fine"), ("words", "3", "fine")]
    assert checked(cli("verify", "words@1")) == checked(cli("verify", "--all"))[1:2] == [("words", "1", "fine")]
    assert checked(cli("verify", "words@production")) == [("words", "2", "fine")]
    assert [row[1] for row in checked(cli("verify", "words", "--all"))] == ["1", "2", "3"]
    assert len(checked(cli("verify", "--all"))) == 4


def test_damage_is_told_with_exit_code_1(file, cli):
    [part] = store_of(file).find("words@1").files
    data = bytearray(Path(part).read_bytes())
    data[50] ^= 1
    Path(part).write_bytes(data)
    assert cli("verify").code == 0  # readers do not get version 1
    for args in (["words@1"], ["--all"]):
        answer = cli("verify", *args)
        assert answer.code == 1
        assert ("words", "1", "1 findings") in checked(answer)
        assert f"{part}: is not what was written: its bytes have another digest" in answer.out.splitlines()
        assert "error: Got damage in words@1; expected what was written. Restore the files" in answer.err
    found = json.loads(cli("verify", "--all", "--json").out)
    assert found["findings"] == [{"place": part, "problem": "is not what was written: its bytes have another digest"}]
    assert [one["findings"] for one in found["versions"]] == [[], found["findings"], [], []]


def test_as_json(file, cli):
    answer = cli("verify", "words", "--json")
    assert answer.code == 0
    [one] = json.loads(answer.out)["versions"]
    version = store_of(file).find("words")
    assert (one["space"], one["version"], one["rows"], one["files"]) == ("words", 3, 10, 4)
    assert one["bytes"] == sum(Path(path).stat().st_size for path in version.files)
    assert (one["findings"], one["sample"], one["not_sampled"]) == ([], None, None)


def test_a_log_that_does_not_tell_is_a_finding_and_the_others_are_checked(file, cli):
    entry = file.parent / "vectors/nodes/_delta_log/00000000000000000000.json"
    entry.write_text(entry.read_text().replace('"commitInfo"', '"commitInfo', 1))
    answer = cli("verify")
    assert answer.code == 1 and checked(answer) == [("words", "3", "fine")]
    assert f"nodes: The log entry {entry} cannot be read" in answer.out
    assert "Got damage in nodes;" in answer.err
    manifest = file.parent / "vectors/words/_delta_log/00000000000000000002.json"
    manifest.write_text(manifest.read_text().replace('\\"rows\\"', '\\"wors\\"'))
    answer = cli("verify", "words")
    assert answer.code == 1 and "words: The " in answer.out
    assert "cannot be read" in answer.out and "Got damage in words;" in answer.err


def test_a_version_that_production_lost_is_a_finding(file, cli):
    cli("promote", "1")
    (file.parent / "vectors/words/_delta_log/00000000000000000000.json").unlink()
    answer = cli("verify", "words")
    assert answer.code == 1 and "words: " in answer.out and "it has 2, 3" in answer.out
    assert "Got damage in words;" in answer.err


def test_a_version_that_is_taken_out_meanwhile_is_no_damage(file, cli, monkeypatch):
    from storage import verify as module

    real, space = module.verify, store_of(file).space("words")

    def look(version, seen):
        if (version.manifest.space, version.number) == ("words", 1):
            delta.retire(space.folder, [1])
            shutil.rmtree(Path(version.files[0]).parent)
        return real(version, seen)

    monkeypatch.setattr(module, "verify", look)
    answer = cli("verify", "--all")
    assert answer.code == 0
    assert checked(answer) == [("nodes", "1", "fine"), ("words", "2", "fine"), ("words", "3", "fine")]


@pytest.mark.parametrize("args", [["wrods"], ["words@9"], ["words@staging"], ["words@1", "--all"]])
def test_what_cannot_be_verified(file, cli, args):
    answer = cli("verify", *args)
    refused(answer)
    assert answer.out == ""


def test_verify_before_the_first_run(tmp_path, cli):
    write_project(tmp_path)
    assert "no space in" in cli("verify").out
    assert json.loads(cli("verify", "--json").out) == {"versions": [], "findings": []}
    assert not (tmp_path / "vectors").exists()


ROWS = {f"n{i}": f"content {i}".encode() for i in range(30)}


@pytest.fixture
def hashed(tmp_path):
    """A space whose rows are encoded one by one."""
    with installed(tmp_path / "site"):
        file = write_pipeline(tmp_path, rows=ROWS)
        embed(file)
        yield file


def test_a_sample_is_embedded_again(hashed, cli):
    answer = cli("verify", "--sample", "12")
    assert answer.code == 0
    assert [row["embedded again"] for row in answer.table] == ["12 of 12 the same bits"]
    [one] = json.loads(cli("verify", "s", "--sample", "99", "--seed", "3", "--json").out)["versions"]
    assert one["sample"] == {"rows": 30, "same_bits": 30, "largest_difference": 0.0, "smallest_cosine": 1.0, "lost": []}
    write_rows(hashed.parent / "rows", {**ROWS, "n0": b"changed"})
    assert "29 of 29 the same bits" in cli("verify", "s", "--sample", "99").out
    write_rows(hashed.parent / "rows", {"x": b"x"})
    refused(cli("verify", "s", "--sample", "9"), "no row of s @ 1 whose input is the same today")
    answer = cli("verify", "--sample", "9")
    assert answer.code == 0 and "s@1: not embedded again. Got no row of s @ 1" in answer.out


def test_rows_that_come_out_otherwise_are_damage(hashed, cli, monkeypatch):
    real = HashedEncoder.vector
    monkeypatch.setattr(HashedEncoder, "vector", lambda encoder, content: real(encoder, content) + 1)
    assert cli("verify").code == 0
    answer = cli("verify", "--sample", "12")
    assert answer.code == 1 and checked(answer) == [("s", "1", "1 findings")]
    assert "s@1: embedded again, 12 of 12 rows are not the same bits (largest difference" in answer.out
    assert "Got damage in s@1" in answer.err


def test_a_damaged_version_is_not_sampled(hashed, cli):
    [part] = store_of(hashed).find("s").files
    Path(part).write_bytes(b"x")
    answer = cli("verify", "--sample", "12", "--json")
    found = json.loads(answer.out)
    assert answer.code == 1 and found["versions"][0]["sample"] is None and len(found["findings"]) == 1


def test_spaces_that_depend_on_all_rows_are_noted_or_refused(file, cli):
    answer = cli("verify", "--sample", "5")
    assert answer.code == 0 and checked(answer) == [("nodes", "1", "fine"), ("words", "3", "fine")]
    assert (
        "words@3: not embedded again. Got a sample of 'words', whose vectors depend on the whole dataset" in answer.out
    )
    refused(
        cli("verify", "words", "--sample", "5"),
        "whose vectors depend on the whole dataset (word2vec)",
        "Leave --sample out",
    )


def test_a_space_of_another_pipeline_is_noted_or_refused(hashed, cli):
    edit(hashed, "  s: {", "  t: {")
    answer = cli("verify", "--sample", "5")
    assert (
        answer.code == 0
        and "s@1: not embedded again. Got a sample of 's', which is not in the pipeline file" in answer.out
    )
    refused(cli("verify", "s", "--sample", "5"), "expected one of t")


# gc


@pytest.fixture
def kept(file):
    """The same with `keep:`; nothing but versions of words can go."""
    for epochs in (3, 4, 5):
        edit(file, f"epochs: {epochs}", f"epochs: {epochs + 1}")
        run_steps(file)
    file.write_text(file.read_text() + "keep: {versions: 1}\n")
    return file


def test_gc(kept, cli):
    store = store_of(kept)
    sizes = {number: bytes_of(store, number) for number in (1, 2, 3, 4)}
    before = tree(kept.parent / "vectors")
    dry = cli("gc", "--dry-run")
    assert dry.code == 0 and tree(kept.parent / "vectors") == before
    assert [(row["space"], row["version"], row["files"], row["why"]) for row in dry.table] == [
        ("words", str(number), "4", "keep: the newest; no release needs it") for number in (1, 2, 3, 4)
    ]
    assert dry.out.splitlines()[-1].startswith("would free ") and dry.out.splitlines()[-1].endswith(" in 16 files")
    answer = cli("gc", "--json")
    found = json.loads(answer.out)
    assert (found["dry_run"], found["keep"], found["skipped"]) == (False, {"versions": 1, "days": None}, {})
    assert {one["version"]: one["bytes"] for one in found["gone"]} == sizes
    assert [version.number for version in store.space("words").versions()] == [5, 6]  # 5: where a rollback leads
    assert cli("verify", "--all").code == 0
    assert cli("gc").out == "nothing to clear away\n"
    refused(cli("show", "words@2"), "taken out (`keep:` in the pipeline file); it has 5, 6")
    refused(cli("promote", "2"), "words@2")
    assert cli("rollback").code == 0 and "words @ 5" in cli("show", "words").out


def bytes_of(store, number):
    version = store.space("words").version(number)
    model = store.root / version.manifest.model
    return sum(Path(path).stat().st_size for path in [*version.files, *model.iterdir()])


def test_gc_of_one_space(kept, cli):
    assert cli("gc", "nodes").out == "nothing to clear away\n"
    assert len(cli("gc", "words").table) == 4
    refused(cli("gc", "wrods"), "Got space 'wrods', which is not in", "Spaces there: nodes, words")


def test_versions_of_spaces_that_are_not_in_the_file_stay(kept, cli):
    """They may be another file's, which says what of them stays."""
    edit(kept, "  words: {", "  other: {")
    before = len(store_of(kept).space("words").versions())
    assert "not in this pipeline file, so that all of their versions stay: words" in cli("gc").out
    assert len(store_of(kept).space("words").versions()) == before


def test_without_a_rule_only_orphans_go(file, cli):
    orphan = file.parent / "vectors/words/v00004-dead/part-00000.parquet"
    orphan.parent.mkdir()
    orphan.write_bytes(b"half")
    dry = cli("gc", "--dry-run")
    assert orphan.exists() and "there is no keep: in the pipeline file, so all versions stay" in dry.out
    answer = cli("gc")
    [row] = answer.table
    assert (row["space"], row["version"], row["files"], row["size"]) == ("words", "", "1", "4 B")
    assert row["why"] == "left by a run that did not finish"
    assert answer.out.endswith("freed 4 B in 1 files\n") and not orphan.parent.exists()
    assert len(store_of(file).space("words").versions()) == 3


def test_a_space_that_is_written_is_skipped(kept, cli):
    with writing(store_of(kept).space("words"), "run-7", wait=0, waiting=print):
        for args in (["gc"], ["gc", "--dry-run"]):
            answer = cli(*args)
            assert answer.code == 0 and "words: skipped." in answer.out
            assert f"written by run run-7 (process {os.getpid()} on" in answer.out
        assert list(json.loads(cli("gc", "--json").out)["skipped"]) == ["words"]
    assert len(store_of(kept).space("words").versions()) == 6
    assert len(cli("gc").table) == 4


def test_gc_before_the_first_run(tmp_path, cli):
    write_project(tmp_path)
    answer = cli("gc")
    assert answer.code == 0 and answer.out.endswith("nothing to clear away\n")
    assert not (tmp_path / "vectors").exists()


def test_gc_reads_the_whole_file(kept, cli):
    """What is deleted by a file that is wrong could be wrong."""
    edit(kept, "versions: 1", "versions: 0")
    refused_plainly = cli("gc")
    assert refused_plainly.code == 2 and "keep.versions" in refused_plainly.err
    assert len(store_of_broken(kept).space("words").versions()) == 6


def store_of_broken(file):
    from flows.pipeline import load_store

    return load_store(file)


def test_encodes_that_were_cut_off_are_left_to_their_space(kept, cli):
    for name in ("words", "gone"):
        place = kept.parent / f"vectors/_cache/unfinished/{name}/k/000000.parquet"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"rows")
        os.utime(place, (1, 1))
    rows = cli("gc").table
    assert [row["space"] for row in rows if "cut off over a week ago" in row["why"]] == ["gone"]
    assert place.with_name("000000.parquet").exists() is False
    assert (kept.parent / "vectors/_cache/unfinished/words/k/000000.parquet").exists()


# A store that cannot be written


SCRIPT = """
import contextlib, io, json, sys
from flows.cli.main import main
answers = []
for args in json.loads(sys.argv[1]):
    sys.argv = ["polyvec", *args]
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def read_only(folder: Path, commands: list[list[str]]):
    """Run commands in one process for which the store cannot be written: by its rights, as root by a read-only mount."""
    call = [sys.executable, "-c", SCRIPT, json.dumps(commands)]
    store = folder / "vectors"
    if os.geteuid() == 0:
        mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("root may write anywhere, and no read-only mount can be made here (unshare -m)")
        call = ["unshare", "-m", "sh", "-c", mount, str(store), *call]
    else:
        change_rights(store, 0o555, 0o444)
    try:
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    finally:
        if os.geteuid():
            change_rights(store, 0o755, 0o644)
    assert done.returncode == 0, done.stderr
    return dict(zip(map(tuple, commands), json.loads(done.stdout.splitlines()[-1]), strict=True))


def change_rights(root: Path, folders: int, files: int) -> None:
    for path in [root, *root.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


READING = [
    ["ls"], ["show", "words"], ["show", "words", "--quarantine"], ["show", "nodes@1", "--json"], ["files", "words"],
    ["search", "words", "king"], ["analogy", "words", "king", "+", "man"], ["log", "words"],
    ["diff", "words@1", "words@2"], ["explain", "words", "king"], ["releases"], ["releases", "--moves"], ["plan"],
    ["verify", "--all"], ["gc", "--dry-run"], ["run"],
]  # fmt: skip
WRITING = [["promote", "1"], ["rollback"], ["gc"], ["run", "--force"]]


def test_a_store_that_cannot_be_written(kept, cli):
    """Whoever may only read can use every command that reads; the others say what is wrong."""
    before = tree(kept.parent / "vectors")
    answers = read_only(kept.parent, READING + WRITING)
    for args in READING:
        code, out, err = answers[tuple(args)]
        assert (code, err) == (0, "") and out, (args, code, err)
    for args in WRITING:
        code, _, err = answers[tuple(args)]
        assert code == 2 and "which cannot be written" in err and "Traceback" not in err, (args, code, err)
    assert tree(kept.parent / "vectors") == before
    assert [row["version"] for row in cli("gc", "--dry-run").table] == ["1", "2", "3", "4"]


def test_a_release_that_cannot_be_made_up_for(file, cli):
    commit(store_of(file).paths, {"words": 3}, "x")
    edit(file, "epochs: 3", "epochs: 4")
    from flows import steps

    steps.embed(Pipeline.load(file), "words", "cut-off")
    [(code, _, err)] = read_only(file.parent, [["run"]]).values()
    assert code == 2 and "which cannot be written" in err
