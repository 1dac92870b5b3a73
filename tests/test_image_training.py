"""Training a network on a dataset: nothing held out is seen, the seed decides all, and a cut-off training goes on."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from embedders.data import Images
from embedders.errors import InputError
from embedders.image import augment, backbones, checkpoint, layers, training
from embedders.image.augment import Augmentation
from embedders.image.backbones import Preprocessing
from embedders.image.cnn import Cnn
from embedders.image.labels import held_out, split
from embedders.image.options import HoldOut
from embedders.image.pictures import Pictures
from embedders.image.tasks import nt_xent
from embedders.labels import read_labels
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
from flows.pipeline import Pipeline
from flows.steps import embed

torch = pytest.importorskip("torch")

SMALL = {"backbone": "small", "weights": "random", "size": 16, "precision": "fp32", "device": "cpu", "threads": 1}
LABELS = {"labels": "dataset", "epochs": 3, "batch_size": 8}
SIMCLR = {"method": "simclr", "epochs": 3, "batch_size": 8}
BOTH = pytest.mark.parametrize("train", [LABELS, SIMCLR], ids=["labels", "simclr"])


def stripes(folder, count, seed=0):
    """Pictures of stripes, by turns lying and standing, of any phase and colour; of these classes, whatever their pixels."""
    rng, ids = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        wave = (np.arange(20) + rng.integers(8)) % 8 < 4
        pixels = np.where(wave[:, None, None], rng.integers(0, 100, 3), rng.integers(150, 255, 3))
        pixels = np.broadcast_to(pixels, (20, 20, 3)).astype(np.uint8)
        ids.append(f"{i:03}.png")
        Image.fromarray(pixels if i % 2 else np.ascontiguousarray(pixels.swapaxes(0, 1))).save(folder / ids[-1])
    return images(folder, ids, ["lying" if i % 2 else "standing" for i in range(count)])


def images(folder, ids, labels):
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ids]
    return Images(ids, [folder / name for name in ids], digests, labels)


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    return stripes(tmp_path_factory.mktemp("stripes"), 24)


def recipe(train, **options):
    return Cnn.model_validate({**SMALL, **options, "train": train})


def fitted(data, train, **options):
    given = {name: options.pop(name) for name in ("start", "checkpoint", "progress") if name in options}
    return recipe(train, **options).fit(data, **given)


def matrix(encoder, data):
    return np.concatenate([batch.vectors.matrix for batch in encoder.encode(data)])


def alike(a, b):
    """The same bytes in every array."""
    return a.weights.keys() == b.weights.keys() and all(np.array_equal(a.weights[k], b.weights[k]) for k in a.weights)


# What is learned


def test_labels_are_learned(tmp_path):
    data, others = stripes(tmp_path / "a", 64), stripes(tmp_path / "b", 40, seed=1)
    told = {"labels": "dataset", "epochs": 8, "batch_size": 16, "validation": 0.25}
    encoder = fitted(data, told)
    story = encoder.mode["training"]
    assert story["losses"][-1] < 0.75 * story["losses"][0]
    assert (story["pictures"], story["validation"], story["classes"]) == (48, 16, 2)
    assert story["best_epoch"] == 1 + int(np.argmin(story["validation_losses"]))
    assert max(story["validation_accuracy"]) >= 0.9
    assert told_apart(encoder, others) > 0.5 > told_apart(Cnn.model_validate(SMALL).fit(data), others) + 0.2


def told_apart(encoder, data):
    """Mean cosine within the classes less that between them."""
    rows, labels = matrix(encoder, data), np.array(data.labels)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    same = labels[:, None] == labels
    return float((rows @ rows.T)[same].mean() - (rows @ rows.T)[~same].mean())


def test_simclr_learns_without_labels(tmp_path):
    data = replace(stripes(tmp_path, 48), labels=None)
    story = fitted(data, {"method": "simclr", "epochs": 6, "batch_size": 24}).mode["training"]
    assert story["losses"][-1] < story["losses"][0] - 0.3
    assert story["pictures"] == 48 and "classes" not in story


def test_nt_xent_is_the_papers():
    """Equation 1 of arXiv:2002.05709, term by term."""
    rows = np.random.default_rng(0).normal(size=(8, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    terms = []
    for i in range(8):
        j = (i + 4) % 8
        others = [np.exp(unit[i] @ unit[k] / 0.3) for k in range(8) if k != i]
        terms.append(-np.log(np.exp(unit[i] @ unit[j] / 0.3) / sum(others)))
    assert float(nt_xent(torch.from_numpy(rows), 0.3)) == pytest.approx(np.mean(terms))


@BOTH
def test_the_seed_decides_all(striped, train):
    one = fitted(striped, train)
    assert alike(one, fitted(striped, train))
    assert not alike(one, fitted(striped, train, seed=1))
    torch.rand(3)  # what others draw changes nothing
    assert alike(one, fitted(striped, train))


@BOTH
def test_torchs_random_numbers_are_left_alone(striped, train):
    fitted(striped, train)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    fitted(striped, train)
    assert torch.equal(torch.rand(2), expected)


def test_saved_and_loaded(striped, tmp_path):
    encoder = fitted(striped, {**LABELS, "dim": 5})
    encoder.save(tmp_path)
    loaded = Cnn.load(tmp_path)
    assert loaded.dim == 5 and loaded.recipe == encoder.recipe
    assert json.loads(json.dumps(encoder.mode["training"])) == loaded.mode["training"]
    np.testing.assert_array_equal(matrix(loaded, striped), matrix(encoder, striped))


def test_progress_counts_pictures(striped):
    seen = []
    fitted(striped, SIMCLR, progress=lambda *at: seen.append(at))
    assert seen[0] == (8, 72, "pictures") and seen[-1] == (72, 72, "pictures")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


# Cut off and gone on with


class CutOff(BaseException):
    """What a kill is to a run, as far as one in the same process can be."""


def cut(data, train, folder, after, **options):
    """A training that is cut off once so many pictures went through the network."""

    def progress(done, total, unit):
        if done > after:
            raise CutOff

    with pytest.raises(CutOff):
        fitted(data, train, checkpoint=folder, progress=progress, **options)


@pytest.fixture
def at_once(monkeypatch):
    """Every epoch is kept."""
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "train", [{**LABELS, "validation": 0.25, "epochs": 4}, {**SIMCLR, "epochs": 4}, {**LABELS, "epochs": 4, "dim": 3}]
)
def test_a_cut_off_training_gives_what_an_unbroken_one_does(striped, tmp_path, train):
    whole = fitted(striped, train)
    for after in (20, 40, 50):
        cut(striped, train, tmp_path, after)
    steps = []
    again = fitted(striped, train, checkpoint=tmp_path, progress=lambda done, *_: steps.append(done))
    assert steps[0] > 24, "it began anew"
    assert alike(whole, again) and again.mode == whole.mode


@pytest.mark.usefixtures("at_once")
def test_a_finished_training_is_not_done_again(striped, tmp_path):
    whole = fitted(striped, LABELS, checkpoint=tmp_path)
    steps = []
    again = fitted(striped, LABELS, checkpoint=tmp_path, progress=lambda *at: steps.append(at))
    assert alike(whole, again) and len(steps) == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", ["cut short", "empty", "text"])
def test_a_damaged_checkpoint_is_not_gone_on_with(striped, tmp_path, how):
    cut(striped, SIMCLR, tmp_path, 30)
    [file] = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes({"cut short": content[: len(content) // 2], "empty": b"", "text": b"text" * 99}[how])
    assert alike(fitted(striped, SIMCLR, checkpoint=tmp_path), fitted(striped, SIMCLR))


@pytest.mark.usefixtures("at_once")
def test_the_checkpoint_of_another_training_is_not_gone_on_with(striped, tmp_path):
    cut(striped, SIMCLR, tmp_path, 30)
    for other in ({**SIMCLR, "temperature": 0.5}, {**SIMCLR, "epochs": 4}):
        assert alike(fitted(striped, other, checkpoint=tmp_path / "x"), fitted(striped, other))
        cut(striped, other, tmp_path, 30)
    relabelled = replace(striped, labels=striped.labels[::-1])
    cut(relabelled, LABELS, tmp_path, 20)
    assert alike(fitted(striped, LABELS, checkpoint=tmp_path), fitted(striped, LABELS))


@pytest.mark.usefixtures("at_once")
def test_a_checkpoint_that_cannot_be_written_costs_nothing(striped, tmp_path):
    (tmp_path / "taken").write_text("a file stands where the folder should")
    assert alike(fitted(striped, SIMCLR, checkpoint=tmp_path / "taken" / "x"), fitted(striped, SIMCLR))


def test_checkpoints_are_not_written_all_the_time(striped, tmp_path):
    fitted(striped, SIMCLR, checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())  # it took less than five seconds


# What is not learned from


@BOTH
def test_pictures_held_out_leave_no_trace(striped, tmp_path, train):
    """Other pixels and labels of what is held out change nothing of the network."""
    train = {**train, "hold_out": {"share": 0.3, "seed": 1}}
    held = held_out(striped.ids, HoldOut(share=0.3, seed=1))
    assert 3 <= len(held) <= 12
    for name in striped.ids:
        (tmp_path / name).write_bytes((striped.files[0].parent / name).read_bytes())
        if name in held:
            Image.effect_noise((20, 20), 90).save(tmp_path / name)
    labels = ["other" if name in held else label for name, label in zip(striped.ids, striped.labels, strict=True)]
    clean, spoiled = fitted(striped, train), fitted(images(tmp_path, striped.ids, labels), train)
    assert alike(clean, spoiled)
    assert clean.mode["training"]["held_out"] == len(held)
    assert clean.mode["training"]["hold_out"] == {"share": 0.3, "seed": 1}
    assert not alike(clean, fitted(striped, {**train, "hold_out": None}))
    assert len(matrix(clean, striped)) == len(striped)  # they get their vectors all the same


def test_held_out_by_a_file(striped, tmp_path):
    (tmp_path / "ids.txt").write_text("".join(f"{name}\n" for name in striped.ids[:5]) + "unknown\n", encoding="utf-8")
    train = {**LABELS, "hold_out": {"file": str(tmp_path / "ids.txt")}}
    story = fitted(striped, train).mode["training"]
    assert (story["held_out"], story["pictures"] + story["validation"], story["hold_out"]) == (5, 19, "file")
    assert alike(fitted(striped, train), fitted(striped.select(range(5, 24)), LABELS))
    (tmp_path / "ids.txt").write_text("unknown\n", encoding="utf-8")
    with pytest.raises(InputError, match="none of which is a picture's"):
        fitted(striped, train)


def test_a_share_is_the_same_of_a_dataset_that_grows():
    ids = [f"p{i}" for i in range(2000)]
    rule = HoldOut(share=0.2, seed=3)
    assert held_out(ids[:1000], rule) == held_out(ids, rule) & set(ids[:1000])
    assert 320 <= len(held_out(ids, rule)) <= 480
    assert held_out(ids, rule) != held_out(ids, HoldOut(share=0.2, seed=4))


def test_what_early_stopping_looks_at():
    codes = np.repeat([0, 1, 2], [20, 10, 1])
    learned, seen = split(codes, 0.2, seed=0)
    assert sorted([*learned, *seen]) == list(range(31))
    assert np.bincount(codes[seen], minlength=3).tolist() == [4, 2, 0]
    assert not np.array_equal(seen, split(codes, 0.2, seed=1)[1])
    assert len(split(codes, 0.0, seed=0)[1]) == 0
    assert np.bincount(codes[split(codes, 0.99, seed=0)[0]]).tolist() == [1, 1, 1]


def test_training_ends_when_it_gets_no_better(striped):
    """With labels that mean nothing, the pictures looked at are told worse and worse."""
    rng = np.random.default_rng(0)
    data = replace(striped, labels=[str(value) for value in rng.permutation(np.arange(24) % 2)])
    story = fitted(data, {**LABELS, "epochs": 40, "patience": 2, "validation": 0.4, "smoothing": 0}).mode["training"]
    assert story["epochs"] == story["best_epoch"] + 2 < 40
    story = fitted(data, {**LABELS, "epochs": 6, "patience": 0, "validation": 0.4}).mode["training"]
    assert story["epochs"] == 6


# Labels and pictures as they come


def test_labels_of_a_file(striped, tmp_path):
    rows = [
        ("photo", "kind", "note"),
        *((name, label, "x") for name, label in zip(striped.ids[:20], striped.labels, strict=False)),
    ]
    rows += [("unknown.png", "lying", ""), (striped.ids[20], "", "none"), (striped.ids[21], "once", "")]
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        with (tmp_path / f"labels{suffix}").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows)
    told = {**LABELS, "id": "photo", "label": "kind"}
    a, b = (fitted(striped, {**told, "labels": str(tmp_path / f"labels{suffix}")}) for suffix in (".csv", ".tsv"))
    assert alike(a, b)
    story = a.mode["training"]
    counts = [story[name] for name in ("classes", "unlabelled", "labels_without_picture", "validation")]
    assert counts == [3, 3, 1, 2]  # the class of one picture is learned, and never looked at
    by_dataset = replace(striped, labels=[*striped.labels[:20], None, "once", None, None])
    assert alike(a, fitted(by_dataset, LABELS))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,class\na,1\n", "column 'label', which does not exist"),
        ("", "expected one of: none"),
        ("id,label\na,1\na,2\n", "two values of 'label' for the id 'a'"),
        ("id,label\na,1,3\n", "3 fields on line 2"),
        ("id,label\nzz,1\nzy,2\n", "have a label; expected some"),
        (b"id,label\n\xff,1\n", "UTF-8"),
        (None, "does not exist"),
    ],
)
def test_labels_that_cannot_be_used(striped, tmp_path, text, match):
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=match):
        fitted(striped, {**LABELS, "labels": str(path)})


def test_a_label_may_be_said_twice(tmp_path):
    (tmp_path / "l.csv").write_bytes(b'\xef\xbb\xbfid,label\r\na,x\r\na,x\r\n\r\nb,"y, z"\r\n')
    assert read_labels(tmp_path / "l.csv", "id", "label") == {"a": "x", "b": "y, z"}


def test_labels_that_do_not_suffice(striped):
    for labels, match in (
        (None, "a dataset that names none"),
        (["one"] * 24, "all 'one'; expected at least two"),
        ([None] * 24, "0 have a label"),
    ):
        with pytest.raises(InputError, match=match):
            fitted(replace(striped, labels=labels), LABELS)


def test_pictures_that_cannot_be_decoded_are_left_out(striped, tmp_path):
    for name in striped.ids:
        (tmp_path / name).write_bytes((striped.files[0].parent / name).read_bytes())
    (tmp_path / striped.ids[4]).write_text("no picture")
    data = images(tmp_path, striped.ids, striped.labels)
    encoder = fitted(data, LABELS)
    assert encoder.mode["training"]["undecodable"] == 1
    assert alike(encoder, fitted(data.select([row for row in range(24) if row != 4]), LABELS))
    for name in striped.ids:
        (tmp_path / name).write_text("no picture")
    with pytest.raises(InputError, match=r"0 of which can be decoded.*no picture"):
        fitted(images(tmp_path, striped.ids, striped.labels), LABELS)
    assert [batch.rejected[0].code for batch in encoder.encode(data.select([4]))] == ["not_an_image"]


def test_a_picture_that_goes_away_while_training_decodes_it_again(striped, tmp_path):
    for name in striped.ids:
        (tmp_path / name).write_bytes((striped.files[0].parent / name).read_bytes())
    data = images(tmp_path, striped.ids, striped.labels)
    look = Preprocessing(16, 16, (0.0,) * 3, (1.0,) * 3)
    pictures = Pictures(data, range(24), look, pixel_limit=10**6, threads=1, memory=4 * 3 * 16 * 16)
    data.files[7].unlink()
    with pytest.raises(InputError, match="was read before"):
        pictures.take(np.array([1, 7]))
    assert pictures.take(np.array([2, 3, 8])).shape == (3, 16, 16, 3)


def test_pictures_beyond_the_memory_are_decoded_again(striped, monkeypatch):
    from embedders.image import pictures

    kept, read, real = fitted(striped, LABELS), [], pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda *args, **options: read.append(args) or real(*args, **options))
    monkeypatch.setattr("embedders.image.tuning.MIB", 3 * 16 * 16)
    assert alike(kept, fitted(striped, {**LABELS, "memory": 9}))
    few = len(read)
    assert alike(kept, fitted(striped, {**LABELS, "memory": 24}))
    assert len(read) - few == 24 < few


def test_a_learning_rate_that_is_too_high(striped, monkeypatch):
    with pytest.raises(InputError, match=r"loss of (nan|inf) in step .* Lower train.learning_rate: it is 1e\+30"):
        fitted(striped, {**LABELS, "learning_rate": 1e30})


@pytest.mark.parametrize("count", [2, 3, 9])
@BOTH
def test_few_pictures(tmp_path, count, train):
    data = stripes(tmp_path, count)
    encoder = fitted(data, {**train, "batch_size": 4})
    assert np.isfinite(matrix(encoder, data)).all()


def test_one_picture(tmp_path):
    with pytest.raises(InputError, match="expected at least two"):
        fitted(stripes(tmp_path, 1), SIMCLR)


# Options


@pytest.mark.parametrize(
    ("train", "match"),
    [
        ({}, "labels: dataset or a file"),
        ({"method": "simclr", "labels": "dataset"}, "no labels with"),
        ({**LABELS, "layers": "head"}, "a dim with layers: head"),
        ({**LABELS, "hold_out": {}}, "one of share and file"),
        ({**LABELS, "hold_out": {"share": 0.1, "file": "x"}}, "one of share and file"),
        ({**LABELS, "batch_size": 1}, "greater than or equal to 2"),
        ({**LABELS, "crop": 0}, "greater than 0"),
        ({**LABELS, "epoch": 3}, "Extra inputs"),
    ],
)
def test_wrong_options(train, match):
    with pytest.raises(ValidationError, match=match):
        recipe(train)


def test_fingerprint(tmp_path):
    for name, content in (("a", "id,label\nx,1\n"), ("b", "id,label\nx,1\n"), ("c", "id,label\nx,2\n")):
        (tmp_path / f"{name}.csv").write_text(content)
    a, b, c = (recipe({**LABELS, "labels": str(tmp_path / f"{name}.csv")}) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint  # the content counts, not the place
    held = [recipe({**LABELS, "hold_out": {"file": str(tmp_path / f"{name}.csv")}}).fingerprint for name in "abc"]
    assert held[0] == held[1] != held[2]
    base = recipe(LABELS)
    assert recipe({**LABELS, "memory": 7}).fingerprint == base.fingerprint
    changed = [
        {"epochs": 4},
        {"layers": "last"},
        {"hold_out": {"share": 0.1}},
        {"hold_out": {"share": 0.1, "seed": 1}},
        {"flip": False},
    ]
    prints = {recipe({**LABELS, **one}).fingerprint for one in changed} | {base.fingerprint, a.fingerprint}
    assert len(prints) == len(changed) + 2
    assert Cnn.model_validate(SMALL).fingerprint not in prints


def test_relative_files_are_in_the_pipelines_folder(tmp_path):
    made = recipe({**LABELS, "labels": "l.csv", "hold_out": {"file": "h.txt"}}).located(tmp_path).train
    assert (made.labels, made.hold_out.file) == (str(tmp_path / "l.csv"), str(tmp_path / "h.txt"))
    assert recipe(LABELS).located(tmp_path).train.labels == "dataset"


# Layers


@pytest.mark.parametrize(
    ("backbone", "first", "learning"),
    [
        ("efficientnet_lite0", "_blocks.15.", {"_blocks.15", "_conv_head", "_bn1"}),
        ("resnet18", "layer4.1.", {"layer4.1"}),
        ("mobilenet_v3_small", "features.11.", {"features.11", "features.12"}),
        ("efficientnet_b0", "features.7.0.", {"features.7", "features.8"}),
        ("squeezenet1_1", "features.12.", {"features.12"}),
        ("vit_b_16", "encoder.layers.encoder_layer_11.", {"encoder.layers", "encoder.ln"}),
        ("alexnet", "features.10.", {"features.10"}),
        ("small", "3.", {"3.first", "3.second", "3.short"}),
    ],
)
def test_the_last_block(backbone, first, learning):
    network = backbones._headless(backbone, backbones.preprocessing(backbone), 0)
    layers.choose(network, "last")
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert names[0].startswith(first)
    assert {".".join(name.split(".")[:2]).removesuffix(".weight").removesuffix(".bias") for name in names} == learning
    layers.choose(network.requires_grad_(False), "head")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    layers.choose(network, "all")
    assert all(parameter.requires_grad for parameter in network.parameters())


def changed(before, after):
    """Names of the arrays that are others."""
    return {name for name in before.weights if not np.array_equal(before.weights[name], after.weights[name])}


def test_only_the_chosen_layers_learn(striped):
    before = Cnn.model_validate(SMALL).fit(striped)
    assert changed(before, fitted(striped, LABELS)) == before.weights.keys()
    last = changed(before, fitted(striped, {**LABELS, "layers": "last"}))
    assert last == {name for name in before.weights if name.startswith("3.")}
    head = fitted(striped, {**LABELS, "layers": "head", "dim": 4})
    assert not changed(before, head) and head.weights[layers.ADDED].shape == (4, 256)
    assert matrix(head, striped).shape == (24, 4)
    start = fitted(striped, {**LABELS, "layers": "head", "dim": 4, "epochs": 1, "learning_rate": 1e-9})
    assert not np.allclose(start.weights[layers.ADDED], head.weights[layers.ADDED])


def test_a_trained_network_keeps_the_statistics_of_its_batch_norms(striped):
    before = fitted(striped, SIMCLR)
    after = fitted(striped, LABELS, start=before)
    statistics = {name for name in before.weights if "running" in name}
    assert changed(before, after) == before.weights.keys() - statistics


def test_dropout_is_off_and_statistics_are_on_where_they_learn():
    network = backbones._headless("mobilenet_v3_small", backbones.preprocessing("mobilenet_v3_small"), 0)
    layers.choose(network, "last")
    layers.learning(network, statistics=True)
    on = {name for name, module in network.named_modules() if module.training}
    assert on == {name for name in on if name.startswith(("features.11", "features.12"))} and len(on) == 4
    layers.learning(network, statistics=False)
    assert not any(module.training for module in network.modules())


# Going on from another space


def test_another_dataset_through_a_trained_network(striped, tmp_path):
    trained, others = fitted(striped, {**LABELS, "dim": 6}), stripes(tmp_path, 10, seed=2)
    through = Cnn.model_validate(SMALL).fit(others, start=trained)
    assert alike(trained, through) and through.dim == 6
    np.testing.assert_array_equal(matrix(through, others), matrix(trained, others))
    further = fitted(others, {**LABELS, "dim": None, "epochs": 1}, start=trained)
    assert further.dim == 6 and len(changed(trained, further)) > 10


def test_a_start_that_does_not_fit(striped):
    trained = fitted(striped, {**LABELS, "epochs": 1})
    with pytest.raises(InputError, match=r"size 32, pooling average, and a start of .small. of size 16"):
        fitted(striped, LABELS, start=trained, size=32)
    words = WordVectors(Word2Vec(dim=2), ["a"], np.ones((1, 2), np.float32))
    with pytest.raises(InputError, match="a start of kind 'word2vec'"):
        fitted(striped, LABELS, start=words)


PIPELINE = """\
store: ./vectors
datasets:
  known: {{kind: images, path: known}}
  new: {{kind: images, path: new}}
