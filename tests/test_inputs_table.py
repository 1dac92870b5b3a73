"""Datasets of rows: categories, numbers, a target."""

import datetime as dt
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.errors import InputError
from embedders.tables import Table
from storage.digests import DigestCache
from storage.inputs.table import TableSpec
from storage.inputs.table_columns import numbers


def read(folder, path="t.csv", **options) -> Table:
    spec = TableSpec(kind="table", path=path, **options)
    return spec.read(spec.scan(folder, DigestCache(folder / "cache")), Table, cache=folder / "cache")


def column(data, name):
    """The values of a column of categories, None where one is missing."""
    at = data.columns.index(name)
    return [data.values[at][code] if code >= 0 else None for code in data.codes[:, at]]


def rejects(data):
    return [(row.id, row.location, row.code) for row in data.rejected]


def test_rows_as_they_stand(tmp_path):
    (tmp_path / "t.csv").write_text(
        'shop,city,zip,size,sales,rest\ns1,"Zürich, CH",007,1.5,10,x\n\ns2,東京,7,,-2e1,x\n"s 3",,007,3,,x\n'
    )
    data = read(tmp_path, id="shop", categories=["city", "zip"], numbers=["size"], target="sales")
    assert data.ids == ["s1", "s2", "s 3"]
    assert column(data, "city") == ["Zürich, CH", "東京", None] and column(data, "zip") == ["007", "7", "007"]
    np.testing.assert_array_equal(data.numbers, np.array([[1.5], [np.nan], [3]], np.float32))
    np.testing.assert_array_equal(data.target, np.array([10, -20, np.nan], np.float32))
    assert data.classes is None and data.answered.tolist() == [True, True, False] and not data.rejected


@pytest.mark.parametrize("form", ["tsv", "csv.gz", "parquet"])
def test_forms_of_files(tmp_path, form):
    rows = {"id": ["a", "b"], "kind": ["x y", "01"]}
    path = tmp_path / f"t.{form}"
    if form == "parquet":
        pq.write_table(pa.table(rows), path)
    else:
        separator = "\t" if form == "tsv" else ","
        text = "\ufeff" + "\n".join(separator.join(row) for row in [rows, *zip(*rows.values(), strict=True)]) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if form.endswith("gz") else text.encode())
    data = read(tmp_path, path.name, id="id", categories="kind")
    assert data.ids == ["a", "b"] and column(data, "kind") == ["x y", "01"]


