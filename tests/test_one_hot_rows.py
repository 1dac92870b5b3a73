"""One-hot rows: a coordinate each, or hashed with signs."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.errors import InputError
from embedders.table.coding import Coding
from embedders.table.one_hot import OneHotRows
from embedders.tables import Table
from embedders.testing import answer


def table(rows, numbers=None, columns=("c", "d")):
    """A table of rows of text, None where a value is missing."""
    values = [sorted({row[j] for row in rows} - {None}) for j in range(len(columns))]
    place = [{value: code for code, value in enumerate(found)} | {None: -1} for found in values]
    codes = [[place[j][value] for j, value in enumerate(row)] for row in rows]
    more = {} if numbers is None else {"number_columns": ("n",), "numbers": np.array(numbers, np.float32)[:, None]}
    ids = [f"r{i}" for i in range(len(rows))]
    return Table(ids, tuple(columns), tuple(values), np.array(codes, np.int32).reshape(len(rows), len(columns)), **more)


def test_a_coordinate_for_each_value():
    data = table([("b", "x"), ("a", "x"), ("b", None), ("b", "y")], [1, 3, np.nan, 5])
    encoder = OneHotRows().fit(data)
    assert encoder.coding.values == (["unknown", "b", "a"], ["unknown", "x", "y"]) and encoder.dim == 7
    root = 1.5**0.5
    expected = [[0, 1, 0, 0, 1, 0, -root], [0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 1, root]]
    found = answer(encoder, data)
    np.testing.assert_allclose(found.matrix, expected, atol=1e-6)
    new = table([("z", "y"), ("unknown", "x")], [1, 1])
    np.testing.assert_array_equal(answer(encoder, new).matrix[:, :6], [[1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0]])


def test_rare_values_share_unknown():
    data = table([("b", "x"), ("a", "x"), ("b", "unknown"), ("b", "unknown")])
    assert OneHotRows(min_count=2).fit(data).coding.values == (["unknown", "b"], ["unknown", "x"])


def test_hashed_rows():
    data = table([(f"v{i}", f"w{i % 7}") for i in range(500)])
    recipe = OneHotRows(buckets=64)
    encoder = recipe.fit(data)
    matrix = encoder.sparse(data).toarray()
    assert matrix.shape == (500, 64) and set(np.abs(matrix).sum(axis=1)) == {0, 2} and abs(matrix.sum()) < 200
    some = table([("v3", "w3"), ("new", "w3")])  # other codes, the same coordinates
    np.testing.assert_array_equal(encoder.sparse(some).toarray(), recipe.fit(some).sparse(some).toarray())
    np.testing.assert_array_equal(encoder.sparse(some).toarray()[0], matrix[3])
    # the products of rows are those of one-hot on average (Weinberger et al. 2009, lemma 2)
    wide = OneHotRows().fit(data).sparse(data).toarray()
    assert abs((matrix @ matrix.T - wide @ wide.T).mean()) < 0.05


def test_values_that_cancel_are_rejected():
    data = table([(f"v{i}", f"w{i}") for i in range(60)])
    found = answer(OneHotRows(buckets=1).fit(data), data)
    assert 10 < len(found.rejected) < 50 and len(found.ids) + len(found.rejected) == 60
    assert set(np.abs(found.matrix).ravel()) == {2}


def test_what_cannot_be():
    wide = table([(f"v{i}", "x") for i in range(65536)])
    with pytest.raises(InputError, match=r"65,537 of them for 'c'.*buckets: 1024"):
        OneHotRows().fit(wide)
    assert OneHotRows(min_count=2).fit(wide).dim == 3
    with pytest.raises(InputError, match="without a row"):
        OneHotRows().fit(table([]))
    data = table([("a", "x")])
    with pytest.raises(InputError, match=r"expected d among them.*--force"):
        answer(OneHotRows().fit(data), replace(data, columns=("c", "other")))
    with pytest.raises(InputError, match="Leave start out"):
        OneHotRows().fit(data, start=OneHotRows().fit(data))


def test_small_numbers_are_no_constant():
    data = Table(
        ["a", "b", "c"], ("c",), (["x"],), np.zeros((3, 1), np.int32), ("n", "same"),
        np.array([[1e-20, 0.1], [2e-20, 0.1], [3e-20, 0.1]], np.float32),
    )  # fmt: skip
    found = Coding.of(data, 1).numbers(data)
    np.testing.assert_allclose(found, [[-(1.5**0.5), 0], [0, 0], [1.5**0.5, 0]], atol=1e-4)
