"""AdaGrad on the weighted least squares of GloVe (Pennington et al. 2014, equation 8; Duchi et al. 2011).

The sum of squares includes the gradient of its own step, as in Duchi et al.; the authors' C code adds it afterwards, and
overshoots at first.

Everything a word has lies in one row: its word vector, its context vector, and the sums of squared gradients of both.
The biases are two more numbers of the vectors, (..., b_i, 1) and (..., 1, b_j), so that no step knows of them.

Blocks of pairs are visited as in a tournament: in a round no two blocks share words, so that threads never write the
same row, and the result does not depend on how many there are. The blocks of later rounds start when their words are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from embedders.base import Matrix, Progress, silent
from embedders.errors import InputError
from embedders.kernels.pairs import Pairs
from embedders.kernels.simd import _FAST, _FLOAT, _INT, _LOAD, STEP, WIDTH, _at, _constant, _loop, _pick
from embedders.kernels.threads import run_threads
from embedders.kernels.tournament import Turns, tournament

WORD, WORD_SQUARES, CONTEXT, CONTEXT_SQUARES = range(4)  # quarters of a row
FIXED = 1e30  # a sum of squares that lets its number stay as it is


def _quarters(context: Any, builder: Any, kind: Any, table: Any, rows: Sequence[Any]) -> tuple[Any, list[list[Any]]]:
    """The width of a quarter, and pointers to the quarters of each row."""
    array = context.make_array(kind)(context, builder, value=table)
    length = cgutils.unpack_tuple(builder, array.shape)[1]
    width = builder.sdiv(length, length.type(4))
    starts = [builder.gep(array.data, [builder.mul(row, length)]) for row in rows]
    return width, [[builder.gep(start, [builder.mul(width, width.type(k))]) for k in range(4)] for start in starts]


def _dots(both: bool) -> Any:
    @intrinsic
    def dots(typing: Any, table: Any, i: Any, j: Any) -> Any:
        """(w_i . c_j, w_j . c_i), the second only if `both`, else 0."""
        signature = types.UniTuple(types.float32, 2)(table, types.intp, types.intp)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            width, (x, y) = _quarters(context, builder, sig.args[0], args[0], args[1:])
            factors = [(x[WORD], y[CONTEXT]), (y[WORD], x[CONTEXT])][: 1 + both]

            def body(offset: Any, sums: list[Any]) -> list[Any]:
                new = []
                for total, (a, b) in zip(sums, factors, strict=True):
                    left, right = (builder.load(_at(builder, row, offset), align=4) for row in (a, b))
                    new.append(builder.fadd(builder.fmul(left, right, flags=_FAST), total, flags=_FAST))
                return new

            sums = _loop(builder, width, [_constant(0.0, lanes=STEP)] * len(factors), body)
            name = f"llvm.vector.reduce.fadd.v{STEP}f32"
            add = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOAT, [_FLOAT, _LOAD]), name)
            found = [builder.call(add, [_FLOAT(0.0), total], fastmath=_FAST) for total in sums]
            return context.make_tuple(builder, sig.return_type, [*found, _FLOAT(0.0)][:2])

        return signature, generate

    return dots


def _update(both: bool) -> Any:
    @intrinsic
    def update(typing: Any, table: Any, i: Any, j: Any, f: Any, g: Any) -> Any:
        """One step of w_i and c_j with the rate times the error f, and if `both` (i is not j) of w_j and c_i with g."""
        signature = types.void(table, types.intp, types.intp, types.float32, types.float32)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            width, (x, y) = _quarters(context, builder, sig.args[0], args[0], args[1:3])
            errors = [builder.insert_element(ir.Constant(_LOAD, ir.Undefined), error, _INT(0)) for error in args[3:]]
            errors = [_pick(builder, error, error, [0] * STEP) for error in errors]
            name = f"llvm.sqrt.v{STEP}f32"
            root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_LOAD, [_LOAD]), name)

            def moved(value: Any, squares: Any, gradient: Any) -> list[Any]:
                square = builder.fmul(gradient, gradient, flags=_FAST)
                squares = builder.fadd(squares, square, flags=_FAST)
                step = builder.fdiv(gradient, builder.call(root, [squares], fastmath=_FAST), flags=_FAST)
                return [builder.fsub(value, step, flags=_FAST), squares]

            def body(offset: Any, _: list[Any]) -> list[Any]:
                stores: list[tuple[Any, Any]] = []
                for error, (a, b) in list(zip(errors, [(x, y), (y, x)], strict=True))[: 1 + both]:
                    places = [a[WORD], a[WORD_SQUARES], b[CONTEXT], b[CONTEXT_SQUARES]]
                    w, gw, c, gc = (builder.load(_at(builder, place, offset), align=4) for place in places)
                    new = moved(w, gw, builder.fmul(error, c, flags=_FAST))
                    new += moved(c, gc, builder.fmul(error, w, flags=_FAST))
                    stores += zip(new, places, strict=True)
                for value, place in stores:
                    builder.store(value, _at(builder, place, offset), align=4)
                return []

            _loop(builder, width, [], body)
            return context.get_dummy_value()

        return signature, generate

    return update


_one_dot, _two_dots, _one_update, _two_updates = _dots(False), _dots(True), _update(False), _update(True)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def _block(table, pairs, row, column, symmetric, lr):
    """Train on pairs whose parts begin at words `row` and `column`; the cost before each step, summed."""
    cost = 0.0
    for k in range(len(pairs)):
        pair = pairs[k]
        i, j = row + pair.row, column + pair.column
        if symmetric and i != j:
            first, second = _two_dots(table, i, j)
            first -= pair.log
            second -= pair.log
            f, g = pair.weight * first, pair.weight * second
            cost += np.float32(0.5) * (f * first + g * second)
            _two_updates(table, i, j, f * lr, g * lr)
        else:
            first = _one_dot(table, i, j)[0] - pair.log
            f = pair.weight * first
            cost += np.float32(0.5) * f * first
            _one_update(table, i, j, f * lr, np.float32(0))
    return cost


@dataclass(eq=False)
class AdaGrad:
    """The vectors of all words, and their training.

    Parameters
    ----------
    words, dim : of the vectors.
    lr : learning rate of the vectors; that of the biases is 1, as in version 1.2 of the authors' C code.
    symmetric : a pair (i, j) stands also for (j, i).
    start : (words, dim) vectors to begin with; NaN rows and None begin at random. A vector is the sum of word and
        context vector, so each of both begins with half of it.
    freeze : words that have a start stay there; their biases learn.
    """

    words: int
    dim: int
    lr: float
    symmetric: bool
    threads: int
    seed: int
    start: Matrix | None = None
    freeze: bool = False

    def __post_init__(self) -> None:
        n, dim = self.words, self.dim
        self._rng = np.random.default_rng(self.seed)
        width = -(-(dim + 2) // WIDTH) * WIDTH
        raw = np.zeros(n * 4 * width + 16, np.float32)
        skip = -raw.ctypes.data % 64 // 4
        self._table = raw[skip : skip + n * 4 * width].reshape(n, 4 * width)
        rows = self._table.reshape(n, 4, width)
        for vector, squares, bias, one in (
            (WORD, WORD_SQUARES, dim, dim + 1),
            (CONTEXT, CONTEXT_SQUARES, dim + 1, dim),
        ):
            rows[:, vector, :dim] = (self._rng.random((n, dim), np.float32) - np.float32(0.5)) / np.float32(dim)
            rows[:, vector, bias] = (self._rng.random(n, np.float32) - np.float32(0.5)) / np.float32(dim)
            rows[:, vector, one] = 1
            rows[:, squares] = 1
            rows[:, squares, bias] = self.lr**2  # so that the gradients of a bias, times lr, give a rate of 1
            rows[:, squares, one] = FIXED
            if self.start is not None:
                known = np.isfinite(self.start).all(axis=1)
                if self.freeze:
                    rows[known, vector, :dim] = 0
                    rows[known, squares, :dim] = FIXED
                rows[known, vector, :dim] += self.start[known] / 2

    @property
    def matrix(self) -> Matrix:
        """(words, dim) float32, sums of word and context vectors as they stand."""
        rows = self._table.reshape(self.words, 4, -1)[:, :, : self.dim]
        return rows[:, WORD] + rows[:, CONTEXT]

    def train(self, pairs: Pairs, progress: Progress = silent, done: int = 0, total: int = 0) -> float:
        """One pass over all pairs; their mean cost, each before its step.

        done, total : pairs of the passes before, and of all passes, for `progress`.

        Raises
        ------
        InputError : the cost is not finite.
        """
        order = _visits(pairs, self._rng)
        turns = Turns([(a, b) for a, b, _ in order], len(pairs.bounds) - 1)
        costs = np.zeros(len(order))
        seen = np.zeros(len(order), np.int64)

        def work(thread: int, number: int) -> None:
            a, b, size = order[number]
            blocks = [(a, b)] if self.symmetric or a == b else [(a, b), (b, a)]
            parts = [(pairs.bounds[a], pairs.bounds[b], part) for a, b in blocks for part in pairs.block(a, b)]
            with turns.visit(number):
                for row, column, part in parts:
                    costs[number] += _block(self._table, part, row, column, self.symmetric, np.float32(self.lr))
            seen[number] = size

        share = pairs.count / max(1, pairs.stored)
        run_threads(work, len(order), self.threads, lambda: progress(done + seen.sum() * share, total, "pairs"))
        loss = float(costs.sum()) / pairs.count
        if not np.isfinite(loss):
            raise InputError(f"Got a cost of {loss} with lr={self.lr}; expected a number. Lower lr.")
        return loss


def _visits(pairs: Pairs, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Blocks (a, b, pairs) of one pass in a new order; the largest of a round first, so that no thread waits long."""
    rounds = tournament(len(pairs.bounds) - 1, rng)
    visits = []
    for number in rng.permutation(len(rounds)):
        sizes = [(a, b, pairs.size(a, b) + (pairs.size(b, a) if a != b else 0)) for a, b in rounds[number]]
        visits += sorted((visit for visit in sizes if visit[2]), key=lambda visit: -visit[2])
    return visits
