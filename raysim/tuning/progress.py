"""Progress of a study: a line a trial."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from raysim.errors import ConfigError
from raysim.tracking.log import json_line
from raysim.tracking.units import duration, figure
from raysim.tuning.words import spoken

State = Literal["complete", "pruned", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class TrialLine:
    """A trial that ended.

    Attributes:
        done: trials that count so far, this one included; of `trials`.
        values: of the objectives, by name; empty unless it is complete.
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

    def finish(self, lines: Sequence[str], values: Mapping[str, Any]) -> None:
        """The study is over: its results, in words and as values."""
        ...


class QuietStudy:
    """Shows nothing."""

    def start(self, facts: Mapping[str, object]) -> None:
        """Nothing."""

    def trial(self, line: TrialLine) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def finish(self, lines: Sequence[str], values: Mapping[str, Any]) -> None:
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

    def finish(self, lines: Sequence[str], values: Mapping[str, Any]) -> None:
        """All lines."""
        for line in lines:
            self.note(line)


@dataclass
class JsonStudy:
    """One JSON object a line, on the standard output: events `start`, `trial`, `note` and `finish`."""

    out: TextIO = field(default_factory=lambda: sys.stdout)

    def start(self, facts: Mapping[str, object]) -> None:
        """The facts."""
        self._say("start", {"facts": dict(facts)})

    def trial(self, line: TrialLine) -> None:
        """The whole line."""
        self._say("trial", asdict(line))

    def note(self, text: str) -> None:
        """The text."""
        self._say("note", {"text": text})

    def finish(self, lines: Sequence[str], values: Mapping[str, Any]) -> None:
        """The values."""
        self._say("finish", dict(values))

    def _say(self, event: str, values: Mapping[str, Any]) -> None:
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        print(json_line({"event": event, **plain}), file=self.out, flush=True)
