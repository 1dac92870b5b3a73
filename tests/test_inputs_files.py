"""Which files a path names, what pictures are called, and the cache of digests."""

import hashlib
import os
import sqlite3

import pytest
from pydantic import ValidationError

from embedders.errors import InputError
from storage import digests
from storage.digests import DigestCache, file_digest
from storage.inputs.specs import CorpusSpec, ImagesSpec, find_files

SUFFIXES = ImagesSpec.suffixes


def touch(base, *names):
    for name in names:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def found(pattern, base, suffixes=(".png", ".jpg")):
    root, files = find_files(pattern, base, suffixes)
    return [path.relative_to(root).as_posix() for path in files]


# ---- find_files


def test_a_folder_stands_for_what_is_below_it(tmp_path):
    touch(tmp_path / "p", "b.png", "a.JPG", "sub/c.png", "sub/deep/d.png", "notes.txt", ".hidden.png", ".git/e.png")
    assert found("p", tmp_path) == ["a.JPG", "b.png", "sub/c.png", "sub/deep/d.png"]
    assert found("p/", tmp_path) == found(str(tmp_path / "p"), tmp_path) == found("p", tmp_path)
    assert found(".", tmp_path) == [f"p/{name}" for name in found("p", tmp_path)]


def test_globs(tmp_path):
    touch(tmp_path / "p", "b.png", "a.jpg", "sub/c.png", ".hidden.png", "x1.png", "x2.png")
    assert found("p/*.png", tmp_path) == ["b.png", "x1.png", "x2.png"]
    assert found("p/**/*.png", tmp_path) == ["b.png", "sub/c.png", "x1.png", "x2.png"]
    assert found("p/x[12].png", tmp_path) == found("p/x?.png", tmp_path) == ["x1.png", "x2.png"]
    assert found("*/b.png", tmp_path) == ["p/b.png"]
    assert found("../p/*.jpg", tmp_path / "p") == ["a.jpg"]
    assert found(str(tmp_path / "p" / "*.jpg"), tmp_path / "elsewhere") == ["a.jpg"]


def test_one_file_of_any_ending(tmp_path):
    touch(tmp_path, "picture")
    assert found("picture", tmp_path) == ["picture"]


def test_a_name_that_looks_like_a_glob_is_the_file(tmp_path):
    touch(tmp_path, "a[1].png", "a1.png")
    assert found("a[1].png", tmp_path) == ["a[1].png"]


def test_the_folder_of_the_pipeline_file_is_no_glob(tmp_path):
    base = tmp_path / "data [2024] *"
    touch(base, "a.png", "sub/b.png")
    assert found("*.png", base) == ["a.png"]
    assert found("**/*.png", base) == ["a.png", "sub/b.png"]


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "p/a.png")
    assert found("~/p", tmp_path / "elsewhere") == found("~/p/*.png", tmp_path / "elsewhere") == ["a.png"]


@pytest.mark.parametrize("pattern", ["no.png", "p/*.gif", "p/**/*.gif", "no/*.png", "empty", "texts"])
def test_nothing_there(tmp_path, pattern):
    touch(tmp_path, "p/a.png", "texts/a.txt", "empty/.hidden.png")
    with pytest.raises(InputError, match=r"Got path .*Mend the path"):
        find_files(pattern, tmp_path, (".png",))


def test_a_file_name_that_is_not_utf8(tmp_path):
    touch(tmp_path, "a.png")
    try:
        (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(InputError, match="not UTF-8"):
        find_files(".", tmp_path, (".png",))


# ---- pictures


def images(base, path, **options):
    spec = ImagesSpec(kind="images", path=path, **options)
    return spec.read(spec.scan(base, DigestCache(base / "store" / "_cache")))


@pytest.mark.parametrize(
    ("option", "ids"),
    [
        ({}, ["a.png", "sub/é ü.jpg"]),
        ({"id": "path"}, ["a.png", "sub/é ü.jpg"]),
        ({"id": "stem"}, ["a", "é ü"]),
        ({"id": "name"}, ["a.png", "é ü.jpg"]),
    ],
)
def test_what_pictures_are_called(tmp_path, option, ids):
    touch(tmp_path, "p/a.png", "p/sub/é ü.jpg", "p/readme.txt")
    data = images(tmp_path, "p", **option)
    assert list(data.ids) == ids
    assert [path.name for path in data.files] == ["a.png", "é ü.jpg"]
    assert list(data.digests) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in data.files]


@pytest.mark.parametrize(("option", "names"), [("stem", ("p/a.jpg", "p/a.png")), ("name", ("p/a.png", "p/sub/a.png"))])
def test_one_id_for_two_pictures_names_both(tmp_path, option, names):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=r"Got the id 'a.*' twice") as failure:
        images(tmp_path, "p", id=option)
    assert all(str(tmp_path / name) in str(failure.value) for name in names)
    assert len(images(tmp_path, "p")) == 2


