"""Data frames of pandas and polars, and tables of Arrow: rows with a column to predict, as a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

from raysim.config.sources import TableConfig
from raysim.data import Dataset
from raysim.data.sources.csv_file import with_holes
from raysim.data.sources.files import first_line
from raysim.data.sources.table import from_tables
from raysim.errors import DataError


def from_frame(
    frame: Any,
    *,
    label: str,
    client: str | None = None,
    test: Any = None,
    features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    task: Literal["classification", "regression"] = "classification",
    na_values: Sequence[str] = (),
) -> Dataset:
    """The rows of a frame, as `Simulation(data=…)` takes them; columns mean what those of a CSV file do.

    Args:
        frame: of pandas or polars, or a `pyarrow.Table`; the index of pandas is no column.
        label: column to predict.
        client: column that says whose row it is, for `partition: natural`.
        test: a frame of the same columns with the test samples.
        features: columns to learn from; by default all but the label, the client and the ignored ones.
        ignore: columns to leave out.
        task: whether the label is a class or a number.
        na_values: cells of text that are holes.

    Raises:
        DataError: it is no frame, a column is missing, of no usable type or used twice, a label or an owner is missing,
            there is one class, or the test frame has another class or a column of another type.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"age": [3.0, 4.5], "ward": ["a", "b"], "ill": ["no", "yes"]})
        >>> from_frame(frame, label="ill", client="ward").class_names
        ('no', 'yes')
    """
    values = {"features": features, "ignore": ignore, "client": client, "task": task, "na_values": na_values}
    config = TableConfig(
        name="parquet", path="frame", label=label, **{k: v for k, v in values.items() if v is not None}
    )
    table = _table(frame, "frame", na_values)
    tested = None if test is None else _table(test, "test", na_values)
    try:
        return from_tables(table, tested, config, "frame", "test")
    except DataError as error:  # which speaks of the keys of a configuration
        raise DataError(str(error).replace("data.source.", "")) from None


def _table(frame: Any, name: str, na_values: Sequence[str]) -> Any:
    import pyarrow as pa

    library = type(frame).__module__.partition(".")[0]
    try:
        if isinstance(frame, pa.Table):
            table = frame
        elif library == "pandas" and hasattr(frame, "columns"):
            table = pa.Table.from_pandas(frame, preserve_index=False)
        elif library == "polars" and hasattr(frame, "to_arrow"):
            table = frame.to_arrow(compat_level=sys.modules["polars"].CompatLevel.oldest())
        else:
            lazy = "; collect() it first" if library == "polars" else ""
            raise DataError(
                f"{name}: expected a frame of pandas or polars, or a pyarrow.Table, got {type(frame).__name__}{lazy}"
            )
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{name}: a column has no single type ({first_line(error)}); convert it") from None
    if table.num_rows == 0:
        raise DataError(f"{name}: the frame has no rows")
    return with_holes(table, ("", *na_values))
