"""The conformance suite: what every embedder must do, checked on small data whose answer is known.

A plug-in's test file is this (pytest runs one test for each check):

    from embedders.testing import EmbedderConformance
    from my_package import Mine

    class TestMine(EmbedderConformance):
        recipe = Mine(dim=8)

The data is chosen by what the recipe reads; give `example` where the plug-in needs another.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from embedders.base import Embedder, Encoder, Matrix, Sides
from embedders.registry import embedder_class, known
from embedders.testing_data import EXAMPLES, Example

MOST_ROWS = 65536
"""Rows that a batch may hold when the recipe has no `batch_size`."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Everything an encoder yielded for a dataset, joined."""

    ids: Sequence[str]
    matrix: Matrix
    digests: Sequence[str | None]
    rejected: Sequence[str]
    sizes: Sequence[int]

    def rows(self, ids: Sequence[str]) -> Matrix:
        """The vectors of `ids`, in that order."""
        place = {name: i for i, name in enumerate(self.ids)}
        return self.matrix[[place[name] for name in ids]]


def answer(encoder: Encoder[Any], data: Any) -> Answer:
    """Encode `data`, check each batch, and join them."""
    ids: list[str] = []
    parts: list[Matrix] = []
    digests: list[str | None] = []
    rejected: list[str] = []
    sizes: list[int] = []
    for batch in encoder.encode(data):
        matrix = batch.vectors.matrix
        assert isinstance(matrix, np.ndarray), f"Got {type(matrix)}; expected a NumPy array."
        assert matrix.dtype == np.float32, f"Got {matrix.dtype} vectors; expected float32."
        assert matrix.shape == (len(batch.vectors.ids), encoder.dim), (
            f"Got a matrix of shape {matrix.shape} for {len(batch.vectors.ids)} ids and dim {encoder.dim}."
        )
        assert np.isfinite(matrix).all(), "Got NaN or infinity in the vectors."
        assert batch.vectors.entity == encoder.entity, f"Got {batch.vectors.entity!r}; expected {encoder.entity!r}."
        origins = [batch.origin] if isinstance(batch.origin, str) else list(batch.origin)
        assert isinstance(batch.origin, str) or len(origins) == len(matrix), "Got not one origin a row."
        assert set(origins) <= {"embedded", "folded_in", "isolated", "imputed"}, f"Got origins {set(origins)}."
        assert batch.digests is None or len(batch.digests) == len(matrix), "Got not one digest a row."
        ids += batch.vectors.ids
        parts.append(matrix.copy())  # an embedder may not reuse the array of an earlier batch, see `check_repeatable`
        digests += [None] * len(matrix) if batch.digests is None else batch.digests
        rejected += [row.id for row in batch.rejected]
        assert all(row.code and row.message for row in batch.rejected), "Got a rejected row without code or message."
        sizes.append(len(matrix) + len(batch.rejected))
    assert parts, "Got no batch at all."
    return Answer(ids, np.concatenate(parts), digests, rejected, sizes)


@dataclass(frozen=True, eq=False)
class Case:
    """A recipe and its data. Every check takes one; what was fitted is kept for the next check.

    side : of a recipe that learns several entities together, the one that is looked at.
    """

    recipe: Embedder[Any]
    example: Example
    folder: Path
    side: str = ""

    @cached_property
    def repeatable(self) -> Embedder[Any]:
        """The recipe on one thread, where it has `threads`."""
        return self.changed(threads=1) if "threads" in type(self.recipe).model_fields else self.recipe

    @cached_property
    def encoder(self) -> Encoder[Any]:
        return self.fit()

    def fit(self) -> Encoder[Any]:
        """What the recipe learns."""
        found = self.repeatable.fit(self.example.data, start=self.example.start)
        return found.sides[self.side] if isinstance(found, Sides) else found

    @property
    def ids(self) -> Sequence[str]:
        """All that is asked for."""
        return self.example.ids[self.side] if self.side else self.example.data.ids

    @cached_property
    def answer(self) -> Answer:
        return answer(self.encoder, self.example.data)

    def changed(self, **values: Any) -> Embedder[Any]:
        """The recipe with other parameters, validated."""
        return type(self.recipe).model_validate({**self.recipe.model_dump(), **values})


