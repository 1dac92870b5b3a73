"""Matrices in SciPy's files: .npz (`scipy.sparse.save_npz`), Matrix Market .mtx, MATLAB .mat."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from embedders.errors import InputError
from storage.inputs.graph_spec import suffix

MOST_NODES = np.iinfo(np.int32).max


def read_adjacency(path: Path, variable: str | None, duplicates: str = "sum") -> Any:
    """A square matrix of positive weights as a SciPy COO array; zeros that are stored are no edges.

    duplicates : what entries of one place become: their "sum", or "drop" for the first.

    Raises
    ------
    InputError : the file cannot be read, holds no such matrix, or a weight is not positive.
    """
    found = _mat(path, variable) if suffix(path) == ".mat" else read_matrix(path)
    if found.ndim != 2 or found.shape[0] != found.shape[1]:
        raise InputError(f"Got a matrix of shape {found.shape} in {str(path)!r}; expected a square one.")
    if found.shape[0] > MOST_NODES:
        raise InputError(f"Got a matrix of {found.shape[0]:,} rows in {str(path)!r}; expected at most {MOST_NODES:,}.")
    matrix = _sparse(found, path)
    if duplicates == "drop":
        places = matrix.row.astype(np.int64) * matrix.shape[1] + matrix.col
        first = np.unique(places, return_index=True)[1]
        matrix = type(matrix)((matrix.data[first], (matrix.row[first], matrix.col[first])), shape=matrix.shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    from storage.inputs.graph_edges import usable

    if not (good := usable(matrix.data)).all():
        bad = int(np.flatnonzero(~good)[0])
        raise InputError(
            f"Got the weight {matrix.data[bad]} in row {matrix.row[bad] + 1}, column {matrix.col[bad] + 1} of {str(path)!r}; "
            "expected a positive number that a float32 can hold."
        )
    return matrix


def read_matrix(path: Path) -> Any:
    """A matrix, sparse or dense, of an .npz, .npy or .mtx file.

    Raises
    ------
    InputError : the file cannot be read or holds something else.
    """
    import scipy.io
    import scipy.sparse

    kinds = {".npz": "scipy.sparse.save_npz", ".npy": "numpy.save, numbers only", ".mtx": "Matrix Market"}
    if suffix(path) not in kinds:
        raise InputError(f"Got {str(path)!r}; expected a matrix in a file that ends in {', '.join(kinds)}.")
    try:
        if suffix(path) == ".npz":
            found = scipy.sparse.load_npz(path)
            if hasattr(found, "check_format"):  # else places beyond the arrays would be read
                found.check_format()
            return found
        if suffix(path) == ".npy":
            return np.load(path, allow_pickle=False)
        return scipy.io.mmread(str(path))
    except Exception as error:  # of every kind, for a damaged file
        held = _held(path)
        raise InputError(
            f"Got {str(path)!r}, which cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            f"expected a file of {kinds[suffix(path)]}.{held}"
        ) from error


def _held(path: Path) -> str:
    """The arrays of an .npz file that holds other ones."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return f" It holds {', '.join(found.files)}."
    except Exception:  # no such file; the error before says so
        return ""


def _mat(path: Path, variable: str | None) -> Any:
    """One variable of a .mat file."""
    import scipy.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that MATLAB would not take
            found = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise InputError(f"Got {str(path)!r} of MATLAB 7.3; expected an older form. Save it with `-v7`.") from error
    except Exception as error:  # of every kind, for a damaged file
        raise InputError(f"Got {str(path)!r}, which cannot be read ({error}); expected a MATLAB file.") from error
    held = {name: value for name, value in found.items() if not name.startswith("__")}
    listed = ", ".join(f"{name} {getattr(value, 'shape', '')}" for name, value in held.items()) or "nothing"
    if variable is not None:
        if variable not in held:
            raise InputError(f"Got `variable: {variable}`; {str(path)!r} holds {listed}. Name one of them.")
        return held[variable]
    square = [name for name, it in held.items() if _is_square(it)]
    if len(square) != 1:
        raise InputError(
            f"Got {len(square)} square matrices in {str(path)!r}, which holds {listed}; expected one. Name it with `variable:`."
        )
    return held[square[0]]


def _is_square(value: Any) -> bool:
    """Whether it may be an adjacency matrix; MATLAB's single numbers are matrices of one row, too."""
    return getattr(value, "ndim", 0) == 2 and value.shape[0] == value.shape[1] > 1


def _sparse(found: Any, path: Path) -> Any:
    """Numbers as a COO array of float64."""
    import scipy.sparse

    if not (np.issubdtype(found.dtype, np.number) or found.dtype == bool) or np.iscomplexobj(found):
        raise InputError(f"Got a matrix of {found.dtype} in {str(path)!r}; expected real numbers.")
    return scipy.sparse.coo_array(found, dtype=np.float64, copy=True)


def read_features(path: Path, rows: int) -> Any:
    """The features of nodes: float32, a SciPy CSR matrix or an array. rows: of the node table.

    Raises
    ------
    InputError : the file cannot be read, has another number of rows, or holds something that is no finite number.
    """
    import scipy.sparse

    found = read_matrix(path)
    if found.ndim != 2 or found.shape[0] != rows:
        raise InputError(
            f"Got features of shape {found.shape} in {str(path)!r} for {rows:,} nodes; expected a row for each, in the order of the node table."
        )
    if not (np.issubdtype(found.dtype, np.number) or found.dtype == bool) or np.iscomplexobj(found):
        raise InputError(f"Got a matrix of {found.dtype} in {str(path)!r}; expected real numbers.")
    sparse = scipy.sparse.issparse(found)
    with np.errstate(over="ignore"):
        features: Any = (
            scipy.sparse.csr_array(found, dtype=np.float32) if sparse else np.ascontiguousarray(found, np.float32)
        )
    finite = np.isfinite(features.data if sparse else features)
    if not finite.all():
        bad = (
            int(np.searchsorted(features.indptr, np.flatnonzero(~finite)[0], side="right"))
            if sparse
            else int(np.flatnonzero(~finite.all(axis=1))[0]) + 1
        )
        raise InputError(
            f"Got NaN or infinity in row {bad} of {str(path)!r}; expected numbers that a float32 can hold. Mend the row."
        )
    if sparse:
        features.sum_duplicates()
    return features
