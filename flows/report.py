"""The report of a run: a table of results, and for each changed space its neighbours and a picture."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedders.data import Images
from embedders.errors import PolyvecError
from evaluation.neighbours import nearest
from flows import recommend
from flows.contact_sheet import contact_sheet
from flows.evaluations import NearDuplicates
from flows.fusion import no_better
from flows.labels import known_labels, read_dataset
from flows.pictures import draw
from flows.pipeline import Pipeline
from flows.steps import ReleaseRef, ScoreRef, VersionRef
from flows.trials_table import table
from storage import tables
from storage.places import AnyPath
from storage.space import Version

COUNTS = ("pairs", "exact_groups")
COMPANIONS = ("macro_f1", "rmse", "average_precision", "r_precision")  # shown beside the headline
PAIRS = 5  # near duplicates that are named
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
    shown += [f"{metric} {v:.3f}" for metric, v in rest if _companion(metric)]
    shown += [f"n {ref.n:,}"] if ref.n is not None else []
    baselines = []
    for metric, v in rest:
        whose, _, name = metric.removesuffix("]").partition("[")
        if _companion(metric) or (name and whose != headed) or name[:1].isdigit():
            continue  # also a section, the companion of a baseline, another share to train on
        name = name or whose
        wide = f" of dim {ref.sizes[name]['dim']:,}" if name in ref.sizes else ""
        baselines.append(f"{name} {v:,.0f}" if metric in COUNTS else f"{name} {v:.3f}{wide}")
    return ", ".join(shown) + (f" ({', '.join(baselines)})" if baselines else "")


def warnings(rows: Sequence[Row]) -> list[str]:
    """Where a fused space is no better than one of the spaces it is made of, by an evaluation that judged both."""
    return [
        f"{row.space}: {score.evaluation} {said}; fusing does not help here. Leave out the spaces that hurt, or choose weights (weigh_by)."
        for row in rows
        for score in row.scores
        if (said := no_better(score.scores, score.views))
    ]


def _companion(metric: str) -> bool:
    """Whether a score is shown beside the headline, as those within the first k are; one of a baseline is not."""
    return metric in COMPANIONS or ("@" in metric and "[" not in metric)


def write_report(pipeline: Pipeline, run: str, rows: Sequence[Row], released: ReleaseRef | None = None) -> AnyPath:
    """Write `report.md` and pictures of each new space under the store's `_reports`; returns the file."""
    folder = pipeline.vectors.paths.report(run)
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for row in rows:
        if row.status.startswith("new"):
            version = pipeline.vectors.space(row.space).version(row.version or "latest")
            if row.space in pipeline.derived:
                sections.append(recommend.section(version, _safe))
                continue
            pictures, lack = _pictures(pipeline, version)
            for name, content in pictures.items():
                (folder / name).write_bytes(content)
            sections.append(_section(pipeline, version, list(pictures), row.scores) + lack)
    report = folder / "report.md"
    cautions = [f"**Warning.** {_safe(text)}" for text in warnings(rows)]
    pieces = [f"# polyvec run {run}", markdown_table(rows), *cautions, _told(released, rows), *sections]
    report.write_bytes("\n\n".join(pieces).encode())
    return report


def _pictures(pipeline: Pipeline, version: Version) -> tuple[dict[str, bytes], str]:
    """PNGs by file name: the map, and of pictures the contact sheet; and why there is no sheet where there should be."""
    space = version.manifest.space
    labels = known_labels(pipeline, space)
    found, lack = {f"{space}.png": draw(version, labels)}, ""
    if len(version) > 1 and (pictured := _pictured(pipeline, space)):
        try:  # (no space has a name with a tilde)
            found[f"{space}~neighbours.png"] = contact_sheet(version, read_dataset(pipeline, pictured), labels)
        except PolyvecError as error:
            lack = f"\nNo contact sheet: {_safe(str(error))}\n"
    return found, lack


def _pictured(pipeline: Pipeline, space: str) -> str:
    """The space of pictures that a space is, or is fused from, by way of others, too; empty when there is none."""
    if pipeline.spec(space).fuse:
        return next(filter(None, (_pictured(pipeline, view) for view in pipeline.upstreams(space))), "")
    return space if issubclass(type(pipeline.recipe(space)).data, Images) else ""