def check_recipe(case: Case) -> None:
    """The recipe cannot be changed, and its names are those of its entry point."""
    recipe = case.recipe
    try:
        recipe.seed = 1
    except (ValidationError, AttributeError, TypeError):
        pass
    else:
        raise AssertionError("Got a recipe whose seed can be set; expected model_config with frozen=True.")
    assert recipe.kind.isascii() and recipe.entity and recipe.similarity in {"cosine", "dot", "l2"}
    assert isinstance(case.example.data, recipe.data), f"{recipe.data} is not what the example holds."
    if recipe.kind in known():
        assert embedder_class(recipe.kind) is type(recipe), f"The entry point {recipe.kind!r} is another class."


def check_fingerprint(case: Case) -> None:
    """The same in another process (so the recipe pickles); another for what changes the numbers, and only then."""
    recipe = case.recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe, "Got another recipe back from pickle."
    code = "import pickle, sys; sys.path[:] = sys.argv[1:]; print(pickle.load(sys.stdin.buffer).fingerprint)"
    for hashing in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path.cwd()), *sys.path],
            input=pickle.dumps(recipe), capture_output=True, env={**os.environ, "PYTHONHASHSEED": hashing},
        )  # fmt: skip
        assert not done.returncode, f"The recipe does not unpickle in another process:\n{done.stderr.decode()}"
        found = done.stdout.decode().strip()
        assert found == recipe.fingerprint, f"Got fingerprint {found} in another process, {recipe.fingerprint} here."
    for name, value in recipe.model_dump().items():
        if isinstance(value, (int, float)):
            other = recipe.model_copy(update={name: not value if isinstance(value, bool) else value + 1})
            runs_only = name in recipe.execution_only()
            assert (other.fingerprint == recipe.fingerprint) == runs_only, (
                f"{name} is {'execution-only' if runs_only else 'a parameter'}: the fingerprint must "
                f"{'stay' if runs_only else 'change'} when it changes."
            )


def check_every_id(case: Case) -> None:
    """Vectors, rejected rows and rows excluded by rule are the ids of the data; no id stands twice."""
    got, ids = [*case.answer.ids, *case.answer.rejected], case.ids
    twice = {name for name in got if got.count(name) > 1}
    assert not twice, f"Got {sorted(twice)} more than once."
    strange = set(got) - set(ids)
    assert not strange, f"Got ids that were not asked for: {sorted(strange)}."
    excluded = sum(case.encoder.excluded(case.example.data).values())
    assert len(got) + excluded == len(ids), (
        f"Got {len(case.answer.ids)} vectors, {len(case.answer.rejected)} rejected and {excluded} excluded rows; "
        f"expected {len(ids)} in all. Missing: {sorted(set(ids) - set(got))}."
    )


def check_batches(case: Case) -> None:
    """A batch holds at most `batch_size` rows, or 65,536; where rows are encoded one by one its size changes nothing."""
    if "batch_size" in type(case.recipe).model_fields:
        small = replace(case, recipe=case.changed(batch_size=4))
        assert max(small.answer.sizes) <= 4, f"Got a batch of {max(small.answer.sizes)} rows for batch_size=4."
        if case.recipe.inductive:
            _close(case, small.answer.rows(case.answer.ids), case.answer.matrix)
    assert max(case.answer.sizes) <= MOST_ROWS, f"Got a batch of {max(case.answer.sizes):,} rows."


def check_repeatable(case: Case) -> None:
    """On one thread the same seed gives the same bytes; encoding again too; a trained embedder follows its seed."""
    data = case.example.data
    kept = [(batch.vectors.matrix, batch.vectors.matrix.copy()) for batch in case.encoder.encode(data)]
    assert all(np.array_equal(now, then) for now, then in kept), "Got an array that a later batch wrote into."
    _same(answer(case.encoder, data), case.answer, "encoding again")
    _same(answer(case.fit(), data), case.answer, "fitting again with the same seed")
    if not case.recipe.inductive and not case.recipe.deterministic:
        other = replace(case, recipe=case.changed(seed=case.recipe.seed + 1)).answer
        assert not np.array_equal(other.matrix, case.answer.matrix), "Got the same numbers with another seed."


def check_saving(case: Case) -> None:
    """A saved encoder comes back with the same bytes; its files are JSON and safetensors."""
    folder = case.folder / "saved"
    case.encoder.save(folder)
    odd = {path.suffix for path in folder.iterdir()} - {".json", ".safetensors"}
    assert not odd, f"Got files {odd}; expected JSON and safetensors."
    loaded = type(case.recipe).load(folder)
    for name in ("recipe", "dim", "entity", "similarity"):
        got, expected = getattr(loaded, name), getattr(case.encoder, name)
        assert got == expected, f"Got {name}={got!r} after loading; expected {expected!r}."
    mode = json.loads(json.dumps(dict(case.encoder.mode)))
    assert json.loads(json.dumps(dict(loaded.mode))) == mode, f"Got {loaded.mode} after loading; expected {mode}."
    _same(answer(loaded, case.example.data), case.answer, "saving and loading")


