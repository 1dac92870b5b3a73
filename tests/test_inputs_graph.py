"""Edge lists to a graph: formats, ids, weights, and errors that name the line."""

import gzip
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.errors import InputError
from storage.digests import DigestCache
from storage.inputs.specs import GraphSpec


def put(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    return path.name


def read(base, edges, **options):
    spec = GraphSpec(kind="graph", edges=edges, **options)
    cache = base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), spec.gives[0], cache=cache)


def edges(graph):
    """{(source, target): weight} of every stored entry."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    weights = np.ones(len(rows)) if graph.weights is None else graph.weights
    names = list(graph.ids)
    return {(names[a], names[b]): float(w) for a, b, w in zip(rows, graph.indices, weights, strict=True)}


def both(*pairs, weight=1.0):
    return {edge: weight for a, b in pairs for edge in ((a, b), (b, a))}


HEADER = {"source": "from", "target": "to"}
WEIGHTED = {**HEADER, "weight": "w"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.tsv", "a\tb\nb\tc\n"),
        ("e.csv", "a,b\nb,c\n"),
        ("e.txt", "a\tb\nb\tc\n"),
        ("e.txt", "a,b\nb,c\n"),
        ("e.txt", "a b\nb   c\n"),
        ("e.txt", "  a \t b\nb c  \n".replace("\t", " ")),
        ("e.edges", "# comment\na b\n# another\n\nb c\n"),
        ("e.txt", "# comment\na\tb\nb\tc\n"),
        ("e.txt", "a\tb\n# in the middle\nb\tc\n#x\ty\n"),
        ("e.txt", "a,b\n#x,y\nb,c\n"),
        ("e.tsv", "\n\na\tb\n\nb\tc\n\n"),
        ("e.tsv", "a\tb\r\nb\tc\r\n"),
        ("e.tsv", b"\xef\xbb\xbfa\tb\nb\tc"),
        ("e.txt", b"\xef\xbb\xbf# comment\r\na b\r\nb c\r\n"),
        ("e.tsv", "a\tb\tmore\nb\tc\tmore\n"),
        ("e.tsv.gz", "a\tb\nb\tc\n"),
        ("e.csv.gz", "a,b\nb,c\n"),
        ("e.txt.gz", "#\na b\nb c\n"),
        ("E.TSV.GZ", "a\tb\nb\tc\n"),
        ("e.csv.tsv", "a\tb\nb\tc\n"),
    ],
)
def test_formats(tmp_path, name, content):
    graph = read(tmp_path, put(tmp_path / name, content))
    assert edges(graph) == both(("a", "b"), ("b", "c"))
    assert list(graph.ids) == ["a", "b", "c"]
    assert graph.weights is None and not graph.directed
    assert (graph.indptr.dtype, graph.indices.dtype) == (np.int64, np.int32)


@pytest.mark.parametrize("name", ["e.tsv", "e.tsv.gz", "e.txt"])
def test_a_header_by_its_columns(tmp_path, name):
    put(tmp_path / name, "note\tto\tw\tfrom\nx\tb\t2\ta\ny\tc\t0.5\tb\n")
    graph = read(tmp_path, name, columns=WEIGHTED)
    assert edges(graph) == {("a", "b"): 2, ("b", "a"): 2, ("b", "c"): 0.5, ("c", "b"): 0.5}
    assert graph.weights.dtype == np.float32
    assert read(tmp_path, name, columns=HEADER).weights is None


def test_a_header_in_a_file_with_comments_and_blanks(tmp_path):
    put(tmp_path / "e.txt", "# made today\nfrom to   w\na b 2\n\n# half\nb  c 0.5\n")
    graph = read(tmp_path, "e.txt", columns=WEIGHTED)
    assert edges(graph) == {("a", "b"): 2, ("b", "a"): 2, ("b", "c"): 0.5, ("c", "b"): 0.5}


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("e.csv", '"a, b",c\n"say ""hi""",c\n', ["a, b", 'say "hi"', "c"]),
        ("e.tsv", '"a\tb"\tc\n', ["a\tb", "c"]),
        ("e.tsv", 'two words\t and more \n5" disk\tx\n', ["two words", '5" disk', " and more ", "x"]),
        ("e.tsv", "узел\t節點\n😀\tcafe\u0301\n", ["узел", "😀", "節點", "cafe\u0301"]),
        ("e.tsv", "NA\tnull\nnan\tNone\n", ["NA", "nan", "null", "None"]),
        ("e.tsv", "01\t1\n1.0\t1\n", ["01", "1.0", "1"]),
        ("e.tsv", "true\tfalse\n", ["true", "false"]),
        ("e.tsv", "#a\tb\n", ["#a", "b"]),
        ("e.txt", "é z\n", ["é", "z"]),
        ("e.txt", "a b\nc,x d\n", ["a", "c,x", "b", "d"]),
    ],
    ids=["quotes", "tab", "blanks", "unicode", "null words", "numbers", "truth", "hash", "txt", "first line parts"],
)
def test_ids_are_taken_as_they_stand(tmp_path, name, content, ids):
    assert list(read(tmp_path, put(tmp_path / name, content)).ids) == ids


