"""Columns of dates as numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from raysim.arrays import Array, Float64
from raysim.config.transforms import DatePart, DatesConfig
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.transforms.features import is_numeric, position, source_row
from raysim.data.transforms.tables import table_of
from raysim.errors import DataError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTS: dict[DatePart, Callable[[datetime], float]] = {
    "year": lambda date: date.year,
    "month": lambda date: date.month,
    "day": lambda date: date.day,
    "weekday": lambda date: date.weekday(),
    "hour": lambda date: date.hour + date.minute / 60,
    "days": lambda date: (_aware(date) - _EPOCH).total_seconds() / 86400,
}


@dataclass(frozen=True, slots=True)
class Dates:
    """Put a numeric column for each part in the place of a column of dates; a hole is one in all of them."""

    columns: tuple[str, ...]
    parts: tuple[DatePart, ...]
    format: str | None

    def apply(self, pool: Pool) -> Pool:
        """The same samples, with numbers.

        Raises:
            DataError: there is no such column, or a cell is no date.
        """
        table = table_of(pool, "dates")
        for name in self.columns:
            position(table, name, pool.origin)
        names, values = list[str](), list[Array]()
        for name, column in zip(table.names, table.values, strict=True):
            if name not in self.columns:
                names.append(name)
                values.append(column)
                continue
            found = self._parsed(pool, name, column)
            for part in self.parts:
                names.append(f"{name}.{part}")
                values.append(np.array([np.nan if date is None else _PARTS[part](date) for date in found]))
        return replace(pool, x=Columns(tuple(names), tuple(values)))

    def _parsed(self, pool: Pool, name: str, column: Array) -> list[datetime | None]:
        if is_numeric(column):
            raise DataError(f"{pool.origin}: column {name!r} holds numbers, no dates; remove it from dates.columns")
        known: dict[str, datetime] = {}
        missing = holes(column)
        for row, cell in enumerate(column.tolist()):
            if not missing[row] and cell not in known:
                known[cell] = self._date(pool, name, row, cell)
        return [None if hole else known[cell] for hole, cell in zip(missing, column.tolist(), strict=True)]

    def _date(self, pool: Pool, name: str, row: int, cell: str) -> datetime:
        try:
            if self.format is not None:
                return datetime.strptime(cell.strip(), self.format)
            return datetime.fromisoformat(cell.strip())
        except ValueError:
            how = "ISO 8601 (2024-03-01); give its format" if self.format is None else f"of the format {self.format}"
            raise DataError(
                f"{pool.origin}: {source_row(pool, row)}, column {name!r}: {cell!r} is no date {how}, or list such "
                "cells in na_values"
            ) from None


def fit_dates(config: DatesConfig, train: Pool) -> Dates:
    """How dates are read; nothing is learned of them.

    Raises:
        DataError: see `Dates.apply`.
    """
    return Dates(config.columns, config.parts, config.format)


def days_of(pool: Pool, name: str, column: Array) -> Float64:
    """Points in time of a column, to sort by: numbers as they are, dates as days since 1970.

    Raises:
        DataError: a cell is empty, or no date.
    """
    if is_numeric(column):
        found = np.asarray(column, np.float64)
    else:
        dates = Dates((name,), ("days",), None)._parsed(pool, name, column)
        found = np.array([np.nan if date is None else _PARTS["days"](date) for date in dates])
    missing = np.flatnonzero(~np.isfinite(found))
    if len(missing):
        raise DataError(f"{pool.origin}: {source_row(pool, int(missing[0]))}, column {name!r} is empty; it has no time")
    return found


def _aware(date: datetime) -> datetime:
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
