"""Document vectors: SIF-weighted means, LSA; both by hand, in pieces of any size, and for documents to come."""

import json
from dataclasses import replace

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.testing import answer
from embedders.text import bags, tfidf
from embedders.text.documents import DocumentMean
from embedders.text.tfidf import TfIdf, strongest
from flows.judging import trivial_features
from flows.pipeline import Pipeline
from tests.helpers_documents import documents_of, encoded, random_documents, word_vectors
from tests.helpers_store import edit, run_steps, write_project


def mean(**params):
    return DocumentMean(**{"threads": 1} | params)


# SIF


@pytest.mark.parametrize("components", [0, 1, 3])
def test_the_formula_of_the_paper(components):
    data = random_documents()
    start = word_vectors([*data.words[3:], "unseen"])
    place = {word: i for i, word in enumerate(start.words)}
    share = dict(zip(data.words, data.counts / data.counts.sum(), strict=True))
    rows = {}
    for name, (first, last) in zip(data.ids, data.offsets, strict=True):
        words = [data.words[token] for token in data.tokens[first:last]]
        known = [
            1e-2 / (1e-2 + share[word]) * start.matrix[place[word]].astype(float) for word in words if word in place
        ]
        if known:
            rows[name] = np.mean(known, axis=0)
    matrix = np.array(list(rows.values()))
    directions = np.linalg.svd(matrix)[2][:components]
    matrix -= matrix @ directions.T @ directions
    vectors, rejected = encoded(mean(a=1e-2, components=components).fit(data, start=start), data)
    assert list(vectors) == list(rows) and set(rejected.values()) == {"no_known_word"}
    np.testing.assert_allclose(list(vectors.values()), matrix, atol=1e-6)


def both(data):
    return mean().fit(data, start=word_vectors(data.words)), TfIdf(dim=5, threads=1).fit(data)


def test_pieces_of_any_size_and_threads_give_the_same_bytes(monkeypatch):
    data = random_documents(200)
    encoders = both(data)
    whole = [answer(encoder, data) for encoder in encoders]
    monkeypatch.setattr(bags, "DOCUMENTS_AT_ONCE", 7)
    monkeypatch.setattr(bags, "TOKENS_AT_ONCE", 50)
    for encoder, expected in zip(encoders, whole, strict=True):
        for threads in (1, 3):
            found = answer(replace(encoder, recipe=encoder.recipe.model_copy(update={"threads": threads})), data)
            assert max(found.sizes) <= 7 and found.ids == expected.ids and found.rejected == expected.rejected
            assert found.matrix.tobytes() == expected.matrix.tobytes()
    for fitted, expected in zip(both(data), encoders, strict=True):
        for name, array in fitted.arrays().items():
            np.testing.assert_allclose(array, expected.arrays()[name], atol=1e-5)


def test_a_piece_is_bounded_by_tokens_and_holds_a_document_at_least(monkeypatch):
    monkeypatch.setattr(bags, "TOKENS_AT_ONCE", 4)
    data = documents_of("a", "a b c", "a b c d e f", "", "a", "a b c d")
    assert bags.pieces(data) == [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)]
    assert bags.pieces(data.select([])) == []
    monkeypatch.setattr(bags, "DOCUMENTS_AT_ONCE", 1)
    assert bags.pieces(data) == [slice(i, i + 1) for i in range(6)]


def test_tokens_may_be_mapped_from_a_file(tmp_path):
    data = random_documents()
    np.save(tmp_path / "tokens.npy", data.tokens)
    mapped = replace(data, tokens=np.load(tmp_path / "tokens.npy", mmap_mode="r"))
    for one, other in zip(both(data), both(mapped), strict=True):
        assert answer(one, data).matrix.tobytes() == answer(other, mapped).matrix.tobytes()


