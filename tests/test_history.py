"""The log, two versions compared, and one row's history: against plain dictionaries, with parts that versions share."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from embedders.base import Batch, Vectors
from embedders.errors import InputError
from storage import history as module
from storage.changes import changes, recipe_changes
from storage.errors import DamagedError
from storage.history import diff, log, row_history
from storage.manifest import Recipe
from storage.store import VectorStore
from tests.helpers_store import AWKWARD, encoder_of, given, matrix_of, put


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.layout.ROWS_PER_FILE", 4)
    return VectorStore(tmp_path / "vectors")


def add(store, ids, vectors=None, *, digests=None, space="s", **more):
    """A version with these rows, in parts of 4."""
    vectors = matrix_of(len(ids)) if vectors is None else np.asarray(vectors, np.float32)
    batch = Batch(Vectors("node", list(ids), vectors), digests=digests)
    return put(store, dataclasses.replace(given(batch), width=vectors.shape[1]), space=space, **more)


def with_parts(version, *entries):
    """The same version, made of other parts."""
    counts = version.manifest.counts.model_copy(update={"embedded": sum(entry.rows for entry in entries)})
    return dataclasses.replace(
        version, manifest=version.manifest.model_copy(update={"files": entries, "counts": counts})
    )


def letters(text):
    return list(text)


def rows_of(version):
    """What a version holds, read without the module under test."""
    folder = version.paths.space(version.manifest.space)
    found = {}
    for entry in version.manifest.files:
        table = pa.parquet.read_table(folder / entry.path)
        found |= dict(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    return found


def check(found):
    """A diff says what two dictionaries say."""
    before, after = rows_of(found.before), rows_of(found.after)
    assert found.added.tolist() == [name for name in after if name not in before]
    assert found.removed.tolist() == [name for name in before if name not in after]
    assert found.common == len(before.keys() & after.keys())
    changed = [name for name in after if name in before and before[name] != after[name]]
    assert found.changed.tolist() == changed
    assert found.old.tolist() == [before[name] for name in changed]
    assert found.new.tolist() == [after[name] for name in changed]
    assert found.old.shape == found.new.shape == (len(changed), found.after.dim)


# Two versions


def test_rows_that_came_went_and_changed(store):
    a = add(store, letters("abcdefghij"))
    vectors = matrix_of(10)[[9, 1, 2, 3, 4, 5, 6, 0, 0]]
    vectors[[2, 4]] += 1
    b = add(store, letters("jbcdefgxy"), vectors)
    found = diff(a, b)
    check(found)
    assert (found.added.tolist(), found.removed.tolist()) == (["x", "y"], ["a", "h", "i"])
    assert (found.changed.tolist(), found.common) == (["c", "e"], 7)
    check(diff(b, a))


@pytest.mark.parametrize("seed", range(8))
def test_random_versions_with_shared_parts(store, monkeypatch, seed):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    rng = np.random.default_rng(seed)
    first = [f"id{i}" for i in range(30)]
    a = add(store, first)
    kept = [entry for entry in a.manifest.files if rng.random() < 0.5]
    table = pa.concat_tables([module._table(a, [entry], ["id"]) for entry in kept] or [pa.table({"id": []})])
    free = sorted(set(first) - set(table["id"].to_pylist()))
    some = [*rng.permutation(free)[: len(free) // 2].tolist(), "new1", "new2"]
    old = dict(zip(first, matrix_of(30), strict=True))
    vectors = [old.get(name, np.zeros(3)) + (rng.random() < 0.5) for name in some]
    b = add(store, some, vectors)
    check(diff(a, with_parts(b, *kept, *b.manifest.files)))
    check(diff(a, with_parts(b, *b.manifest.files, *kept)))
    check(diff(with_parts(b, *kept[::-1], *b.manifest.files), a))


def test_shared_parts_are_not_read(store):
    a = add(store, letters("abcdefgh"))
    b = add(store, letters("efxy"))
    b = with_parts(b, a.manifest.files[0], *b.manifest.files)
    (a.paths.space("s") / a.manifest.files[0].path).unlink()
    found = diff(a, b)
    assert (found.common, found.added.tolist(), found.removed.tolist()) == (6, ["x", "y"], ["g", "h"])
    assert found.changed.tolist() == ["e", "f"]
    (a.paths.space("s") / a.manifest.files[1].path).unlink()
    with pytest.raises(DamagedError, match="missing"):
        diff(a, b)


def test_a_version_and_itself(store):
    a = add(store, letters("abcdefghij"))
    found = diff(a, a)
    check(found)
    assert found.common == 10 and not found.turned and str(found.changes) == "same data, same recipe"
    again = diff(a, add(store, letters("abcdefghij")))  # the same bits in parts of its own
    check(again)
    assert again.common == 10 and not len(again.changed) and not again.turned


def test_versions_without_a_common_row(store):
    found = diff(add(store, letters("abcde")), add(store, letters("vwxyz")))
    check(found)
    assert found.common == 0 and not found.turned


def test_changed_means_another_bit(store):
    found = diff(add(store, ["a", "b"], [[0, 1, 2], [3, 4, 5]]), add(store, ["a", "b"], [[-0.0, 1, 2], [3, 4, 5]]))
    assert found.changed.tolist() == ["a"]


def test_another_dimension(store):
    a = add(store, letters("abcdef"))
    b = add(store, letters("xfedcb"), matrix_of(6, dim=2), replace=True)
    found = diff(a, b)
    assert (found.added.tolist(), found.removed.tolist()) == (["x"], ["a"])
    assert found.changed.tolist() == letters("fedcb") and found.common == 5
    assert found.old is None and found.new is None
    assert "dim: 3 -> 2" in found.changes.shape


def test_moved_rows_are_those_whose_contents_did_not_change(store):
    ids = letters("abcdef")
    a = add(store, ids, digests=["1", "2", "3", None, "5", None])
    vectors = matrix_of(6)
    vectors[[0, 1, 3, 4, 5]] += 1
    found = diff(a, add(store, ids, vectors, digests=["1", "2 new", "3", None, None, "6"]))
    assert dict(zip(found.changed, found.moved.tolist(), strict=True)) == {
        "a": True, "b": False, "d": True, "e": True, "f": True,
    }  # fmt: skip


@pytest.mark.parametrize(("moved", "turned"), [(0, False), (3, False), (4, True), (6, True)])
def test_a_space_is_turned_when_most_of_its_rows_moved(store, moved, turned):
    ids, vectors = letters("abcdef"), matrix_of(6)
    a = add(store, ids, vectors)
    vectors[:moved] += 1
    assert diff(a, add(store, ids, vectors)).turned is turned


def test_new_contents_do_not_turn_a_space(store):
    ids = letters("abcdef")
    a = add(store, ids, digests=letters("123456"))
    found = diff(a, add(store, ids, matrix_of(6) + 1, digests=letters("uvwxyz")))
    assert len(found.changed) == 6 and not found.moved.any() and not found.turned


def test_different_spaces_are_refused(store):
    a, b = add(store, ["x"]), add(store, ["x"], space="t")
    with pytest.raises(
        InputError, match=r"Got s @ 1 and t @ 1; expected two versions of one space\. Do: polyvec diff s@1"
    ):
        diff(a, b)


# One row


def events(found):
    return [(event.version.number, event.what) for event in found.events]


def test_a_row_through_the_versions(store):
    rows = [["x", "a"], ["a", "x", "b"], ["a", "b"], ["b", "c", "x"], ["x"], ["x"]]
    far = [0, 0, 0, 0, 0, 2]
    versions = [
        add(store, ids, np.array([[1, 2, 3 + shift] if name == "x" else [9, 9, n] for name in ids]))
        for n, (ids, shift) in enumerate(zip(rows, far, strict=True))
    ]
    found = row_history(versions, "x")
    assert events(found) == [(1, "appeared"), (3, "disappeared"), (4, "appeared"), (6, "changed")]
    assert [state and state.row for state in found.states] == [0, 1, None, 2, 0, 0]
    assert [state and state.version.number for state in found.states] == [1, 2, None, 4, 5, 6]
    last = found.events[-1]
    assert (last.before.version.number, last.before.vector.tolist()) == (5, [1, 2, 3])
    assert (last.now.version.number, last.now.vector.tolist()) == (6, [1, 2, 5])
    assert found.now is found.last is found.states[-1]
    assert events(row_history(versions, "c")) == [(4, "appeared"), (5, "disappeared")]
    gone = row_history(versions, "a")
    assert gone.now is None and gone.last.version.number == 3
    never = row_history(versions, "zzz")
    assert never.events == [] and never.now is None and never.last is None


def test_the_row_and_its_facts_stand_where_they_are_said_to(store):
    ids = [f"id{i}" for i in range(11)]
    version = add(store, ids, digests=[f"digest {i}" for i in range(11)])
    for i in (0, 3, 4, 10):
        state = row_history([version], f"id{i}").now
        assert (state.row, state.digest, state.origin) == (i, f"digest {i}", "embedded")
        np.testing.assert_array_equal(state.vector, matrix_of(11)[i])


def test_each_part_is_read_once(store, monkeypatch):
    a = add(store, letters("abcdefghijkl"))
    b = add(store, letters("efgh"))
    b = with_parts(b, a.manifest.files[2], *b.manifest.files, a.manifest.files[0])
    c = with_parts(b, *b.manifest.files, a.manifest.files[1])
    read = []
    original = module.read_table
    monkeypatch.setattr(
        module, "read_table", lambda paths, rows, columns: read.extend((p, *columns) for p in paths) or original(paths, rows, columns)
    )  # fmt: skip
    found = row_history([a, b], "a")
    assert [state.row for state in found.states] == [0, 8] and events(found) == [(1, "appeared")]
    assert len(read) == len(set(read)) == 2  # the ids and the facts of one part; b has that part, too
    read.clear()
    assert row_history([a, b, c], "nothing").last is None
    assert len(read) == len(set(read)) == 4


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_ids_are_found(store, name):
    version = add(store, AWKWARD)
    assert row_history([version], name).now.row == AWKWARD.index(name)
    found = diff(version, add(store, [one for one in AWKWARD if one != name]))
    assert found.removed.tolist() == [name]


def test_a_row_of_another_dimension_changed(store):
    versions = [add(store, ["a"]), add(store, ["a"], matrix_of(1, dim=2), replace=True)]
    assert events(row_history(versions, "a")) == [(1, "appeared"), (2, "changed")]


def test_where_older_versions_were_taken_out(store):
    versions = [add(store, ids, [[ord(name), 1, 2] for name in ids]) for ids in ("abc", "abc", "bcd")]
    assert events(row_history(versions[1:], "a")) == [(2, "there before"), (3, "disappeared")]
    assert events(row_history(versions[1:], "d")) == [(3, "appeared")]
    assert events(row_history(versions, "b")) == [(1, "appeared")]


# The log


def test_the_log_counts_what_a_version_added(store):
    a = add(store, letters("abcdefgh"))
    b = add(store, letters("xyz"), digest="1" * 64)
    b = with_parts(b, *b.manifest.files, a.manifest.files[0])
    first, second = log([a, b])
    size = {
        entry.path: (a.paths.space("s") / entry.path).stat().st_size for entry in (*a.manifest.files, *b.manifest.files)
    }
    assert (first.added, first.changes) == (sum(size[entry.path] for entry in a.manifest.files), None)
    assert (second.added, str(second.changes)) == (size[b.manifest.files[0].path], "data")
    [alone] = log([b])  # its parent is not there any more
    assert (alone.added, alone.changes) == (None, None)


def recipe(kind="word2vec", version=1, **params):
    return Recipe(kind=kind, version=version, params=params)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (recipe(dim=8, epochs=3), recipe(dim=8, epochs=3), []),
        (recipe(dim=8, epochs=3, seed=0), recipe(dim=16, epochs=5, seed=0), ["dim: 8 -> 16", "epochs: 3 -> 5"]),
        (recipe(dim=8, threads=1), recipe(dim=8, threads=2), []),
        (recipe(), recipe(new=True), ["new: None -> True"]),
        (recipe(old="x"), recipe(), ["old: x -> None"]),
        (recipe(dim=8), recipe(version=2, dim=9), ["word2vec itself changed: version 1 -> 2"]),
        (recipe(dim=8), recipe("glove", dim=9), ["embedder: word2vec -> glove"]),
    ],
)
def test_recipe_changes(before, after, expected):
    assert recipe_changes(before, after, {"threads"}) == expected


def test_changes_of_a_version(store):
    m = put(store, encoder_of(["a", "b"], walks=2), digest="1" * 64, upstream={"base": 1}).manifest

    def said(**other):
        found = changes(m, m.model_copy(update=other))
        return str(found)

    assert said() == "same data, same recipe"
    assert said(dataset_digest="2" * 64) == "data"
    assert said(dataset="other", dataset_digest="2" * 64) == "dataset: d -> other"
    assert said(upstream={"base": 2}) == "base: @1 -> @2"
    assert said(upstream={}) == "base: @1 -> none"
    assert said(similarity="dot") == "similarity: cosine -> dot"
    assert said(fingerprint="f" * 16) == "weights, labels or precision"
    params = {**m.recipe.params, "dim": 4, "walks": 3, "threads": 7}
    other = {"recipe": m.recipe.model_copy(update={"params": params}), "fingerprint": "f" * 16, "dim": 4}
    assert said(**other) == "dim: 3 -> 4, walks: 2 -> 3"  # the dimension once; threads change no vector
    gone = {"recipe": Recipe(kind="gone", version=1, params={"threads": 1}), "fingerprint": "f" * 16}
    lost = m.model_copy(update=gone)
    later = lost.model_copy(
        update={"recipe": Recipe(kind="gone", version=1, params={"threads": 2}), "fingerprint": "e" * 16}
    )
    assert str(changes(lost, later)) == "threads: 1 -> 2"  # of an embedder that is not installed all are told
