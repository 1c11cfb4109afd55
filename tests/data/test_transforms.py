"""Transforms: the training part's statistics, in declared order, checked against plain loops."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.config.transforms import MinMaxConfig, MissingConfig, OneHotConfig, StandardiseConfig
from raysim.data import room
from raysim.data.dataset import Columns, Pool
from raysim.data.sources import from_arrays
from raysim.data.transforms import Fitted, apply, describe, features, fit, refuse_strays
from raysim.errors import DataError

NAN, INF = math.nan, math.inf


def table(**columns: list[object]) -> Pool:
    values = []
    for column in columns.values():
        categorical = any(isinstance(value, str) for value in column)
        values.append(np.array(column, dtype=object if categorical else np.float64))
    n = len(values[0])
    return Pool(Columns(tuple(columns), tuple(values)), np.arange(n) % 2, "real", "t.csv", np.arange(n), np.ones(n))


def array(x: object, kind: str = "real") -> Pool:
    x = np.asarray(x, None if kind != "real" else np.float32)
    return Pool(x, np.arange(len(x)) % 2, kind, "array")


def run(transforms: tuple[object, ...], train: Pool, other: Pool | None = None) -> np.ndarray:
    fitted = fit(transforms, train)
    result = apply(fitted, train if other is None else other).x
    assert isinstance(result, np.ndarray)
    return result


finite = st.floats(-1e6, 1e6, width=32)
holed = st.one_of(finite, finite, st.sampled_from([NAN, INF, -INF]))
matrices = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(holed, min_size=width, max_size=width), min_size=1)
)


@given(matrices, st.sampled_from(["mean", "median", "zero"]))
def test_filling_is_the_plain_statistic_of_what_is_there(rows, action) -> None:
    columns = list(zip(*rows, strict=True))
    there = [[value for value in column if math.isfinite(value)] for column in columns]
    train = array(rows)
    if action != "zero" and not all(there):
        with pytest.raises(DataError, match="has no usable values in the training part"):
            fit((MissingConfig(action=action),), train)
        return
    fill = {"mean": statistics.fmean, "median": statistics.median, "zero": lambda values: 0.0}[action]
    expected = [[v if math.isfinite(v) else fill(there[j]) for j, v in enumerate(row)] for row in rows]
    np.testing.assert_allclose(run((MissingConfig(action=action),), train), expected, rtol=1e-5, atol=1e-6)


@given(matrices)
def test_dropping_keeps_the_whole_rows_in_order(rows) -> None:
    whole = [row for row in rows if all(map(math.isfinite, row))]
    if not whole:
        with pytest.raises(DataError, match="no sample is left"):
            fit((MissingConfig(),), array(rows))
    else:
        np.testing.assert_array_equal(run((MissingConfig(),), array(rows)), np.array(whole, np.float32))


@settings(max_examples=50)
@given(matrices.filter(lambda rows: all(any(map(math.isfinite, column)) for column in zip(*rows, strict=True))))
def test_scaling_is_the_plain_formula_and_ignores_holes(rows) -> None:
    columns = [[v for v in column if math.isfinite(v)] for column in zip(*rows, strict=True)]
    fill = MissingConfig(action="zero")
    low_high = [(min(column), max(column)) for column in columns]
    expected = [
        [
            2 * (v - a) / (b - a if b > a else 1) - 1 if math.isfinite(v) else 0
            for v, (a, b) in zip(row, low_high, strict=True)
        ]
        for row in rows
    ]
    np.testing.assert_allclose(run((MinMaxConfig(low=-1, high=1), fill), array(rows)), expected, rtol=1e-5, atol=1e-5)
    moments = [(statistics.fmean(c), statistics.pstdev(c) if min(c) < max(c) else 1.0) for c in columns]
    expected = [
        [(v - m) / s if math.isfinite(v) else 0 for v, (m, s) in zip(row, moments, strict=True)] for row in rows
    ]
    np.testing.assert_allclose(run((StandardiseConfig(), fill), array(rows)), expected, rtol=1e-4, atol=1e-4)


def test_statistics_come_from_the_training_part_only() -> None:
    train, test = table(a=[0, 10, NAN], b=["x", "y", None]), table(a=[20, NAN], b=["z", "y"])
    transforms = (MissingConfig(action="mean"), MinMaxConfig(), OneHotConfig())
    np.testing.assert_array_equal(run(transforms, train), [[0, 1, 0], [1, 0, 1], [0.5, 0, 0]])
    np.testing.assert_array_equal(run(transforms, train, test), [[2, 0, 0], [0.5, 0, 1]])


def test_the_order_matters_as_declared() -> None:
    train = table(a=[0, 4, NAN])
    np.testing.assert_array_equal(
        run((MissingConfig(action="zero"), MinMaxConfig(low=1, high=3)), train), [[1], [3], [1]]
    )
    np.testing.assert_array_equal(
        run((MinMaxConfig(low=1, high=3), MissingConfig(action="zero")), train), [[1], [3], [0]]
    )
    hot_then_scaled = run((OneHotConfig(), StandardiseConfig()), table(b=["x", "y"]))
    np.testing.assert_array_equal(hot_then_scaled, [[1, -1], [-1, 1]])


def test_dropped_rows_take_target_owner_weight_and_number_along_in_the_test_part_too() -> None:
    train = table(a=[1, NAN, 3, 4, 5], b=["x", "y", None, "x", "y"])
    fitted = fit((MissingConfig(), OneHotConfig()), train)
    pool = apply(fitted, train)
    for values in (pool.row, pool.client):
        assert values is not None
        np.testing.assert_array_equal(values, [0, 3, 4])
    np.testing.assert_array_equal(pool.y, [0, 1, 0])
    assert pool.weight is not None
    assert len(pool.weight) == 3
    assert len(apply(fitted, table(a=[NAN, 2], b=["x", "y"]))) == 1


def test_one_hot_stands_where_its_column_stood() -> None:
    train = table(a=[1, 2, 3], b=["x", "z", "x"], c=[7, 8, 9])
    np.testing.assert_array_equal(run((OneHotConfig(),), train), [[1, 1, 0, 7], [2, 0, 1, 8], [3, 1, 0, 9]])
    fitted = fit((OneHotConfig(columns=("c", "b")),), train)
    step = fitted.steps[0].apply(train)
    assert isinstance(step.x, Columns)
    assert step.x.names == ("a", "b=x", "b=z", "c=7", "c=8", "c=9")


def test_a_constant_feature_is_divided_by_one() -> None:
    train = array([[0.1, 5.0]] * 3)
    np.testing.assert_allclose(run((StandardiseConfig(),), train), np.zeros((3, 2)), atol=1e-7)
    np.testing.assert_array_equal(run((MinMaxConfig(low=2, high=4),), train), np.full((3, 2), 2))
    np.testing.assert_allclose(run((StandardiseConfig(),), train, array([[1.1, 6.0]])), [[1, 1]], rtol=1e-6)


def test_pixels_stay_as_they_are_until_they_are_scaled() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4)).astype(np.uint8)
    train = array(images, "pixels")
    for transforms in ((), (MissingConfig(),), (MissingConfig(action="mean"),)):
        pool = apply(fit(transforms, train), train)
        assert pool.x is train.x
        assert pool.kind == "pixels"
    fitted = fit((StandardiseConfig(),), train)
    pool = apply(fitted, train)
    expected = (images - images.mean(axis=0)) / images.std(axis=0)
    assert np.asarray(pool.x).dtype == np.float32
    np.testing.assert_allclose(pool.x, expected, rtol=1e-4, atol=1e-5)
    info = from_arrays((images, np.arange(20) % 2), origin="here").info
    assert describe(fitted, info, pool).input_kind == "real"


def test_large_arrays_are_worked_on_a_piece_at_a_time_with_the_same_result(monkeypatch) -> None:
    x = np.random.default_rng(0).standard_normal((57, 11)).astype(np.float32)
    whole = run((MissingConfig(action="median"), StandardiseConfig()), array(x))
    monkeypatch.setattr(features, "_BLOCK", 100)
    np.testing.assert_array_equal(run((MissingConfig(action="median"), StandardiseConfig()), array(x)), whole)


def test_fitted_transforms_survive_json_to_the_bit() -> None:
    train = table(a=[0.1, 0.7, NAN], b=["x", "y", None], c=[1, 2, 2])
    fitted = fit((MissingConfig(action="mean"), OneHotConfig(columns=("b", "c")), StandardiseConfig()), train)
    back = Fitted.from_json(json.loads(json.dumps(fitted.to_json())))
    assert back == fitted
    np.testing.assert_array_equal(apply(back, train).x, apply(fitted, train).x)
    images = array(np.random.default_rng(0).standard_normal((5, 2, 3)))
    for transforms in ((StandardiseConfig(),), (MinMaxConfig(),), (MissingConfig(),), ()):
        fitted = fit(transforms, images)
        assert Fitted.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize("stored", [None, 3, [{}], [{"step": "unheard of"}], [{"step": "fill"}], [["step"]]])
def test_foreign_json_is_one_clear_line(stored) -> None:
    with pytest.raises(DataError, match=r"stored transforms are not readable .* build the data again"):
        Fitted.from_json(stored)


def test_a_hole_that_is_left_is_named_by_its_row_in_the_source() -> None:
    pool = table(age=list(range(20)), city=list(range(20)))
    assert isinstance(pool.x, Columns)
    pool.x.values[0][16] = NAN
    with pytest.raises(DataError, match=r"^t.csv: row 17, column 'age' is empty; add the `missing` transform$"):
        run((), pool)
    with pytest.raises(DataError, match="row 17, column 'age'"):
        run((), pool.take(np.arange(19, -1, -1)).take([1, 3, 5]))
    pool.x.values[0][16] = INF
    with pytest.raises(DataError, match="row 17, column 'age' is inf"):
        run((), pool)
    pool.x.values[0][16] = 1e300  # too large for float32
    with pytest.raises(DataError, match="row 17, column 'age' is inf"):
        run((), pool)
    x = np.zeros((4, 2, 3), np.float32)
    x[2, 1, 0] = NAN
    with pytest.raises(DataError, match=r"^array: sample 2, feature \(1, 0\) is nan; add the `missing` transform$"):
        run((), array(x))


def test_transforms_that_do_not_apply_are_one_clear_line() -> None:
    tokens = array(np.ones((3, 2), np.int64), "tokens")
    for transform, name in (
        (MinMaxConfig(), "min_max"),
        (StandardiseConfig(), "standardise"),
        (MissingConfig(), "missing"),
    ):
        with pytest.raises(DataError, match=f"{name} does not apply to tokens"):
            fit((transform,), tokens)
        with pytest.raises(DataError, match=f"{name} does not apply to several inputs"):
            fit((transform,), replace(tokens, kind="record"))
    cases = (
        ((OneHotConfig(),), array(np.ones((3, 2))), "one_hot works on tables with named columns"),
        ((OneHotConfig(columns=("z",)),), table(a=[1, 2]), "no column 'z'; columns are 'a'"),
        ((OneHotConfig(columns=("a",)),), table(a=[NAN, NAN]), "column 'a' has no values in the training part"),
        ((StandardiseConfig(),), table(a=[1, 2], b=[NAN, INF]), "column 'b' has no usable values in the training part"),
        ((StandardiseConfig(),), array(np.full((2, 2), NAN)), r"feature \(0\) has no usable values"),
        ((), table(a=[1, 2], city=["x", "y"]), "column 'city' is not numeric; add the `one_hot` transform"),
    )
    for transforms, pool, message in cases:
        with pytest.raises(DataError, match=message):
            run(transforms, pool)


def test_a_hole_that_no_transform_deals_with_is_no_category_of_zeros() -> None:
    train = table(a=[1, 2, 3], c=["x", None, "y"])
    with pytest.raises(DataError, match=r"t\.csv: row 2, column 'c' is empty; add the `missing` transform before"):
        run((OneHotConfig(),), train)
    filled = (MissingConfig(action="zero"), OneHotConfig())
    np.testing.assert_array_equal(run(filled, train), [[1, 1, 0], [2, 0, 0], [3, 0, 1]])
    np.testing.assert_array_equal(run((MissingConfig(), OneHotConfig()), train), [[1, 1, 0], [3, 0, 1]])
    with pytest.raises(DataError, match="row 3, column 'c' is empty"):
        apply(fit((OneHotConfig(),), table(c=["x", "y"])), table(c=["x", "x", None]))


def test_a_mark_among_numbers_is_named_and_not_one_hot_encoded() -> None:
    pool = table(a=["1", "2", "?", "4"], c=["x", "y", "1", "x"])
    for transforms in ((), (OneHotConfig(),), (OneHotConfig(columns=("c",)),)):
        with pytest.raises(
            DataError, match=r"row 3, column 'a': '\?' is not a number, as 3 of 4 cells are; set data.sou"
        ):
            refuse_strays(transforms, pool)
    refuse_strays((OneHotConfig(columns=("a", "c")),), pool)  # categories, as the user says
    refuse_strays((), table(a=["1", "x", "y", None], b=["1", "2", "3", "4"]))
    for cell, remedy in (("1,234", "without thousands separators"), ("1.000,5", "with a decimal point")):
        with pytest.raises(DataError, match=remedy):
            refuse_strays((), table(a=[cell, "2", "3"]))


def test_a_column_of_many_categories_is_refused_with_what_it_would_take(monkeypatch) -> None:
    ids = table(a=[1] * 1001, name=[f"n{i}" for i in range(1001)])
    with pytest.raises(
        DataError, match=r"column 'name' has 1,001 categories, 1,001 x 1,001 values \(0\.0 GB\) in one_hot"
    ):
        fit((OneHotConfig(),), ids)
    assert run((OneHotConfig(max_categories=1001),), ids).shape == (1001, 1002)
    monkeypatch.setattr(room, "available_memory", lambda: 1_000_000)
    cases = (
        (
            (OneHotConfig(max_categories=1001),),
            ids,
            "one_hot, which makes 1,001 columns, takes 0.0 GB of memory, .* 'name' first",
        ),
        (
            (StandardiseConfig(),),
            array(np.zeros((500, 600), np.uint8), "pixels"),
            "making float32 of every feature takes",
        ),
        ((StandardiseConfig(),), table(**{f"c{i}": [1.0] * 500 for i in range(300)}), "scaling 300 columns takes"),
        ((), table(**{f"c{i}": [1.0] * 500 for i in range(600)}), "a matrix of 600 columns takes"),
    )
    for transforms, pool, message in cases:
        with pytest.raises(DataError, match=message):
            run(transforms, pool)


def test_data_of_another_kind_than_was_fitted_is_one_clear_line() -> None:
    on_table, on_array = (
        fit((StandardiseConfig(),), table(a=[1, 2])),
        fit((StandardiseConfig(),), array(np.ones((3, 2)))),
    )
    cases = (
        (on_table, array(np.ones((3, 2))), "the transforms were fitted on a table"),
        (on_array, table(a=[1, 2]), "the transforms were fitted on an array"),
        (on_array, array(np.ones((3, 4))), "a sample has 4 features; the training part had 2"),
        (on_table, table(b=[1, 2]), "no column 'a'; columns are 'b'"),
        (on_table, table(a=["x", "y"]), "column 'a' was numeric in the training part, and is not here"),
    )
    for fitted, pool, message in cases:
        with pytest.raises(DataError, match=message):
            apply(fitted, pool)
