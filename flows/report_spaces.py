"""What the report of a run tells of one version: counts, views, trials, neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from evaluation.neighbours import nearest
from flows.evaluations import NearDuplicates
from flows.pipeline import Pipeline
from flows.steps import ScoreRef
from flows.trials_table import table
from storage import tables
from storage.space import Version

PAIRS = 5  # near duplicates that are named


def neighbours_of(version: Version, rows: Sequence[int], k: int) -> list[list[tuple[str, float]]]:
    """The k nearest other ids of some rows, with their similarity."""
    found, scores = nearest(
        version.matrix, version.matrix[list(rows)], version.manifest.similarity, k, exclude=np.asarray(rows)
    )
    return [
        [(str(version.ids[i]), float(s)) for i, s in zip(line, values, strict=True)]
        for line, values in zip(found, scores, strict=True)
    ]


def section(pipeline: Pipeline, version: Version, pictures: Sequence[str], scores: Sequence[ScoreRef]) -> str:
    """What is told of a version, as Markdown. pictures : files or data URIs, in the order they are shown."""
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
            f"- **{safe(version.ids[row])}**: {', '.join(safe(name) for name, _ in line)}"
            for row, line in zip(some, neighbours_of(version, some, 6), strict=True)
        ]
    return "\n".join(lines) + "\n"


def _told_of_views(version: Version, scores: Sequence[ScoreRef]) -> list[str]:
    """Of a fused space: which spaces hold how many entities, what they weigh, and a table of single views beside it."""
    machine, lines = version.manifest.machine, []
    if patterns := machine.get("patterns"):
        held = ", ".join(f"{safe(views)} {n:,}" for views, n in patterns.items())
        lines.append(f"Entities by the spaces that hold them: {held}.\n")
    if weights := machine.get("weights"):
        given = ", ".join(f"{safe(space)} {weight:g}" for space, weight in weights.items())
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
                f"| {safe(score.evaluation)} | {headline} |",
                "|---|---|",
                f"| **{safe(score.space)}** | {value:.3f} |",
            ]
            lines += [f"| {safe(view)} | {score.scores[f'{headline}[{view}]']:.3f} |" for view in score.views]
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
                f"- {safe(pair['id'])}, {safe(pair['other'])}: {pair['cosine']:.3f}{' (same content)' if pair['exact'] else ''}"
                for pair in pairs[:PAIRS]
            ]
            if shown:
                lines += [f"Most alike of {len(pairs):,} pairs listed by {safe(asked.name)}:\n", *shown, ""]
    return lines


def trials_lines(version: Version) -> list[str]:
    """The trials that a version was chosen from, as a Markdown table."""
    columns, rows, said = table(version)
    if not rows:
        return []
    lines = [columns, ["---"] * len(columns), *([safe(cell) for cell in row] for row in rows)]
    return [said + "\n", *(f"| {' | '.join(line)} |" for line in lines), ""]


def megabytes(n: float) -> str:
    """Bytes for people.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{n / 1e6:,.1f} MB"


def safe(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return "".join("\\" + c if c in "\\`*_[]<>|#" else " " if c in "\r\n" else c for c in text)
