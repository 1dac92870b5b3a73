"""Embedders by name: ours, those of others, and what goes wrong."""

import pytest

from embedders import registry
from embedders.base import Embedder
from embedders.errors import InputError, PolyvecError
from embedders.graph.node2vec import Node2Vec
from embedders.registry import GROUP, embedder_class, known
from embedders.text.word2vec import Word2Vec


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package that declares one entry point, the way pip leaves it on the path."""

    def put(name, target, source):
        (tmp_path / "foreign_package.py").write_text(source)
        info = tmp_path / "foreign_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n")
        monkeypatch.syspath_prepend(tmp_path)
        known.cache_clear()

    yield put
    known.cache_clear()


def test_ours_are_found_by_name():
    assert embedder_class("word2vec") is Word2Vec
    assert embedder_class("node2vec") is Node2Vec
    assert list(known()) == sorted(known())
    assert all(point.group == GROUP for point in known().values())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"Got embedder 'word3vec'; installed are: .*node2vec.*word2vec"):
        embedder_class("word3vec")


def test_a_plug_in_of_another_package(install):
    source = "from embedders.graph.node2vec import Node2Vec\nclass Other(Node2Vec):\n    kind = 'other'\n"
    install("other", "foreign_package:Other", source)
    assert "other" in known() and "word2vec" in known()
    found = embedder_class("other")
    assert issubclass(found, Embedder) and found.kind == "other" and found.__module__ == "foreign_package"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Thing = 3", "foreign_package:Thing"),
        ("class Thing: kind = 'wrong'", "foreign_package:Thing"),
        ("from embedders.text.word2vec import Word2Vec as Thing", "foreign_package:Thing"),  # of another kind
    ],
    ids=["a number", "a class", "another kind"],
)
def test_an_entry_point_that_leads_elsewhere(install, source, target, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "foreign_package", raising=False)
    install("wrong", target, source)
    with pytest.raises(InputError, match="expected an Embedder class whose kind is 'wrong'"):
        embedder_class("wrong")


def test_nothing_installed(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    known.cache_clear()
    try:
        with pytest.raises(PolyvecError, match="pip install -e"):
            known()
    finally:
        known.cache_clear()


def test_a_plug_in_that_cannot_be_imported(install):
    install("other", "nowhere.at:All", "")
    with pytest.raises(InputError, match=r"'nowhere.at:All' of the package foreign-package cannot be imported"):
        embedder_class("other")
