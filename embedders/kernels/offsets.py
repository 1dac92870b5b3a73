"""Rows by their offsets (row number times width) in a matrix, in LLVM vectors: loads, stores, loops over rows, prefetching.

Matrices are float32 in C order, their width a multiple of WIDTH.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from embedders.kernels.simd import _INT, _LOAD, _pick


def _data(context: Any, builder: Any, kind: Any, array: Any, first: Any = None) -> Any:
    data = context.make_array(kind)(context, builder, value=array).data
    return data if first is None else builder.gep(data, [first])


def _width(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return cgutils.unpack_tuple(builder, context.make_array(kind)(context, builder, value=array).shape)[1]


def _as(builder: Any, base: Any, offset: Any, kind: ir.Type) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())


def _load(builder: Any, base: Any, offset: Any, kind: ir.Type = _LOAD) -> Any:
    return builder.load(_as(builder, base, offset, kind), align=4)


def _store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    builder.store(value, _as(builder, base, offset, value.type), align=4)


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of one number."""
    nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    return _pick(builder, builder.insert_element(nothing, value, _INT(0)), nothing, [0] * lanes)


def _over_rows(builder: Any, n: Any, at_once: int, carried: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:  # fmt: skip
    """Run body(i, values) for i = 0, at_once, ... below n, which is at least 1; its results are the next values."""
    before, head, after = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(n.type)
    i.add_incoming(n.type(0), before)
    values = [builder.phi(value.type) for value in carried]
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, before)
    results = body(i, list(values))
    following = builder.add(i, n.type(at_once))
    i.add_incoming(following, builder.block)
    for phi, value in zip(values, results, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, n), head, after)
    builder.position_at_end(after)
    return results


def _fetch(builder: Any, start: Any, to_write: bool) -> None:
    """Ask for the cache line at a pointer."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(fetch, [builder.bitcast(start, pointer), _INT(int(to_write)), _INT(3), _INT(1)])


@intrinsic
def prefetch(typing: Any, matrix: Any, offset: Any) -> Any:
    """Ask for the row at `offset` to be brought into the cache, to be written soon."""
    signature = types.void(matrix, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dim = _width(context, builder, sig.args[0], args[0])
        start = _data(context, builder, sig.args[0], args[0], args[1])
        with cgutils.for_range_slice(builder, dim.type(0), dim, dim.type(64 // 4)) as (at, _):
            _fetch(builder, builder.gep(start, [at]), to_write=True)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def prefetch_one(typing: Any, array: Any, place: Any) -> Any:
    """Ask for one number of an array, to be read soon."""
    signature = types.void(array, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _fetch(builder, _data(context, builder, sig.args[0], args[0], args[1]), to_write=False)
        return context.get_dummy_value()

    return signature, generate
