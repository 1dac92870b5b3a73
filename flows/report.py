"""The report of a run: a table of results, and for each changed space its neighbours and a picture."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embedders.data import Images
from embedders.errors import PolyvecError
from flows import recommend
from flows.contact_sheet import contact_sheet
from flows.fusion import no_better
from flows.labels import known_labels, read_dataset
from flows.pictures import draw
from flows.pipeline import Pipeline
from flows.report_spaces import safe, section
from flows.steps import ReleaseRef, ScoreRef, VersionRef
from storage.places import AnyPath
from storage.space import Version

COUNTS = ("pairs", "exact_groups")
COMPANIONS = ("macro_f1", "rmse", "average_precision", "r_precision")  # shown beside the headline
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
                sections.append(recommend.section(version, safe))
                continue
            pictures, lack = _pictures(pipeline, version)
            for name, content in pictures.items():
                (folder / name).write_bytes(content)
            sections.append(section(pipeline, version, list(pictures), row.scores) + lack)
    report = folder / "report.md"
    cautions = [f"**Warning.** {safe(text)}" for text in warnings(rows)]
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
            lack = f"\nNo contact sheet: {safe(str(error))}\n"
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
