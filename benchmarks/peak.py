"""What this machine's cores can do in fp32 at most: multiply-adds that never leave the registers, and a matrix product."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from embedders.kernels.simd import STEP
from embedders.kernels.threads import run_threads

SUMS = 12  # independent sums: more than latency x units, fewer than registers
ROUNDS = 20_000_000
SIDE = 2048


@intrinsic
def _fused(typing: Any, rounds: Any, factor: Any) -> Any:
    """`rounds` times SUMS vectors of STEP floats: sum = sum * factor + factor; returns one lane of their total."""
    signature = types.float32(types.int64, types.float32)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rounds_, factor_ = args
        kind, integer = ir.VectorType(ir.FloatType(), STEP), ir.IntType(32)
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.v{STEP}f32")
        undefined = ir.Constant(kind, ir.Undefined)
        one = builder.insert_element(undefined, factor_, integer(0))
        factors = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(integer, STEP), [0] * STEP))
        before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(rounds_.type)
        sums = [builder.phi(kind) for _ in range(SUMS)]
        following = [builder.call(fma, [value, factors, factors]) for value in sums]
        left = builder.sub(count, rounds_.type(1))
        count.add_incoming(rounds_, before)
        count.add_incoming(left, loop)
        for number, (value, after_it) in enumerate(zip(sums, following, strict=True)):
            value.add_incoming(ir.Constant(kind, [float(number)] * STEP), before)
            value.add_incoming(after_it, loop)
        builder.cbranch(builder.icmp_signed(">", left, rounds_.type(0)), loop, after)
        builder.position_at_end(after)
        total = following[0]
        for value in following[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, integer(0))

    return signature, generate


@njit(nogil=True)
def _spin(rounds, factor):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return _fused(rounds, factor)


def registers(threads: int, repeats: int = 3) -> float:
    """Floating-point operations a second in registers, on `threads` threads; the best of `repeats`."""
    _spin(1, np.float32(0.5))

    def all_threads() -> float:
        started = time.perf_counter()
        run_threads(lambda slot, number: _spin(ROUNDS, np.float32(0.5)), threads, threads, lambda: None)
        return time.perf_counter() - started

    return threads * ROUNDS * SUMS * STEP * 2 / min(all_threads() for _ in range(repeats))


def product(threads: int, repeats: int = 5) -> float:
    """Floating-point operations a second of numpy's product of two matrices, SIDE x SIDE; the best of `repeats`."""
    from threadpoolctl import threadpool_limits

    a = np.random.default_rng(0).random((SIDE, SIDE), np.float32)

    def once() -> float:
        started = time.perf_counter()
        np.matmul(a, a)
        return time.perf_counter() - started

    with threadpool_limits(threads):
        return 2 * SIDE**3 / min(once() for _ in range(repeats))
