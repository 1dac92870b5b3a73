"""The inner step of word2vec in LLVM vectors: rows against a block of six or eight targets, as small matrix products.

All contexts of a centre word share its targets (Ji et al. 2016, arXiv:1604.04661). `products` multiplies them with six
target rows (`products_of_eight` with eight), `judge` turns the products into errors, `learn` adds the errors times the targets to the contexts, and
the errors times the contexts to the targets, whose new values stay in registers over all contexts. The sigmoids of a
centre word are computed together, so that the processor waits for them once.

A row is given by its offset (row number times width) in its matrix: float32, C order, the width a multiple of WIDTH.
Of equal targets in a block only the last is written: the others must have a goal below 0. numba's cache of a caller
does not notice a change in this file: after one, delete `__pycache__/*.nbi`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from embedders.kernels.offsets import _data, _load, _over_rows, _store, _width, spread
from embedders.kernels.simd import (
    _FAST,
    _FLOAT,
    _INT,
    _SUMS,
    BOUND,
    STEP,
    TARGETS,
    WIDTH,
    _axpy,
    _constant,
    _fold,
    _loop,
    _pick,
)  # fmt: skip

LANES = 8  # places of a block's targets and their errors: of six targets the last two are not used
_BITS = ir.VectorType(_INT, WIDTH)
_HALF = ir.VectorType(_FLOAT, LANES)


def _horner(builder: Any, x: Any, factors: Sequence[float]) -> Any:
    value = _constant(factors[0])
    for factor in factors[1:]:
        value = builder.fadd(builder.fmul(value, x, flags=_FAST), _constant(factor), flags=_FAST)
    return value


def _errors(builder: Any, f: Any, base: Any, rate: Any) -> Any:
    """Base - rate * tanh(f / 2): as f P(f^2) / Q(f^2) within BOUND (error below 2e-7), as the sign of f past it."""
    square = builder.fmul(f, f, flags=_FAST)
    above = _horner(builder, square, (5.78812939e-5, 1.49188494e-2, 0.499999934))
    above = builder.fmul(builder.fmul(f, rate, flags=_FAST), above, flags=_FAST)
    below = _horner(builder, square, (1.26414113e-6, 1.21341648e-3, 1.13170835e-1, 1.0))
    within = builder.fsub(base, builder.fdiv(above, below, flags=_FAST), flags=_FAST)
    sign = builder.and_(builder.bitcast(f, _BITS), _constant(-(1 << 31), _INT))
    past = builder.fsub(base, builder.bitcast(builder.or_(builder.bitcast(rate, _BITS), sign), _SUMS))
    return builder.select(builder.fcmp_ordered(">=", square, _constant(BOUND * BOUND)), past, within)


def _products(at_once: int, many: int = TARGETS) -> Any:
    @intrinsic
    def products(typing: Any, w: Any, rows: Any, at: Any, n: Any, c: Any, targets: Any, first: Any, answers: Any, into: Any) -> Any:  # fmt: skip
        """answers[into + 8 i + k] = row i . target k, for n >= 1 rows.

        w, c : float32 matrices, equally wide.
        rows : int64; offsets in w from `at` on; where n is odd, one more that may be read.
        targets : int64; offsets in c of `many` targets from `first` on.
        answers : float32, room for 8 (n + 1) from `into` on.
        """
        signature = types.void(w, rows, types.intp, types.intp, c, targets, types.intp, answers, types.intp)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            w_, rows_, at_, n_, c_, targets_, first_, answers_, into_ = args
            dim = _width(context, builder, sig.args[0], w_)
            w_, c_ = (_data(context, builder, sig.args[i], args[i]) for i in (0, 4))
            answers_ = _data(context, builder, sig.args[7], answers_, into_)
            rows_ = _data(context, builder, sig.args[1], rows_, at_)
            targets_ = _data(context, builder, sig.args[5], targets_, first_)
            places = [builder.load(builder.gep(targets_, [first_.type(k)])) for k in range(many)]

            def some(i: Any, _: list[Any]) -> list[Any]:
                mine = [builder.load(builder.gep(rows_, [builder.add(i, i.type(k))])) for k in range(at_once)]

                def dots(offset: Any, sums: list[Any]) -> list[Any]:
                    w_at, c_at = builder.gep(w_, [offset]), builder.gep(c_, [offset])
                    held = [_load(builder, c_at, place) for place in places]
                    xs = [_load(builder, w_at, row) for row in mine]
                    pairs = [(x, y) for x in xs for y in held]
                    return [_axpy(builder, s, [x], [y]) for s, (x, y) in zip(sums, pairs, strict=True)]

                sums = _loop(builder, dim, [_constant(0.0, lanes=STEP)] * (at_once * many), dots)
                every: list[Any] = []
                for k in range(2):
                    own = sums[k * many : (k + 1) * many]
                    every += [*own, *[None] * (LANES - len(own))]
                _store(builder, _fold(builder, every), answers_, builder.mul(i, i.type(LANES)))
                return []

            _over_rows(builder, n_, at_once, [], some)
            return context.get_dummy_value()

        return signature, generate

    return products


def _learn(at_once: int, many: int = TARGETS) -> Any:
    @intrinsic
    def learn(typing: Any, w: Any, rows: Any, sinks: Any, at: Any, n: Any, c: Any, targets: Any, first: Any, errors: Any, of: Any) -> Any:  # fmt: skip
        """Add errors times targets to the n rows, errors times rows to the `many` targets.

        sinks : int64; where each row goes: its own offset, or another one if the row itself must stay.
        errors : float32; that of row i and target k at of + 8 i + k.
        """
        signature = types.void(w, rows, sinks, types.intp, types.intp, c, targets, types.intp, errors, types.intp)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            w_, rows_, sinks_, at_, n_, c_, targets_, first_, errors_, of_ = args
            dim = _width(context, builder, sig.args[0], w_)
            w_, c_ = (_data(context, builder, sig.args[i], args[i]) for i in (0, 5))
            errors_ = _data(context, builder, sig.args[8], errors_, of_)
            rows_, sinks_ = (_data(context, builder, sig.args[i], args[i], at_) for i in (1, 2))
            targets_ = _data(context, builder, sig.args[6], targets_, first_)
            places = [builder.load(builder.gep(targets_, [first_.type(k)])) for k in range(many)]

            def block(offset: Any, _: list[Any]) -> list[Any]:
                w_at, c_at = builder.gep(w_, [offset]), builder.gep(c_, [offset])
                held = [_load(builder, c_at, place) for place in places]

                def some(i: Any, grown: list[Any]) -> list[Any]:
                    for k in range(at_once):
                        at = builder.add(i, i.type(k))
                        source, sink = (builder.load(builder.gep(a, [at])) for a in (rows_, sinks_))
                        mine = builder.gep(errors_, [builder.mul(at, at.type(LANES))])
                        e = [spread(builder, builder.load(builder.gep(mine, [at.type(j)])), STEP) for j in range(many)]
                        x = _load(builder, w_at, source)
                        _store(builder, _axpy(builder, x, e, held), w_at, sink)
                        grown = [_axpy(builder, t, [y], [x]) for t, y in zip(grown, e, strict=True)]
                    return grown

                for place, value in zip(places, _over_rows(builder, n_, at_once, held, some), strict=True):
                    _store(builder, value, c_at, place)
                return []

            _loop(builder, dim, [], block)
            return context.get_dummy_value()

        return signature, generate

    return learn


products, learn = _products(2), _learn(2)
products_of_one, learn_one = _products(1), _learn(1)
products_of_eight, learn_eight = _products(2, 8), _learn(2, 8)
products_of_one_eight, learn_one_eight = _products(1, 8), _learn(1, 8)


@intrinsic
def judge(typing: Any, answers: Any, at: Any, n: Any, goals: Any, first: Any, lr: Any) -> Any:
    """Turn the products of n rows into errors: lr * (goal - sigmoid(product)), 0 where the goal is below 0.

    answers : float32, from `at` on room for 8 (n + 1); the errors of row n, which is no row, become 0.
    goals : float32; what the product with each of the targets should say, from `first` on; below 0 behind six.
    """
    signature = types.void(answers, types.intp, types.intp, goals, types.intp, types.float32)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        answers_, at_, n_, goals_, first_, lr_ = args
        answers_, goals_ = (
            _data(context, builder, sig.args[0], answers_, at_),
            _data(context, builder, sig.args[3], goals_),
        )
        goal = _load(builder, goals_, first_, _HALF)
        goal = _pick(builder, goal, ir.Constant(_HALF, ir.Undefined), [*range(LANES)] * 2)
        half = spread(builder, builder.fmul(lr_, _FLOAT(0.5)), WIDTH)
        half = builder.select(builder.fcmp_ordered(">=", goal, _constant(0.0)), half, _constant(0.0))
        base = builder.fmul(builder.fsub(builder.fadd(goal, goal), _constant(1.0)), half)

        def some(i: Any, _: list[Any]) -> list[Any]:
            at = builder.mul(i, i.type(LANES))
            _store(builder, _errors(builder, _load(builder, answers_, at, _SUMS), base, half), answers_, at)
            return []

        _over_rows(builder, n_, 2, [], some)
        _store(builder, _constant(0.0, lanes=LANES), answers_, builder.mul(n_, n_.type(LANES)))
        return context.get_dummy_value()

    return signature, generate
