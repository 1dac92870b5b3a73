"""Deep graph infomax: what is its own; what it shares with the auto-encoders is in test_gae.py."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.graph.convolution import Convolution, Part
from embedders.graph.dgi import Dgi, _summary, _with_shuffled
from embedders.graph.geometric import import_geometric, seeded
from tests.helpers_graph import cora, random_graph

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")


def module_of(recipe, width=5):
    return seeded(lambda: recipe.build(import_geometric("dgi"), width), 0, "cpu")


@pytest.mark.parametrize("weights", [False, True])
def test_shuffled_columns_are_shuffled_features(weights):
    graph, recipe = random_graph(weights=weights), Dgi(dim=6)
    module, part = module_of(recipe), Convolution(graph, graph.features, 1, "cpu").whole
    order = np.random.default_rng(1).permutation(40).astype(np.int32)
    with torch.no_grad():
        ours = recipe.vectors(module, Part(part.x, [_with_shuffled(part.blocks[0], order)]))[40:]
        expected = recipe.vectors(module, Part(part.x[torch.from_numpy(order)], part.blocks))
        assert not torch.allclose(ours, recipe.vectors(module, part))
    torch.testing.assert_close(ours, expected)


def test_the_loss_is_that_of_torch_geometric():
    """Its own forward pass, with a corruption that is ours."""
    graph, recipe = random_graph(), Dgi(dim=6, seed=3)
    module, convolution = module_of(recipe), Convolution(graph, graph.features, 1, "cpu")
    drawn = recipe.draw(convolution, None, 0)
    layer, activation = module.encoder

    class Encoder(torch.nn.Module):
        def forward(self, x, block):
            return activation(layer(x, block))

    theirs = import_geometric("dgi").DeepGraphInfomax(
        6,
        Encoder(),
        summary=lambda z, *rest: z.mean(dim=0).sigmoid(),
        corruption=lambda x, block: (x[torch.from_numpy(drawn.order)], block),
    )
    theirs.weight = module.weight
    expected = theirs.loss(*theirs(drawn.part.x, drawn.part.blocks[0]))
    torch.testing.assert_close(recipe.loss(module, drawn), expected)


def test_the_summary_is_the_squashed_mean():
    torch.testing.assert_close(_summary(torch.tensor([[0.0, 2.0], [0.0, -2.0]])), torch.tensor([0.5, 0.5]))


def test_each_step_shuffles_anew():
    graph = random_graph()
    convolution = Convolution(graph, graph.features, 1, "cpu")
    orders = [tuple(Dgi(seed=seed).draw(convolution, None, step).order) for seed in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(40)) for order in orders)
    part = Dgi().draw(convolution, 8, 0)
    assert part.part.blocks[0].shape[0] <= 8
    assert sorted(part.order) == list(range(part.part.x.shape[0]))


def test_the_slopes_and_weights_begin_as_usual():
    module = module_of(Dgi(dim=6))
    assert torch.equal(module.encoder[1].weight, torch.full((6,), 0.25))
    assert not module.encoder[0].bias.any()
    reach = (6 / (5 + 6)) ** 0.5
    assert reach / 2 < module.encoder[0].lin.weight.abs().max() <= reach
    other = seeded(lambda: Dgi(dim=6).build(import_geometric("dgi"), 5), 1, "cpu")
    assert not torch.equal(module.weight, other.weight)


def test_vectors_are_scaled_to_a_mean_length():
    graph = random_graph()
    found = Dgi(dim=6, steps=3, threads=1).fit(graph).matrix
    np.testing.assert_allclose(np.linalg.norm(found, axis=1).mean(), 4, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "least"), [("auto", 0.80), (512, 0.76)])
def test_cora_classes(batch, least, shared_data):
    """The mean of 10 seeds is measured in benchmarks/graph.py; here of 2, with a margin."""
    from sklearn.linear_model import LogisticRegression

    graph, labels, train, test = cora(shared_data)
    found = []
    for seed in range(2):
        matrix = Dgi(seed=seed, threads=1, batch=batch).fit(replace(graph)).matrix
        found.append(LogisticRegression(max_iter=1000).fit(matrix[train], labels[train]).score(matrix[test], labels[test]))  # fmt: skip
    assert np.mean(found) > least, found
