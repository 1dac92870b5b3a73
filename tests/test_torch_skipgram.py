"""The torch path of skip-gram, on the processor: sense, repeatability, odd corpora. A GPU runs the same lines."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.testing_data import corpus_example
from embedders.text.torch_skipgram import TorchSkipGram

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return corpus_example(tmp_path_factory.mktemp("corpus")).data


def trained(data, rounds=3, **changed):
    total = len(data.tokens) * rounds
    given = dict(dim=16, window=5, negative=5, lr=0.05, total=total, threads=1, seed=0, device="cpu") | changed
    model = TorchSkipGram(data.counts, **given)
    for _ in range(rounds):
        model.train(data.tokens, data.offsets)
    return model


def right(data, matrix):
    """Share of the words of a topic whose nearest neighbour is of that topic."""
    rows = [i for i, word in enumerate(data.words) if word[:4] in {"wine", "rail"}]
    unit = matrix[rows] / np.linalg.norm(matrix[rows], axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -2)
    near = likeness.argmax(axis=1)
    return np.mean([data.words[rows[i]][:4] == data.words[rows[j]][:4] for i, j in enumerate(near)])


@pytest.mark.parametrize("cbow", [False, True])
def test_topics(data, cbow):
    model = trained(data, cbow=cbow)
    assert right(data, model.matrix) == 1
    assert model.loss[-1] < model.loss[0] < 6 * np.log(2) + 0.01
    assert np.isfinite(model.matrix).all() and np.isfinite(model.context).all()


def test_same_seed_same_bytes(data):
    one, two, other = (trained(data, rounds=1, seed=seed) for seed in (1, 1, 2))
    assert one.matrix.tobytes() == two.matrix.tobytes() and one.loss == two.loss
    assert one.matrix.tobytes() != other.matrix.tobytes()


def test_a_high_rate_and_few_words_do_not_overflow(data):
    model = trained(data, lr=1.0, negative=20)
    assert np.isfinite(model.matrix).all()


def test_start_and_frozen_rows(data):
    start = np.full((len(data.words), 16), np.nan, np.float32)
    start[:7] = np.linspace(-0.1, 0.1, 7 * 16).reshape(7, 16)
    frozen = np.arange(len(data.words)) < 7
    model = trained(data, rounds=1, start=start, frozen=frozen)
    assert model.matrix[:7].tobytes() == start[:7].tobytes()
    assert trained(data, rounds=1, start=start).matrix[:7].tobytes() != start[:7].tobytes()
    kept = trained(data, rounds=0, start=start, start_context=start)
    assert kept.context[:7].tobytes() == start[:7].tobytes() and not kept.context[7:].any()


def test_documents_end_contexts(data):
    """Words that are alone in their documents learn nothing; rows past the vocabulary are skipped."""
    alone = replace(data, tokens=data.tokens[:50], offsets=np.arange(51))
    model = trained(alone, rounds=1)
    assert not model.context.any() and np.isnan(model.loss[0])
    strange = replace(data, tokens=np.array([-1, 99, 99], np.int32), offsets=np.array([0, 3]))
    assert np.isnan(trained(strange, rounds=1).loss[0])


def test_no_gpu(data):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(InputError, match="device='cuda'; torch sees no GPU here"):
        trained(data, device="cuda")