spaces:
  tuned: {{dataset: known, embedder: cnn, params: {{backbone: small, weights: random, size: 16, threads: 1, train: {train}}}}}
  looks: {{dataset: new, embedder: cnn, params: {{backbone: small, weights: random, size: 16, threads: 1}}, start: {{space: tuned}}}}
"""


@pytest.fixture
def project(tmp_path):
    known = stripes(tmp_path / "known", 16)
    stripes(tmp_path / "new", 6, seed=5)
    lines = [f"{name},{label}" for name, label in zip(known.ids, known.labels, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *lines, ""]), encoding="utf-8")
    file = tmp_path / "polyvec.yaml"
    file.write_text(PIPELINE.format(train="{labels: labels.csv, epochs: 3, batch_size: 4}"), encoding="utf-8")
    return file


def test_a_pipeline_that_judges_honestly(project):
    """One space learns from some pictures, another encodes pictures that were never learned from."""
    pipeline = Pipeline.load(project)
    for name in ("tuned", "looks"):
        assert embed(pipeline, name, "run")[name].fresh
    tuned, looks = (pipeline.vectors.space(name).version() for name in ("tuned", "looks"))
    assert looks.manifest.upstream == {"tuned": 1}
    assert tuned.manifest.machine["training"]["labels_without_picture"] == 0
    new = images(project.parent / "new", sorted(looks.ids), None)
    np.testing.assert_array_equal(looks.matrix, matrix(tuned.encoder(), new))
    assert not embed(pipeline, "tuned", "again")["tuned"].fresh
    text = (project.parent / "labels.csv").read_text(encoding="utf-8")
    (project.parent / "labels.csv").write_text(text.replace("lying", "flat"), encoding="utf-8")
    assert embed(Pipeline.load(project), "tuned", "third")["tuned"].version == 2


def test_a_wrong_option_is_told_with_its_line(project):
    project.write_text(PIPELINE.format(train="{labels: labels.csv, epoch: 3}"), encoding="utf-8")
    with pytest.raises(
        InputError,
        match=r"polyvec.yaml:6: spaces.tuned.params.train.epoch: got the unknown key 'epoch'.*Did you mean 'epochs'",
    ):
        Pipeline.load(project)


@pytest.mark.usefixtures("at_once")
def test_a_run_that_is_cut_off_while_it_trains(project, tmp_path):
    pipeline = Pipeline.load(project)
    folder = pipeline.vectors.paths.unfinished("tuned")

    def progress(done, total, unit):
        if done > 30:
            raise CutOff

    with pytest.raises(CutOff):
        embed(pipeline, "tuned", "first", progress=progress)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["training.safetensors"]
    steps = []
    embed(pipeline, "tuned", "second", progress=lambda done, _, unit: unit == "pictures" and steps.append(done))
    assert steps[0] > 24 and not folder.exists()
    [first] = pipeline.vectors.space("tuned").versions()
    embed(pipeline, "tuned", "third", force=True)
    assert pipeline.vectors.space("tuned").version().matrix.tobytes() == first.matrix.tobytes()
    with pytest.raises(CutOff):
        embed(pipeline, "tuned", "fourth", force=True, progress=progress)
    steps.clear()
    embed(
        pipeline, "tuned", "fifth", force=True, progress=lambda done, _, unit: unit == "pictures" and steps.append(done)
    )
    assert steps[0] == 4  # a forced run begins anew


CHILD = """\
import sys
from embedders.image import checkpoint
from embedders.text.vectors import WordVectors
from embedders.text.word2vec import Word2Vec
from flows.pipeline import Pipeline
from flows.steps import embed
checkpoint.EVERY = 0.0
embed(Pipeline.load(sys.argv[1]), "tuned", "killed", progress=lambda done, *_: print(done, flush=True))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_trains(project, tmp_path):
    train = "{labels: labels.csv, epochs: 30, batch_size: 4, patience: 0}"
    project.write_text(PIPELINE.format(train=train), encoding="utf-8")
    pipeline, rng = Pipeline.load(project), np.random.default_rng(0)
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", CHILD, str(project)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})  # fmt: skip
        with run:
            for _ in range(rng.integers(8, 20)):
                run.stdout.readline()
            time.sleep(rng.random() * 0.05)
            run.send_signal(signal.SIGKILL)
    steps = []
    embed(pipeline, "tuned", "last", progress=lambda done, _, unit: unit == "pictures" and steps.append(done))
    assert steps[0] > 60
    cut_off = pipeline.vectors.space("tuned").version().matrix
    embed(pipeline, "tuned", "whole", force=True)
    assert pipeline.vectors.space("tuned").version().matrix.tobytes() == cut_off.tobytes()


