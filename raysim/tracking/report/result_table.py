"""Tables of results for notebooks and programs: columns as arrays, as Arrow, and as a frame of pandas."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysim.errors import ConfigError
from raysim.rounds.rows import CLIENT_SCHEMA
from raysim.tracking.directory import RunDirectory
from raysim.tracking.reading import aligned, read_clients, read_rounds, stored_schema
from raysim.tracking.report.markup import Html, element, join, table
from raysim.tracking.units import figure

TableName: TypeAlias = Literal["rounds", "clients"]
"""A row a round, or a row for each client of each round."""
SHOWN_ROWS = 10
"""Rows that a notebook shows: the first and the last half of them."""


class ResultTable:
    """A table whose columns have names; it does not change.

    Attributes:
        arrow: the same as an Arrow table.

    Example:
        >>> with Simulation(experiment) as simulation:
        ...     simulation.run()
        >>> simulation.table()["test/accuracy"].max()
        >>> simulation.table("clients").to_pandas().groupby("client")["loss"].mean()
    """

    def __init__(self, arrow: pa.Table) -> None:
        """Show this table."""
        self.arrow = arrow

    @property
    def columns(self) -> list[str]:
        """Their names, in order."""
        return list(self.arrow.column_names)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of the same rows and columns.

        Raises:
            ConfigError: pandas is not installed.
        """
        require_pandas()
        return self.arrow.to_pandas()

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """A column `[n]`; numbers that are missing are NaN.

        Raises:
            KeyError: there is no such column; says which there are.
        """
        if column not in self.arrow.column_names:
            raise KeyError(f"no column {column!r}; there are {', '.join(self.columns)}")
        values: npt.NDArray[Any] = self.arrow[column].to_numpy()
        return values

    def __repr__(self) -> str:
        return f"<ResultTable: {len(self)} rows, columns {', '.join(self.columns)}>"

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns

    def _repr_html_(self) -> str:
        half = SHOWN_ROWS // 2
        count = len(self)
        places = range(count) if count <= SHOWN_ROWS else [*range(half), *range(count - half, count)]
        rows = [[_cell(self.arrow[name][i].as_py()) for name in self.columns] for i in places]
        if count > SHOWN_ROWS:
            rows.insert(half, ["…"] * len(self.columns))
        return join([table(self.columns, rows, text_columns=0), element("p", f"{count:,} rows")]).text


def run_table(run: RunDirectory, name: TableName = "rounds") -> ResultTable:
    """A table of a run, with what is recorded of it so far.

    Raises:
        ConfigError: there is no such table.
        RunError: its file is damaged.
    """
    if name == "rounds":
        return ResultTable(read_rounds(run))
    if name == "clients":
        schema = stored_schema(run.clients) or CLIENT_SCHEMA
        return ResultTable(
            pa.Table.from_batches((aligned(one, schema) for one in read_clients(run, schema.names)), schema)
        )
    raise ConfigError(f"unknown table {name!r}; valid are rounds and clients")


def require_pandas() -> None:
    """See that pandas is there.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pandas  # noqa: F401 - Arrow imports it by itself, with another error
    except ImportError as error:
        raise ConfigError(
            f"to_pandas needs pandas ({error}); install it with `pip install 'raysim-fl[notebook]'`"
        ) from None


def _cell(value: Any) -> str | Html:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return figure(value) if isinstance(value, float) else str(value)
