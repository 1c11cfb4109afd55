"""CSV and Parquet tables: one row a sample, one column to predict, perhaps one that says whose row it is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysim.arrays import Array
from raysim.config.sources import TableConfig
from raysim.data.dataset import Columns, Dataset, Pool, holes
from raysim.data.federation import DataInfo
from raysim.data.owners import owner_name
from raysim.data.sources.csv_file import read_csv, with_holes
from raysim.data.sources.files import existing, read_parquet
from raysim.data.sources.strays import find_stray, is_number
from raysim.data.sources.targets import targets
from raysim.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def load_table(config: TableConfig, seed: int) -> Dataset:
    """Rows of a table. Labels are numbered in sorted order; categories and holes are left to the transforms.

    A CSV file has a header, is UTF-8, and may be separated by commas, semicolons, tabs or bars.

    Raises:
        DataError: a file is missing or damaged; a column is missing, of no usable type, or used twice; a label or an
            owner is missing; a class label is a fraction; there is only one class; the test table has another class, or
            text where the other has numbers.
    """
    path = existing(config.path)
    table = _read(config, path)
    if config.test is None:
        return from_tables(table, None, config, path)
    file = existing(config.test)
    return from_tables(table, _read(config, file), config, path, file)


def from_tables(
    table: pa.Table, test: pa.Table | None, config: TableConfig, origin: Path | str, test_origin: Path | str = ""
) -> Dataset:
    """Rows of a table, and of one with the test samples.

    Args:
        config: what its columns are.
        origin, test_origin: what errors call the tables.

    Raises:
        DataError: see `load_table`.
    """
    names = _features(config, table.column_names, origin)
    x = Columns(names, tuple(_column(table[name], name, origin) for name in names))
    y, class_names = _label(table[config.label], config, origin)
    client = None if config.client is None else _owners(table[config.client], config.client, origin)
    classes = None if class_names is None else len(class_names)
    info = DataInfo(config.task, (len(names),), "real", (), classes)
    train = Pool(x, y, "real", str(origin), client)
    tested = None if test is None else _test(config, test, test_origin, x, class_names, origin)
    return Dataset(train, tested, info, class_names)


def _read(config: TableConfig, path: Path) -> pa.Table:
    if config.name == "csv":
        table = read_csv(path, config.na_values)
    else:
        table = with_holes(read_parquet(path), config.na_values)
    if table.num_rows == 0:
        raise DataError(f"{path}: the table has no rows")
    if config.name == "csv":
        _refuse_two_spellings(config, table, path)
    return table


def _test(
    config: TableConfig,
    table: pa.Table,
    path: Path | str,
    train: Columns,
    class_names: tuple[str, ...] | None,
    trained_on: Path | str,
) -> Pool:
    """The rows of the test table, with the columns and the classes of the training table. Owners may be missing."""
    for name in (*train.names, config.label):
        if name not in table.column_names:
            raise DataError(f"{path}: no column {name!r}, which {trained_on} has; give both tables the same columns")
    values = []
    for name, trained in zip(train.names, train.values, strict=True):
        column = _column(table[name], name, path)
        if column.dtype != trained.dtype and not holes(column).all():
            kinds = {True: "text", False: "numbers"}
            here, there = kinds[column.dtype == object], kinds[trained.dtype == object]
            raise DataError(f"{path}: column {name!r} is {here}, in {trained_on} it is {there}; make them alike")
        values.append(column if column.dtype == trained.dtype else np.full(len(column), None, dtype=object))
    owners = None
    if config.client is not None and config.client in table.column_names:
        owners = _owners(table[config.client], config.client, path, all_owned=False)
    y = _test_labels(config, table, path, class_names, trained_on)
    return Pool(Columns(train.names, tuple(values)), y, "real", str(path), owners)


def _test_labels(
    config: TableConfig,
    table: pa.Table,
    path: Path | str,
    class_names: tuple[str, ...] | None,
    trained_on: Path | str,
) -> Array:
    if class_names is None:
        return _label(table[config.label], config, path)[0]
    values = _whole(table[config.label], config.label, path)
    number = {name: label for label, name in enumerate(class_names)}
    labels = [number.get(str(owner_name(value))) for value in values.tolist()]
    if None in labels:
        row = labels.index(None)
        raise DataError(
            f"{path}: row {row + 1}, column {config.label!r} is {values[row]}, a class that {trained_on} does not "
            "have; correct it, or add training rows of that class"
        )
    return np.array(labels, dtype=np.int64)


def _refuse_two_spellings(config: TableConfig, table: pa.Table, path: Path) -> None:
    """Raise a DataError if owners or classes of a CSV file would merge: `7` and `007`, or ids beyond 2^53."""
    import pyarrow as pa
    from pyarrow import compute

    keys = {"client": config.client, "label": config.label if config.task == "classification" else None}
    for key, name in keys.items():
        if (
            name is None
            or name not in table.column_names
            or not (pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type))
        ):
            continue
        written = compute.utf8_trim_whitespace(read_csv(path, texts=[name])[name])
        if compute.count_distinct(written).as_py() == compute.count_distinct(table[name]).as_py():
            continue
        first: dict[float, tuple[int, str]] = {}
        for row, (cell, number) in enumerate(zip(written.to_pylist(), table[name].to_pylist(), strict=True), start=1):
            if number is not None and cell.isdigit() and first.setdefault(number, (row, cell))[1] != cell:
                cells = f"{first[number][1]} (row {first[number][0]}) and {cell} (row {row})"
                remedy = "spell them alike, or begin each with a letter"
                raise DataError(
                    f"{path}: data.source.{key}: column {name!r} has {cells}, which are read as one number; {remedy}"
                )


def _features(config: TableConfig, columns: Sequence[str], path: Path | str) -> tuple[str, ...]:
    header = [name for name in columns if name]
    numbered = header == [str(number) for number in range(len(header))]  # pandas calls columns 0, 1, … by default
    if config.name == "csv" and not numbered and all(map(is_number, header)):
        raise DataError(f"{path}: its first row, {', '.join(columns[:5])}, is all numbers; begin with a row of names")
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}; rename one")
    if "" in columns and "" not in config.ignore and "" not in (config.features or ("",))[1:]:
        remedy = 'name it, or leave it out by data.source.ignore: [""] (pandas writes its row numbers so)'
        raise DataError(f"{path}: column {columns.index('') + 1} has no name; {remedy}")
    chosen = config.features or ()
    client = () if config.client is None else (config.client,)
    for key, names in (("label", (config.label,)), ("client", client), ("features", chosen), ("ignore", config.ignore)):
        for name in names:
            if name not in columns:
                close = difflib.get_close_matches(name, columns, n=1)
                remedy = f"did you mean {close[0]!r}?" if close else f"columns are {', '.join(map(repr, columns))}"
                raise DataError(f"{path}: data.source.{key}: no column {name!r}; {remedy}")
    left_out = {config.label, *client, *config.ignore}
    for name in chosen:  # an owner's name may well be a feature, such as a user's id
        if name in left_out - set(client):
            raise DataError(f"{path}: data.source.features: {name!r} is also the label or ignored")
    names = chosen or tuple(name for name in columns if name not in left_out)
    if not names:
        raise DataError(f"{path}: no column is left to learn from")
    return names


def _column(column: pa.ChunkedArray, name: str, path: Path | str) -> Array:
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
        _refuse_blanks(strings, name, path)
        return strings
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):  # text as the transform `dates` reads it
        return np.array([None if one is None else one.isoformat() for one in column.to_pylist()], dtype=object)
    what = "is not UTF-8 text" if pa.types.is_binary(kind) else f"has type {kind}, neither a number nor text"
    raise DataError(f"{path}: column {name!r} {what}; convert it, or list it in data.source.ignore")


def _refuse_blanks(values: Array, name: str, path: Path | str) -> None:
    """Raise a DataError if two categories differ by blanks around them alone."""
    distinct = dict.fromkeys(values.tolist())
    for value in distinct:
        if value is not None and value != value.strip() and value.strip() in distinct:
            where = f"row {values.tolist().index(value) + 1}, column {name!r}"
            raise DataError(f"{path}: {where}: {value!r} is another category than {value.strip()!r}; remove the blanks")


def _label(column: pa.ChunkedArray, config: TableConfig, path: Path | str) -> tuple[Array, tuple[str, ...] | None]:
    values = _whole(column, config.label, path)
    if config.task == "regression":
        if values.dtype == object:
            if stray := find_stray(values):
                raise DataError(f"{path}: row {stray.position + 1}, column {config.label!r}: {stray}; correct the cell")
            raise DataError(f"{path}: label column {config.label!r} is text; set task: classification")
        return targets(values, str(path), f"column {config.label!r}"), None
    if values.dtype == np.float64:
        fractions = np.flatnonzero(values != np.floor(values))
        if len(fractions):
            where = f"row {fractions[0] + 1} is {values[fractions[0]]}"
            raise DataError(f"{path}: label column {config.label!r}: {where}, no class; set task: regression")
        values = values.astype(np.int64)
    elif values.dtype == object and (stray := find_stray(values)) and stray.only_marks:
        where = f"row {stray.position + 1}, column {config.label!r}"
        raise DataError(f"{path}: {where}: {stray}; correct the label, or remove the row")
    classes, y = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        where = f"label column {config.label!r} is {classes[0]!s} in every row"
        raise DataError(f"{path}: {where}; there are no classes to tell apart")
    return y.astype(np.int64), tuple(str(name) for name in classes)


def _owners(column: pa.ChunkedArray, name: str, path: Path | str, *, all_owned: bool = True) -> Array:
    values = _whole(column, name, path, filled=all_owned)
    return values.astype(str) if values.dtype == object and all_owned else values


def _whole(column: pa.ChunkedArray, name: str, path: Path | str, *, filled: bool = True) -> Array:
    """A column of labels or owners; if `filled` without holes. Integers stay (float64 merges some above 2^53)."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type) and column.null_count and not filled:
        return np.array(column.to_pylist(), dtype=object)
    exact = pa.types.is_integer(column.type) and not column.null_count
    values: Array = column.to_numpy() if exact else _column(column, name, path)
    missing = np.flatnonzero(holes(values))
    if len(missing) and filled:
        what = "is empty" if values.dtype == object else "is empty, NA or not finite"
        raise DataError(f"{path}: row {missing[0] + 1}, column {name!r} {what}; fill it or remove the row")
    return values
