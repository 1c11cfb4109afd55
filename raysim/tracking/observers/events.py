"""The lines that `raysim run --json` and `resume --json` print: their classes are their schema, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.observers.base import NoteLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEvent:
    """A run begins, or goes on.

    Attributes:
        name: of the experiment.
        rounds: that the experiment asks for, those before a resume included.
        after_round: rounds that a resumed run already has; 0 for a new one.
        facts: for display: `run` (the run directory), `data`, `model`, `workers`, `engine`, and what else is known.
    """

    event: Literal["start"] = "start"
    name: str
    rounds: int
    after_round: int
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RoundEvent(RoundRow):
    """A round was committed."""

    event: Literal["round"] = "round"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteEvent:
    """A line worth reading between the rounds.

    Attributes:
        level: how grave it is.
        text: the line.
    """

    event: Literal["note"] = "note"
    level: NoteLevel
    text: str


@dataclass(frozen=True, slots=True)
class FinishEvent(RunSummary):
    """The run is over."""

    event: Literal["finish"] = "finish"


RunEvent: TypeAlias = StartEvent | RoundEvent | NoteEvent | FinishEvent
"""One line."""
