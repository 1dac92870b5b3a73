"""What is committed is what is read: ids, bits, order, manifests, counts, names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from embedders.errors import InputError
from flows.pipeline import Pipeline
from storage import layout, tables
from storage.errors import AccountingError, NotFoundError, NotWritableError, QuarantinedError, StoreError
from storage.manifest import KEY, Manifest, read_manifest
from storage.store import VectorStore
from storage.writer import check_writable, writing
from tests.helpers_store import (
    AWKWARD,
    batch_of,
    encoder_of,
    given,
    matrix_of,
    put,
    rejected,
    run_steps,
    write_project,
)


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_ids_and_bits_come_back(store):
    matrix = matrix_of(len(AWKWARD), 5)
    matrix[0] = [0.0, -0.0, np.finfo(np.float32).max, np.float32(1e-45), -1.5]
    version = put(store, encoder_of(AWKWARD, matrix))
    again = VectorStore(store.root).find("s")
    assert again.ids.tolist() == AWKWARD
    assert again.matrix.dtype == np.float32
    assert again.matrix.tobytes() == matrix.tobytes()
    assert (len(version), version.number, version.dim, version.vectors.entity) == (len(AWKWARD), 1, 5, "node")


@pytest.mark.parametrize("sizes", [(10,), (3, 4, 3), (1,) * 10, (4, 0, 6), (2, 8)])
def test_rows_keep_their_order_over_parts_and_batches(store, monkeypatch, sizes):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)
    ids, matrix = [f"n{i}" for i in range(10)], matrix_of(10)
    ends = np.cumsum([0, *sizes])
    batches = []
    for first, last in itertools.pairwise(ends):
        batch = batch_of(ids[first:last])
        batch.vectors.matrix[:] = matrix[first:last]
        batches.append(batch)
    version = put(store, given(*batches))
    assert [entry.rows for entry in version.manifest.files] == [4, 4, 2]
    assert version.ids.tolist() == ids
    assert np.array_equal(version.matrix, matrix)
    assert version.table(["id"]).column("id").to_pylist() == ids


def test_more_parts_than_are_written_at_once(store, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 1)
    version = put(store, encoder_of([f"n{i}" for i in range(12)]))
    assert len(version.files) == 12
    assert np.array_equal(version.matrix, matrix_of(12))


def test_one_part_and_several_are_read_into_one_read_only_matrix(store, monkeypatch):
    one = put(store, encoder_of(["a", "b"]))
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 1)
    two = put(store, encoder_of(["a", "b"]))
    assert (len(one.files), len(two.files)) == (1, 2)
    for version in (one, two):
        assert version.matrix.base is None and not version.matrix.flags.writeable
    assert np.array_equal(one.matrix, two.matrix)


def test_batches_stream_in_order(store, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 7)
    version = put(store, encoder_of([f"n{i}" for i in range(20)]))
    batches = list(version.batches(rows=3))
    assert [len(b) for b in batches] == [3, 3, 1, 3, 3, 1, 3, 3]
    assert [name for b in batches for name in b.column("id").to_pylist()] == version.ids.tolist()
    vectors = [row for b in batches for row in b.column("vector").to_pylist()]
    assert np.array_equal(np.array(vectors, np.float32), version.matrix)
    assert next(iter(version.batches(["origin", "digest"]))).schema.names == ["origin", "digest"]


def test_digests_and_origins_are_kept(store):
    version = put(store, given(batch_of("ab", digests=["x", "y"], origin=["embedded", "isolated"]), batch_of("c")))
    rows = version.table(["id", "digest", "origin"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a", "x", "embedded"),
        ("b", "y", "isolated"),
        ("c", None, "embedded"),
    ]


def test_equal_contents_keep_their_own_ids(store):
    version = put(store, given(batch_of("ab", digests=["same", "same"])))
    assert version.ids.tolist() == ["a", "b"]
    assert version.manifest.counts.embedded == 2


def test_versions_newest_last_and_by_name(store):
    made = [put(store, encoder_of(["a", "b"], matrix_of(2, seed=i)), run=f"run{i}") for i in range(3)]
    space = store.space("s")
    assert [v.number for v in space.versions()] == [1, 2, 3]
    assert [v.manifest.parent for v in space.versions()] == [None, 1, 2]
    assert [v.delta_version for v in space.versions()] == [0, 1, 2]
    assert [v.number for v in (space.version(), space.version("latest"), space.version(2), space.version("2"))] == [
        3,
        3,
        2,
        2,
    ]
    assert (store.find("s").number, store.find("s@1").number, store.find("s@latest").number) == (3, 1, 3)
    for i, version in enumerate(space.versions()):
        assert np.array_equal(version.matrix, matrix_of(2, seed=i))
        assert np.array_equal(made[i].matrix, version.matrix)
    assert store.spaces() == ["s"]


@pytest.mark.parametrize("which", [4, 0, "7", "production", "01"])
def test_an_unknown_version_lists_those_there_are(store, which):
    put(store, encoder_of(["a"]))
    with pytest.raises(NotFoundError, match=r"it has 1, or say 'latest'") as caught:
        store.space("s").version(which)
    assert caught.value.exit_code == 2


def test_an_unknown_space_lists_those_there_are(store):
    with pytest.raises(NotFoundError, match="none yet"):
        store.find("s")
    put(store, encoder_of(["a"]))
    with pytest.raises(NotFoundError, match=r"'t'.*Spaces there: s\."):
        store.find("t@1")
    with pytest.raises(NotFoundError, match="no version yet"):
        store.space("t").version()
    assert store.space("t").latest() is None


def test_the_manifest_says_how_it_came_about(store):
    encoder = encoder_of(["a", "b"], walks=3)
    put(store, encoder, run="first")
    manifest = put(store, encoder, run="second", digest="abc", upstream={"words": 4}).manifest
    assert (manifest.space, manifest.version, manifest.parent, manifest.run) == ("s", 2, 1, "second")
    assert (manifest.dataset, manifest.dataset_digest, dict(manifest.upstream)) == ("d", "abc", {"words": 4})
    assert (manifest.dim, manifest.similarity, manifest.entity) == (3, "cosine", "node")
    assert manifest.recipe.kind == "node2vec" and manifest.recipe.params["walks"] == 3
    assert manifest.fingerprint == encoder.recipe.fingerprint
    assert manifest.machine["threads"] == 1
    assert manifest.libraries["numpy"] == np.__version__
    assert manifest.created.tzinfo is not None and manifest.seconds >= 0


def test_the_manifest_is_in_the_commit_and_a_lone_file_explains_itself(store):
    version = put(store, encoder_of(["a", "b"]))
    [commit] = [json.loads(line)["commitInfo"] for line in log_lines(store, 0) if "commitInfo" in line]
    assert Manifest.model_validate_json(commit[KEY]) == version.manifest
    summary = json.loads(pq.read_metadata(version.files[0]).metadata[KEY.encode()])
    for key in ("space", "version", "dim", "similarity", "fingerprint", "entity", "format"):
        assert summary[key] == getattr(version.manifest, key), key
    assert summary["recipe"]["params"]["dim"] == 3


def log_lines(store: VectorStore, number: int) -> list[str]:
    return (store.space("s").folder / "_delta_log" / f"{number:020d}.json").read_text().splitlines()


def test_the_log_never_expires(store):
    put(store, encoder_of(["a"]))
    configuration = DeltaTable(str(store.space("s").folder)).metadata().configuration
    assert configuration["delta.logRetentionDuration"] == "interval 36500 days"
    assert configuration["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_manifests_outlive_checkpoints(store):
    for i in range(3):
        put(store, encoder_of(["a"]), run=f"r{i}")
        DeltaTable(str(store.space("s").folder)).create_checkpoint()
    DeltaTable(str(store.space("s").folder)).cleanup_metadata()
    assert [v.number for v in store.space("s").versions()] == [1, 2, 3]
    assert store.find("s@1").ids.tolist() == ["a"]


def test_delta_versions_of_others_do_not_stand_in_the_way(store):
    put(store, encoder_of(["a"]))
    DeltaTable(str(store.space("s").folder)).alter.set_table_properties({"delta.checkpointInterval": "50"})
    second = put(store, encoder_of(["b"]))
    assert (second.number, second.delta_version, second.ids.tolist()) == (2, 2, ["b"])
    assert store.find("s@1").ids.tolist() == ["a"]
    table = DeltaTable(str(store.space("s").folder))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert DeltaTable(str(store.space("s").folder)).version() > 2
    assert put(store, encoder_of(["c"])).number == 3
    assert store.find("s@2").ids.tolist() == ["b"]


def test_files_are_those_of_that_version_alone(store, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 2)
    one, two = put(store, encoder_of("abc"), run="one"), put(store, encoder_of("xyz"), run="two")
    for version in (one, two):
        assert len(version.files) == 2
        assert all(Path(file).is_absolute() and Path(file).is_file() for file in version.files)
        folder = store.space("s").folder
        assert [str(folder / entry.path) for entry in version.manifest.files] == version.files
        for file, entry in zip(version.files, version.manifest.files, strict=True):
            assert (Path(file).stat().st_size, pq.read_metadata(file).num_rows) == (entry.size, entry.rows)
            assert layout.xxhash.xxh3_128(Path(file).read_bytes()).hexdigest() == entry.xxh128
    assert not set(one.files) & set(two.files)
    assert {Path(uri).name for uri in DeltaTable(str(folder)).file_uris()} == {Path(file).name for file in two.files}


def test_the_model_comes_back(store):
    encoder = encoder_of(AWKWARD[:4], matrix_of(4, 6), walks=3)
    loaded = put(store, encoder).encoder()
    assert loaded.recipe == encoder.recipe
    assert (loaded.dim, loaded.similarity, loaded.mode) == (6, "cosine", encoder.mode)
    [batch] = loaded.encode(None)
    assert list(batch.vectors.ids) == AWKWARD[:4]
    assert np.array_equal(batch.vectors.matrix, encoder.matrix)


def test_each_version_keeps_its_own_model(store):
    for i in range(2):
        put(store, encoder_of(["a"], matrix_of(1, seed=i)))
    for i, version in enumerate(store.space("s").versions()):
        assert np.array_equal(version.encoder().matrix, matrix_of(1, seed=i))


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("before", [0, 1])
def test_counts_that_do_not_add_up_commit_nothing(store, rows, before):
    for _ in range(before):
        put(store, encoder_of("abc"))
    found = everything(store.root)
    with pytest.raises(AccountingError, match=rf"Got {rows} rows in and 3 out"):
        put(store, encoder_of("abc"), rows=rows)
    assert len(store.space("s").versions()) == before
    left = {path for path in everything(store.root) - found if not path.startswith("_locks")}
    assert left <= {"s", "_models", "_models/s"}


def test_an_encoder_that_fails_half_way_leaves_nothing(store):
    def stumble():
        yield batch_of("ab")
        raise RuntimeError("stumbled")

    put(store, encoder_of("a"))
    before = everything(store.root)
    with pytest.raises(RuntimeError, match="stumbled"), writing(store.space("s"), "r", wait=0, waiting=print) as writer:
        writer.commit(_source(3), encoder_of("abc"), stumble(), {}, 0.0)
    assert everything(store.root) == before
    assert store.find("s").ids.tolist() == ["a"]


def _source(rows):
    from storage.writer import Source

    return Source("d", "0" * 64, rows, {})


def test_excluded_rows_are_counted_by_reason(store):
    with writing(store.space("s"), "r", wait=0, waiting=print) as writer:
        version = writer.commit(_source(5), encoder_of("abc"), [batch_of("abc")], {"below_min_count": 2}, 0.0)
    counts = version.manifest.counts
    assert (counts.input, counts.embedded, dict(counts.excluded), counts.quarantined) == (
        5,
        3,
        {"below_min_count": 2},
        0,
    )


def test_quarantined_rows_are_kept_with_reasons(store):
    version = put(
        store,
        given(batch_of("ab"), batch_of("", rejected=rejected(2)), batch_of("c", rejected=rejected(1, "too_large"))),
    )
    counts = version.manifest.counts
    assert (counts.input, counts.embedded, counts.quarantined) == (6, 3, 3)
    rows = store.quarantine(version)
    assert [(row["id"], row["code"], row["location"], row["message"]) for row in rows] == [
        ("bad0", "broken_image", "folder/bad0.png", "message 0"),
        ("bad0", "too_large", "folder/bad0.png", "message 0"),
        ("bad1", "broken_image", "folder/bad1.png", "message 1"),
    ]
    assert len(rows) == counts.quarantined
    assert version.ids.tolist() == ["a", "b", "c"]
    later = put(store, encoder_of("abc"))
    assert store.quarantine(later) == store.quarantine(version) == []


def test_rows_leave_the_quarantine_when_they_embed_and_keep_their_first_version(store):
    put(store, given(batch_of("a", rejected=rejected(3))))
    put(store, given(batch_of("x", rejected=rejected(1))), space="other")
    second = put(store, given(batch_of("ab", rejected=(rejected(3)[1], *rejected(1, "too_large")))))
    found = [(row["id"], row["code"], row["version"]) for row in store.quarantine(second)]
    assert found == [("bad0", "too_large", 2), ("bad1", "broken_image", 1)]
    assert [row["id"] for row in store.quarantine(store.find("s@1"))] == ["bad1"]  # still rejected, since version 1
    put(store, encoder_of("abc"))
    assert store.quarantine(store.find("s")) == []
    assert len(store.quarantine(store.find("other"))) == 1


def test_when_every_row_is_rejected_nothing_is_committed(store):
    with pytest.raises(QuarantinedError, match=r"Got 3 rows .*broken_image: 2, too_large: 1.*message 0") as caught:
        put(store, given(batch_of("", rejected=rejected(2) + rejected(1, "too_large"))), run="r1")
    assert caught.value.exit_code == 2
    assert store.spaces() == []
    assert len(tables.quarantined(store.paths, "s")) == 3
    assert put(store, encoder_of("a")).number == 1
    assert tables.quarantined(store.paths, "s") == []


def test_an_empty_answer_is_no_version(store):
    with pytest.raises(QuarantinedError, match="no rows"):
        put(store, given())
    assert store.spaces() == []


def test_metrics_are_recorded_and_read(store):
    one, two = put(store, encoder_of("a")), put(store, encoder_of("a"))
    scores = [("accuracy", 0.75, 0.7, 0.8), ("majority", 0.25, None, None)]
    tables.record_metrics(store.paths, "s", 1, "category", "f" * 16, scores, {"n": 4, "größe": "ü"})
    tables.record_metrics(store.paths, "s", 1, "other", "e" * 16, [("spearman", -0.5, None, None)], {})
    tables.record_metrics(store.paths, "t", 1, "other", "e" * 16, [("spearman", 0.5, None, None)], {})
    rows = store.metrics(one)
    assert [(r["evaluation"], r["metric"], r["value"], r["low"], r["high"]) for r in rows] == [
        ("category", "accuracy", 0.75, 0.7, 0.8),
        ("category", "majority", 0.25, None, None),
        ("other", "spearman", -0.5, None, None),
    ]
    assert json.loads(rows[0]["notes"]) == {"n": 4, "größe": "ü"} and rows[1]["notes"] is None
    assert store.metrics(two) == []


def test_a_newer_manifest_is_refused(store):
    text = put(store, encoder_of("a")).manifest.model_dump_json()
    assert read_manifest(text, "here").space == "s"
    for number in (2, None):
        newer = json.dumps(json.loads(text) | {"format": number, "surprise": 1})
        with pytest.raises(StoreError, match=rf"format {number} in here; this polyvec reads format 1"):
            read_manifest(newer, "here")


@pytest.mark.parametrize(
    "name",
    ["", "../x", "..", ".", "a/b", "a\\b", "_x", "-x", ".x", "x" * 101, "x" * 300, "naïve", "a b", "a\n", "a:b", "😀"],
)
def test_names_that_are_no_folders(store, name):
    with pytest.raises(InputError, match="expected 1 to 100 characters") as caught:
        store.space(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["a", "A.b-c_1", "7", "x" * 100, "ratings.users", "on"])
def test_names_that_are_folders(store, name):
    put(store, encoder_of("a"), space=name)
    assert VectorStore(store.root).spaces() == [name]
    assert store.find(name).ids.tolist() == ["a"]


def test_other_folders_are_no_spaces(store):
    put(store, encoder_of("a"))
    for name in ("not-a-table", "_hidden", "half/_delta_log"):
        (store.root / name).mkdir(parents=True)
    assert store.spaces() == ["s"]


@pytest.mark.parametrize("below", ["file", "file/deeper/still"])
def test_a_store_that_cannot_be_written(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    store = VectorStore(tmp_path / below)
    assert store.spaces() == []
    for attempt in (lambda: check_writable(store.root), lambda: put(store, encoder_of("a"))):
        with pytest.raises(NotWritableError, match="cannot be written") as caught:
            attempt()
        assert caught.value.exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("address", ["gs://bucket/prefix", "s3://", "s3:///x", "s3://bucket//x", "s3://bucket/../x"])
def test_addresses_that_are_no_store(address):
    with pytest.raises(InputError, match="expected a folder, or s3://bucket/prefix"):
        VectorStore(address)


def test_opening_and_looking_makes_nothing(tmp_path):
    store = VectorStore(tmp_path / "vectors")
    assert (store.spaces(), store.space("s").versions(), store.space("s").latest()) == ([], [], None)
    assert not store.root.exists()


def test_a_real_version_adds_up(tmp_path):
    file = write_project(tmp_path)
    (tmp_path / "text.txt").write_bytes((tmp_path / "text.txt").read_bytes() + b"bad \xff line\nrare word here\n")
    file.write_text(file.read_text().replace("min_count: 1", "min_count: 2"))
    run_steps(file)
    store = Pipeline.load(file).vectors
    words, nodes = store.find("words"), store.find("nodes")
    counts = words.manifest.counts
    assert (counts.input, counts.embedded, dict(counts.excluded)) == (13, 10, {"below_min_count": 3})
    assert sorted(words.ids) == sorted("king queen man woman crown river boat water fish bank".split())
    [bad] = store.quarantine(words)
    assert (bad["id"], bad["code"]) == ("text.txt:61", "not_utf8")
    assert (nodes.manifest.counts.input, nodes.manifest.counts.embedded, len(nodes)) == (16, 16, 16)
    assert {row["metric"] for row in store.metrics(nodes)} == {"same_label", "chance"}
    assert np.array_equal(nodes.encoder().matrix, nodes.matrix)
