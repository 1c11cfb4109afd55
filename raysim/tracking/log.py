"""The run's log: one JSON object a line, each written out at once."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from raysim.config.parsing import json_line, parse_json
from raysim.files import storing

Level = Literal["info", "warning", "error"]
STARTED = "started"
"""The event at the beginning of every sitting of a run."""

FINISHED = "finished"
"""The event of a run that ended on purpose; its field `reason` says why."""

_TAIL = 1 << 16
"""Bytes of the end of a log."""

_OWN_KEYS = frozenset({"time", "level", "event"})


class EventLog:
    """Appends events to `log.jsonl`: `{"time": …, "level": "warning", "event": "client dropped", "client": 17}`."""

    def __init__(self, path: Path) -> None:
        """Open for appending; a line that a kill left unfinished is closed first, so that the next one is readable.

        Raises:
            StorageError: the disk refuses. So may every event; the log then ends with the one before.
        """
        self._path = path
        with storing(path):
            self._file = path.open("a+b", buffering=0)
            if self._file.seek(0, 2) and not _ends_with_newline(path):
                self._append(b"\n")

    def info(self, event: str, /, **fields: Any) -> None:
        """A normal event."""
        self._write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something worth a look."""
        self._write("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Why the run ended early."""
        self._write("error", event, fields)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, level: Level, event: str, fields: Mapping[str, Any]) -> None:
        if not _OWN_KEYS.isdisjoint(fields):
            raise ValueError(f"a field cannot be named {sorted(_OWN_KEYS & fields.keys())}")
        time = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        line = json_line({"time": time, "level": level, "event": event, **fields}) + "\n"
        with storing(self._path):
            self._append(line.encode())

    def _append(self, text: bytes) -> None:
        """All of it or nothing: a disk that is almost full takes a part."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            while text:
                text = text[self._file.write(text) or 0 :]
        except OSError:
            self._file.truncate(end)
            raise


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a log in order; lines that are not whole are passed over. Nothing if there is no log."""
    try:
        lines = path.open("rb")
    except FileNotFoundError:
        return
    with lines:
        yield from _events(lines)


def last_events(path: Path, count: int) -> list[dict[str, Any]]:
    """At most the last `count` events, read from the last `_TAIL` bytes alone; nothing if there is no log."""
    try:
        log = path.open("rb")
    except FileNotFoundError:
        return []
    with log:
        begin = max(0, log.seek(0, os.SEEK_END) - _TAIL)
        log.seek(begin)
        lines = log.read(_TAIL).splitlines()[1 if begin else 0 :]  # the first one may be half a line
    return list(_events(lines[-count:]))


def reason_after(event: Mapping[str, Any], reason: str | None) -> str | None:
    """Why the run has ended, once this event is read; None while a sitting of it goes on.

    Args:
        event: of a log.
        reason: after the events before it.
    """
    if event.get("event") == STARTED:
        return None  # an earlier sitting's end is not this one's
    if event.get("event") == FINISHED:
        return str(event.get("reason", "")) or None
    return str(event.get("event")) if event.get("level") == "error" else reason


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = parse_json(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"
