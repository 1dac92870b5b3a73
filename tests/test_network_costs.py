"""What graph networks are said to take, beside what they took."""

import pytest

from embedders.graph.dgi import Dgi
from embedders.graph.gae import Gae, Vgae
from embedders.graph.graphsage import GraphSage

MEASURED = [  # nodes, edges, seconds a step on one core, MiB; features of 67 numbers, defaults
    (Gae, 5_000, 25_000, 0.037, 88),
    (Vgae, 40_000, 200_000, 0.655, 690),
    (Dgi, 5_000, 25_000, 0.056, 158),
    (Dgi, 20_000, 100_000, 0.684, 335),
    (Dgi, 100_000, 500_000, 0.193, 775),
    (GraphSage, 5_000, 25_000, 0.027, 30),
    (GraphSage, 100_000, 1_000_000, 0.228, 216),
]


@pytest.mark.parametrize(("kind", "nodes", "edges", "seconds", "mib"), MEASURED)
def test_estimates_are_near_what_was_measured(kind, nodes, edges, seconds, mib):
    found = kind(threads=1).estimate(nodes, edges)
    assert 0.5 < found.seconds / kind().steps / seconds < 2.1
    assert 0.5 < found.bytes / 2**20 / mib < 2.1


@pytest.mark.parametrize("kind", [Gae, Vgae, Dgi, GraphSage])
def test_estimates_grow_with_what_they_depend_on(kind):
    base, wide, long, more = (
        kind(threads=1, **params).estimate(30_000, edges)
        for params, edges in (({}, 150_000), ({"dim": 1024}, 150_000), ({"steps": 5000}, 150_000), ({}, 400_000))
    )
    assert wide.bytes > base.bytes and wide.seconds > base.seconds
    assert long.seconds > base.seconds and long.bytes == base.bytes
    assert more.seconds > base.seconds
    assert kind(threads=4).estimate(30_000, 150_000).seconds == pytest.approx(base.seconds / 4)
    assert kind().estimate(0, 0).bytes > 0


@pytest.mark.parametrize("kind", [Gae, Vgae, Dgi])
def test_mini_batches_bound_what_a_step_takes(kind):
    small, large = (kind(batch=512, threads=1).estimate(n, 5 * n) for n in (1_000_000, 4_000_000))
    assert large.seconds < 2 * small.seconds or large.seconds < kind(batch="full", threads=1).estimate(4_000_000, 20_000_000).seconds / 10  # fmt: skip
    assert small.bytes < kind(batch="full").estimate(1_000_000, 5_000_000).bytes
