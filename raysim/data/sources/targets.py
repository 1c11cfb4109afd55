"""Targets: whether they are classes or numbers to regress on, and the checks of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raysim.arrays import Array
from raysim.data.dataset import Pool
from raysim.errors import DataError

Task = Literal["classification", "regression", "by_type"]
"""What targets are for; `by_type`: integers are classes, floats are numbers."""
NUMBERS = "task: regression in data.source, or training.loss: mse"
DOUBTFUL = 20
"""Largest C for which floats that are exactly 0 … C-1, each twice on average, may be meant as classes; 2 where a sample
has several targets."""


def task_of(y: Array, task: Task | None, origin: str) -> Literal["classification", "regression"]:
    """What the targets are for.

    Args:
        y: targets of the training samples, of any shape.
        task: what the configuration says; None if it says nothing.
        origin: file or source, for error messages.

    Raises:
        DataError: the configuration says nothing, and they are floats that look like classes: 0 … C-1, each of them.
    """
    if task == "classification" or task == "regression":
        return task
    if y.dtype.kind != "f":
        return "classification"
    if task is None and y.size:
        found = np.unique(y)
        most = DOUBTFUL if y.ndim == 1 else 2
        if 2 <= len(found) <= min(most, y.size // 2) and np.array_equal(found, np.arange(len(found))):
            every = "0 and 1" if len(found) == 2 else f"0, 1, … {len(found) - 1}"
            losses = "binary_cross_entropy or cross_entropy" if len(found) == 2 else "cross_entropy"
            raise DataError(
                f"{origin}: y has type {y.dtype} and holds only {every}, which may be classes or numbers; set "
                f"training.loss: {losses} for classes, or mse for numbers (or task, where you call from_arrays)"
            )
    return "regression"


@dataclass(frozen=True, slots=True)
class Place:
    """Names one array in error messages: `data.npz: y_test`."""

    origin: str
    key: str

    def error(self, message: str) -> DataError:
        return DataError(f"{self.origin}: {self.key}{message}")


def labels(y: Array, *, origin: str, key: str = "y", floats: bool = False) -> Array:
    """Class labels as int64.

    Args:
        y: of any shape.
        origin: file or source, for error messages.
        key: name of the array, for error messages.
        floats: take floats that are whole numbers for labels.

    Raises:
        DataError: they are not integers, or one is negative.
    """
    place = Place(origin, key)
    if y.dtype.kind not in "biu":
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2.0**63)
        bad = np.argwhere(~whole)
        if len(bad):
            where = f"[{index_text(bad[0])}] is {y[tuple(bad[0])]}"
            raise place.error(
                f"{where}; class labels are integers 0..C-1: correct it, or regress on numbers: {NUMBERS}"
            )
        if not floats:
            raise place.error(f" has type {y.dtype}; class labels are integers: y.astype(int); numbers: {NUMBERS}")
    outside = np.argwhere((y < 0) | (y > np.iinfo(np.int64).max))
    if len(outside):
        remedy = "class labels are integers 0..C-1; targets that do not count have any class, and weight 0"
        raise place.error(f"[{index_text(outside[0])}] is {y[tuple(outside[0])]}; {remedy}")
    return y.astype(np.int64)


def targets(y: Array, origin: str, key: str = "y") -> Array:
    """Regression targets as float32.

    Raises:
        DataError: one is NaN or infinite.
    """
    with np.errstate(over="ignore"):
        y = y.astype(np.float32)
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        raise Place(origin, key).error(f"[{index_text(bad[0])}] is {y[tuple(bad[0])]}; remove samples without a target")
    return y


def index_text(position: Array) -> str:
    """An index as it is written between brackets: `3, 7`."""
    return ", ".join(map(str, position))


def count_classes(train: Pool, test: Pool | None) -> int:
    """Number of classes: the largest training label and one.

    Raises:
        DataError: there is one class, a label is larger than there are samples, or the test set has others.
    """
    classes = int(train.targets.max()) + 1
    if train.targets.min() == train.targets.max():
        raise DataError(f"{train.origin}: every label of y is {classes - 1}; at least two classes are needed")
    if classes > max(1000, train.targets.size):
        raise DataError(
            f"{train.origin}: y has a label {classes - 1}, more than there are samples; number classes from 0"
        )
    if test is not None and test.targets.max() >= classes:
        where = np.argwhere(test.targets >= classes)[0]
        label = f"y_test[{index_text(where)}] is {test.targets[tuple(where)]}"
        raise DataError(f"{train.origin}: {label}, outside the training labels 0..{classes - 1}")
    return classes
