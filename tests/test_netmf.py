"""NetMF, against the matrix written out."""

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.graph.netmf import NetMF
from tests.helpers_graph_spectral import check_odd_graphs, check_weights, cliques, dense, graph, likeness, random_graph

SMALL = NetMF(dim=3, threads=1)


def netmf(data, dim, window, negative, rank=None):
    joined = dense(data)
    degree = joined.sum(axis=1)
    values, vectors = np.linalg.eigh(joined / np.sqrt(np.outer(degree, degree)))
    if rank is not None:
        values, vectors = values[-rank:], vectors[:, -rank:]
    summed = sum(values**r for r in range(1, window + 1))
    if rank is not None:
        summed = np.maximum(summed, 0)
    vectors = vectors / np.sqrt(degree)[:, None]
    m = joined.sum() / (negative * window) * (vectors * summed) @ vectors.T
    u, s, _ = np.linalg.svd(np.log(np.maximum(m, 1)))
    x = u[:, :dim] * np.sqrt(s[:dim])
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("window", "negative"), [(1, 1.0), (2, 1.0), (10, 0.5)])
def test_the_matrix_by_powers(window, negative):
    data = random_graph()
    found = NetMF(dim=60, window=window, negative=negative, rank=None, threads=1).fit(data)
    np.testing.assert_allclose(likeness(found.matrix), likeness(netmf(data, 60, window, negative)), atol=2e-3)


def test_the_matrix_from_eigenpairs():
    data = random_graph()
    found = NetMF(dim=60, window=4, rank=20, threads=1).fit(data)
    np.testing.assert_allclose(likeness(found.matrix), likeness(netmf(data, 60, 4, 1.0, 20)), atol=2e-2)


def test_odd_graphs():
    for recipe in (SMALL, SMALL.model_copy(update={"rank": 6})):
        check_odd_graphs(recipe)
    check_weights(NetMF(dim=3, window=2))


def test_threads_change_no_bit():
    data = random_graph(700, 4000)
    for rank in (None, 40):
        found = {NetMF(dim=8, rank=rank, threads=threads).fit(data).matrix.tobytes() for threads in (1, 2, 3)}
        assert len(found) == 1


def test_large_graphs_are_sent_to_prone():
    data = graph(cliques(), nodes=50_000)
    with pytest.raises(InputError, match=r"50,000 nodes.*9\.3 GiB.*max_nodes=40,000.*prone"):
        NetMF(dim=2).fit(data)
    with pytest.raises(InputError, match="dim 17"):
        NetMF(dim=17).fit(graph(cliques()))