def test_documents_to_come_may_number_words_otherwise_and_bring_new_ones():
    data = documents_of("red wine glass", "rail road train", "wine glass", "train road")
    start = word_vectors([*data.words, "later"])
    later = documents_of("train train rail zebra later", "zebra", words=["zebra", "later", "rail", "train"])
    for encoder, knows_later in ((mean().fit(data, start=start), True), (TfIdf(dim=2, min_count=1).fit(data), False)):
        vectors, rejected = encoded(encoder, later)
        assert rejected == {"d1": "no_known_word"}
        same = documents_of(
            "train train rail later" if knows_later else "train train rail", words=["later", "train", "rail"]
        )
        np.testing.assert_allclose(vectors["d0"], encoded(encoder, same)[0]["d0"], atol=1e-6)
        other = documents_of("train train rail")
        assert np.allclose(vectors["d0"], encoded(encoder, other)[0]["d0"], atol=1e-6) != knows_later


def test_the_reason_of_a_rejection_is_told():
    data = documents_of("a b a", "x y")
    [batch] = mean(components=0).fit(data, start=word_vectors(["a", "b"])).encode(data)
    [row] = batch.rejected
    assert (row.id, row.code) == ("d1", "no_known_word")
    assert row.message == "none of its 2 words is among the 2 that have a vector"


def test_a_document_that_is_all_common_component_is_rejected():
    """Nothing but rounding errors would be left of it."""
    data = documents_of("a b", "b a", "b b a a")
    encoder = mean().fit(data, start=word_vectors(["a", "b"]))
    assert encoded(encoder, data) == ({}, dict.fromkeys(data.ids, "zero_vector"))
    [batch] = encoder.encode(data)
    assert "components: 0" in batch.rejected[0].message
    kept, rejected = encoded(mean(components=0).fit(data, start=word_vectors(["a", "b"])), data)
    assert len(kept) == 3 and not rejected


@pytest.mark.parametrize(
    ("params", "start", "message"),
    [
        ({}, None, r"Got no start; .*Write start: \{space: WORDS\}"),
        ({"components": 8}, word_vectors(["a"]), "components=8; expected less than the 8 numbers"),
        ({}, word_vectors(["x"]), "2 documents, none of which holds one of the 1 words"),
        ({}, word_vectors([], np.empty((0, 8), np.float32)), "Got a start without a word"),
    ],
)
def test_what_document_means_refuse(params, start, message):
    with pytest.raises(InputError, match=message):
        mean(**params).fit(documents_of("a b", "b"), start=start)


def test_a_start_of_another_entity_is_refused():
    from tests.helpers_store import encoder_of

    with pytest.raises(InputError, match="a start that gives node vectors"):
        mean().fit(documents_of("a b"), start=encoder_of(["a"]))


# LSA


def test_all_directions_give_the_similarities_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["a a a b c", "b c d d", "a e e f", "c d f g g", "a b g", "e f", "d g a"]
    data = documents_of(*texts)
    weights = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+").fit_transform(texts).toarray()
    vectors = np.array(list(encoded(TfIdf(dim=7, min_count=1).fit(data), data)[0].values()))
    np.testing.assert_allclose(vectors @ vectors.T, weights @ weights.T, atol=1e-5)
    raw = TfidfVectorizer(token_pattern=r"\S+").fit_transform(texts).toarray()
    vectors = np.array(list(encoded(TfIdf(dim=7, min_count=1, sublinear=False).fit(data), data)[0].values()))
    np.testing.assert_allclose(vectors @ vectors.T, raw @ raw.T, atol=1e-5)


def test_the_strongest_directions_are_those_of_the_svd():
    from scipy.sparse import csr_array

    rng = np.random.default_rng(0)
    turned = [np.linalg.qr(rng.normal(size=(n, 30)))[0] for n in (90, 60)]
    matrix = (turned[0] * 0.8 ** np.arange(30) @ turned[1].T).astype(np.float32)
    blocks = [csr_array(part) for part in np.split(matrix, [10, 50])]
    found, share = strongest(blocks.__getitem__, 3, 60, 5, threads=2, seed=3)
    expected = turned[1][:, :5]
    np.testing.assert_allclose(np.abs(found.T @ expected), np.eye(5), atol=1e-3)
    assert share == pytest.approx((0.64 ** np.arange(5)).sum() / (0.64 ** np.arange(30)).sum(), rel=1e-4)
    assert (found.max(axis=0) == np.abs(found).max(axis=0)).all()
    again, _ = strongest(blocks.__getitem__, 3, 60, 5, threads=2, seed=3)
    assert again.tobytes() == found.tobytes()


