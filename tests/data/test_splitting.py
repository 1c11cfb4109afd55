"""Splits by class, group and time, against plain counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysim.config import Experiment
from raysim.data.dataset import Columns, Dataset, Pool
from raysim.data.federation import DataInfo
from raysim.data.splitting import cut_dataset
from raysim.errors import DataError

N = 60
RANDOM = np.random.default_rng(3)
CLASSES = np.repeat([0, 1, 2], [40, 15, 5])
OWNERS = np.array(["a", "b", "c"])[np.arange(N) % 3]
HOUSES = RANDOM.integers(0, 12, N).astype(float)
TIMES = RANDOM.permutation(N).astype(float)
DAYS = np.array([f"2024-01-{1 + int(t) // 2:02d}" for t in TIMES], dtype=object)


def dataset(**change: Any) -> Dataset:
    columns = {"x": np.arange(N, dtype=float), "house": HOUSES, "time": TIMES, "day": DAYS, **change}
    x = Columns(tuple(columns), tuple(columns.values()))
    pool = Pool(x, CLASSES, "real", "t.csv", OWNERS)
    return Dataset(pool, None, DataInfo("classification", (len(columns),), "real", classes=3))


def cut(split: Any, partition: Any = None, source: Dataset | None = None, **shares: float) -> Any:
    section = {"split": split, "partition": partition or {"name": "iid", "clients": 10}, "test": 0.2, **shares}
    config = Experiment.parse({"data": section}).data
    return cut_dataset(dataset() if source is None else source, config, 5)


def all_parts(found: Any) -> list[int]:
    return sorted(np.concatenate([found.train, found.validation, found.test]).tolist())


def test_a_stratified_split_takes_its_share_of_each_class() -> None:
    _, found = cut("stratified", test=0.2, validation=0.25)
    assert all_parts(found) == list(range(N))
    for label, size in enumerate((40, 15, 5)):
        assert abs((CLASSES[found.test] == label).sum() - 0.2 * size) <= 1
        assert (CLASSES[found.train] == label).sum() >= 1
    _, of_owners = cut("stratified", "natural", test=0.25)
    for owner in "abc":
        assert abs((OWNERS[of_owners.test] == owner).sum() - 0.25 * 20) <= 3


def test_groups_stay_together_and_their_column_is_no_feature() -> None:
    without, found = cut({"name": "group", "column": "house"}, test=0.3, validation=0.2)
    assert all_parts(found) == list(range(N))
    sets = [set(HOUSES[rows].tolist()) for rows in (found.train, found.validation, found.test)]
    assert sum(map(len, sets)) == len(set.union(*sets))
    assert abs(len(found.test) - 0.3 * N) <= 5
    assert without.train.x.names == ("x", "time", "day")
    assert without.info.input_shape == (3,)


@pytest.mark.parametrize("column", ["time", "day"])
def test_the_latest_samples_are_tested_on(column: str) -> None:
    kept, found = cut({"name": "time", "column": column, "keep": True}, test=0.2, validation=0.25)
    assert all_parts(found) == list(range(N))
    assert (len(found.test), len(found.validation)) == (12, 12)
    assert TIMES[found.test].min() // 2 >= TIMES[found.validation].max() // 2
    assert TIMES[found.validation].min() // 2 >= TIMES[found.train].max() // 2
    assert column in kept.train.x.names


def test_each_owners_latest_samples_are_tested_on_where_owners_are_clients() -> None:
    _, found = cut({"name": "time", "column": "time"}, "natural", test=0.2)
    for owner in "abc":
        mine = owner == OWNERS
        tested = found.test[mine[found.test]]
        assert sorted(TIMES[tested]) == sorted(TIMES[mine])[-4:]


HOLED = np.array([*DAYS[:-1], None], dtype=object)
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no column": ({"name": "time", "column": "when"}, {}, "no column 'when' among the features of t.csv: 'x', 'house'"),
    "a hole": ({"name": "time", "column": "day"}, {"source": dataset(day=HOLED)}, "row 60, column 'day' is empty"),
    "a group with a hole": (
        {"name": "group", "column": "day"},
        {"source": dataset(day=HOLED)},
        "row 60, column 'day' is empty; every sample is of a group",
    ),
    "no share": ({"name": "time", "column": "time"}, {"test": 0.0}, "data.split: nothing is split"),
    "no sample": ({"name": "time", "column": "time"}, {"test": 0.001}, "a share of 0.001 is not one sample"),
    "one group": (
        {"name": "group", "column": "house"},
        {"source": dataset(house=np.zeros(N))},
        "is not one sample of any owner or group",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_split_that_cannot_be_made_is_one_line(name: str) -> None:
    split, given, line = REFUSED[name]
    with pytest.raises(DataError) as caught:
        cut(split, **given)
    assert line in str(caught.value)


def test_arrays_have_no_columns_and_numbers_no_classes() -> None:
    arrays = Pool(np.ones((4, 2), np.float32), np.ones(4, np.float32), "real", "array")
    numbers = Dataset(arrays, None, DataInfo("regression", (2,), "real"))
    for split, line in (({"name": "time", "column": "t"}, "array has no columns"), ("stratified", "no single class")):
        with pytest.raises(DataError, match=line):
            cut(split, source=numbers)
