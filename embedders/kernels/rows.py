"""One vector against many rows of a matrix, in LLVM vectors: their mean, adding to them, learning from them.

numba must prove at run time, row after row, that none overlap, and turns plain loops into code several times slower;
here a row may stand twice, because each is read and written before the next. Matrices are float32 in C order, as wide
as the vector, the width a multiple of WIDTH.

numba's cache of a caller does not notice a change in this file: after one, delete `__pycache__/*.nbi`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 16  # rows are padded to a multiple of it
LANES = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else 8  # of one load
TARGETS = 8  # rows learned from together

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_SUMS = ir.VectorType(_FLOAT, TARGETS)
_FAST = ("fast",)


def _zeros(lanes: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_FLOAT, lanes), [0.0] * lanes)


def _pick(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), list(lanes)))


def _every(builder: Any, value: Any) -> Any:
    """A vector that holds `value` in all lanes."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    return _pick(builder, builder.insert_element(nothing, value, _INT(0)), nothing, [0] * LANES)


def _totals(builder: Any, sums: Sequence[Any]) -> Any:
    """TARGETS vectors to one whose lane i is the sum of vector i."""
    rows = list(sums)
    if LANES > TARGETS:
        rows = [
            builder.fadd(
                _pick(builder, row, row, range(TARGETS)), _pick(builder, row, row, range(TARGETS, LANES)), flags=_FAST
            )
            for row in rows
        ]
    for block in (4, 2, 1):
        half = len(rows) // 2
        low = [
            x
            for first in range(0, TARGETS, 2 * block)
            for x in (*range(first, first + block), *range(TARGETS + first, TARGETS + first + block))
        ]
        high = [x + block for x in low]
        rows = [
            builder.fadd(
                _pick(builder, rows[i], rows[i + half], low), _pick(builder, rows[i], rows[i + half], high), flags=_FAST
            )
            for i in range(half)
        ]
    return rows[0]