def test_words_too_rare_or_too_common_take_no_part():
    data = documents_of("the a b", "the a c", "the b d", "the c c")
    assert list(TfIdf(dim=1).fit(data).words) == ["the", "c", "a", "b"]
    assert list(TfIdf(dim=1, max_df=0.5).fit(data).words) == ["c", "a", "b"]
    assert list(TfIdf(dim=1, min_count=3).fit(data).words) == ["the", "c"]


def test_words_of_documents_that_are_not_asked_for_take_no_part():
    data = documents_of("a b", "a c", "c d d")
    assert set(TfIdf(dim=1, min_count=1).fit(data.select([0, 1])).words) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"dim": 4},
            "4 documents with 3 words that occur min_count=2 times .* expected at least dim=4 of both. Lower dim",
        ),
        ({"dim": 5, "min_count": 1}, "4 documents with 5 words"),
        ({"dim": 1, "min_count": 9}, "0 words"),
    ],
)
def test_too_few_words_or_documents_for_the_dimension(params, message):
    with pytest.raises(InputError, match=message):
        TfIdf(**params).fit(documents_of("a b", "a c", "b c", "d e"))


def test_lsa_takes_no_start():
    with pytest.raises(InputError, match="Leave start out"):
        TfIdf(dim=1).fit(documents_of("a a"), start=word_vectors(["a"]))


def test_a_document_without_a_part_in_the_directions_is_rejected():
    """Two topics that share no word, and one direction: the weaker topic would be rounding errors."""
    data = documents_of(*["wine glass", "wine grape", "glass grape"] * 9, "rail road", "road rail")
    vectors, rejected = encoded(TfIdf(dim=1).fit(data), data)
    assert rejected == {"d27": "zero_vector", "d28": "zero_vector"} and len(vectors) == 27


def test_more_rounds_change_little(monkeypatch):
    data = random_documents(300, words=150)
    _, place, idf = TfIdf()._vocabulary(data)

    def share():
        return strongest(lambda _: tfidf._weights(data, slice(None), place, idf, sublinear=True), 1, len(idf), 20)[1]

    before = share()
    monkeypatch.setattr(tfidf, "ROUNDS", 40)
    assert before == pytest.approx(share(), rel=5e-3)


# in a pipeline

PIPELINE = """\
store: ./vectors
datasets:
  text: {kind: corpus, path: text.txt}
  letters: {kind: corpus, path: letters.txt}
spaces:
  words: {dataset: text, embedder: word2vec, params: {dim: 8, epochs: 1, min_count: 1, threads: 1}}
  means: {dataset: letters, embedder: documents, start: {space: words}}
  lsa: {dataset: letters, embedder: tfidf, params: {dim: 3}}
evaluate:
  lsa: [{name: topic, metric: label_probe, path: topics.tsv}, {name: near, metric: neighbours, path: topics.tsv}]
"""


@pytest.fixture
def project(tmp_path):
    file = write_project(tmp_path, PIPELINE)
    lines = [["king queen crown man", "river boat fish water"][i % 2] + f" {'bank' * (i % 3 == 0)}" for i in range(30)]
    (tmp_path / "letters.txt").write_text("\n".join(lines), encoding="utf-8")
    topics = [f"letters.txt:{i + 1}\t{'water' if i % 2 else 'court'}" for i in range(28)]
    (tmp_path / "topics.tsv").write_text("\n".join(["id\tlabel", *topics]), encoding="utf-8")
    return file


def counts(file, space):
    c = Pipeline.load(file).vectors.space(space).version("latest").manifest.counts
    return c.embedded, c.reused, c.quarantined


