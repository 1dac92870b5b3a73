"""Datasets of pictures between two runs: what changes, goes away or may not be read, and what is then done anew."""

import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest

from embedders.errors import InputError
from flows.pipeline import Pipeline
from flows.plan import make_plan
from flows.progress import Lines, reporting_to
from flows.steps import embed
from storage.inputs import files
from tests.helpers_store import edit, run_steps

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("torch")

NETWORK = "backbone: small, weights: random, size: 16, precision: fp32, device: cpu, threads: 1"
PIPELINE = f"""\
store: ./vectors
datasets:
  photos: {{kind: images, path: photos}}
spaces:
  looks: {{dataset: photos, embedder: cnn, params: {{{NETWORK}}}}}
"""


def png(seed):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def photos(tmp_path):
    """A pipeline of 16 pictures, half of them in each of two folders."""
    for i in range(16):
        path = tmp_path / "photos" / "ab"[i // 8] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    (tmp_path / "polyvec.yaml").write_text(PIPELINE)
    return tmp_path / "photos"


def run(folder):
    run_steps(folder / "polyvec.yaml")
    return Pipeline.load(folder / "polyvec.yaml").vectors.space("looks").version("latest")


def why(folder):
    [space] = make_plan(Pipeline.load(folder / "polyvec.yaml"), extent=True).spaces
    return space.reason


def counted(version):
    """Embedded, reused, quarantined; each row stands under the digest of what is in its file now."""
    counts = version.manifest.counts
    counts.check()
    return counts.embedded, counts.reused, counts.quarantined


def test_rows_go_with_their_pictures(photos, tmp_path):
    assert counted(first := run(tmp_path)) == (16, 0, 0)
    (photos / "a/00.png").write_bytes(png(100))
    (photos / "b/09.png").rename(photos / "b/renamed.png")
    (photos / "a/02.png").unlink()
    (photos / "a/copy\n of 04.png").write_bytes(png(4))
    (photos / "b/日本 😀.png").write_bytes(png(5))
    (photos / "b/broken.png").write_bytes(png(3)[:90])
    (photos / "b/empty.png").write_bytes(b"")
    assert why(tmp_path) == "the dataset changed: 3 of 19 rows to embed"
    second = run(tmp_path)
    assert counted(second) == (1, 16, 2)
    assert (first.manifest.duplicates, second.manifest.duplicates) == (0, 2)  # of 04 and 05
    rows = dict(zip(second.ids, second.table(["digest"])["digest"].to_pylist(), strict=True))
    there = {path.relative_to(photos).as_posix(): path for path in photos.rglob("*.png")}
    assert rows == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items() if not name.startswith(("b/broken", "b/empty"))
    }  # fmt: skip
    whole = embed(Pipeline.load(tmp_path / "polyvec.yaml"), "looks", "whole", force=True)["looks"]
    again = Pipeline.load(tmp_path / "polyvec.yaml").vectors.space("looks").version(whole.version)
    at = {name: row for row, name in enumerate(again.ids)}
    assert np.array_equal(second.matrix, again.matrix[[at[name] for name in second.ids]])


def test_a_file_that_cannot_be_read_is_a_row_of_the_quarantine(photos, tmp_path):
    (photos / "a/00.png").unlink()
    (photos / "a/00.png").symlink_to("/proc/self/mem")  # a regular file that gives nobody its beginning
    first = run(tmp_path)
    assert counted(first) == (15, 0, 1)
    (photos / "a/00.png").unlink()
    (photos / "a/00.png").write_bytes(png(0))
    assert counted(run(tmp_path)) == (1, 15, 0)


