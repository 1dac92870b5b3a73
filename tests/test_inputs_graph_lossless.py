"""Graphs that would be read in part, or wrongly: refused, and said why."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.errors import InputError
from tests.test_inputs_graph_formats import WEIGHTED, edges, read

GRAPHML = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{}</graphml>'
GRAPH = '<graph edgedefault="undirected">{}</graph>'
NODES = '<node id="a"/><node id="b"/>'
GEXF = '<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2"><graph defaultedgetype="undirected">{}</graph></gexf>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.graphml", GRAPHML.format(2 * GRAPH.format(NODES)), "2 graphs"),
        ("g.graphml", GRAPHML.format(GRAPH.format(NODES + '<node id="a"/>')), "two nodes are called 'a'"),
        ("g.graphml", GRAPHML.format(GRAPH.format(NODES + '<edge source="a" target="x"/>')), "names the node 'x'"),
        ("g.gexf", GEXF.format(f'<nodes>{NODES}</nodes><edges><edge source="a" target="x"/></edges>'), "the node 'x'"),
        ("g.gexf", GEXF.format(f'<nodes>{NODES}<node id="b"/></nodes><edges/>'), "two nodes are called 'b'"),
        ("g.net", '*Vertices 2\n1 "J S"\n2 "J S"\n*Edges\n1 2\n', "two nodes are called 'J S'"),
        ("g.net", "*Vertices 2\n1 a\n2 b\n*Arcslist\n1 2 1\n", "section \\*arcslist"),
        ("g.net", "*Vertices 2\n1 a\n2 b\n*Edgeslist\n1 2 1\n", "section \\*edgeslist"),
        ("g.net", "*Vertices 3\n1 a\n2 b\n3 c\n*Arcs\n1 2\n*Edges\n2 3\n", "\\*arcs and \\*edges"),
        ("g.net", "*Vertices 2\n1 a\n2 b\n*Edges\n1 3\n", "names the node '3'"),
        ("g.net", "*Vertices 3\n1 a\n2 b\n*Edges\n1 3\n", "2 lines of vertices after '\\*Vertices 3'"),
        ("g.net", "hello", "0 sections \\*Vertices"),
        ("g.json", json.dumps({"nodes": [{"id": ["a"]}], "links": []}), "neither a text nor a number"),
        (
            "g.json",
            json.dumps({"nodes": [{"id": "a"}], "links": [{"source": {}, "target": "a"}]}),
            "neither a text nor a number",
        ),
    ],
)
def test_what_networkx_takes_in_silence(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path, name)


def test_pajek_as_pajek_writes_it(tmp_path):
    lines = ["% made by Pajek", "*Network x", "*Vertices 3", '1 "a b" 0.1 0.2 0.5', '2 "b"', "3 c", "*Arcs", "*Edges"]
    (tmp_path / "g.net").write_text("\r\n".join([*lines, "1 2 1", "% and", "*Edges :2", "2 3 4"]) + "\r\n")
    both = {("a b", "b"): 1.0, ("b", "c"): 4.0}
    found = edges(read(tmp_path, "g.net", columns={"weight": "weight"}))
    assert found == both | {(b, a): weight for (a, b), weight in both.items()}


@pytest.mark.parametrize("name", ["e.csv", "e.txt", "e.parquet"])
def test_a_column_that_is_there_twice(tmp_path, name):
    if name == "e.parquet":
        columns = [pa.array([text]) for text in "abc"]
        pq.write_table(pa.Table.from_arrays(columns, ["from", "from", "to"]), tmp_path / name)
    else:
        (tmp_path / name).write_text("from,from,to\na,b,c\n")
    with pytest.raises(InputError, match="'from', which is there more than once"):
        read(tmp_path, name, columns={"source": "from", "target": "to"})
    (tmp_path / "n.csv").write_text("id,id\na,b\n")
    (tmp_path / "e.tsv").write_text("a\ta\n")
    with pytest.raises(InputError, match="'id', which is there more than once"):
        read(tmp_path, "e.tsv", nodes={"path": "n.csv"})


def test_an_empty_parquet(tmp_path):
    pq.write_table(pa.table({"s": pa.array([], pa.string()), "t": pa.array([], pa.string())}), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="without an edge"):
        read(tmp_path, "e.parquet")


def test_whole_numbers_beyond_those_a_float_counts(tmp_path):
    large = 2**53 + 1
    pq.write_table(pa.table({"from": ["a"], "to": ["b"], "w": [large]}), tmp_path / "e.parquet")
    columns = {"id": ["a", "b"], "f": [1, large], "g": [[1], [large]]}
    pq.write_table(pa.table(columns), tmp_path / "n.parquet")
    for name in "fg":
        graph = read(tmp_path, "e.parquet", columns=WEIGHTED, nodes={"path": "n.parquet", "features": [name]})
        assert graph.features.ravel().tolist() == [1, 2.0**53]
        assert graph.weights.tolist() == [2.0**53] * 2


def test_weights_whose_sum_is_too_large(tmp_path):
    (tmp_path / "e.csv").write_text("from,to,w\nx,y,1\na,b,3e38\nb,a,3e38\n")
    with pytest.raises(InputError, match="'a' and 'b' whose weights sum to more than a float32 can hold"):
        read(tmp_path, "e.csv", columns=WEIGHTED)
    assert read(tmp_path, "e.csv", columns=WEIGHTED, duplicates="drop").weights.max() == np.float32(3e38)


@pytest.mark.parametrize(
    "damage", [{"indices": [9]}, {"indices": [-1]}, {"indptr": [0, 9, 1, 1]}, {"indptr": [0, 1, 0, 1]}]
)
def test_a_matrix_whose_places_are_not_in_it(tmp_path, damage):
    good = {"format": "csr", "shape": [3, 3], "data": [1.0], "indices": [1], "indptr": [0, 1, 1, 1]}
    np.savez(tmp_path / "m.npz", **{name: np.array(value) for name, value in (good | damage).items()})
    with pytest.raises(InputError, match="cannot be read \\(ind"):
        read(tmp_path, "m.npz", directed=True)


def test_a_matrix_of_too_many_rows(tmp_path):
    (tmp_path / "m.mtx").write_text("%%MatrixMarket matrix coordinate real general\n3000000000 3000000000 1\n2 1 1\n")
    with pytest.raises(InputError, match=r"a matrix of 3,000,000,000 rows .* at most 2,147,483,647"):
        read(tmp_path, "m.mtx", directed=True)


@pytest.mark.parametrize("nodes", [{"path": "n.csv", "features_file": "f.npy"}, {"path": "n.parquet", "tags": "f"}])
def test_features_of_no_column(tmp_path, nodes):
    (tmp_path / "e.tsv").write_text("a\tb\n")
    (tmp_path / "n.csv").write_text("id\na\nb\n")
    np.save(tmp_path / "f.npy", np.ones((2, 0)))
    pq.write_table(pa.table({"id": ["a", "b"], "f": pa.array([[], []], pa.list_(pa.int64()))}), tmp_path / "n.parquet")
    with pytest.raises(InputError, match="features of no column for 2 nodes"):
        read(tmp_path, "e.tsv", nodes=nodes)


@pytest.mark.parametrize(("duplicates", "weight"), [("sum", 3.0), ("drop", 1.0)])
def test_entries_of_a_matrix_that_come_twice(tmp_path, duplicates, weight):
    lines = ["%%MatrixMarket matrix coordinate real general", "2 2 4", "1 2 1", "1 2 2", "2 1 1", "2 1 2"]
    (tmp_path / "m.mtx").write_text("\n".join(lines))
    found = edges(read(tmp_path, "m.mtx", duplicates=duplicates))
    assert found == ({("0", "1"): weight, ("1", "0"): weight})
