"""Backbones and weight files: every family gives pooled features; bad files are refused, and never run."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from embedders.digests import file_digest
from embedders.errors import InputError, MissingPackageError
from embedders.image import backbones, weights
from embedders.image.backbones import build, rebuild, state

torch = pytest.importorskip("torch")

FAMILIES = {
    "resnet18": 512,
    "resnet50": 2048,
    "mobilenet_v3_small": 576,
    "mobilenet_v2": 1280,
    "efficientnet_b0": 1280,
    "densenet121": 1024,
    "convnext_tiny": 768,
    "regnet_y_400mf": 440,
    "vgg11": 512,
    "alexnet": 256,
    "squeezenet1_1": 512,
    "shufflenet_v2_x1_0": 1024,
    "mnasnet0_5": 1280,
    "vit_b_16": 768,
    "swin_t": 768,
    "googlenet": 1024,
    "inception_v3": 2048,
}


def features(model, preprocessing):
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return model(torch.randn(2, 3, preprocessing.crop, preprocessing.crop, generator=generator)).numpy()


@pytest.fixture
def resnet18():
    model = backbones.import_torchvision().models.resnet18(weights=None)
    return model.state_dict()


def check(backbone, width, tmp_path=None):
    model, preprocessing = build(backbone, "random", 1)
    first = features(model, preprocessing)
    assert first.shape == (2, width) and np.isfinite(first).all()
    arrays = state(model)
    assert not any(name.endswith("num_batches_tracked") for name in arrays)
    again = rebuild(backbone, arrays, preprocessing, bf16=False)
    np.testing.assert_allclose(features(again, preprocessing), first, atol=1e-5 * max(1, np.abs(first).max()))


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "resnet18", "shufflenet_v2_x1_0", "efficientnet_lite0"])
def test_small_families(backbone):
    check(backbone, {**FAMILIES, "efficientnet_lite0": 1280}[backbone])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", FAMILIES)
def test_families(backbone):
    check(backbone, FAMILIES[backbone])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", FAMILIES)
def test_families_read_a_whole_state_dict(backbone, tmp_path):
    """The files people have: with classifier (and auxiliary heads), as torch saves them, and as safetensors."""
    from safetensors.torch import save_file

    options = {"init_weights": False} if backbone in {"googlenet", "inception_v3"} else {}
    whole = backbones.import_torchvision().models.get_model(backbone, weights=None, **options).eval()
    torch.save(whole.state_dict(), tmp_path / "a.pth")
    save_file({k: v.contiguous().clone() for k, v in whole.state_dict().items()}, tmp_path / "a.safetensors")
    body, look = build(backbone, str(tmp_path / "a.pth"), 0)
    first = features(body, look)
    second = features(*build(backbone, str(tmp_path / "a.safetensors"), 0))
    np.testing.assert_array_equal(first, second)
    names = set(dict(body.named_parameters()))
    assert names < set(dict(whole.named_parameters()))
    assert all(torch.equal(body.state_dict()[name], whole.state_dict()[name]) for name in names)


def test_random_weights_come_from_the_seed_and_leave_torch_alone():
    before = torch.random.get_rng_state()
    models = [build("mobilenet_v3_small", "random", seed)[0] for seed in (1, 1, 2)]
    kernels = [next(model.parameters()) for model in models]
    assert torch.equal(kernels[0], kernels[1]) and not torch.equal(kernels[0], kernels[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_preprocessing_follows_the_weights():
    assert build("efficientnet_lite0", "package", 0)[1] == backbones.LITE0_PREPROCESSING
    look = backbones.preprocessing("efficientnet_b1")
    assert (look.short_side, look.crop, look.interpolation) == (255, 240, "bilinear")
    assert look.mean == pytest.approx((123.675, 116.28, 103.53))
    assert backbones.preprocessing("efficientnet_b0").interpolation == "bicubic"


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module", "safetensors", "headless", "other_classes"])
def test_local_files(resnet18, tmp_path, wrap):
    from safetensors.torch import save_file

    body = {k: v for k, v in resnet18.items() if not k.startswith("fc.")}
    path = tmp_path / ("a.safetensors" if wrap == "safetensors" else "a.pth")
    if wrap == "safetensors":
        save_file(dict(resnet18), path)
    else:
        held = {
            "plain": resnet18,
            "state_dict": {"state_dict": resnet18, "epoch": 3},
            "model": {"model": resnet18},
            "module": {"state_dict": OrderedDict((f"module.{k}", v) for k, v in resnet18.items())},
            "headless": body,
            "other_classes": {**body, "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)},
        }[wrap]
        torch.save(held, path)
    model, _ = build("resnet18", str(path), 0)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in body.items())


def test_old_names_of_densenet(tmp_path):
    old = {"features.denseblock1.denselayer1.norm.1.weight": torch.zeros(2), "classifier.bias": torch.zeros(2)}
    assert list(weights.tensors(old, "a")) == ["features.denseblock1.denselayer1.norm1.weight", "classifier.bias"]


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_pickled_code_is_refused_and_not_run(tmp_path, form):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"a": Evil(str(marker))}))
    else:
        torch.save({"a": Evil(str(marker))}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(InputError, match="refused"):
        build("resnet18", str(path), 0)
    assert not marker.exists()


def test_damaged_files(resnet18, tmp_path):
    torch.save(resnet18, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pt").write_text("no weights at all")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("a.txt", "hello")
    for name in ("cut.pth", "empty.pth", "text.pt", "cut.safetensors", "text.safetensors", "other.pth"):
        with pytest.raises(InputError, match=name):
            build("resnet18", str(tmp_path / name), 0)


def test_files_of_another_kind(resnet18, tmp_path):
    path = tmp_path / "a.pth"

    def fails(held, match, backbone="resnet18"):
        torch.save(held, path)
        with pytest.raises(InputError, match=match):
            build(backbone, str(path), 0)

    fails(torch.zeros(3), "no tensors by name")
    fails({}, "no tensors by name")
    fails({"conv1.weight": 3}, "are no tensors")
    fails(resnet18, "missing .* unexpected", "mobilenet_v3_small")
    fails({**resnet18, "extra": torch.zeros(1)}, "unexpected \\['extra'\\]")
    fails({k: v for k, v in resnet18.items() if k != "conv1.weight"}, "missing \\['conv1.weight'\\]")
    fails({**resnet18, "conv1.weight": torch.zeros(64, 3, 3, 3)}, "do not fit.*conv1.weight")
    fails({**resnet18, "conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}, "NaN or infinity")


def test_names():
    with pytest.raises(InputError, match="resnet50"):
        build("resnet_50", "random", 0)
    with pytest.raises(InputError, match="expected 'efficientnet_lite0'"):
        build("fasterrcnn_resnet50_fpn", "random", 0)
    with pytest.raises(InputError, match="packaged weights exist for: efficientnet_lite0"):
        build("resnet50", "package", 0)
    with pytest.raises(InputError, match="weights: package"):
        build("efficientnet_lite0", "default", 0)
    with pytest.raises(InputError, match="which is no file"):
        build("resnet50", "none.pth", 0)
    with pytest.raises(InputError, match="expected 'package'"):
        build("resnet50", "imagenet", 0)


def test_a_failed_download_says_what_to_do(monkeypatch):
    from urllib.error import URLError

    def offline(*_, **options):
        assert options["weights_only"] is True
        raise URLError("no route")

    api = backbones.import_torchvision().models._api
    monkeypatch.setattr(api, "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"did not arrive .*weights: package"):
        build("mobilenet_v3_small", "default", 0)
    assert "MobileNet_V3_Small_Weights.IMAGENET1K_V1 https://" in backbones.default_name("mobilenet_v3_small")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"polyvec\[image\]"):
        weights.locate("efficientnet_lite0", "package")


def test_the_digest_follows_the_file(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    first = file_digest(path)
    path.write_bytes(b"other")
    assert file_digest(path) != first