def test_a_file_that_goes_away_while_it_is_looked_at(photos, tmp_path, monkeypatch):
    real = files._look

    def watched(path):
        found = real(path)
        if path.endswith("a/02.png"):
            os.unlink(path)  # noqa: PTH108
        return found

    with monkeypatch.context() as patch:
        patch.setattr(files, "_look", watched)
        first = embed(Pipeline.load(tmp_path / "polyvec.yaml"), "looks", "first")["looks"]
    assert (first.rows, first.quarantined) == (15, 1)
    version = Pipeline.load(tmp_path / "polyvec.yaml").vectors.space("looks").version("latest")
    [row] = version_quarantine(tmp_path, version)
    assert (row["id"], row["code"]) == ("a/02.png", "missing_file")
    assert counted(run(tmp_path)) == (0, 15, 0)


def version_quarantine(folder, version):
    return Pipeline.load(folder / "polyvec.yaml").vectors.quarantine(version)


def test_a_folder_that_may_not_be_read_costs_no_row(photos, tmp_path, monkeypatch):
    run(tmp_path)
    real = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("photos/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(files.os, "scandir", refuse)  # the superuser may read anything
    with pytest.raises(InputError, match=r"photos/b'?, which cannot be read \(Permission denied\)"):
        run(tmp_path)


def test_a_plan_counts_the_rows_of_containers(photos, tmp_path):
    def pack(content):
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)

    edit(tmp_path / "polyvec.yaml", "path: photos", "path: photos.zip")
    content = {f"{i}.png": png(i) for i in range(8)}
    pack(content)
    assert why(tmp_path) == "no version yet"
    assert counted(run(tmp_path)) == (8, 0, 0)
    pack(content | {"3.png": png(33), "8.png": png(8)})
    assert why(tmp_path) == "the dataset changed: 2 of 9 rows to embed"
    assert counted(run(tmp_path)) == (2, 7, 0)


# Labels of the dataset


LABELS = {
    "folder": "labels: folder, id: name",
    "file": "labels: {file: labels.csv}, id: name",
}


def trained(folder, labels):
    edit(folder / "polyvec.yaml", "path: photos", f"path: photos, {LABELS[labels]}")
    edit(folder / "polyvec.yaml", "threads: 1", "threads: 1, train: {labels: dataset, epochs: 2, batch_size: 4}")
    lines = [f"{i:02}.png,{'ab'[i // 8]}\n" for i in range(16)]
    (folder / "labels.csv").write_text("id,label\n" + "".join(lines))


def relabel(folder, labels):
    """One picture gets the other label, and stays what it is; also its place among the names."""
    if labels == "folder":
        (folder / "photos/a/07.png").rename(folder / "photos/b/07.png")
    else:
        edit(folder / "labels.csv", "07.png,a", "07.png,b")


@pytest.mark.parametrize("labels", LABELS)
def test_other_labels_train_anew(photos, tmp_path, labels):
    trained(tmp_path, labels)
    first = run(tmp_path)
    assert counted(first) == (16, 0, 0) and why(tmp_path) == "same data, same recipe"
    relabel(tmp_path, labels)
    said = "1 of the pictures it learned from have another label"
    assert why(tmp_path) == f"the dataset changed: learned anew, as {said}"
    second = run(tmp_path)
    assert counted(second) == (16, 0, 0)
    assert second.manifest.model != first.manifest.model
    at = {name: row for row, name in enumerate(second.ids)}
    assert not np.allclose(first.matrix, second.matrix[[at[name] for name in first.ids]])
    embed(Pipeline.load(tmp_path / "polyvec.yaml"), "looks", "whole", force=True)
    whole = Pipeline.load(tmp_path / "polyvec.yaml").vectors.space("looks").version("latest")
    assert whole.matrix.tobytes() == second.matrix.tobytes()
    assert why(tmp_path) == "same data, same recipe"


@pytest.mark.parametrize("labels", LABELS)
def test_new_pictures_and_those_that_go_train_nothing(photos, tmp_path, labels):
    trained(tmp_path, labels)
    first = run(tmp_path)
    (photos / "b/new.png").write_bytes(png(50))
    (photos / "a/00.png").unlink()
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text() + "new.png,b\n")
    assert why(tmp_path) == "the dataset changed: 1 of 16 rows to embed"
    second = run(tmp_path)
    assert counted(second) == (1, 15, 0) and second.manifest.model == first.manifest.model


