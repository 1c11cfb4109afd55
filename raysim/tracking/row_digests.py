"""Digests of what a run recorded of a round: the same of rows on their way to the tables and of rows read from them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raysim.rounds.rows import CLIENT_SCHEMA, EXACT, EXACT_OF_CLIENTS, ROUND_FIELDS, VIRTUAL_SCHEMA

_FIXED = {field.name: float if pa.types.is_floating(field.type) else int for field in ROUND_FIELDS}
_REST = tuple(name for name in _FIXED if name not in EXACT)
_EXACT_OF_CLIENTS = (*EXACT_OF_CLIENTS, *VIRTUAL_SCHEMA.names)
_REST_OF_CLIENTS = tuple(name for name in CLIENT_SCHEMA.names if name not in ("round", *EXACT_OF_CLIENTS))
_LITTLE = {np.dtype(kind).char: np.dtype(kind).newbyteorder("<") for kind in ("i4", "i8", "f4", "f8")}
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

    The first is of JSON with sorted names, in which a float is written so that it is read to the same bits.
    """
    metrics = {name: float(value) for name, value in row.items() if name not in _FIXED and value is not None}
    exact = {name: _FIXED[name](row[name]) for name in EXACT}
    text = json.dumps(exact | metrics, sort_keys=True)
    rest = struct.pack(f"<{len(_REST)}d", *(row[name] for name in _REST))
    return hashlib.sha256(text.encode()).hexdigest(), hashlib.sha256(rest).hexdigest()[:_SHORT]


def of_clients(clients: pa.RecordBatch) -> tuple[str, str]:
    """`RowDigests.clients` and `clients_rest` of the rows of a round, in the order of its positions."""
    exact = [name for name in _EXACT_OF_CLIENTS if name in clients.schema.names]
    return _of_columns(clients, exact), _of_columns(clients, _REST_OF_CLIENTS)[:_SHORT]


def _of_columns(batch: pa.RecordBatch, names: Sequence[str]) -> str:
    """Of columns one after the other: little-endian numbers, texts as JSON; of a column with nulls, where they are."""
    found = hashlib.sha256(f"{len(batch)} {','.join(names)}".encode())
    for name in names:
        column = batch[name]
        nulls = column.null_count
        found.update(b"\n%d\n" % nulls)
        if nulls == len(batch):
            continue
        if name == "dropped":
            found.update(json.dumps(column.to_pylist()).encode())
            continue
        if nulls:
            found.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes())
        values = column.to_numpy(zero_copy_only=False)
        found.update(values.astype(_LITTLE[values.dtype.char], copy=False).data)
    return found.hexdigest()
