"""Which files a path names, what pictures are called, and the cache of digests."""

import hashlib
import os
import pickle
import sqlite3
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from embedders.data import Images
from embedders.errors import InputError
from storage import digests
from storage.digests import DigestCache, file_digest
from storage.inputs import files, specs
from storage.inputs.files import find_files
from storage.inputs.specs import CorpusSpec, ImagesSpec

HOUR = 3600 * 10**9


def touch(base, *names):
    """Files that hold their names and were written an hour ago: digests of younger ones are not kept."""
    for name in names:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        written(path, time.time_ns() - HOUR)


def written(path, when):
    os.utime(path, ns=(when, when))


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("this file system takes no links")


def found(pattern, base, suffixes=(".png", ".jpg")):
    return list(find_files(pattern, base, suffixes))


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
    assert found("p/**", tmp_path) == ["a.jpg", "b.png", "sub/c.png", "x1.png", "x2.png"]
    assert found("**/sub/**", tmp_path) == found("**/**/c.*", tmp_path) == ["p/sub/c.png"]
    assert found("p/s*b/c.png", tmp_path) == ["sub/c.png"]
    assert found("p/s*b/../b.png", tmp_path) == ["sub/../b.png"]


def test_globs_find_hidden_files_only_when_they_say_so(tmp_path):
    touch(tmp_path / "p", ".a.png", ".git/b.png", "sub/.c.png", "sub/d.png")
    assert found("p/.*", tmp_path) == [".a.png"]
    assert found("p/**/.*", tmp_path) == [".a.png", "sub/.c.png"]
    assert found("p/**/.git/*", tmp_path) == found("p/.*/*", tmp_path) == [".git/b.png"]
    assert found("p/.git", tmp_path) == found("p/.git/*", tmp_path) == ["b.png"]


def test_what_is_no_file_is_left_out(tmp_path):
    touch(tmp_path, "p/a.png", "p/folder.png/b.txt")
    link(tmp_path / "p/dead.png", "nowhere")
    link(tmp_path / "p/itself.png", "itself.png")
    link(tmp_path / "p/beyond.png", "a.png/further")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "p/pipe.png")  # reading it would wait for ever
    for pattern in ("p", "p/*.png", "p/**/*.png", "p/**"):
        assert [name for name in found(pattern, tmp_path) if name.endswith("png")] == ["a.png"]


def test_links(tmp_path):
    """Links to files are files. Links to folders: globs follow them, a folder does not."""
    touch(tmp_path, "far/a.png", "far/b.png")
    link(tmp_path / "p/a.png", "../far/a.png")
    link(tmp_path / "p/linked", "../far")
    assert found("p", tmp_path) == ["a.png"]
    assert found("p/**/*.png", tmp_path) == ["a.png", "linked/a.png", "linked/b.png"]
    assert found("p/*/b.png", tmp_path) == found("p/l*/b*", tmp_path) == ["linked/b.png"]
    assert found("p/linked", tmp_path) == ["a.png", "b.png"]
    assert find_files("p", tmp_path, (".png",))["a.png"].size == len("far/a.png")


def test_a_circle_of_links_is_gone_round_once(tmp_path):
    touch(tmp_path, "all/p/a.png", "all/q/b.png")
    for place, target in {"p/up": "..", "p/self": ".", "p/q": "../q", "q/p": "../p"}.items():
        link(tmp_path / "all" / place, target)
    assert found("all/p", tmp_path) == ["a.png"]
    assert found("all/p/**/*.png", tmp_path) == ["a.png", "q/b.png", "up/q/b.png"]
    assert found("all/**/a.png", tmp_path) == ["p/a.png", "q/p/a.png"]


@pytest.mark.parametrize("pattern", [".", "p", "p/*", "p/a.png"])
def test_a_relative_base(tmp_path, monkeypatch, pattern):
    touch(tmp_path, "p/a.png")
    monkeypatch.chdir(tmp_path)
    assert [file.path for file in find_files(pattern, Path(), (".png",)).values()] == [str(tmp_path / "p/a.png")]


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


