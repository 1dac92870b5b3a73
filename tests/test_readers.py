"""Analytics read one real version with awkward ids: its files directly, or word2vec files and arrays made of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from flows import steps
from flows.pipeline import Pipeline
from storage import layout
from storage.export import export
from storage.names import percent_encoded
from storage.store import VectorStore
from tests.helpers_store import AWKWARD, PARAMS

IDS = [f"n{i}" for i in range(6)] + [name for name in AWKWARD if name]


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A ring of nodes with awkward names, learned by node2vec, in parts of five rows."""
    folder = tmp_path_factory.mktemp("readers")
    quoted = ['"' + name.replace('"', '""') + '"' for name in IDS]
    edges = zip(quoted, quoted[1:] + quoted[:1], strict=True)
    (folder / "ring.csv").write_text("".join(f"{a},{b}\n" for a, b in edges), encoding="utf-8", newline="\n")
    pipeline = Pipeline.model_validate(
        {
            "base": folder,
            "datasets": {"ring": {"kind": "graph", "edges": "ring.csv"}},
            "spaces": {"ring": {"dataset": "ring", "embedder": "node2vec", "params": _params(PARAMS["node2vec"])}},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROWS_PER_FILE", 5)
        steps.embed(pipeline, "ring", "run")
        steps.embed(pipeline, "ring", "again", force=True)
    return pipeline.vectors.find("ring@1")


def _params(text):
    return {key.strip(): int(value) for key, value in (part.split(":") for part in text.split(","))}


@pytest.fixture(scope="module")
def expected(version):
    """Ids and matrix, from the part files' own bytes where NumPy can read them: PLAIN, so vectors lie as they are."""
    assert len(version.files) == 3
    assert version.ids.tolist() == IDS
    return version.ids.tolist(), version.matrix


def cosines(matrix: np.ndarray, row: int) -> np.ndarray:
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit @ unit[row]


def test_numpy_finds_the_vectors_bytes_in_the_file(version, expected):
    first = Path(version.files[0]).read_bytes()
    assert expected[1][:5].tobytes() in first


def test_pyarrow(version, expected):
    import pyarrow.parquet as pq

    table = pq.read_table(version.files)
    assert table.column_names == ["id", "vector", "digest", "origin"]
    assert table.column("id").to_pylist() == expected[0]
    matrix = np.stack(table.column("vector").to_numpy())
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, expected[1])
    assert json.loads(table.schema.metadata[b"polyvec"])["space"] == "ring"


def test_pandas(version, expected):
    import pandas

    frame = pandas.read_parquet(version.files)
    assert frame["id"].tolist() == expected[0]
    assert np.array_equal(np.stack(frame["vector"]), expected[1])
    assert set(frame["origin"]) == {"embedded"}


def test_polars(version, expected):
    import polars

    frame = polars.read_parquet(version.files)
    assert frame["id"].to_list() == expected[0]
    assert frame.schema["vector"] == polars.List(polars.Float32)
    assert np.array_equal(np.stack(frame["vector"].to_list()).astype(np.float32), expected[1])
    assert polars.scan_parquet(version.files).filter(polars.col("id") == "日本語").collect().height == 1


@pytest.mark.parametrize("number", [1, 2])
def test_polars_reads_the_delta_table(version, number):
    import polars

    this = VectorStore(version.paths.root).find(f"ring@{number}")
    frame = polars.read_delta(str(version.paths.space("ring")), version=this.delta_version)
    by_id = dict(zip(frame["id"].to_list(), frame["vector"].to_list(), strict=True))
    assert sorted(by_id) == sorted(IDS)
    for name, row in zip(this.ids, this.matrix, strict=True):
        assert np.array_equal(np.array(by_id[name], np.float32), row)


def test_deltalake(version, expected):
    from deltalake import DeltaTable

    table = DeltaTable(str(version.paths.space("ring")), version=version.delta_version)
    rows = table.to_pyarrow_dataset().to_table().sort_by("id")
    assert rows.column("id").to_pylist() == sorted(expected[0])


def test_duckdb_computes_cosines(version, expected):
    import duckdb

    ids, matrix = expected
    for name in ("n0", 'it\'s "quoted", twice', "tab\tand\nnewline", "😀👩‍👩‍👧"):
        found = duckdb.execute(
            """
            SELECT other.id, list_cosine_similarity(other.vector, mine.vector) AS cosine
            FROM read_parquet($files) other, read_parquet($files) mine
            WHERE mine.id = $name ORDER BY cosine DESC, other.id
            """,
            {"files": version.files, "name": name},
        ).fetchall()
        want = dict(zip(ids, cosines(matrix, ids.index(name)), strict=True))
        assert next(row[0] for row in found) == name
        assert {row[0] for row in found} == set(ids)
        for other, cosine in found:
            assert cosine == pytest.approx(want[other], abs=1e-5)


def test_duckdb_keeps_the_row_order(version, expected):
    import duckdb

    rows = duckdb.execute("SELECT id FROM read_parquet($files)", {"files": version.files}).fetchall()
    assert [row[0] for row in rows] == expected[0]


def test_statistics_let_readers_skip_files(version):
    import pyarrow.parquet as pq

    for file in version.files:
        group = pq.read_metadata(file).row_group(0)
        by_name = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        ids = pq.read_table(file, columns=["id"]).column("id").to_pylist()
        statistics = by_name["id"].statistics
        assert (statistics.min, statistics.max) == (min(ids, key=str.encode), max(ids, key=str.encode))
        vector = by_name["vector.list.element"]
        assert vector.statistics is None or not vector.statistics.has_min_max
        assert vector.compression == "UNCOMPRESSED"
        assert "RLE_DICTIONARY" not in vector.encodings


# Spark reads the Parquet files


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """A Spark of this machine alone; pyspark comes with `make test-slow`."""
    sql = pytest.importorskip("pyspark.sql", reason="no pyspark here; do: pip install -c constraints.txt '.[spark]'")
    java = Path(os.environ.get("JAVA_HOME", "/none"), "bin", "java")
    if not (java.exists() or shutil.which("java")):
        pytest.skip("Spark needs Java 17, and there is no java on the path nor in JAVA_HOME")
    folder = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "2",
    }
    session = sql.SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    yield session
    session.stop()


