"""The sampler of neighbourhoods against plain Python, and what it promises of its random numbers."""

import threading

import numpy as np
import pytest

from embedders.data import Graph
from embedders.kernels.neighbours import Sampler
from embedders.kernels.noise import GOLDEN, MIX_A, MIX_B

BITS = (1 << 64) - 1


def graph_of(n, edges, seed=0):
    rng = np.random.default_rng(seed)
    return Graph.from_edges([str(i) for i in range(n)], rng.integers(0, n, edges), rng.integers(0, n, edges))


def mixed(z):
    z = ((z ^ (z >> 30)) * MIX_A) & BITS
    z = ((z ^ (z >> 27)) * MIX_B) & BITS
    return z ^ (z >> 31)


def subset(size, taken, counter):
    """Floyd's: `taken` of range(size)."""
    chosen = set()
    for last in range(size - taken, size):
        counter = (counter + GOLDEN) & BITS
        drawn = ((mixed(counter) >> 32) * (last + 1)) >> 32
        chosen.add(last if drawn in chosen else drawn)
    return sorted(chosen)


def reference(graph, nodes, fans, seed):
    """Nodes, sizes and (source, target) entries in order."""
    reached, sizes, entries, begun = list(map(int, nodes)), [len(nodes)], [], 0
    for fan, stream in zip(
        fans, np.random.SeedSequence(seed).generate_state(len(fans), np.uint64).tolist(), strict=True
    ):
        for node in reached[begun : sizes[-1]]:
            begun += 1
            around = graph.indices[graph.indptr[node] : graph.indptr[node + 1]].tolist()
            counter = mixed((stream + node * GOLDEN) & BITS)
            for place in range(len(around)) if len(around) <= fan else subset(len(around), fan, counter):
                entries.append((node, around[place]))
                if around[place] not in reached:
                    reached.append(around[place])
        sizes.append(len(reached))
    return reached, tuple(sizes), entries


def entries_of(sample):
    rows = np.repeat(np.arange(len(sample.indptr) - 1), np.diff(sample.indptr))
    return list(zip(sample.nodes[rows].tolist(), sample.nodes[sample.columns].tolist(), strict=True))


@pytest.mark.parametrize("fans", [(3, 2), (1,), (25, 10), (2, 3, 2)])
def test_it_draws_what_plain_python_draws(fans):
    graph, sampler = graph_of(200, 1500), None
    sampler = Sampler(graph)
    for seed in range(3):
        nodes = np.random.default_rng(seed).permutation(200)[:9].astype(np.int32)
        sample = sampler.sample(nodes, fans, seed=seed)
        reached, sizes, entries = reference(graph, nodes, fans, seed)
        assert sample.nodes.tolist() == reached
        assert sample.sizes == sizes
        assert entries_of(sample) == entries
        assert graph.indices[sample.edges].tolist() == [target for _, target in entries]


def test_all_neighbours_are_taken_where_they_are_few():
    graph = graph_of(50, 60)
    sample = Sampler(graph).sample(np.arange(50, dtype=np.int32), (100,), seed=0)
    assert sample.indptr.tolist() == graph.indptr.tolist()
    assert sample.columns.tolist() == graph.indices.tolist()
    assert sample.sizes == (50, 50)


def test_layers_are_prefixes_that_fit_together():
    sample = Sampler(graph_of(300, 3000)).sample(np.arange(7, dtype=np.int32), (4, 3), seed=5)
    (first, columns, width), (second, fewer, narrower) = sample.layers()
    assert width == len(sample.nodes) == sample.sizes[2]
    assert len(first) - 1 == narrower == sample.sizes[1]
    assert len(second) - 1 == 7
    assert columns.max() < width and fewer.max() < narrower
    assert np.array_equal(columns[: len(fewer)], fewer)


def test_neighbours_are_drawn_evenly_and_none_twice():
    star = Graph.from_edges([str(i) for i in range(9)], np.zeros(8, int), np.arange(1, 9))
    sampler, counts, pairs = Sampler(star), np.zeros(9), np.zeros((9, 9))
    for seed in range(6000):
        drawn = sampler.sample(np.zeros(1, np.int32), (3,), seed=seed).nodes[1:]
        assert len(set(drawn.tolist())) == 3
        counts[drawn] += 1
        pairs[np.ix_(drawn, drawn)] += 1
    assert np.abs(counts[1:] / 6000 - 3 / 8).max() < 0.03  # 5 standard deviations: 0.031
    apart = pairs[1:, 1:][~np.eye(8, dtype=bool)]
    assert np.abs(apart / 6000 - 3 * 2 / (8 * 7)).max() < 0.025


def test_neither_company_nor_threads_change_what_is_drawn():
    graph = graph_of(2000, 40000)
    sampler = Sampler(graph)
    alone = entries_of(sampler.sample(np.array([17], np.int32), (5,), seed=3))
    assert alone == [
        it for it in entries_of(sampler.sample(np.arange(40, dtype=np.int32), (5,), seed=3)) if it[0] == 17
    ]
    assert alone != entries_of(sampler.sample(np.array([17], np.int32), (5,), seed=4))

    expected = [entries_of(sampler.sample(np.arange(i, i + 50, dtype=np.int32), (9, 4), seed=i)) for i in range(40)]
    found = [None] * 40

    def work(first):
        for i in range(first, 40, 4):
            found[i] = entries_of(sampler.sample(np.arange(i, i + 50, dtype=np.int32), (9, 4), seed=i))

    team = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for member in team:
        member.start()
    for member in team:
        member.join()
    assert found == expected


def test_graphs_of_one_node_and_without_edges():
    one = Graph(["a"], np.zeros(2, np.int64), np.empty(0, np.int32))
    sample = Sampler(one).sample(np.zeros(1, np.int32), (25, 10), seed=0)
    assert (sample.nodes.tolist(), sample.sizes, sample.indptr.tolist()) == ([0], (1, 1, 1), [0, 0])
    assert Sampler(one).apart(5, seed=0).shape == (2, 0)
    two = Graph(["a", "b"], np.zeros(3, np.int64), np.empty(0, np.int32))
    assert {tuple(sorted(pair)) for pair in Sampler(two).apart(20, seed=0).T.tolist()} == {(0, 1)}


def test_pairs_apart_are_even_among_those_not_joined():
    ring = Graph.from_edges([str(i) for i in range(6)], np.arange(6), (np.arange(6) + 1) % 6)
    found = Sampler(ring).apart(9000, seed=1)
    assert found.shape == (2, 9000)
    pairs, counts = np.unique(found, axis=1, return_counts=True)
    assert {tuple(pair) for pair in pairs.T.tolist()} == {
        (a, b) for a in range(6) for b in range(6) if (a - b) % 6 in {2, 3, 4}
    }
    assert np.abs(counts / 9000 - 1 / 18).max() < 0.013
    assert np.array_equal(found, Sampler(ring).apart(9000, seed=1))
    complete = Graph.from_edges(list("abcd"), *np.triu_indices(4, 1))
    assert Sampler(complete).apart(50, seed=1).shape == (2, 0)
