"""What a check of `raysim doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 1 << 30

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        level: `warn` is slower or smaller than it could be; with `bad` runs will fail.
        what: was checked.
        found: there.
        remedy: what to do; empty where nothing is wrong.
    """

    level: Level
    what: str
    found: str
    remedy: str = ""


def enough(what: str, found: str, amount: int, *, warn: int, bad: int, remedy: str) -> Finding:
    """A finding on an amount that should not be below `warn`, and must not be below `bad`."""
    level: Level = "bad" if amount < bad else "warn" if amount < warn else "ok"
    return Finding(level, what, found, remedy if level != "ok" else "")


def gib(count: int) -> str:
    """Bytes, for people."""
    return f"{count / GIB:.1f} GiB"
