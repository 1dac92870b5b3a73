"""Graphs in Parquet, graph formats and matrices: one graph in every format, and what is refused."""

import gzip
import json
from itertools import pairwise

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedders.data import Graph, HeldOut
from embedders.errors import InputError
from storage.digests import DigestCache
from storage.inputs.specs import GraphSpec

HEADER = {"source": "from", "target": "to"}
WEIGHTED = {**HEADER, "weight": "w"}
OF_EDGES = {"weight": "w"}
NAMES = ["a", "two words", "узел", 'say "hi"', "5", "0"]


def read(base, edges, kind=Graph, **options):
    spec = GraphSpec.model_validate({"kind": "graph", "edges": edges, **options})
    cache = base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), kind, cache=cache)


def edges(graph, names=None):
    """{(source, target): weight} of every stored entry; with types {(source, target, type): weight}."""
    rows = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    weights = np.ones(len(rows)) if graph.weights is None else graph.weights
    names = names or list(graph.ids)
    keys = [(names[a], names[b]) for a, b in zip(rows, graph.indices, strict=True)]
    if graph.edge_types is not None:
        keys = [(*key, graph.edge_type_names[t]) for key, t in zip(keys, graph.edge_types, strict=True)]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, map(float, weights), strict=True))


def of_networkx(names, rows, directed):
    graph = (nx.MultiDiGraph if directed else nx.MultiGraph)()
    graph.add_nodes_from(names)
    for a, b, weight in rows:
        graph.add_edge(names[a], names[b], w=float(weight))
    return graph


def write(path, names, rows, directed):
    """Write a graph in the format of the file's name; give the options that read it."""
    graph = of_networkx(names, rows, directed)
    columns = {"columns": OF_EDGES}
    match path.suffix:
        case ".parquet":
            table = {
                "from": [names[a] for a, _, _ in rows],
                "to": [names[b] for _, b, _ in rows],
                "w": [float(w) for *_, w in rows],
            }
            pq.write_table(
                pa.table(table, schema=pa.schema([("from", pa.string()), ("to", pa.string()), ("w", pa.float64())])),
                path,
            )
            columns = {"columns": WEIGHTED}
        case ".graphml":
            nx.write_graphml(graph, path)
        case ".gexf":
            nx.write_gexf(graph, path)
        case ".gml":
            nx.write_gml(graph, path)
        case ".json":
            path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
        case ".mtx" | ".npz" | ".mat":
            matrix = np.zeros((len(names), len(names)))
            for a, b, weight in rows:
                matrix[a, b] += weight
                if not directed and a != b:
                    matrix[b, a] += weight
            save = {
                ".mtx": lambda: scipy.io.mmwrite(path, sp.coo_array(matrix)),
                ".npz": lambda: sp.save_npz(path, sp.csr_array(matrix)),
                ".mat": lambda: scipy.io.savemat(path, {"net": sp.csc_array(matrix)}),
            }
            save[path.suffix]()
            columns = {"variable": "net"} if path.suffix == ".mat" else {}
    return columns


FORMATS = ["parquet", "graphml", "gexf", "gml", "json", "mtx", "npz", "mat"]
MATRICES = ("mtx", "npz", "mat")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 100)), min_size=1, max_size=10),
    st.booleans(),
)
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_graph_in_every_format(tmp_path, format, rows, directed):
    path = tmp_path / f"g.{format}"
    options = write(path, NAMES, rows, directed)
    graph = read(tmp_path, path.name, directed=directed, **options)
    expected = {}
    for a, b, weight in rows:
        for x, y in {(a, b)} if directed else {(a, b), (b, a)}:
            key = NAMES[x], NAMES[y]
            expected[key] = expected.get(key, 0) + weight
    assert edges(graph, NAMES if format in MATRICES else None) == expected
    if format in MATRICES:
        assert list(graph.ids) == [str(i) for i in range(6)]
    elif format == "parquet":  # first appearance, sources before targets
        assert list(graph.ids) == list(dict.fromkeys([NAMES[a] for a, _, _ in rows] + [NAMES[b] for _, b, _ in rows]))
    else:
        assert list(graph.ids) == NAMES
    assert graph.directed == directed
    rows_of = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    assert np.array_equal(np.lexsort((graph.indices, rows_of)), np.arange(len(rows_of)))


