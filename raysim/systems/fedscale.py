"""Converts traces of FedScale (Lai et al. 2022) into records of devices and of windows of availability.

    python -m raysim.systems.fedscale devices client_device_capacity devices.parquet
    python -m raysim.systems.fedscale windows client_behave_trace windows.parquet

Both are mappings by client, as JSON or in the pickles that FedScale distributes, which are read without unpickling
them. `computation` are milliseconds of inference for a sample, of which training takes three times as much;
`communication` are kilobits a second, up and down. So speeds count samples: set `systems.unit: samples`. `active` and
`inactive` are the beginnings and ends of windows in seconds, which begin again after `finish_time`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from raysim.errors import ConfigError, RaysimError
from raysim.files import replacing
from raysim.systems.plain_values import read_plain

_TRAINING = 3.0
"""Times the inference of a sample that a step takes of it, forward and backward."""
_BYTES_OF_KBIT = 1024 / 8
_WINDOWS = {"device": pa.int64(), "start": pa.float64(), "end": pa.float64()}


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["devices", "windows"])
    parser.add_argument("trace", help="FedScale's file")
    parser.add_argument("record", help="what to write: .parquet, or CSV")
    given = parser.parse_args(arguments)
    try:
        trace = read_trace(given.trace)
        table = devices(trace, given.trace) if given.kind == "devices" else windows(trace, given.trace)
        write(table, Path(given.record))
    except RaysimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.record}: {table.num_rows:,} rows")
    return 0


def read_trace(path: str) -> Mapping[Any, Mapping[str, Any]]:
    """FedScale's mapping by client.

    Raises:
        ConfigError: no such file, or it holds something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{path}: no such file")
    content = file.read_bytes()
    try:
        trace = json.loads(content) if content.lstrip()[:1] == b"{" else read_plain(content)
    except ValueError as error:
        raise ConfigError(f"{path}: neither JSON nor a pickle of plain values: {error}") from None
    if not isinstance(trace, dict) or not trace or not all(isinstance(one, dict) for one in trace.values()):
        raise ConfigError(f"{path}: expected a mapping with an entry for each client")
    return trace


def devices(trace: Mapping[Any, Mapping[str, Any]], path: str) -> pa.Table:
    """A record of devices, `systems.fleet.path`, with speeds in samples."""
    found: dict[str, list[float]] = {"device": [], "speed": [], "upload": [], "download": []}
    for device, (client, one) in enumerate(trace.items()):
        milliseconds, kilobits = (_number(one, name, client, path) for name in ("computation", "communication"))
        if milliseconds <= 0 or kilobits <= 0:
            raise ConfigError(f"{path}: client {client}: computation and communication must be above 0")
        values = device, 1000 / (_TRAINING * milliseconds), kilobits * _BYTES_OF_KBIT, kilobits * _BYTES_OF_KBIT
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    return pa.table(found | {"device": pa.array(found["device"], pa.int64())})


def windows(trace: Mapping[Any, Mapping[str, Any]], path: str) -> pa.Table:
    """A record of windows, `systems.availability.path`. Clients that are never there are left out."""
    found: dict[str, list[float]] = {name: [] for name in _WINDOWS}
    device = 0
    for client, one in trace.items():
        starts, ends = one.get("active"), one.get("inactive")
        if not isinstance(starts, list) or not isinstance(ends, list) or len(starts) != len(ends):
            raise ConfigError(f"{path}: client {client}: expected lists 'active' and 'inactive' of one length")
        for start, end in zip(starts, ends, strict=True):
            for name, value in zip(found, (device, start, end), strict=True):
                found[name].append(value)
        device += bool(starts)
    return pa.table({name: pa.array(found[name], kind) for name, kind in _WINDOWS.items()})


def write(table: pa.Table, path: Path) -> None:
    """Write a record, whole or not at all."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(table, temporary)
        else:
            pc.write_csv(table, temporary)


def _number(one: Mapping[str, Any], name: str, client: Any, path: str) -> float:
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{path}: client {client}: expected a number for {name!r}")
    return float(value)


if __name__ == "__main__":
    sys.exit(main())