def test_ids_in_order_of_first_appearance_sources_before_targets(tmp_path):
    put(tmp_path / "e1.tsv", "z\ta\nb\tz\n")
    put(tmp_path / "e2.tsv", "c\td\nz\ty\n")
    assert list(read(tmp_path, "e*.tsv").ids) == ["z", "b", "c", "a", "d", "y"]


def test_files_of_several_formats_are_one_graph(tmp_path):
    put(tmp_path / "a.tsv", "a\tb\n")
    put(tmp_path / "b.csv", "b,c\n")
    put(tmp_path / "c.txt.gz", "# more\nc a\n")
    put(tmp_path / "d.txt", "c d")
    put(tmp_path / "e.tsv", "")
    graph = read(tmp_path, "*")
    assert edges(graph) == both(("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\nc\n", r"1 field\(s\) on line 2"),
        ("a\tb\n\n\nc\n", r"1 field\(s\) on line 4"),
        ("a\tb\nc\td\te\n", r"3 field\(s\) on line 2 .*; expected 2"),
        ("a\n", r"1 field\(s\) on line 1 .*; expected 2"),
        ("a\tb\n\t\n", "empty source or target on line 2"),
        ("a\tb\n   \n", r"1 field\(s\) on line 2"),
        ("\na\tb\n\n\tc\n", "empty source or target on line 4"),
        ("a\tb\nc\t\n", "empty source or target on line 2"),
        ('a\tb\n"c\td\n', r"1 field\(s\) on line 2"),
        ("a\tb\nc\rd\te\n", "line 2 .*cannot be cut"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_malformed_line_by_its_number(tmp_path, content, message, suffix):
    name = put(tmp_path / f"e.tsv{suffix}", content)
    with pytest.raises(InputError, match=message) as failure:
        read(tmp_path, name)
    assert name in str(failure.value)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "NaN", "inf", "1e300", "1e-60", "", "much", "1,5"])
@pytest.mark.parametrize(("name", "separator"), [("e.tsv", "\t"), ("e.tsv.gz", "\t"), ("e.txt", "\t")])
def test_a_weight_that_is_none(tmp_path, weight, name, separator):
    rows = [("from", "to", "w"), ("a", "b", "2"), (), ("b", "c", weight)]
    put(tmp_path / name, "\n".join(separator.join(row) for row in rows))
    with pytest.raises(InputError, match=rf"weight '{weight}' on line 4 .*positive number"):
        read(tmp_path, name, columns=WEIGHTED)