def test_pajek_and_adjacency_lists(tmp_path):
    graph = nx.MultiGraph([("a b", "узел"), ("узел", "c")])
    nx.write_pajek(graph, tmp_path / "g.net")
    (tmp_path / "h.adjlist").write_text("# made today\na b c\nb c\nd\n")
    both = {("a b", "узел"), ("узел", "a b"), ("узел", "c"), ("c", "узел")}
    assert set(edges(read(tmp_path, "g.net"))) == both
    found = read(tmp_path, "h.adjlist", directed=True)
    assert set(edges(found)) == {("a", "b"), ("a", "c"), ("b", "c")} and set(found.ids) == {"a", "b", "c", "d"}
    assert len(edges(read(tmp_path, "h.adjlist"))) == 6


def test_pajek_weights(tmp_path):
    (tmp_path / "g.paj").write_text('*vertices 3\n1 "x"\n2 "y"\n3 "z"\n*arcs\n1 2 2.5\n2 3 1\n')
    found = read(tmp_path, "g.paj", directed=True, columns={"weight": "weight"})
    assert edges(found) == {("x", "y"): 2.5, ("y", "z"): 1}


def test_node_link_json_as_d3_writes_it(tmp_path):
    content = {"nodes": [{"id": 1}, {"id": 2, "group": 3}], "links": [{"source": 1, "target": 2, "value": 4}]}
    (tmp_path / "g.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    assert edges(read(tmp_path, "g.json.gz", columns={"weight": "value"})) == {("1", "2"): 4, ("2", "1"): 4}


@pytest.mark.parametrize("suffix", ["graphml", "gexf", "gml", "json", "net"])
def test_a_file_that_says_directed_needs_the_users_word(tmp_path, suffix):
    graph = nx.DiGraph([("a", "b"), ("c", "b")])
    writers = {"graphml": nx.write_graphml, "gexf": nx.write_gexf, "gml": nx.write_gml, "net": nx.write_pajek}
    path = tmp_path / f"g.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(nx.node_link_data(graph, edges="links")))
    else:
        writers[suffix](graph, path)
    with pytest.raises(InputError, match=rf"g\.{suffix}.*one way.*`directed: true`"):
        read(tmp_path, path.name)
    assert set(edges(read(tmp_path, path.name, directed=True))) == {("a", "b"), ("c", "b")}
    assert len(edges(read(tmp_path, path.name, directed=False))) == 4


def test_gml_without_labels_in_utf8_and_by_another_attribute(tmp_path):
    (tmp_path / "g.gml").write_text(
        'graph [ node [ id 7 name "é" ] node [ id 9 name "z" ] edge [ source 7 target 9 ] ]', encoding="utf-8"
    )
    assert list(read(tmp_path, "g.gml").ids) == ["7", "9"]
    assert list(read(tmp_path, "g.gml", nodes={"id": "name"}).ids) == ["é", "z"]


def test_attributes_of_nodes_and_edges(tmp_path):
    graph = nx.MultiDiGraph()
    graph.add_node("p", kind="paper", year=2001.0, n=3.0)
    graph.add_node("q", kind="author", year=2002.0, n=4.5)
    graph.add_edge("q", "p", how="writes", w=2.0)
    graph.add_edge("q", "p", how="reads", w=1.0)
    graph.add_edge("q", "p", how="reads", w=5.0)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    options = {
        "directed": True,
        "columns": {"weight": "w", "type": "how"},
        "nodes": {"type": "kind", "features": ["n", "year"]},
    }
    found = read(tmp_path, "g.graphml", **options)
    assert edges(found) == {("q", "p", "writes"): 2, ("q", "p", "reads"): 6}
    assert [found.type_names[t] for t in found.types] == ["paper", "author"]
    assert found.features.dtype == np.float32 and found.features.tolist() == [[3, 2001], [4.5, 2002]]
    assert edges(read(tmp_path, "g.graphml", **options, duplicates="drop"))["q", "p", "reads"] == 1
    with pytest.raises(InputError, match=r"edge 1 \('q' to 'p'\).*without 'much'.*how, w"):
        read(tmp_path, "g.graphml", directed=True, columns={"weight": "much"})
    with pytest.raises(InputError, match=r"attribute .colour., which no node.*kind, n, year"):
        read(tmp_path, "g.graphml", directed=True, nodes={"type": "colour"})


@pytest.mark.parametrize("weight", [-1.0, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("format", FORMATS)
def test_a_weight_that_is_none_by_its_place(tmp_path, format, weight):
    path = tmp_path / f"g.{format}"
    if format in MATRICES and weight == 0:
        return  # a zero in a matrix is no edge, as the next test says
    options = write(path, ["a", "b"], [(0, 0, 2.0), (0, 1, weight)], True)
    place = "row 1, column 2" if format in MATRICES else "row 2" if format == "parquet" else r"edge 2 \('a' to 'b'\)"
    with pytest.raises(InputError, match=rf"weight .* (on|in) {place} of .*g\.{format}.*positive"):
        read(tmp_path, path.name, directed=True, **options)


def test_a_zero_in_a_matrix_is_no_edge(tmp_path):
    matrix = sp.coo_array(([1.0, 0.0, 1.0], ([0, 0, 1], [1, 2, 0])), shape=(3, 3))
    sp.save_npz(tmp_path / "g.npz", matrix)
    graph = read(tmp_path, "g.npz")
    assert set(edges(graph)) == {("0", "1"), ("1", "0")} and len(graph) == 3 and graph.weights is None


def test_a_matrix_that_is_not_symmetric_needs_the_users_word(tmp_path):
    sp.save_npz(tmp_path / "g.npz", sp.csr_array(np.triu(np.full((3, 3), 2.0))))
    with pytest.raises(InputError, match="one way"):
        read(tmp_path, "g.npz")
    assert len(edges(read(tmp_path, "g.npz", directed=True))) == 6
    undirected = edges(read(tmp_path, "g.npz", directed=False))
    assert len(undirected) == 9 and set(undirected.values()) == {2}


def test_mat_variables(tmp_path):
    square, wide = sp.csc_array(np.array([[0.0, 1], [1, 0]])), np.ones((2, 5))
    scipy.io.savemat(tmp_path / "one.mat", {"network": square, "group": wide, "n": 3})
    assert len(edges(read(tmp_path, "one.mat"))) == 2
    scipy.io.savemat(tmp_path / "two.mat", {"network": square, "other": square, "n": 3})
    with pytest.raises(InputError, match=r"2 square matrices .*network \(2, 2\), other \(2, 2\).*`variable:`"):
        read(tmp_path, "two.mat")
    assert len(edges(read(tmp_path, "two.mat", variable="other"))) == 2
    with pytest.raises(InputError, match=r"variable: none.*holds network"):
        read(tmp_path, "two.mat", variable="none")
    with pytest.raises(InputError, match=r"shape \(2, 5\).*square"):
        read(tmp_path, "one.mat", variable="group")
    scipy.io.savemat(tmp_path / "text.mat", {"network": np.array([["a", "b"], ["c", "d"]])})
    with pytest.raises(InputError, match="expected real numbers"):
        read(tmp_path, "text.mat", variable="network")


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">{more}]>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected"><node id="&{last};"/></graph></graphml>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("suffix", ["graphml", "gexf", "graphml.gz"])
def test_entities_are_refused(tmp_path, suffix, encoding):
    letters = "bcdefghijkl"
    more = "".join(f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in pairwise(letters))
    content = BOMB.format(more=more, last=letters[-1]).encode(encoding)
    (tmp_path / f"g.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(InputError, match="declares entities"):
        read(tmp_path, f"g.{suffix}")


def test_a_doctype_alone_is_fine(tmp_path):
    nx.write_graphml(nx.path_graph(3), tmp_path / "g.graphml")
    text = (tmp_path / "g.graphml").read_text().split("?>", 1)[1]
    (tmp_path / "g.graphml").write_text(
        '<?xml version="1.0"?><!DOCTYPE graphml SYSTEM "http://example.org/graphml.dtd">' + text
    )
    assert len(read(tmp_path, "g.graphml")) == 3


@pytest.mark.parametrize("suffix", ["graphml", "gexf", "gml", "net", "json", "npz", "mtx", "mat", "parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00nonsense", b"{" * 100_000, b"<a>", b"a b\n1 2\n"])
def test_a_damaged_file(tmp_path, suffix, content):
    (tmp_path / f"g.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"g\.{suffix}"):
        read(tmp_path, f"g.{suffix}")


def test_a_pickle_is_not_opened(tmp_path):
    np.savez(tmp_path / "g.npz", format=np.array([{"a": 1}], dtype=object), data=np.ones(2))
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path, "g.npz")
    np.savez(tmp_path / "g.npz", edges=np.ones((2, 2)), labels=np.ones(2))
    with pytest.raises(InputError, match=r"scipy\.sparse\.save_npz.*It holds edges, labels"):
        read(tmp_path, "g.npz")


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.int64(), pa.uint8()]
)
def test_kinds_of_parquet_ids(tmp_path, kind):
    whole = pa.types.is_integer(kind)
    source, target = ([3, 1, 3], [1, 2, 9]) if whole else (["c", "a", "c"], ["a", "b", "z"])
    plain = pa.int64() if whole else pa.string()
    table = pa.table({"from": pa.array(source, plain).cast(kind), "to": pa.array(target, plain).cast(kind)})
    pq.write_table(table, tmp_path / "e.parquet", row_group_size=2)
    for options in ({}, {"columns": HEADER}, {"columns": {"source": 1, "target": 2}}):
        graph = read(tmp_path, "e.parquet", directed=True, **options)
        assert list(graph.ids) == (["3", "1", "2", "9"] if whole else ["c", "a", "b", "z"])
        assert len(edges(graph)) == 3


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("from", ["a", None], "empty source or target on row 2"),
        ("to", ["a", ""], "empty source or target on row 2"),
        ("to", [1, None], "empty source or target on row 2"),
        ("to", [1.5, 2.5], "target of double .*strings or whole numbers"),
        ("w", [1.0, None], "weight None on row 2"),
        ("w", ["1", "2"], "weight of string"),
        ("t", ["x", None], "empty edge type on row 2"),
    ],
)
def test_parquet_that_is_refused(tmp_path, column, values, message):
    good = {"from": ["a", "b"], "to": ["b", "c"], "w": [1.0, 2.0], "t": ["x", "y"]}
    pq.write_table(pa.table(good | {column: values}), tmp_path / "e.parquet")
    with pytest.raises(InputError, match=message):
        read(tmp_path, "e.parquet", columns={**WEIGHTED, "type": "t"})
    with pytest.raises(InputError, match="expected 'goal' among them"):
        read(tmp_path, "e.parquet", columns={"source": "from", "target": "goal"})
    with pytest.raises(InputError, match="4 columns, not number 9"):
        read(tmp_path, "e.parquet", columns={"source": 1, "target": 9})


