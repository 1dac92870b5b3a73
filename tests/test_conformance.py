"""The conformance suite over every entry point, over a good toy plug-in, and over toys that are broken on purpose."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import ConfigDict, Field

from embedders.base import Batch, Embedder, Encoder, Threads, Vectors, silent
from embedders.data import Corpus, Graph, Images, Rejected
from embedders.errors import InputError, MissingPackageError
from embedders.interactions import Interactions
from embedders.registry import embedder_class, known
from embedders.tables import Table
from embedders.testing import CHECKS, Answer, Case, EmbedderConformance, answer, check_neighbours
from embedders.testing_data import EXAMPLES, STARTS

PARAMETERS = {  # small where the defaults are for large data; an embedder that is not named runs with its defaults
    "word2vec": {"dim": 24, "sample": 0, "min_count": 5},
    "fasttext": {"dim": 24, "sample": 0, "min_count": 5},
    "glove": {
        "dim": 24,
        "lr": 0.5,
    },  # words of two topics never meet, and absence teaches GloVe nothing: biases learn most
    "node2vec": {"dim": 24, "length": 20, "window": 5},
    "metapath2vec": {"metapath": ["user", "item", "user"], "dim": 24, "length": 20, "window": 5},
    "gae": {"dim": 8, "hidden": 16, "steps": 60},
    "vgae": {"dim": 8, "hidden": 16, "steps": 60},
    "dgi": {"dim": 16, "steps": 60, "lr": 0.01},
    "graphsage": {"dim": 8, "hidden": 8, "steps": 40, "batch": 32, "lr": 0.01},
    "prone": {"dim": 8},
    "netmf": {"dim": 8},
    "spectral": {"dim": 4},
    "cnn": {"batch_size": 8},
    "pretrained-words": {"file": str(Path(__file__).parent / "data/topics.vec")},
    "tfidf": {"dim": 8},
    "one-hot": {"dim": 20},
    "als": {"dim": 8, "regularization": 1.0},
    "cca": {"dim": 4},
    "contrastive": {"dim": 8},
    "bpr": {"dim": 8},
    "categories": {"epochs": 10, "hidden": [16]},
    "item2vec": {"dim": 16, "sample": 0},
    "lightgcn": {"dim": 8, "steps": 100},
}


def sided():
    """Every entry point, those of several entities once a side."""
    columns = {Interactions: ("users", "items"), Table: ("city", "colour")}
    recipes = {kind: embedder_class(kind)(**PARAMETERS.get(kind, {})) for kind in sorted(known())}
    return [
        (kind, side) for kind, recipe in recipes.items() for side in recipe.sides(columns.get(recipe.data, ())) or ("",)
    ]


@pytest.fixture(scope="module")
def case(request, tmp_path_factory):
    kind, side = request.param
    recipe = embedder_class(kind)(**PARAMETERS.get(kind, {}))
    folder = tmp_path_factory.mktemp(kind)
    example = EXAMPLES[recipe.data](folder)
    if recipe.needs_start:
        example = replace(example, start=STARTS[recipe.data](folder))
    if kind in {"one-hot", "one-hot-rows"}:
        example = replace(example, groups={})  # no two words are alike
    return Case(recipe, example, folder, side)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", sided(), indirect=True, ids=lambda it: ".".join(filter(None, it)))
def test_entry_point(case, check):
    try:
        check(case)
    except MissingPackageError as error:
        pytest.skip(str(error))


def test_every_embedder_of_ours_is_an_entry_point():
    kinds = set()
    for path in sorted((Path(__file__).parents[1] / "embedders").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).startswith("Embedder[") for base in node.bases):
                kinds |= {
                    ast.literal_eval(line.value)
                    for line in node.body
                    if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "kind"
                }
    assert {"word2vec", "node2vec"} <= kinds <= set(known())


# ---- a toy plug-in: nodes as rows of the adjacency matrix with seeded noise; pictures as their mean colour


@dataclass(frozen=True, eq=False)
class ToyEncoder(Encoder[Graph]):
    ids: Sequence[str]
    matrix: np.ndarray

    @property
    def dim(self):
        return int(self.matrix.shape[1])

    def encode(self, data, *, progress=silent):
        for first in range(0, len(self.ids), self.recipe.batch_size):
            rows = slice(first, first + self.recipe.batch_size)
            yield Batch(Vectors(self.entity, self.ids[rows], self.matrix[rows]))


class Toy(Embedder[Graph]):
    kind: ClassVar[str] = "toy"
    data: ClassVar[type] = Graph
    entity: ClassVar[str] = "node"

    noise: float = Field(0.01, ge=0)
    batch_size: int = Field(7, ge=1, json_schema_extra={"execution": True})
    threads: Threads = 0

    encoder: ClassVar[type] = ToyEncoder

    def fit(self, data, *, start=None, progress=silent):
        matrix = np.eye(len(data), dtype=np.float32)
        for row in range(len(data)):
            matrix[row, data.indices[data.indptr[row] : data.indptr[row + 1]]] = 1
        matrix += self.random(matrix.shape)
        return self.encoder(self, data.ids, matrix, mode={"precision": "fp32"})

    def random(self, shape):
        return np.float32(self.noise) * np.random.default_rng(self.seed).random(shape, np.float32)


class TestToy(EmbedderConformance):
    recipe = Toy(noise=0.02)


@dataclass(frozen=True, eq=False)
class ColourEncoder(Encoder[Images]):
    shift: np.ndarray

    @property
    def dim(self):
        return 3

    def encode(self, data, *, progress=silent):
        for first in range(0, len(data), self.recipe.batch_size):
            rows = range(first, min(first + self.recipe.batch_size, len(data)))
            good = [i for i in rows if data.files[i].read_bytes().startswith(b"\x89PNG")]
            bad = tuple(Rejected(data.ids[i], str(data.files[i]), "broken", "no PNG") for i in rows if i not in good)
            colours = np.array([self.colour(data, i) for i in good], np.float32).reshape(len(good), 3)
            vectors = Vectors(self.entity, [data.ids[i] for i in good], colours)
            yield Batch(vectors, self.digests([data.digests[i] for i in good]), rejected=bad)

    def digests(self, digests):
        return digests

    def colour(self, data, i):
        image = pytest.importorskip("PIL.Image")
        with image.open(data.files[i]) as picture:
            return np.asarray(picture).mean(axis=(0, 1)) / 255 - self.shift


class Colour(Embedder[Images]):
    kind: ClassVar[str] = "colour"
    data: ClassVar[type] = Images
    entity: ClassVar[str] = "image"
    inductive: ClassVar[bool] = True

    batch_size: int = Field(5, ge=1, json_schema_extra={"execution": True})
    encoder: ClassVar[type] = ColourEncoder

    def fit(self, data, *, start=None, progress=silent):
        return self.encoder(self, np.full(3, 0.8, np.float32), mode={"precision": "fp32"})


class TestColour(EmbedderConformance):
    recipe = Colour()


# ---- broken on purpose: each class breaks one promise, and the check named for it must say so


class Impostor(Toy):
    kind: ClassVar[str] = "word2vec"


class Thawed(Toy):
    model_config = ConfigDict(frozen=False)


class Hashed(Toy):
    def assets(self):
        return {"class": str(hash("text"))}  # differs from process to process


class Forgetful(Toy):
    @property
    def fingerprint(self):
        return "0123456789abcdef"


class Overeager(Toy):
    @property
    def fingerprint(self):
        return f"{super().fingerprint}{self.threads}"


class Swallows(Toy):
    gain: float = 1.0

    @property
    def fingerprint(self):
        return Toy.fingerprint.fget(self.model_copy(update={"gain": 1.0}))


class Unseeded(Toy):
    def random(self, shape):
        return np.float32(self.noise) * np.random.default_rng().random(shape, np.float32)


class Seedless(Toy):
    def random(self, shape):
        return np.zeros(shape, np.float32)


class Meaningless(Toy):
    def random(self, shape):
        return np.random.default_rng(self.seed).standard_normal(shape).astype(np.float32) * 100


def toy(**methods):
    """A Toy whose encoder has other methods."""
    made = dataclass(frozen=True, eq=False)(type("BrokenEncoder", (ToyEncoder,), methods))

    class Broken(Toy):
        encoder: ClassVar[type] = made

    return Broken


def colour(**methods):
    made = dataclass(frozen=True, eq=False)(type("BrokenEncoder", (ColourEncoder,), methods))

    class Broken(Colour):
        encoder: ClassVar[type] = made

    return Broken


def rewrite(change):
    """An `encode` that alters each batch of the toy."""

    def encode(self, data, *, progress=silent):
        for number, batch in enumerate(ToyEncoder.encode(self, data)):
            yield change(batch, number)

    return encode


def raw(ids, matrix):
    """Vectors that skip their own checks, as a careless plug-in could."""
    vectors = object.__new__(Vectors)
    for name, value in (("entity", "node"), ("ids", ids), ("matrix", matrix)):
        object.__setattr__(vectors, name, value)
    return vectors


def with_nan(batch, number):
    matrix = batch.vectors.matrix.copy()
    vectors = Vectors("node", batch.vectors.ids, matrix)
    matrix[0, 0] = np.nan  # after the check of Vectors
    return replace(batch, vectors=vectors)


def drops(batch, number):
    return replace(batch, vectors=Vectors("node", batch.vectors.ids[1:], batch.vectors.matrix[1:]))


def doubles(batch, number):
    ids = [batch.vectors.ids[0], batch.vectors.ids[0], *batch.vectors.ids[2:]]
    return replace(batch, vectors=Vectors("node", ids, batch.vectors.matrix))


def renames(batch, number):
    return replace(batch, vectors=Vectors("node", [f"{name}!" for name in batch.vectors.ids], batch.vectors.matrix))


def as_double(batch, number):
    return replace(batch, vectors=raw(batch.vectors.ids, batch.vectors.matrix.astype(np.float64)))


def narrower(batch, number):
    return replace(batch, vectors=Vectors("node", batch.vectors.ids, batch.vectors.matrix[:, number:].copy()))


def as_word(batch, number):
    return replace(batch, vectors=Vectors("word", batch.vectors.ids, batch.vectors.matrix))


def odd_origin(batch, number):
    return replace(batch, origin="invented")


def short_origin(batch, number):
    return replace(batch, origin=["embedded"])


def short_digests(batch, number):
    return replace(batch, digests=["x"])


def mute_rejection(batch, number):
    return replace(drops(batch, number), rejected=(Rejected(batch.vectors.ids[0], "", "", ""),))


def one_batch(self, data, *, progress=silent):
    yield Batch(Vectors("node", self.ids, self.matrix))


def no_batch(self, data, *, progress=silent):
    yield from ()


def one_buffer(self, data, *, progress=silent):
    buffer = np.empty((self.recipe.batch_size, self.dim), np.float32)
    for batch in ToyEncoder.encode(self, data):
        rows = buffer[: len(batch.vectors)]
        rows[:] = batch.vectors.matrix
        yield Batch(Vectors("node", batch.vectors.ids, rows))


def grows(self, data, *, progress=silent):
    for batch in ToyEncoder.encode(self, data):
        yield Batch(Vectors("node", batch.vectors.ids, batch.vectors.matrix.copy()))
    self.matrix[:] *= 2


def lossy(self):
    return {"matrix": self.matrix.astype(np.float16).astype(np.float32)}


def save_pickle(self, folder):
    ToyEncoder.save(self, folder)
    (folder / "weights.pkl").write_bytes(b"")


def lose_mode(self, folder):
    replace(self, mode={}).save_toy(folder)


def batch_mean(self, data, *, progress=silent):
    """Rows that depend on what else is in the batch, as a network left in training mode gives."""
    for batch in ColourEncoder.encode(self, data):
        matrix = batch.vectors.matrix
        yield replace(batch, vectors=Vectors("image", batch.vectors.ids, matrix - matrix.mean(axis=0)))


def position(self, data, i):
    """Rows that depend on their place in the dataset."""
    return ColourEncoder.colour(self, data, i) + 0.001 * i


BROKEN = {
    "another's kind": (Impostor, "check_recipe", "another class"),
    "not frozen": (Thawed, "check_recipe", "frozen"),
    "hash()": (Hashed, "check_fingerprint", "in another process"),
    "constant fingerprint": (Forgetful, "check_fingerprint", "must change"),
    "threads in the fingerprint": (Overeager, "check_fingerprint", "must stay"),
    "a parameter left out": (Swallows, "check_fingerprint", "gain"),
    "NaN": (toy(encode=rewrite(with_nan)), "check_every_id", "NaN"),
    "float64": (toy(encode=rewrite(as_double)), "check_every_id", "float64"),
    "changing dim": (toy(encode=rewrite(narrower)), "check_every_id", "shape"),
    "wrong entity": (toy(encode=rewrite(as_word)), "check_every_id", "word"),
    "odd origin": (toy(encode=rewrite(odd_origin)), "check_every_id", "invented"),
    "one origin for many": (toy(encode=rewrite(short_origin)), "check_every_id", "origin"),
    "one digest for many": (toy(encode=rewrite(short_digests)), "check_every_id", "digest"),
    "no reason": (toy(encode=rewrite(mute_rejection)), "check_every_id", "code or message"),
    "no batch": (toy(encode=no_batch), "check_every_id", "no batch"),
    "dropped id": (toy(encode=rewrite(drops)), "check_every_id", "Missing"),
    "double id": (toy(encode=rewrite(doubles)), "check_every_id", "more than once"),
    "other ids": (toy(encode=rewrite(renames)), "check_every_id", "not asked for"),
    "unbounded batches": (toy(encode=one_batch), "check_batches", "batch_size=4"),
    "depends on the batch": (colour(encode=batch_mean), "check_batches", "tolerance"),
    "one buffer": (toy(encode=one_buffer), "check_repeatable", "wrote into"),
    "encode changes it": (toy(encode=grows), "check_repeatable", "encoding again"),
    "unseeded": (Unseeded, "check_repeatable", "same seed"),
    "seed ignored": (Seedless, "check_repeatable", "another seed"),
    "lossy save": (toy(arrays=lossy), "check_saving", "other bytes"),
    "pickle file": (toy(save=save_pickle), "check_saving", ".pkl"),
    "mode lost": (toy(save=lose_mode, save_toy=ToyEncoder.save), "check_saving", "after loading"),
    "depends on the place": (colour(colour=position), "check_inductive", "tolerance"),
    "no digests": (colour(digests=lambda self, digests: None), "check_inductive", "digest"),
    "one digest": (colour(digests=lambda self, digests: ["x"] * len(digests)), "check_inductive", "one digest"),
    "noise": (Meaningless, "check_neighbours", "another group"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_toy_is_caught(name, tmp_path):
    cls, check, message = BROKEN[name]
    check = next(c for c in CHECKS if c.__name__ == check)
    broken = Case(cls(), EXAMPLES[cls.data](tmp_path), tmp_path)
    with pytest.raises(AssertionError, match=message):
        check(broken)


def test_vectors_refuse_what_the_suite_looks_for():
    ids = ["a", "b"]
    for matrix in (
        np.zeros((2, 3)),
        np.zeros(2, np.float32),
        np.zeros((3, 3), np.float32),
        np.full((2, 1), np.nan, "f"),
    ):
        with pytest.raises(InputError, match=r"Got|holds NaN"):
            Vectors("node", ids, matrix)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
def test_neighbours_are_judged_by_the_similarity_of_the_space(similarity, tmp_path):
    """Two groups that only the right similarity tells apart."""
    rows = {
        "cosine": [[1, 0], [50, 1], [0, 1], [1, 50]],  # lengths differ, directions tell
        "dot": [[9, 1], [9, 2], [1, 9], [2, 9]],
        "l2": [[1, 0], [1.1, 0], [50, 0], [50.1, 0]],  # one direction, lengths tell
    }[similarity]
    name = similarity

    class Other(Toy):
        similarity: ClassVar[str] = name

    recipe = Other()
    example = replace(EXAMPLES[Graph](tmp_path), groups={"a": "x", "b": "x", "c": "y", "d": "y"})
    case = Case(recipe, example, tmp_path)
    matrix = np.array(rows, np.float32)
    case.__dict__["encoder"] = ToyEncoder(recipe, list("abcd"), matrix)
    case.__dict__["answer"] = Answer(list("abcd"), matrix, [None] * 4, [], [4])
    check_neighbours(case)
    case.__dict__["answer"] = Answer(list("acbd"), matrix, [None] * 4, [], [4])
    with pytest.raises(AssertionError, match="another group"):
        check_neighbours(case)


def test_examples_hold_a_row_that_has_no_vector(tmp_path):
    """So that a suite run exercises excluded, isolated and rejected rows."""
    corpus, graph, images = (EXAMPLES[kind](tmp_path) for kind in (Corpus, Graph, Images))
    assert 1 in corpus.data.counts
    assert len(images.data) == len(images.groups) + 1
    assert set(graph.data.ids) - set(graph.groups) == {"left 0", "правый0", "alone"}
    words = embedder_class("word2vec")(dim=2, epochs=1, threads=1).fit(corpus.data)
    assert dict(words.excluded(corpus.data)) == {"below_min_count": 1}
    assert len(answer(words, corpus.data).ids) == len(corpus.data) - 1
