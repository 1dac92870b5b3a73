import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.errors import InputError
from embedders.labels import read_labels

OPENMOJI = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "multimodal_openmoji" / "emoji.tsv"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", 'id,x,label\n"a,1",,red\nb,,"blue\ngreen"\n'),
        ("L.CSV", '\ufeffid,x,label\r\n"a,1",,red\r\nb,,"blue\ngreen"\r\n\r\n'),
        ("l.tsv", 'label\tid\nred\ta,1\n"blue\ngreen"\tb\n'),
        ("l.txt", 'id\tlabel\na,1\tred\nb\t"blue\ngreen"\nc\t\nd\t  \nb\t"blue\ngreen"\n'),
    ],
)
def test_labels_are_read(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_labels(path, "id", "label") == {"a,1": "red", "b": "blue\ngreen"}


def test_ids_of_any_script(tmp_path):
    path = tmp_path / "l.tsv"
    path.write_text("id\tlabel\n👩‍🚀\té\n犬\t動物\n a\u2028b\tx\n", encoding="utf-8")
    assert read_labels(path, "id", "label") == {"👩‍🚀": "é", "犬": "動物", " a\u2028b": "x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,label\na,x\nb,y\na,z\n", "'a'.*'x' on line 2 and 'z' on line 4"),
        (b"name,colour\na,x\n", "'id'.*does not exist.*name, colour"),
        (b"id,id,label\na,b,x\n", "more than once"),
        (b"", "expected one of: none"),
        (b"id,label\n", "no labels"),
        (b"id,label\na,\n", "no labels"),
        (b"id,label\na\n", "Got 1 fields on line 2"),
        (b"id,label\na,b,c\n", "Got 3 fields on line 2"),
        (b"id,label\n,x\n", "empty id.*line 2"),
        (b'id,label\na,x\nb,"y\nc,z\n', "malformed"),
        (b"id,label\na,caf\xe9\n", "UTF-8"),
    ],
)
def test_bad_tables_are_refused(content, message, tmp_path):
    path = tmp_path / "l.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_labels(path, "id", "label")


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "none.tsv", "id", "label")


def test_real_labels():
    if not OPENMOJI.is_file():
        pytest.skip("the OpenMoji table is not beside the repository (../shared/data/multimodal_openmoji)")
    labels = read_labels(OPENMOJI, "id", "category")
    assert len(labels) == 1898
    assert Counter(labels.values()).most_common(1) == [("People & Body", 385)]


def test_gzip(tmp_path):
    path = tmp_path / "l.csv.gz"
    path.write_bytes(gzip.compress(b"id,label\na,x\n"))
    assert read_labels(path, "id", "label") == {"a": "x"}
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(path, "id", "label")


ROWS = [
    {"id": "a:1", "label": "red"},
    {"id": 7, "label": "blue"},
    {"id": "c", "label": None},
    {"id": "a:1", "label": "red"},
]


def write_json(path, rows=ROWS):
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["l.jsonl", "L.JSONL.gz"])
def test_labels_in_json_lines(name, tmp_path):
    assert read_labels(write_json(tmp_path / name), "id", "label") == {"a:1": "red", "7": "blue"}


def test_labels_in_parquet(tmp_path):
    table = pa.table({"label": ["red", None, "blue"], "id": ["a:1", "b", "c"], "more": [1, 2, 3]})
    pq.write_table(table, tmp_path / "l.parquet")
    assert read_labels(tmp_path / "l.parquet", "id", "label") == {"a:1": "red", "c": "blue"}
    with pytest.raises(InputError, match=r"'colour', which does not exist.*label, id, more"):
        read_labels(tmp_path / "l.parquet", "id", "colour")
    (tmp_path / "l.parquet").write_bytes(b"PAR1")
    for path in ("l.parquet", "none.parquet"):
        with pytest.raises(InputError, match="expected a Parquet file"):
            read_labels(tmp_path / path, "id", "label")


def test_a_number_that_lacks_is_no_label(tmp_path):
    pq.write_table(pa.table({"id": [1, 2, 3], "label": [1.0, float("nan"), 2.0]}), tmp_path / "l.parquet")
    (tmp_path / "l.jsonl").write_text('{"id": 1, "label": 1.0}\n{"id": 2, "label": NaN}\n{"id": 3, "label": 2.0}\n')
    for path in ("l.parquet", "l.jsonl"):
        assert read_labels(tmp_path / path, "id", "label") == {"1": "1.0", "3": "2.0"}


def test_bad_json_lines_of_labels(tmp_path):
    path = write_json(tmp_path / "l.jsonl")
    with pytest.raises(InputError, match=r"'colour', which does not exist.*id, label"):
        read_labels(path, "id", "colour")
    for line, message in [("{", "line 2 .* no JSON"), ("[1]", "'\\[1\\]' on line 2")]:
        path.write_text('{"id": "a", "label": "x"}\n' + line)
        with pytest.raises(InputError, match=message):
            read_labels(path, "id", "label")
    write_json(path, [{"id": "a", "label": "x"}, {"id": "a", "label": "y"}])
    with pytest.raises(InputError, match="'x' on line 1 and 'y' on line 2"):
        read_labels(path, "id", "label")
