"""ProNE and spectral propagation, against the equations written with dense matrices."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import iv

from embedders.data import Graph
from embedders.errors import InputError
from embedders.graph.node2vec import Node2Vec, NodeVectors
from embedders.graph.prone import Prone
from embedders.graph.propagation import Propagation, coefficients
from embedders.kernels import sparse, tall
from tests.helpers_graph_spectral import (
    agreement,
    check_odd_graphs,
    check_weights,
    cliques,
    dense,
    graph,
    likeness,
    random_graph,
)

SMALL = Prone(dim=3, threads=1)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def propagated(joined, start, theta, mu, order):
    """The paper's equations as they stand: Chebyshev polynomials of M^2 / 2 - 1, every term."""
    n = len(start)
    walk = (joined + np.eye(n)) / (joined.sum(axis=1) + 1)[:, None]
    m = (1 - mu) * np.eye(n) - walk
    x = m @ m / 2 - np.eye(n)
    terms = [start, x @ start]
    while len(terms) < order:
        terms.append(2 * x @ terms[-1] - terms[-2])
    passed = iv(0, theta) * terms[0] + sum(2 * (-1) ** k * iv(k, theta) * terms[k] for k in range(1, order))
    u, s, _ = np.linalg.svd((joined + np.eye(n)) @ (start - passed), full_matrices=False)
    return unit(u * np.sqrt(s))


def prone(data, dim, theta=0.5, mu=0.2, order=10, exponent=0.75, negative=1.0):
    joined = dense(data)
    p = joined / joined.sum(axis=1, keepdims=True)
    noise = p.sum(axis=0) ** exponent
    noise *= negative / noise.sum()
    f = np.log1p(p / noise)
    u, s, _ = np.linalg.svd(f)
    return propagated(joined, unit(u[:, :dim] * np.sqrt(s[:dim])), theta, mu, order)


@pytest.mark.parametrize(
    "changed", [{}, {"theta": 2.0, "mu": 0.5}, {"order": 3}, {"negative": 3.0, "exponent": 1.0}], ids=str
)
def test_the_equations(changed):
    data = random_graph()
    recipe = Prone.model_validate({"dim": 60, "threads": 1, "rounds": 8} | changed)
    given = {name: getattr(recipe, name) for name in ("theta", "mu", "order", "negative", "exponent")}
    np.testing.assert_allclose(likeness(recipe.fit(data).matrix), likeness(prone(data, 60, **given)), atol=2e-3)


def test_the_equations_with_weights():
    data = random_graph()
    edges = np.c_[np.repeat(np.arange(60), np.diff(data.indptr)), data.indices]
    edges = edges[edges[:, 0] < edges[:, 1]]
    data = graph(edges, weights=np.random.default_rng(5).uniform(0.5, 3, len(edges)))
    recipe = Prone(dim=60, threads=1, rounds=8)
    given = {name: getattr(recipe, name) for name in ("theta", "mu", "order", "negative", "exponent")}
    np.testing.assert_allclose(likeness(recipe.fit(data).matrix), likeness(prone(data, 60, **given)), atol=2e-3)


def test_odd_graphs():
    check_odd_graphs(SMALL)
    check_weights(SMALL)


@pytest.mark.parametrize("seed", [0, 4])
def test_threads_change_no_bit(seed):
    data = random_graph(700, 4000)
    recipe = Prone(dim=16, seed=seed)
    found = {recipe.model_copy(update={"threads": threads}).fit(data).matrix.tobytes() for threads in (1, 2, 3)}
    assert len(found) == 1
    assert recipe.model_copy(update={"seed": seed + 1}).fit(data).matrix.tobytes() not in found


def test_refusals():
    data = graph(cliques())
    with pytest.raises(InputError, match=r"dim 17 for a graph of 16 nodes.*dim: 16"):
        Prone(dim=17).fit(data)
    with pytest.raises(InputError, match="without a node"):
        Prone(dim=2).fit(Graph.from_edges([], np.empty(0), np.empty(0)))
    with pytest.raises(InputError, match="begins with nothing"):
        SMALL.fit(data, start=SMALL.fit(data))


def test_parallel_edges_count_together():
    """Edges of two types between the same nodes are one edge of their summed weight."""
    pairs = [*cliques(6, 2), (0, 6)]
    plain = graph(pairs, weights=np.full(len(pairs), 2.0))
    twice = replace(
        plain, indptr=plain.indptr * 2, indices=np.repeat(plain.indices, 2),
        weights=np.ones(2 * len(plain.indices), np.float32), edge_types=np.tile([0, 1], len(plain.indices)).astype(np.int16),
        edge_type_names=("a", "b"),
    )  # fmt: skip
    np.testing.assert_array_equal(SMALL.fit(twice).matrix, SMALL.fit(plain).matrix)


def starting(ids, matrix):
    matrix = np.asarray(matrix, np.float32)
    return NodeVectors(Node2Vec(dim=matrix.shape[1]), ids, matrix, np.zeros(len(matrix), bool))


