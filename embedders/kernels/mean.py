"""The mean of a few rows, and what it learns added to each of them: CBOW's contexts (arXiv:1301.3781)."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from embedders.kernels.offsets import _data, _load, _over_rows, _store, _width, spread
from embedders.kernels.simd import _FAST, STEP, _constant, _loop


@intrinsic
def average(typing: Any, w: Any, rows: Any, at: Any, n: Any, share: Any, into: Any, copy: Any) -> Any:
    """Rows `into` and `copy` of w become `share` times the sum of n >= 1 rows, whose offsets stand from `at` on."""
    signature = types.void(w, rows, types.intp, types.intp, types.float32, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w_, rows_, at_, n_, share_, into_, copy_ = args
        dim = _width(context, builder, sig.args[0], w_)
        w_, rows_ = _data(context, builder, sig.args[0], w_), _data(context, builder, sig.args[1], rows_, at_)
        factor = spread(builder, share_, STEP)

        def block(offset: Any, _: list[Any]) -> list[Any]:
            w_at = builder.gep(w_, [offset])

            def some(i: Any, total: list[Any]) -> list[Any]:
                x = _load(builder, w_at, builder.load(builder.gep(rows_, [i])))
                return [builder.fadd(total[0], x, flags=_FAST)]

            (total,) = _over_rows(builder, n_, 1, [_constant(0.0, lanes=STEP)], some)
            total = builder.fmul(total, factor, flags=_FAST)
            for place in (into_, copy_):
                _store(builder, total, w_at, place)
            return []

        _loop(builder, dim, [], block)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pass_on(typing: Any, w: Any, rows: Any, sinks: Any, at: Any, n: Any, now: Any, before: Any) -> Any:
    """Add row `now` less row `before` to n >= 1 rows; `sinks` as in `learn`."""
    signature = types.void(w, rows, sinks, types.intp, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w_, rows_, sinks_, at_, n_, now_, before_ = args
        dim = _width(context, builder, sig.args[0], w_)
        w_ = _data(context, builder, sig.args[0], w_)
        rows_, sinks_ = (_data(context, builder, sig.args[i], args[i], at_) for i in (1, 2))

        def block(offset: Any, _: list[Any]) -> list[Any]:
            w_at = builder.gep(w_, [offset])
            change = builder.fsub(_load(builder, w_at, now_), _load(builder, w_at, before_), flags=_FAST)

            def some(i: Any, nothing: list[Any]) -> list[Any]:
                source, sink = (builder.load(builder.gep(a, [i])) for a in (rows_, sinks_))
                _store(builder, builder.fadd(_load(builder, w_at, source), change, flags=_FAST), w_at, sink)
                return []

            _over_rows(builder, n_, 1, [], some)
            return []

        _loop(builder, dim, [], block)
        return context.get_dummy_value()

    return signature, generate