@pytest.mark.slow
def test_spark(version, expected, spark):
    frame = spark.read.parquet(*version.files)
    assert frame.columns == ["id", "vector", "digest", "origin"]
    assert frame.schema["vector"].dataType.simpleString() == "array<float>"
    found = {row.id: row.vector for row in frame.collect()}
    assert len(found) == frame.count() == len(expected[0])
    assert np.array_equal(np.array([found[name] for name in expected[0]], np.float32), expected[1])
    assert {row.origin for row in frame.select("origin").distinct().collect()} == {"embedded"}
    assert frame.filter(frame.id == 'it\'s "quoted", twice').count() == 1


@pytest.mark.slow
def test_spark_computes_cosines(version, expected, spark):
    ids, matrix = expected
    spark.read.parquet(*version.files).createOrReplaceTempView("vectors")
    dot = "aggregate(zip_with({0}, {1}, (x, y) -> double(x) * y), double(0), (sum, x) -> sum + x)"
    inner, mine, other = (dot.format(*pair) for pair in ("ab", "aa", "bb"))
    pairs = spark.sql(
        f"""
        WITH pairs AS (SELECT o.id, m.vector AS a, o.vector AS b FROM vectors o, vectors m WHERE m.id = :name)
        SELECT id, {inner} / sqrt({mine} * {other}) AS cosine FROM pairs
        """,
        args={"name": "tab\tand\nnewline"},
    )
    want = dict(zip(ids, cosines(matrix, ids.index("tab\tand\nnewline")), strict=True))
    found = {row.id: row.cosine for row in pairs.collect()}
    assert found == pytest.approx(want, abs=1e-5)


@pytest.mark.slow
def test_spark_reads_an_export_as_a_folder(version, expected, spark, tmp_path):
    export(version, tmp_path / "out", "parquet")
    rows = spark.read.parquet(str(tmp_path / "out")).select("id").collect()
    assert sorted(row.id for row in rows) == sorted(expected[0])


# Readers of word2vec files and of arrays


@pytest.mark.parametrize(("form", "name"), [("word2vec", "vectors.txt"), ("word2vec-bin", "vectors.bin")])
def test_gensim(version, expected, tmp_path, form, name):
    from gensim.models import KeyedVectors

    export(version, tmp_path / "out", form)
    found = KeyedVectors.load_word2vec_format(tmp_path / "out" / name, binary=form == "word2vec-bin")
    ids, matrix = expected
    written = [percent_encoded(one) if any(mark in one for mark in " \t\n") else one for one in ids]
    assert found.index_to_key == written
    assert written[ids.index("tab\tand\nnewline")] == "tab%09and%0Anewline"
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, matrix)
    near = cosines(matrix, ids.index("日本語"))
    near[ids.index("日本語")] = -2
    [(nearest, cosine)] = found.most_similar("日本語", topn=1)
    assert nearest == written[int(near.argmax())]
    assert cosine == pytest.approx(near.max(), abs=1e-5)


def test_numpy_maps_an_export(version, expected, tmp_path):
    export(version, tmp_path / "out", "npy")
    ids = json.loads((tmp_path / "out" / "ids.json").read_text(encoding="utf-8"))
    matrix = np.load(tmp_path / "out" / "vectors.npy", mmap_mode="r")
    assert ids == expected[0]
    assert (matrix.dtype, np.array_equal(matrix, expected[1])) == (np.float32, True)