def test_types_of_parquet(tmp_path):
    table = pa.table(
        {
            "flag": [True, False, None],
            "day": [dt.date(2024, 5, 1), None, dt.date(1970, 1, 2)],
            "code": pa.array([12345.0, float("nan"), 7.5]),
            "word": pa.array(["a", "", "b"]).dictionary_encode(),
            "big": pa.array([2**60, 1, 2]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    data = read(tmp_path, "t.parquet", categories=["flag", "day", "code", "word", "big"])
    assert [column(data, name) for name in data.columns] == [
        ["true", "false", None], ["2024-05-01", None, "1970-01-02"], ["12345", None, "7.5"], ["a", None, "b"],
        [str(2**60), "1", "2"],
    ]  # fmt: skip
    data = read(tmp_path, "t.parquet", categories=["word"], numbers=["flag", "day", "code"], target="big")
    expected = [[1, 19844, 12345], [0, np.nan, np.nan], [np.nan, 1, 7.5]]
    np.testing.assert_array_equal(data.numbers, np.array(expected, np.float32))
    assert data.classes is None and data.target[0] == 2.0**60
    assert read(tmp_path, "t.parquet", categories=["word"], target="flag").classes == ["false", "true"]


def test_numbers_in_text(tmp_path):
    (tmp_path / "t.csv").write_text("c,n\nx, 1 \nx,true\nx,1970-01-03T12:00\nx,NA\nx,n/a\nx,NaN\n")
    data = read(tmp_path, categories="c", numbers="n")
    np.testing.assert_array_equal(data.numbers[:, 0], np.array([1, 1, 2.5, np.nan, np.nan, np.nan], np.float32))


def test_bad_rows_are_rejected_with_a_reason(tmp_path):
    (tmp_path / "t.csv").write_text(
        'id,c,n\na,"two\nlines",1\n,x,1\nc,x,soon\nd,x,inf\ne,x,1e39\nf,x\ng,x,1,2\nh,x,1_0\ni,x,2\n'
    )
    data = read(tmp_path, id="id", categories="c", numbers="n")
    assert data.ids == ["a", "i"] and column(data, "c") == ["two\nlines", "x"]
    assert rejects(data) == [
        ("t.csv:6", f"{tmp_path}/t.csv:8", "wrong_fields"), ("t.csv:7", f"{tmp_path}/t.csv:9", "wrong_fields"),
        ("t.csv:2", "t.csv:2", "missing_id"), ("c", "t.csv:3", "bad_number"), ("d", "t.csv:4", "bad_number"),
        ("e", "t.csv:5", "bad_number"), ("h", "t.csv:8", "bad_number"),
    ]  # fmt: skip
    assert "'soon' in 'n'" in data.rejected[3].message
    # without ids the numbers of rows are those of the file, also behind rows that are no rows
    assert read(tmp_path, categories="c").ids == ["t.csv:1", "t.csv:2", "t.csv:3", "t.csv:4", "t.csv:5", "t.csv:8", "t.csv:9"]  # fmt: skip


def test_several_files(tmp_path):
    for name, text in {"a": "c,n\nx,1\n", "b": "n,c\n2,y\n3,x\n"}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    pq.write_table(pa.table({"c": ["z"], "n": [4]}), tmp_path / "c.parquet")
    data = read(tmp_path, "*", categories="c", numbers="n")
    assert data.ids == ["a.csv:1", "b.csv:1", "b.csv:2", "c.parquet:1"]
    assert column(data, "c") == ["x", "y", "x", "z"] and data.numbers[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("cells", "asked", "classes"),
    [
        (["1", "2", "1"], None, None),
        (["1", "2", "1"], "classes", ["1", "2"]),
        (["b", "a", "b"], None, ["a", "b"]),
        (["1", "b", "c"], None, ["1", "b", "c"]),
        (["true", "false", "true"], None, ["false", "true"]),
    ],
)
def test_what_a_target_is(tmp_path, cells, asked, classes):
    (tmp_path / "t.csv").write_text("c,y\n" + "".join(f"x,{cell}\n" for cell in cells) + "x,\n")
    data = read(tmp_path, categories="c", target="y", target_type=asked)
    assert data.classes == classes and data.answered.tolist() == [True] * 3 + [False]
    if classes:
        assert [classes[code] for code in data.target[:3]] == cells


def test_a_target_of_mostly_numbers_is_asked_about(tmp_path):
    (tmp_path / "t.csv").write_text("c,y\nx,1\nx,2\nx,3\nx,oops\n")
    with pytest.raises(InputError, match=r"1 of 4 values are no numbers, the first 'oops' \(line 5 of .*target_type"):
        read(tmp_path, categories="c", target="y")
    data = read(tmp_path, categories="c", target="y", target_type="numbers")
    assert len(data) == 3 and rejects(data) == [("t.csv:4", "t.csv:4", "bad_number")]
    assert read(tmp_path, categories="c", target="y", target_type="classes").classes == ["1", "2", "3", "oops"]


WRONG = [
    ("", {}, "is not there"),
    ("id,c\n", {}, "without a row"),
    ("id,c\n,x\n", {}, "The first of 1 that were rejected: nothing in 'id'"),
    ("id,d\na,x\n", {}, "the column 'c', which is not there"),
    ("id,d\na,x\n", {}, "expected one of id, d"),
    ("id,c,c\na,x,y\n", {}, "'c', which is there more than once"),
    ("id,c\na,x\nb,y\na,z\n", {}, "Got the id 'a' twice: line 2 of "),
    ("id,c\na,x\nb,y\na,z\n", {}, "and line 4 of "),
    ('id,c\na,x\nb,"x\nc,y\n', {}, "a quote in the row that begins on line 3"),
    ('id,c\na,x"y\nb,"x\nc,y\nd,z\n', {}, "a quote in the row that begins on line 3"),  # as many as if all were closed
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "says"), WRONG, ids=[says for *_, says in WRONG])
def test_wrong_files(tmp_path, text, options, says):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read(tmp_path, id="id", categories="c", **options)
    assert says in str(error.value)


def test_long_rows(tmp_path):
    """Longer than what Arrow looks at together, and than what Python takes for a field."""
    (tmp_path / "t.csv").write_text(f'id,c,rest\na,x,{"-" * 3_000_000}\nb,y\nc,z,"-"\n')
    data = read(tmp_path, id="id", categories="c")
    assert data.ids == ["a", "c"] and rejects(data) == [("t.csv:2", f"{tmp_path / 't.csv'}:3", "wrong_fields")]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_quotes_that_close(tmp_path, name):
    text = 'id,c\na,"x\ny"\n"b","""z"""\nc,5"\n'
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert column(read(tmp_path, name, id="id", categories="c"), "c") == ["x\ny", '"z"', '5"']


def test_times_in_utc(tmp_path):
    (tmp_path / "t.csv").write_text("c,n\nx,1970-01-02T12:00:00Z\nx,1970-01-02T14:00:00+02:00\n")
    assert read(tmp_path, categories="c", numbers="n").numbers.ravel().tolist() == [1.5, 1.5]


def test_times_of_nanoseconds(tmp_path):
    times = pa.array([86_400_000_000_123, None], pa.timestamp("ns"))
    pq.write_table(pa.table({"c": ["x", "y"], "n": times}), tmp_path / "t.parquet")
    found = read(tmp_path, "t.parquet", categories="c", numbers="n").numbers.ravel()
    assert found[0] == 1 and np.isnan(found[1])


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "t.csv").write_bytes("id,c\na,Zürich\n".encode("latin-1"))
    with pytest.raises(InputError, match="expected UTF-8 text"):
        read(tmp_path, id="id", categories="c")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="expected a whole Parquet file"):
        read(tmp_path, "t.parquet", categories="c")
    pq.write_table(pa.table({"c": [[1], [2]], "b": [b"\xff", b"x"]}), tmp_path / "t.parquet")
    for name in ("c", "b"):
        with pytest.raises(InputError, match=f"Got the column '{name}' of "):
            read(tmp_path, "t.parquet", categories=name)
        with pytest.raises(InputError, match=f"Got the numbers '{name}' of "):
            numbers(name, pq.read_table(tmp_path / "t.parquet")[name])


