"""Commands that ask the vectors: search, analogy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, err, load_store, print_json, print_table
from flows.cli.look import Reference

if TYPE_CHECKING:
    from embedders.base import Matrix, Similarity
    from storage.lookup import Lookup

K = Annotated[int, typer.Option("-k", min=1, help="How many.")]
HINTED = 100_000  # rows whose ids are compared with one that is not known


def search(
    reference: Reference,
    query: Annotated[str, typer.Argument(help="An id of the space.")],
    k: K = 10,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Find the rows nearest to one row, or to a word that is composed of subwords."""
    from evaluation.neighbours import best
    from storage.lookup import Lookup

    lookup = Lookup(load_store(file).find(reference))
    rows, vectors = _vectors(lookup, [query])
    similarity = lookup.version.manifest.similarity
    [scores] = _similarities(lookup, vectors, similarity)
    found = best(scores, k, exclude=rows)
    sign = -1 if similarity == "l2" else 1
    _print_found(lookup, [(place, sign * score) for place, score in found], similarity, as_json)


def analogy(
    reference: Reference,
    words: Annotated[list[str], typer.Argument(help="Words with signs between them: king - man + woman")],
    k: K = 5,
    method: Annotated[str, typer.Option("--method", help="add: 3CosAdd; mul: 3CosMul.")] = "add",
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Solve an analogy by adding and taking away vectors: polyvec analogy words king - man + woman."""
    from embedders.errors import InputError
    from evaluation.analogies import check_method, combined
    from evaluation.neighbours import best, similarities
    from storage.lookup import Lookup

    how = check_method(method)
    asked, signs = [], []
    sign = 1
    for word in words:
        if word in {"+", "-"}:
            sign = 1 if word == "+" else -1
        else:
            asked.append(word)
            signs.append(sign)
            sign = 1
    if len(asked) < 2 or max(signs) < 0:
        raise InputError(
            f"Got {' '.join(words)!r}; expected words with + and - between them, as in: king - man + woman"
        )
    lookup = Lookup(load_store(file).find(reference))
    rows, vectors = _vectors(lookup, asked, fold=True)
    among = similarities(vectors, vectors, "cosine")
    scores = combined(_similarities(lookup, vectors, "cosine"), among, signs, how)
    _print_found(lookup, best(scores, k, exclude=rows), "cosine" if how == "add" else "3CosMul", as_json)


def _vectors(lookup: Lookup, asked: Sequence[str], *, fold: bool = False) -> tuple[list[int], Matrix]:
    """Rows that some ids have, and a vector of each id (t, dim): its row's, else one that the encoder composes.

    fold : where there is no such id, look for it in lower case.

    Raises
    ------
    InputError : there is no vector for one of them; close ids are named.
    """
    import numpy as np

    found = lookup.rows(asked)
    if fold and (left := [name for name in asked if name not in found]):
        lower = lookup.rows({name.lower() for name in left})
        found |= {name: lower[name.lower()] for name in left if name.lower() in lower}
    rows = list(found.values())
    unseen = [name for name in dict.fromkeys(asked) if name not in found]
    place = {name: i for i, name in enumerate([*found, *unseen])}
    matrix = np.concatenate([lookup.vectors(rows), _composed(lookup, unseen)]) if unseen else lookup.vectors(rows)
    return rows, matrix[[place[name] for name in asked]]


def _composed(lookup: Lookup, words: Sequence[str]) -> Matrix:
    """(words, dim) vectors of words that are no ids, and a line that says so."""
    from embedders.errors import InputError
    from embedders.registry import embedder_class, known

    version = lookup.version
    kind = version.manifest.recipe.kind
    if kind not in known() or not getattr(embedder_class(kind), "subwords", False):
        word = words[0]
        alike = [other for other in lookup.first_ids(HINTED) if abs(len(other) - len(word)) <= 2]
        close = difflib.get_close_matches(word, alike, 5)
        hint = f" Close ones: {', '.join(close)}." if close else ""
        raise InputError(
            f"Got {word!r}, which is no id of {version.manifest.space} @ {version.number}; expected one of its {len(version):,} ids.{hint}"
        )
    encoder: Any = version.encoder()
    vectors: Matrix = encoder.vectors_of(words)
    for word in words:
        text = f"{word!r} is no id of {version.manifest.space} @ {version.number}; its vector was composed of subwords."
        err.print(text, markup=False, soft_wrap=True)
    return vectors


def _similarities(lookup: Lookup, queries: Matrix, similarity: Similarity) -> Matrix:
    """(q, n) float32 of some vectors (q, dim) to all rows."""
    import numpy as np

    from embedders.kernels.blas import one_thread
    from evaluation.neighbours import similarities

    with one_thread():  # several parts are looked at at a time
        return np.concatenate(lookup.scan(lambda part: similarities(part, queries, similarity)), axis=1)


def _print_found(lookup: Lookup, found: Sequence[tuple[int, float]], measure: str, as_json: bool) -> None:
    names = lookup.ids([row for row, _ in found])
    scored = [(name, score) for name, (_, score) in zip(names, found, strict=True)]
    if as_json:
        print_json([{"id": name, "score": round(score, 6)} for name, score in scored])
    else:
        print_table(["id", measure], [[name, f"{score:.4f}"] for name, score in scored], [measure])
