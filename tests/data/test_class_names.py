"""What classes are called: names from sources and users, legal in columns, found again by either spelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim.config.data import DataConfig
from raysim.data import DataInfo, prepare
from raysim.data.class_names import class_columns, class_number, listed_names
from raysim.errors import ConfigError, DataError

THREE = DataInfo("classification", (1,), "real", classes=3)


def called(*names: str) -> DataInfo:
    return replace(THREE, classes=len(names), class_names=names)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("setosa", "versicolor", "virginica"), ("setosa", "versicolor", "virginica")),
        ((">50K", "<=50K", "9/10"), (">50K", "<=50K", "9_10")),
        (("New York", "New/York", "New_York"), ("New_York_0", "New_York_1", "New_York")),
        (("/", " ", "köln"), ("class_0", "class_1", "köln")),
    ],
)
def test_columns_call_classes_by_legal_names_each_its_own(names: tuple[str, ...], columns: tuple[str, ...]) -> None:
    info = called(*names)
    assert class_columns(info) == columns
    for number, (name, column) in enumerate(zip(names, columns, strict=True)):
        assert class_number(info, name, "here") == number
        assert class_number(info, column, "here") == number


def test_classes_without_names_are_called_by_their_numbers() -> None:
    assert class_columns(THREE) == ("0", "1", "2")
    assert class_number(THREE, 2, "here") == class_number(THREE, "2", "here") == 2


def test_a_number_is_no_index_among_classes_that_are_called_by_numbers() -> None:
    grades = called("1", "2", "3")
    assert class_number(grades, 1, "here") == 0
    with pytest.raises(ConfigError, match="here: there is no class 0; classes are 1, 2, 3"):
        class_number(grades, 0, "here")


def test_of_very_many_classes_a_message_lists_some() -> None:
    many = called(*(f"class{i}" for i in range(40)))
    assert listed_names(many).endswith("class11, … and 28 more")
    assert listed_names(THREE) == "0 to 2"


def data(**extra: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(30, 2)), "y": np.arange(30) % 3, **extra}


def opened(tmp_path: Path, arrays: Any, **config: Any) -> DataInfo:
    values = {"source": "in_memory", "cache": str(tmp_path), "partition": {"name": "iid", "clients": 2}, **config}
    return prepare(DataConfig.model_validate(values), 0, arrays=arrays).open().info


def test_names_come_from_the_arrays_or_the_configuration_and_do_not_touch_the_fingerprint(tmp_path: Path) -> None:
    assert opened(tmp_path, data()).class_names is None
    assert opened(tmp_path, data(classes=["a", "b", "c"])).class_names == ("a", "b", "c")
    assert opened(tmp_path, data(classes=["a", "b", "c"]), classes=["x", "y", "z"]).class_names == ("x", "y", "z")
    config = {"source": "in_memory", "cache": str(tmp_path), "partition": {"name": "iid", "clients": 2}}
    specs = [prepare(DataConfig.model_validate(config), 0, arrays=one) for one in (data(), data(classes=list("abc")))]
    assert specs[0].fingerprint == specs[1].fingerprint


class Photographs:
    """As torchvision's datasets: a list of names in `classes`."""

    def __init__(self, *classes: str) -> None:
        self.classes = list(classes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[np.ndarray[Any, Any], int]:
        if i >= 6:
            raise IndexError
        return np.full(2, i, np.float32), i % 3


def test_a_map_style_dataset_brings_the_names_that_it_has(tmp_path: Path) -> None:
    assert opened(tmp_path, Photographs("cat", "dog", "hen")).class_names == ("cat", "dog", "hen")
    assert opened(tmp_path, Photographs("cat", "dog", "hen", "owl")).class_names is None  # of other samples


@pytest.mark.parametrize(
    ("arrays", "config", "line"),
    [
        (data(classes=["a", "b"]), {}, "data: classes: 2 names for 3 classes"),
        (data(classes=["a", "b", "b"]), {}, "data: classes: two classes are called 'b'; give each its own name"),
        (data(classes=[["a", "b", "c"]]), {}, r"data: classes has shape \(1, 3\); expected a name for each class"),
        (data(), {"classes": ["a"]}, "data.classes: 1 name for 3 classes"),
        (data(y=np.linspace(0, 1, 30)), {"classes": ["a", "b"]}, "data.classes: names classes, but the targets are"),
    ],
)
def test_names_that_do_not_fit_are_one_line(
    arrays: dict[str, Any], config: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=line) as caught:
        opened(tmp_path, arrays, **config)
    assert "\n" not in str(caught.value)
