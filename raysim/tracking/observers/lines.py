"""Observers that print lines: for people on the standard error, for programs on the standard output."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TextIO

from raysim.config import Experiment
from raysim.config.parsing import json_line, values_of
from raysim.rounds.rows import TOTAL, RoundRow, RunSummary
from raysim.tracking.closing import closing_lines
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.display import Pace, Shown
from raysim.tracking.observers.events import FinishEvent, NoteEvent, RoundEvent, RunEvent, StartEvent
from raysim.tracking.units import duration, figure, time_left


class QuietObserver(Observer):
    """Prints warnings and errors alone."""

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """Warnings and errors only."""
        if level != "info":
            print(f"{level}: {text}", file=sys.stderr, flush=True)


class JsonObserver(Observer):
    """Prints one JSON object a line: events `start`, `round`, `note` and `finish`."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Write to `out`, by default the standard output."""
        self._out = out

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The experiment's name and rounds, and the facts."""
        self._say(
            StartEvent(name=experiment.name, rounds=experiment.rounds, after_round=after_round, facts=dict(facts))
        )

    def round(self, row: RoundRow) -> None:
        """The whole row."""
        self._say(RoundEvent(**values_of(row)))

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """The text and its level."""
        self._say(NoteEvent(level=level, text=text))

    def finish(self, summary: RunSummary) -> None:
        """The whole summary."""
        self._say(FinishEvent(**values_of(summary)))

    def _say(self, event: RunEvent) -> None:
        print(json_line({"event": event.event, **values_of(event)}), file=self._out or sys.stdout, flush=True)


class PlainObserver(Observer):
    """Prints a line a round, for logs and pipes."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Write to `out`, by default the standard error."""
        self._out = out
        self._pace = Pace(0, 0)
        self._shown = Shown(Experiment())

    def preparing(self, what: str) -> None:
        """What is being done, with an ellipsis."""
        self._say(f"{what} …")

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The experiment's name and the facts, on a line each."""
        self._pace, self._shown = Pace(experiment.rounds, after_round), Shown(experiment)
        self._say(f"{experiment.name}: {experiment.rounds} rounds")
        for name, value in facts.items():
            self._say(f"  {name}: {value}")

    def round(self, row: RoundRow) -> None:
        """`round 12/100  test/accuracy 0.9312  train/loss 0.2500  10 clients  84 clients/s  0.12 s  10 s left`."""
        self._pace.see(row)
        parts = [f"round {row.round}/{self._pace.rounds}"]
        parts += [f"{name} {figure(value)}" for name, value in row.metrics.items() if name in self._shown]
        parts.append(f"{row.trained} client{'' if row.trained == 1 else 's'}")
        if row.dropped:
            parts.append(f"{row.dropped} dropped")
        parts += self._pace.speeds
        parts.append(duration(row.seconds.get(TOTAL, 0.0)))
        if self._pace.left is not None:
            parts.append(f"{time_left(self._pace.left)} left")
        self._say("  ".join(parts))

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """The text, with its level in front unless it is `info`."""
        self._say(text if level == "info" else f"{level}: {text}")

    def finish(self, summary: RunSummary) -> None:
        """How it ended, and where everything is."""
        for line in closing_lines(summary):
            self._say(line)

    def _say(self, line: str) -> None:
        print(line, file=self._out or sys.stderr, flush=True)
