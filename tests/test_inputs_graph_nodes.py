"""Node tables: ids, types, features; and which edges they let pass."""

import csv
import gzip
import json

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse as sp

from embedders.errors import InputError
from embedders.graph.node2vec import isolated
from storage.digests import DigestCache
from storage.inputs.specs import GraphSpec


def read(base, edges="e.tsv", **options):
    spec = GraphSpec.model_validate({"kind": "graph", "edges": edges, **options})
    cache = base / "store" / "_cache"
    return spec.read(spec.scan(base, DigestCache(cache)), spec.gives[0], cache=cache)


@pytest.fixture
def base(tmp_path):
    (tmp_path / "e.tsv").write_text("b\ta\nc\tb\n")
    return tmp_path


COLUMNS = {
    "id": ["a", "b", "alone", "c"],
    "kind": ["x", "y", "x", "z, w"],
    "n": [1.0, 2.5, -3.0, 0.0],
    "m": [4, 5, 6, 7],
}
SUFFIXES = ["csv", "tsv", "csv.gz", "tsv.gz", "jsonl", "jsonl.gz", "parquet"]


def table(path, columns):
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return path.name
    rows = list(zip(*columns.values(), strict=True))
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    else:
        separator = "," if name.endswith("csv") else "\t"
        quoted = [[f'"{v}"' if separator in str(v) else str(v) for v in row] for row in rows]
        text = "\n".join(separator.join(row) for row in [list(columns), *quoted])
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path.name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_in_every_format(base, suffix):
    name = table(base / f"n.{suffix}", COLUMNS)
    graph = read(base, nodes={"path": name, "type": "kind", "features": ["m", "n"]})
    assert list(graph.ids) == COLUMNS["id"]
    assert (
        graph.type_names == ("x", "y", "z, w")
        and graph.types.dtype == np.int16
        and graph.types.tolist() == [0, 1, 0, 2]
    )
    assert graph.features.dtype == np.float32 and graph.features.tolist() == [[4, 1], [5, 2.5], [6, -3], [7, 0]]
    assert isolated(graph).tolist() == [False, False, True, False]
    assert graph.indptr.tolist() == [0, 1, 3, 3, 4] and graph.indices.tolist() == [1, 0, 3, 1]
    plain = read(base, nodes={"path": name})
    assert (plain.features, plain.types, plain.type_names) == (None, None, ()) and list(plain.ids) == COLUMNS["id"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("edges", ["e.tsv", "e.txt", "e.parquet"])
def test_an_edge_that_names_an_unknown_node(base, edges, suffix):
    name = table(base / f"n.{suffix}", COLUMNS)
    if edges == "e.tsv":
        (base / edges).write_text("a\tb\n\nb\tc\nb\tghost\nother\ta\n")
    elif edges == "e.txt":
        (base / edges).write_text("# one\n# two\na b\nghost c\n")
    else:
        pq.write_table(pa.table({"s": ["a", "b", "c", "b"], "t": ["b", "c", "a", "ghost"]}), base / edges)
    place = "row 4" if edges == "e.parquet" else "line 4"
    with pytest.raises(InputError, match=rf"node 'ghost' on {place} of .*{edges}.*table .*n\.{suffix}.*lacks"):
        read(base, edges, nodes={"path": name})


def test_an_unknown_node_in_the_second_file(base):
    name = table(base / "n.csv", COLUMNS)
    (base / "f.csv").write_text("a,b\na,ghost\n")
    with pytest.raises(InputError, match=r"'ghost' on line 2 of .*f\.csv"):
        read(base, "[ef].*", nodes={"path": name})
    graph = nx.Graph([("a", "b")])
    graph.add_node("only in the file")
    nx.write_graphml(graph, base / "g.graphml")
    with pytest.raises(InputError, match="'only in the file' on the nodes"):
        read(base, "g.graphml", nodes={"path": name})


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "jsonl", "parquet"])
def test_an_id_twice_names_both_places(base, suffix):
    name = table(base / f"n.{suffix}", {"id": ["a", "b", "c", "b"], "n": [1, 2, 3, 4]})
    first, second = {"parquet": ("row 2", "row 4"), "jsonl": ("line 2", "line 4")}.get(suffix, ("line 3", "line 5"))
    with pytest.raises(InputError, match=rf"id 'b' twice: {first} of .*n\.{suffix}.* and {second} of"):
        read(base, nodes={"path": name})


def test_lines_of_a_table_with_line_breaks_in_quotes(base):
    (base / "n.csv").write_text('id,note,n\na,"two\nlines",1\n\nb,,2\nc,,nan\n')
    with pytest.raises(InputError, match="'n' on line 6 of"):
        read(base, nodes={"path": "n.csv", "features": "n"})
    (base / "n.csv").write_text('id,note,n\na,"two\nlines",1\n\nb,,2\nc,,3\n')
    assert read(base, nodes={"path": "n.csv", "features": "n"}).features.tolist() == [[1], [2], [3]]


