"""The report of a run: a table of results, and for each changed space its neighbours and a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedders.errors import InputError, PolyvecError
from evaluation.neighbours import nearest
from flows.evaluations import Labelled
from flows.pipeline import Pipeline
from flows.steps import ReleaseRef, ScoreRef, VersionRef
from storage.places import AnyPath
from storage.space import Version

COLOURS = 12  # labels that get a colour of their own; the rest are grey
POINTS = 500  # rows drawn; t-SNE of more takes seconds
COMPANIONS = ("macro_f1", "average_precision")  # shown beside the headline
INLINE = 400_000  # characters of pictures that an artifact carries; the server takes half a megabyte


class Row(BaseModel):
    """One line of the results."""

    model_config = ConfigDict(frozen=True)

    space: str
    status: str
    version: int | None = None
    rows: int | None = None
    dim: int | None = None
    seconds: float | None = None
    rows_per_second: float | None = None
    score: str = ""
    scores: tuple[ScoreRef, ...] = ()
    quarantined: int = 0
    reused: int = 0
    path: str = ""

    @classmethod
    def of(cls, ref: VersionRef, scores: Sequence[ScoreRef]) -> Row:
        """The line of a version and its scores."""
        return cls(
            space=ref.space, status="new" if ref.fresh else "up to date", version=ref.version, rows=ref.rows, dim=ref.dim,
            seconds=ref.seconds, rows_per_second=round(ref.rows / max(ref.seconds, 1e-9), 1), score="; ".join(map(headline, scores)), scores=tuple(scores),
            quarantined=ref.quarantined, reused=ref.reused if ref.fresh else 0, path=ref.path,
        )  # fmt: skip


class Results(BaseModel):
    """What a run did. errors: space to messages. release: what it released; None when something failed."""

    model_config = ConfigDict(frozen=True)

    run: str
    rows: tuple[Row, ...]
    errors: dict[str, list[str]] = {}
    release: ReleaseRef | None = None
    report: str = ""


class RunFailedError(PolyvecError):
    """A space failed; the others are committed. results: what was done."""

    def __init__(self, results: Results, exit_code: int) -> None:
        super().__init__("\n".join(f"{name}: {line}" for name, lines in results.errors.items() for line in lines))
        self.results, self.exit_code = results, exit_code


def headline(ref: ScoreRef) -> str:
    """The first score of an evaluation and its companion, what it was measured on, and its baselines in brackets.

    >>> headline(ScoreRef(space="s", version=1, evaluation="kind", scores={"accuracy": 0.75, "majority": 0.2}, n=1200))
    'kind accuracy 0.750, n 1,200 (majority 0.200)'
    """
    (headed, value), *rest = ref.scores.items()
    shown = [f"{ref.evaluation} {headed} {value:.3f}"]
    shown += [f"{metric} {v:.3f}" for metric, v in rest if metric in COMPANIONS]
    shown += [f"n {ref.n:,}"] if ref.n is not None else []
    baselines = []
    for metric, v in rest:
        whose, _, name = metric.removesuffix("]").partition("[")
        if metric in COMPANIONS or (name and whose != headed) or name[:1].isdigit():
            continue  # also a section, the companion of a baseline, another share to train on
        name = name or whose
        wide = f" of dim {ref.sizes[name]['dim']:,}" if name in ref.sizes else ""
        baselines.append(f"{name} {v:.3f}{wide}")
    return ", ".join(shown) + (f" ({', '.join(baselines)})" if baselines else "")


def write_report(pipeline: Pipeline, run: str, rows: Sequence[Row], released: ReleaseRef | None = None) -> AnyPath:
    """Write `report.md` and a picture of each new space under the store's `_reports`; returns the file."""
    folder = pipeline.vectors.paths.report(run)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    sections = []
    for row in rows:
        if row.status != "new":
            continue
        version = pipeline.vectors.space(row.space).version(row.version or "latest")
        pictures[row.space] = f"{row.space}.png"
        (folder / pictures[row.space]).write_bytes(draw(version, labels_of(pipeline, row.space)))
        sections.append(_section(version, pictures[row.space], row.scores))
    report = folder / "report.md"
    pieces = [f"# polyvec run {run}", markdown_table(rows), _told(released, rows), *sections]
    report.write_bytes("\n\n".join(pieces).encode())
    return report