def test_labels_that_come_later_train_anew(photos, tmp_path):
    trained(tmp_path, "file")
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(lines[:11]))
    assert counted(run(tmp_path)) == (16, 0, 0)
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    assert "6 of the pictures it learned from" in why(tmp_path)


def test_labels_of_pictures_held_out_train_nothing(photos, tmp_path):
    trained(tmp_path, "file")
    (tmp_path / "out.txt").write_text("07.png\n08.png\n")
    edit(tmp_path / "polyvec.yaml", "labels: dataset", "labels: dataset, hold_out: {file: out.txt}")
    run(tmp_path)
    relabel(tmp_path, "file")
    assert why(tmp_path) == "the dataset changed: 0 of 16 rows to embed"
    assert counted(run(tmp_path)) == (0, 16, 0)


@pytest.mark.parametrize("held", ["", "{file: out.txt}", "{share: 0.5, seed: 3}"])
def test_pictures_that_were_learned_from_judge_nothing(photos, tmp_path, held):
    """Where some are held out, they judge alone; where none are, it is said."""
    trained(tmp_path, "file")
    (tmp_path / "out.txt").write_text("".join(f"{i:02}.png\n" for i in range(5, 12)))
    file = tmp_path / "polyvec.yaml"
    edit(file, "labels: dataset", "labels: dataset" + (held and f", hold_out: {held}"))
    file.write_text(file.read_text() + "evaluate:\n  looks: [{name: kind, metric: knn, k: 1, labels: dataset}]\n")
    lines = []
    with reporting_to(Lines(lines.append)):
        version = run(tmp_path)
    row = next(row for row in Pipeline.load(file).vectors.metrics(version) if row["notes"])
    expected = {"": 16, "{file: out.txt}": 7}.get(held, version.manifest.machine["training"]["held_out"])
    assert json.loads(row["notes"])["n"] + json.loads(row["notes"])["alone"] == expected > 1
    said = [line for line in lines if "too high" in line]
    assert len(said) == (not held) and all("kind judges by 16 pictures" in line for line in said)


@pytest.mark.parametrize("held", ["", "{share: 0.5, seed: 3}"])
def test_nor_do_they_judge_what_is_made_of_them(photos, tmp_path, held):
    """A fused space, and one that begins at the network, know the labels that it learned."""
    trained(tmp_path, "file")
    file = tmp_path / "polyvec.yaml"
    edit(file, "labels: dataset", "labels: dataset" + (held and f", hold_out: {held}"))
    version = run(tmp_path)
    labels = "".join(f"{name},{'xy'[i % 2]}\n" for i, name in enumerate(version.ids))
    (tmp_path / "kinds.csv").write_text("id,label\n" + labels)
    file.write_text(
        file.read_text()
        + f"  plain: {{dataset: photos, embedder: cnn, params: {{{NETWORK}}}}}\n"
        + f"  again: {{dataset: photos, embedder: cnn, params: {{{NETWORK}}}, start: {{space: looks}}}}\n"
        + "  pair: {fuse: [looks, plain], embedder: concat}\n"
        + "evaluate:\n"
        + "".join(
            f"  {name}: [{{name: kind, metric: knn, k: 1, path: kinds.csv}}]\n" for name in ("pair", "plain", "again")
        )
    )
    lines = []
    with reporting_to(Lines(lines.append)):
        run(tmp_path)
    store = Pipeline.load(file).vectors
    found = {}
    for name in ("pair", "plain", "again"):
        row = next(row for row in store.metrics(store.space(name).latest()) if row["notes"])
        found[name] = json.loads(row["notes"])["n"] + json.loads(row["notes"]).get("alone", 0)
    seen = version.manifest.machine["training"]["held_out"] if held else 16
    assert found == {"plain": 16, "pair": seen, "again": seen}
    said = sorted(line.split(":")[0].split()[-1] for line in lines if "training of looks could see" in line)
    assert said == ([] if held else ["again", "pair"])