def test_a_column_has_one_role():
    with pytest.raises(ValueError, match="c is there twice"):
        TableSpec(kind="table", path="x", categories=["c"], target="c")
    with pytest.raises(ValueError, match="no target_type without a target"):
        TableSpec(kind="table", path="x", categories=["c"], target_type="classes")
    with pytest.raises(ValueError, match="at least 1 item"):
        TableSpec(kind="table", path="x", categories=[])


def test_digests_are_of_contents_alone(tmp_path):
    (tmp_path / "a.csv").write_text("id,c,d,n,y\n1,x,y,0,1\n2,y,x,-0,2\n3,x,,0,3\n4,,x,0,4\n5,x,y,,5\n")
    (tmp_path / "b.csv").write_text("id,c,d,n,y\n9,new,x,0,7\n4,,x,0,4\n2,x,y,0,2\n5,x,y,nan,5\n")
    asked = {"id": "id", "categories": ["c", "d"], "numbers": "n", "target": "y"}
    first, second = read(tmp_path, "a.csv", **asked), read(tmp_path, "b.csv", **asked)
    assert len(set(first.digests)) == 5 and all(len(digest) == 32 for digest in first.digests)
    assert second.digests[1] == first.digests[3]
    assert second.digests[2] == first.digests[0] and second.digests[3] == first.digests[4]
    assert first.select([4, 0]).digests == [first.digests[4], first.digests[0]]


def test_shapes_are_checked():
    with pytest.raises(InputError, match="Got codes and numbers of shapes"):
        Table(["a"], ("c",), (["x"],), np.zeros((2, 1), np.int32))
    with pytest.raises(InputError, match="Got 2 targets of 1 rows"):
        Table(["a"], ("c",), (["x"],), np.zeros((1, 1), np.int32), target=np.zeros(2, np.float32))
