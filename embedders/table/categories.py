"""Entity embeddings of categorical variables (Guo and Berkhahn 2016, arXiv:1604.06737)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embedders.base import Embedder, Encoder, Progress, Sides, Similarity, Threads, silent
from embedders.errors import InputError, MissingPackageError
from embedders.kernels.threads import cores
from embedders.start import picked
from embedders.table.coding import Coding
from embedders.table.network import Network
from embedders.table.training import Curve, Plan, Rows, train
from embedders.table.vectors import RowVectors, ValueVectors, restored, row_keys
from embedders.tables import Table
from embedders.torch_threads import torch_threads

ROWS = "rows"
Width = Annotated[int, Field(ge=1, le=4096)]


class Categories(Embedder[Table]):
    """A lookup table for each column, learned together by a network that tells the target of a row from its values.

    Without a target the network tells a value of each row, which it is not shown, from the others. Each table is a space
    `NAME.COLUMN`, a row a value; rare, missing and new values share the row `unknown`. The rows are the space `NAME.rows`.
    """

    kind: ClassVar[str] = "categories"
    data: ClassVar[type] = Table
    encoder: ClassVar[type] = RowVectors
    entity: ClassVar[str] = "row"
    similarity: ClassVar[Similarity] = "l2"
    warm_start: ClassVar[bool] = True
    folds_in: ClassVar[bool] = True

    learn: Literal["auto", "target", "columns"] = Field(
        "auto",
        description="what the network tells: the target, or a value from the others (columns); auto: the target, if there is one",
    )
    width: Width | dict[str, Width] | None = Field(
        None, description="numbers in a vector of all columns or of each by name; none: min(50, (values + 1) // 2)"
    )
    rows: Literal["values", "hidden"] = Field(
        "values",
        description="what the vectors of rows are: those of their values side by side with the numbers, or the last hidden layer over these",
    )
    min_count: int = Field(2, ge=1, description="rarer values share the row `unknown`")
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (128, 64), max_length=8, description="widths of the hidden layers"
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the numbers of a row's vector that a step leaves out")
    epochs: int = Field(50, ge=1, description="passes over the rows at most")
    patience: int = Field(
        4,
        ge=1,
        description="passes without a lower loss on held-out rows that end training, at the weights of the lowest",
    )
    hold_out: float = Field(
        0.1, ge=0, lt=1, description="share of the rows that end training; 0: it goes on for all epochs"
    )
    lr: float = Field(0.003, gt=0, le=1, description="learning rate (Adam)")
    batch: int = Field(1024, ge=1, description="rows a step; of few rows fewer")
    threads: Threads = 0

    def sides(self, columns: Sequence[str]) -> tuple[str, ...]:
        """`rows`, then the columns, with `_` for what the name of a space may not hold."""
        found = [ROWS]
        for column in columns:
            name = plain = re.sub(r"[^A-Za-z0-9._-]+", "_", column)
            count = 1
            while name in found:
                count += 1
                name = f"{plain}_{count}"
            found.append(name)
        return tuple(found)

    def widths(self, coding: Coding, begun: RowVectors | None = None) -> tuple[int, ...]:
        """Of the tables; by the rule, those that training begins at keep theirs, however many values come.

        Raises
        ------
        InputError : `width` names a column that is not there.
        """
        given = self.width if isinstance(self.width, dict) else {}
        if strange := [name for name in given if name not in coding.columns]:
            raise InputError(
                f"Got width for {', '.join(strange)}; expected some of the categories {', '.join(coding.columns)}. Mend width."
            )
        if isinstance(self.width, int):
            return (self.width,) * len(coding.columns)
        known = zip(coding.columns, coding.sizes, strict=True)  # with `unknown`
        rule = {name: max(1, min(50, size // 2)) for name, size in known}
        if begun is not None:
            rule |= {name: table.shape[1] for name, table in zip(begun.coding.columns, begun.tables, strict=True)}
        return tuple((rule | given)[name] for name in coding.columns)

    def fit(self, data: Table, *, start: Encoder[Table] | None = None, progress: Progress = silent) -> Sides[Table]:
        """Learn the tables; values that `start` knows begin at its vectors, and its network goes on where it fits.

        Raises
        ------
        InputError : there is no row or nothing to tell, or the start holds no tables or some of other widths.
        MissingPackageError : torch is not installed.
        """
        if find_spec("torch") is None:
            raise MissingPackageError("torch", "tables", f"The embedder {self.kind!r}")
        import torch

        target = self._told(data)
        learned = data if target is None else data.select(np.flatnonzero(data.answered))
        told, out = (None, None) if target is None else _target(learned)
        coding = self._coding(learned)
        begun = None if start is None else self._begun(coding, start)
        rows = Rows(coding.codes(learned), coding.numbers(learned), told, self._held(learned))
        plan = Plan(self.epochs, self.patience, self.lr, self.batch, self.dropout, self.seed)
        threads = self.threads or cores()
        with torch_threads(threads):
            random = torch.Generator().manual_seed(self.seed % 2**63)
            widths = self.widths(coding, begun)
            network = Network.drawn(coding.sizes, widths, rows.numbers.shape[1], self.hidden, out, random)
            if begun is not None:
                _go_on(network, coding, begun, "columns" if target is None else f"target {target}", learned.classes)
            curve = train(network, rows, plan, progress)
            _share_unknown(network, coding, rows, begun)
        mode = {"threads": threads, "precision": "fp32", "reproducible": "same bytes with threads: 1"}
        mode |= self._about(coding, rows, target, network, curve)
        tables = [table.detach().numpy().copy() for table in network.tables]
        first, *names = self.sides(data.columns)
        trained = np.sort(row_keys(data, target=target is not None))
        classes = data.classes if target is not None and data.classes is not None else ()
        found: dict[str, Encoder[Table]] = {
            first: RowVectors(
                self, coding, tables, network.arrays(), trained, classes, mode={**mode, "rows": self.rows}
            )
        }
        for name, column, values, table in zip(names, coding.columns, coding.values, tables, strict=True):
            found[name] = ValueVectors(self, values, table, mode={**mode, "column": column})
        return Sides(self, found)

    def check_start(self, data: Table, start: Encoder[Table]) -> None:
        """Only tables of the same widths can be gone on from.

        Raises
        ------
        InputError : it has others, or none.
        """
        self._begun(Coding.of(data, self.min_count), start)

    def _told(self, data: Table) -> str | None:
        """The target; None where the columns tell each other."""
        if not len(data):
            raise InputError("Got a table without a row; expected some. Is the file empty?")
        if self.learn == "target" and data.target is None:
            raise InputError(
                "Got learn: target, and the dataset names none. Add target: COLUMN to it, or learn: columns."
            )
        if self.learn != "columns" and data.target is not None:
            if not data.answered.any():
                raise InputError(
                    f"Got no row with a value in {data.target_column!r}; expected some. Learn without: learn: columns."
                )
            return data.target_column
        if len(data.columns) + len(data.number_columns) < 2:
            raise InputError(
                f"Got a table of {data.columns[0]!r} alone, without a target; expected something that it goes with. Name a target, "
                "more categories or numbers."
            )
        return None

    def _coding(self, data: Table) -> Coding:
        found = Coding.of(data, self.min_count)
        if max(found.sizes) == 1:
            raise InputError(
                f"Got {len(data):,} rows in which no value of {', '.join(data.columns)} comes min_count={self.min_count} times; expected "
                "values to learn. Lower min_count, or name other categories."
            )
        return found

    def _held(self, data: Table) -> NDArray[np.bool_]:
        """(n,) the rows that end training: always the same ones, by their ids, so that no later training saw them before."""
        from xxhash import xxh3_64_intdigest

        draws = np.fromiter((xxh3_64_intdigest(name.encode(), self.seed) for name in data.ids), np.uint64, len(data))
        held: NDArray[np.bool_] = draws < np.uint64(int(self.hold_out * 2**64))
        return held if not held.all() else np.zeros(len(data), bool)

    def _begun(self, coding: Coding, start: Encoder[Table]) -> RowVectors:
        """The rows of a start.

        Raises
        ------
        InputError : it has none, or tables of other widths.
        """
        theirs = start.sides.get(ROWS) if isinstance(start, Sides) else start
        if not isinstance(theirs, RowVectors):
            raise InputError(
                f"Got a start of kind {start.recipe.kind!r}; expected the rows of another `categories`: {{space: NAME.rows}}."
            )
        asked = dict(zip(coding.columns, self.widths(coding), strict=True)) if self.width is not None else {}
        for column, table in zip(theirs.coding.columns, theirs.tables, strict=True):
            if asked.get(column, table.shape[1]) != table.shape[1]:
                raise InputError(
                    f"Got a start whose {column!r} has the width {table.shape[1]}; expected {asked[column]}. Set width to it."
                )
        return theirs

    def _about(self, coding: Coding, rows: Rows, target: str | None, network: Network, curve: Curve) -> dict[str, Any]:
        """What the manifest tells of a training."""
        return {
            "learned": "columns" if target is None else f"target {target}",
            "values": dict(zip(coding.columns, coding.sizes, strict=True)),
            "widths": {name: table.shape[1] for name, table in zip(coding.columns, network.tables, strict=True)},
            "rows_trained": int((~rows.held).sum()),
            "rows_held_out": int(rows.held.sum()),
            "loss": [round(loss, 5) for loss in curve.train],
            "held_out_loss": [round(loss, 5) for loss in curve.held_out],
            "best_epoch": curve.best,
        }

    @classmethod
    def restore(
        cls,
        recipe: Self,
        arrays: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Sequence[str]],
        mode: Mapping[str, Any],
    ) -> Encoder[Table]:
        return restored(recipe, arrays, texts, mode)


def _go_on(network: Network, coding: Coding, start: RowVectors, learned: str, classes: Sequence[str] | None) -> None:
    """Begin at the vectors of the values that a start knows, and at its other weights where they are for the same.

    What answers for a value or a class goes by its name: their order follows from the rows.
    """
    import torch

    for column, values, table in zip(coding.columns, coding.values, network.tables, strict=True):
        if column in start.coding.columns:
            place = start.coding.columns.index(column)
            found = torch.from_numpy(picked(start.coding.values[place], start.tables[place], values))
            table.copy_(torch.where(torch.isnan(found), table, found))
    same = (start.coding.columns, start.coding.number_columns, start.mode["learned"])
    if same != (coding.columns, coding.number_columns, learned):
        return
    weights = dict(start.network)
    if learned == "columns":
        for i, (theirs, ours) in enumerate(zip(start.coding.values, coding.values, strict=True)):
            weights[f"head {i} bias"] = picked(theirs, weights[f"head {i} bias"][:, None], ours)[:, 0]
    elif classes is not None:
        for name in [name for name in weights if name.startswith(("direct ", "head "))]:
            rows = weights[name].reshape(len(weights[name]), -1)
            weights[name] = picked(start.classes, rows, classes).reshape(len(classes), *weights[name].shape[1:])
    network.take(weights)


def _share_unknown(network: Network, coding: Coding, rows: Rows, start: RowVectors | None) -> None:
    """Values of none but held-out rows were never learned: they stand for `unknown`, not at what was drawn for them."""
    import torch

    for column, (name, table) in enumerate(zip(coding.columns, network.tables, strict=True)):
        lost = np.bincount(rows.codes[~rows.held, column], minlength=len(table)) == 0
        if start is not None and name in start.coding.columns:
            known = set(start.coding.values[start.coding.columns.index(name)])
            lost &= np.array([value not in known for value in coding.values[column]])
        with torch.no_grad():
            table[torch.from_numpy(lost)] = table[0].clone()


def _target(data: Table) -> tuple[NDArray[Any], int]:
    """What is told of each row, and by how many numbers: one, with mean 0 and deviation 1, or one a class."""
    assert data.target is not None
    if (data.target == data.target[0]).all():
        raise InputError(
            f"Got the target {data.target_column!r}, which is the same in all {len(data):,} rows; expected several values. "
            "Name another target, or learn without: learn: columns."
        )
    if data.classes is not None:
        return data.target.astype(np.int64), len(data.classes)
    wide = data.target.astype(np.float64)
    return ((wide - wide.mean()) / wide.std()).astype(np.float32), 1