def test_propagation_of_given_vectors():
    data = random_graph()
    rows = np.random.default_rng(1).standard_normal((60, 5))
    found = Propagation(theta=0.7, mu=0.1, threads=1).fit(data, start=starting(data.ids, rows))
    np.testing.assert_allclose(
        likeness(found.matrix), likeness(propagated(dense(data), unit(rows), 0.7, 0.1, 10)), atol=1e-3
    )


def test_propagation_reaches_unknown_nodes():
    """Nodes 3 and 11 are unknown and get what their cliques have; 16 and 17 only know each other; 18 stands alone."""
    data = graph([*cliques(), (0, 8), (16, 17)], nodes=20)
    known = [i for i in range(20) if i not in {3, 11, 16, 17, 18}]
    rows = np.random.default_rng(1).normal(0, 0.3, (20, 4))
    rows[:, 0] += np.where(np.arange(20) < 8, 1, -1)
    (batch,) = Propagation().fit(data, start=starting([f"n{i}" for i in known], rows[known])).encode(data)
    matrix = batch.vectors.matrix
    assert agreement(matrix[:16], np.arange(16) // 8) == 1
    assert list(batch.origin) == ["embedded"] * 16 + ["isolated"] * 4
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(matrix[16], matrix[18])  # the mean, for want of anything better


def test_propagation_needs_vectors_of_the_nodes():
    data = graph(cliques())
    with pytest.raises(InputError, match="Got no start"):
        Propagation().fit(data)
    with pytest.raises(InputError, match="none of the 16 nodes"):
        Propagation().fit(data, start=starting(["x"], [[1, 2]]))


@pytest.mark.parametrize(("theta", "mu", "order"), [(0.5, 0.2, 10), (4.0, 0.0, 10), (2.0, 1.5, 3)])
def test_only_faint_terms_are_left_out(theta, mu, order):
    factors = coefficients(theta, mu, order)
    p = np.linspace(-1, 1, 50)
    x = (1 - mu - p) ** 2 / 2 - 1
    passed = iv(0, theta) + sum(
        2 * (-1) ** k * iv(k, theta) * np.polynomial.chebyshev.chebval(x, np.eye(order)[k]) for k in range(1, order)
    )
    expected = p * (1 - passed)
    np.testing.assert_allclose(
        np.polynomial.chebyshev.chebval(p, factors), expected, atol=1e-4 * np.abs(expected).max()
    )
    assert len(factors) <= 2 * order


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("width", [7, 33, 130, 161])
def test_sparse_times_dense(weighted, threads, width):
    from scipy.sparse import random_array

    rng = np.random.default_rng(2)
    matrix = random_array((500, 500), density=0.02, rng=rng, dtype=np.float32, format="csr")
    if not weighted:
        matrix.data[:] = 1
    ours = sparse.Csr(matrix.indptr, matrix.indices, *([matrix.data] if weighted else []))
    x, out, base = rng.standard_normal((3, 500, width)).astype(np.float32)
    gain, own = rng.standard_normal((2, 500)).astype(np.float32)
    expected = gain[:, None] * (matrix @ x) + own[:, None] * x - 0.5 * out + 0.7 * base
    sparse.multiply(ours, x, out, gain=gain, own=own, keep=-0.5, base=base, share=0.7, threads=threads)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    sparse.multiply(ours, x, out)
    np.testing.assert_allclose(out, matrix @ x, rtol=1e-4, atol=1e-5)


def test_an_orthonormal_basis_of_few_directions():
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((300, 3)) @ rng.standard_normal((3, 8)) * 10.0 ** -np.arange(8)).astype(np.float32)
    kept = x.copy()
    tall.orthonormalise(x, 2)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x @ (x.T @ kept), kept, atol=1e-3 * np.abs(kept).max())


def test_the_strongest_directions():
    """Of a matrix whose spectrum falls slowly; in as many products, plain subspace iteration misses by more."""
    from scipy.sparse import csr_array, random_array

    rng = np.random.default_rng(4)
    matrix = random_array((600, 600), density=0.02, rng=rng, dtype=np.float32, format="csr")
    s = np.linalg.svd(matrix.toarray(), compute_uv=False)
    there, back = (
        sparse.Csr(m.indptr, m.indices.astype(np.int32), m.data) for m in (matrix, csr_array(matrix.T).tocsr())
    )

    def missed(shifted):
        left, values = tall.strongest_left(
            lambda x, out, keep: sparse.multiply(there, x, out, keep=keep if shifted else 0.0),
            lambda x, out, keep: sparse.multiply(back, x, out, keep=keep),
            600, 20, rounds=6, seed=0, threads=1,
        )  # fmt: skip
        np.testing.assert_allclose(left.T @ left, np.eye(20), atol=1e-5)
        return np.linalg.norm(left.T @ matrix.toarray(), axis=1), np.abs(values - s[:20]).max() / s[0]

    assert missed(True)[1] < 0.8 * missed(False)[1]
    np.testing.assert_allclose(missed(True)[0], s[:20], rtol=0.05)
