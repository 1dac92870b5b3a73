"""Fused convolutions, pooling, compilation and equal pictures: the same vectors as the plain network gives."""

import hashlib
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from embedders.data import Images
from embedders.errors import InputError, MissingPackageError
from embedders.image import backbones, compiled, timm_models
from embedders.image import encoder as running
from embedders.image.cnn import Cnn
from embedders.image.fused import fuse, is_fused, rounded
from embedders.image.pooling import pooled

torch = pytest.importorskip("torch")

SMALL = {"backbone": "mobilenet_v3_small", "weights": "random", "precision": "fp32", "device": "cpu", "threads": 1}
FAMILIES = ("resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121", "convnext_tiny", "regnet_y_400mf", "vgg11", "squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet0_5", "googlenet", "inception_v3", "swin_t", "vit_b_16")  # fmt: skip


def noise(count, crop=224):
    return torch.randn(count, 3, crop, crop, generator=torch.Generator().manual_seed(0))


def relative(found, exact):
    return float(((found.float() - exact).norm(dim=1) / exact.norm(dim=1)).max())


def check_fused(backbone):
    network, look = backbones.build(backbone, "package" if backbone == backbones.LITE0 else "random", 0)
    for norm in (layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)):
        if backbone != backbones.LITE0:  # fresh ones do nothing, and folding nothing proves nothing
            norm.running_mean.normal_(0, 0.1), norm.running_var.uniform_(0.5, 2), norm.bias.data.normal_(0, 0.1)
    x = noise(2, look.crop)
    with torch.inference_mode():
        exact = network(x)
        found = fuse(network, x.shape, bf16=False)
        assert any(str(node.target).startswith("mkldnn.") for node in found.graph.nodes)
        assert relative(found(x), exact) < 1e-5
        assert relative(found(x[1:]), exact[1:]) < 1e-5  # another batch than it was made for
        torch.testing.assert_close(network(x), exact)  # left as it was
    return found


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small", "efficientnet_lite0"])
def test_fused_gives_the_plain_networks_numbers(backbone):
    assert is_fused(check_fused(backbone))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", FAMILIES)
def test_families_fused(backbone):
    check_fused(backbone)


def test_nothing_is_left_to_do_between_convolutions_of_resnet18():
    network, _ = backbones.build("resnet18", "random", 0)
    targets = [str(node.target) for node in fuse(network, (1, 3, 224, 224), bf16=False).graph.nodes]
    assert sum("pointwise_.binary" in name for name in targets) == 8
    assert not any("bn" in name or name == "relu" or "<built-in function add>" in name for name in targets)


def test_sensitive_layers_stay_exact():
    network, _ = backbones.build("resnet18", "random", 0)
    x = noise(1)
    with torch.inference_mode():
        exact, low = network(x), fuse(network, x.shape, bf16=True)(x)
        every = fuse(network, x.shape, bf16=True, sensitive=("conv1", *(f"layer{i}" for i in range(1, 5))))(x)
    assert 1e-4 < relative(low, exact) < 1e-2 and relative(every, exact) < 1e-5


def test_a_rounded_kernel_keeps_its_sum():
    kernels = torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    low = rounded(kernels)
    assert low.dtype == torch.bfloat16 and low.shape == kernels.shape
    plain, kept = (
        (each.double().sum((2, 3)) - kernels.double().sum((2, 3))).abs().max() for each in (kernels.bfloat16(), low)
    )
    assert kept < plain / 20
    changed = (low != kernels.bfloat16()).flatten(2).sum(2)
    assert changed.max() == 1  # every other number is the nearest one
    single = torch.randn(8, 4, 1, 1)
    assert torch.equal(rounded(single), single.bfloat16())


@pytest.mark.parametrize("crop", [64, 72])  # 72 = 8 * 9: odd after three layers, so that the kernels are padded
def test_paddings_of_one_side(crop):
    network, _ = backbones.build(backbones.LITE0, "package", 0)
    x = noise(2, crop)
    found = fuse(network, x.shape, bf16=False)
    assert any(node.target == "flip" for node in found.graph.nodes) == (crop == 64)
    with torch.inference_mode():
        assert relative(found(x), network(x)) < 1e-5


