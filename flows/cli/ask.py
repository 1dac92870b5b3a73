"""Commands that ask the vectors: search, analogy, recommend."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, err, load, load_store, print_json, print_table
from flows.cli.look import Reference

if TYPE_CHECKING:
    from embedders.base import Matrix, Similarity
    from embedders.errors import InputError
    from storage.lookup import Lookup

K = Annotated[int, typer.Option("-k", min=1, help="How many.")]
ASKED = 64  # queries that are compared with all rows in one pass
HINTED = 100_000  # rows whose ids are compared with one that is not known

Found = Sequence[tuple[int, float]]  # row and score, the best first


def search(
    reference: Reference,
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...",
            help="An id of the space; or a picture file (in a space of pictures), or a text in quotes (in a space of documents); "
            "or either of them in a space that such spaces were projected into (contrastive, cca). An id goes before a "
            "file or text of the same name, ./NAME is always a file.",
        ),
    ],
    k: K = 10,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """Find the rows nearest to one row, to a picture file, a text, or to a word that is composed of subwords."""
    from evaluation.neighbours import best
    from storage.lookup import Lookup

    lookup = Lookup(load_store(file).find(reference))
    rows, vectors = _vectors(lookup, queries, file)
    similarity = lookup.version.manifest.similarity
    sign = -1 if similarity == "l2" else 1
    answers: list[Found] = []
    for first in range(0, len(queries), ASKED):
        part = slice(first, first + ASKED)
        for query, scores in zip(queries[part], _similarities(lookup, vectors[part], similarity), strict=True):
            found = best(scores, k, exclude=[rows[query]] if query in rows else ())
            answers.append([(place, sign * score) for place, score in found])
    _print_found(lookup, queries, answers, similarity, as_json)


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
    rows, vectors = _vectors(lookup, asked, file, fold=True)
    among = similarities(vectors, vectors, "cosine")
    scores = combined(_similarities(lookup, vectors, "cosine"), among, signs, how)
    found = best(scores, k, exclude=list(rows.values()))
    _print_found(lookup, [""], [found], "cosine" if how == "add" else "3CosMul", as_json)


def recommend(
    reference: Annotated[
        str, typer.Argument(metavar="SPACE[@V]", help="An entry of the pipeline file that learns users and items.")
    ],
    user: Annotated[str, typer.Argument(metavar="USER", help="A user, as the data calls it.")],
    k: K = 10,
    file: File = DEFAULT_FILE,
    as_json: Json = False,
) -> None:
    """List the items that a user may like best, without those met in the dataset as it is."""
    from flows.recommend import recommend_to

    found = recommend_to(load(file), reference, user, k)
    ranked = [(rank, item, score) for rank, (item, score) in enumerate(found.best, start=1)]
    if as_json:
        print_json([{"rank": rank, "item": item, "score": round(score, 6)} for rank, item, score in ranked])
        return
    measure = found.users.manifest.similarity
    rows = [[str(rank), item, f"{score:.4f}"] for rank, item, score in ranked]
    print_table(["rank", "item", measure], rows, ["rank", measure])
    if not rows:
        err.print(f"{user!r} has met every item that has a vector.", markup=False, soft_wrap=True)


def _vectors(lookup: Lookup, asked: Sequence[str], file: Path, *, fold: bool = False) -> tuple[dict[str, int], Matrix]:
    """Rows of the ids among some queries, and a vector of each query (t, dim): its row's, else one that is made of it.

    fold : where there is no such id, look for it in lower case.

    Raises
    ------
    InputError : there is no vector for one of them; close ids are named.
    """
    import numpy as np

    from flows.queries import takes_pictures, takes_texts

    pictures, texts = takes_pictures(lookup.version), takes_texts(lookup.version)
    found = lookup.rows(name for name in asked if not (pictures and name.startswith("./")))
    if fold and (left := [name for name in asked if name not in found]):
        lower = lookup.rows({name.lower() for name in left})
        found |= {name: lower[name.lower()] for name in left if name.lower() in lower}
    rows = list(found.values())
    unseen = [name for name in dict.fromkeys(asked) if name not in found]
    place = {name: i for i, name in enumerate([*found, *unseen])}
    parts = [lookup.vectors(rows)]
    if unseen:
        made = _embedded(lookup, unseen, file, texts=texts) if pictures or texts else _composed(lookup, unseen)
        parts.append(made)
    matrix = np.concatenate(parts)
    return found, matrix[[place[name] for name in asked]]


def _embedded(lookup: Lookup, names: Sequence[str], file: Path, *, texts: bool) -> Matrix:
    """(names, dim) vectors of picture files and texts, and a line that says so. texts : the space takes texts."""
    from flows.queries import embed_queries, is_file, tokens_of

    version = lookup.version
    for name in names:
        if not texts and not is_file(name):
            raise _unknown(lookup, name, " and no picture file")
    answered = embed_queries(version, names, tokens_of(file) if texts else {})
    for text in answered.told:
        err.print(text, markup=False, soft_wrap=True)
    return answered.vectors


def _unknown(lookup: Lookup, name: str, also: str = "") -> InputError:
    """What is said of a query that is no id. also: what else it is not."""
    from embedders.errors import InputError

    version = lookup.version
    alike = [other for other in lookup.first_ids(HINTED) if abs(len(other) - len(name)) <= 2]
    close = difflib.get_close_matches(name, alike, 5)
    hint = f" Close ones: {', '.join(close)}." if close else ""
    return InputError(
        f"Got {name!r}, which is no id of {version.manifest.space} @ {version.number}{also}; expected one of its "
        f"{len(version):,} ids{', or a picture file' if also else ''}.{hint}"
    )


def _composed(lookup: Lookup, words: Sequence[str]) -> Matrix:
    """(words, dim) vectors of words that are no ids, and a line that says so."""
    from embedders.registry import embedder_class, known

    version = lookup.version
    kind = version.manifest.recipe.kind
    if kind not in known() or not getattr(embedder_class(kind), "subwords", False):
        raise _unknown(lookup, words[0])
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


def _print_found(lookup: Lookup, queries: Sequence[str], answers: Sequence[Found], measure: str, as_json: bool) -> None:
    """What was found; of several queries each line begins with its own."""
    names = iter(lookup.ids([row for found in answers for row, _ in found]))
    lines = [(query, next(names), score) for query, found in zip(queries, answers, strict=True) for _, score in found]
    many = len(queries) > 1
    if as_json:
        own = [{"query": query} if many else {} for query, *_ in lines]
        print_json(
            [head | {"id": name, "score": round(score, 6)} for head, (_, name, score) in zip(own, lines, strict=True)]
        )
    else:
        rows = [[*([query] if many else []), name, f"{score:.4f}"] for query, name, score in lines]
        print_table([*(["query"] if many else []), "id", measure], rows, [measure])
