"""Converts the phones' states that FLASH distributes (Yang et al. 2021) into a record of windows of availability.

    python -m raysim.systems.flash user_behavior_tiny.json windows.parquet

The file is a mapping by phone, as JSON; `messages` of a phone are lines of a time, a tab and a state. A phone is there
while it charges, is on Wi-Fi, and is locked or has its screen off. Seconds count from the midnight before the first
message of all. Phones with lines that say something else are left out, as are those that are never there; devices are
numbered in the order of the file.

Yang, Wang, Xu, Chen, Bian, Liu & Liu, "Characterizing impacts of heterogeneity in federated learning upon large-scale
smartphone data", WWW 2021, section 3.2 (which phones may train).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysim.errors import ConfigError, RaysimError
from raysim.systems.fedscale import write

_SWITCHES = {
    "battery_charged_on": ("charging", True),
    "battery_charged_off": ("charging", False),
    "wifi": ("wifi", True),
    **dict.fromkeys(("unknown", "2g", "3g", "4g", "5g"), ("wifi", False)),
    "screen_off": ("dark", True),
    "screen_on": ("dark", False),
    "screen_lock": ("locked", True),
    "screen_unlock": ("locked", False),
}
_COLUMNS = {"device": pa.int64(), "start": pa.float64(), "end": pa.float64()}

Event = tuple[datetime, str]


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", help="FLASH's file")
    parser.add_argument("record", help="what to write: .parquet, or CSV")
    given = parser.parse_args(arguments)
    try:
        table, left_out = windows(read_phones(given.trace), given.trace)
        write(table, Path(given.record))
    except RaysimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.record}: {table.num_rows:,} rows")
    if left_out:
        name, reason = next(iter(left_out.items()))
        print(f"left out: {len(left_out):,} phones, the first {name!r}: {reason}")
    return 0


def read_phones(path: str) -> Mapping[str, Mapping[str, Any]]:
    """FLASH's mapping by phone.

    Raises:
        ConfigError: no such file, or it holds something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        phones = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    if not isinstance(phones, dict) or not phones or not all(isinstance(one, dict) for one in phones.values()):
        raise ConfigError(f"{path}: expected a mapping with an entry for each phone")
    return phones


def windows(phones: Mapping[str, Mapping[str, Any]], path: str) -> tuple[pa.Table, dict[str, str]]:
    """A record of windows, `systems.availability.path`, and why phones are left out.

    Raises:
        ConfigError: no phone is ever there.
    """
    left_out: dict[str, str] = {}
    found: list[list[tuple[datetime, datetime]]] = []
    first = datetime.max
    for name, phone in phones.items():
        try:
            events = _events(phone.get("messages"))
        except ValueError as error:
            left_out[name] = str(error)
            continue
        first = min([first, *(time for time, _ in events[:1])])
        if spans := list(_windows(events)):
            found.append(spans)
        else:
            left_out[name] = "it is never there"
    if not found:
        name, reason = next(iter(left_out.items()))
        raise ConfigError(f"{path}: no phone is ever there; the first, {name!r}: {reason}")
    midnight = datetime(first.year, first.month, first.day)
    rows = [
        (device, (start - midnight).total_seconds(), (end - midnight).total_seconds())
        for device, spans in enumerate(found)
        for start, end in spans
    ]
    columns = zip(*rows, strict=True)
    table = pa.table({name: pa.array(own, kind) for (name, kind), own in zip(_COLUMNS.items(), columns, strict=True)})
    return table, left_out


def _events(messages: Any) -> list[Event]:
    """The states of a phone by their times; of one time in the order of the file.

    Raises:
        ValueError: a line says something else.
    """
    if not isinstance(messages, str):
        raise ValueError("it has no 'messages'")
    found: list[Event] = []
    for number, line in enumerate(messages.splitlines(), start=1):
        if not line.strip():
            continue
        time, _, state = (part.strip() for part in line.partition("\t"))
        state = state.lower()
        if state not in _SWITCHES and not state.endswith("%"):
            raise ValueError(f"line {number}: unknown state {state!r}")
        try:
            found.append((datetime.strptime(time, "%Y-%m-%d %H:%M:%S"), state))
        except ValueError:
            raise ValueError(f"line {number}: {time!r} is no time") from None
    return sorted(found, key=lambda event: event[0])


def _windows(events: Sequence[Event]) -> Iterator[tuple[datetime, datetime]]:
    """When a phone is there; the last window ends with its last message."""
    now = dict.fromkeys(("charging", "wifi", "dark", "locked"), False)
    begun: datetime | None = None
    for time, state in events:
        if state in _SWITCHES:
            switch, on = _SWITCHES[state]
            now[switch] = on
        there = now["charging"] and now["wifi"] and (now["dark"] or now["locked"])
        if there and begun is None:
            begun = time
        elif begun is not None and not there:
            if time > begun:
                yield begun, time
            begun = None
    if begun is not None and events[-1][0] > begun:
        yield begun, events[-1][0]


if __name__ == "__main__":
    sys.exit(main())
