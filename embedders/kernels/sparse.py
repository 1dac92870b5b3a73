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

AHEAD = 8  # entries between asking for a row and using it


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
    threads: int = 1,
) -> None:
    """Row i of `out` becomes gain[i] (matrix x)[i] + own[i] x[i] + keep out[i].

    Parameters
    ----------
    x, out : (n, width) float32, C order, not the same.
    gain, own : (n,) float32; 1 and 0 when left out.
    """
    n = len(matrix)
    gain = np.ones(n, np.float32) if gain is None else gain
    own = np.zeros(n, np.float32) if own is None else own

    def work(first: int, last: int) -> None:
        multiply_rows(
            matrix.indptr, matrix.indices, matrix.values, x, out, gain, own, np.float32(keep), first, last
        )  # fmt: skip

    over_rows(work, n, threads)


@intrinsic
def _fetch_row(typing: Any, matrix: Any, row: Any) -> Any:
    """Ask for matrix[row] (float32, C order) to be brought into the cache, to be read soon."""
    signature = types.void(matrix, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, value=args[0])
        dim = cgutils.unpack_tuple(builder, array.shape)[1]
        start = builder.gep(array.data, [builder.mul(args[1], dim)])
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        with cgutils.for_range_slice(builder, dim.type(0), dim, dim.type(64 // 4)) as (offset, _):
            line = builder.bitcast(builder.gep(start, [offset]), pointer)
            builder.call(fetch, [line, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return signature, generate


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy", fastmath={"contract"})
def multiply_rows(indptr, indices, values, x, out, gain, own, keep, first, last):  # noqa: ANN201
    """Rows first to last of `multiply`."""
    width = x.shape[1]
    total = np.empty(width, np.float32)
    end = len(indices)
    weighted = len(values) > 0
    for i in range(first, last):
        total[:] = 0
        for e in range(indptr[i], indptr[i + 1]):
            if e + AHEAD < end:
                _fetch_row(x, indices[e + AHEAD])
            j = indices[e]
            if weighted:
                value = values[e]
                for k in range(width):
                    total[k] += value * x[j, k]
            else:
                for k in range(width):
                    total[k] += x[j, k]
        g, o = gain[i], own[i]
        if keep != 0:
            for k in range(width):
                out[i, k] = g * total[k] + o * x[i, k] + keep * out[i, k]
        elif o != 0:
            for k in range(width):
                out[i, k] = g * total[k] + o * x[i, k]
        else:
            for k in range(width):
                out[i, k] = g * total[k]


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def edge_sums(indptr, indices, base, row_part, column_part):  # noqa: ANN201
    """(nnz,) float32: base[e] + row_part[i] + column_part[j] of each entry e at (i, j); an empty base counts as 0."""
    out = np.empty(len(indices), np.float32)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            out[e] = row_part[i] + column_part[indices[e]] + (base[e] if len(base) else 0.0)
    return out


@njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def edge_products(indptr, indices, values, part):  # noqa: ANN201
    """(nnz,) float32: values[e] part[i] part[j] of each entry e at (i, j); no values count as 1."""
    out = np.empty(len(indices), np.float32)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            out[e] = part[i] * part[indices[e]] * (values[e] if len(values) else np.float32(1))
    return out
