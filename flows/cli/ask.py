"""Commands that ask the vectors: search, analogy."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load_store, print_json, print_table
from flows.cli.look import Reference

K = Annotated[int, typer.Option("-k", min=1, help="How many.")]


def search(
    reference: Reference,
    query: Annotated[str, typer.Argument(help="An id of the space.")],
    k: K = 10,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Find the rows nearest to one row."""
    from embedders.errors import InputError
    from flows.report import neighbours_of

    version = load_store(file).find(reference)
    rows = (version.ids == query).nonzero()[0]
    if not len(rows):
        close = difflib.get_close_matches(query, version.ids[:100_000].tolist(), 5)
        hint = f" Close ones: {', '.join(close)}." if close else ""
        raise InputError(
            f"Got {query!r}, which is no id of {version.manifest.space} @ {version.number}; expected one of its {len(version):,} ids.{hint}"
        )
    found = neighbours_of(version, rows.tolist(), k)[0]
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
    _print_found(solve(load_store(file).find(reference).vectors, positive, negative, k=k), "cosine", as_json)


def _print_found(found: list[tuple[str, float]], similarity: str, as_json: bool) -> None:
    if as_json:
        print_json([{"id": name, "score": round(score, 6)} for name, score in found])
    else:
        print_table(["id", similarity], [[name, f"{score:.4f}"] for name, score in found], [similarity])
