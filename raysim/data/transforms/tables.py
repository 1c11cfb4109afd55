"""What transforms of a table's columns have in common."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.arrays import Array
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.transforms.features import is_numeric, position, source_row
from raysim.errors import DataError


def table_of(pool: Pool, transform: str) -> Columns:
    """The named columns of a pool.

    Raises:
        DataError: x is no table.
    """
    if not isinstance(pool.x, Columns):
        raise DataError(
            f"{pool.origin}: {transform} works on tables with named columns; remove it from data.transforms"
        )
    return pool.x


def categorical(pool: Pool, transform: str, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The columns that a transform is for: those that are named, else all that are not numeric.

    Raises:
        DataError: x is no table, or there is no such column.
    """
    table = table_of(pool, transform)
    if wanted is None:
        return tuple(name for name, values in zip(table.names, table.values, strict=True) if not is_numeric(values))
    for name in wanted:
        position(table, name, pool.origin)
    return tuple(wanted)


def column_of(pool: Pool, name: str, transform: str, *, filled: bool = True) -> Array:
    """A column by its name; without holes if `filled`.

    Raises:
        DataError: there is none, or it has a hole.
    """
    table = table_of(pool, transform)
    values = table.values[position(table, name, pool.origin)]
    if filled and (missing := holes(values)).any():
        row = source_row(pool, int(missing.argmax()))
        raise DataError(
            f"{pool.origin}: {row}, column {name!r} is empty; add the `missing` transform (action: drop) before "
            f"`{transform}`"
        )
    return values


def text_of(category: object) -> str:
    """How a category is written in names and tables: whole numbers without a point."""
    return category if isinstance(category, str) else f"{category:g}"
