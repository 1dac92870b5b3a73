"""A store in a bucket lives as one on disk does; asked of a server that speaks S3 (moto, on this machine)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.pipeline import Pipeline
from storage import bucket, delta, layout, logs, promotion, retention, tables
from storage.bucket import Bucket
from storage.errors import NotFoundError
from storage.retention import Keep
from storage.store import VectorStore
from storage.verify import verify
from tests.helpers_incremental import bits, embed, expected, installed, write_pipeline, write_rows
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

pytestmark = pytest.mark.usefixtures("address")


@pytest.fixture
def store(address):
    return VectorStore(address)


def objects(place: Bucket) -> set[str]:
    """Names of all objects below a place."""
    return {str(found.relative_to(place)) for found, _, _ in place.walk()}


def test_what_is_committed_is_what_is_read(store, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)
    matrix = matrix_of(len(AWKWARD), 5)
    matrix[0] = [0.0, -0.0, np.finfo(np.float32).max, np.float32(1e-45), -1.5]
    made = put(store, encoder_of(AWKWARD, matrix, walks=3))
    put(store, encoder_of("xyz", matrix_of(3, 5)))
    space = VectorStore(str(store.root)).space("s")
    assert [v.number for v in space.versions()] == [1, 2]
    assert space.version("latest").ids.tolist() == ["x", "y", "z"]
    again = space.version(1)
    assert again.manifest == made.manifest
    assert again.ids.tolist() == AWKWARD
    assert again.matrix.tobytes() == matrix.tobytes()
    assert again.table(["id", "origin"]).column("id").to_pylist() == AWKWARD
    assert [len(batch) for batch in again.batches(rows=3)] == [3, 1, 3, 1, 2]
    assert [name for batch in again.batches(rows=3) for name in batch.column("id").to_pylist()] == AWKWARD
    encoder = again.encoder()
    assert encoder.recipe == encoder_of(AWKWARD, matrix, walks=3).recipe
    assert np.array_equal(encoder.matrix, matrix)
    assert (store.spaces(), again.missing()) == (["s"], [])


def test_large_parts_are_uploaded_in_pieces(store, s3):
    matrix = matrix_of(1300, 2100)
    s3.requests()
    version = put(store, encoder_of([str(i) for i in range(1300)], matrix))
    assert any("part-00000.parquet?partNumber=2&" in request for request in s3.requests())
    assert store.space("s").version(1).matrix.tobytes() == matrix.tobytes()
    assert np.array_equal(store.space("s").version(1).encoder().matrix, matrix)
    assert list(verify(version)) == []


def test_files_are_addresses_that_other_tools_read(store, s3, monkeypatch):
    import polars
    from pyarrow.fs import FileSystem

    monkeypatch.setattr(layout, "ROWS_PER_FILE", 2)
    first, _ = put(store, encoder_of("abc")), put(store, encoder_of("xyz", matrix_of(3, seed=1)))
    assert all(file.startswith(f"{store.root}/s/v00001-") for file in first.files)
    host = s3.url.removeprefix("http://")
    found = []
    for file in first.files:
        files, path = FileSystem.from_uri(f"{file}?endpoint_override={host}&scheme=http&region=us-east-1")
        found += pq.read_table(path, filesystem=files).column("vector").to_pylist()
    assert np.array_equal(np.array(found, np.float32), matrix_of(3))
    options = {"aws_endpoint_url": s3.url, "aws_allow_http": "true", "aws_region": "us-east-1"}
    frame = polars.read_parquet(first.files, storage_options=options)
    assert frame["id"].to_list() == ["a", "b", "c"]
    assert np.array_equal(np.array(frame["vector"].to_list(), np.float32), matrix_of(3))
    table = str(store.space("s").folder)
    assert sorted(polars.read_delta(table, storage_options=options)["id"]) == ["x", "y", "z"]
    old = polars.read_delta(table, version=first.delta_version, storage_options=options)
    assert sorted(old["id"]) == ["a", "b", "c"]


def test_only_new_and_changed_rows_are_embedded(tmp_path, address, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)
    rows = {f"row{i}": f"content {i}".encode() for i in range(10)}
    with installed(tmp_path / "site"):
        file = write_pipeline(tmp_path, rows=rows)
        edit(file, "./vectors", address)
        first = embed(file)
        rows |= {"row9": b"changed", "row10": b"new"}
        write_rows(tmp_path / "rows", rows)
        second = embed(file)
        assert sorted(second.encoded) == ["row10", "row9"]
        assert second.counts == (11, 2, 9, 0)
        assert second.version.manifest.model == first.version.manifest.model
        shared = set(first.version.files) & set(second.version.files)
        assert len(shared) == 2
        assert bits(second.version) == expected(second.version, rows)
        assert list(verify(second.version)) == list(verify(first.version)) == []
        rows.pop("row0")
        write_rows(tmp_path / "rows", rows)
        third = embed(file)
        assert (third.encoded, third.counts) == ([], (10, 0, 10, 0))
        assert bits(third.version) == expected(third.version, rows)
        assert bits(store_of(file).space("s").version(1)).keys() == {f"row{i}" for i in range(10)}


def store_of(file: Path) -> VectorStore:
    return Pipeline.load(file).vectors


def test_releases_move_and_roll_back(store):
    for seed in range(2):
        version = put(store, encoder_of("ab", matrix_of(2, seed=seed)))
        promotion.commit(store.paths, {"s": version.number}, f"run{seed}")
    assert [dict(release.spaces) for release in store.releases()] == [{"s": 1}, {"s": 2}]
    assert store.find("s").number == store.find("s@production").number == 2
    store.rollback()
    assert (store.release(), store.find("s").number, store.find("s@latest").number) == ({"s": 1}, 1, 2)
    store.promote(2, name="candidate")
    assert store.find("s@candidate").number == 2
    with pytest.raises(NotFoundError, match="release 7"):
        store.promote(7)


def test_small_files_of_a_log_are_gathered(store, monkeypatch):
    monkeypatch.setattr(logs, "FILES", 2)
    put(store, encoder_of("ab"))
    for number in range(3):
        promotion.commit(store.paths, {"s": 1}, f"run{number}")
    assert [release.number for release in store.releases()] == [1, 2, 3]
    assert len(delta.paths(store.paths.releases)) == 1
    assert retention.log_garbage(store.paths) == []  # younger than its readers may be
    monkeypatch.setattr(retention, "READERS", 0.0)
    time.sleep(1.1)
    old = retention.log_garbage(store.paths)
    retention.sweep(old)
    assert len(old) == 3 and retention.log_garbage(store.paths) == []
    assert [release.number for release in store.releases()] == [1, 2, 3]


def test_metrics_and_quarantine(store):
    one = put(store, given(batch_of("ab", rejected=rejected(3))))
    scores = [("accuracy", 0.75, 0.7, 0.8), ("majority", 0.25, None, None)]
    tables.record_metrics(store.paths, "s", 1, "category", "f" * 16, scores, {"n": 4})
    assert [(row["metric"], row["value"]) for row in store.metrics(one)] == [("accuracy", 0.75), ("majority", 0.25)]
    assert [row["id"] for row in store.quarantine(one)] == ["bad0", "bad1", "bad2"]
    two = put(store, given(batch_of("ab", rejected=rejected(1))))
    assert [row["id"] for row in store.quarantine(two)] == ["bad0"]
    assert store.metrics(two) == []


def test_what_versions_needed_goes_and_orphans_only_with_time(store, monkeypatch):
    versions = [put(store, encoder_of("ab", matrix_of(2, seed=seed)), run=f"run{seed}") for seed in range(3)]
    space = store.space("s")
    orphan, model = space.folder / "v00004-dead" / "part-00000.parquet", store.paths.models("s") / "0123-v4-dead"
    for place in (orphan, model / "encoder.json"):
        place.write_bytes(b"x")
    put(store, encoder_of("ab", matrix_of(2, seed=3)))  # on disk, the next run would clear them away
    assert orphan.is_file()
    before = objects(store.root)
    assert retention.garbage(space) == []
    gone = retention.retire(space, Keep(versions=2))
    assert [version.number for version in gone] == [1, 2]
    retention.sweep(retention.garbage(space, gone))
    left = objects(store.root)
    assert {path.split("/")[1] for path in before - left if path.startswith("s/")} == {"v00001-run0", "v00002-run1"}
    assert {path.split("/")[2].split("-")[1] for path in before - left if path.startswith("_models/")} == {"v1", "v2"}
    assert [version.number for version in space.versions()] == [3, 4]
    for version in space.versions():
        assert list(verify(version)) == []
    assert not any(folder.name in {"v00001-run0", "v00002-run1"} for folder in space.folder.iterdir())
    with pytest.raises(NotFoundError, match="taken out"):
        space.version(versions[0].number)
    monkeypatch.setattr(retention, "AGE", -60.0)
    old = retention.garbage(space)
    assert {str(one.place) for one in old} == {str(orphan), str(model / "encoder.json")}
    retention.sweep(old)
    assert objects(store.root) == left - {str(one.place.relative_to(store.root)) for one in old}
    assert np.array_equal(space.version().matrix, matrix_of(2, seed=3))


def test_locks_and_caches_lie_on_this_machine(store, tmp_path):
    put(store, encoder_of("ab"))
    found = {path.relative_to(store.paths.local).as_posix() for path in (tmp_path / "cache").rglob("*.lock")}
    assert found == {"_locks/s.lock"}
    assert {path.partition("/")[0] for path in objects(store.root)} == {"s", "_models", "_cache"}
    assert store.paths.local.is_relative_to(tmp_path / "cache" / "polyvec")


def test_opening_a_version_asks_little_however_many_there_are(store, s3):
    def requests(ask):
        s3.requests()
        ask()
        return len(s3.requests())

    asked = []
    for number in range(1, 14):
        put(store, encoder_of("ab"))
        if number in (3, 13):
            space = store.space("s")
            asked.append([requests(lambda space=space, which=which: space.version(which)) for which in ("latest", 2)])
    assert asked[0] == asked[1]
    assert asked[1][0] <= 3 and asked[1][1] <= 8
    assert requests(lambda: put(store, encoder_of("ab"))) < 100


def test_a_place_behaves_as_a_path(store):
    root = store.root
    assert (root.is_dir(), root.is_file(), list(root.iterdir()), list(root.walk())) == (False, False, [], [])
    for name in ("b", "a/x", "a/y"):
        (root / name).write_bytes(name.encode())
    assert [place.name for place in root.iterdir()] == ["a", "b"]
    assert [(str(place.relative_to(root)), size) for place, size, _ in root.walk()] == [
        ("a/x", 3),
        ("a/y", 3),
        ("b", 1),
    ]
    assert ((root / "a").is_dir(), (root / "a").is_file(), (root / "a").size()) == (True, False, None)
    assert ((root / "b").is_dir(), (root / "b").is_file(), (root / "b").size()) == (False, True, 1)
    assert (root / "a" / "x").read_bytes() == b"a/x"
    with pytest.raises(FileNotFoundError):
        (root / "c").read_bytes()
    (root / "a" / "x").remove()
    assert objects(root) == {"a/y", "b"}
    (root / "a").remove()
    (root / "a").remove()
    assert objects(root) == {"b"} and not (root / "a").is_dir()


def test_what_an_error_cuts_off_is_not_published(store):
    def cut_off():
        with (store.root / "x").open("xb") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cut_off()
    assert not (store.root / "x").is_file()


def test_what_fails_on_this_machine_is_not_put_down_to_the_server(store, tmp_path):
    (store.root / "x").write_bytes(b"x")
    (store.root / "x").download(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"x"
    with pytest.raises(FileExistsError):
        (store.root / "x").download(tmp_path / "x")


def test_the_region_of_other_servers_need_not_be_named(store, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    put(store, encoder_of("ab"))
    assert store.find("s").ids.tolist() == ["a", "b"]


def test_the_environment_is_read_each_time(monkeypatch):
    for name in ("AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    assert (bucket.endpoint(), bucket.region()) == ("", "")
    assert "aws_endpoint_url" not in Bucket("b/x").options and "aws_region" not in Bucket("b/x").options
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://one.example:9000/")
    assert bucket.region() == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert (bucket.endpoint(), bucket.region()) == ("https://one.example:9000", "eu-central-1")
    assert Bucket("b/x").options["allow_http"] == "false"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two.example")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert (bucket.endpoint(), bucket.region()) == ("http://two.example", "eu-west-1")
    assert Bucket("b/x").options["allow_http"] == "true"


@pytest.mark.parametrize("prefix", ["", "/a b/ü", "/year=2026/a+b"])
def test_prefixes(address, prefix):
    store = VectorStore(address + prefix)
    for number in (1, 2):
        assert put(store, encoder_of("ab")).number == number
    assert (store.spaces(), store.find("s").ids.tolist()) == (["s"], ["a", "b"])


def test_a_whole_pipeline(tmp_path, address):
    file = write_project(tmp_path)
    edit(file, "./vectors", address)
    assert [space.action for space in run_steps(file).spaces] == ["embed", "embed"]
    store = store_of(file)
    assert store.release() == {"words": 1, "nodes": 1}
    assert {row["metric"] for row in store.metrics(store.find("nodes"))} == {"same_label", "chance"}
    assert all(space.idle for space in run_steps(file).spaces)
    edit(tmp_path / "links.tsv", "a0\ta1\n", "a0\ta1\na0\tb1\n")
    assert sorted(space.name for space in run_steps(file).spaces if space.action == "embed") == ["nodes"]
    assert store.release() == {"words": 1, "nodes": 2}
    store.find("words").parts[0].remove()
    assert [space.name for space in run_steps(file).spaces if space.action == "embed"] == ["words"]
    assert all(list(verify(store.find(name))) == [] for name in store.spaces())


@pytest.mark.slow
def test_the_command_line(tmp_path, address):
    file = write_project(tmp_path)
    edit(file, "./vectors", address)

    def polyvec(*args):
        with process(*args, cwd=tmp_path, home=tmp_path / "prefect") as running:
            said, told = running.communicate(timeout=300)
        assert running.returncode == 0, told
        return said

    results = json.loads(polyvec("run", "--json"))
    assert {row["space"]: row["status"] for row in results["rows"]} == {"words": "new", "nodes": "new"}
    assert results["report"].startswith(f"{address}/_reports/")
    assert (Bucket.parse(results["report"]).parent / "words.png").is_file()
    assert "everything is up to date" in polyvec("run")
    assert [line.split("\t")[0] for line in polyvec("ls").splitlines()] == ["space", "nodes", "words"]
    assert json.loads(polyvec("show", "nodes", "--json"))["metrics"]
    assert all(name.startswith(address) for name in polyvec("files", "words").splitlines())
    assert "queen" in polyvec("search", "words", "king", "-k", "5")
    polyvec("verify")
    polyvec("gc")
    assert not (tmp_path / "vectors").exists() and not list(tmp_path.glob("s3:*"))
    assert store_of(file).release() == {"words": 1, "nodes": 1}
