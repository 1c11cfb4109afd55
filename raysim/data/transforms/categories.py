"""One-hot encoding of a table's categorical columns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raysim.config.transforms import OneHot
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.transforms.features import is_numeric, position
from raysim.errors import DataError


@dataclass(frozen=True, slots=True)
class Encode:
    """Put 0/1 columns `name=category` in the place of each categorical column.

    A category that training did not have, or that is missing, is all zeros.
    """

    columns: tuple[str, ...]
    categories: tuple[tuple[str | float, ...], ...]
    """Sorted, those of each column."""

    def apply(self, pool: Pool) -> Pool:
        """The same samples, encoded."""
        table = _table(pool)
        for name in self.columns:
            position(table, name, pool.origin)
        encoded = dict(zip(self.columns, self.categories, strict=True))
        names, values = [], []
        for name, column in zip(table.names, table.values, strict=True):
            if name not in encoded:
                names.append(name)
                values.append(column)
                continue
            for category in encoded[name]:
                names.append(f"{name}={category if isinstance(category, str) else f'{category:g}'}")
                values.append((column == category).astype(np.float64))
        return replace(pool, x=Columns(tuple(names), tuple(values)))


def fit_one_hot(config: OneHot, train: Pool) -> Encode:
    """The categories of the training part.

    Raises:
        DataError: x is no table, a column does not exist, or has no values.
    """
    table = _table(train)
    by_default = (name for name, values in zip(table.names, table.values, strict=True) if not is_numeric(values))
    columns = tuple(by_default) if config.columns is None else config.columns
    categories = tuple(_categories(table, name, train.origin) for name in columns)
    return Encode(columns, categories)


def _categories(table: Columns, name: str, origin: str) -> tuple[str | float, ...]:
    values = table.values[position(table, name, origin)]
    held = values[~holes(values)]
    if not len(held):
        raise DataError(f"{origin}: column {name!r} has no values in the training part; list it in data.source.ignore")
    return tuple(np.unique(held).tolist())


def _table(pool: Pool) -> Columns:
    if not isinstance(pool.x, Columns):
        raise DataError(f"{pool.origin}: one_hot works on tables with named columns; remove it from data.transforms")
    return pool.x
