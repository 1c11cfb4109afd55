"""Time series: windows of consecutive rows of an owner, each with the target of a later row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.config.data import DataConfig
from raysim.config.splitting import GroupSplitConfig, TimeSplitConfig
from raysim.config.transforms import SeriesWindowsConfig
from raysim.data.dataset import Columns, Pool
from raysim.data.room import check_room
from raysim.data.split import Split
from raysim.data.transforms.dates import days_of
from raysim.data.transforms.features import is_numeric
from raysim.data.transforms.tables import column_of, table_of
from raysim.errors import DataError


@dataclass(frozen=True, slots=True)
class SeriesWindows:
    """Make windows `[length, features]` of a table's rows, owner by owner; each stands for its target's row."""

    length: int
    horizon: int
    stride: int
    time: str | None
    past_targets: bool

    def apply(self, pool: Pool) -> Pool:
        """The windows that lie in this part of the data as a whole, so that no part looks into another.

        Raises:
            DataError: x is no table, the column of times does not exist, or another is not numeric or has a hole.
        """
        order, pool = self._ordered(pool)
        table = table_of(pool, "windows")
        columns = []
        for name in table.names:
            values = column_of(pool, name, "windows")
            if not is_numeric(values):
                raise DataError(f"{pool.origin}: windows: column {name!r} is not numeric; add `one_hot` before it")
            columns.append(values)
        if self.past_targets:
            columns.append(pool.targets.astype(np.float64))
        if not columns:
            raise DataError(f"{pool.origin}: windows: no column is left; add features, or set past_targets: true")
        rows, wanted = self._places(order)
        size = 4 * rows.size * len(columns)
        check_room(size, pool.origin, f"a set of {len(rows):,} windows", "raise windows.step")
        x = np.empty((*rows.shape, len(columns)), np.float32)
        for i, values in enumerate(columns):
            x[:, :, i] = values[rows]
        return replace(pool.take(wanted), x=x)

    def _ordered(self, pool: Pool) -> tuple[list[Int64], Pool]:
        """The rows of each owner in the order of time, and the pool without the column of times."""
        owners, time, table = np.zeros(len(pool), np.int64), np.zeros(len(pool)), table_of(pool, "windows")
        if pool.client is not None:
            owners = np.unique(pool.client.astype(str), return_inverse=True)[1].reshape(-1)
        if self.time is not None:
            time = days_of(pool, self.time, column_of(pool, self.time, "windows"))
            kept = [i for i, name in enumerate(table.names) if name != self.time]
            rest = Columns(tuple(table.names[i] for i in kept), tuple(table.values[i] for i in kept))
            pool = replace(pool, x=rest)
        order = np.lexsort((np.arange(len(pool)), time, owners))
        return np.split(order, np.cumsum(np.bincount(owners))[:-1]), pool

    def _places(self, order: list[Int64]) -> tuple[Int64, Int64]:
        """The rows of each window `[n, length]`, and the row of its target `[n]`."""
        found, wanted = [np.empty((0, self.length), np.int64)], [np.empty(0, np.int64)]
        for rows in order:
            starts = window_starts(len(rows), self.length, self.horizon, self.stride)
            found.append(rows[starts[:, None] + np.arange(self.length)])
            wanted.append(rows[starts + self.length - 1 + self.horizon])
        return np.concatenate(found), np.concatenate(wanted)


def check_windows(config: DataConfig, cut: Split) -> None:
    """Check that windows of training rows share none with those that are held back.

    Raises:
        DataError: rows were held back at random, or holdouts would be.
    """
    if not any(isinstance(one, SeriesWindowsConfig) for one in config.transforms):
        return
    if (len(cut.test) or len(cut.validation)) and not isinstance(config.split, TimeSplitConfig | GroupSplitConfig):
        raise DataError(
            f"data.split: windows of rows split by {config.split.name} have gaps; set {{name: time, column: …}} (with "
            "keep: true where windows.time names it), {name: group, …}, or data.test: 0"
        )
    if config.holdout > 0:
        raise DataError("data.holdout: windows overlap, and holdouts are drawn at random; set it to 0, split by time")


def window_starts(rows: int, length: int, horizon: int, step: int) -> Int64:
    """First rows of the windows of a series of `rows` rows; the window and its target both lie in the series."""
    return np.arange(0, max(0, rows - length - horizon + 1), step)


def windows(series: Any, target: Any = None, *, length: int, horizon: int = 1, step: int = 1) -> tuple[Array, Array]:
    """Windows of one time series, as inputs and targets; of several, each is a client's: `{"clients": {name: …}}`.

    Args:
        series: `[T, features]` or `[T]`, in the order of time.
        target: `[T]` or `[T, …]`; by default the series itself.
        length: steps of a window.
        horizon: steps from the last one of a window to its target.
        step: steps from one window to the next.

    Returns:
        x `[n, length, features]` float32, y `[n, …]`.

    Raises:
        DataError: they differ in length, a number is below its least value, or not one window fits.

    Example:
        >>> x, y = windows(np.arange(6.0), length=3)
        >>> x[0, :, 0].tolist(), y.tolist()
        ([0.0, 1.0, 2.0], [3.0, 4.0, 5.0])
    """
    values = np.asarray(series)
    wanted = values if target is None else np.asarray(target)
    for name, number, least in (("length", length, 1), ("horizon", horizon, 0), ("step", step, 1)):
        if number < least:
            raise DataError(f"windows: {name} is {number}; expected {least} or more")
    if values.ndim not in (1, 2) or len(values) != len(wanted):
        raise DataError(
            f"windows: series has shape {values.shape} and target {wanted.shape}; expected [T, features] and [T]"
        )
    starts = window_starts(len(values), length, horizon, step)
    if len(starts) == 0:
        raise DataError(f"windows: a series of {len(values)} steps has no window of {length} with horizon {horizon}")
    steps = values[:, None] if values.ndim == 1 else values
    x = steps[starts[:, None] + np.arange(length)].astype(np.float32)
    return x, wanted[starts + length - 1 + horizon]


def fit_windows(config: SeriesWindowsConfig, train: Pool) -> SeriesWindows:
    """Nothing is measured; what is wrong with the table is found when windows are made.

    Raises:
        DataError: targets of the past are to be features, and are classes, or several of a sample.
    """
    if config.past_targets and (train.y.dtype.kind != "f" or train.y.ndim > 1):
        raise DataError(f"{train.origin}: windows: past_targets are numbers, one a row; set past_targets: false")
    return SeriesWindows(config.length, config.horizon, config.step, config.time, config.past_targets)
