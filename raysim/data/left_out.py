"""What a build left out: samples, owners and classes of the source that no client trains on, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["samples", "owners", "classes", "documents", "tokens"]

SHOWN = 5
"""Names in a message; of more, the rest are counted."""
GRAVE = 0.1
"""Share of samples left out by accident above which it is a warning."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One step of a build, and what it left out of one part of the data."""

    step: str
    """Key of the configuration at work, such as `data.partition`."""
    part: str
    """`training`, `validation`, `test`, or `source` before it is split."""
    count: int
    """How many were left out."""
    of: int
    """How many there were before the step."""
    unit: Unit
    """Of both counts."""
    why: str
    """The reason, and what was lost as a whole."""
    grave: bool = False
    """Whether people must be warned: much is gone that the configuration does not name."""

    def __str__(self) -> str:
        return f"{self.step}: {self.count:,} of {self.of:,} {self.part} {self.unit} left out: {self.why}"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LeftOut:
        """What `dataclasses.asdict` gave; a TypeError if it is something else."""
        return cls(**values)


def listed(names: Iterable[object]) -> str:
    """At most `SHOWN` names, separated by commas."""
    every = [str(name) for name in names]
    more = f" and {len(every) - SHOWN:,} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
