"""Names and contents that look like paths lead nowhere: not through the pipeline file, Python, or the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedders.data import Rejected
from embedders.errors import InputError, PolyvecError
from flows.pipeline import Pipeline
from flows.plan import make_plan
from storage import promotion
from storage.errors import NotFoundError
from storage.inputs.specs import CorpusSpec
from storage.store import VectorStore
from storage.verify import verify
from storage.writer import Source, writing
from tests.flow_helpers import Cli, command_line
from tests.helpers_store import batch_of, edit, encoder_of, given, matrix_of, put, write_project

NAMES = [
    "../x", "..", ".", "", "x" * 300, "naïve", "日本語", "😀", "_models", "_releases", "a/b", "a\\b", "/etc/passwd", "a\n", "\n",
    "a b", "-x", ".hidden", "a:b", "a*", "~", "a\x7f", "con", "CON", "nul.txt", "Com1", "lpt9.a.b",
]  # fmt: skip
PATHS = [
    "../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a\0b",
    "\0",
    "con",
    "a/../../b",
    "C:\\x",
    "x" * 300,
    "_releases",
    "line\nline",
]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Cli:
    return command_line(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", NAMES)
def test_a_space_cannot_be_called_so(tmp_path, cli, name):
    file = write_project(tmp_path / "p")
    put(VectorStore(file.parent / "vectors"), encoder_of("ab"), space="words")
    before = everything(tmp_path)
    store = VectorStore(file.parent / "vectors")
    for attempt in (
        store.space,
        lambda name: put(store, encoder_of("a"), space=name),
        lambda name: store.paths.lock(name),
    ):
        with pytest.raises(InputError, match="Rename it"):
            attempt(name)
    with pytest.raises(NotFoundError):
        store.find(name + "@1")
    for command in (["show", name], ["files", name], ["log", name], ["diff", f"{name}@1", "words@1"], ["explain", name, "a"],
                    ["search", name, "a"], ["export", name, "--format", "csv", "--to", "out"], ["verify", name], ["gc", name],
                    ["run", "--only", name]):  # fmt: skip
        if name in ("-x", "") and command[0] in ("verify", "gc", "explain", "search"):
            continue  # an option, or none: of all spaces
        answer = cli(*command, at=file.parent)
        assert answer.code == 2 and "unexpected" not in answer.err, (command, answer)
    assert everything(tmp_path) == before
    pipeline = Pipeline.load(file)
    spaces = {name: pipeline.spaces["words"]}
    with pytest.raises(InputError, match=r"Got the space name .* Rename it"):
        make_plan(
            Pipeline(datasets={"text": CorpusSpec(kind="corpus", path="text.txt")}, spaces=spaces, base=file.parent)
        )
    yaml = name.encode("unicode_escape").decode().replace('"', '\\"') if name.isascii() else name
    edit(file, "  words: {", f'  "{yaml}": {{')
    with pytest.raises(InputError, match=r"(?s)polyvec\.yaml:6: spaces\..*Rename it"):
        Pipeline.load(file)
    for command in ("run", "plan"):
        answer = cli(command, at=file.parent)
        assert answer.code == 2 and "Rename it" in answer.err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("run", ["../x", ".", "a/b", "x" * 300, "a\0b", "a\nb", "naïve"])
def test_a_run_cannot_be_called_so(tmp_path, run):
    store = VectorStore(tmp_path / "vectors")
    put(store, encoder_of("a"))
    before = everything(tmp_path)
    with pytest.raises(InputError, match="Got the run name"):
        put(store, encoder_of("b"), run=run)
    with pytest.raises(InputError, match="Got the run name"):
        store.paths.report(run)
    assert everything(tmp_path) - before <= {"vectors/_locks/s.lock"}
    assert store.find("s").ids.tolist() == ["a"]
    assert put(store, encoder_of("b")).number == 2


def test_a_run_that_is_called_like_a_version_takes_no_model_away(tmp_path):
    store = VectorStore(tmp_path)
    put(store, encoder_of("a"), run="x-v9-y")
    put(store, encoder_of("b"), run="v00007-v00008-z")
    put(store, encoder_of("c"))
    for version in store.space("s").versions():
        assert list(verify(version)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("con", "CON", "nul.txt", "Com1", "lpt9.a.b")])
def test_a_release_name_cannot_be_called_so(tmp_path, cli, name):
    file = write_project(tmp_path / "p")
    store = VectorStore(file.parent / "vectors")
    put(store, encoder_of("a"))
    promotion.commit(store.paths, {"s": 1}, "r")
    before = everything(tmp_path)
    with pytest.raises(PolyvecError):
        store.promote(1, name=name)
    with pytest.raises(PolyvecError):
        store.find(f"s@{name}" if name else "t")
    assert everything(tmp_path) - before <= {"p/vectors/_locks", "p/vectors/_locks/_releases.lock"}
    assert store.release() == {"s": 1}


def test_ids_that_look_like_paths_are_ids(tmp_path):
    store = VectorStore(tmp_path / "vectors")
    reasons = tuple(Rejected(f"bad{name}", name, "broken_image", name) for name in PATHS)
    encoder = given(batch_of(PATHS, rejected=reasons, digests=[f"digest{name}" for name in PATHS]))
    version = put(store, encoder, run="r")
    again = VectorStore(store.root).find("s")
    assert again.ids.tolist() == PATHS
    assert again.table(["digest"]).column("digest").to_pylist() == [f"digest{name}" for name in PATHS]
    assert np.array_equal(again.matrix, matrix_of(len(PATHS)))
    assert sorted(row["location"] for row in store.quarantine(version)) == sorted(PATHS)
    assert list(verify(again)) == []
    assert {path.name for path in tmp_path.iterdir()} == {"vectors"}
    assert {path.name for path in store.root.iterdir()} == {"s", "_models", "_locks", "_quarantine"}
    assert [path.name for path in (store.root / "s").iterdir() if path.name != "_delta_log"] == ["v00001-r"]


def test_a_writer_of_a_bad_run_name_leaves_the_space_free(tmp_path):
    store = VectorStore(tmp_path)
    with pytest.raises(InputError), writing(store.space("s"), "../x", wait=0, waiting=print) as writer:
        writer.commit(Source("d", "x", 1, {}), encoder_of("a"), encoder_of("a").encode(None), {}, 0.0)
    assert put(store, encoder_of("a")).number == 1
