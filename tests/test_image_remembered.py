"""What torchvision says of its weights is asked once, not by every process that plans."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from embedders.image import remembered
from embedders.image.remembered import of_package

if find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "polyvec"


def never():
    raise AssertionError("it is known")


def test_a_fact_is_found_once(folder):
    assert of_package("torchvision", "a", lambda: "1") == of_package("torchvision", "a", never) == "1"
    assert of_package("torchvision", "b", lambda: "2") == "2" and of_package("torchvision", "a", never) == "1"
    assert [file.name for file in folder.iterdir()] == ["torchvision.json"]


def test_another_state_of_the_package_is_asked_anew(folder, monkeypatch):
    of_package("torchvision", "a", lambda: "1")
    monkeypatch.setattr(remembered, "version", lambda name: "999")
    assert of_package("torchvision", "a", lambda: "2") == "2"


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"stamp": "x", "facts": {"a": "0"}})])
def test_a_damaged_file_costs_nothing(folder, content):
    folder.mkdir()
    (folder / "torchvision.json").write_text(content)
    assert of_package("torchvision", "a", lambda: "1") == of_package("torchvision", "a", never) == "1"


def test_a_folder_that_cannot_be_made_costs_nothing(folder):
    folder.write_text("a file is in the way")
    assert [of_package("torchvision", "a", lambda: "1") for _ in range(2)] == ["1", "1"]


PLAN = """
import sys
from embedders.image.cnn import Cnn
print(Cnn(backbone="mobilenet_v3_small", weights="random", device="cpu").fingerprint)
print("torch" in sys.modules)
"""


def test_planning_needs_no_torch_the_second_time(folder):
    runs = [subprocess.run([sys.executable, "-c", PLAN], capture_output=True, text=True, check=True) for _ in range(2)]
    first, second = (run.stdout.split() for run in runs)
    assert first[0] == second[0] and (first[1], second[1]) == ("True", "False")