def test_a_file_that_cannot_be_looked_at(tmp_path, monkeypatch):
    touch(tmp_path, "p/a.png", "p/b.png")
    real = os.stat

    def stat(path, **options):
        if str(path).endswith("b.png"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, **options)

    monkeypatch.setattr(files.os, "stat", stat)
    with pytest.raises(InputError, match=r"b\.png'.*cannot be read .Permission denied"):
        find_files("p", tmp_path, (".png",))


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
    cache = base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), spec.gives[0], cache=cache)


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
    assert all(isinstance(path, Path) and path.is_absolute() for path in data.files)
    assert list(data.digests) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in data.files]


def test_the_stem_of_odd_names(tmp_path):
    touch(tmp_path, "p/a.b.png", "p/none", "p/two..png")
    assert list(images(tmp_path, "p/*", id="stem").ids) == ["a.b", "none", "two."]


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


def test_a_file_that_was_just_written_is_not_trusted(tmp_path, read_files):
    """Clocks of file systems are coarse: what is written after the digest may bear the same time and size."""
    touch(tmp_path, "a", "old", "ahead", "store/x")
    paths = [tmp_path / name for name in ("a", "old", "ahead")]
    cache = DigestCache(tmp_path / "store" / "_cache")
    when = time.time_ns()
    written(paths[0], when)
    written(paths[2], when + HOUR)  # by another machine's clock
    cache.digests(paths)
    paths[0].write_bytes(b"b")
    written(paths[0], when)  # within the same tick
    read_files.clear()
    assert cache.digests(paths)[0] == hashlib.sha256(b"b").hexdigest()
    assert sorted(read_files) == ["a", "ahead"]
    written(paths[0], when - 3 * 10**9)
    cache.digests(paths)
    read_files.clear()
    cache.digests(paths)
    assert read_files == ["ahead"]


def test_one_file_of_many_is_looked_up_alone(tmp_path, read_files):
    names = [f"{name}{i}" for name in ("a", "é", "z", "😀") for i in range(3)]
    touch(tmp_path, *names, "store/x")
    cache = DigestCache(tmp_path / "store" / "_cache")
    first = dict(zip(names, cache.digests([tmp_path / name for name in names]), strict=True))
    read_files.clear()
    for name in names:  # first and last in the order of SQLite as in ours
        assert cache.digests([tmp_path / name]) == [first[name]]
    some = names[7:1:-1]
    assert cache.digests([tmp_path / name for name in some]) == [first[name] for name in some]
    assert read_files == []


def test_the_files_of_a_scan_are_paths(tmp_path):
    touch(tmp_path, *(f"p/{i}.png" for i in range(5)))
    scan = ImagesSpec(kind="images", path="p").scan(tmp_path, DigestCache(tmp_path / "store" / "_cache"))
    paths = [tmp_path / f"p/{i}.png" for i in range(5)]
    assert list(scan.files) == list(pickle.loads(pickle.dumps(scan)).files) == paths and len(scan.files) == 5
    assert (scan.files[-1], list(scan.files[1:4:2])) == (paths[-1], paths[1:4:2])
    with pytest.raises(IndexError):
        _ = scan.files[5]


def test_a_scan_looks_at_a_file_once_and_makes_no_paths(tmp_path, monkeypatch):
    touch(tmp_path, *(f"p/{i:03d}.png" for i in range(50)), "store/x")
    spec, cache = ImagesSpec(kind="images", path="p"), DigestCache(tmp_path / "store" / "_cache")
    first = spec.scan(tmp_path, cache)
    real, looks = os.stat, []
    monkeypatch.setattr(os, "stat", lambda path, **options: looks.append(str(path)) or real(path, **options))
    monkeypatch.setattr(digests, "file_digest", None)  # reading a file again would fail
    monkeypatch.setattr(specs, "Path", None)  # so would making one
    again = spec.scan(tmp_path, cache)
    assert again == first and len(spec.read(again, Images, cache=tmp_path).files) == 50
    monkeypatch.undo()
    assert sorted(path for path in looks if path.endswith(".png")) == [str(path) for path in first.files]


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