def test_line_breaks_in_quotes_in_a_large_table(base):
    """Arrow reads in blocks of a megabyte; one must not end within quotes."""
    rows = "".join(f'{name},"a\n\nlong note\n{name}"\n' for name in ["a", "b", "c", *range(80_000)])
    (base / "n.csv").write_text("id,note\n" + rows)
    assert (base / "n.csv").stat().st_size > 1 << 20
    assert len(read(base, nodes={"path": "n.csv"})) == 80_003


@pytest.mark.parametrize("value", ["nan", "inf", "1e39", "", "x"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz"])
def test_a_feature_that_is_none_in_text(base, suffix, value):
    name = table(base / f"n.{suffix}", {"id": ["a", "b", "c"], "n": ["1", value, "3"], "note": ["-"] * 3})
    with pytest.raises(InputError, match=rf"'n' on line 3 of .*n\.{suffix}"):
        read(base, nodes={"path": name, "features": ["n"]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39, None])
@pytest.mark.parametrize(("suffix", "place"), [("jsonl", "line 2"), ("parquet", "row 2")])
@pytest.mark.parametrize("listed", [False, True])
def test_a_feature_that_is_none(base, suffix, place, value, listed):
    column = [[1.0, 2.0], [3.0, value], [4.0, 5.0]] if listed else [1.0, value, 3.0]
    name = table(base / f"n.{suffix}", {"id": ["a", "b", "c"], "n": column})
    with pytest.raises(InputError, match=rf"'n' on {place} of"):
        read(base, nodes={"path": name, "features": "n"})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_lists_of_numbers(base, suffix):
    name = table(base / f"n.{suffix}", {"id": ["a", "b", "c"], "n": [[1, 2], [3, 4], [5, 6]]})
    found = read(base, nodes={"path": name, "features": "n"}).features
    assert found.dtype == np.float32 and found.tolist() == [[1, 2], [3, 4], [5, 6]]
    name = table(base / f"n.{suffix}", {"id": ["a", "b", "c"], "n": [[1, 2], [3], [5, 6]]})
    with pytest.raises(InputError, match=r"'n' on (line|row) 2 .*`tags:`"):
        read(base, nodes={"path": name, "features": "n"})
    name = table(base / f"n.{suffix}", {"id": ["a", "b", "c"], "n": [["u"], ["v"], ["w"]]})
    with pytest.raises(InputError, match="use `tags:`"):
        read(base, nodes={"path": name, "features": "n"})


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.large_list(pa.int16()), pa.list_(pa.float64())])
def test_kinds_of_parquet_lists(base, kind):
    values = pa.array([[0, 0], [1, 2], [3, 4], [5, 6]], kind).slice(1)
    pq.write_table(pa.table({"id": pa.array([10, 20, 30]), "n": values}), base / "n.parquet")
    (base / "e.tsv").write_text("10\t30\n")
    graph = read(base, nodes={"path": "n.parquet", "features": "n"})
    assert list(graph.ids) == ["10", "20", "30"] and graph.features.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_tags(base, suffix):
    name = table(
        base / f"n.{suffix}",
        {"id": ["a", "b", "c"], "words": [["z", "é"], [], ["a", "z", "a"]], "ids": [[4, 0], [1], []]},
    )
    words = read(base, nodes={"path": name, "tags": "words"}).features
    assert sp.issparse(words) and words.format == "csr" and words.dtype == np.float32
    assert words.toarray().tolist() == [[0, 1, 1], [0, 0, 0], [1, 1, 0]]  # a, z, é
    assert read(base, nodes={"path": name, "tags": "ids"}).features.toarray().tolist() == [
        [1, 0, 0, 0, 1],
        [0, 1, 0, 0, 0],
        [0] * 5,
    ]
    for bad in ([4, -1], [1 << 40, 1]):
        name = table(base / f"n.{suffix}", {"id": ["a", "b", "c"], "ids": [[1], bad, []]})
        with pytest.raises(InputError, match=r"tag that is none in 'ids' on (line|row) 2"):
            read(base, nodes={"path": name, "tags": "ids"})


@pytest.mark.parametrize("suffix", ["npz", "npy", "mtx"])
def test_features_of_a_matrix_file(base, suffix):
    name = table(base / "n.csv", {"id": ["a", "b", "c"]})
    dense = np.array([[0.0, 2], [1, 0], [0, 0]])

    def save(matrix):
        if suffix == "npy":
            np.save(base / "x.npy", matrix)
        else:
            (scipy.io.mmwrite if suffix == "mtx" else sp.save_npz)(base / f"x.{suffix}", sp.csr_array(matrix))

    save(dense)
    options = {"nodes": {"path": name, "features_file": f"x.{suffix}"}}
    found = read(base, **options).features
    assert found.dtype == np.float32 and sp.issparse(found) == (suffix != "npy")
    assert (found.toarray() if sp.issparse(found) else found).tolist() == dense.tolist()
    save(dense[:2])
    with pytest.raises(InputError, match=r"shape \(2, 2\) .*3 nodes"):
        read(base, **options)
    for bad in (np.nan, 1e39):
        save(np.array([[0.0, 2], [1, bad], [0, 0]]))
        with pytest.raises(InputError, match="row 2 of"):
            read(base, **options)


