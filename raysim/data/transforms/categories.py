"""One-hot encoding of a table's categorical columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raysim.config.transforms import OneHotConfig, TransformConfig
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.sources.strays import find_stray
from raysim.data.transforms.features import is_numeric, position, source_row
from raysim.data.transforms.memory import check_room
from raysim.errors import DataError

_BYTES = 5
"""Of one encoded value: uint8 here, float32 in the matrix of features that is made in the end."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Put 0/1 columns `name=category` in the place of each categorical column.

    A category that training did not have is all zeros.
    """

    columns: tuple[str, ...]
    categories: tuple[tuple[str | float, ...], ...]
    """Sorted, those of each column."""
    holes_are_zeros: bool = False
    """Whether a `missing` transform before this one has left holes to it, which are all zeros too; else an error."""

    def apply(self, pool: Pool) -> Pool:
        """The same samples, encoded.

        Raises:
            DataError: a column does not exist, or has a hole that no `missing` transform deals with.
        """
        table = _table(pool)
        for name in self.columns:
            values = table.values[position(table, name, pool.origin)]
            missing = np.flatnonzero(holes(values))
            if len(missing) and not self.holes_are_zeros:
                raise DataError(
                    f"{pool.origin}: {source_row(pool, int(missing[0]))}, column {name!r} is empty; add the `missing` "
                    "transform before `one_hot` (drop removes the row; mean, median and zero make its categories zeros)"
                )
        encoded = dict(zip(self.columns, self.categories, strict=True))
        names, values_out = [], []
        for name, column in zip(table.names, table.values, strict=True):
            if name not in encoded:
                names.append(name)
                values_out.append(column)
                continue
            for category in encoded[name]:
                names.append(f"{name}={category if isinstance(category, str) else f'{category:g}'}")
                values_out.append((column == category).astype(np.uint8))
        return replace(pool, x=Columns(tuple(names), tuple(values_out)))


def fit_one_hot(config: OneHotConfig, train: Pool, *, holes_are_zeros: bool = False) -> Encode:
    """The categories of the training part.

    Raises:
        DataError: x is no table, a column does not exist, has no values or more than `max_categories`; or what is made
            would not fit into memory.
    """
    table = _table(train)
    by_default = (name for name, values in zip(table.names, table.values, strict=True) if not is_numeric(values))
    columns = tuple(by_default) if config.columns is None else config.columns
    categories = tuple(_categories(table, name, train.origin) for name in columns)
    for name, found in zip(columns, categories, strict=True):
        if len(found) > config.max_categories:
            size = f"{len(train):,} x {len(found):,} values ({_BYTES * len(train) * len(found) / 1e9:,.1f} GB)"
            raise DataError(
                f"{train.origin}: column {name!r} has {len(found):,} categories, {size} in one_hot; list it in "
                f"data.source.ignore, or raise max_categories of one_hot (it is {config.max_categories:,})"
            )
    made = sum(map(len, categories))
    largest = max(columns, key=lambda name: len(categories[columns.index(name)]), default="")
    remedy = f"list columns of many categories in data.source.ignore, {largest!r} first"
    check_room(train, _BYTES * len(train) * made, f"one_hot, which makes {made:,} columns,", remedy)
    return Encode(columns, categories, holes_are_zeros)


def refuse_strays(transforms: Sequence[TransformConfig], pool: Pool) -> None:
    """Raise a DataError if a cell such as `?` makes text of a column of numbers, before it is taken for categories.

    Columns that `one_hot` names hold categories because the user says so.
    """
    if not isinstance(pool.x, Columns):
        return
    named = {name for config in transforms for name in getattr(config, "columns", None) or ()}
    for name, values in zip(pool.x.names, pool.x.values, strict=True):
        if not is_numeric(values) and name not in named and (stray := find_stray(values)):
            where = f"{source_row(pool, stray.position)}, column {name!r}"
            kept = "to keep the column as categories, name it in one_hot.columns"
            raise DataError(f"{pool.origin}: {where}: {stray}; {stray.remedy}; {kept}")


def _table(pool: Pool) -> Columns:
    if not isinstance(pool.x, Columns):
        raise DataError(f"{pool.origin}: one_hot works on tables with named columns; remove it from data.transforms")
    return pool.x


def _categories(table: Columns, name: str, origin: str) -> tuple[str | float, ...]:
    values = table.values[position(table, name, origin)]
    held = values[~holes(values)]
    if not len(held):
        raise DataError(f"{origin}: column {name!r} has no values in the training part; list it in data.source.ignore")
    return tuple(np.unique(held).tolist())