def inline(report: AnyPath) -> str:
    """The report with its pictures inside, for an artifact; pictures past INLINE bytes stay beside the file."""
    text = report.read_bytes().decode()
    room = INLINE
    for picture in sorted(path for path in report.parent.iterdir() if path.name.endswith(".png")):
        data = base64.b64encode(picture.read_bytes()).decode()
        room -= len(data)
        place = (
            f"](data:image/png;base64,{data})"
            if room >= 0
            else f"]({picture.as_uri() if isinstance(picture, Path) else picture})"
        )
        text = text.replace(f"]({picture.name})", place)
    return text


def markdown_table(rows: Sequence[Row]) -> str:
    """The results as a Markdown table."""
    head = ["space", "version", "rows", "dim", "seconds", "rows/s", "score (baseline)", "status"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cells(row)[name] for name in head) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _told(released: ReleaseRef | None, rows: Sequence[Row]) -> str:
    if released is None and all(row.status == "up to date" for row in rows):
        return "No new release: no space has a new version."
    if released is None:
        return "No release: something failed, and `production` stays where it is."
    spaces = ", ".join(f"{name} @ {version}" for name, version in released.spaces.items())
    return f"Release {released.number}{' is production' if released.promoted else ', not promoted'}: {spaces}."


def cells(row: Row) -> dict[str, str]:
    """One line as text, by column."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return {
        "space": row.space, "version": number(row.version, "d"), "rows": number(row.rows, ",d"), "dim": number(row.dim, "d"),
        "seconds": number(row.seconds, ".1f"), "rows/s": number(row.rows_per_second, ",.0f"), "score (baseline)": row.score,
        "status": row.status + "".join(f", {n:,} {what}" for n, what in ((row.reused, "reused"), (row.quarantined, "quarantined")) if n),
        "path": row.path,
    }  # fmt: skip


def neighbours_of(version: Version, rows: Sequence[int], k: int) -> list[list[tuple[str, float]]]:
    """The k nearest other ids of some rows, with their similarity."""
    found, scores = nearest(
        version.matrix, version.matrix[list(rows)], version.manifest.similarity, k, exclude=np.asarray(rows)
    )
    return [
        [(str(version.ids[i]), float(s)) for i, s in zip(line, values, strict=True)]
        for line, values in zip(found, scores, strict=True)
    ]


def _section(version: Version, picture: str, scores: Sequence[ScoreRef]) -> str:
    m = version.manifest
    excluded = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in m.counts.excluded.items() if n) or "0"
    lines = [
        f"## {m.space} @ {m.version}\n",
        f"{m.recipe.kind} on dataset {m.dataset}: {len(version):,} {m.entity} vectors of {m.dim} numbers, {m.similarity}; "
        f"input {m.counts.input:,}, reused {m.counts.reused:,}, excluded {excluded}, quarantined {m.counts.quarantined:,}.\n",
        f"![{m.space}]({picture})\n",
    ]
    if one_hot := next((ref.sizes["one_hot"] for ref in scores if "one_hot" in ref.sizes), None):
        mine = 4 * len(version) * version.dim
        lines.append(
            f"One-hot instead: {one_hot['dim']:,} numbers a vector, not {version.dim:,}; {megabytes(one_hot['bytes'])}, or "
            f"{megabytes(one_hot['sparse_bytes'])} as a sparse matrix, not {megabytes(mine)}.\n"
        )
    if len(version) > 1:
        some = np.random.default_rng(0).permutation(min(len(version), 500))[:5].tolist()
        lines += [
            f"- **{_safe(version.ids[row])}**: {', '.join(_safe(name) for name, _ in line)}"
            for row, line in zip(some, neighbours_of(version, some, 6), strict=True)
        ]
    return "\n".join(lines) + "\n"


def megabytes(n: float) -> str:
    """Bytes for people.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{n / 1e6:,.1f} MB"


def _safe(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else " " if c in "\r\n" else c for c in text)


def labels_of(pipeline: Pipeline, space: str) -> Mapping[str, str]:
    """Labels that an evaluation of the space knows, for colours; empty when there is none."""
    from evaluation.labels import read_labels

    for evaluation in pipeline.evaluations(space):
        if isinstance(evaluation, Labelled):
            try:
                return read_labels(pipeline.base / evaluation.path, evaluation.id, evaluation.label)
            except InputError:  # the evaluation itself says what is wrong
                return {}
    return {}


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
            axes.annotate(_drawable(str(name)), (x, y), fontsize=7, parse_math=False)
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
        drawn.append((dots, _drawable(value)))
    handles, texts = zip(*drawn[:COLOURS], strict=True)
    axes.legend(handles, texts, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def _drawable(text: str) -> str:
    """The beginning of a text, without characters that the picture's font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else "?" for c in text[:24]).replace("$", r"\$")
