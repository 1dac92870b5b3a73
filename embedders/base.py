"""The embedder contract: a frozen recipe whose `fit` returns an encoder, which yields batches of vectors.

A recipe holds parameters and nothing else; what was learned lives in the encoder. There is no "not fitted yet"
state, refitting cannot leak old state, and a recipe can be hashed, compared, pickled and written to disk.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from pydantic.fields import FieldInfo

from embedders.data import Rejected
from embedders.errors import InputError

Matrix = NDArray[np.float32]
Similarity = Literal["cosine", "dot", "l2"]
Origin = Literal["embedded", "folded_in", "isolated", "imputed"]
D = TypeVar("D")
D_contra = TypeVar("D_contra", contravariant=True)

EXECUTION: dict[str, Any] = {"execution": True}
"""Marks a field (`json_schema_extra=EXECUTION`) that changes how a recipe runs, not what it gives; not fingerprinted."""

Threads = Annotated[
    NonNegativeInt,
    Field(
        json_schema_extra=EXECUTION,
        description="worker threads; 0 takes every core it is given, 1 makes the run reproducible to the byte",
    ),
]


class Progress(Protocol):
    """Called with the work done so far, the total, and the unit ("words", "images"); must be cheap and thread-safe."""

    def __call__(self, done: float, total: float, unit: str) -> None: ...


def silent(done: float, total: float, unit: str) -> None:
    """The progress that shows nothing."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Embeddings. entity: what a row is ("word", "image", "node"). ids: (n,) unique. matrix: (n, dim) float32, finite."""

    entity: str
    ids: Sequence[str]
    matrix: Matrix

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.dtype != np.float32:
            raise InputError(
                f"Got a {self.matrix.dtype} array of shape {self.matrix.shape}; expected float32 of shape (n, dim)."
            )
        if len(self.ids) != len(self.matrix):
            raise InputError(f"Got {len(self.ids)} ids for {len(self.matrix)} vectors; expected one id a vector.")
        if not np.isfinite(self.matrix).all():
            row = int(np.flatnonzero(~np.isfinite(self.matrix).all(axis=1))[0])
            raise InputError(
                f"The vector of {self.ids[row]!r} holds NaN or infinity. Lower the learning rate, or check the input."
            )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Batch:
    """One bounded piece of an encoder's answer.

    Parameters
    ----------
    vectors : the rows that were embedded.
    digests : the content digest of each row; None where a vector depends on the whole dataset.
    origin : how each row came about; one word for all of them, or one a row.
    rejected : rows that were asked for and could not be embedded.
    """

    vectors: Vectors
    digests: Sequence[str] | None = None
    origin: Origin | Sequence[Origin] = "embedded"
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, eq=False)
class Encoder(ABC, Generic[D_contra]):
    """What `fit` learned. Yields vectors for the rows of a dataset, and saves itself without pickle.

    Parameters
    ----------
    recipe : the embedder that made it.
    mode : how it was made, for the manifest: {"threads": 2, "precision": "fp32", "reproducible": "no"}.
    """

    recipe: Embedder[Any]
    mode: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    @abstractmethod
    def dim(self) -> int:
        """Numbers in a vector."""

    @property
    def entity(self) -> str:
        return self.recipe.entity

    @property
    def similarity(self) -> Similarity:
        return self.recipe.similarity

    @abstractmethod
    def encode(self, data: D_contra, *, progress: Progress = silent) -> Iterator[Batch]:
        """Vectors of the rows of `data` in bounded batches; with the rejected rows, every id is answered once."""

    def rows(self, data: D_contra) -> int:
        """How many rows it answers for, those left out with them: all of `data`, and what else it may know."""
        return len(data)  # type: ignore[arg-type]

    def excluded(self, data: D_contra) -> Mapping[str, int]:
        """How many rows of `data` are left out by rule, by reason; these are not answered by `encode`."""
        return {}

    def outdated(self, data: D_contra) -> str:
        """Why it is to be learned anew from `data` though its recipe stays, for people; "" when it need not."""
        return ""

    def fold_in(self, data: D_contra) -> Self:
        """Without training: a row for each entity of `data` that is new since then, the others as they were trained.

        Only of embedders that say `folds_in`.
        """
        raise NotImplementedError(f"{self.recipe.kind} folds nothing in")

    @property
    def untrained(self) -> int:
        """How many of its rows came by `fold_in`."""
        return 0

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What was learned, by name: its fields that are arrays."""
        return {name: value for name, value in self._fields() if isinstance(value, np.ndarray)}

    def texts(self) -> Mapping[str, Sequence[str]]:
        """Lists of strings that belong to it (the vocabulary), by name: its fields that are sequences."""
        return {name: value for name, value in self._fields() if isinstance(value, Sequence)}

    def _fields(self) -> Iterator[tuple[str, Any]]:
        return ((part.name, getattr(self, part.name)) for part in fields(self))

    def save(self, folder: Path) -> None:
        """Write `encoder.json`, `weights.safetensors` and the string lists into `folder` (made if missing)."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: np.ascontiguousarray(array) for name, array in self.arrays().items()}, folder / "weights.safetensors"
        )
        for name, strings in self.texts().items():
            (folder / f"{name}.json").write_text(json.dumps(list(strings), ensure_ascii=False), encoding="utf-8")
        head = {
            "format": 1,
            "kind": self.recipe.kind,
            "version": self.recipe.version,
            "recipe": self.recipe.model_dump(mode="json"),
            "mode": dict(self.mode),
        }
        (folder / "encoder.json").write_text(json.dumps(head, indent=1), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Sides(Encoder[D_contra]):
    """Encoders of several entities that were learned together, by the name of their side; each has a space of its own."""

    sides: Mapping[str, Encoder[D_contra]]

    @property
    def dim(self) -> int:
        raise NotImplementedError("each side has its own")

    def encode(self, data: D_contra, *, progress: Progress = silent) -> Iterator[Batch]:
        raise NotImplementedError("each side encodes its own rows")

    def rows(self, data: D_contra) -> int:
        return sum(side.rows(data) for side in self.sides.values())

    @property
    def untrained(self) -> int:
        return sum(side.untrained for side in self.sides.values())

    def fold_in(self, data: D_contra) -> Self:
        return replace(self, sides={name: side.fold_in(data) for name, side in self.sides.items()})


@dataclass(frozen=True)
class Estimate:
    """What `fit` will about take. bytes: of memory at once, beside the dataset; seconds: on `threads` cores, if known."""

    bytes: int
    seconds: float | None = None
    threads: int = 1


class Embedder(BaseModel, ABC, Generic[D]):
    """A recipe: frozen parameters, and `fit`, which turns a dataset into an encoder.

    Class attributes: `kind` equals the entry-point name; `data` is the dataset class it reads; `encoder` is the
    class of what `fit` returns, restored from its fields unless `restore` says otherwise; `entity` is what a row
    of its space is; `version` is raised when the same parameters may give other numbers; `inductive` says that rows
    can be encoded one by one with a fitted encoder, so that a later run embeds only new and changed rows;
    `deterministic` says that nothing is drawn at random, so that the seed changes nothing; `needs_start` that `fit`
    cannot do without `start`; `warm_start` that a change of the dataset goes on from the encoder of the version before,
    instead of from scratch; `folds_in` that its encoder can take in new rows without training (`Encoder.fold_in`); `checkpoints` that `fit` takes
    `checkpoint=FOLDER`, where it keeps what a run that is cut off can go on from (of inductive embedders).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: ClassVar[str]
    data: ClassVar[type]
    encoder: ClassVar[type]
    entity: ClassVar[str]
    version: ClassVar[int] = 1
    similarity: ClassVar[Similarity] = "cosine"
    inductive: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    warm_start: ClassVar[bool] = False
    needs_start: ClassVar[bool] = False
    folds_in: ClassVar[bool] = False
    checkpoints: ClassVar[bool] = False

    seed: NonNegativeInt = Field(0, description="every random number comes from it")

    @abstractmethod
    def fit(self, data: D, *, start: Encoder[D] | None = None, progress: Progress = silent) -> Encoder[D]:
        """Learn from `data`; `start` is a previous or pretrained encoder to go on from."""

    def check_start(self, data: D, start: Encoder[D]) -> None:
        """Refuse a start that `fit` cannot go on from with this data, which may have changed its shape since.

        Raises
        ------
        InputError : what does not fit. A run that would have gone on by itself then trains from scratch, and says so.
        """

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> Encoder[D]:
        """The encoder whose parts `Encoder.save` wrote."""
        found: Encoder[D] = cls.encoder(recipe, **texts, **arrays, mode=mode)
        return found

    @classmethod
    def load(cls, folder: Path, recipe: Self | None = None) -> Encoder[D]:
        """Read an encoder that `Encoder.save` wrote.

        recipe : stands in for the saved one when only execution differs (threads, device).

        Raises
        ------
        InputError : the folder holds no encoder, a damaged one, or one of another kind.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        path = folder / "encoder.json"
        if not path.is_file():
            raise InputError(
                f"Got {str(folder)!r}, which holds no encoder.json; expected a folder that Encoder.save wrote."
            )
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            texts = {
                p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json")) if p != path
            }
            arrays = load_file(folder / "weights.safetensors")
        except (ValueError, OSError, SafetensorError) as error:
            raise InputError(
                f"Got {str(folder)!r}, where a file is missing or damaged ({error}). Restore it."
            ) from error
        if head["kind"] != cls.kind or head["version"] != cls.version:
            raise InputError(
                f"Got an encoder {head['kind']!r} version {head['version']} in {str(folder)!r}; "
                f"{cls.__name__} reads {cls.kind!r} version {cls.version}."
            )
        return cls.restore(recipe or cls.model_validate(head["recipe"]), arrays, texts, head["mode"])

    def sides(self, columns: Sequence[str]) -> tuple[str, ...]:
        """What its entities are called, each of which gets a space `NAME.SIDE`; none where it makes the space NAME alone.

        columns : the categories of the dataset, where it is a table. `fit` of one with sides returns `Sides`.
        """
        return ()

    def estimate(self, rows: int, edges: int) -> Estimate | None:
        """What `fit` will take for a graph of so many nodes and edges; None where nobody has measured it."""
        return None

    def located(self, base: Path) -> Self:
        """The same recipe with its relative file names taken from the folder `base`."""
        return self

    def assets(self) -> Mapping[str, str]:
        """Digests of files the result depends on (weights), and resolved settings (precision), by name."""
        return {}

    @classmethod
    def execution_only(cls) -> set[str]:
        """Names of the parameters that change how it runs, not what it gives."""
        return {name for name, f in cls.model_fields.items() if _runs_only(f)}

    @property
    def fingerprint(self) -> str:
        """16 hex digits over kind, class version, parameters (without execution-only ones) and assets."""
        parameters = self.model_dump(mode="json", exclude=_execution(self))
        text = json.dumps(
            [self.kind, self.version, parameters, dict(self.assets())], sort_keys=True, ensure_ascii=False
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _runs_only(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("execution"))


def _execution(model: BaseModel) -> dict[str, Any]:
    """The execution-only parameters of a model and of those in it, as pydantic's `exclude`."""
    found: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        if _runs_only(info):
            found[name] = True
        elif isinstance(value := getattr(model, name), BaseModel) and (inner := _execution(value)):
            found[name] = inner
    return found


def batches(vectors: Vectors, size: int = 65536) -> Iterator[Batch]:
    """Cut vectors that are already in memory into batches of at most `size` rows."""
    for first in range(0, len(vectors), size):
        rows = slice(first, first + size)
        yield Batch(Vectors(vectors.entity, vectors.ids[rows], vectors.matrix[rows]))