@pytest.mark.parametrize("wrong", [{"id": "number"}, {"ids": "stem"}, {"path": ""}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ImagesSpec(**{"kind": "images", "path": "p", **wrong})


def test_the_digest_follows_contents_and_names_not_times(tmp_path):
    touch(tmp_path, "p/a.png", "p/b.png")
    cache = DigestCache(tmp_path / "store" / "_cache")

    def scan(**options):
        return ImagesSpec(kind="images", path="p", **options).scan(tmp_path, cache)

    first = scan()
    assert (first.names, first.bytes) == (("a.png", "b.png"), 14)
    os.utime(tmp_path / "p" / "a.png", ns=(5, 5))
    assert scan() == first
    assert scan(id="stem").digest != first.digest
    touch(tmp_path, "p/c.png")
    more = scan()
    assert more.digest != first.digest
    (tmp_path / "p" / "c.png").unlink()
    assert scan().digest == first.digest
    (tmp_path / "p" / "b.png").write_bytes(b"p/b.pnG")  # of the same length
    changed = scan()
    assert changed.digest != first.digest and changed.digests[0] == first.digests[0]
    (tmp_path / "p" / "b.png").rename(tmp_path / "p" / "d.png")
    assert scan().digest not in {changed.digest, first.digest}


def test_reading_options_are_in_the_digest(tmp_path):
    touch(tmp_path, "a.txt")
    cache = DigestCache(tmp_path / "store" / "_cache")
    one, two = (
        CorpusSpec(kind="corpus", path="a.txt", tokens=tokens).scan(tmp_path, cache)
        for tokens in ("words", "whitespace")
    )
    assert one.digests == two.digests and one.digest != two.digest


# ---- digests


@pytest.fixture
def read_files(monkeypatch):
    """Names of the files whose bytes are read, in order; the reading itself is the real one."""
    names = []

    def spy(path):
        names.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", spy)
    return names


@pytest.mark.parametrize("folder", ["store", "with # and ? and %41 and é"])
def test_unchanged_files_are_not_read_again(tmp_path, read_files, folder):
    touch(tmp_path, "a", "b", f"{folder}/x")
    paths = [tmp_path / "a", tmp_path / "b"]
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    cache = tmp_path / folder / "_cache"
    assert DigestCache(cache).digests(paths) == expected
    assert sorted(read_files) == ["a", "b"]
    read_files.clear()
    assert DigestCache(cache).digests(paths[::-1]) == expected[::-1]
    assert read_files == []
    os.utime(paths[1], ns=(7, 7))
    assert DigestCache(cache).digests(paths) == expected
    assert read_files == ["b"]
    read_files.clear()
    paths[0].write_bytes(b"longer")
    assert DigestCache(cache).digests(paths) == [hashlib.sha256(b"longer").hexdigest(), expected[1]]
    assert read_files == ["a"]


def test_planning_makes_no_store(tmp_path):
    touch(tmp_path, "a")
    assert len(DigestCache(tmp_path / "store" / "_cache").digests([tmp_path / "a"])) == 1
    assert not (tmp_path / "store").exists()


def test_a_relative_cache_and_relative_files(tmp_path, monkeypatch, read_files):
    touch(tmp_path, "a", "store/x")
    monkeypatch.chdir(tmp_path)
    path = (tmp_path / "a").relative_to(tmp_path)
    cache = DigestCache((tmp_path / "store" / "_cache").relative_to(tmp_path))
    assert cache.digests([path]) == cache.digests([tmp_path / "a"])
    assert read_files == ["a"]


def damage_bytes(file):
    file.write_bytes(b"this is no database" * 100)


def damage_table(file):
    with sqlite3.connect(file) as base:
        base.execute("DROP TABLE files")
    base.close()


def damage_columns(file):
    with sqlite3.connect(file) as base:
        base.execute("ALTER TABLE files RENAME COLUMN digest TO other")
    base.close()


def damage_folder(file):
    file.unlink()
    file.mkdir()


def damage_digest(file):
    with sqlite3.connect(file) as base:
        base.execute("UPDATE files SET digest = NULL")
    base.close()


@pytest.mark.parametrize("damage", [damage_bytes, damage_table, damage_columns, damage_folder, damage_digest])
def test_a_damaged_cache_is_harmless(tmp_path, damage):
    touch(tmp_path, "a", "store/x")
    cache = DigestCache(tmp_path / "store" / "_cache")
    first = cache.digests([tmp_path / "a"])
    damage(tmp_path / "store" / "_cache" / "digests.sqlite")
    assert cache.digests([tmp_path / "a"]) == first
    assert cache.digests([tmp_path / "a"]) == first


def test_a_cache_of_damaged_bytes_is_made_anew(tmp_path, monkeypatch):
    touch(tmp_path, "a", "store/x")
    cache = DigestCache(tmp_path / "store" / "_cache")
    first = cache.digests([tmp_path / "a"])
    damage_bytes(tmp_path / "store" / "_cache" / "digests.sqlite")
    for _ in range(2):  # the first removes it, the second writes it
        cache.digests([tmp_path / "a"])
    monkeypatch.setattr(digests, "file_digest", None)  # reading a file again would fail
    assert cache.digests([tmp_path / "a"]) == first


def test_a_cache_that_cannot_be_written_is_harmless(tmp_path):
    touch(tmp_path, "a", "store/_cache")  # a file where the folder should be: no right helps, not even root's
    cache = DigestCache(tmp_path / "store" / "_cache")
    assert cache.digests([tmp_path / "a"]) == [hashlib.sha256(b"a").hexdigest()]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store_is_harmless(tmp_path):
    touch(tmp_path, "a", "store/x")
    (tmp_path / "store").chmod(0o555)
    try:
        assert DigestCache(tmp_path / "store" / "_cache").digests([tmp_path / "a"])
    finally:
        (tmp_path / "store").chmod(0o755)


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        DigestCache(tmp_path).digests([tmp_path / "gone"])
    with pytest.raises(InputError, match="cannot be read"):
        file_digest(tmp_path)


def test_no_files(tmp_path):
    assert DigestCache(tmp_path / "store").digests([]) == []