@pytest.mark.parametrize("weight", ["0.5", " 0.5", "5e-1", ".5", "+0.5"])
def test_ways_to_write_a_weight(tmp_path, weight):
    put(tmp_path / "e.tsv", f"from\tto\tw\na\tb\t{weight}\n")
    assert read(tmp_path, "e.tsv", columns=WEIGHTED).weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("content", ["", "\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["e.tsv", "e.csv", "e.txt", "e.tsv.gz"])
def test_an_empty_file(tmp_path, name, content):
    with pytest.raises(InputError, match=rf"{name}.* without an edge"):
        read(tmp_path, put(tmp_path / name, content))


def test_only_a_header_or_only_comments(tmp_path):
    put(tmp_path / "e.tsv", "from\tto\n")
    put(tmp_path / "c.txt", "# from to\n")
    with pytest.raises(InputError, match="without an edge"):
        read(tmp_path, "e.tsv", columns=HEADER)
    with pytest.raises(InputError, match="without an edge"):
        read(tmp_path, "c.txt")


@pytest.mark.parametrize("name", ["e.tsv", "e.tsv.gz", "e.txt"])
def test_a_missing_column_lists_what_there_is(tmp_path, name):
    put(tmp_path / name, "from\tgoal\tw\na\tb\t1\n")
    with pytest.raises(InputError, match=r"columns from, goal, w .*expected 'to', 'much' among them"):
        read(tmp_path, name, columns={**HEADER, "weight": "much"})


@pytest.mark.parametrize("name", ["e.tsv", "e.txt"])
def test_text_that_is_not_utf8(tmp_path, name):
    put(tmp_path / name, b"a\tb\n\xff\tc\n")
    with pytest.raises(InputError, match="expected UTF-8 text"):
        read(tmp_path, name)


@pytest.mark.parametrize("name", ["e.tsv.gz", "e.txt.gz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "plain"])
def test_a_damaged_gz(tmp_path, name, damage):
    whole = bytearray(gzip.compress("\n".join(f"{i}\t{i * i}" for i in range(5000)).encode()))
    if damage == "truncated":
        whole = whole[:-200]
    elif damage == "flipped":
        whole[-6] ^= 0xFF  # in the checksum, so that every line is good and only the end is not
    else:
        whole = b"a\tb\n"
    (tmp_path / name).write_bytes(bytes(whole))
    with pytest.raises(InputError, match=f"{name}.*cannot be read"):
        read(tmp_path, name)


def test_self_loops_stand_once(tmp_path):
    put(tmp_path / "e.tsv", "from\tto\tw\na\ta\t3\na\tb\t2\n")
    assert edges(read(tmp_path, "e.tsv", columns=WEIGHTED)) == {("a", "a"): 3, ("a", "b"): 2, ("b", "a"): 2}


def test_repeated_edges_are_one_and_their_weights_are_summed(tmp_path):
    put(tmp_path / "e.tsv", "from\tto\tw\na\tb\t1\nb\ta\t2\na\tb\t4\n")
    assert edges(read(tmp_path, "e.tsv", columns=WEIGHTED)) == both(("a", "b"), weight=7)
    assert edges(read(tmp_path, "e.tsv", columns=WEIGHTED, directed=True)) == {("a", "b"): 5, ("b", "a"): 2}
    graph = read(tmp_path, "e.tsv", columns=HEADER)
    assert graph.weights is None and edges(graph) == both(("a", "b"))


def test_directed(tmp_path):
    put(tmp_path / "e.tsv", "a\tb\nb\tc\n")
    graph = read(tmp_path, "e.tsv", directed=True)
    assert graph.directed and edges(graph) == {("a", "b"): 1, ("b", "c"): 1}


def test_a_large_file_of_many_blocks(tmp_path):
    """Arrow reads in blocks of a megabyte; ids must be one dictionary over all of them."""
    rng = np.random.default_rng(0)
    pairs = [(f"node number {a}", f"node number {b}") for a, b in rng.integers(5000, size=(100_000, 2))]
    put(tmp_path / "e.tsv", "\n".join("\t".join(pair) for pair in pairs))
    assert (tmp_path / "e.tsv").stat().st_size > 3 << 20
    graph = read(tmp_path, "e.tsv", directed=True)
    assert len(set(graph.ids)) == len(graph.ids)
    assert set(edges(graph)) == set(pairs)
    assert list(graph.ids) == list(dict.fromkeys([*(a for a, _ in pairs), *(b for _, b in pairs)]))


name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\t\r\n"\x00'), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(name, name, st.integers(1, 100)), min_size=1, max_size=12))
def test_any_ids_come_back(tmp_path, rows):
    text = "from\tto\tw\n" + "".join(f"{a}\t{b}\t{w}\n" for a, b, w in rows)
    (tmp_path / "e.tsv").write_text(text, encoding="utf-8", newline="\n")
    expected = {}
    for a, b, weight in rows:
        for edge in {(a, b), (b, a)}:
            expected[edge] = expected.get(edge, 0) + weight
    assert edges(read(tmp_path, "e.tsv", columns=WEIGHTED)) == expected


def test_the_digest_follows_content_name_and_options(tmp_path):
    cache = DigestCache(tmp_path / "store" / "_cache")

    def digest(edges="e.tsv", **options):
        return GraphSpec(kind="graph", edges=edges, **options).scan(tmp_path, cache).digest

    put(tmp_path / "e.tsv", "a\tb\n")
    first = digest()
    assert digest() == digest("./e.tsv") == digest("*.tsv") == first
    os.utime(tmp_path / "e.tsv", ns=(1, 1))
    assert digest() == first
    assert len({first, digest(directed=True), digest(columns={"source": "a", "target": "b"})}) == 3
    put(tmp_path / "e.tsv", "a\tc\n")
    changed = digest()
    assert changed != first
    (tmp_path / "e.tsv").rename(tmp_path / "f.tsv")
    assert digest("f.tsv") != changed


def test_only_blanks_and_tabs_part_fields(tmp_path):
    """A no-break space belongs to an id."""
    put(tmp_path / "e.txt", "a\u00a0x  b\nb \t c\n")
    assert sorted(read(tmp_path, "e.txt").ids) == ["a\u00a0x", "b", "c"]
