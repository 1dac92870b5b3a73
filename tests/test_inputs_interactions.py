"""Datasets of users and items."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.errors import InputError
from embedders.interactions import Interactions
from storage.digests import DigestCache
from storage.inputs import interactions
from storage.inputs.interactions import InteractionsSpec


def read(folder: Path, path="events.tsv", **options) -> Interactions:
    spec = InteractionsSpec(kind="interactions", path=path, **options)
    return spec.read(spec.scan(folder, DigestCache(folder / "cache")), Interactions, cache=folder / "cache")


def events(data):
    """(user, item, weight, time) of each, in order."""
    weight = [None] * len(data) if data.weight is None else data.weight.tolist()
    time = [None] * len(data) if data.time is None else data.time.tolist()
    users, items = [data.users[i] for i in data.user], [data.items[i] for i in data.item]
    return list(zip(users, items, weight, time, strict=True))


def test_two_columns_without_a_header(tmp_path):
    (tmp_path / "events.tsv").write_text("Zoë B\tx y\n7\t007\nZoë B\t日本\n")
    data = read(tmp_path)
    assert events(data) == [("Zoë B", "x y", None, None), ("7", "007", None, None), ("Zoë B", "日本", None, None)]
    assert data.users == ["Zoë B", "7"]


def test_names_of_a_header_and_order_of_time(tmp_path):
    (tmp_path / "events.csv").write_text("when,who,what,stars\n30,a,x,2\n10,b,y,5\n30,b,x,1\n20,a,y,4.5\n")
    columns = {"user": "who", "item": "what", "weight": "stars", "time": "when"}
    data = read(tmp_path, "events.csv", columns=columns)
    assert events(data) == [("b", "y", 5, 10), ("a", "y", 4.5, 20), ("a", "x", 2, 30), ("b", "x", 1, 30)]
    assert data.users == ["a", "b"]


@pytest.mark.parametrize("form", ["csv", "gz", "parquet"])
def test_dates(tmp_path, form):
    dates = ["2024-05-01 12:30:00", "2024-05-01 12:29:59.5"]
    if form == "parquet":
        times = pa.array(dates).cast(pa.timestamp("ns"))
        pq.write_table(pa.table({"u": [1, 2], "i": ["x", "x"], "t": times}), tmp_path / "events.parquet")
    else:
        text = "u,i,t\n" + "".join(f"{n + 1},x,{date}\n" for n, date in enumerate(dates))
        name = "events.csv" if form == "csv" else "events.csv.gz"
        (tmp_path / name).write_bytes(text.encode() if form == "csv" else gzip.compress(text.encode()))
    path = {"csv": "events.csv", "gz": "events.csv.gz", "parquet": "events.parquet"}[form]
    data = read(tmp_path, path, columns={"user": "u", "item": "i", "time": "t"})
    assert [(user, time) for user, _, _, time in events(data)] == [("2", 1714566599.5), ("1", 1714566600.0)]


def test_several_files(tmp_path):
    (tmp_path / "a.tsv").write_text("u\tx\n")
    (tmp_path / "b.tsv").write_text("v\tx\nu\ty\n")
    data = read(tmp_path, "*.tsv")
    assert events(data) == [("u", "x", None, None), ("v", "x", None, None), ("u", "y", None, None)]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
def test_pieces_of_columns_that_are_coded_at_once_give_the_same(tmp_path, monkeypatch, kind):
    rng = np.random.default_rng(0)
    columns = {"user": pa.array(rng.integers(0, 40, 500)).cast(kind), "item": pa.array(rng.integers(0, 7, 500)).cast(kind)}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "events.parquet", row_group_size=90)
    asked = {"user": "user", "item": "item"}
    whole = read(tmp_path, "events.parquet", columns=asked)
    monkeypatch.setattr(interactions, "PIECE", 100)
    monkeypatch.setattr(interactions, "cores", lambda: 4)
    parts = read(tmp_path, "events.parquet", columns=asked)
    assert (parts.users, parts.items) == (whole.users, whole.items) and len(parts.users) == 40
    assert np.array_equal(parts.user, whole.user) and np.array_equal(parts.item, whole.item)


def test_a_threshold_leaves_users_out_that_have_nothing_left(tmp_path):
    (tmp_path / "events.tsv").write_text("a\tx\t3\nb\ty\t4\nc\tx\t5\n")
    columns = {"user": 1, "item": 2, "weight": 3}
    assert read(tmp_path, columns=columns, threshold=4.0).users == ["b", "c"]
    with pytest.raises(InputError, match="without an event that weighs 6 or more"):
        read(tmp_path, columns=columns, threshold=6.0)


def test_whole_numbers_that_a_threshold_leaves_out_are_nobody(tmp_path):
    table = pa.table({"u": [1, 2, 3, 2], "i": [7, 8, 9, 9], "w": [1.0, 2, 5, 5]})
    pq.write_table(table, tmp_path / "e.parquet")
    found = read(tmp_path, "e.parquet", columns={"user": "u", "item": "i", "weight": "w"}, threshold=3.0)
    assert (found.users, found.items) == (["3", "2"], ["9"])
    assert events(found) == [("3", "9", 5, None), ("2", "9", 5, None)]


def test_ids_of_several_types(tmp_path):
    """The same user, a whole number in one file and text in others."""
    pq.write_table(pa.table({"u": [1, 2], "i": [7, 8]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"u": ["2"], "i": ["x"]}), tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("u,i\n1,x\n")
    found = read(tmp_path, "*", columns={"user": "u", "item": "i"})
    assert [event[:2] for event in events(found)] == [("1", "7"), ("2", "8"), ("2", "x"), ("1", "x")]


TIMES = [
    (pa.array(["2024-05-01 12:30:00", "2024-05-01"], pa.large_string()), [1714521600, 1714566600]),
    (pa.array(["2024-05-01T12:30:00Z", "2024-05-01T12:30:00+02:00"]), [1714559400, 1714566600]),
    (pa.array(["7", "5"], pa.string_view()), [5, 7]),
    (pa.array([1500000001, 500000000], pa.timestamp("ns")), [0.5, 1.500000001]),
    (pa.array([1500, 500], pa.timestamp("ms", "Europe/Berlin")), [0.5, 1.5]),
    (pa.array([2, 1], pa.date32()), [86400, 172800]),
    (pa.array([2**60, 2**59 + 1]), [2**59, 2**60]),
]


@pytest.mark.parametrize(("times", "expected"), TIMES, ids=[str(times.type) for times, _ in TIMES])
def test_times_as_other_tools_write_them(tmp_path, times, expected):
    pq.write_table(pa.table({"u": ["a", "b"], "i": ["x", "y"], "t": times}), tmp_path / "e.parquet")
    found = read(tmp_path, "e.parquet", columns={"user": "u", "item": "i", "time": "t"})
    assert [(user, time) for user, _, _, time in events(found)] == list(zip("ba", expected, strict=True))


@pytest.mark.parametrize("times", [pa.array([1, 2], pa.time32("s")), pa.array([[1], [2]]), pa.array([b"1", b"\xff"])])
def test_times_that_are_none(tmp_path, times):
    pq.write_table(pa.table({"u": ["a", "b"], "i": ["x", "y"], "t": times}), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="expected seconds since 1970, or dates"):
        read(tmp_path, "e.parquet", columns={"user": "u", "item": "i", "time": "t"})


def test_several_events_of_a_pair(tmp_path):
    (tmp_path / "events.tsv").write_text("a\tx\t1\t30\na\tx\t5\t10\na\ty\t2\t20\n")
    columns = {"user": 1, "item": 2, "weight": 3, "time": 4}
    assert read(tmp_path, columns=columns).matrix().toarray().tolist() == [[6, 2]]
    assert read(tmp_path, columns=columns, duplicates="last").matrix().toarray().tolist() == [[1, 2]]


WRONG = [
    ("", {}, "without an event"),
    ("a\n", {}, "Got 1 field(s) on line 1"),
    ("a\tx\nb\n", {}, "Got 1 field(s) on line 2"),
    ("a\tx\n\ty\n", {}, "an empty user or item on line 2"),
    ("a\tx\t1\nb\ty\tnan\n", {"columns": {"user": 1, "item": 2, "weight": 3}}, "Got the weight 'nan' on line 2"),
    ("a\tx\t1\nb\ty\t-1\n", {"columns": {"user": 1, "item": 2, "weight": 3}}, "Got the weight '-1' on line 2"),
    ("a\tx\t1\nb\ty\tsoon\n", {"columns": {"user": 1, "item": 2, "time": 3}}, "soon"),
    ("a\tx\t1\nb\ty\tinf\n", {"columns": {"user": 1, "item": 2, "time": 3}}, "Got no time in row 2"),
    ("a\tx\n", {"columns": {"user": "who", "item": "what"}}, "expected 'who', 'what' among them"),
    ("a\tx\n", {"threshold": 4.0}, "of which no column is the weight"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "says"), WRONG, ids=[says for *_, says in WRONG])
def test_wrong_files(tmp_path, text, options, says):
    (tmp_path / "events.tsv").write_text(text)
    with pytest.raises(InputError) as error:
        read(tmp_path, **options)
    assert says in str(error.value)


def test_names_and_numbers_do_not_mix():
    with pytest.raises(ValueError, match="names of a header or numbers, not both"):
        InteractionsSpec(kind="interactions", path="x", columns={"user": "u", "item": 2})


def test_a_column_has_one_role():
    with pytest.raises(ValueError, match="a column of its own for each role"):
        InteractionsSpec(kind="interactions", path="x", columns={"user": "u", "item": "u"})


def test_selecting_keeps_the_names():
    data = Interactions(["a", "b"], ["x"], np.array([0, 1], np.int32), np.array([0, 0], np.int32))
    assert data.select(np.array([1])).matrix().toarray().tolist() == [[0], [1]]
    with pytest.raises(InputError, match="columns of"):
        Interactions(["a"], ["x"], np.array([0], np.int32), np.array([0, 0], np.int32))
