"""Frames of pandas and polars train like the arrays that their columns are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from forms import OWNERS, Form, X, Y, check, linear
from torch import Tensor, nn

from raysim import Simulation
from raysim.adapters import from_frame
from raysim.data import Columns
from raysim.errors import DataError

pd = pytest.importorskip("pandas")

NAMES = np.array(["ill", "odd", "well"])
WARD = np.array(["blue", "red", "red", "blue"] * 5)


def columns(**change: Any) -> dict[str, Any]:
    values = {f"x{i}": X[:, i].astype(float) for i in range(4)}
    return {**values, "state": NAMES[Y].tolist(), "ward": OWNERS.tolist(), **change}


def pandas_frame(**change: Any) -> Any:
    return pd.DataFrame(columns(**change), index=np.arange(100, 120))


def polars_frame(**change: Any) -> Any:
    return pytest.importorskip("polars").DataFrame(columns(**change))


def encoded(module: nn.Module, rows: slice) -> Tensor:
    """The numbers, and a column of ones and zeros for each colour."""
    x = np.concatenate([X, (WARD == "blue")[:, None], (WARD == "red")[:, None]], axis=1).astype(np.float32)
    return F.cross_entropy(module(torch.from_numpy(x[rows])), torch.from_numpy(Y[rows]))


FORMS = {
    "pandas": Form(lambda: from_frame(pandas_frame(), label="state", client="ward")),
    "polars": Form(lambda: from_frame(polars_frame(), label="state", client="ward")),
    "arrow": Form(lambda: from_frame(pa.table(columns()), label="state", client="ward")),
    "categories": Form(
        lambda: from_frame(pandas_frame(colour=pd.Categorical(WARD)), label="state", client="ward"),
        encoded,
        lambda: linear(6),
        {"data": {"transforms": ["one_hot"]}},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_frame_trains_to_the_numbers_of_a_plain_loop(name: str, tmp_path: Path) -> None:
    check(FORMS[name], "sequential", tmp_path / "run")


def test_a_frame_to_test_on_has_the_columns_and_the_classes_of_the_other() -> None:
    found = from_frame(pandas_frame(), label="state", client="ward", test=polars_frame(ward=[None] * 20), ignore=["x3"])
    assert found.class_names == ("ill", "odd", "well")
    assert found.test is not None
    assert isinstance(found.test.x, Columns)
    assert found.test.x.names == ("x0", "x1", "x2")
    np.testing.assert_array_equal(found.test.targets, Y)
    numbers = from_frame(pandas_frame(), label="x0", task="regression", features=["x1"])
    np.testing.assert_allclose(numbers.train.targets, X[:, 0])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no label column": ({"frame": pandas_frame(), "label": "stat"}, "label: no column 'stat'; did you mean 'state'?"),
    "an owner with holes": (
        {"frame": pandas_frame(ward=[None, *OWNERS[1:]]), "label": "state", "client": "ward"},
        "frame: row 1, column 'ward' is empty; fill it or remove the row",
    ),
    "a label with holes": (
        {"frame": pandas_frame(state=[*NAMES[Y][:19], None]), "label": "state"},
        "frame: row 20, column 'state' is empty",
    ),
    "another type in the test frame": (
        {"frame": pandas_frame(), "label": "state", "test": pandas_frame(x2=["low"] * 20)},
        "test: column 'x2' is text, in frame it is numbers; make them alike",
    ),
    "a class that training has not": (
        {"frame": pandas_frame(), "label": "state", "test": pandas_frame(state=["new"] * 20)},
        "test: row 1, column 'state' is new, a class that frame does not have",
    ),
    "values of several types": (
        {"frame": pandas_frame(x1=[1, "a"] * 10), "label": "state"},
        "frame: a column has no single type",
    ),
    "no frame": (
        {"frame": [1, 2], "label": "state"},
        "expected a frame of pandas or polars, or a pyarrow.Table, got list",
    ),
    "no rows": ({"frame": pandas_frame()[:0], "label": "state"}, "frame: the frame has no rows"),
    "nothing to learn from": (
        {"frame": pandas_frame()[["state"]], "label": "state"},
        "no column is left to learn from",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_that_cannot_be_used_is_one_line(name: str) -> None:
    given, line = REFUSED[name]
    with pytest.raises(DataError) as caught:
        from_frame(given.pop("frame"), **given)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "data.source" not in str(caught.value)


def test_a_frame_that_is_handed_over_bare_says_how_to_give_it(tmp_path: Path) -> None:
    for data in (pandas_frame(), {"train": pandas_frame()}):
        with pytest.raises(DataError, match=r"raysim\.adapters\.from_frame\(frame, label='…'"):
            Simulation({"execution": {"executor": "inprocess"}}, model=linear(), data=data, directory=tmp_path / "run")


def test_a_streamed_frame_is_told_to_be_collected() -> None:
    with pytest.raises(DataError, match=r"got LazyFrame; collect\(\) it first"):
        from_frame(polars_frame().lazy(), label="state")
