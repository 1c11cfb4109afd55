"""Results of long benchmarks, kept one by one, so that an interrupted script goes on where it was."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from raysim.files import write_text

RESULTS = Path(__file__).parent / "results"


class Kept:
    """The measurements of one benchmark, `benchmarks/results/<name>.json`, by key."""

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.file = folder / f"{name}.json"

    def all(self) -> dict[str, Any]:
        """Everything measured so far."""
        found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        return found

    def put(self, key: str, value: Any) -> None:
        """Keep a measurement."""
        write_text(self.file, json.dumps({**self.all(), key: value}, indent=1, sort_keys=True) + "\n")

    def of(self, key: str, measure: Callable[[], Any]) -> Any:
        """A measurement, made if it was not before."""
        known = self.all()
        if key not in known:
            began = time.perf_counter()
            self.put(key, measure())
            print(f"{key}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        return self.all()[key]

    def page(self, text: str) -> None:
        """Write the table beside the measurements, and print it."""
        write_text(self.file.with_suffix(".md"), text)
        print(text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def mean(values: Iterable[float]) -> float:
    """The mean; NaN of nothing."""
    found = list(values)
    return statistics.fmean(found) if found else float("nan")


def signs(differences: Iterable[float]) -> str:
    """How many paired differences go which way: `4 up, 1 down`."""
    found = list(differences)
    up, down = sum(one > 0 for one in found), sum(one < 0 for one in found)
    return f"{up} up, {down} down"
