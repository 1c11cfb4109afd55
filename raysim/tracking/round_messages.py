"""Rows of the rounds table as messages of an Arrow stream."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import pyarrow as pa

from raysim.rounds.message_forms import MessageForm


class RoundMessages:
    """Makes messages of a table's rows, one row each."""

    def __init__(self, schema: pa.Schema) -> None:
        """Make rows of a table with these columns, which are numbers of a fixed size."""
        self._schema, self._declared = schema, frozenset(schema.names)
        self._forms: dict[tuple[str, ...], tuple[MessageForm, itemgetter[Any]]] = {}

    def of(self, row: Mapping[str, float | None]) -> bytearray:
        """The message of a row by column, as `pyarrow.RecordBatch.serialize` writes it; what is None or absent is null.

        Raises:
            ValueError: a column that the schema does not declare.
        """
        names = tuple([name for name, value in row.items() if value is not None])
        known = self._forms.get(names)
        if known is None:
            if undeclared := row.keys() - self._declared:
                raise ValueError(f"round {row.get('round')}: columns {sorted(undeclared)} were not declared")
            batch = pa.RecordBatch.from_pylist([dict(row)], self._schema)
            known = self._forms[names] = MessageForm(batch, names), itemgetter(*names)
        form, values_of = known
        return form.message(values_of(row))