class _Code:
    """The builder of one intrinsic, with the few words these are made of."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> None:
        self.builder = builder
        self._arrays: list[Any] = [
            context.make_array(kind)(context, builder, value=value) if isinstance(kind, types.Array) else None
            for kind, value in zip(signature.args, arguments, strict=True)
        ]

    def data(self, argument: int) -> Any:
        """Pointer to the first number of an array."""
        return self._arrays[argument].data

    def width(self, argument: int) -> Any:
        """Length of the last axis of an array."""
        array = self._arrays[argument]
        return cgutils.unpack_tuple(self.builder, array.shape)[-1]

    def number(self, argument: int, place: Any) -> Any:
        """One number of a vector."""
        return self.builder.load(self.builder.gep(self.data(argument), [place]))

    def row(self, argument: int, row: Any) -> Any:
        """Pointer to the first number of a row of a matrix."""
        width = self.width(argument)
        row = self.builder.sext(row, width.type) if row.type.width < width.type.width else row
        return self.builder.gep(self.data(argument), [self.builder.mul(row, width)])

    def load(self, row: Any, offset: Any, kind: Any = _VECTOR) -> Any:
        return self.builder.load(self._at(row, offset, kind), align=4)

    def store(self, value: Any, row: Any, offset: Any) -> None:
        self.builder.store(value, self._at(row, offset, value.type), align=4)

    def _at(self, row: Any, offset: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(row, [offset]), kind.as_pointer())

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_FAST)

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_FAST)

    def loop(
        self, first: Any, last: Any, step: int, carried: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]
    ) -> list[Any]:
        """Run body(i, values) for i = first, first + step, ... below last; its results are the next values."""
        b = self.builder
        before = b.block
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        place = b.phi(last.type)
        place.add_incoming(first, before)
        values = [b.phi(value.type) for value in carried]
        for phi, value in zip(values, carried, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(b.icmp_signed("<", place, last), inside, after)
        b.position_at_end(inside)
        following = body(place, values)
        place.add_incoming(b.add(place, last.type(step)), b.block)
        for phi, value in zip(values, following, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(head)
        b.position_at_end(after)
        return values


@intrinsic
def add_rows(typing: Any, out: Any, w: Any, rows: Any, first: Any, last: Any) -> Any:
    """Add to `out` the sum of w[rows[first:last]]."""
    signature = types.void(out, w, rows, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Code(context, builder, sig, args)
        out, (first, last), width = code.data(0), args[3:], code.width(1)
        zero = width.type(0)
        fours = builder.add(first, builder.and_(builder.sub(last, first), width.type(-4)))

        def some(count: int) -> Callable[[Any, list[Any]], list[Any]]:
            def body(i: Any, _: list[Any]) -> list[Any]:
                held = [code.row(1, code.number(2, builder.add(i, width.type(k)))) for k in range(count)]

                def sum_up(offset: Any, _: list[Any]) -> list[Any]:
                    parts = [code.load(row, offset) for row in held]
                    while len(parts) > 1:
                        parts = [code.add(*parts[k : k + 2]) for k in range(0, len(parts), 2)]
                    code.store(code.add(code.load(out, offset), parts[0]), out, offset)
                    return []

                code.loop(zero, width, LANES, [], sum_up)
                return []

            return body

        code.loop(first, fours, 4, [], some(4))
        code.loop(fours, last, 1, [], some(1))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_to_rows(typing: Any, w: Any, rows: Any, first: Any, last: Any, g: Any) -> Any:
    """w[row] += g for each row of rows[first:last], as often as it stands there."""
    signature = types.void(w, rows, types.intp, types.intp, g)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Code(context, builder, sig, args)
        width, g = code.width(0), code.data(4)

        def one(i: Any, _: list[Any]) -> list[Any]:
            row = code.row(0, code.number(1, i))

            def increase(offset: Any, _: list[Any]) -> list[Any]:
                code.store(code.add(code.load(row, offset), code.load(g, offset)), row, offset)
                return []

            code.loop(width.type(0), width, LANES, [], increase)
            return []

        code.loop(args[2], args[3], 1, [], one)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def products(typing: Any, h: Any, c: Any, targets: Any, base: Any, f: Any) -> Any:
    """f[base:base + TARGETS] = the products of h with the rows c[targets[base:base + TARGETS]]."""
    signature = types.void(h, c, targets, types.intp, f)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Code(context, builder, sig, args)
        h, width, base = code.data(0), code.width(1), args[3]
        held = [code.row(1, code.number(2, builder.add(base, base.type(k)))) for k in range(TARGETS)]

        def multiply(offset: Any, sums: list[Any]) -> list[Any]:
            x = code.load(h, offset)
            return [code.add(s, code.times(x, code.load(row, offset))) for s, row in zip(sums, held, strict=True)]

        sums = code.loop(width.type(0), width, LANES, [_zeros(LANES)] * TARGETS, multiply)
        code.store(_totals(builder, sums), code.data(4), base)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def learn(typing: Any, h: Any, g: Any, c: Any, targets: Any, base: Any, x: Any) -> Any:
    """For each of TARGETS rows of c from targets[base] on: g += x * row, then row += x * h, with its number of x."""
    signature = types.void(h, g, c, targets, types.intp, x)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code = _Code(context, builder, sig, args)
        h, g, width, base = code.data(0), code.data(1), code.width(2), args[4]
        places = [builder.add(base, base.type(k)) for k in range(TARGETS)]
        held = [code.row(2, code.number(3, place)) for place in places]
        factors = [_every(builder, code.number(5, place)) for place in places]

        def update(offset: Any, _: list[Any]) -> list[Any]:
            moving, total = code.load(h, offset), code.load(g, offset)
            for factor, row in zip(factors, held, strict=True):
                value = code.load(row, offset)
                total = code.add(total, code.times(factor, value))
                code.store(code.add(value, code.times(factor, moving)), row, offset)
            code.store(total, g, offset)
            return []

        code.loop(width.type(0), width, LANES, [], update)
        return context.get_dummy_value()

    return signature, generate
