"""What an embedder reads: a corpus, images, a graph. Plain frozen values; reading files is `storage.inputs`' work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from embedders.errors import InputError

if TYPE_CHECKING:
    from embedders.image.opening import Source


@dataclass(frozen=True)
class Rejected:
    """A row that could not be embedded. code: a short stable reason ("broken_image"); message: for people."""

    id: str
    location: str
    code: str
    message: str


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents as word numbers.

    Parameters
    ----------
    words : all distinct words, most frequent first, ties in code-point order.
    counts : (n_words,) int64, how often each word occurs.
    tokens : (n_tokens,) int32, rows of `words`, text after text; may be a read-only memory map larger than memory.
    offsets : (n_texts + 1,) int64; text i is `tokens[offsets[i]:offsets[i + 1]]`: a document, or a sentence where the
        dataset splits them. Contexts never cross its ends.
    rejected : documents that could not be read (they count at the dataset, not among the words).
    """

    words: Sequence[str]
    counts: NDArray[np.int64]
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    rejected: tuple[Rejected, ...] = ()

    @property
    def ids(self) -> Sequence[str]:
        return self.words

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True, eq=False)
class Documents:
    """The documents of a corpus, each of them a row.

    Parameters
    ----------
    ids : (n,) unique.
    digests : (n,) hex digest of each document's words in their order; equal words, equal digest, whatever else the
        corpus holds.
    words, counts, tokens : as in `Corpus`, of the whole corpus, also after `select`.
    offsets : (n, 2) int64; document i is `tokens[offsets[i, 0]:offsets[i, 1]]`.
    rejected : documents that could not be read.
    """

    ids: Sequence[str]
    digests: Sequence[str]
    words: Sequence[str]
    counts: NDArray[np.int64]
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    rejected: tuple[Rejected, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Documents:
        """Some of the documents, in the order of `rows`."""
        ids, digests = self.ids, self.digests
        return replace(
            self,
            ids=[ids[row] for row in rows],
            digests=[digests[row] for row in rows],
            offsets=self.offsets[np.asarray(rows, np.int64)],
        )


class Rows(Protocol):
    """Data whose rows can be encoded one by one: what an inductive embedder reads. digests: of each row's content."""

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def digests(self) -> Sequence[str]: ...

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Any: ...


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures.

    Parameters
    ----------
    ids : unique.
    files : where each is: a path, or a member of a container (see `embedders.image.opening.Source`).
    digests : SHA-256 (hex) of each picture's bytes.
    labels : the class of each, None where it has none; None when the dataset names no labels.
    """

    ids: Sequence[str]
    files: Sequence[Source]
    digests: Sequence[str]
    labels: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.files) == len(self.digests):
            raise InputError(
                f"Got {len(self.ids)} ids, {len(self.files)} files, {len(self.digests)} digests; expected one of each a picture."
            )
        if self.labels is not None and len(self.labels) != len(self.ids):
            raise InputError(f"Got {len(self.labels)} labels of {len(self.ids)} pictures; expected one a picture.")

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> bytes:
        """The bytes of a picture, as they are now.

        Raises
        ------
        DecodeError : they cannot be read. InputError : the container they are in has changed since it was looked at.
        """
        from embedders.image.opening import read

        return read(self.files[row])

    def location(self, row: int) -> str:
        """Where a picture is, for messages."""
        return str(self.files[row])

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Images:
        """Some of the pictures, in the order of `rows`."""

        def of(values: Sequence[Any]) -> list[Any]:
            return [values[row] for row in rows]

        return Images(of(self.ids), of(self.files), of(self.digests), None if self.labels is None else of(self.labels))


@dataclass(frozen=True, eq=False)
class Graph:
    """Adjacency in compressed sparse rows (CSR).

    Parameters
    ----------
    ids : (n,) unique node names, in order of first appearance, sources before targets.
    indptr : (n + 1,) int64.
    indices : (nnz,) int32 neighbours, sorted within each row, no duplicates.
    weights : (nnz,) float32, positive; None when every edge weighs 1.
    directed : an undirected graph holds each edge in both rows.
    features : (n, d) float32, an array or a SciPy sparse matrix in compressed rows; None where nodes have none.
    types : (n,) int16, places in `type_names`; None when nodes are of one kind.
    edge_types : (nnz,) int16, places in `edge_type_names`; edges of several types may join the same two nodes.
    """

    ids: Sequence[str]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32] | None = None
    directed: bool = False
    features: Any = None
    types: NDArray[np.int16] | None = None
    type_names: tuple[str, ...] = ()
    edge_types: NDArray[np.int16] | None = None
    edge_type_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_edges(
        cls,
        ids: Sequence[str],
        source: NDArray[Any],
        target: NDArray[Any],
        weight: NDArray[Any] | None = None,
        *,
        directed: bool = False,
        duplicates: Literal["sum", "drop"] = "sum",
        edge_types: NDArray[Any] | None = None,
        edge_type_names: tuple[str, ...] = (),
    ) -> Graph:
        """Build the CSR form from edges given as rows of `ids`.

        Repeated edges (of one type) become one. duplicates : their weights are summed, or that of the first stands;
        without weights the repeat changes nothing. edge_types : (edges,) places in `edge_type_names`.

        >>> graph = Graph.from_edges(["a", "b", "c"], np.array([0, 0]), np.array([1, 2]))
        >>> graph.indptr.tolist(), graph.indices.tolist()
        ([0, 2, 3, 4], [1, 2, 0, 0])
        """
        from scipy.sparse import coo_array

        n, kinds = len(ids), 1 if edge_types is None else len(edge_type_names)
        source, target = (
            it if it.dtype.kind == "i" else it.astype(np.int64) for it in map(np.asarray, (source, target))
        )
        value = np.ones(len(source), np.bool_) if weight is None else np.asarray(weight, np.float32)
        kind = np.zeros(len(source), np.int8) if edge_types is None else np.asarray(edge_types, np.int16)
        if weight is not None and duplicates == "drop":
            first = _first_of_each(source, target, kind, n, kinds, directed)
            source, target, value, kind = source[first], target[first], value[first], kind[first]
        if not directed:
            once = source != target
            source, target = np.concatenate([source, target[once]]), np.concatenate([target, source[once]])
            value, kind = np.concatenate([value, value[once]]), np.concatenate([kind, kind[once]])
        # a type is a column of its own, so that rows are sorted by neighbour, then type
        column = target if edge_types is None else target * np.int64(kinds) + kind
        matrix = coo_array((value, (source, column)), shape=(n, n * kinds)).tocsr()
        matrix.sum_duplicates()
        return cls(
            ids,
            matrix.indptr.astype(np.int64),
            (matrix.indices // kinds).astype(np.int32),
            None if weight is None else np.ascontiguousarray(matrix.data, np.float32),
            directed,
            edge_types=None if edge_types is None else (matrix.indices % kinds).astype(np.int16),
            edge_type_names=edge_type_names,
        )


def _first_of_each(
    source: NDArray[Any], target: NDArray[Any], kind: NDArray[Any], n: int, kinds: int, directed: bool
) -> NDArray[np.int64]:
    """Places of the first edge among equal ones."""
    low, high = (source, target) if directed else (np.minimum(source, target), np.maximum(source, target))
    return np.unique((low * np.int64(n) + high) * kinds + kind, return_index=True)[1]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Edges that a graph was trained without, to judge link prediction on.

    ids : (n,) as the graph's. edges, non_edges : (k, 2) int32 rows of `ids`; pairs that are joined, and as many that
        are not.
    """

    ids: Sequence[str]
    edges: NDArray[np.int32]
    non_edges: NDArray[np.int32]
