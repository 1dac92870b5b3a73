"""A sparse matrix in compressed rows times a tall dense one, by our own threads.

Rows of the dense matrix are fetched ahead: their places are known long before their turn, and waiting for memory is
nearly all of the time. Each row of the result is summed by one thread in the order of its entries, so that the number of
threads changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from embedders.kernels.tall import over_rows

AHEAD = 16  # entries between asking for a row and using it
LINE = 16  # numbers in a cache line
_BYTES, _INT = ir.IntType(8).as_pointer(), ir.IntType(32)


@dataclass(frozen=True, eq=False)
class Csr:
    """A square matrix. indptr: (n + 1,) int; indices: (nnz,) int32; values: (nnz,) float32, or none when all are 1."""

    indptr: NDArray[Any]
    indices: NDArray[np.int32]
    values: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.indptr) - 1


def multiply(
    matrix: Csr,
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    *,
    gain: NDArray[np.float32] | None = None,
    own: NDArray[np.float32] | None = None,
    keep: float = 0.0,
    base: NDArray[np.float32] | None = None,
    share: float = 0.0,
    threads: int = 1,
) -> None:
    """Row i of `out` becomes gain[i] (matrix x)[i] + own[i] x[i] + keep out[i] + share base[i].

    Parameters
    ----------
    x, out, base : (n, width) float32, C order; `out` is none of the others.
    gain, own : (n,) float32; 1 and 0 when left out.
    """
    n = len(matrix)
    gain = np.ones(n, np.float32) if gain is None else gain
    own = np.zeros(n, np.float32) if own is None else own
    base = x if base is None else base

    def work(first: int, last: int) -> None:
        multiply_rows(
            matrix.indptr, matrix.indices, matrix.values, x, out, gain, own, np.float32(keep), base, np.float32(share),
            first, last,
        )  # fmt: skip

    over_rows(work, n, threads)


FULL, WIDE, NARROW = 144, 128, 16  # numbers of a row that are summed at a time, all in registers where there are 32


def _summing(lanes: int) -> Any:
    """The loop over the entries of a row, for `lanes` columns at a time."""

    @intrinsic
    def summed(typing: Any, x: Any, indices: Any, values: Any, first: Any, last: Any, column: Any, out: Any) -> Any:
        """out[column:column + lanes] = sum of values[e] x[indices[e], column:] over entries e; no values count as 1."""
        signature = types.void(x, indices, values, types.intp, types.intp, types.intp, out)
        kind = ir.VectorType(ir.FloatType(), LINE)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            arrays = [context.make_array(sig.args[i])(context, builder, value=args[i]) for i in (0, 1, 2, 6)]
            rows, places, weights, into = (array.data for array in arrays)
            first, last, column = args[3:6]
            width = cgutils.unpack_tuple(builder, arrays[0].shape)[1]
            entries, weighted = (cgutils.unpack_tuple(builder, array.shape)[0] for array in arrays[1:3])
            one = cgutils.alloca_once_value(builder, ir.Constant(ir.FloatType(), 1.0))
            step = builder.select(builder.icmp_signed(">", weighted, weighted.type(0)), width.type(1), width.type(0))
            weights = builder.select(builder.icmp_signed(">", weighted, weighted.type(0)), weights, one)
            end = builder.sub(entries, entries.type(1))
            fetch = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT]),
                "llvm.prefetch.p0",
            )

            def row(entry: Any) -> Any:
                place = builder.sext(builder.load(builder.gep(places, [entry])), width.type)
                return builder.gep(rows, [builder.add(builder.mul(place, width), column)])

            def part(start: Any, offset: int) -> Any:
                return builder.bitcast(builder.gep(start, [width.type(offset)]), kind.as_pointer())

            offsets = range(0, lanes, LINE)
            totals = [cgutils.alloca_once(builder, kind) for _ in offsets]
            for total in totals:
                builder.store(ir.Constant(kind, [0.0] * LINE), total)
            with cgutils.for_range_slice(builder, first, last, first.type(1)) as (entry, _):
                ahead = builder.add(entry, entry.type(AHEAD))
                soon = row(builder.select(builder.icmp_signed("<", ahead, end), ahead, end))
                now = row(entry)
                value = builder.load(builder.gep(weights, [builder.mul(entry, step)]))
                value = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _INT(0))
                zeros = ir.Constant(ir.VectorType(_INT, LINE), [0] * LINE)
                value = builder.shuffle_vector(value, ir.Constant(kind, ir.Undefined), zeros)
                for offset, total in zip(offsets, totals, strict=True):
                    line = builder.bitcast(builder.gep(soon, [width.type(offset)]), _BYTES)
                    builder.call(fetch, [line, _INT(0), _INT(3), _INT(1)])
                    term = builder.fmul(value, builder.load(part(now, offset), align=4), flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), term, flags=("contract",)), total)
            there = builder.gep(into, [column])
            for offset, total in zip(offsets, totals, strict=True):
                builder.store(builder.load(total), part(there, offset), align=4)
            return context.get_dummy_value()

        return signature, generate

    return summed


_summed_full, _summed_wide, _summed_narrow = _summing(FULL), _summing(WIDE), _summing(NARROW)


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy", fastmath={"contract"})
def multiply_rows(indptr, indices, values, x, out, gain, own, keep, base, share, first, last):  # noqa: ANN201
    """Rows first to last of `multiply`."""
    width = x.shape[1]
    total = np.empty(width, np.float32)
    for i in range(first, last):
        start, stop, column = indptr[i], indptr[i + 1], 0
        while column + FULL <= width:
            _summed_full(x, indices, values, start, stop, column, total)
            column += FULL
        while column + WIDE <= width:
            _summed_wide(x, indices, values, start, stop, column, total)
            column += WIDE
        while column + NARROW <= width:
            _summed_narrow(x, indices, values, start, stop, column, total)
            column += NARROW
        if column < width:
            total[column:] = 0
            for e in range(start, stop):
                j, value = indices[e], values[e] if len(values) else np.float32(1)
                for k in range(column, width):
                    total[k] += value * x[j, k]
        g, o = gain[i], own[i]
        for k in range(width):
            total[k] = g * total[k] + o * x[i, k]
        if keep != 0:
            for k in range(width):
                total[k] += keep * out[i, k]
        if share != 0:
            for k in range(width):
                total[k] += share * base[i, k]
        out[i] = total


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def edge_logs(indptr, indices, values, row_part, column_part):  # noqa: ANN201
    """(nnz,) float32: log(1 + values[e] row_part[i] column_part[j]) of each entry e at (i, j); no values count as 1."""
    out = np.empty(len(indices), np.float32)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            value = row_part[i] * column_part[indices[e]] * (values[e] if len(values) else np.float32(1))
            out[e] = np.log1p(value)
    return out


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def edge_products(indptr, indices, values, part):  # noqa: ANN201
    """(nnz,) float32: values[e] part[i] part[j] of each entry e at (i, j); no values count as 1."""
    out = np.empty(len(indices), np.float32)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            out[e] = part[i] * part[indices[e]] * (values[e] if len(values) else np.float32(1))
    return out
