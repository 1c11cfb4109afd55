"""Records of Flower as bytes and back, their digest, and the numbers that are in them.

An encoding is a JSON header and the bytes it points into: the same for the same record, and read without running
anything that a file says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from raysim.adapters.flower.library import library

_WEIGHTS = ("num-examples", "num_examples")
"""What Flower's strategies weight clients by."""
_CLASSIC = ("fitres", "evaluateres", "fitins", "evaluateins")
"""What the records of a classic client begin with."""


def encode(records: Any) -> bytes:
    """A RecordDict as bytes."""
    blobs: list[bytes] = []
    head = {name: _described(record, blobs) for name, record in records.items()}
    text = json.dumps({"records": head, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *blobs])


def decode(data: bytes) -> Any:
    """The RecordDict again."""
    flwr = library()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    blobs, place = [], 8 + size
    for length in head["sizes"]:
        blobs.append(data[place : place + length])
        place += length
    made = flwr.RecordDict()
    for name, (kind, values) in head["records"].items():
        if kind == "arrays":
            arrays = {
                key: flwr.Array(dtype=dtype, shape=tuple(shape), stype=stype, data=blobs[index])
                for key, dtype, shape, stype, index in values
            }
            made[name] = flwr.ArrayRecord(arrays)
        else:
            record = flwr.MetricRecord if kind == "metrics" else flwr.ConfigRecord
            made[name] = record({key: _plain(value, blobs) for key, value in values})
    return made


class Digests:
    """Digests of records; one that goes to many nodes is read once while this object lives."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}

    def of(self, message: Any) -> str:
        """The digest of a message: whom it is for, what it is and what is in it."""
        total = hashlib.sha256()
        data = message.metadata
        total.update(json.dumps([data.dst_node_id, data.message_type, data.group_id]).encode())
        for name, record in message.content.items():
            total.update(name.encode() + b"\0" + self._record(record))
        return total.hexdigest()

    def _record(self, record: Any) -> bytes:
        known = self._known.get(id(record))
        if known is None:
            found = hashlib.sha256()
            blobs: list[bytes] = []
            found.update(json.dumps(_described(record, blobs)).encode())
            for blob in blobs:
                found.update(blob)
            known = self._known[id(record)] = (record, found.digest())
        return known[1]


def size_of(records: Any) -> int:
    """Bytes of the arrays and the other values in a RecordDict; 8 for a number."""
    total = 0
    for record in records.values():
        if isinstance(record, library().ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        else:
            total += sum(len(key) + _bytes_of(value) for key, value in record.items())
    return total


def _bytes_of(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_bytes_of, value))
    return len(value) if isinstance(value, bytes | str) else 8


def numbers(records: Any) -> tuple[dict[str, float], float | None]:
    """The numbers in a reply by name, and its weight; metrics of classic clients are configuration records."""
    flwr = library()
    found: dict[str, float] = {}
    weight: float | None = None
    for name, record in records.items():
        if not isinstance(record, flwr.MetricRecord) and name.partition(".")[0] not in _CLASSIC:
            continue
        if isinstance(record, flwr.ArrayRecord) or name.endswith(".status"):
            continue
        for key, value in record.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if key in _WEIGHTS:
                weight = float(value)
            else:
                found[key] = float(value)
    return found, weight


def round_of(message: Any) -> int | None:
    """The round that a message says it is of, in a record or as its group; None where it says nothing."""
    for record in message.content.values():
        if isinstance(record, library().ConfigRecord):
            value = record.get("server-round", record.get("server_round"))
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    group = message.metadata.group_id
    return int(group) if isinstance(group, str) and group.isdigit() else None


def arrays_of(records: Any) -> dict[str, Any] | None:
    """The first ArrayRecord as NumPy arrays by name; None where there is none."""
    for record in records.values():
        if isinstance(record, library().ArrayRecord) and record:
            return as_numpy(record)
    return None


def as_numpy(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """An ArrayRecord as NumPy arrays by name."""
    return {name: array.numpy() for name, array in arrays.items()}


def _described(record: Any, blobs: list[bytes]) -> tuple[str, list[Any]]:
    flwr = library()
    if isinstance(record, flwr.ArrayRecord):
        values = []
        for key, array in record.items():
            values.append([key, array.dtype, list(array.shape), array.stype, len(blobs)])
            blobs.append(array.data)
        return "arrays", values
    kind = "metrics" if isinstance(record, flwr.MetricRecord) else "config"
    return kind, [[key, _jsonable(value, blobs)] for key, value in record.items()]


def _jsonable(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, bytes):
        blobs.append(value)
        return {"blob": len(blobs) - 1}
    if isinstance(value, list):
        return [_jsonable(one, blobs) for one in value]
    return value


def _plain(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, dict):
        return blobs[value["blob"]]
    if isinstance(value, list):
        return [_plain(one, blobs) for one in value]
    return value
