"""The optional packages that `make venv` installs are there and fit together."""

import importlib

import pytest


@pytest.mark.parametrize("package", ["torch_geometric.nn", "prefect_dask", "efficientnet_lite_pytorch"])
def test_an_extra_imports(package):
    importlib.import_module(package)


def test_torchvision_works_beside_this_torch():
    from embedders.image.torchvision_ops import import_torchvision

    assert import_torchvision().models.resnet18(weights=None).fc.in_features == 512
