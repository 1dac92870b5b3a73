"""Tables of values learned together: what they hold, how they are made again, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest

from embedders.base import Sides
from embedders.errors import InputError
from embedders.table import network, training
from embedders.table.categories import Categories
from embedders.tables import Table
from embedders.testing import answer

pytest.importorskip("torch")


def table(columns, target=None, numbers=None, classes=None):
    """A table of lists of text by column, None where a value is missing."""
    values = {name: sorted(set(cells) - {None}) for name, cells in columns.items()}
    place = {name: {value: i for i, value in enumerate(found)} | {None: -1} for name, found in values.items()}
    codes = np.array([[place[name][cell] for cell in cells] for name, cells in columns.items()], np.int32).T
    more = {} if numbers is None else {"number_columns": ("n",), "numbers": np.array(numbers, np.float32)[:, None]}
    ids = [f"r{i}" for i in range(len(codes))]
    kind = np.float32 if classes is None else np.int32
    aim = None if target is None else np.array(target, kind)
    return Table(
        ids, tuple(columns), tuple(values.values()), codes, target=aim, target_column="y", classes=classes, **more
    )


def shops(n=400, seed=0, cities=8):
    rng = np.random.default_rng(seed)
    city, kind = rng.integers(0, cities, n), rng.integers(0, 3, n)
    columns = {"city": [f"Ort {i}" for i in city], "type": ["abc"[i] for i in kind]}
    return table(columns, (city % 2) * 2.0 - 1 + kind * 0.1 + rng.normal(0, 0.1, n))


QUICK = Categories(hidden=[16], epochs=8, threads=1)


def row(side, name):
    return side.matrix[list(side.ids).index(name)]


def test_each_column_has_a_table_and_rows_are_made_of_them():
    data = replace(shops(), number_columns=("n",), numbers=np.arange(400, dtype=np.float32)[:, None])
    found = QUICK.fit(data)
    assert isinstance(found, Sides) and list(found.sides) == ["rows", "city", "type"] == list(QUICK.sides(data.columns))
    city, kind, rows = found.sides["city"], found.sides["type"], found.sides["rows"]
    assert city.ids[0] == kind.ids[0] == "unknown" and set(city.ids[1:]) == {f"Ort {i}" for i in range(8)}
    assert (city.dim, kind.dim, rows.dim) == (4, 2, 7) and city.entity == "city" and rows.entity == "row"
    first = answer(rows, data).matrix[0]
    expected = [*row(city, data.values[0][data.codes[0, 0]]), *row(kind, data.values[1][data.codes[0, 1]])]
    np.testing.assert_array_equal(first[:6], expected)
    assert first[6] == pytest.approx(-199.5 / np.arange(400).std())


def test_rows_of_the_last_hidden_layer():
    data = shops()
    values, hidden = QUICK.fit(data).sides["rows"], QUICK.model_copy(update={"rows": "hidden"}).fit(data).sides["rows"]
    weight, bias = hidden.network["layer 0 weight"], hidden.network["layer 0 bias"]
    assert hidden.dim == 16
    np.testing.assert_allclose(
        answer(hidden, data).matrix, np.maximum(answer(values, data).matrix @ weight.T + bias, 0), atol=1e-5
    )


def test_widths():
    data = shops(cities=200, n=3000)
    coding = QUICK._coding(data)
    assert QUICK.widths(coding) == (50, 2)
    assert Categories(width=5).widths(coding) == (5, 5) and Categories(width={"city": 7}).widths(coding) == (7, 2)
    with pytest.raises(InputError, match="Got width for town; expected some of the categories city, type"):
        Categories(width={"town": 7}).widths(coding)


def test_names_of_sides():
    assert QUICK.sides(["rows", "zip code", "zip/code", "ab", "都市"]) == (
        "rows", "rows_2", "zip_code", "zip_code_2", "ab", "_",
    )  # fmt: skip


def test_rare_missing_and_new_values_share_unknown():
    columns = {"city": ["a", "b"] * 30 + ["once", None, "unknown", "unknown"], "type": ["x", "y"] * 32}
    data = table(columns, np.tile([1.0, -1.0], 32))
    found = QUICK.fit(data)
    city = found.sides["city"]
    assert list(city.ids) == ["unknown", "a", "b"]
    assert dict(city.excluded(data)) == {"rare or new: stands for unknown": 1} and city.rows(data) == 4
    rows = answer(found.sides["rows"], data).rows(["r60", "r61", "r62"])
    np.testing.assert_array_equal(rows[:, : city.dim], np.tile(city.matrix[0], (3, 1)))
    new = table({"city": ["nowhere"], "type": ["x"]})
    np.testing.assert_array_equal(answer(found.sides["rows"], new).matrix[0, : city.dim], city.matrix[0])


def test_unknown_is_like_any_value(monkeypatch):
    """It learns, though no value is missing: between the values that raise the target and those that lower it."""
    recipe, data = Categories(threads=1, hidden=[16], width=2, epochs=40), shops(n=2000)
    found = recipe.fit(data)
    city = found.sides["city"]
    high, low = (np.mean([row(city, f"Ort {i}") for i in range(8) if i % 2 == odd], axis=0) for odd in (1, 0))
    along = (city.matrix[0] - low) @ (high - low) / ((high - low) @ (high - low))
    assert 0.2 < along < 0.8
    monkeypatch.setattr(training, "MASKED", 0.0)
    still = recipe.fit(data).sides["city"]
    assert np.abs(city.matrix[0] - still.matrix[0]).max() > 0.01


@pytest.mark.parametrize("learn", ["target", "columns"])
def test_the_same_seed_gives_the_same_bytes(learn):
    data = shops()
    recipe = QUICK.model_copy(update={"learn": learn})
    one, two = (recipe.fit(data).sides for _ in range(2))
    other = recipe.model_copy(update={"seed": 1}).fit(data).sides
    for side in one:
        assert answer(one[side], data).matrix.tobytes() == answer(two[side], data).matrix.tobytes()
    assert not np.array_equal(one["city"].matrix, other["city"].matrix)


def test_classes_are_told():
    data = shops()
    data = replace(data, target=(data.codes[:, 0] % 2).astype(np.int32), classes=["even", "odd"])
    mode = Categories(hidden=[16], epochs=20, threads=1).fit(data).sides["rows"].mode
    assert mode["held_out_loss"][0] > 0.6 and min(mode["held_out_loss"]) < 0.1 and mode["learned"] == "target y"


def test_columns_tell_each_other():
    """Streets lie in cities, and their names tell nothing: those of one city come to lie together."""
    rng = np.random.default_rng(0)
    street = rng.integers(0, 12, 1500)
    data = table({"street": [f"{i}" for i in street], "city": [f"c{i % 3}" for i in street]})
    found = Categories(hidden=[], width=6, epochs=30, dropout=0.1, threads=1).fit(data).sides
    names = [name for name in found["street"].ids if name != "unknown"]
    matrix = np.array([row(found["street"], name) for name in names])
    far = ((matrix[:, None] - matrix[None]) ** 2).sum(axis=2) + np.eye(12) * 1e9
    assert all(int(names[i]) % 3 == int(names[j]) % 3 for i, j in enumerate(far.argmin(axis=1)))
    assert found["rows"].mode["learned"] == "columns"


def test_large_tables_learn_by_a_sample_and_sparse_gradients(monkeypatch):
    rng = np.random.default_rng(0)
    street = rng.integers(0, 60, 3000)
    data = table({"street": [f"{i}" for i in street], "city": [f"c{i % 3}" for i in street]})
    recipe = Categories(hidden=[], width=6, epochs=15, batch=64, threads=1)
    whole = recipe.fit(data).sides["rows"].mode
    monkeypatch.setattr(network, "SAMPLED", 20)
    monkeypatch.setattr(training, "SPARSE", 0.5)
    some = recipe.fit(data).sides["rows"].mode
    assert whole["held_out_loss"][0] > 2 and whole["held_out_loss"][-1] < 1.8
    assert abs(some["held_out_loss"][-1] - whole["held_out_loss"][-1]) < 0.5
    with_target = replace(data, target=(street % 3).astype(np.float32))
    assert min(recipe.fit(with_target).sides["rows"].mode["held_out_loss"]) < 0.1


def test_a_sample_costs_what_all_values_do(monkeypatch):
    import torch

    random = torch.Generator().manual_seed(0)
    net = network.Network.drawn([300], [4], 0, [], None, random)
    net.tables[0].mul_(20)
    last, codes = torch.randn((40, 4), generator=random), torch.randint(300, (40,), generator=random)
    shares = torch.arange(1, 301) ** 2.0
    shares /= shares.sum()
    whole = float(net.column_loss(last, 0, codes, shares, random, sparse=False))
    monkeypatch.setattr(network, "SAMPLED", 250)
    some = np.mean([float(net.column_loss(last, 0, codes, shares, random, sparse=False)) for _ in range(50)])
    assert some == pytest.approx(whole, rel=0.1)


def test_training_ends_at_its_best():
    data = shops()
    noise = np.random.default_rng(3).normal(size=len(data)).astype(np.float32)
    mode = Categories(threads=1, hidden=[32], patience=2, lr=0.02).fit(replace(data, target=noise)).sides["rows"].mode
    assert len(mode["loss"]) < 50 and len(mode["held_out_loss"]) == len(mode["loss"]) + 1
    assert mode["held_out_loss"][mode["best_epoch"]] == min(mode["held_out_loss"])
    assert len(mode["loss"]) == mode["best_epoch"] + 2
    mode = QUICK.model_copy(update={"hold_out": 0.0}).fit(data).sides["rows"].mode
    assert len(mode["loss"]) == mode["best_epoch"] == 8 and not mode["held_out_loss"]


def test_held_out_rows_stay_the_same_ones():
    data = shops()
    held = QUICK._held(data)
    assert 15 < held.sum() < 70
    np.testing.assert_array_equal(QUICK._held(data.select(range(100, 400))), held[100:])


def test_a_start_is_gone_on_from_by_names():
    data = shops()
    first = QUICK.fit(data)
    columns = {"city": [f"Ort {9 - i % 10}" for i in range(400)], "type": ["cba"[i % 3] for i in range(400)]}
    more = table(columns, np.tile([1.0, -1.0], 200))
    still = QUICK.model_copy(update={"lr": 1e-9, "epochs": 1})
    warm = still.fit(more, start=first)
    assert warm.sides["city"].dim == first.sides["city"].dim == 4  # ten values have 5 by the rule
    for name in ("unknown", "Ort 0", "Ort 7"):
        np.testing.assert_allclose(row(warm.sides["city"], name), row(first.sides["city"], name), atol=1e-6)
    now, then = warm.sides["rows"].network, first.sides["rows"].network
    assert all(np.allclose(now[name], then[name], atol=1e-6) for name in then)
    alone = still.fit(more, start=first.sides["rows"])
    np.testing.assert_array_equal(alone.sides["city"].matrix, warm.sides["city"].matrix)
    with pytest.raises(InputError, match=r"whose 'city' has the width 4; expected 9"):
        Categories(width=9).check_start(more, first)
    with pytest.raises(InputError, match="expected the rows of another `categories`"):
        QUICK.fit(data, start=first.sides["city"])


def test_rows_are_folded_in():
    data = shops()
    rows = QUICK.fit(data.select(range(390))).sides["rows"]
    grown = rows.fold_in(data)
    assert (rows.untrained, grown.untrained) == (0, 10)
    [batch] = grown.encode(data)
    assert list(batch.origin) == ["embedded"] * 390 + ["folded_in"] * 10
    changed = replace(data, codes=np.vstack([(data.codes[:1] + 1) % 3, data.codes[1:]]))
    assert rows.fold_in(changed.select(range(390))).untrained == 1


@pytest.mark.parametrize("classes", [None, ["no", "yes"]])
def test_a_row_with_another_target_was_not_learned_from(classes, tmp_path):
    data = shops(60)
    if classes:
        data = replace(data, target=(data.target > 0).astype(np.int32), classes=classes)
    found = QUICK.fit(data).sides["rows"]
    other = data.target.copy()
    other[:5] = other[:5] + 7 if classes is None else 1 - other[:5]
    assert found.fold_in(replace(data, target=other)).untrained == 5
    if classes:  # the same under another number
        assert found.fold_in(replace(data, target=1 + data.target, classes=["maybe", *classes])).untrained == 0
    found.save(tmp_path)
    assert list(Categories.load(tmp_path).classes) == (classes or [])
    assert QUICK.model_copy(update={"learn": "columns"}).fit(data).sides["rows"].fold_in(replace(data, target=other)).untrained == 0  # fmt: skip


def test_what_answers_for_a_value_or_a_class_goes_by_its_name():
    still = QUICK.model_copy(update={"lr": 1e-9, "epochs": 1})
    cells = {"c": ["x"] * 200 + ["y"] * 100 + ["z"] * 50, "d": ["p", "q"] * 175}
    first = QUICK.fit(table(cells))
    rare = {"x": "z", "y": "y", "z": "x"}
    warm = still.fit(table(cells | {"c": [rare[cell] for cell in cells["c"]]}), start=first)
    biases = [dict(zip(it.coding.values[0], it.network["head 0 bias"].tolist(), strict=True)) for it in (first.sides["rows"], warm.sides["rows"])]  # fmt: skip
    assert biases[0] == pytest.approx(biases[1], abs=1e-6) and len(set(biases[0].values())) == 4

    cells, codes = {"c": ["x", "y", "z"] * 60, "d": ["p", "q"] * 90}, np.tile([0, 1, 2], 60)
    first = QUICK.fit(table(cells, codes, classes=["A", "B", "C"])).sides["rows"]
    warm = still.fit(table(cells, (codes - 1) % 3, classes=["B", "C", "Z"]), start=first).sides["rows"]
    for name in ("direct 0 weight", "head 0 weight"):
        np.testing.assert_allclose(warm.network[name][:2], first.network[name][1:], atol=1e-6)
        assert not np.isnan(warm.network[name]).any()


def test_values_that_only_held_out_rows_have_stand_for_unknown():
    cells = {"city": [f"Ort {i % 8}" for i in range(400)], "type": ["a", "b"] * 200}
    recipe = QUICK.model_copy(update={"min_count": 1})
    held = np.flatnonzero(recipe._held(table(cells)))
    cells["city"][held[0]] = "alone"
    data = table(cells, np.arange(400) % 8 // 4)
    found = recipe.fit(data).sides["city"]
    np.testing.assert_array_equal(row(found, "alone"), row(found, "unknown"))
    known = recipe.model_copy(update={"hold_out": 0}).fit(data)
    assert not np.array_equal(row(known.sides["city"], "alone"), row(known.sides["city"], "unknown"))
    again = recipe.fit(data, start=known).sides["city"]  # as it was learned before
    np.testing.assert_array_equal(row(again, "alone"), row(known.sides["city"], "alone"))


def test_any_seed():
    assert len(answer(QUICK.model_copy(update={"seed": 2**70}).fit(shops(40)).sides["rows"], shops(40)).ids) == 40


def test_rows_without_a_target_get_vectors_and_teach_nothing():
    data = shops()
    lacking = replace(data, target=np.where(np.arange(400) < 200, data.target, np.nan).astype(np.float32))
    found, alone = QUICK.fit(lacking).sides, QUICK.fit(data.select(range(200))).sides
    np.testing.assert_array_equal(found["city"].matrix, alone["city"].matrix)
    assert len(answer(found["rows"], lacking).ids) == 400


def test_what_cannot_be_learned():
    data = shops()
    one = table({"city": ["a", "b"] * 20})
    cases = [
        (QUICK, data.select([]), "without a row"),
        (QUICK, replace(data, target=np.ones(400, np.float32)), "the target 'y', which is the same in all 400 rows"),
        (QUICK, replace(data, target=np.full(400, np.nan, np.float32)), "no row with a value in 'y'"),
        (QUICK, one, "a table of 'city' alone, without a target"),
        (QUICK.model_copy(update={"learn": "target"}), one, "the dataset names none"),
        (QUICK, table({"id": [f"{i}" for i in range(40)]}, np.arange(40)), "no value of id comes min_count=2 times"),
    ]
    for recipe, given, says in cases:
        with pytest.raises(InputError) as error:
            recipe.fit(given)
        assert says in str(error.value)


def test_odd_tables():
    """One row, a constant column, a column of distinct values, numbers that are missing, constant or huge."""
    n = 60
    columns = {"same": ["x"] * n, "all": [f"é{i}" for i in range(n)], "some": ["a", "b"] * 30}
    for numbers in ([np.nan] * n, [7.0] * n, [3e38, -3e38] * 30):
        found = QUICK.fit(table(columns, np.arange(n), numbers)).sides
        assert [found[name].ids for name in ("same", "all")] == [["unknown", "x"], ["unknown"]]
        assert np.isfinite(answer(found["rows"], table(columns, np.arange(n), numbers)).matrix).all()
    tiny = Categories(min_count=1, hidden=[4], epochs=2, threads=1)
    one = tiny.fit(table({"a": ["x"], "b": ["y"]}))
    assert (
        one.sides["a"].ids == ["unknown", "x"]
        and len(answer(one.sides["rows"], table({"a": ["x"], "b": ["y"]})).ids) == 1
    )
