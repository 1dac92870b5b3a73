"""A contact sheet: some pictures of a space, each with its nearest neighbours."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from embedders.data import Images
from evaluation.neighbours import nearest
from flows.pictures import font_file, known_characters
from storage.space import Version

if TYPE_CHECKING:
    from PIL.Image import Image

QUERIES, NEIGHBOURS = 6, 6
SIDE, GAP, TEXT, HEAD = 100, 8, 30, 26  # pixels: of a tile, between tiles, of the lines below one, of the title
SAME, OTHER, INK, PALE, GREY = "#1a7f37", "#b42318", "#222222", "#666666", "#d4d4d4"


def contact_sheet(version: Version, images: Images, labels: Mapping[str, str]) -> bytes:
    """A PNG: in each line a picture and its nearest others, with ids, similarities and labels.

    Tiles show the centre square. A picture that is gone, was changed since, or cannot be decoded is a grey tile that
    says so. The same version and files give the same bytes.

    Parameters
    ----------
    version : at least two rows.
    images : its dataset as it is now.
    labels : where ids have some, the pictures that are shown are of different labels, and labels that agree are green.
    """
    ids: Any = version.ids
    queries = _spread(ids, labels)
    near, scores = nearest(
        version.matrix, version.matrix[queries], version.manifest.similarity, NEIGHBOURS, exclude=np.array(queries)
    )
    digests = version.table(["digest"]).column("digest")
    found = _Pictures(images, dict(version.manifest.recipe.params), {ids[row] for row in [*queries, *near.ravel()]})
    sheet = _Sheet(len(queries), near.shape[1])
    m = version.manifest
    sheet.write(GAP, 6, f"{m.space} @ {m.version}: left a picture, right its nearest of {len(version):,} by {m.similarity}", INK, 12)  # fmt: skip
    for line, (query, others, values) in enumerate(zip(queries, near.tolist(), scores.tolist(), strict=True)):
        own = labels.get(ids[query])
        for column, row in enumerate([query, *others]):
            label = labels.get(ids[row])
            told = label or "" if column == 0 else " ".join(filter(None, [f"{values[column - 1]:.3f}", label]))
            colour = PALE if column == 0 or own is None or label is None else SAME if label == own else OTHER
            sheet.tile(line, column, found.tile(ids[row], digests[row].as_py()), ids[row], told, colour)
    return sheet.png()


def _spread(ids: Sequence[str], labels: Mapping[str, str]) -> list[int]:
    """Rows to ask for, drawn by a fixed seed: of as many labels as there are, in the order of labels."""
    labels = labels if any(name in labels for name in ids) else dict.fromkeys(ids, "")
    drawn: Counter[str] = Counter()
    rounds = []
    for row in np.random.default_rng(0).permutation(len(ids)).tolist():
        if (label := labels.get(ids[row])) is not None:
            drawn[label] += 1
            rounds.append((drawn[label], row))
    first = sorted(rounds, key=lambda pair: pair[0])[:QUERIES]  # stable: the first of each label, then the second
    return sorted((row for _, row in first), key=lambda row: (labels[ids[row]], row))


class _Pictures:
    """Tiles of the pictures as they are now."""

    def __init__(self, images: Images, params: Mapping[str, Any], wanted: set[str]) -> None:
        from embedders.image.decode import PIXEL_LIMIT

        self._images = images
        self._limit = params.get("pixel_limit", PIXEL_LIMIT)
        self._place = {name: row for row, name in enumerate(images.ids) if name in wanted}
        self._tiles: dict[str, Image | str] = {}

    def tile(self, id: str, digest: str | None) -> Image | str:
        """The centre square of a picture, or why there is none. digest : what it was embedded as."""
        if id not in self._tiles:
            self._tiles[id] = self._decoded(id, digest)
        return self._tiles[id]

    def _decoded(self, id: str, digest: str | None) -> Image | str:
        from PIL import Image

        from embedders.image.decode import DecodeError, decode

        row = self._place.get(id)
        if row is None:
            return "gone"
        if digest is not None and digest != self._images.digests[row]:
            return "changed since"
        try:
            content = self._images.read(row)
            pixels = decode(self._images.location(row), content, short_side=SIDE, crop=SIDE, pixel_limit=self._limit)
        except DecodeError as error:
            return error.code.replace("_", " ")
        return Image.fromarray(pixels)


@dataclass(frozen=True, eq=False)
class _Sheet:
    """The picture that is drawn. lines : of tiles. others : tiles in a line beside the first."""

    lines: int
    others: int

    @cached_property
    def _image(self) -> Image:
        from PIL import Image

        width = max(2 * GAP + SIDE + (GAP + (GAP + SIDE) * self.others if self.others else 0), 420)
        return Image.new("RGB", (width, HEAD + self.lines * (SIDE + TEXT)), "white")

    @cached_property
    def _draw(self) -> Any:
        from PIL import ImageDraw

        return ImageDraw.Draw(self._image)

    def tile(self, line: int, column: int, content: Image | str, id: str, told: str, colour: str) -> None:
        """Put a picture, or the reason why there is none, in its place, with two lines below."""
        x = GAP + column * (SIDE + GAP) + (GAP if column else 0)
        y = HEAD + line * (SIDE + TEXT)
        if isinstance(content, str):
            self._draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), fill=GREY)
            self.write(x + 4, y + SIDE // 2 - 6, content, INK, 10, SIDE - 8)
        else:
            self._image.paste(content, (x, y))
            self._draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=GREY)  # white pictures have an edge
        self.write(x, y + SIDE + 1, id, INK, 9, SIDE)
        self.write(x, y + SIDE + 13, told, colour, 9, SIDE)

    def write(self, x: int, y: int, text: str, colour: str, size: int, width: int | None = None) -> None:
        """A line of text; where it is wider than `width` pixels, its middle is left out."""
        font = _font(size)
        text = known_characters(" ".join(text.split()))
        shown, kept = text, min(len(text), 200)
        while width is not None and kept and font.getlength(shown) > width:
            kept -= 1
            shown = text[: kept // 3] + "…" + text[len(text) - (kept - kept // 3) :]
        self._draw.text((x, y), shown, fill=colour, font=font)

    def png(self) -> bytes:
        """The bytes, of 256 colours: a third of the size."""
        out = io.BytesIO()
        self._image.quantize(256).save(out, "PNG", optimize=True)
        return out.getvalue()


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(font_file(), size, layout_engine=ImageFont.Layout.BASIC)
