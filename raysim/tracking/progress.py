"""Telling people, or programs, how a run goes: people on the standard error, programs on the standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Literal, Protocol, TextIO

from raysim.config import Experiment
from raysim.rounds.rows import TOTAL, RoundRow, RunSummary
from raysim.tracking.closing import closing_lines
from raysim.tracking.headline import headline_metric, improves
from raysim.tracking.log import json_line
from raysim.tracking.metric_names import parts_of
from raysim.tracking.units import duration, figure, rate, time_left

Mode = Literal["auto", "plain", "json", "quiet"]
NoteLevel = Literal["info", "warning", "error"]


class Progress(Protocol):
    """What a run tells while it goes on. Calls come in this order: `preparing` where something takes seconds before the
    run begins, `start`, then rounds and notes, then `finish`.

    `finish` is called however the run ends, and puts the terminal back in order. Nothing here may raise because of an
    odd value (a NaN metric, a round without any metric): a display never stops a run.
    """

    def preparing(self, what: str) -> None:
        """Something is about to be done that may take seconds: `building the shards`."""
        ...

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The run begins; `facts` are shown as they are, in order. A resumed run has `after_round` rounds already."""
        ...

    def round(self, row: RoundRow) -> None:
        """A round was committed."""
        ...

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """Something worth a line between the rounds."""
        ...

    def finish(self, summary: RunSummary) -> None:
        """The run is over."""
        ...


def progress_for(mode: Mode = "auto") -> Progress:
    """The display for a mode; `auto` is live in a terminal and a plain line per round elsewhere."""
    if mode == "json":
        return JsonProgress()
    if mode == "quiet":
        return QuietProgress()
    if mode == "auto" and sys.stderr.isatty():
        from raysim.tracking.terminal import RichProgress

        return RichProgress()
    return PlainProgress()


class QuietProgress:
    """Says only what went wrong."""

    def preparing(self, what: str) -> None:
        """Nothing."""

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """Nothing."""

    def round(self, row: RoundRow) -> None:
        """Nothing."""

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """Warnings and errors only."""
        if level != "info":
            print(f"{level}: {text}", file=sys.stderr, flush=True)

    def finish(self, summary: RunSummary) -> None:
        """Nothing."""


class JsonProgress:
    """One JSON object a line: events `start`, `round`, `note` and `finish`."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Write to `out`, by default the standard output."""
        self._out = out

    def preparing(self, what: str) -> None:
        """Nothing: the first event is always `start`."""

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The experiment's name and rounds, and the facts."""
        self._say(
            "start", {"name": experiment.name, "rounds": experiment.rounds, "after_round": after_round, "facts": facts}
        )

    def round(self, row: RoundRow) -> None:
        """The whole row."""
        self._say("round", _fields(row))

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """The text and its level."""
        self._say("note", {"level": level, "text": text})

    def finish(self, summary: RunSummary) -> None:
        """The whole summary."""
        self._say("finish", _fields(summary))

    def _say(self, event: str, values: Mapping[str, object]) -> None:
        print(json_line({"event": event, **values}), file=self._out or sys.stdout, flush=True)


class PlainProgress:
    """A line for each round, for logs and pipes."""

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
        parts.append(f"{rate(self._pace.clients_per_second)} clients/s")
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


class Shown:
    """Which of a round's metrics are worth room in a terminal; the report has all.

    Of the many summaries over clients only the worst tenth and who is worse off than alone, and no class by itself;
    what the run stops by in any case.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._asked_for = experiment.stop.metric

    def __contains__(self, metric: str) -> bool:
        parts = parts_of(metric)
        if metric == self._asked_for:
            return True
        if not parts.summary:
            return not parts.of_class
        return parts.summary in ("worst10", "below_local") and parts.family != "loss" and not parts.of_class


class Pace:
    """How fast a run goes and how long it has left, from the rounds seen in this sitting."""

    def __init__(self, rounds: int, after_round: int) -> None:
        """A run of so many rounds, of which `after_round` are done."""
        self.rounds = rounds
        self.done = after_round
        self._first = after_round
        self._clients = 0
        self._since = time.monotonic()

    def see(self, row: RoundRow) -> None:
        """Count a committed round."""
        self.done = row.round
        self._clients += row.trained

    @property
    def clients_per_second(self) -> float:
        """Clients trained a second by the clock."""
        return self._clients / max(time.monotonic() - self._since, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds until the last round at the pace so far; None before the first round and after the last."""
        seen, left = self.done - self._first, self.rounds - self.done
        if seen <= 0 or left <= 0:
            return None
        return (time.monotonic() - self._since) / seen * left


class Best:
    """The headline metric of a run as rounds come in, and its best value so far."""

    def __init__(self, experiment: Experiment) -> None:
        """Nothing measured yet."""
        self._experiment = experiment
        self.metric: str | None = None
        self.last: float | None = None
        self.best: float | None = None
        self.round = 0

    def see(self, row: RoundRow) -> None:
        """Take the round's value, if it has one. The first round that was evaluated decides what is looked at."""
        found = headline_metric(row.metrics, self._experiment)
        if found is not None and (self.metric is None or self.metric.startswith("train/")) and found != self.metric:
            self.metric, self.best = found, None
        if self.metric is None or self.metric not in row.metrics:
            return
        self.last = row.metrics[self.metric]
        if improves(self.metric, self.last, self.best):
            self.best, self.round = self.last, row.round


def _fields(value: RoundRow | RunSummary) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
