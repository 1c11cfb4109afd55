"""Time series as windows: within an owner, within a part, in the order of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim import Experiment
from raysim.config.transforms import SeriesWindowsConfig
from raysim.data import prepare, windows
from raysim.data.dataset import Columns, Pool
from raysim.data.transforms import Fitted, apply, fit
from raysim.errors import DataError

OWNERS = np.array(["a", "b", "a", "a", "b", "a", "b", "a"])
SPEED = np.arange(8.0)
Y = np.arange(8, dtype=np.float32) * 10


def pool(**more: Any) -> Pool:
    columns = {"speed": SPEED, **more}
    return Pool(Columns(tuple(columns), tuple(columns.values())), Y, "real", "t.csv", OWNERS)


def made(config: SeriesWindowsConfig, given: Pool) -> Pool:
    fitted = fit([config], given)
    assert Fitted.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    return apply(fitted, given)


def test_windows_are_consecutive_rows_of_one_owner_and_the_target_of_a_later_one() -> None:
    found = made(SeriesWindowsConfig(length=2), pool())
    assert found.features[:, :, 0].tolist() == [[0, 2], [2, 3], [3, 5], [1, 4]]
    assert found.targets.tolist() == [30, 50, 70, 60]
    assert found.client is not None
    assert found.client.tolist() == ["a", "a", "a", "b"]
    assert found.row is not None
    assert found.row.tolist() == [3, 5, 7, 6]


def test_horizon_step_and_past_targets() -> None:
    found = made(SeriesWindowsConfig(length=2, horizon=2, step=2, past_targets=True), pool())
    assert found.features.tolist() == [[[0, 0], [2, 20]]]
    assert found.targets.tolist() == [50]
    assert made(SeriesWindowsConfig(length=3, horizon=0), pool()).targets.tolist() == [30, 50, 70, 60]


def test_rows_are_sorted_by_a_column_of_times_which_is_no_feature() -> None:
    days = np.array([f"2024-01-{9 - i:02d}" for i in range(8)], dtype=object)
    found = made(SeriesWindowsConfig(length=2, time="day"), pool(day=days))
    assert found.features[:, :, 0].tolist() == [[7, 5], [5, 3], [3, 2], [6, 4]]
    assert found.targets.tolist() == [30, 20, 0, 10]


def test_no_window_reaches_into_another_part_and_what_is_lost_is_told(tmp_path: Path) -> None:
    rows = ["sensor,hour,speed,load"]
    rows += [f"{sensor},{hour},{hour * 2},{hour * 3}" for hour in range(20) for sensor in "ab"]
    rows += ["c,0,1,1"]
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    source = {"name": "csv", "path": str(tmp_path / "series.csv"), "label": "load", "client": "sensor"}
    data: dict[str, Any] = {
        "source": {**source, "task": "regression"},
        "split": {"name": "time", "column": "hour"},
        "partition": "natural",
        "test": 0.25,
        "transforms": [{"name": "windows", "length": 3, "past_targets": True}],
        "cache": str(tmp_path / "cache"),
    }
    federation = prepare(Experiment.parse({"cohort": 1.0, "data": data}).data, 0).open()
    shard, test = federation.shard(0), federation.server("test")
    assert shard.x[0].tolist() == [[0, 0], [2, 3], [4, 6]]
    assert shard.y.tolist() == [3.0 * hour for hour in range(3, 15)]
    assert test is not None
    assert test.x[0, :, 0].tolist() == [30, 32, 34]
    assert test.y.tolist() == [54, 57, 54, 57]
    assert federation.population == 2
    training, tested = federation.left_out()
    assert "no window's target; c have too few for one window" in str(training)
    assert tested.count == 6


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rows drawn at random": ({"split": "random"}, "windows of rows split by random have gaps; set {name: time"),
    "holdouts": ({"holdout": 0.2}, "windows overlap, and holdouts are drawn at random"),
    "a column of text": ({"transforms": [{"name": "windows", "length": 2}], "keep": "kind"}, "'kind' is not numeric"),
    "more rows than there are": (
        {"transforms": [{"name": "windows", "length": 50}]}, "no owner has 51 rows in one part",
    ),
    "another transform behind": (
        {"transforms": [{"name": "windows", "length": 2}, "standardise"]}, "it is the last transform; move it",
    ),
    "a time that is not kept": ({"transforms": [{"name": "windows", "length": 2, "time": "hour"}]}, "'hour'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_become_windows_is_one_line(name: str, tmp_path: Path) -> None:
    changed, line = REFUSED[name]
    changed = dict(changed)
    ignored = [] if changed.pop("keep", None) else ["kind"]
    rows = ["hour,kind,speed,load", *(f"{i},k,{i},{i}.5" for i in range(20))]
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    source = {"name": "csv", "path": str(tmp_path / "series.csv"), "label": "load", "ignore": ignored}
    data = {
        "source": {**source, "task": "regression"},
        "split": {"name": "time", "column": "hour"},
        "test": 0.25,
        "transforms": [{"name": "windows", "length": 2}],
        "partition": {"name": "iid", "clients": 2},
        "cache": str(tmp_path / "cache"),
        **changed,
    }
    with pytest.raises(DataError) as caught:
        prepare(Experiment.parse({"cohort": 1.0, "data": data}).data, 0)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_past_targets_are_numbers_of_rows_before() -> None:
    with pytest.raises(ValueError, match="past_targets with horizon 0"):
        SeriesWindowsConfig(length=2, horizon=0, past_targets=True)
    classes = Pool(Columns(("speed",), (SPEED,)), np.arange(8) % 2, "real", "t.csv", OWNERS)
    with pytest.raises(DataError, match="past_targets are numbers, one a row"):
        fit([SeriesWindowsConfig(length=2, past_targets=True)], classes)


def test_windows_of_one_series_in_memory() -> None:
    x, y = windows(np.arange(10.0).reshape(5, 2), np.arange(5), length=2, horizon=2)
    assert x.tolist() == [[[0, 1], [2, 3]], [[2, 3], [4, 5]]]
    assert y.tolist() == [3, 4]
    assert windows(np.arange(6), length=3, step=2)[1].tolist() == [3, 5]
    for given, line in (
        ({"length": 9}, "a series of 6 steps has no window of 9 with horizon 1"),
        ({"length": 0}, "length is 0; expected 1 or more"),
        ({"target": np.arange(5), "length": 2}, r"series has shape \(6,\) and target \(5,\)"),
    ):
        with pytest.raises(DataError, match=line):
            windows(np.arange(6), **given)  # type: ignore[arg-type]
