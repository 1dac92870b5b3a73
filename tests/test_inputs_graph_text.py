"""Comments, empty lines and runs of blanks: Arrow reads such a file too, and as it is read line by line."""

import gzip

import numpy as np
import pytest

from embedders.errors import InputError
from storage.inputs import graph_edges, graph_text
from storage.inputs.graph_edges import read_text
from storage.inputs.graph_text import Look

PAIR = {"source": 1, "target": 2}
BLANKS = ["a b", " a  b", "b\tc ", "é   z\t", "# no edge", "#", "", "  ", "\t", "a #b", "c d\r", "\r", "  \r"]
TABS = ["a\tb", "a b\tc ", "  \td", "# no\tedge", "", "\r", "x\t# y", '"q r"\ts', "u\tv\r"]


@pytest.fixture
def arrow_only(monkeypatch):
    def refuse(path, wanted, look):
        raise AssertionError("it was read line by line")

    monkeypatch.setattr(graph_edges, "_read_lines", refuse)


def lines_of(kinds, seed):
    rng = np.random.default_rng(seed)
    return [kinds[0], *rng.choice(kinds, rng.integers(12)).tolist()]


@pytest.mark.parametrize("kinds", [BLANKS, TABS], ids=["blanks", "tabs"])
@pytest.mark.parametrize("block", [5, 1 << 20])
def test_it_is_read_as_line_by_line(tmp_path, monkeypatch, kinds, block):
    monkeypatch.setattr(graph_text, "BLOCK", block)
    path = tmp_path / "e.txt"
    odd = 0
    for seed in range(80):
        begin, end = ("\ufeff" if seed % 3 else "") + ("# head\n\n" if seed % 2 else ""), "\n" * (seed % 5 > 0)
        path.write_bytes((begin + "\n".join(lines_of(kinds, seed)) + end).encode())
        look = Look.at(path)
        odd += not look.simple
        assert read_text(path, PAIR).to_pydict() == graph_edges._read_lines(path, PAIR, look).to_pydict(), (
            path.read_bytes()
        )
    assert odd > 30


@pytest.mark.parametrize(
    "content",
    [
        "# a\n# b\n\n1\t2\n3\t4\n",
        "1\t2\n# more\n3\t4\n\n",
        "# x\r\n\r\n1\t2\r\n3\t4\r\n",
        "\ufeff# x\n\n1  2\n3 \t4  \n",
        "  1 2\n   \n 3 4",
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_such_files_are_read_by_arrow(tmp_path, arrow_only, content, packed):
    path = tmp_path / ("e.txt.gz" if packed else "e.txt")
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    assert read_text(path, PAIR).to_pydict() == {"source": ["1", "3"], "target": ["2", "4"]}


def test_a_header_stands_after_comments(tmp_path, arrow_only):
    path = tmp_path / "e.txt"
    path.write_text("# x\n\nfrom  to   w\na  b  2\n# y\nb c 3\n")
    found = read_text(path, {"source": "from", "target": "to", "weight": "w"}).to_pydict()
    assert found == {"source": ["a", "b"], "target": ["b", "c"], "weight": [2.0, 3.0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# x\n\na b\n\n# y\nc\n", "Got 1 field.* on line 6 "),
        ("a b\n# y\n\nc d e\n", "Got 3 field.* on line 4 "),
        ("a\tb\n# y\n\tc\n", "empty source or target on line 3 "),
    ],
)
def test_bad_lines_are_named_by_their_number(tmp_path, content, message):
    (tmp_path / "e.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        read_text(tmp_path / "e.txt", PAIR)


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "e.txt").write_bytes(b"a b\n# y\n\n\xff c\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_text(tmp_path / "e.txt", PAIR)
    packed = gzip.compress(b"# a\n\n" + b"a b\n" * 9000)
    (tmp_path / "e.txt.gz").write_bytes(packed[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path / "e.txt.gz", PAIR)