# Augmentation

LOOK = Preprocessing(20, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), np.uint8)


def test_without_augmentation_the_centre_stays(noise):
    np.testing.assert_array_equal(augment.plain(noise, LOOK), noise[:, 2:18, 2:18])
    same = Augmentation(area=1, flip=False, jitter=0).apply(noise, LOOK, np.random.default_rng(0))
    np.testing.assert_allclose(same, noise[:, 2:18, 2:18], atol=1e-3)
    look = replace(LOOK, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    np.testing.assert_allclose(
        augment.plain(noise, look), (noise[:, 2:18, 2:18] - [10, 20, 30]) / np.array([2, 4, 8]), rtol=1e-6, atol=1e-5
    )


def test_pieces_are_resized_as_torch_does(noise):
    boxes = np.array([[0, 0, 20, 20], [3, 5, 10, 7], [0, 13, 20, 7], [8, 8, 4, 4], [1, 0, 8, 16], [0, 0, 8, 20]], float)
    found = augment._cut(noise, boxes, np.zeros(6, bool), np.stack([np.eye(3)] * 6), np.zeros(6), LOOK)
    for picture, (top, left, height, width), piece in zip(noise, boxes.astype(int), found, strict=True):
        inside = (
            slice(1, -1),
            slice(1, -1),
        )  # at its edge a piece goes on into the picture, and a cut picture does not
        cut_out = torch.from_numpy(picture[top : top + height, left : left + width].astype(np.float32)).permute(2, 0, 1)
        expected = torch.nn.functional.interpolate(cut_out[None], (16, 16), mode="bilinear", align_corners=False)
        margin = max(1, 16 // min(height, width))
        inside = (slice(margin, -margin), slice(margin, -margin))
        np.testing.assert_allclose(piece[inside], expected[0].permute(1, 2, 0).numpy()[inside], atol=1e-3)


def test_half_of_the_pictures_are_mirrored():
    pixels = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), np.uint8)
    look = replace(LOOK, short_side=16)
    found = Augmentation(area=1, flip=True, jitter=0).apply(pixels, look, np.random.default_rng(0))
    same, mirrored = (np.abs(found - other).max((1, 2, 3)) < 0.01 for other in (pixels, pixels[:, :, ::-1]))
    assert (same ^ mirrored).all() and 160 < mirrored.sum() < 240


