"""What a space will about take, said before the work begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.pipeline import Pipeline
from flows.plan import Plan, SpacePlan
from storage.inputs.graph_size import GraphSize
from storage.inputs.graph_spec import GraphSpec

LONG = 60.0
"""Seconds from which a run is worth a word before it begins."""
LARGE = 1 << 30
"""Bytes of memory from which it is."""


@dataclass(frozen=True)
class Cost:
    """Of one space. bytes: of memory at once; seconds: None where nobody has measured the embedder; free: memory now."""

    space: str
    size: GraphSize
    bytes: int
    seconds: float | None
    threads: int
    free: int

    @property
    def notable(self) -> bool:
        """Whether it is long or large."""
        return (self.seconds or 0) > LONG or self.bytes > min(LARGE, self.free)

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "nodes": self.size.nodes,
            "edges": self.size.edges,
            "exact": self.size.exact,
            "bytes": self.bytes,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        about = "" if self.size.exact else "about "
        text = f"{self.space}: {about}{_short(self.size.nodes, self.size.exact)} nodes, {about}{_short(self.size.edges, self.size.exact)} edges"
        text += f"; needs about {self.bytes / 2**30:.1f} GiB of memory" if self.bytes >= LARGE / 10 else ""
        if self.seconds is not None and self.seconds > LONG:
            text += f"; takes about {_time(self.seconds)} on {self.threads} core{'s' * (self.threads > 1)}"
        if self.bytes > self.free:
            text += f". That is more memory than the {self.free / 2**30:.1f} GiB that are free: lower dim, or use a larger machine"
        return text


def costs(pipeline: Pipeline, plan: Plan) -> list[Cost]:
    """Of each space of a graph that is to be embedded, and whose size can be told."""
    sizes: dict[str, GraphSize | None] = {}
    found = (_cost(pipeline, space, sizes) for space in plan.spaces if space.action == "embed")
    return [cost for cost in found if cost is not None]


def _cost(pipeline: Pipeline, space: SpacePlan, sizes: dict[str, GraphSize | None]) -> Cost | None:
    import psutil

    name = pipeline.spec(space.name).dataset
    spec = pipeline.datasets.get(name)
    if not isinstance(spec, GraphSpec):
        return None
    if name not in sizes:
        sizes[name] = spec.size(space.scan)
    if (size := sizes[name]) is None:
        return None
    fit = pipeline.recipe(space.name).estimate(size.nodes, size.edges)
    needed = max(size.reading, size.bytes + (fit.bytes if fit else 0))
    seconds, threads = (fit.seconds, fit.threads) if fit else (None, 1)
    return Cost(space.name, size, needed, seconds, threads, psutil.virtual_memory().available)


def _short(count: int, exact: bool) -> str:
    """A count, two digits of it where it is not exact.

    >>> _short(1_234_567, True), _short(1_234_567, False)
    ('1,234,567', '1,200,000')
    """
    return f"{count:,}" if exact else f"{round(count, 2 - len(str(count))):,}"


def _time(seconds: float) -> str:
    """A time, roughly.

    >>> _time(90), _time(5400)
    ('2 min', '1.5 h')
    """
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