def test_features_that_are_pickled_are_not_opened(base):
    np.save(base / "x.npy", np.array([{"a": 1}, 2, 3], dtype=object), allow_pickle=True)
    table(base / "n.csv", {"id": ["a", "b", "c"]})
    with pytest.raises(InputError, match=r"x\.npy.*cannot be read"):
        read(base, nodes={"path": "n.csv", "features_file": "x.npy"})


def test_a_matrix_with_a_node_table(base):
    scipy.io.savemat(base / "g.mat", {"network": np.array([[0.0, 2], [2, 0]])})
    name = table(base / "n.csv", {"id": ["second", "first"], "kind": ["x", "y"]})
    graph = read(base, "g.mat", nodes={"path": name, "type": "kind"})
    assert (
        list(graph.ids) == ["second", "first"] and graph.weights.tolist() == [2, 2] and graph.types.tolist() == [0, 1]
    )
    name = table(base / "n.csv", COLUMNS)
    with pytest.raises(InputError, match=r"4 nodes .* 2 rows"):
        read(base, "g.mat", nodes={"path": name})
    np.save(base / "x.npy", np.eye(2))
    assert read(base, "g.mat", nodes={"features_file": "x.npy"}).features.tolist() == [[1, 0], [0, 1]]


def test_a_table_alone_gives_isolated_nodes(base):
    (base / "e.tsv").write_text("")
    graph = read(base, nodes={"path": table(base / "n.csv", COLUMNS)})
    assert len(graph) == 4 and isolated(graph).all() and graph.indptr.tolist() == [0] * 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.csv", "", r"n\.csv"),
        ("n.csv", "name,kind\na,x\n", "column 'id', which is not there.*name, kind"),
        ("n.csv", "id,id\na,x\n", "more than once"),
        ("n.csv", "id,kind\na,x\nb\n", r"1 field\(s\) on line 3"),
        ("n.csv", "id,kind\na,x\nb,\n", "empty type in 'kind' on line 3"),
        ("n.csv", "id,kind\na,x\n,y\n", "empty id in 'id' on line 3"),
        ("n.csv", b"id,kind\n\xff,x\n", "UTF-8"),
        ("n.jsonl", '{"id": "a", "kind": "x"}\n{"id": "b"}\n', "line 2 .*without kind"),
        ("n.jsonl", '{"id": "a", "kind": "x"}\n{"id": \n', "line 2 .*no JSON"),
        ("n.jsonl", '{"id": "a", "kind": "x"}\n[1]\n', "line 2 .*an object"),
        ("n.jsonl", '{"id": "a", "kind": "x"}\n{"id": 2, "kind": "x"}\n', "'2' for line 2 .*one kind"),
        ("n.jsonl", '{"id": "a", "kind": "x"}\n{"id": null, "kind": "x"}\n', "empty id in 'id' on line 2"),
        ("n.jsonl", '{"id": ["a"], "kind": "x"}\n', "strings or whole numbers for the id"),
        ("n.jsonl", "", "without a node"),
        ("n.parquet", "nonsense", r"n\.parquet.*Parquet"),
        ("n.txt", "a b\n", r"expected a \.csv, \.tsv"),
    ],
)  # fmt: skip
def test_a_table_that_is_refused(base, name, content, message):
    (base / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message):
        read(base, nodes={"path": name, "type": "kind"})


def test_more_types_than_are_counted(base):
    (base / "e.tsv").write_text("0\t1\n")
    name = table(base / "n.csv", {"id": range(40_000), "kind": range(40_000)})
    with pytest.raises(InputError, match="40,000 types of nodes; expected at most 32,767"):
        read(base, nodes={"path": name, "type": "kind"})


def test_what_the_options_name_is_part_of_the_digest(base):
    cache = DigestCache(base / "store" / "_cache")

    def digest(**nodes):
        spec = GraphSpec.model_validate({"kind": "graph", "edges": "e.tsv", "nodes": nodes})
        return spec.scan(base, cache).digest

    table(base / "n.csv", COLUMNS)
    np.save(base / "x.npy", np.eye(4))
    found = [digest(path="n.csv"), digest(path="n.csv", type="kind"), digest(path="n.csv", features_file="x.npy")]
    table(base / "n.csv", COLUMNS | {"kind": ["q"] * 4})
    found += [digest(path="n.csv")]
    np.save(base / "x.npy", np.ones((4, 4)))
    found += [digest(path="n.csv", features_file="x.npy")]
    assert len(set(found)) == len(found)
    (base / "n.csv").rename(base / "moved.csv")
    assert digest(path="moved.csv") == found[3]
    with pytest.raises(InputError, match=r"n\.csv"):
        digest(path="n.csv")


