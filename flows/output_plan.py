"""What has to be made of the entries of `outputs:`, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flows.outputs import Recommend
from storage.changes import recipe_changes
from storage.recommendations import check_lists
from storage.space import Version

if TYPE_CHECKING:
    from flows.pipeline import Pipeline
    from flows.plan import SpacePlan

SIDES = ("users", "items")


@dataclass(frozen=True)
class OutputPlan:
    """What happens to one output. latest: the version it has now."""

    name: str
    action: Literal["recommend", "up to date"]
    reason: str
    latest: Version | None
    forced: bool = False

    @property
    def idle(self) -> bool:
        """Nothing is to be done."""
        return self.action == "up to date"


def sides(pipeline: Pipeline, output: Recommend) -> tuple[str, str]:
    """The spaces of the users and of the items that an output is made of."""
    entry = pipeline.entries.get(output.space, output.space)
    return f"{entry}.{SIDES[0]}", f"{entry}.{SIDES[1]}"


def plan_output(pipeline: Pipeline, name: str, decided: Mapping[str, SpacePlan], *, forced: bool = False) -> OutputPlan:
    """Decide whether an output has to be made. decided : of the spaces that it is made of.

    Raises
    ------
    ReplacedError : vectors stand under its name.
    """
    latest = pipeline.vectors.space(name).latest()
    check_lists(latest, name)
    reason = _reason(pipeline, name, decided, latest, forced=forced)
    return OutputPlan(
        name, "recommend" if reason else "up to date", reason or "same vectors, same data", latest, forced
    )


def _reason(
    pipeline: Pipeline, name: str, decided: Mapping[str, SpacePlan], latest: Version | None, *, forced: bool
) -> str:
    """Why it has to be made; empty when it need not be."""
    output = pipeline.derived[name]
    if latest is None:
        return "no version yet"
    if forced:
        return "forced"
    m = latest.manifest
    if m.fingerprint != output.fingerprint:
        return ", ".join(recipe_changes(m.recipe, output.recipe, ()))
    for space in (decided[side] for side in sides(pipeline, output)):
        if space.action == "embed" or space.latest is None:
            return f"{space.name} will change"
        if m.upstream.get(space.name) != space.latest.number:
            return f"{space.name} changed"
        if output.seen == "filtered" and m.dataset_digest != space.scan.digest:
            return "the dataset changed"
    if lost := latest.missing():
        return f"{len(lost)} of its Parquet files are missing or cut short"
    return ""
