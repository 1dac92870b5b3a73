"""Eigenvectors of the normalised Laplacian, against dense ones."""

import networkx as nx
import numpy as np
import pytest

from embedders.errors import InputError
from embedders.graph.adjacency import adjacency, normalised
from embedders.graph.spectral import Spectral
from embedders.kernels.eigen import largest
from tests.helpers_graph_spectral import check_odd_graphs, check_weights, cliques, dense, graph, likeness, random_graph

SMALL = Spectral(dim=2, threads=1)


def laplacian(data, tau):
    joined = dense(data)
    joined += tau * joined.sum() / len(data) ** 2
    degree = joined.sum(axis=1)
    return np.eye(len(data)) - joined / np.sqrt(np.outer(degree, degree))


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_eigenvectors_but_for_the_trivial_one(tau):
    data = random_graph()
    values, vectors = np.linalg.eigh(laplacian(data, tau))
    found = Spectral(dim=6, tau=tau, threads=1, tolerance=1e-5).fit(data)
    np.testing.assert_allclose(likeness(found.matrix), likeness(vectors[:, 1:7]), atol=1e-3)
    np.testing.assert_allclose(found.mode["eigenvalues"], values[[1, 6]], atol=1e-5)
    assert found.mode["components"] == 1


def test_the_filter_finds_what_a_dense_solver_finds():
    data = random_graph(900, 9000)
    expected = np.linalg.eigvalsh(np.eye(900) - laplacian(data, 0))[::-1]
    operator = normalised(adjacency(data))
    values, vectors, residual = largest(operator, 20, threads=2, tolerance=1e-4)
    assert residual <= 1e-4
    np.testing.assert_allclose(values, expected[:20], atol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(20), atol=1e-4)
    _, _, stopped = largest(operator, 20, threads=2, tolerance=1e-7, rounds=2)
    assert stopped > 1e-7


def test_the_second_eigenvector_splits_the_karate_club():
    """Zachary 1977: all but few members follow the sign."""
    club = nx.karate_club_graph()
    halves = np.array([club.nodes[i]["club"] == "Officer" for i in club])
    side = Spectral(dim=1, tau=0).fit(graph(list(club.edges))).matrix[:, 0] > 0
    assert max(np.mean(side == halves), np.mean(side != halves)) >= 0.9


def test_components_are_told_apart():
    data = graph(cliques(6, 3))
    found = Spectral(dim=2, tau=0, threads=1).fit(data)
    near = likeness(found.matrix)
    groups = np.repeat(np.arange(3), 6)
    same = groups[:, None] == groups
    assert near[same].min() > 0.999 and near[~same].max() < 0.5
    assert found.mode["components"] == 3


def test_odd_graphs():
    for tau in (0.0, 1.0):
        check_odd_graphs(SMALL.model_copy(update={"tau": tau}))
    check_weights(Spectral(dim=1))


def test_nothing_hangs_on_threads_or_seed():
    data = random_graph(700, 4000)
    found = {Spectral(dim=8, threads=t, seed=t).fit(data).matrix.tobytes() for t in (1, 2, 3)}
    assert len(found) == 1


def test_refusals():
    with pytest.raises(InputError, match="dim 16 for 16 nodes with a neighbour"):
        Spectral(dim=16).fit(graph(cliques(), nodes=20))
    with pytest.raises(InputError, match="dim 25 for a graph of 20 nodes"):
        Spectral(dim=25).fit(graph(cliques(), nodes=20))
