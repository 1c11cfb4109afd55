"""Rows of the rounds table as messages of an Arrow stream, several times as fast as Arrow makes them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa


class RoundMessages:
    """Makes messages of a table's rows, one row each.

    Messages of rows that have the same columns differ in their values alone, which lie at the same places. So Arrow
    makes the first, and in each that follows only the values are written.
    """

    def __init__(self, schema: pa.Schema) -> None:
        """Make rows of a table with these columns, which are numbers of a fixed size."""
        self._schema, self._known = schema, frozenset(schema.names)
        self._forms: dict[tuple[str, ...], _Form] = {}

    def of(self, row: Mapping[str, float | None]) -> bytes:
        """The message of a row by column, as `pyarrow.RecordBatch.serialize` writes it; what is None or absent is null.

        Raises:
            ValueError: a column that the schema does not declare.
        """
        names = tuple([name for name, value in row.items() if value is not None])
        form = self._forms.get(names)
        if form is None:
            if undeclared := row.keys() - self._known:
                raise ValueError(f"round {row.get('round')}: columns {sorted(undeclared)} were not declared")
            form = self._forms[names] = _Form(self._schema, {name: row[name] for name in names})
        return form.of(row)


class _Form:
    """Messages of rows that have values in the same columns."""

    def __init__(self, schema: pa.Schema, row: Mapping[str, float | None]) -> None:
        """Messages of rows like this one."""
        # One conversion for all columns: one each takes three times as long.
        batch = pa.RecordBatch.from_struct_array(pa.array([row], pa.struct(list(schema))))
        message = batch.serialize()
        columns = pa.ipc.read_record_batch(message, schema)  # whose buffers are parts of the message
        self._values_of = itemgetter(*row)
        self._message = message.to_pybytes()
        self._places = np.dtype(
            {
                "names": list(row),
                "formats": [schema.field(name).type.to_pandas_dtype() for name in row],
                "offsets": [columns[name].buffers()[1].address - message.address for name in row],
                "itemsize": message.size,
            }
        )

    def of(self, row: Mapping[str, Any]) -> bytes:
        """The message of a row, which may have columns besides that are None."""
        message = bytearray(self._message)
        np.frombuffer(message, self._places)[0] = self._values_of(row)
        return bytes(message)
