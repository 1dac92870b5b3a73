"""Recommendations: the table of an output of kind `recommend`, and the list of one user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedders.base import Progress, silent
from embedders.errors import InputError
from embedders.interactions import Interactions
from evaluation.recommending import Items, places
from flows.looks import look
from flows.output_plan import SIDES, sides
from flows.progress import board
from storage.digests import DigestCache
from storage.lists import list_table
from storage.lookup import Lookup
from storage.recommendations import Piece, check_lists, commit_lists
from storage.space import Version
from storage.writer import Source, writing

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from flows.pipeline import Pipeline
    from flows.steps import VersionRef
    from storage.inputs.specs import Scan

USERS_AT_ONCE = 16_384
ROWS_AT_ONCE = 2_000_000  # of lists


def make(pipeline: Pipeline, name: str, run: str, *, force: bool = False, progress: Progress = silent) -> VersionRef:
    """Commit the next version of an output, of the newest vectors of its space and its dataset as it is.

    If another run has just done the same, its version is taken.

    Raises
    ------
    InputError : users and items are not of one training, or nobody has an item left.
    """
    from flows.steps import LOCK_WAIT, budget, let_go, version_ref

    output, store = pipeline.derived[name], pipeline.vectors
    with writing(store.space(name), run, wait=LOCK_WAIT, waiting=board().say) as writer:
        started = time.monotonic()
        users, items = (store.space(side).version("latest") for side in sides(pipeline, output))
        _check_alike(users, items)
        dataset = pipeline.dataset(output.space)
        scan = look(pipeline, pipeline.spec(output.space).dataset, run)
        upstream = {version.manifest.space: version.number for version in (users, items)}
        check_lists(writer.parent, name)
        if (
            writer.parent is not None
            and not force
            and (writer.parent.manifest.fingerprint, writer.parent.manifest.upstream) == (output.fingerprint, upstream)
            and (output.seen == "kept" or writer.parent.manifest.dataset_digest == scan.digest)
            and not writer.parent.missing()
        ):
            return version_ref(writer.parent, fresh=False)
        source = Source(pipeline.spec(output.space).dataset, scan.digest, 0, upstream, options=dataset.options_digest)
        asked = time.monotonic()
        with budget().take(0):
            started += time.monotonic() - asked  # waiting for cores is not its work
            data = _dataset(pipeline, output.space, scan) if output.seen == "filtered" else None
            version = commit_lists(
                writer, output.recipe, output.fingerprint, source, _pieces(users, items, data, output.k, progress),
                k=output.k, similarity=users.manifest.similarity, threads=0, started=started,
            )  # fmt: skip
        let_go(writer.space, pipeline.kept)
    return version_ref(version, fresh=True)


def _check_alike(users: Version, items: Version) -> None:
    if users.manifest.run != items.manifest.run:
        raise InputError(
            f"Got {users.manifest.space} @ {users.number} and {items.manifest.space} @ {items.number}, which are not of one training; "
            "expected vectors that were learned together. Do: polyvec run."
        )


def _dataset(pipeline: Pipeline, space: str, scan: Scan) -> Interactions:
    found: Interactions = pipeline.dataset(space).read(scan, Interactions, cache=pipeline.vectors.paths.cache)
    return found


def _pieces(users: Version, items: Version, data: Interactions | None, k: int, progress: Progress) -> Iterator[Piece]:
    """The lists of some thousand users at a time; in memory are the items, the dataset, and a part of the users."""
    best, k = Items(items.matrix, items.manifest.similarity), min(k, len(items))
    names = pa.array(items.ids.tolist(), pa.string())
    seen = None if data is None else _Seen(data, items.ids.tolist())
    done = 0
    for batch in users.batches(("id", "vector"), rows=max(1, min(USERS_AT_ONCE, ROWS_AT_ONCE // k))):
        ids = batch.column("id")
        matrix = batch.column("vector").flatten().to_numpy().reshape(len(ids), -1)
        columns, scores = best.best(matrix, k, seen=None if seen is None else seen.of(ids))
        yield Piece(list_table(ids, names, columns, scores), len(ids), int((columns[:, 0] >= 0).sum()))
        done += len(ids)
        progress(done, len(users), "users")


class _Seen:
    """What users met in a dataset, by the places of items in a space."""

    def __init__(self, data: Interactions, items: list[str]) -> None:
        from scipy.sparse import coo_array, csr_array

        column = places(items, data.items)[data.item]
        known = column >= 0  # the dataset may have items by now that the space does not
        met = coo_array((np.ones(int(known.sum()), np.int8), (data.user[known], column[known])), shape=(len(data.users), len(items)))  # fmt: skip
        self.met: csr_array = csr_array(met)
        self.met.sum_duplicates()
        self.users = pa.array(data.users, pa.string())

    def of(self, ids: pa.Array) -> csr_array:
        """(ids, items); of users who are not in the dataset any more, nothing."""
        from scipy.sparse import csr_array

        row = pc.fill_null(pc.index_in(ids, value_set=self.users), -1).to_numpy().astype(np.int64)
        there = row >= 0
        found = self.met[row[there]]
        counts = np.zeros(len(row), np.int64)
        counts[there] = np.diff(found.indptr)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return csr_array((found.data, found.indices, indptr), shape=(len(row), self.met.shape[1]))


@dataclass(frozen=True)
class Found:
    """The list of one user: (item, score), the best first. users, items : the versions that it was made of."""

    users: Version
    items: Version
    best: list[tuple[str, float]]


def recommend_to(pipeline: Pipeline, reference: str, user: str, k: int) -> Found:
    """The k best items for a user, by "SPACE", "SPACE@7" and so on, without those met in the dataset as it is.

    Raises
    ------
    InputError : it is no space of users and items, or has no vector of the user.
    NotFoundError : there is no such version.
    """
    name, _, which = reference.partition("@")
    entry = pipeline.entries.get(name, name)
    if not {f"{entry}.{side}" for side in SIDES} <= set(pipeline.entries):
        able = [one for one in pipeline.spaces if {f"{one}.{side}" for side in SIDES} <= set(pipeline.entries)]
        raise InputError(
            f"Got {name!r} to recommend from; expected an entry of the pipeline file that learns users and items: {', '.join(able) or 'it has none'}."
        )
    store = pipeline.vectors
    users = store.find(f"{entry}.users" + (f"@{which}" if which else ""))
    own = [
        version for version in store.space(f"{entry}.items").versions() if version.manifest.run == users.manifest.run
    ]
    if not own:
        raise InputError(
            f"Got {entry}.users @ {users.number}, of whose training no version of {entry}.items is left; expected both. Name another version."
        )
    items = own[-1]
    dataset = pipeline.dataset(entry)
    data = _dataset(pipeline, entry, dataset.scan(pipeline.base, DigestCache(store.paths.cache)))
    lookup = Lookup(users)
    rows = lookup.rows([user])
    if user not in rows:
        raise _unknown(lookup, entry, user, data)
    seen = _Seen(data, items.ids.tolist()).of(pa.array([user]))
    [columns], [scores] = Items(items.matrix, items.manifest.similarity).best(
        lookup.vectors([rows[user]]), min(k, len(items)), seen=seen, threads=1
    )
    pairs = zip(columns.tolist(), scores.tolist(), strict=True)
    return Found(users, items, [(str(items.ids[place]), score) for place, score in pairs if place >= 0])


def _unknown(lookup: Lookup, entry: str, user: str, data: Interactions) -> InputError:
    import difflib

    version = lookup.version
    alike = [name for name in lookup.first_ids(100_000) if abs(len(name) - len(user)) <= 2]
    close = difflib.get_close_matches(user, alike, 5)
    hint = f" Close ones: {', '.join(close)}." if close else ""
    what = (
        "is in the dataset by now" if user in set(data.users) else "is not in the dataset either: add what the user met"
    )
    return InputError(
        f"Got {user!r}, a user without a vector in {version.manifest.space} @ {version.number}; expected one of its {len(version):,} "
        f"users. It {what}; then do: polyvec run, which learns it (with fold_in: 0.1 under {entry}, new users are folded in without "
        f"training).{hint}"
    )


def section(version: Version, safe: Callable[[str], str], shown: int = 3) -> str:
    """What the report of a run says of an output. safe : makes a name fit for Markdown."""
    m, c = version.manifest, version.manifest.counts
    without = "".join(f", {reason} left for {n:,}" for reason, n in c.excluded.items())
    made = ", ".join(f"{name} @ {number}" for name, number in m.upstream.items())
    rows = sum(entry.rows for entry in m.files)
    lines = [
        f"## {m.space} @ {m.version}\n",
        f"At most {m.dim} items for each of {c.rows:,} users{without}; {rows:,} rows, of {made}.\n",
    ]
    first = next(version.batches(rows=shown * m.dim)).to_pylist()
    lists: dict[str, list[Any]] = {}
    for row in first:
        lists.setdefault(row["user"], []).append(row["item"])
    lines += [f"- **{safe(user)}**: {', '.join(map(safe, items[:6]))}" for user, items in list(lists.items())[:shown]]
    return "\n".join(lines) + "\n"
