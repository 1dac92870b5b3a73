"""What prone, netmf and spectral say that they take, beside what they do take."""

import tracemalloc

import pytest

from embedders.graph.netmf import NetMF
from embedders.graph.prone import Prone
from embedders.graph.spectral import Spectral
from tests.helpers_graph_spectral import random_graph

RECIPES = [Prone(threads=1), NetMF(threads=1), Spectral(threads=1)]
KINDS = [recipe.kind for recipe in RECIPES]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=KINDS)
@pytest.mark.parametrize(("nodes", "edges"), [(3000, 60_000), (9000, 30_000)])
def test_memory(recipe, nodes, edges):
    data = random_graph(nodes, edges)
    recipe.fit(random_graph(400, 2000))  # compiled
    tracemalloc.start()
    try:
        recipe.fit(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.5 < recipe.estimate(nodes, edges).bytes / peak < 2


@pytest.mark.parametrize("recipe", RECIPES, ids=KINDS)
def test_estimates_grow_with_what_they_depend_on(recipe):
    base, wide = recipe.estimate(5000, 50_000), recipe.model_copy(update={"dim": 256}).estimate(5000, 50_000)
    assert wide.bytes >= base.bytes and wide.seconds > base.seconds
    for more in (recipe.estimate(10_000, 50_000), recipe.estimate(5000, 500_000)):
        assert more.bytes > base.bytes and more.seconds > base.seconds
    team = recipe.model_copy(update={"threads": 4}).estimate(5000, 50_000)
    assert team.threads == 4 and team.seconds == pytest.approx(base.seconds / 4)
    assert recipe.estimate(1, 0).seconds < 1e-2  # a node alone


def test_rounds_and_rank_cost():
    assert Prone(threads=1, rounds=10).estimate(9000, 90_000).seconds > Prone(threads=1).estimate(9000, 90_000).seconds
    exact = NetMF(threads=1, rank=None).estimate(9000, 900_000)
    assert exact.seconds > NetMF(threads=1).estimate(9000, 900_000).seconds
