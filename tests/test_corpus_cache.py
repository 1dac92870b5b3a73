"""The token file of a corpus: built once, mapped after, whole or not there."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from embedders.data import Corpus, Documents
from storage.digests import DigestCache
from storage.errors import FullError
from storage.inputs import corpus, corpus_build, corpus_files
from storage.inputs.specs import CorpusSpec

ROOT = Path(__file__).resolve().parents[1]
LINES = [f"the cat number {i} sat on mat {i % 7}. It slept" for i in range(3000)]

CHILD = """
import json, os, signal, sys
from pathlib import Path
from embedders.data import Corpus
from storage.digests import DigestCache
from storage.inputs import corpus_build, corpus_files
from storage.inputs.specs import CorpusSpec
base, kill, options = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
corpus_files.BLOCK, corpus_build.AT_ONCE = 5000, 2000
seen = 0
def progress(done, total, unit):
    global seen
    seen += 1
    if seen == kill:
        os.kill(os.getpid(), signal.SIGKILL)
cache = base / "store" / "_cache"
spec = CorpusSpec(kind="corpus", path="a.txt", **options)
found = spec.read(spec.scan(base, DigestCache(cache)), Corpus, cache=cache, progress=progress)
print(seen, int(found.tokens.sum()), len(found.words), len(found.offsets))
"""


@pytest.fixture
def base(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    return tmp_path


def read(base, kind=Corpus, path="a.txt", progress=lambda *_: None, **options):
    spec, cache = CorpusSpec(kind="corpus", path=path, **options), base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), kind, cache=cache, progress=progress)


def child(base, kill=0, **options):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(base), str(kill), json.dumps(options)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def corpora(base):
    return sorted(path.name for path in (base / "store" / "_cache" / "corpora").iterdir() if path.is_dir())


def summary(found):
    return int(found.tokens.sum()), len(found.words), len(found.offsets)


def never(*_, **__):
    raise AssertionError("built again")


def test_the_second_read_maps_what_the_first_built(base, monkeypatch):
    first = read(base)
    monkeypatch.setattr(corpus_build, "build", never)
    again, rows = read(base), read(base, Documents)
    assert summary(again) == summary(first) and again.words == first.words
    assert np.array_equal(rows.tokens, first.tokens) and len(rows) == 3000
    for found in (first, again, rows):
        for array in (found.tokens, found.offsets):
            assert not array.flags.writeable and not array.flags.owndata
    with pytest.raises(AssertionError, match="built again"):
        read(base, tokens="whitespace")
    (base / "a.txt").write_text("other text")
    with pytest.raises(AssertionError, match="built again"):
        read(base)


ALL = {"phrases": {"min_count": 2, "passes": 2}, "sentences": True}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, ALL])
def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(base, options):
    whole = child(base, **options)
    out, error = whole.communicate(timeout=120)
    assert whole.returncode == 0, error
    reports, *expected = map(int, out.split())
    assert reports > 10
    place = base / "store" / "_cache" / "corpora"
    [name] = corpora(base)
    (place / name).rename(base / "expected")
    for kill in sorted({1, 2, reports // 3, reports // 2, reports - 2, reports - 1, reports}):
        killed = child(base, kill, **options)
        _, error = killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL, error
        assert corpora(base) == [f"{name}.tmp"]
    assert list(summary(read(base, **options))) == expected
    assert corpora(base) == [name]
    for file in (base / "expected").iterdir():
        if file.suffix == ".bin":
            assert file.read_bytes() == (place / name / file.name).read_bytes(), file.name


def test_two_processes_at_once(base):
    both = [child(base), child(base)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0].split()[1:] == said[1][0].split()[1:]
    assert len(corpora(base)) == 1


def _without(name):
    return lambda folder: (folder / name).unlink()


def _shorter(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-16])


def _other(folder):
    (folder / "about.json").write_text(json.dumps(corpus_build.about() | {"format": 0}))


@pytest.mark.parametrize(
    "damage",
    [
        *map(_without, ("about.json", "tokens.bin", "texts.bin", "ids.arrow", "words.arrow", "rejected.arrow", "digests.bin")),
        *map(_shorter, ("about.json", "tokens.bin", "texts.bin", "ids.arrow", "words.arrow", "digests.bin")),
        _other,
    ],
)  # fmt: skip
def test_a_damaged_corpus_is_built_again(base, damage):
    expected = summary(read(base))
    [name] = corpora(base)
    damage(base / "store" / "_cache" / "corpora" / name)
    assert summary(read(base)) == expected
    assert corpus._open(base / "store" / "_cache" / "corpora" / name, Documents) is not None


def test_old_corpora_go_and_their_readers_go_on(base, monkeypatch):
    monkeypatch.setattr(corpus, "KEPT", 2)
    first = read(base, Documents)
    expected = summary(first), list(first.ids), list(first.digests)
    names = set(corpora(base))
    for number, options in enumerate(({"tokens": "whitespace"}, {"sentences": True}, {"document": "file"})):
        (base / "store" / "_cache" / "corpora" / "left.tmp").mkdir()
        read(base, **options)
        assert len(corpora(base)) == min(number + 2, 2) and "left.tmp" not in corpora(base)
    assert not names & set(corpora(base))
    assert (summary(first), list(first.ids), list(first.digests)) == expected


def test_what_was_read_last_stays(base, monkeypatch):
    monkeypatch.setattr(corpus, "KEPT", 2)
    read(base)
    [first] = corpora(base)
    read(base, tokens="whitespace")
    read(base)
    read(base, sentences=True)
    assert first in corpora(base)


def test_a_cache_that_cannot_be_written_costs_time_only(base, tmp_path_factory):
    expected = summary(read(base))
    other = tmp_path_factory.mktemp("other")
    (other / "a.txt").write_bytes((base / "a.txt").read_bytes())
    (other / "store").mkdir()
    (other / "store" / "_cache").write_text("a file where the folder should be")
    assert summary(read(other)) == expected == summary(read(other))


def test_a_killed_build_is_cleared_away_by_the_next(base):
    killed = child(base, 5)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL and corpora(base)[0].endswith(".tmp")
    read(base, tokens="whitespace")
    [name] = corpora(base)
    assert not name.endswith(".tmp")


def test_a_full_disk_is_told_as_such(base, monkeypatch):
    (base / "a.txt").write_text("\n".join(LINES * 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(FullError, match=r"full disk at .*corpora"):
            read(base)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert summary(read(base))[1] > 3000


def test_waiting_for_another_can_be_stopped(base):
    place = base / "store" / "_cache" / "corpora"
    place.mkdir(parents=True)

    def stop(done, total, unit):
        assert (done, total, unit) == (0, (base / "a.txt").stat().st_size, "bytes")
        raise KeyboardInterrupt

    with FileLock(place / "lock"), pytest.raises(KeyboardInterrupt):
        read(base, progress=stop)
    assert summary(read(base))[2] == 3001


def test_a_stopped_build_ends_its_threads_and_leaves_no_result(base, monkeypatch):
    monkeypatch.setattr(corpus_files, "BLOCK", 1000)

    def stop(done, total, unit):
        if done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(base, progress=stop)
    assert corpora(base) == []
    assert len(read(base, Documents)) == 3000