def test_columns_by_number_in_text_without_a_header(tmp_path):
    (tmp_path / "e.txt").write_text("# a comment\n7 0 0.5 x\n0 8 2 y\n")
    graph = read(tmp_path, "e.txt", columns={"source": 2, "target": 1, "weight": 3, "type": 4}, directed=True)
    assert edges(graph) == {("0", "7", "x"): 0.5, ("8", "0", "y"): 2}
    with pytest.raises(InputError, match=r"4 field\(s\) on line 2 .*expected 9"):
        read(tmp_path, "e.txt", columns={"source": 1, "target": 9})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.txt", "# SNAP\n# From To\na\tb\nb\tc\n"),
        ("e.txt", "a b\nb c\n"),
        ("e.edges.gz", "# x\na b\nb c"),
        ("e.txt", "a,b\nb,c\n"),
    ],
)
def test_plain_lists_go_through_arrow(tmp_path, monkeypatch, name, content):
    """Ten million lines of SNAP's or of blanks must not be cut up one by one."""
    from storage.inputs import graph_edges

    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    monkeypatch.delattr(graph_edges, "_read_lines")
    assert len(edges(read(tmp_path, name))) == 4


def test_quotes_among_blanks_are_part_of_ids(tmp_path):
    (tmp_path / "e.txt").write_text('"a" b\nc d"\n')
    assert sorted(read(tmp_path, "e.txt").ids) == ['"a"', "b", "c", 'd"']


