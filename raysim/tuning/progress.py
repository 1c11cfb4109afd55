"""Progress of a study: a line a trial."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, TypeAlias

from raysim.config.parsing import json_line, values_of
from raysim.errors import ConfigError
from raysim.tracking.units import duration, figure
from raysim.tuning.words import spoken

State = Literal["complete", "pruned", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class TrialLine:
    """A trial that ended.

    Attributes:
        number: of the trial, from 0.
        done: trials that count so far, this one included; of `trials`.
        trials: that the study asks for.
        state: how it ended: `lost` trials are tried again, all others count.
        values: of the objectives, by name; empty unless it is complete.
        params: its values of the keys that are varied.
        rounds: that it trained.
        seconds: that it took.
        best: value and number of the best trial so far, for a single objective.
        reason: why it failed.
    """

    number: int
    done: int
    trials: int
    state: State
    values: Mapping[str, float]
    params: Mapping[str, Any]
    rounds: int
    seconds: float
    best: tuple[float, int] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ConfirmedGain:
    """What the confirmation of a study found.

    Attributes:
        metric: on the test set, after the last round.
        difference: mean over the seeds of the winner less the experiment as it stands.
        interval: of that mean: its lower and its upper end.
    """

    metric: str
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study came to.

    Attributes:
        study: its folder.
        trial: number of the winner.
        values: of its objectives, by name.
        params: its values of the keys that were varied.
        weights: of each client or group by name, where they were varied.
        confirmed: the winner against the experiment as it stands; None where that was left out.
        report: the study's report, if one was written.
    """

    study: Path
    trial: int
    values: Mapping[str, float]
    params: Mapping[str, Any]
    weights: Mapping[str, float] | None
    confirmed: ConfirmedGain | None
    report: Path | None


class StudyProgress(Protocol):
    """Calls come in this order: `start`, then trials and notes, then `finish`."""

    def start(self, facts: Mapping[str, object]) -> None:
        """The study begins, or goes on."""
        ...

    def trial(self, line: TrialLine) -> None:
        """A trial ended."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def finish(self, lines: Sequence[str], result: StudyResult) -> None:
        """The study is over: its result, in words and as values."""
        ...


class QuietStudy:
    """Shows nothing."""

    def start(self, facts: Mapping[str, object]) -> None:
        """Nothing."""

    def trial(self, line: TrialLine) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def finish(self, lines: Sequence[str], result: StudyResult) -> None:
        """Nothing."""


def checked_progress(progress: StudyProgress | None) -> StudyProgress:
    """The progress that is given, or a silent one.

    Raises:
        ConfigError: it has not the methods of a `StudyProgress`.
    """
    if progress is None:
        return QuietStudy()
    if not all(callable(getattr(progress, name, None)) for name in ("start", "trial", "note", "finish")):
        raise ConfigError(
            "progress: expected an object with the methods start, trial, note and finish, as "
            f"raysim.tuning.progress.PlainStudy(), got {type(progress).__name__}"
        )
    return progress


@dataclass
class PlainStudy:
    """A line a trial, on the standard error."""

    out: TextIO = field(default_factory=lambda: sys.stderr)

    def start(self, facts: Mapping[str, object]) -> None:
        """A line for each fact."""
        for name, value in facts.items():
            self.note(f"{name}: {value}")

    def trial(self, line: TrialLine) -> None:
        """`trial 3 (4/50)  complete  validation/accuracy 0.9312  best 0.9400 (trial 1)  20 rounds  1.2 s  lr=0.3`."""
        parts = [f"trial {line.number} ({line.done}/{line.trials})", line.state]
        parts += [f"{name} {figure(value)}" for name, value in line.values.items()]
        if line.best is not None:
            parts.append(f"best {figure(line.best[0])} (trial {line.best[1]})")
        parts += [f"{line.rounds} rounds", duration(line.seconds)]
        shown = [f"{key}={spoken(value)}" for key, value in line.params.items()]
        parts.append("  ".join([*shown[:6], *(["…"] if len(shown) > 6 else [])]))
        if line.reason:
            parts.append(f"({line.reason})")
        self.note("  ".join(parts))

    def note(self, text: str) -> None:
        """The text."""
        print(text, file=self.out, flush=True)

    def finish(self, lines: Sequence[str], result: StudyResult) -> None:
        """All lines."""
        for line in lines:
            self.note(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStart:
    """A study begins, or goes on.

    Attributes:
        facts: for display: `study` (its folder), `varies`, `objective`, `trials`.
    """

    event: Literal["start"] = "start"
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StudyTrial(TrialLine):
    """A trial ended."""

    event: Literal["trial"] = "trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNote:
    """Something worth a line.

    Attributes:
        text: the line.
    """

    event: Literal["note"] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class StudyFinish(StudyResult):
    """The study is over."""

    event: Literal["finish"] = "finish"


StudyEvent: TypeAlias = StudyStart | StudyTrial | StudyNote | StudyFinish
"""A line of `raysim tune --json`."""


@dataclass
class JsonStudy:
    """One JSON object a line, on the standard output: events `start`, `trial`, `note` and `finish`."""

    out: TextIO = field(default_factory=lambda: sys.stdout)

    def start(self, facts: Mapping[str, object]) -> None:
        """The facts."""
        self._say(StudyStart(facts=dict(facts)))

    def trial(self, line: TrialLine) -> None:
        """The whole line."""
        self._say(StudyTrial(**values_of(line)))

    def note(self, text: str) -> None:
        """The text."""
        self._say(StudyNote(text=text))

    def finish(self, lines: Sequence[str], result: StudyResult) -> None:
        """The whole result."""
        self._say(StudyFinish(**values_of(result)))

    def _say(self, event: StudyEvent) -> None:
        print(json_line({"event": event.event, **values_of(event)}), file=self.out, flush=True)