def check_inductive(case: Case) -> None:
    """Where rows are encoded one by one: some of them give the same vectors as all, and each has its digest."""
    if not case.recipe.inductive:
        return
    assert case.example.part is not None, "An inductive embedder needs an example with `part`."
    some = answer(case.encoder, case.example.part)
    assert 0 < len(some.ids) < len(case.answer.ids), "The part must ask for some rows, not for all."
    _close(case, some.matrix, case.answer.rows(some.ids))
    assert all(case.answer.digests), "Got a row without a digest."
    assert len(set(case.answer.digests)) > 1, "Got one digest for all rows."
    known = dict(zip(case.example.data.ids, case.example.data.digests, strict=True))
    wrong = [name for name, digest in zip(case.answer.ids, case.answer.digests, strict=True) if known[name] != digest]
    assert not wrong, f"Got other digests than the data's for {wrong[:5]}: each run would embed them again."


def check_neighbours(case: Case) -> None:
    """The nearest neighbour is of the same group (chance: half); at most one in ten is not."""
    ids = [name for name in case.answer.ids if name in case.example.groups]
    if not case.example.groups:
        return  # of a baseline that tells nothing
    asked = set(case.ids) if case.side else set(case.example.groups)
    assert len(ids) == len(asked & set(case.example.groups)), "Got no vector for some rows of known answer."
    rows = case.answer.rows(ids).astype(np.float64)
    if case.encoder.similarity == "cosine":
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    likeness = rows @ rows.T
    if case.encoder.similarity == "l2":
        likeness = 2 * likeness - (rows**2).sum(axis=1)
    np.fill_diagonal(likeness, -np.inf)
    nearest = [ids[i] for i in likeness.argmax(axis=1)]
    wrong = {a: b for a, b in zip(ids, nearest, strict=True) if case.example.groups[a] != case.example.groups[b]}
    assert len(wrong) <= len(ids) / 10, f"Got {len(wrong)} of {len(ids)} nearest neighbours of another group: {wrong}."


def _same(got: Answer, expected: Answer, after: str) -> None:
    assert list(got.ids) == list(expected.ids), f"Got other ids after {after}."
    assert list(got.rejected) == list(expected.rejected), f"Got other rejected rows after {after}."
    assert got.matrix.tobytes() == expected.matrix.tobytes(), f"Got other bytes after {after}."


def _close(case: Case, got: Matrix, expected: Matrix) -> None:
    """Equal up to 1e-5 in float32, in bfloat16 to a cosine of 0.999."""
    if case.encoder.mode.get("precision") == "bf16":
        lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
        worst = float(((got * expected).sum(axis=1) / lengths).min())
        assert worst >= 0.999, f"Got a cosine of {worst:.5f} to the same row in other batches; expected 0.999."
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


CHECKS: Sequence[Callable[[Case], None]] = (
    check_recipe, check_fingerprint, check_every_id, check_batches,
    check_repeatable, check_saving, check_inductive, check_neighbours,
)  # fmt: skip


def cases(recipe: Embedder[Any], example: Example, folder: Path) -> Sequence[Case]:
    """A case for each side of a recipe, or the one of a recipe without."""
    return [
        Case(recipe, example, folder / (side or "one"), side)
        for side in recipe.sides(getattr(example.data, "columns", ())) or ("",)
    ]


class EmbedderConformance:
    """Base of a plug-in's test class: set `recipe`, and `example` where the data above does not fit."""

    recipe: Embedder[Any]
    _cases: Sequence[Case] | None = None

    def example(self, folder: Path) -> Example:
        """Data with a known answer; `folder` is empty and may hold files of it."""
        return EXAMPLES[self.recipe.data](folder)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test a check."""
        metafunc.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])

    def test_conforms(self, check: Callable[[Case], None], tmp_path_factory: Any) -> None:
        cls = type(self)
        if cls._cases is None:
            folder = tmp_path_factory.mktemp("conformance")
            cls._cases = cases(self.recipe, self.example(folder), folder)
        for case in cls._cases:
            check(case)
