"""Several observers told as one; one that fails is dropped."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.lines import QuietObserver
from raysim.user_code import told, user_code


@dataclass(frozen=True, slots=True)
class Failure:
    """An observer that raised and was dropped.

    Attributes:
        observer: the name of its class.
        call: the method that raised.
        error: type and message, in one line.
        traceback: the traceback as Python prints it.
    """

    observer: str
    call: str
    error: str
    traceback: str

    def __str__(self) -> str:
        return f"observer {self.observer} failed in `{self.call}` and gets no further calls ({self.error})"


class Fanout(Observer):
    """Passes every call to each observer in turn.

    The first call of an observer that raises is its last: it is dropped, the others get a warning that names it, and
    the run's log gets the traceback. Once no observer is left, and after `finish`, warnings go to the standard error.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        """Observers in the order in which they are told."""
        self._observers = list(observers)
        self._failures: list[Failure] = []
        self._log: Callable[[Failure], object] | None = None
        self._finished = False

    def log_failures(self, log: Callable[[Failure], object]) -> None:
        """Call `log` for every failure, including those before this call."""
        self._log = log
        while self._failures:
            log(self._failures.pop(0))

    def preparing(self, what: str) -> None:
        self._tell("preparing", what)

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        self._tell("start", experiment, facts, after_round=after_round)

    def round(self, row: RoundRow) -> None:
        self._tell("round", row)

    @property
    def sees_clients(self) -> bool:
        """Whether an observer is told how clients are distributed."""
        return any(_sees_clients(one) for one in self._observers)

    def clients(self, round: int, values: Mapping[str, Float64]) -> None:
        self._tell("clients", round, values, to=_sees_clients)

    def note(self, text: str, level: NoteLevel = "info") -> None:
        if self._observers and not self._finished:
            self._tell("note", text, level)
        else:
            with suppress(Exception):  # a closed terminal
                QuietObserver().note(text, level)

    def finish(self, summary: RunSummary) -> None:
        self._finished = True
        self._tell("finish", summary)

    def _tell(
        self, call: str, *arguments: Any, to: Callable[[Observer], bool] = lambda one: True, **named: Any
    ) -> None:
        failures = []
        for observer in filter(to, tuple(self._observers)):
            try:
                getattr(observer, call)(*arguments, **named)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and user_code.interruptible:
                    raise
                self._observers = [one for one in self._observers if one is not observer]
                trace = "".join(traceback.format_exception(error))
                failures.append(Failure(type(observer).__name__, call, told(error), trace))
        for failure in failures:  # once the others have had the call itself
            self._report(failure)

    def _report(self, failure: Failure) -> None:
        if self._log is None:
            self._failures.append(failure)
        else:
            self._log(failure)
        self.note(str(failure), "warning")


def _sees_clients(observer: Observer) -> bool:
    own = getattr(type(observer), "clients", None)
    return own is not None and own is not Observer.clients
