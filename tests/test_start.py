"""Where training begins: at a file or a package of vectors, at the version before, at random; and what is said of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedders.base import silent
from embedders.errors import InputError
from embedders.start import LONGEST, start_rows
from embedders.text.documents import DocumentMean
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
from flows import starts
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.progress import reporting_to
from flows.starts import Beginning
from flows.work import work_of
from storage.changes import changes
from storage.incremental import _key
from storage.manifest import Start, made_from
from storage.store import VectorStore
from storage.writer import Source, writing
from tests.flow_helpers import command_line
from tests.helpers_documents import documents_of
from tests.helpers_incremental import Contents, Numbered, Said
from tests.helpers_store import edit, write_corpus, write_edges, write_project
from tests.helpers_store import run_steps as run_quietly
from tests.test_pretrained import lines
from tests.test_word2vec import corpus

WORDS = "king queen man woman crown river boat water fish".split()  # all words of the corpus but "bank"
GIVEN = np.random.default_rng(5).normal(size=(len(WORDS), 8)).astype(np.float32) / 20
STILL = "lr: 1e-12, "  # a rate that moves nothing
WORD2VEC = "embedder: word2vec, params: {dim: 8, "


def write_vectors(path: Path, matrix=GIVEN, words=WORDS) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lines(words, matrix))


@pytest.fixture
def file(tmp_path):
    return write_project(tmp_path)


@pytest.fixture
def started(file):
    """`words` begins at data/v.txt and stays there."""
    write_vectors(file.parent / "data/v.txt")
    edit(file, WORD2VEC, f"start: {{file: data/v.txt}}, {WORD2VEC}{STILL}")
    return file


def run_steps(file, **more) -> list[str]:
    """What was said in a run."""
    with reporting_to(Said()) as board:
        run_quietly(file, **more)
    return board.lines


def words_of(file, which="latest"):
    version = Pipeline.load(file).vectors.space("words").version(which)
    return version, dict(zip(version.ids, version.matrix, strict=True))


def why(file, **more) -> str:
    """The reason that `polyvec plan` gives for `words`; empty when nothing is to be done."""
    [found] = [s for s in make_plan(Pipeline.load(file), extent=True, **more).spaces if s.name == "words"]
    return found.reason if found.action == "embed" else ""


# ---- vectors from outside


def test_training_begins_at_a_file(started, monkeypatch):
    monkeypatch.chdir("/")  # the path is relative to the pipeline file
    said = run_steps(started)
    assert "words: 9 of 10 words begin at data/v.txt" in said
    version, rows = words_of(started)
    assert set(rows) == {*WORDS, "bank"}
    for word, expected in zip(WORDS, GIVEN, strict=True):
        assert np.allclose(rows[word], expected, atol=1e-6)
    assert version.manifest.start is not None and version.manifest.start.name == "data/v.txt"
    assert version.manifest.upstream == {} and version.manifest.warm_start is None
    assert why(started) == ""


def test_a_space_that_knows_no_word_is_no_start(file):
    """`nodes` has vectors of towns, `words` wants some of words."""
    edit(file, WORD2VEC, f"start: {{space: nodes}}, {WORD2VEC}")
    with pytest.raises(InputError, match=r"space: nodes}, which has a vector for none of the \d+ words of 'words'"):
        run_steps(file)


def test_how_many_begin_at_a_space_is_said(file):
    edit(file, "spaces:", f"spaces:\n  again: {{dataset: text, start: {{space: words}}, {WORD2VEC}min_count: 1}}}}")
    [said] = [line for line in run_steps(file) if line.startswith("again:")]
    assert said == "again: 10 of 10 words begin at words"


def test_training_goes_on_from_there(started):
    edit(started, f"{STILL}epochs: 1", "epochs: 40")
    run_steps(started)
    _, rows = words_of(started)
    assert np.abs(rows["king"] - GIVEN[0]).max() > 1e-3


def test_long_vectors_are_scaled_as_a_whole():
    data = corpus([["a", "b", "c", "d"]])
    matrix = np.array([[3, 4], [0, 10], [0, 0]], np.float32)  # mean length 5
    start = WordVectors(Word2Vec(dim=2), ["a", "b", "x"], matrix)
    rows = start_rows(start, data, data.words, 2, longest=LONGEST)
    assert np.allclose(rows[:2], matrix[:2] * LONGEST / 7.5) and np.isnan(rows[2:]).all()
    assert np.array_equal(start_rows(start, data, data.words, 2)[:2], matrix[:2])
    short = replace(start, matrix=matrix / 100)
    assert np.array_equal(start_rows(short, data, data.words, 2, longest=LONGEST)[:2], matrix[:2] / 100)
    zero = replace(start, matrix=matrix * 0)
    assert not start_rows(zero, data, data.words, 2, longest=LONGEST)[:2].any()
    nothing = replace(start, words=["x", "y", "z"])
    assert np.isnan(start_rows(nothing, data, data.words, 2, longest=LONGEST)).all()


def test_a_changed_file_is_another_start(started):
    run_steps(started)
    path = started.parent / "data/v.txt"
    os.utime(path, ns=(1, 10**18))
    assert why(started) == ""
    write_vectors(path, -GIVEN)
    assert why(started) == "start: data/v.txt changed"
    run_steps(started)
    _, rows = words_of(started)
    assert np.allclose(rows["king"], -GIVEN[0], atol=1e-6)
    assert why(started) == ""
    before, after = (words_of(started, number)[0].manifest for number in (1, 2))
    assert changes(before, after).data == ("start: data/v.txt changed",)


def test_the_same_bytes_elsewhere_are_the_same_start(started):
    run_steps(started)
    (started.parent / "data/v.txt").rename(started.parent / "moved.vec")
    edit(started, "data/v.txt", "moved.vec")
    assert why(started) == ""


def test_a_start_that_comes_or_goes_or_is_another(started):
    run_steps(started)
    write_vectors(started.parent / "w.txt", 2 * GIVEN)
    edit(started, "data/v.txt", "w.txt")
    assert why(started) == "start: data/v.txt -> w.txt"
    edit(started, "start: {file: w.txt}, ", "")
    assert why(started) == "start: data/v.txt -> none"
    run_steps(started)
    assert words_of(started)[0].manifest.start is None
    edit(started, WORD2VEC, f"start: {{file: w.txt}}, {WORD2VEC}")
    assert why(started) == "start: none -> w.txt"


def test_a_package(started, monkeypatch):
    package = started.parent / "site/some_vectors"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError")
    shutil.copy(started.parent / "data/v.txt", package)
    monkeypatch.syspath_prepend(str(package.parent))
    edit(started, "file: data/v.txt", "package: some-vectors")
    assert "words: 9 of 10 words begin at some-vectors" in run_steps(started)
    version, rows = words_of(started)
    assert np.allclose(rows["king"], GIVEN[0], atol=1e-6) and version.manifest.start.name == "some-vectors"
    edit(started, "some-vectors", "other-vectors")
    with pytest.raises(
        InputError, match=r"line 6: spaces.words.start.package: Got package 'other-vectors', which is not"
    ):
        load(started)


def test_a_version_s_encoder_is_a_start(started):
    """The folder of a model in a store, for another pipeline."""
    run_steps(started)
    version, rows = words_of(started)
    edit(started, "data/v.txt", f"vectors/{version.manifest.model}")
    assert why(started).startswith("start: data/v.txt -> vectors/_models/words/")
    run_steps(started)
    assert np.allclose(words_of(started)[1]["king"], rows["king"], atol=1e-6)


def test_nodes_begin_at_a_file_too(file):
    names = [f"{side}{i}" for side in "ab" for i in range(8)]
    matrix = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32) / 30
    write_vectors(file.parent / "nodes.txt", matrix, names)
    edit(file, "embedder: node2vec, params: {", f"start: {{file: nodes.txt}}, embedder: node2vec, params: {{{STILL}")
    assert "nodes: 16 of 16 nodes begin at nodes.txt" in run_steps(file)
    found = Pipeline.load(file).vectors.find("nodes")
    place = {name: i for i, name in enumerate(names)}
    assert np.allclose(found.matrix, matrix[[place[name] for name in found.ids]], atol=1e-6)


def load(file) -> Pipeline:
    try:
        return Pipeline.load(file)
    except InputError as error:
        raise InputError(str(error).replace(f"{file}:", "line ")) from None


WRONG = {
    "no such file": ("file: data/no.txt", r"line 6: spaces.words.start.file: Got '.*data/no.txt', where there is no such file"),
    "no vectors": ("file: text.txt", r"line 6: spaces.words.start.file: .*text.txt:1: got .*; expected lines 'word number"),
    "a folder of none": ("file: data", r"line 6: spaces.words.start.file: Got the folder .*holds no vectors|dim 8"),
    "another width": ("file: wide.txt", r"line 6: spaces.words.start: got 'wide.txt' of dim 9; expected dim 8. Make both alike"),
    "nothing": ("", r"line 6: spaces.words.start: .*expected one of space, file and package"),
    "two": ("file: data/v.txt, space: nodes", r"line 6: spaces.words.start: .*expected one of space, file and package"),
    "an unknown key": ("fille: data/v.txt", r"line 6: spaces.words.start.fille: got the unknown key 'fille'; .*Did you mean 'file'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_start_names_its_line_before_anything_runs(started, what):
    write_vectors(started.parent / "wide.txt", np.ones((9, 9), np.float32))
    (started.parent / "data/other.txt").write_text("?")
    given, message = WRONG[what]
    edit(started, "{file: data/v.txt}", f"{{{given}}}")
    with pytest.raises(InputError, match=message):
        load(started)


def test_a_malformed_line_of_the_file_is_named(started):
    with (started.parent / "data/v.txt").open("ab") as out:
        out.write(b"bank 1 2 3 4 5 6 7 x\n")
    with pytest.raises(InputError, match=r"data/v.txt:10: got 'x'; expected a number"):
        run_steps(started)
    assert "words" not in Pipeline.load(started).vectors.spaces()


def test_a_file_that_knows_no_word(started):
    write_vectors(started.parent / "data/v.txt", words=[word.upper() for word in WORDS])
    with pytest.raises(InputError, match=r"Got 10 ids \(.*\), none of which is in start: data/v.txt"):
        run_steps(started)


def test_rows_encoded_one_by_one_are_not_taken_over_from_another_start(tmp_path):
    """An inductive embedder goes on from a version only if that began at the same vectors."""
    store, recipe = VectorStore(tmp_path / "store"), Numbered()
    data = Contents([f"n{i}" for i in range(5)], np.arange(5))
    reused = []
    for digest in ("1", "1", "2", None, None):
        start = None if digest is None else Start(name="v.txt", digest=digest)
        with writing(store.space("s"), "run", wait=0, waiting=print) as writer:
            source = Source("d", "0" * 64, 5, {}, start=start)
            work = work_of(writer, recipe, data, source, Beginning, force=False, progress=silent)
            version = writer.commit(
                work.source, work.encoder, work.batches, {}, 0.0, reuse=work.reuse, encoder_of=work.encoder_of
            )
        reused.append(version.manifest.counts.reused)
    assert reused == [0, 5, 0, 0, 5]
    assert (
        len(
            {
                _key("f", made_from({}, start))
                for start in (None, Start(name="a", digest="1"), Start(name="a", digest="2"))
            }
        )
        == 3
    )


# ---- the version before


def change(file, seed=1) -> None:
    """Other texts of the same words, and some new words."""
    write_corpus(file.parent / "text.txt", seed=seed)
    with (file.parent / "text.txt").open("a") as out:
        out.write("a bank by the river\n")


def test_words_cannot_begin_at_documents():
    words = WordVectors(Word2Vec(dim=8), WORDS, GIVEN)
    documents = DocumentMean().fit(documents_of("king queen", "river boat man"), start=words)
    with pytest.raises(InputError, match="a start that makes document vectors of Documents"):
        start_rows(documents, corpus([WORDS]), WORDS, 8)


def test_a_change_goes_on_from_the_version_before(file):
    edit(file, WORD2VEC, WORD2VEC + STILL)
    run_steps(file)
    _, before = words_of(file)
    change(file)
    assert why(file) == "the dataset changed: goes on from version 1"
    assert "words: goes on from version 1" in run_steps(file)
    version, after = words_of(file)
    assert (version.number, version.manifest.warm_start, version.manifest.start) == (2, 1, None)
    assert version.manifest.machine["reproducible"] == "bytes, from version 1"
    assert set(after) == {*before, "a", "by", "the"}
    for word, row in before.items():
        assert np.allclose(after[word], row, atol=1e-6)
    assert after["the"].any()
    assert why(file) == ""
    change(file, seed=2)
    run_steps(file)
    assert words_of(file)[0].manifest.warm_start == 2


def test_it_is_trained_all_the_same(file):
    edit(file, "epochs: 1", "epochs: 40")
    run_steps(file)
    change(file)
    run_steps(file)
    (_, before), (_, after) = words_of(file, 1), words_of(file, 2)
    assert not np.allclose(after["king"], before["king"], atol=1e-3)


def test_the_same_parent_gives_the_same_bytes(file, tmp_path_factory):
    run_steps(file)
    change(file)
    found = []
    for _ in range(2):
        copy = tmp_path_factory.mktemp("copy") / "project"
        shutil.copytree(file.parent, copy)
        run_steps(copy / "polyvec.yaml")
        found.append(words_of(copy / "polyvec.yaml")[0].matrix.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "how", ["force", "warm_start: false", "another recipe", "another dataset", "a start", "a start that is gone"]
)
def test_what_begins_from_scratch(file, how):
    if how.startswith("a start"):
        write_vectors(file.parent / "data/v.txt")
        edit(file, WORD2VEC, "start: {file: data/v.txt}, " + WORD2VEC)
    run_steps(file)
    change(file)
    match how:
        case "warm_start: false":
            edit(file, WORD2VEC, "warm_start: false, " + WORD2VEC)
        case "another recipe":
            edit(file, "epochs: 1", "epochs: 2")
        case "another dataset":
            edit(file, "text: {", "texts: {")
            edit(file, "dataset: text", "dataset: texts")
        case "a start that is gone":
            edit(file, "start: {file: data/v.txt}, ", "")
    assert "goes on" not in why(file, force=how == "force")
    said = run_steps(file, force=how == "force")
    version, _ = words_of(file)
    assert version.number == 2 and version.manifest.warm_start is None
    assert version.manifest.machine["reproducible"] == "bytes"
    assert not any("goes on" in line for line in said)


def test_from_scratch_is_what_a_first_run_gives(file, tmp_path):
    run_steps(file)
    change(file)
    run_steps(file, force=True)
    scratch = words_of(file)[0].matrix
    shutil.rmtree(tmp_path / "vectors")
    run_steps(file)
    assert words_of(file)[0].matrix.tobytes() == scratch.tobytes()


def test_a_damaged_encoder_of_the_version_before(file):
    run_steps(file)
    version, _ = words_of(file)
    (version.paths.root / version.manifest.model / "weights.safetensors").write_bytes(b"?")
    change(file)
    said = run_steps(file)
    assert any(
        line.startswith("words: the encoder of version 1 cannot be read; training from scratch.") for line in said
    )
    version, _ = words_of(file)
    assert version.number == 2 and version.manifest.warm_start is None


def test_nodes_go_on_too(file):
    run_steps(file)
    write_edges(file.parent / "links.tsv", size=9)
    assert "nodes: goes on from version 1" in run_steps(file)
    assert Pipeline.load(file).vectors.find("nodes").manifest.warm_start == 1


def test_what_learns_nothing_goes_on_from_nothing(file):
    write_vectors(file.parent / "data/v.txt")
    edit(file, "embedder: word2vec, params: {dim: 8, epochs: 1, min_count: 1, threads: 1}", "embedder: pretrained-words, params: {file: data/v.txt}")  # fmt: skip
    run_steps(file)
    change(file)
    assert why(file) == "the dataset changed"
    assert run_steps(file) == []
    assert words_of(file)[0].manifest.warm_start is None


# ---- what the commands show


@pytest.fixture
def cli(file, monkeypatch, capsys):
    return command_line(file.parent, monkeypatch, capsys)


def facts(answer) -> dict[str, str]:
    return dict(line.split(":", 1) for line in answer.out.splitlines() if ":" in line)


def test_commands_show_a_start(started, cli):
    run_steps(started)
    digest = words_of(started)[0].manifest.start.digest
    assert facts(cli("show", "words"))["start"].strip() == f"data/v.txt, digest {digest[7:23]}"
    write_vectors(started.parent / "data/v.txt", -GIVEN)
    [words, _] = cli("plan").table
    assert (words["from"], words["why"]) == ("text + data/v.txt -> word2vec", "start: data/v.txt changed")
    run_steps(started)
    assert [row["change"] for row in cli("log", "words").table] == ["start: data/v.txt changed", "first version"]
    assert "start: data/v.txt changed" in facts(cli("diff", "words@1", "words@2"))["changes"]
    assert cli("verify").code == 0


def test_commands_show_a_warm_start(file, cli):
    run_steps(file)
    assert facts(cli("show", "words"))["start"].strip() == "none"
    change(file)
    assert cli("plan").table[0]["why"] == "the dataset changed: goes on from version 1"
    assert cli("plan", "--force").table[0]["why"] == "forced"
    run_steps(file)
    assert facts(cli("show", "words"))["start"].strip() == "words @ 1 (warm start)"
    assert [row["change"] for row in cli("log", "words").table] == ["data, went on from version 1", "first version"]
    assert cli("verify").code == 0 and cli("explain", "words", "king").code == 0


# ---- small corpora


def test_few_tokens_are_said(file):
    said = [line for line in run_steps(file) if "tokens" in line]
    assert len(said) == 1
    assert said[0].startswith("words: trained on 480 tokens; below about 500,000 the vectors of words are mostly noise")
    assert "start: {file: ...}" in said[0]
    change(file)
    assert any("trained on 485 tokens" in line for line in run_steps(file))  # a warm start gives no more text


def test_a_start_or_enough_text_is_not_warned_of(started, monkeypatch):
    assert not any("tokens" in line for line in run_steps(started))
    edit(started, "start: {file: data/v.txt}, ", "")
    monkeypatch.setattr(starts, "FEW_TOKENS", 480)
    assert not any("tokens" in line for line in run_steps(started))
    monkeypatch.setattr(starts, "FEW_TOKENS", 481)
    assert any("trained on 480 tokens; below about 481" in line for line in run_steps(started, force=True))


def test_tokens_are_what_training_used_of_them():
    data = corpus([["a"] * 8 + ["b"] * 2])
    encoder = Word2Vec(dim=2, min_count=1).fit(data)
    assert "trained on 10 tokens" in starts.few_tokens("s", encoder, data)
    counted = replace(encoder, mode={**encoder.mode, "tokens": 8})
    assert "trained on 8 tokens" in starts.few_tokens("s", counted, data)
    assert starts.few_tokens("s", replace(encoder, mode={"tokens": 500_000}), data) == ""
