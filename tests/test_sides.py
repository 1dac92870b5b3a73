"""Embedders of several entities: one training, a space for each side."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.base import Sides
from embedders.errors import InputError
from embedders.interaction.als import Als
from embedders.interactions import Interactions
from embedders.testing_data import interactions_example
from flows import steps
from flows.pipeline import Pipeline
from flows.plan import make_plan
from storage.writer import Writer

PIPELINE = """
store: ./vectors
datasets:
  visits: {kind: interactions, path: visits.tsv}
spaces:
  club: {dataset: visits, embedder: als, params: {dim: 4, threads: 1}OPTIONS}
"""


@pytest.fixture
def folder(tmp_path):
    example = interactions_example(tmp_path).data
    lines = [f"{example.users[u]}\t{example.items[i]}" for u, i in zip(example.user, example.item, strict=True)]
    (tmp_path / "visits.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def pipeline(folder, options=""):
    (folder / "polyvec.yaml").write_text(PIPELINE.replace("OPTIONS", options))
    return Pipeline.load(folder / "polyvec.yaml")


def test_each_side_is_a_space(folder):
    found = pipeline(folder)
    assert found.entries == {"club.users": "club", "club.items": "club"}
    plan = make_plan(found)
    assert [(s.name, s.entry, s.action) for s in plan.spaces] == [
        ("club.users", "club", "embed"),
        ("club.items", "club", "embed"),
    ]
    made = steps.embed(found, "club", "one")
    assert {space: ref.rows for space, ref in made.items()} == {"club.users": 24, "club.items": 21}
    users, items = (found.vectors.space(space).latest() for space in made)
    assert (users.manifest.entity, items.manifest.entity) == ("user", "item")
    assert (users.manifest.side, users.manifest.similarity) == ("users", "dot")
    expected = found.recipe("club.users").fit(
        found.dataset("club.items").read(plan.scans["visits"], Interactions, cache=folder)
    )
    assert np.array_equal(users.matrix, expected.sides["users"].matrix)
    assert [s.action for s in make_plan(found).spaces] == ["up to date"] * 2
    assert not any(ref.fresh for ref in steps.embed(found, "club", "two").values())


def test_one_side_names_its_entry(folder):
    assert [s.name for s in make_plan(pipeline(folder), only=["club.items"]).spaces] == ["club.users", "club.items"]


def test_sides_of_two_trainings_are_learned_anew(folder, monkeypatch):
    """As after a kill between two commits."""
    found = pipeline(folder)
    steps.embed(found, "club", "one")
    real = Writer.commit

    def killed(self, *given, **more):
        if self.space.name == "club.items":
            raise KeyboardInterrupt
        return real(self, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            steps.embed(found, "club", "two", force=True)
    assert [found.vectors.space(s).latest().number for s in found.entries] == [2, 1]
    assert {s.reason for s in make_plan(found).spaces} == {"its spaces are not of one training"}
    steps.embed(found, "club", "three")
    assert [found.vectors.space(s).latest().number for s in found.entries] == [3, 2]
    assert {s.action for s in make_plan(found).spaces} == {"up to date"}


def test_a_change_goes_on_from_both_sides(folder):
    found = pipeline(folder)
    steps.embed(found, "club", "one")
    with (folder / "visits.tsv").open("a") as file:
        file.write("a new user\twater\n")
    assert make_plan(found, extent=True).spaces[1].reason == "the dataset changed: goes on from version 1"
    made = steps.embed(found, "club", "two")
    versions = {space: found.vectors.space(space).latest() for space in made}
    assert {space: (v.manifest.warm_start, len(v)) for space, v in versions.items()} == {
        "club.users": (1, 25),
        "club.items": (1, 21),
    }


def test_new_rows_are_folded_in(folder):
    found = pipeline(folder, ", fold_in: 0.2")
    steps.embed(found, "club", "one")
    with (folder / "visits.tsv").open("a") as file:
        file.write("a new user\ttea item 1\na new user\ttea item 2\na new user\twater\n")
        file.write("a lost user\tan item nobody knows\n")
    steps.embed(found, "club", "two")
    users, items = (found.vectors.space(space).latest() for space in found.entries)
    assert users.manifest.folded_into == items.manifest.folded_into == 1
    counts = users.manifest.counts
    assert (counts.folded_in, dict(counts.excluded)) == (1, {"nothing known to fold in by": 1})
    assert dict(items.manifest.counts.excluded) == {"nothing known to fold in by": 1}
    assert (
        dict(zip(users.ids, users.table(["origin"]).column("origin").to_pylist(), strict=True))["a new user"]
        == "folded_in"
    )
    scores = users.matrix[list(users.ids).index("a new user")] @ items.matrix.T
    best = [items.ids[i] for i in np.argsort(-scores)[:8]]
    assert sum("tea" in name for name in best) >= 7
    before = found.vectors.space("club.users").version(1)
    assert np.array_equal(users.matrix[:24], before.matrix)


def test_what_is_said_of_an_entry_is_of_its_first_side(folder):
    text = (
        PIPELINE.replace("OPTIONS", "") + "evaluate:\n  club.items: [{name: a, metric: neighbours, path: labels.csv}]\n"
    )
    (folder / "polyvec.yaml").write_text(
        text.replace("club.items: [", "club: [{name: b, metric: neighbours, path: labels.csv}]\n  club.items: [")
    )
    found = Pipeline.load(folder / "polyvec.yaml")
    assert [[e.name for e in found.evaluations(space)] for space in found.entries] == [["b"], ["a"]]


def test_two_entries_with_one_space(folder):
    text = PIPELINE.replace("OPTIONS", "") + "  club.users: {dataset: visits, embedder: als}\n"
    (folder / "polyvec.yaml").write_text(
        text.replace(
            "club.users: {dataset: visits, embedder: als}", "other: {fuse: [club.users, club.itms], embedder: als}"
        )
    )
    with pytest.raises(
        Exception,
        match=r"got the space .club\.itms",
    ):
        Pipeline.load(folder / "polyvec.yaml")


def test_an_entry_is_not_called_as_a_side_of_another(folder):
    text = PIPELINE.replace("OPTIONS", "") + "  club.users: {dataset: visits, embedder: als}\n"
    (folder / "polyvec.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"yaml:7: spaces\.club\.users: got club\.users, which is also what a space of club"
    ):
        Pipeline.load(folder / "polyvec.yaml")


@pytest.mark.parametrize("start", ["{space: other.users}", "{file: vectors.txt}"])
def test_sides_begin_at_no_other_vectors(folder, start):
    (folder / "vectors.txt").write_text("1 4\na 1 2 3 4\n")
    more = f", start: {start}" + "}\n  other: {dataset: visits, embedder: als, params: {dim: 4}"
    with pytest.raises(
        InputError, match=r"spaces\.club\.start: got '.*' with 'als', which goes on from the version before by itself"
    ):
        pipeline(folder, more)


def test_a_warm_start_keeps_the_vectors_near(folder):
    data = interactions_example(folder).data
    recipe = Als(dim=4, threads=1, regularization=0.1, iterations=40)
    cold = recipe.fit(data)
    less = data.select(np.arange(len(data) - 5))
    warm = recipe.fit(less, start=cold)
    anew = Als(dim=4, threads=1, regularization=0.1, iterations=40, seed=1).fit(less)
    assert isinstance(warm, Sides)

    def moved(other):
        return np.linalg.norm(other.sides["users"].matrix - cold.sides["users"].matrix)

    assert moved(warm) < moved(anew) / 5


def test_folding_in_is_one_step_of_the_alternation(folder):
    """Hu, Koren and Volinsky 2008, equation 4, solved densely."""
    data = interactions_example(folder).data
    recipe = Als(dim=4, threads=1, regularization=0.5, alpha=3.0, confidence="1+linear")
    users = recipe.fit(data).sides["users"]
    fewer = replace(users, ids=list(users.ids)[1:], matrix=users.matrix[1:])
    found = fewer.fold_in(data)
    items, weights = users.other.astype(float), data.matrix().toarray()[0].astype(float)
    confidence = np.where(weights > 0, 1 + 3.0 * weights, 1.0)
    system = items.T @ (confidence[:, None] * items) + 0.5 * np.eye(4)
    expected = np.linalg.solve(system, items.T @ (confidence * (weights > 0)))
    assert np.allclose(found.matrix[0], expected, atol=1e-4)
    assert found.untrained == 1