def test_colours_change_and_greys_stay_grey(noise):
    every = Augmentation(area=1, flip=False, jitter=0.5)
    found = every.apply(noise, LOOK, np.random.default_rng(0))
    assert 0 <= found.min() and found.max() <= 255
    assert (np.abs(found - noise[:, 2:18, 2:18]).mean((1, 2, 3)) > 2).all()
    greys = np.repeat(noise[..., :1], 3, axis=3)
    tinted = every.apply(greys, LOOK, np.random.default_rng(0))
    np.testing.assert_allclose(tinted.max(3), tinted.min(3), atol=0.5)
    without = Augmentation(area=1, flip=False, jitter=0, grey=1).apply(noise, LOOK, np.random.default_rng(0))
    luma = noise[:, 2:18, 2:18] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(without, np.repeat(luma[..., None], 3, axis=3), atol=0.5)


def test_contrast_keeps_the_mean_grey_and_brightness_scales_it():
    pixels = np.random.default_rng(0).integers(100, 140, (50, 16, 16, 3), np.uint8)
    look = replace(LOOK, short_side=16)
    found = Augmentation(area=1, flip=False, jitter=0.3).apply(pixels, look, np.random.default_rng(1))
    luma = np.array([0.299, 0.587, 0.114])
    before, after = ((array @ luma).reshape(50, -1) for array in (pixels, found))
    factors = after.mean(1) / before.mean(1)
    assert 0.75 < factors.min() < 0.85 < 1.15 < factors.max() < 1.25
    spread = after.std(1) / before.std(1) / factors
    assert 0.75 < spread.min() < 0.85 < 1.15 < spread.max() < 1.25


