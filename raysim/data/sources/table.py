"""CSV and Parquet tables: one row a sample, one column to predict, perhaps one that says whose row it is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysim.config.sources import Table
from raysim.data.dataset import Columns, Dataset, Pool, holes
from raysim.data.federation import Array, DataInfo
from raysim.data.sources.arrays import targets
from raysim.data.sources.files import existing, first_line, read_bytes, read_parquet, validated
from raysim.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def load_table(config: Table, seed: int) -> Dataset:
    """Rows of a table. Labels are numbered in sorted order; categories and holes are left to the transforms.

    A CSV file has a header, is UTF-8, and may be separated by commas, semicolons or tabs.

    Raises:
        DataError: the file is missing or damaged; a column is missing, of no usable type, or used twice; a label or an
            owner is missing; a class label is a fraction; there is only one class.
    """
    path = existing(config.path)
    table = _read_csv(path) if config.name == "csv" else read_parquet(path)
    if table.num_rows == 0:
        raise DataError(f"{path}: the table has no rows")
    names = _features(config, table.column_names, path)
    x = Columns(names, tuple(_column(table[name], name, path) for name in names))
    y, class_names = _label(table[config.label], config, path)
    client = None if config.client is None else _owners(table[config.client], config.client, path)
    classes = None if class_names is None else len(class_names)
    info = DataInfo(config.task, (len(names),), "real", (), classes)
    return Dataset(Pool(x, y, "real", str(path), client), None, info, class_names)


def _read_csv(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    content = read_bytes(path)
    header = content.partition(b"\n")[0]
    delimiter = max(b",;\t", key=header.count)
    # One block, as far as Arrow allows: a column's type is inferred from the first block alone.
    block = min(len(content) + 1, 2**31 - 1)
    try:
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(use_threads=False, block_size=block),
            parse_options=csv.ParseOptions(delimiter=chr(delimiter)),
            convert_options=csv.ConvertOptions(strings_can_be_null=True),
        )
        return validated(table)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable CSV file ({first_line(error)})") from None


def _features(config: Table, columns: Sequence[str], path: Path) -> tuple[str, ...]:
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}; rename one")
    chosen = config.features or ()
    client = () if config.client is None else (config.client,)
    for key, names in (("label", (config.label,)), ("client", client), ("features", chosen), ("ignore", config.ignore)):
        for name in names:
            if name not in columns:
                close = difflib.get_close_matches(name, columns, n=1)
                remedy = f"did you mean {close[0]!r}?" if close else f"columns are {', '.join(map(repr, columns))}"
                raise DataError(f"{path}: data.source.{key}: no column {name!r}; {remedy}")
    left_out = {config.label, *client, *config.ignore}
    for name in chosen:
        if name in left_out:
            raise DataError(f"{path}: data.source.features: {name!r} is also the label, the client or ignored")
    names = chosen or tuple(name for name in columns if name not in left_out)
    if not names:
        raise DataError(f"{path}: no column is left to learn from")
    return names


def _column(column: pa.ChunkedArray, name: str, path: Path) -> Array:
    """float64 with NaN for a hole where the column is numeric or boolean, else object with str and None."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        if pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        values: Array = column.cast(pa.float64(), safe=False).to_numpy()
        return values
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        strings: Array = column.to_numpy()
        return strings
    what = "is not UTF-8 text" if pa.types.is_binary(kind) else f"has type {kind}, neither a number nor text"
    raise DataError(f"{path}: column {name!r} {what}; convert it, or list it in data.source.ignore")


def _label(column: pa.ChunkedArray, config: Table, path: Path) -> tuple[Array, tuple[str, ...] | None]:
    values = _whole(column, config.label, path)
    if config.task == "regression":
        if values.dtype == object:
            raise DataError(f"{path}: label column {config.label!r} is text; set task: classification")
        return targets(values, str(path), f"column {config.label!r}"), None
    if values.dtype == np.float64:
        fractions = np.flatnonzero(values != np.floor(values))
        if len(fractions):
            where = f"row {fractions[0] + 1} is {values[fractions[0]]}"
            raise DataError(f"{path}: label column {config.label!r}: {where}, no class; set task: regression")
        values = values.astype(np.int64)
    classes, y = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        where = f"label column {config.label!r} is {classes[0]!s} in every row"
        raise DataError(f"{path}: {where}; there are no classes to tell apart")
    return y.astype(np.int64), tuple(str(name) for name in classes)


def _owners(column: pa.ChunkedArray, name: str, path: Path) -> Array:
    values = _whole(column, name, path)
    return values.astype(str) if values.dtype == object else values


def _whole(column: pa.ChunkedArray, name: str, path: Path) -> Array:
    """A column of labels or owners: no holes, and integers as they are (float64 would merge some above 2^53)."""
    import pyarrow as pa

    exact = pa.types.is_integer(column.type) and not column.null_count
    values: Array = column.to_numpy() if exact else _column(column, name, path)
    missing = np.flatnonzero(holes(values))
    if len(missing):
        where = f"row {missing[0] + 1}, column {name!r}"
        raise DataError(f"{path}: {where} is empty or not finite; fill it or remove the row")
    return values
