"""Recorded devices and windows of availability, read from CSV or Parquet. Nothing is unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from raysim.arrays import Bools, Float64, Int64
from raysim.config.systems import AvailabilityTraceConfig, SystemsConfig, TraceFleetConfig
from raysim.errors import ConfigError

DEVICE_COLUMNS = ("speed", "upload", "download", "latency", "deviation")
"""Of a record of devices, beside `device`; all but `speed` may be missing."""
_POSITIVE = ("speed", "upload", "download")


@dataclass(frozen=True, slots=True, eq=False)
class RecordedWindows:
    """Windows of several devices, one device after the other, each device's by rising time.

    Attributes:
        start, end: of each window, seconds, `[w]`.
        first: place of each device's first window, `[devices + 1]`.
        period: seconds after which the record begins again.
    """

    start: Float64
    end: Float64
    first: Int64
    period: float

    @property
    def devices(self) -> int:
        """Number of devices."""
        return len(self.first) - 1


def read_devices(path: str) -> dict[str, Float64]:
    """A column for each of `DEVICE_COLUMNS` that the record has, `[devices]` each, by device.

    Raises:
        ConfigError: no such file, no speeds, a value missing or not above 0, or devices that are not 0, 1, 2, ….
    """
    where = "systems.fleet.path"
    table = _read(path, where, ("device", "speed"), ("device", *DEVICE_COLUMNS))
    device = _whole(table, "device", path, where)
    order = np.argsort(device, kind="stable")
    _complete(device[order], path, where, once=True)
    found = {}
    for name in table.column_names:
        if name != "device":
            found[name] = _numbers(table, name, path, where)[order]
            bad = found[name] <= 0 if name in _POSITIVE else found[name] < 0
            if bad.any():
                least = "above 0" if name in _POSITIVE else "0 or more"
                raise ConfigError(
                    f"{where}: {path}: device {int(np.argmax(bad))} has {name} {found[name][np.argmax(bad)]:g}; "
                    f"expected a number {least}"
                )
    return found


def read_windows(path: str, period: float | None) -> RecordedWindows:
    """The windows of a record.

    Raises:
        ConfigError: no such file, a value missing or negative, an end that is not after its start, two windows of a
            device that overlap, a window that goes beyond the period, or devices that are not 0, 1, 2, ….
    """
    where = "systems.availability.path"
    columns = ("device", "start", "end")
    table = _read(path, where, columns, columns)
    device = _whole(table, "device", path, where)
    start, end = (_numbers(table, name, path, where) for name in columns[1:])
    order = np.lexsort((start, device))
    device, start, end = device[order], start[order], end[order]
    _complete(device, path, where, once=False)

    def refuse(bad: Bools, what: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise ConfigError(f"{where}: {path}: device {device[row]}: {what.format(start=start[row], end=end[row])}")

    refuse(start < 0, "a window starts at {start:g}, a negative time; expected seconds from 0")
    refuse(end <= start, "a window ends at {end:g}, which is not after its start at {start:g}")
    overlaps = np.zeros(len(device), dtype=bool)
    overlaps[1:] = (device[1:] == device[:-1]) & (start[1:] < end[:-1])
    refuse(overlaps, "the window from {start:g} overlaps the one before it; merge them")
    last = float(end.max())
    if period is not None:
        refuse(end > period, f"a window ends at {{end:g}}, after the period of {period:g} s; raise period")
    first = np.searchsorted(device, np.arange(device[-1] + 2))
    return RecordedWindows(start, end, first, last if period is None else period)


def trace_bits(config: SystemsConfig) -> dict[str, str]:
    """What a run's bits depend on beside its configuration: the contents of each record, as a hash."""
    fleet, windows, found = config.fleet, config.availability, {}
    if isinstance(fleet, TraceFleetConfig):
        found["systems.fleet.path"] = _hash(fleet.path)
    if isinstance(windows, AvailabilityTraceConfig):
        found["systems.availability.path"] = _hash(windows.path)
    return found


def _hash(path: str) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read(path: str, where: str, needed: Sequence[str], known: Sequence[str]) -> pa.Table:
    """The file's table, which has the needed columns, no unknown ones, and a row at least."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{where}: {path}: no such file")
    try:
        table = pq.read_table(file) if file.suffix == ".parquet" else pc.read_csv(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(
            f"{where}: {path}: not a readable CSV or Parquet file: {str(error).splitlines()[0]}"
        ) from None
    for name in needed:
        if name not in table.column_names:
            raise ConfigError(f"{where}: {path}: there is no column {name!r}; columns are {', '.join(known)}")
    unknown = [name for name in table.column_names if name not in known]
    if unknown:
        raise ConfigError(f"{where}: {path}: unknown column {unknown[0]!r}; columns are {', '.join(known)}")
    if not table.num_rows:
        raise ConfigError(f"{where}: {path}: there are no rows")
    return table


def _numbers(table: pa.Table, name: str, path: str, where: str) -> Float64:
    column = table[name]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ConfigError(f"{where}: {path}: column {name!r} holds {column.type}; expected numbers")
    found: Float64 = column.to_numpy().astype(np.float64)
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found)))
        raise ConfigError(f"{where}: {path}: row {row + 1} has no number for {name!r}; fill the gap")
    return found


def _whole(table: pa.Table, name: str, path: str, where: str) -> Int64:
    found = _numbers(table, name, path, where)
    if (found != np.floor(found)).any() or (found < 0).any() or (found > 2**53).any():
        raise ConfigError(f"{where}: {path}: column {name!r} must hold whole numbers from 0")
    return found.astype(np.int64)


def _complete(device: Int64, path: str, where: str, *, once: bool) -> None:
    """Refuse a record whose devices, sorted, have gaps."""
    distinct = np.unique(device)
    if distinct[0] != 0 or distinct[-1] != len(distinct) - 1:
        missing = int(np.argmin(distinct == np.arange(len(distinct))))
        raise ConfigError(
            f"{where}: {path}: there is no device {missing}, and one {distinct[-1]}; number devices from 0 without gaps"
        )
    if once and len(distinct) < len(device):
        twice = int(device[1:][device[1:] == device[:-1]][0])
        raise ConfigError(f"{where}: {path}: device {twice} is there twice; give each one row")