def inline(report: AnyPath) -> str:
    """The report with its pictures inside, small ones first, for an artifact; what is past INLINE stays beside the file."""
    text = report.read_bytes().decode()
    room = INLINE
    pictures = {path: path.read_bytes() for path in report.parent.iterdir() if path.name.endswith(".png")}
    for picture, content in sorted(pictures.items(), key=lambda pair: (len(pair[1]), pair[0].name)):
        data = base64.b64encode(content).decode()
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


def _section(pipeline: Pipeline, version: Version, pictures: Sequence[str], scores: Sequence[ScoreRef]) -> str:
    m = version.manifest
    excluded = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in m.counts.excluded.items() if n) or "0"
    lines = [
        f"## {m.space} @ {m.version}\n",
        f"{m.recipe.kind} on dataset {m.dataset}: {len(version):,} {m.entity} vectors of {m.dim} numbers, {m.similarity}; "
        f"input {m.counts.input:,}, reused {m.counts.reused:,}, excluded {excluded}, quarantined {m.counts.quarantined:,}.\n",
        *_told_of_rows(pipeline, version),
        *(f"![{m.space}]({picture})\n" for picture in pictures),
    ]
    lines += _told_of_views(version, scores)
    lines += trials_lines(version)
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


def _told_of_views(version: Version, scores: Sequence[ScoreRef]) -> list[str]:
    """Of a fused space: which spaces hold how many entities, what they weigh, and a table of single views beside it."""
    machine, lines = version.manifest.machine, []
    if patterns := machine.get("patterns"):
        held = ", ".join(f"{_safe(views)} {n:,}" for views, n in patterns.items())
        lines.append(f"Entities by the spaces that hold them: {held}.\n")
    if weights := machine.get("weights"):
        given = ", ".join(f"{_safe(space)} {weight:g}" for space, weight in weights.items())
        chosen = machine.get("weighed_by")
        how = (
            f" (chosen by {chosen['measure']}: {chosen['score']:.3f}, equal weights {chosen['equal']:.3f})"
            if chosen
            else ""
        )
        lines.append(f"Weights: {given}{how}.\n")
    for score in scores:
        if score.views:
            headline, value = next(iter(score.scores.items()))
            lines += [
                f"| {_safe(score.evaluation)} | {headline} |",
                "|---|---|",
                f"| **{_safe(score.space)}** | {value:.3f} |",
            ]
            lines += [f"| {_safe(view)} | {score.scores[f'{headline}[{view}]']:.3f} |" for view in score.views]
            lines.append("")
    return lines


def _told_of_rows(pipeline: Pipeline, version: Version) -> list[str]:
    """Why rows are in quarantine, how many have the same content, and which are nearly the same."""
    m = version.manifest
    lines = []
    if rejected := Counter(row["code"] for row in pipeline.vectors.quarantine(version)):
        codes = sorted(rejected.items(), key=lambda pair: (-pair[1], pair[0]))
        lines.append(f"In quarantine: {', '.join(f'{code} {n:,}' for code, n in codes)}.\n")
    content = version.table(["digest"]).column("digest").drop_null()
    counts = np.asarray(content.value_counts().field("counts"))
    if (counts > 1).any():
        same = counts[counts > 1]
        lines.append(
            f"Exact duplicates: {same.sum():,} rows of {len(same):,} contents; each has its own id and vector.\n"
        )
    for asked in pipeline.evaluations(m.space):
        if isinstance(asked, NearDuplicates):
            pairs = tables.near_duplicates(version.paths, m.space, version.number, asked.name)
            shown = [
                f"- {_safe(pair['id'])}, {_safe(pair['other'])}: {pair['cosine']:.3f}{' (same content)' if pair['exact'] else ''}"
                for pair in pairs[:PAIRS]
            ]
            if shown:
                lines += [f"Most alike of {len(pairs):,} pairs listed by {_safe(asked.name)}:\n", *shown, ""]
    return lines


def trials_lines(version: Version) -> list[str]:
    """The trials that a version was chosen from, as a Markdown table."""
    columns, rows, said = table(version)
    if not rows:
        return []
    lines = [columns, ["---"] * len(columns), *([_safe(cell) for cell in row] for row in rows)]
    return [said + "\n", *(f"| {' | '.join(line)} |" for line in lines), ""]


def megabytes(n: float) -> str:
    """Bytes for people.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{n / 1e6:,.1f} MB"


def _safe(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>|#" else " " if c in "\r\n" else c for c in text)