def test_pieces_lie_within_and_cover_what_they_should():
    boxes = Augmentation(area=0.3, flip=False, jitter=0)._boxes(5000, 100, 64, np.random.default_rng(0))
    assert boxes.min() >= 0 and (boxes[:, :2] + boxes[:, 2:]).max() <= 100 + 1e-9
    area, ratio = boxes[:, 2] * boxes[:, 3] / 1e4, boxes[:, 2] / boxes[:, 3]
    assert 0.28 < area.min() < 0.35 and area.max() > 0.95
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.34


def test_the_learning_rate_rises_and_falls():
    pace = training.Pace(10, 8, 1.0, 1.0, 0.0, 0, 0)
    rates = [pace.at(step, 200) for step in range(200)]
    top = int(np.argmax(rates))
    assert rates[top] == 1 and top == 9 and rates[-1] < 1e-3
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


# The conformance suite, on networks that were trained


@pytest.mark.slow
@pytest.mark.parametrize("train", [{**LABELS, "labels": "FILE"}, SIMCLR], ids=["labels", "simclr"])
def test_it_conforms(tmp_path, train):
    from embedders.testing import CHECKS, EXAMPLES, Case

    example = EXAMPLES[Images](tmp_path)
    rows = [f"{name},{group}" for name, group in example.groups.items()]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *rows, ""]), encoding="utf-8")
    if "labels" in train:
        train = {**train, "labels": str(tmp_path / "labels.csv")}
    case = Case(recipe({**train, "epochs": 6, "batch_size": 4}), example, tmp_path)
    for check in CHECKS:
        check(case)