def test_edges_of_several_types_stay_apart(tmp_path):
    (tmp_path / "e.tsv").write_text("from\tto\tw\thow\na\tb\t1\tx\nb\ta\t2\ty\na\tb\t4\tx\nb\tb\t3\tx\n")
    options = {"columns": {**WEIGHTED, "type": "how"}}
    graph = read(tmp_path, "e.tsv", **options)
    assert graph.edge_type_names == ("x", "y") and graph.edge_types.dtype == np.int16
    assert edges(graph) == {
        ("a", "b", "x"): 5, ("b", "a", "x"): 5, ("a", "b", "y"): 2, ("b", "a", "y"): 2, ("b", "b", "x"): 3,
    }  # fmt: skip
    (tmp_path / "e.tsv").write_text("from\tto\thow\na\tb\tx\nb\tc\t\n")
    with pytest.raises(InputError, match="empty edge type on line 3"):
        read(tmp_path, "e.tsv", columns={**HEADER, "type": "how"})


def test_duplicates_and_loops(tmp_path):
    (tmp_path / "e.tsv").write_text("from\tto\tw\na\tb\t1\nb\ta\t2\na\tb\t4\nc\tc\t3\n")
    both = {("a", "b"), ("b", "a")}
    assert edges(read(tmp_path, "e.tsv", columns=WEIGHTED, duplicates="drop", loops="drop")) == dict.fromkeys(both, 1.0)
    directed = read(tmp_path, "e.tsv", columns=WEIGHTED, duplicates="drop", directed=True)
    assert edges(directed) == {("a", "b"): 1, ("b", "a"): 2, ("c", "c"): 3}
    dropped = read(tmp_path, "e.tsv", columns=WEIGHTED, loops="drop")
    assert list(dropped.ids) == ["a", "b", "c"] and set(edges(dropped).values()) == {7}  # c stays, isolated


