"""What training a graph network takes, from rates that were measured on one core for features of 67 numbers.

Wider features cost more, and so do the walks of nodes that have none (`costs.of_walks`); neither is known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedders.base import Estimate
from embedders.graph.features import STRUCTURE
from embedders.kernels.threads import cores

NEAR, FAR, CACHE = 1.2e-9, 3.5e-9, 1 << 25
"""Seconds a number that sparse products read takes, within a cache of so many bytes and beyond."""
FLOPS = 5.0e10
STEP, BASE = 0.01, 32 << 20
"""Seconds and bytes that any step takes."""


@dataclass(frozen=True)
class Layer:
    """One layer in one step. rows : nodes it is for. entries : of its adjacency. width : of what it adds up. dense :
    multiplications of its dense product, forward.
    """

    rows: int
    entries: int
    width: int
    dense: int


def layers(rows: int, edges: int, nodes: int | None, fans: tuple[int, ...], widths: tuple[int, ...]) -> list[Layer]:
    """The layers, the last first, of a step over `nodes` nodes and at most `fans` of their neighbours, or over all rows.

    widths : of features and of what each layer gives, the first layer first.
    """
    degree, found = 2 * edges / max(rows, 1), []
    asked = rows if nodes is None else min(nodes, rows)
    for number, (narrow, wide) in enumerate(zip(widths[-2::-1], widths[:0:-1], strict=True)):
        taken = int(asked * (degree if nodes is None else min(degree, fans[number])))
        reached = rows if nodes is None else min(rows, asked + taken)
        found.append(Layer(asked, asked + taken, wide, reached * narrow * wide))
        asked = reached
    return found


def of_network(
    rows: int, edges: int, steps: int, threads: int, *, nodes: int | None, fans: tuple[int, ...], widths: tuple[int, ...], compared: int = 0, copies: int = 1
) -> Estimate:  # fmt: skip
    """Of `steps` steps, and of the vectors of all nodes.

    nodes : of a mini-batch; None: the whole graph. widths : of the layers, without the features. compared : numbers of the
    vectors of pairs that a step compares. copies : of the graph in a step.
    """
    team, wide = threads or cores(), (STRUCTURE, *widths)
    found = layers(rows, edges, nodes, fans, wide)
    whole = layers(rows, edges, None, fans, wide)
    step = STEP + 3 * _seconds(found, compared, copies)
    held = sum(4 * 4 * copies * layer.rows * layer.width for layer in found) + 16 * compared
    features = 4 * STRUCTURE * rows
    bytes = BASE + features + held + (0 if nodes is None else 3 * 4 * rows * widths[-1])
    return Estimate(bytes, (steps * step + _seconds(whole, 0, 1)) / team, team)


def _seconds(found: list[Layer], compared: int, copies: int) -> float:
    """Forward; backward takes twice as long."""
    numbers = copies * sum(layer.entries * layer.width for layer in found) + compared
    held = 4 * copies * sum(layer.rows * layer.width for layer in found)
    return numbers * (NEAR if held < CACHE else FAR) / 3 + sum(2 * layer.dense for layer in found) / FLOPS
