"""Statistics and rewriting feature by feature, the same for table columns and for arrays of any shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from raysim.arrays import Array, Float64
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.transforms.memory import check_room
from raysim.errors import DataError

# Numbers in flight at once: float64 copies of a large data set are made a piece at a time.
_BLOCK = 1 << 22
_REMEDY = "give fewer samples or features, or leave out the transform"


def is_numeric(values: Array) -> bool:
    """Whether a column holds numbers, not categories."""
    return values.dtype != object


def refuse_tokens(pool: Pool, transform: str) -> None:
    """Raise a DataError if x is token ids or several inputs, on which arithmetic means nothing."""
    if pool.kind == "record":
        raise DataError(f"{pool.origin}: {transform} does not apply to several inputs; remove it from data.transforms")
    if pool.kind == "tokens":
        raise DataError(f"{pool.origin}: {transform} does not apply to tokens; remove it from data.transforms")


def position(columns: Columns, name: str, origin: str) -> int:
    """Where a column is.

    Raises:
        DataError: there is no such column.
    """
    if name not in columns.names:
        raise DataError(f"{origin}: no column {name!r}; columns are {', '.join(map(repr, columns.names))}")
    return columns.names.index(name)


def layout(pool: Pool) -> tuple[tuple[str, ...] | None, int]:
    """The names of a table's numeric columns, or None for an array; and the number of features to be measured."""
    if not isinstance(pool.x, Columns):
        return None, math.prod(pool.sample_shape)
    names = tuple(name for name, values in zip(pool.x.names, pool.x.values, strict=True) if is_numeric(values))
    return names, len(names)


def measure(pool: Pool, statistic: Callable[[Float64], Float64]) -> tuple[tuple[str, ...] | None, Float64]:
    """A statistic of every numeric feature.

    Args:
        pool: the training part.
        statistic: takes `[n, f]` float64 with NaN for every hole (NaN or infinity), gives `[f]`.

    Returns:
        Names as in `layout`; and the statistic of each column, or of each element of a sample in C order.

    Raises:
        DataError: a feature has no values, or ones too large to compute with.
    """
    names, count = layout(pool)
    if isinstance(pool.x, Columns):
        blocks = [values[:, None] for values in pool.x.values if is_numeric(values)]
    else:
        flat = pool.features.reshape(len(pool), -1)
        width = max(1, _BLOCK // len(flat))
        blocks = [flat[:, start : start + width] for start in range(0, count, width)]
    results = []
    for block in blocks:
        missing = holes(block)
        values = np.where(missing, np.nan, block).astype(np.float64)
        empty = missing.all(axis=0)
        values[:, empty] = 0  # a placeholder: NumPy warns of features without values, we raise below
        with np.errstate(over="ignore", invalid="ignore"):
            results.append(np.where(empty, np.nan, statistic(values)))
    measured = np.concatenate(results) if results else np.empty(0)
    unusable = np.flatnonzero(~np.isfinite(measured))
    if len(unusable):
        where = feature_name(pool, int(unusable[0]), names)
        raise DataError(f"{pool.origin}: {where} has no usable values in the training part; leave it out")
    return names, measured


def rewrite(
    pool: Pool, names: tuple[str, ...] | None, measured: int, function: Callable[[Float64, slice], Float64]
) -> Pool:
    """Every measured feature replaced by a function of it; an array becomes float32 and `real`.

    Args:
        pool: any part of the data.
        names: as in `layout` of the training part.
        measured: how many features that had.
        function: takes `[n, f]` float64 and the range of these features among the measured ones.

    Raises:
        DataError: a measured column is not in the pool or not numeric, or a sample has another number of features.
    """
    if (names is None) == isinstance(pool.x, Columns):
        raise DataError(f"{pool.origin}: the transforms were fitted on {'an array' if names is None else 'a table'}")
    if isinstance(pool.x, Columns):
        check_room(pool, 8 * len(pool) * len(names or ()), f"scaling {len(names or ()):,} columns", _REMEDY)
        values = list(pool.x.values)
        for i, name in enumerate(names or ()):
            at = position(pool.x, name, pool.origin)
            if not is_numeric(values[at]):
                raise DataError(f"{pool.origin}: column {name!r} was numeric in the training part, and is not here")
            values[at] = function(values[at][:, None], slice(i, i + 1))[:, 0]
        return replace(pool, x=Columns(pool.x.names, tuple(values)))
    flat = pool.features.reshape(len(pool), -1)
    if flat.shape[1] != measured:
        raise DataError(f"{pool.origin}: a sample has {flat.shape[1]} features; the training part had {measured}")
    check_room(pool, 4 * flat.size, "making float32 of every feature", _REMEDY)
    result = np.empty(flat.shape, np.float32)
    height = max(1, _BLOCK // max(1, flat.shape[1]))
    for start in range(0, len(flat), height):
        part = slice(start, start + height)
        with np.errstate(over="ignore", invalid="ignore"):  # holes stay holes, to be named at the end
            result[part] = function(flat[part].astype(np.float64), slice(None))
    return replace(pool, x=result.reshape(pool.features.shape), kind="real")


def source_row(pool: Pool, sample: int) -> str:
    """Where a sample of the pool is in its source.

    Rows of a file are counted from 1, without the header; samples of an array from 0, as they are indexed.
    """
    number = sample if pool.row is None else int(pool.row[sample])
    return f"row {number + 1}" if isinstance(pool.x, Columns) else f"sample {number}"


def feature_name(pool: Pool, feature: int, names: tuple[str, ...] | None) -> str:
    """How a user calls a feature: `column 'age'`, or `feature (0, 3, 7)`."""
    if names is not None:
        return f"column {names[feature]!r}"
    index = np.unravel_index(feature, pool.sample_shape)
    return f"feature ({', '.join(str(int(i)) for i in index)})"
