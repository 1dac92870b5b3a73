"""The inner step of skip-gram, written in LLVM vectors.

The compiler turns the same loops in plain numba into three times slower code: it must prove at run time, for each
call, that none of sixteen rows overlap, it sums each of the twelve dot products on its own, and it looks up sigmoids
one by one. Here the rows are known not to overlap, the twelve sums are folded together, and the sigmoids are computed
in one vector. Vectors of 16 numbers are one AVX-512 register; elsewhere LLVM splits them.

numba's cache of a caller does not notice a change in this file: after one, delete `__pycache__/*.nbi`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir

TARGETS = 6  # rows handled together: the centre and 5 negatives, or the next 6 negatives
WIDTH = 16  # lanes of the twelve dot products; rows are padded to a multiple of it
BOUND = 6.0  # past it an answer counts as reached, as in word2vec.c
STEP = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else 8  # lanes of one load

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_SUMS = ir.VectorType(_FLOAT, WIDTH)
_LOAD = ir.VectorType(_FLOAT, STEP)
_FAST = ("fast",)


def _constant(value: float | Sequence[float], kind: ir.Type = _FLOAT, lanes: int = WIDTH) -> ir.Constant:
    values = list(value) if isinstance(value, Sequence) else [value] * lanes
    if kind is _FLOAT:
        values = [float(np.float32(v)) for v in values]
    return ir.Constant(ir.VectorType(kind, lanes), values)


def _pick(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(a, b, _constant(list(lanes), _INT, len(lanes)))


def _merge(builder: Any, a: Any, b: Any, block: int) -> Any:
    """Half the sums of a and of b in one vector: each two blocks of `block` lanes are added, those of a stand first."""
    kept, moved = [], []
    for first in range(0, WIDTH, 2 * block):
        kept += [*range(first, first + block), *range(WIDTH + first + block, WIDTH + first + 2 * block)]
        moved += [*range(first + block, first + 2 * block), *range(WIDTH + first, WIDTH + first + block)]
    return builder.fadd(_pick(builder, a, b, kept), _pick(builder, a, b, moved), flags=_FAST)


def _fold(builder: Any, sums: Sequence[Any]) -> Any:
    """Sixteen vectors (None: zeros) of up to sixteen lanes to one whose lane i is the sum of vector i."""
    rows: list[Any] = list(sums)
    if STEP < WIDTH:
        nothing = _constant(0.0, lanes=STEP)
        rows = [
            _pick(builder, row, nothing, range(WIDTH)) if row is not None and row.type != _SUMS else row for row in rows
        ]
    zero = _constant(0.0)
    for block in (8, 4, 2, 1):
        pairs = zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True)
        rows = [
            None
            if a is None and b is None
            else _merge(builder, zero if a is None else a, zero if b is None else b, block)
            for a, b in pairs
        ]
    return rows[0]


def _sigmoid(builder: Any, f: Any) -> Any:
    """1 / (1 + exp(-f)) within BOUND (relative error of exp below 1e-6), 0 and 1 past it."""
    low, high = _constant(-BOUND), _constant(BOUND)
    under, over = builder.fcmp_ordered("<=", f, low), builder.fcmp_ordered(">=", f, high)
    x = builder.select(over, high, builder.select(under, low, f))
    x = builder.fmul(x, _constant(-1.4426950408889634))
    # 2^x = 2^n 2^r with n = floor(x + 1/2): n goes into the exponent's bits, r into a polynomial
    shifted = builder.fadd(x, _constant(32.5))  # positive, so that cutting is floor
    n = builder.fptosi(shifted, ir.VectorType(_INT, WIDTH))
    r = builder.fsub(x, builder.fsub(builder.sitofp(n, _SUMS), _constant(32.0)))
    power = _constant(1.5403530e-4)
    for factor in (1.3333558e-3, 9.6181291e-3, 5.5504109e-2, 2.4022651e-1, 6.9314718e-1, 1.0):
        power = builder.fadd(builder.fmul(power, r, flags=_FAST), _constant(factor), flags=_FAST)
    bits = builder.shl(builder.add(n, _constant(127 - 32, _INT)), _constant(23, _INT))
    power = builder.fmul(power, builder.bitcast(bits, _SUMS))
    s = builder.fdiv(_constant(1.0), builder.fadd(power, _constant(1.0)))
    return builder.select(over, _constant(1.0), builder.select(under, _constant(0.0), s))


def _loop(builder: Any, count: Any, carried: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Run body(offset, values) for offsets 0, STEP, ... below count; its results are the next values."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    offset = builder.phi(count.type)
    offset.add_incoming(count.type(0), before)
    values = [builder.phi(value.type) for value in carried]
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", offset, count), inside, after)
    builder.position_at_end(inside)
    following = body(offset, values)
    last = builder.block
    offset.add_incoming(builder.add(offset, count.type(STEP)), last)
    for phi, value in zip(values, following, strict=True):
        phi.add_incoming(value, last)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def _at(builder: Any, row: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(row, [offset]), _LOAD.as_pointer())


def _axpy(builder: Any, total: Any, coefficients: Sequence[Any], rows: Sequence[Any]) -> Any:
    for c, row in zip(coefficients, rows, strict=True):
        total = builder.fadd(builder.fmul(c, row, flags=_FAST), total, flags=_FAST)
    return total