def test_only_a_changed_document_is_embedded_again(project):
    run_steps(project)
    assert counts(project, "means") == counts(project, "lsa") == (30, 0, 0)
    letters = project.parent / "letters.txt"
    lines = letters.read_text(encoding="utf-8").splitlines()
    letters.write_text("\n".join(["water water river", *lines[1:], "zebra zebras"]), encoding="utf-8")
    run_steps(project)
    assert counts(project, "means") == counts(project, "lsa") == (1, 29, 1)
    version = Pipeline.load(project).vectors.space("lsa").version("latest")
    place = version.ids.tolist().index
    unit = version.matrix / np.linalg.norm(version.matrix, axis=1, keepdims=True)
    others = unit[place("letters.txt:1")] @ unit.T
    assert others[place("letters.txt:2")] > others[place("letters.txt:3")]


def test_new_word_vectors_make_all_documents_anew(project):
    run_steps(project)
    edit(project, "dim: 8, epochs: 1", "dim: 8, epochs: 2")
    plan = run_steps(project)
    assert {space.name: space.action for space in plan.spaces} == {
        "words": "embed",
        "means": "embed",
        "lsa": "up to date",
    }
    assert counts(project, "means") == (30, 0, 0)
    assert Pipeline.load(project).vectors.space("means").version("latest").manifest.upstream == {"words": 2}


def test_one_hot_stands_beside_the_vectors(project):
    run_steps(project)
    store = Pipeline.load(project).vectors
    rows = store.metrics(store.space("lsa").version("latest"))
    scores = {row["metric"]: row["value"] for row in rows}
    assert scores["accuracy[one_hot]"] == 1 == scores["accuracy"] and scores["same_label"] > 0.9
    notes = next(json.loads(row["notes"]) for row in rows if row["metric"] == "accuracy")
    assert notes["sizes"]["vectors"] == {"dim": 3, "bytes": 360}
    assert (notes["n"], notes["sizes"]["one_hot"]["dim"]) == (28, 9)


def test_one_hot_rows_follow_the_vectors(project):
    """A changed document moves to the end of its space, and labels may lack some."""
    run_steps(project)
    letters = project.parent / "letters.txt"
    lines = letters.read_text(encoding="utf-8").splitlines()
    letters.write_text("\n".join(["water water river", *lines[1:]]), encoding="utf-8")
    run_steps(project)
    pipeline = Pipeline.load(project)
    version = pipeline.vectors.space("lsa").version("latest")
    assert version.ids[-1] == "letters.txt:1"
    labels = dict.fromkeys(["letters.txt:1", "letters.txt:4", "letters.txt:5", "elsewhere"], "x")
    found = trivial_features(pipeline, version, version.vectors, labels)["one_hot"]
    rows = dict(zip(version.ids, found.toarray().sum(axis=1), strict=True))
    assert rows == dict.fromkeys(version.ids, 0) | {"letters.txt:1": 2, "letters.txt:4": 5, "letters.txt:5": 4}


def test_the_method_of_analogies_is_asked_for_in_the_file(project):
    (project.parent / "questions.txt").write_text("king queen man woman\n", encoding="utf-8")
    ask = "metric: analogies, path: questions.txt"
    text = project.read_text(encoding="utf-8")
    project.write_text(f"{text}  words: [{{name: add, {ask}}}, {{name: mul, {ask}, method: mul}}]\n", encoding="utf-8")
    run_steps(project, only=["words"])
    store = Pipeline.load(project).vectors
    notes = {row["evaluation"]: row["notes"] for row in store.metrics(store.space("words").version()) if row["notes"]}
    assert {name: json.loads(text)["method"] for name, text in notes.items()} == {"add": "add", "mul": "mul"}


def test_documents_without_a_start_are_refused_by_line(project):
    edit(project, ", start: {space: words}", "")
    with pytest.raises(InputError, match=r"polyvec.yaml:7: spaces.means.embedder: got 'documents' without a start"):
        Pipeline.load(project)
