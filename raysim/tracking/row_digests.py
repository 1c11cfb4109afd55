"""Digests of what a run recorded of a round: the same of rows on their way to the tables and of rows read from them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raysim.rounds.message_forms import MessageForm
from raysim.rounds.rows import CLIENT_SCHEMA, EXACT, EXACT_OF_CLIENTS, ROUND_FIELDS, VIRTUAL_SCHEMA

_FIXED = {field.name: "d" if pa.types.is_floating(field.type) else "q" for field in ROUND_FIELDS}
_REST = tuple(name for name in _FIXED if name not in EXACT)
_PACKED_REST = Struct(f"<{len(_REST)}d")
_EXACT_OF_CLIENTS = tuple(name for name in EXACT_OF_CLIENTS if name != "dropped")
_REST_OF_CLIENTS = tuple(name for name in CLIENT_SCHEMA.names if name not in ("round", *EXACT_OF_CLIENTS))
_SHORT = 16
"""Hexadecimal digits of a digest that finds damage, and that no link is made of."""


@dataclass(frozen=True, slots=True)
class RowDigests:
    """SHA-256 sums of a round's rows, in hexadecimal.

    Attributes:
        row: of what is a function of configuration and data in the round's row: `EXACT`, and the metrics.
        clients: of the same columns of its clients, `EXACT_OF_CLIENTS`.
        rest: of the other columns of the round's row, which say how it was done.
        clients_rest: of those of its clients.
    """

    row: str
    clients: str
    rest: str
    clients_rest: str

    @classmethod
    def of(cls, row: Mapping[str, Any], clients: pa.RecordBatch) -> RowDigests:
        """The digests of a round's row by column, where None was not measured, and of its clients."""
        exact, rest = of_row(row)
        of_exact, of_rest = of_clients(clients)
        return cls(exact, of_exact, rest, of_rest)


def of_row(row: Mapping[str, Any]) -> tuple[str, str]:
    """`RowDigests.row` and `rest` of a row by column; a metric that is None was not measured.

    The first is of the names of the columns, `EXACT` and then metrics by name, with commas between them, a line feed,
    and their values, little-endian: int64, and float64 for the learning rate and metrics. The second is of float64.

    Raises:
        KeyError: a column is missing.
        struct.error: a value is no number.
    """
    named, kinds, values_of = _exact(tuple([name for name, value in row.items() if value is not None]))
    found = hashlib.sha256(named)
    found.update(kinds.pack(*values_of(row)))
    return found.hexdigest(), hashlib.sha256(_PACKED_REST.pack(*_rest_of(row))).hexdigest()[:_SHORT]


_rest_of = itemgetter(*_REST)


@lru_cache(maxsize=64)
def _exact(measured: tuple[str, ...]) -> tuple[bytes, Struct, itemgetter[Any]]:
    """The line of names, the kinds and the getter of the exact values of a row with these columns."""
    names = (*EXACT, *sorted(name for name in measured if name not in _FIXED))
    kinds = "".join(_FIXED.get(name, "d") for name in names)
    return f"{','.join(names)}\n".encode(), Struct(f"<{kinds}"), itemgetter(*names)


def of_clients(clients: pa.RecordBatch) -> tuple[str, str]:
    """`RowDigests.clients` and `clients_rest` of the rows of a round, in the order of its positions.

    Each is of a line with the number of rows and the names of its columns of numbers, and of these columns one after
    the other, little-endian, with 0 for null; where there are nulls, then of a line of JSON with their places.
    Where a client was dropped, the first goes on with a line of JSON of the column `dropped`.

    Raises:
        KeyError: a column is missing.
    """
    texts = clients["dropped"]
    dropped = texts.null_count < len(texts)
    form = None if dropped else _form_of(clients)
    message = None if form is None else memoryview(clients.serialize())
    # A message has all values of a column in at least their length: of this length, it has nothing besides.
    if form is not None and message is not None and len(message) == form.length:
        exact, rest = (_sum(named, [message[part] for part in parts]) for named, parts in (form.exact, form.rest))
    else:
        names = _exact_of(clients.schema)
        exact, rest = (_sum(_named(len(clients), some), _columns(clients, some)) for some in (names, _REST_OF_CLIENTS))
    if dropped:
        exact.update(f"\n{json.dumps(texts.to_pylist())}".encode())
    return exact.hexdigest(), rest.hexdigest()[:_SHORT]


class _Form(NamedTuple):
    """Where a message of Arrow has the numbers of clients none of which was dropped: what is slow is done once.

    Attributes:
        length: of the message.
        exact, rest: for each digest the line that it begins with, and the parts of the message that follow.
    """

    length: int
    exact: tuple[bytes, tuple[slice, ...]]
    rest: tuple[bytes, tuple[slice, ...]]


def _form_of(clients: pa.RecordBatch) -> _Form | None:
    """The form of a batch like this one; None where it has other columns, or no rows."""
    if len(clients) and sys.byteorder == "little":
        for virtual, schema in enumerate(_SCHEMAS):
            if clients.schema.equals(schema):
                return _form(virtual, len(clients))
    return None


_SCHEMAS = CLIENT_SCHEMA, pa.schema([*CLIENT_SCHEMA, *VIRTUAL_SCHEMA])


@lru_cache(maxsize=256)
def _form(virtual: int, rows: int) -> _Form:
    """The form of batches of this schema and length."""
    schema = _SCHEMAS[virtual]
    numbers = {one.name: one.type.to_pandas_dtype() for one in schema if one.name != "dropped"}
    columns = [pa.array(np.zeros(rows, kind)) for kind in numbers.values()]
    columns.insert(schema.get_field_index("dropped"), pa.nulls(rows, pa.string()))
    form = MessageForm(pa.RecordBatch.from_arrays(columns, schema=schema), list(numbers), (rows,))

    def parts(names: tuple[str, ...]) -> tuple[bytes, tuple[slice, ...]]:
        found = list[slice]()
        for name in names:
            start = form.offsets[name]
            end = start + rows * np.dtype(numbers[name]).itemsize
            if found and found[-1].stop == start:
                start = found.pop().start
            found.append(slice(start, end))
        return _named(rows, names), tuple(found)

    return _Form(form.length, parts(_exact_of(schema)), parts(_REST_OF_CLIENTS))


def _exact_of(schema: pa.Schema) -> tuple[str, ...]:
    """The exact columns of numbers, also those of virtual time where there are any."""
    return (*_EXACT_OF_CLIENTS, *(name for name in VIRTUAL_SCHEMA.names if name in schema.names))


def _named(rows: int, names: Iterable[str]) -> bytes:
    return f"{rows} {','.join(names)}\n".encode()


def _columns(batch: pa.RecordBatch, names: Iterable[str]) -> Iterator[bytes]:
    """Columns of numbers, one after the other, and where they have nulls."""
    nulls = {}
    for name in names:
        column = batch[name]
        if column.null_count:
            nulls[name] = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist()
            column = column.fill_null(0)
        values = column.to_numpy(zero_copy_only=False)
        yield values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    if nulls:
        yield f"\n{json.dumps(nulls)}".encode()


def _sum(named: bytes, parts: Iterable[bytes | memoryview]) -> Any:
    """The SHA-256 object of a line and of what follows it."""
    found = hashlib.sha256(named)
    for part in parts:
        found.update(part)
    return found
