"""Dates, rare categories, outliers and encodings of tables, against plain Python."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from raysim.config.transforms import (
    ClipConfig,
    DatesConfig,
    HashConfig,
    IdsConfig,
    OrdinalConfig,
    RareConfig,
    TargetMeanConfig,
)
from raysim.data.dataset import Columns, Pool
from raysim.data.federation import DataInfo
from raysim.data.inputs import unpack_inputs
from raysim.data.transforms import Fitted, apply, describe, fit
from raysim.errors import DataError


def table(y: Any = None, **columns: list[Any]) -> Pool:
    values = []
    for column in columns.values():
        text = any(isinstance(value, str) for value in column)
        values.append(np.array(column, dtype=object if text else np.float64))
    n = len(values[0])
    return Pool(
        Columns(tuple(columns), tuple(values)), np.arange(n) % 2 if y is None else np.asarray(y), "real", "t.csv"
    )


def columns_of(transforms: tuple[Any, ...], train: Pool, other: Pool | None = None) -> dict[str, list[Any]]:
    """The columns that transforms leave, by name; what was fitted survives JSON."""
    fitted = fit(transforms, train)
    assert Fitted.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    pool = train if other is None else other
    for step in fitted.steps:
        pool = step.apply(pool)
    assert isinstance(pool.x, Columns)
    return {name: values.tolist() for name, values in zip(pool.x.names, pool.x.values, strict=True)}


def test_dates_become_their_parts() -> None:
    train = table(when=["2024-03-01", "1969-12-31T18:00:00", "2000-02-29T06:30:00+00:00"], x=[1, 2, 3])
    parts = ("year", "month", "day", "weekday", "hour", "days")
    found = columns_of((DatesConfig(columns=("when",), parts=parts),), train)
    assert list(found) == [*(f"when.{part}" for part in parts), "x"]
    assert found["when.year"] == [2024, 1969, 2000]
    assert found["when.weekday"] == [date(2024, 3, 1).weekday(), 2, date(2000, 2, 29).weekday()]
    assert found["when.hour"] == [0, 18, 6.5]
    assert found["when.days"] == [(date(2024, 3, 1) - date(1970, 1, 1)).days, -0.25, 11016 + 6.5 / 24]
    german = columns_of(
        (DatesConfig(columns=("when",), parts=("month",), format="%d.%m.%Y"),), table(when=["24.12.2023"])
    )
    assert german == {"when.month": [12]}


def test_a_hole_among_dates_is_one_in_all_parts() -> None:
    found = columns_of((DatesConfig(columns=("when",), parts=("year", "day")),), table(when=["2024-03-01", None]))
    assert [math.isnan(found[f"when.{part}"][1]) for part in ("year", "day")] == [True, True]


def test_rare_categories_and_unknown_ones_become_one() -> None:
    train = table(town=["a", "a", "b", "c", None, "c"], x=range(6))
    config = RareConfig(min_count=2)
    assert columns_of((config,), train)["town"] == ["a", "a", "other", "c", None, "c"]
    assert columns_of((config,), train, table(town=["z", "a"], x=[0, 1]))["town"] == ["other", "a"]
    numbers = RareConfig(columns=("code",), min_count=2, other="few")
    assert columns_of((numbers,), table(code=[7, 7, 8.5]))["code"] == ["7", "7", "few"]


def test_outliers_are_moved_to_quantiles_of_the_training_part() -> None:
    values = [*range(10), math.nan]
    low, high = np.nanquantile(values, [0.1, 0.8])
    config = ClipConfig(low=0.1, high=0.8)
    found = columns_of((config,), table(x=values, z=values), table(x=[-9, 5, 99, math.nan], z=[0, 0, 0, 0]))
    assert found["x"][:3] == [low, 5, high]
    assert math.isnan(found["x"][3])
    one = columns_of((ClipConfig(columns=("z",), low=0.1, high=0.8),), table(x=values, z=values))
    assert one["x"][:10] == values[:10]
    assert one["z"][0] == low


def test_users_and_items_become_ids_and_what_training_never_saw_is_0() -> None:
    train = table(user=["u2", "u1", "u2"], item=[30, 10, 20], age=[1, 2, 3])
    fitted = fit((IdsConfig(columns=("user", "item")),), train)
    assert Fitted.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    info = describe(fitted, DataInfo("classification", (3,), "real", classes=2), apply(fitted, train))
    assert [(one.name, one.kind, one.count) for one in info.inputs] == [
        ("user", "integers", 3), ("item", "integers", 4), ("features", "real", None),
    ]  # fmt: skip
    pool = apply(fitted, table(user=["u1", "u9", None], item=[20, 30, 99], age=[4, 5, 6]))
    found = unpack_inputs(pool.features, info.inputs)
    assert found["user"].tolist() == [1, 0, 0]
    assert found["item"].tolist() == [2, 3, 0]
    assert found["features"].tolist() == [[4], [5], [6]]


def test_categories_are_numbered_in_sorted_or_in_a_given_order() -> None:
    train = table(size=["m", "s", "l"], grade=["b", "a", "b"])
    sizes = {"size": ("s", "m", "l")}
    assert columns_of((OrdinalConfig(order=sizes),), train) == {"size": [1, 0, 2], "grade": [1, 0, 1]}
    assert columns_of((OrdinalConfig(order=sizes),), train, table(size=["xl"], grade=["a"]))["size"] == [-1]


def test_a_mean_target_is_smoothed_towards_that_of_all() -> None:
    numbers, towns = [1.0, 3.0, 8.0], ["a", "a", "b"]
    train = table(np.array(numbers, np.float32), town=towns)
    found = columns_of((TargetMeanConfig(smoothing=2),), train, table(np.zeros(3, np.float32), town=["a", "b", "z"]))
    prior = sum(numbers) / 3
    assert found["town"] == pytest.approx([(4 + 2 * prior) / 4, (8 + 2 * prior) / 3, prior])
    classes = columns_of((TargetMeanConfig(smoothing=0),), table(np.array([0, 1, 2]), town=towns))
    assert classes == {"town=0": [0.5, 0.5, 0], "town=1": [0.5, 0.5, 0], "town=2": [0, 0, 1]}
    binary = columns_of((TargetMeanConfig(smoothing=0),), table(np.array([0, 1, 1]), town=towns))
    assert binary == {"town": [0.5, 0.5, 1]}


def test_a_hash_puts_a_category_into_one_column_and_needs_no_vocabulary() -> None:
    train = table(town=["a", "b", "a", None])
    found = columns_of((HashConfig(buckets=4),), train)
    rows = list(zip(*found.values(), strict=True))
    assert list(found) == ["town#0", "town#1", "town#2", "town#3"]
    assert [sum(row) for row in rows] == [1, 1, 1, 0]
    assert rows[0] == rows[2]
    unseen = columns_of((HashConfig(buckets=4),), train, table(town=["never"]))
    assert sum(values[0] for values in unseen.values()) == 1


@pytest.mark.parametrize(
    ("transform", "pool", "line"),
    [
        (
            DatesConfig(columns=("when",)),
            table(when=["01.02.2024"]),
            "row 1, column 'when': '01.02.2024' is no date ISO 8601",
        ),
        (DatesConfig(columns=("when",), format="%Y"), table(when=["24"]), "'24' is no date of the format %Y"),
        (DatesConfig(columns=("when",)), table(when=[3]), "column 'when' holds numbers, no dates"),
        (DatesConfig(columns=("at",)), table(when=["2024-01-01"]), "no column 'at'; columns are 'when'"),
        (
            OrdinalConfig(order={"size": ("s",)}),
            table(size=["s", "m"]),
            "column 'size' has 'm', which is not in its order",
        ),
        (OrdinalConfig(order={"tall": ("s",)}), table(size=["s", "m"]), "'tall' is no column that is encoded"),
        (OrdinalConfig(), table(size=["s", None]), "row 2, column 'size' is empty; add the `missing` transform"),
        (ClipConfig(columns=("size",)), table(size=["s", "m"], x=[1, 2]), "column 'size' is not numeric; remove it"),
        (TargetMeanConfig(), table([[1, 0], [0, 1]], size=["s", "m"]), "target_mean needs one target a sample"),
        (IdsConfig(columns=("a b",)), table(**{"a b": ["s", "m"]}), "'a b' is no name of an input; rename it"),
        (IdsConfig(columns=("a",)), table(a=["s", "m"], b=["s", "m"]), "column 'b' is not numeric; name it in ids"),
        (HashConfig(), Pool(np.ones((2, 2), np.float32), np.arange(2), "real", "array"), "hash works on tables"),
    ],
)
def test_what_a_transform_cannot_do_is_one_line(transform: Any, pool: Pool, line: str) -> None:
    with pytest.raises(DataError) as caught:
        apply(fit((transform,), pool), pool)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