def test_facebook_pages(shared_data, tmp_path):
    """Real pages: names in many scripts, feature numbers, four types, self loops."""
    folder = shared_data("graph_facebook_pages")
    features = json.loads(gzip.decompress((folder / "facebook_features.json.gz").read_bytes()))
    with gzip.open(folder / "facebook_target.csv.gz", "rt", encoding="utf-8") as file:
        pages = [{**row, "bag": features[row["id"]]} for row in csv.DictReader(file)]
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(page, ensure_ascii=False) + "\n" for page in pages))
    options = {
        "columns": {"source": "id_1", "target": "id_2"},
        "nodes": {"path": "pages.jsonl", "type": "page_type", "tags": "bag"},
    }
    graph = read(tmp_path, str(folder / "facebook_edges.csv.gz"), **options)
    assert list(graph.ids) == [page["id"] for page in pages] and len(graph.indices) == 2 * 171_002 - 179
    assert dict(zip(graph.type_names, np.bincount(graph.types).tolist(), strict=True)) == {
        "government": 6880, "company": 6495, "politician": 5768, "tvshow": 3327,
    }  # fmt: skip
    assert graph.features.shape == (22_470, 4714) and np.flatnonzero(graph.features[[7]].toarray()).tolist() == sorted(
        pages[7]["bag"]
    )


def test_blogcatalog(shared_data, tmp_path):
    graph = read(tmp_path, str(shared_data("graph_blogcatalog") / "blogcatalog.mat"))
    assert len(graph) == 10_312 and len(graph.indices) == 2 * 333_983 and graph.weights is None and not graph.directed
    named = read(tmp_path, str(shared_data("graph_blogcatalog") / "blogcatalog.mat"), variable="network", directed=True)
    assert np.array_equal(named.indices, graph.indices) and named.directed


def test_files_that_join_types(tmp_path):
    """Numbers that stand for a paper in one column and for an author in another are not one node."""
    (tmp_path / "written.tsv").write_text("1\t1\n2\t1\n")
    (tmp_path / "cited.txt").write_text("1 2\n")
    listed = [
        {"path": "written.tsv", "source": "paper", "target": "author"},
        {"path": "cited.txt", "source": "paper", "target": "paper", "type": "cites"},
    ]
    graph = read(tmp_path, listed)
    assert list(graph.ids) == ["paper:1", "paper:2", "author:1"] and graph.type_names == ("paper", "author")
    assert graph.types.tolist() == [0, 0, 1] and graph.edge_type_names == ("paper-author", "cites")
    assert graph.indptr.tolist() == [0, 2, 4, 6] and graph.indices.tolist() == [1, 2, 0, 2, 0, 1]
    assert graph.edge_types.tolist() == [1, 0, 1, 0, 0, 0]
    (tmp_path / "n.csv").write_text("id,x\nauthor:1,1\npaper:1,2\n")
    with pytest.raises(InputError, match=r"'paper:2' on line 2 of .*written\.tsv"):
        read(tmp_path, listed, nodes={"path": "n.csv"})
    with pytest.raises(InputError, match="Name each file alone"):
        read(tmp_path, [{"path": "*t*.t*", "source": "a", "target": "b"}])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "cited.txt").write_text("2 3\n")
    more = read(tmp_path, [*listed, {"path": "more/cited.txt", "source": "paper", "target": "paper", "type": "cites"}])
    assert list(more.ids) == ["paper:1", "paper:2", "author:1", "paper:3"] and len(more.indices) == 8
    with pytest.raises(InputError, match="without a column of types"):
        read(tmp_path, listed, columns={"source": 1, "target": 2, "type": 2})


def test_dblp(shared_data, tmp_path):
    folder = shared_data("graph_dblp_hetero")
    joined = {"paper_author": "author", "paper_conference": "venue", "paper_type": "term"}
    graph = read(
        tmp_path, [{"path": str(folder / f"{n}.dat.gz"), "source": "paper", "target": t} for n, t in joined.items()]
    )
    assert dict(zip(graph.type_names, np.bincount(graph.types).tolist(), strict=True)) == {
        "paper": 14_376, "author": 14_475, "venue": 20, "term": 8_920,
    }  # fmt: skip
    counts = np.bincount(graph.edge_types).tolist()
    assert counts == [2 * 41_794, 2 * 14_376, 2 * 114_624] and graph.weights is None