class Branches(torch.nn.Module):
    """Sums that may not be written in place: of the input, of a result that is read again, of a view."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm = torch.nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(0.5)

    def forward(self, x):
        y = self.a(x)
        z = self.b(x) + x
        view = y[:, :, 1:]
        w = self.c(z) + y
        return torch.cat([w.flatten(1), view.flatten(1), (self.norm(self.b(z)) + y).relu().flatten(1), y.flatten(1)], 1)


def test_sums_of_what_is_still_read():
    torch.manual_seed(0)
    network, x = Branches().eval(), noise(2, 8)
    with torch.inference_mode():
        before = x.clone()
        assert relative(fuse(network, x.shape, bf16=False)(x), network(x)) < 1e-6
        assert torch.equal(x, before)


def test_what_cannot_be_traced_runs_as_it_is(monkeypatch):
    def fails(*_, **__):
        raise torch.fx.proxy.TraceError("values decide")

    network, look = backbones.build("resnet18", "random", 0)
    arrays, x = backbones.state(network), noise(2)
    monkeypatch.setattr(backbones, "fuse", fails)
    for bf16, limit in ((False, 1e-5), (True, 1e-2)):
        other = backbones.rebuild("resnet18", arrays, look, bf16=bf16, batch=4)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            assert not is_fused(other) and relative(other(x), network(x)) < limit


def test_the_manifest_says_how_the_network_ran(pictures, tmp_path, monkeypatch):
    data = dataset(pictures)
    encoder = Cnn(**SMALL | {"precision": "bf16"}).fit(data)
    expected = matrix(encoder, data)
    assert encoder.mode["network"] == "fused"
    encoder.save(tmp_path)
    monkeypatch.setattr(backbones, "fuse", _failing)
    with pytest.raises(InputError, match="ran in bf16 with fused convolutions"):
        matrix(Cnn.load(tmp_path), data)
    plain = Cnn(**SMALL | {"precision": "bf16"}).fit(data)
    assert plain.mode["network"] == "plain" and not np.array_equal(matrix(plain, data), expected)
    monkeypatch.undo()
    plain.save(tmp_path)
    again = Cnn.load(tmp_path)
    assert np.array_equal(matrix(again, data), matrix(plain, data)) and again.mode["network"] == "plain"


def test_gem_is_the_formula():
    network, look = backbones.build("resnet18", "random", 0, "gem")
    plain, _ = backbones.build("resnet18", "random", 0)
    x = noise(2)
    with torch.inference_mode():
        layers = torch.nn.Sequential(*list(plain.children())[:-2])
        expected = np.clip(layers(x).numpy().astype(float), 1e-6, None) ** 3
        np.testing.assert_allclose(network(x), expected.mean((2, 3)) ** (1 / 3), rtol=1e-4)
        again = backbones.rebuild("resnet18", backbones.state(network), look, bf16=False, pooling="gem", batch=2)
        assert relative(again(x), network(x)) < 1e-5


def test_a_layer_is_averaged_over_places():
    network, _ = backbones.build("resnet18", "random", 0, "layer2.1")
    plain, _ = backbones.build("resnet18", "random", 0)
    x = noise(2)
    with torch.inference_mode():
        stem = torch.nn.Sequential(plain.conv1, plain.bn1, plain.relu, plain.maxpool, plain.layer1, plain.layer2)
        torch.testing.assert_close(network(x), stem(x).mean((2, 3)))
    assert not any(name.startswith("layer3") for name in backbones.state(network))


def test_poolings_that_are_not_there():
    with pytest.raises(InputError, match=r"a layer of resnet18, such as .*layer4"):
        backbones.build("resnet18", "random", 0, "layer5")
    network, _ = backbones.build("resnet18", "random", 0)
    network.spare = torch.nn.Identity()
    with pytest.raises(InputError, match="a layer that resnet18 does not run"):
        pooled(network, "spare", "resnet18", 224)
    vit, look = backbones.build("vit_b_16", "random", 0)
    with pytest.raises(InputError, match="does not end in a feature map"):
        pooled(vit, "gem", "vit_b_16", look.crop)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five pictures of noise; 1 and 4 have the bytes of 0 and 2."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(5):
        tiles = Image.fromarray(rng.integers(0, 256, (2 + 3 * i, 3 + 2 * i, 3), np.uint8))
        tiles.resize((60, 50), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    for copy, first in ((1, 0), (4, 2)):
        (folder / f"{copy}.png").write_bytes((folder / f"{first}.png").read_bytes())
    return folder


def dataset(folder):
    files = sorted(folder.iterdir())
    return Images([f.stem for f in files], files, [hashlib.sha256(f.read_bytes()).hexdigest() for f in files])


def matrix(encoder, data):
    return np.concatenate([batch.vectors.matrix for batch in encoder.encode(data)])


def test_equal_pictures_are_computed_once(pictures, monkeypatch):
    data, decoded, real = dataset(pictures), [], running.decode
    monkeypatch.setattr(
        running, "decode", lambda path, *rest, **options: decoded.append(path) or real(path, *rest, **options)
    )
    encoder = Cnn(**SMALL, batch_size=2).fit(data)
    found = list(encoder.encode(data))
    assert len(decoded) == 3
    assert [i for batch in found for i in batch.vectors.ids] == list(data.ids)
    assert [d for batch in found for d in batch.digests] == list(data.digests)
    vectors = np.concatenate([batch.vectors.matrix for batch in found])
    assert np.array_equal(vectors[0], vectors[1]) and not np.array_equal(vectors[0], vectors[2])


def test_an_equal_picture_that_changed_lends_nothing(pictures, tmp_path):
    for file in pictures.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = dataset(tmp_path)
    encoder = Cnn(**SMALL).fit(data)
    right = matrix(encoder, data)
    (tmp_path / "0.png").write_bytes((tmp_path / "3.png").read_bytes())  # 1 is still what 0 was
    (tmp_path / "2.png").unlink()  # and 4 what 2 was
    [batch] = encoder.encode(data)
    assert [row.id for row in batch.rejected] == ["2"]
    assert list(batch.vectors.ids) == ["0", "1", "3", "4"]
    assert list(batch.digests) == [data.digests[i] for i in (3, 1, 3, 4)]
    np.testing.assert_allclose(batch.vectors.matrix, right[[3, 1, 3, 4]], atol=1e-5)


def test_normalize(pictures):
    data = dataset(pictures)
    plain, unit = (matrix(Cnn(**SMALL, normalize=on).fit(data), data) for on in (False, True))
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=1e-5, atol=1e-7)


def test_pooling_saves_and_loads(pictures, tmp_path):
    data = dataset(pictures)
    encoder = Cnn(**SMALL, pooling="features.5").fit(data)
    encoder.save(tmp_path)
    np.testing.assert_array_equal(matrix(Cnn.load(tmp_path), data), matrix(encoder, data))
    prints = {Cnn(**SMALL, pooling=p, normalize=n).fingerprint for p in ("average", "gem") for n in (False, True)}
    assert len(prints) == 4


@pytest.mark.parametrize("trouble", ["no compiler", "a compiler that fails"])
def test_without_a_working_compiler_it_runs_silently(pictures, tmp_path, monkeypatch, capfd, trouble):
    data = dataset(pictures)
    expected = matrix(Cnn(**SMALL, compile=False).fit(data), data)
    if trouble == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    else:
        monkeypatch.setattr(torch, "compile", lambda *_, **__: _failing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = matrix(Cnn(**SMALL, compile=True).fit(data), data)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert capfd.readouterr() == ("", "")


def _failing(*_, **__):
    raise RuntimeError("the compiler found no header")


def test_when_compiling_pays(monkeypatch):
    monkeypatch.setattr(compiled, "has_compiler", lambda: True)
    assert compiled.pays("auto", compiled.PAYS, fused=False) and compiled.pays(True, 1, fused=True)
    assert not compiled.pays("auto", compiled.PAYS, fused=True)
    assert not compiled.pays("auto", compiled.PAYS - 1, fused=False) and not compiled.pays(False, 10**9, fused=False)
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)
    assert not compiled.pays(True, 10**9, fused=False)


def test_the_faster_of_two_is_found():
    once, often = torch.nn.Identity(), torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 5, padding=2) for _ in range(20)])
    x = noise(1, 64)
    assert compiled.faster(once, often, x, lambda network, given: network(given))
    assert not compiled.faster(often, once, x, lambda network, given: network(given))


@pytest.mark.slow
def test_compiled_gives_the_same_vectors(pictures):
    if not compiled.has_compiler():
        pytest.skip("no C++ compiler")
    data = dataset(pictures)
    plain, fast = (matrix(Cnn(**{**SMALL, "threads": 2}, compile=on).fit(data), data) for on in (False, True))
    np.testing.assert_allclose(fast, plain, atol=1e-5 * np.linalg.norm(plain, axis=1).max())
    assert os.environ.get("TORCHINDUCTOR_FREEZING") is None
    encoder = Cnn(**SMALL, compile=True).fit(data)
    matrix(encoder, data)
    assert encoder.mode["network"] == "compiled"


def test_timm():
    pytest.importorskip("timm")
    network, look = backbones.build("timm:resnet18", "random", 0)
    assert (look.crop, look.interpolation) == (224, "bicubic") and look.short_side >= 235
    x = noise(1)
    with torch.inference_mode():
        found = backbones.rebuild("timm:resnet18", backbones.state(network), look, bf16=False, batch=1)
        assert is_fused(found) and relative(found(x), network(x)) < 1e-5
    with pytest.raises(InputError, match="timm:resnet18"):
        backbones.build("timm:resnet_18", "random", 0)


def test_timm_is_an_extra(monkeypatch):
    monkeypatch.setattr(timm_models, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"polyvec\[timm\]"):
        backbones.build("timm:resnet18", "random", 0)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "weights"), [("efficientnet_lite0", "package"), ("resnet18", "random"), ("resnet50", "random")])  # fmt: skip
def test_bf16_keeps_directions_and_neighbours(shared_data, backbone, weights):
    files = sorted(shared_data("images_clothing").rglob("*.jpg"))
    data = Images([f.name for f in files], files, [str(f) for f in files])
    recipe = {"backbone": backbone, "weights": weights, "device": "cpu"}
    found = [matrix(Cnn(**recipe, precision=p).fit(data), data) for p in ("fp32", "bf16")]
    exact, low = (m.astype(float) / np.linalg.norm(m.astype(float), axis=1, keepdims=True) for m in found)
    assert (exact * low).sum(1).min() >= 0.999
    near = [np.argsort(-(m @ m.T - 9 * np.eye(len(m))), axis=1)[:, :10] for m in (exact, low)]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*map(np.ndarray.tolist, near), strict=True)]
    assert np.mean(shared) >= 0.95


PEAK = """
import sys
from pathlib import Path
from embedders.data import Images
from embedders.image.cnn import Cnn
file, count = Path(sys.argv[1]), int(sys.argv[2])
names = [str(i) for i in range(count)]
data = Images(names, [file] * count, names)
recipe = {"backbone": "mobilenet_v3_small", "weights": "random", "precision": "fp32", "device": "cpu", "threads": 2}
for batch in Cnn(**recipe).fit(data).encode(data):
    pass
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("side", "few", "many"), [((300, 300), 100, 1500), ((4896, 3672), 8, 40)])
def test_memory_is_flat(tmp_path, side, few, many):
    """Fifteen times the files, and eighteen megapixels: the same peak."""
    if not os.path.exists("/proc/self/status"):  # noqa: PTH110
        pytest.skip("peaks are read from /proc")
    Image.effect_noise(side, 50).convert("RGB").save(tmp_path / "a.jpg")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "a.jpg")]
    done = [subprocess.run([*command, str(n)], capture_output=True, text=True, check=True) for n in (few, many)]
    small, large = (int(one.stdout) for one in done)
    assert large <= 1.2 * small
