"""The map of a version: its vectors in two dimensions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from storage.space import Version

COLOURS = 12  # labels that get a colour of their own; the rest are grey
POINTS = 500  # rows drawn; t-SNE of more takes seconds


def draw(version: Version, labels: Mapping[str, str]) -> bytes:
    """A PNG of the vectors in two dimensions, coloured by label; without labels the first rows carry their names.

    A version that took rows over is drawn by PCA: it may not take longer to draw than to make.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from evaluation.projection import project

    ids, matrix = version.ids, version.matrix
    known = np.flatnonzero([name in labels for name in ids])
    if not len(known):
        labels, known = {}, np.arange(min(len(ids), POINTS))
    quick = version.manifest.counts.reused > 0
    rows, xy = project(matrix[known], seed=0, limit=POINTS, quick=quick)
    names = ids[known][rows]
    figure = Figure(figsize=(8, 5.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(
        f"{version.manifest.space} @ {version.number}: {len(version):,} x {version.dim}, {len(rows):,} drawn by {'PCA' if quick else 't-SNE'}",
        fontsize=11,
    )
    if labels:
        _scatter(axes, xy, [labels.get(name, "") for name in names])
    else:
        axes.scatter(*xy.T, s=4, c="#bbbbbb")
        for (x, y), name in list(zip(xy, names, strict=True))[:: max(1, len(rows) // 60)]:
            axes.annotate(drawable(str(name)), (x, y), fontsize=7, parse_math=False)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _scatter(axes: Any, xy: Any, labels: Sequence[str]) -> None:
    from matplotlib import colormaps

    values, counts = np.unique(labels, return_counts=True)
    colours = colormaps["Paired"].colors  # type: ignore[attr-defined]
    common = values[np.argsort(-counts, kind="stable")]
    shown = np.array(labels)
    drawn = []
    for i, value in enumerate(common):
        dots = axes.scatter(*xy[shown == value].T, s=9, color=[colours[i] if i < COLOURS else "#cccccc"])
        drawn.append((dots, drawable(value)))
    handles, texts = zip(*drawn[:COLOURS], strict=True)
    axes.legend(handles, texts, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def drawable(text: str) -> str:
    """The beginning of a text as matplotlib takes it."""
    return known_characters(text[:24]).replace("$", r"\$")


def known_characters(text: str) -> str:
    """A text with a question mark for each character that the pictures' font lacks."""
    known = _characters()
    return "".join(c if ord(c) in known else "?" for c in text)


@cache
def _characters() -> frozenset[int]:
    """Code points that the font draws."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(font_file()).get_charmap())


@cache
def font_file() -> str:
    """The font of the pictures, which comes with matplotlib."""
    from matplotlib.font_manager import FontProperties, findfont

    return findfont(FontProperties())