def test_several_graph_files_are_one(tmp_path):
    nx.write_graphml(nx.Graph([("a", "b")]), tmp_path / "1.graphml")
    nx.write_gml(nx.Graph([("b", "c")]), tmp_path / "2.gml")
    (tmp_path / "3.tsv").write_text("c\td\n")
    graph = read(tmp_path, "[123].*")
    assert list(graph.ids) == ["a", "b", "c", "d"] and len(edges(graph)) == 6
    scipy.io.mmwrite(tmp_path / "4.mtx", sp.coo_array(np.ones((2, 2))))
    with pytest.raises(InputError, match="a matrix among them; expected one file"):
        read(tmp_path, "[1234].*")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("e.tsv", {"columns": {"weight": "w"}}, "lack source or target"),
        ("e.graphml", {"columns": HEADER}, "names of attributes"),
        ("e.graphml", {"columns": {"weight": 3}}, "names of attributes"),
        ("e.npz", {"columns": OF_EDGES}, "Leave `columns:` out"),
        ("e.tsv", {"variable": "x"}, r"expected a \.mat file"),
        ("e.tsv", {"nodes": {"type": "kind"}}, "Add `path:` under `nodes:`"),
        ("e.npz", {"nodes": {"type": "kind"}}, "a node a row of the matrix"),
        ("e.graphml", {"nodes": {"features_file": "x.npz"}}, "which row is which node"),
    ],
)
def test_options_that_do_not_fit(tmp_path, name, options, message):
    (tmp_path / name).write_bytes(b"")
    spec = GraphSpec.model_validate({"kind": "graph", "edges": name, **options})
    with pytest.raises(InputError, match=message):
        spec.scan(tmp_path, DigestCache(tmp_path / "_cache"))


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"source": "a", "target": 2}},
        {"columns": {"source": 0, "target": 1}},
        {"columns": {"source": "a", "target": "b", "wieght": "w"}},
        {"nodes": {"features": ["a"], "tags": "b"}},
        {"hold_out": {"share": 0}},
        {"hold_out": {"share": 1.0}},
        {"duplicates": "count"},
        {"directed": "no"},
    ],
)
def test_options_that_are_none(options):
    with pytest.raises(ValueError, match="validation error"):
        GraphSpec.model_validate({"kind": "graph", "edges": "e.tsv", **options})


