"""Commands that ask the vectors: search, analogy."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, err, load_store, print_json, print_table
from flows.cli.look import Reference

if TYPE_CHECKING:
    from embedders.base import Matrix, Vectors
    from storage.space import Version

K = Annotated[int, typer.Option("-k", min=1, help="How many.")]


def search(
    reference: Reference,
    query: Annotated[str, typer.Argument(help="An id of the space.")],
    k: K = 10,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Find the rows nearest to one row, or to a word that is composed of subwords."""
    from embedders.errors import InputError
    from evaluation.neighbours import nearest
    from flows.report import neighbours_of

    version = load_store(file).find(reference)
    rows = (version.ids == query).nonzero()[0]
    if len(rows):
        found = neighbours_of(version, rows.tolist(), k)[0]
    elif (vector := _composed(version, [query])) is not None:
        near, scores = nearest(version.matrix, vector, version.manifest.similarity, k)
        found = [(str(version.ids[i]), float(score)) for i, score in zip(near[0], scores[0], strict=True)]
    else:
        close = difflib.get_close_matches(query, version.ids[:100_000].tolist(), 5)
        hint = f" Close ones: {', '.join(close)}." if close else ""
        raise InputError(
            f"Got {query!r}, which is no id of {version.manifest.space} @ {version.number}; expected one of its {len(version):,} ids.{hint}"
        )
    _print_found(found, version.manifest.similarity, as_json)


def analogy(
    reference: Reference,
    words: Annotated[list[str], typer.Argument(help="Words with signs between them: king - man + woman")],
    k: K = 5,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Solve an analogy by adding and taking away vectors: polyvec analogy words king - man + woman."""
    from embedders.errors import InputError
    from evaluation.analogies import solve

    positive: list[str] = []
    negative: list[str] = []
    sign = positive
    for word in words:
        if word in {"+", "-"}:
            sign = positive if word == "+" else negative
        else:
            sign.append(word)
            sign = positive
    if not positive or len(positive) + len(negative) < 2:
        raise InputError(
            f"Got {' '.join(words)!r}; expected words with + and - between them, as in: king - man + woman"
        )
    vectors = _with_unseen(load_store(file).find(reference), [*positive, *negative])
    _print_found(solve(vectors, positive, negative, k=k), "cosine", as_json)


def _composed(version: Version, words: list[str]) -> Matrix | None:
    """Vectors of words that are no ids, and a line that says so; None where the embedder knows no parts of words."""
    from embedders.registry import embedder_class, known

    kind = version.manifest.recipe.kind
    if kind not in known() or not getattr(embedder_class(kind), "subwords", False):
        return None
    encoder: Any = version.encoder()
    vectors: Matrix = encoder.vectors_of(words)
    for word in words:
        text = f"{word!r} is no id of {version.manifest.space} @ {version.number}; its vector was composed of subwords."
        err.print(text, markup=False, soft_wrap=True)
    return vectors


def _with_unseen(version: Version, words: list[str]) -> Vectors:
    """The vectors of a version and, where they can be composed, of words that are not there."""
    import numpy as np

    from embedders.base import Vectors

    vectors = version.vectors
    ids = set(vectors.ids)
    unseen = [word for word in dict.fromkeys(words) if word not in ids and word.lower() not in ids]
    if not unseen or (rows := _composed(version, unseen)) is None:
        return vectors
    return Vectors(vectors.entity, [*vectors.ids, *unseen], np.concatenate([vectors.matrix, rows]))


def _print_found(found: list[tuple[str, float]], similarity: str, as_json: bool) -> None:
    if as_json:
        print_json([{"id": name, "score": round(score, 6)} for name, score in found])
    else:
        print_table(["id", similarity], [[name, f"{score:.4f}"] for name, score in found], [similarity])