def test_a_graph_of_one_node_and_of_none(tmp_path):
    one = nx.Graph()
    one.add_node("only")
    nx.write_graphml(one, tmp_path / "one.graphml")
    found = read(tmp_path, "one.graphml")
    assert list(found.ids) == ["only"] and found.indptr.tolist() == [0, 0]
    (tmp_path / "loop.tsv").write_text("a\ta\n")
    assert edges(read(tmp_path, "loop.tsv")) == {("a", "a"): 1}
    nx.write_graphml(nx.Graph(), tmp_path / "none.graphml")
    with pytest.raises(InputError, match="without an edge"):
        read(tmp_path, "none.graphml")
    scipy.io.mmwrite(tmp_path / "none.mtx", sp.coo_array((0, 0)))
    with pytest.raises(InputError, match=r"none\.mtx"):
        read(tmp_path, "none.mtx")


def test_edges_held_out(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "e.tsv").write_text("".join(f"n{a}\tn{b}\n" for a, b in rng.integers(40, size=(200, 2)) if a != b))
    whole = read(tmp_path, "e.tsv")
    with pytest.raises(InputError, match=r"Add `hold_out: \{share: 0.1, seed: 0\}`"):
        read(tmp_path, "e.tsv", HeldOut)
    options = {"hold_out": {"share": 0.2, "seed": 3}}
    graph, held = read(tmp_path, "e.tsv", **options), read(tmp_path, "e.tsv", HeldOut, **options)
    assert isinstance(graph, Graph) and isinstance(held, HeldOut) and list(held.ids) == list(graph.ids)
    names = list(held.ids)
    pairs = {(names[a], names[b]) for a, b in held.edges}
    mirrored = pairs | {(b, a) for a, b in pairs}
    assert len(pairs) == round(0.2 * len(edges(whole)) / 2) == len(held.non_edges)
    assert set(edges(graph)) == set(edges(whole)) - mirrored and mirrored <= set(edges(whole))
    assert not {(names[a], names[b]) for a, b in held.non_edges} & set(edges(whole))


def test_options_at_their_defaults_change_no_digest(tmp_path):
    """As they were before there were such options."""
    (tmp_path / "e.tsv").write_bytes(b"from\tto\tw\na\tb\t1\n")

    def digest(**options):
        spec = GraphSpec.model_validate({"kind": "graph", "edges": "e.tsv", **options})
        return spec.scan(tmp_path, DigestCache(tmp_path / "_cache")).digest

    assert (
        digest()
        == digest(directed=False, loops="keep")
        == "7ad880a87b72e4aaa5377d49ada4841052219375a95de22cc345ed03f24f7152"
    )
    assert digest(directed=True) == "dcbde34ea930c603599519c46cfd366c6d0f2a5c75ad92eba4ecd4b787fb1044"
    assert (
        digest(columns=WEIGHTED, duplicates="sum") == "3add6ce629befc8ba1469c959dcd911610c7d7ace8032b24159f8b7046312899"
    )
    others = [{"duplicates": "drop"}, {"loops": "drop"}, {"hold_out": {}}, {"hold_out": {"seed": 1}}]
    others += [{"columns": {**HEADER, "type": "w"}}, {"columns": HEADER}]
    assert len({digest(), *(digest(**option) for option in others)}) == 1 + len(others)
