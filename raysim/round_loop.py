"""The round loop: draw cohorts, have them worked on, commit a finished round at a time."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import pyarrow as pa

from raysim.evaluation.confused import confusion
from raysim.evaluation.summaries import own_metrics, summarise
from raysim.execution.preparation.prepare import Prepared
from raysim.opening import Opening
from raysim.privacy import EpsilonCurve
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.results import RoundDone, RoundFacts
from raysim.rounds.rows import RoundRow, with_virtual
from raysim.rounds.task import RoundWork
from raysim.selection import save_state
from raysim.selection.oort import Oort
from raysim.selection.waves import planned_rounds, selected_round
from raysim.systems import TimedStep, VirtualClock
from raysim.tracking import ClientMetrics, ClientSet, GeneratedText
from raysim.tracking.report.markup import table
from raysim.tracking.units import figure


@dataclass(frozen=True, slots=True)
class Round:
    """A committed round.

    Attributes:
        number: from 1.
        metrics: what was measured, by name.
        row: all that is recorded of it.
        clients: a row for each client of the cohort, by ascending id.
    """

    number: int
    metrics: Mapping[str, float]
    row: RoundRow
    clients: pa.RecordBatch

    def _repr_html_(self) -> str:
        rows = [(name, figure(value)) for name, value in self.metrics.items()]
        return table((f"round {self.number}", f"{self.row.trained} clients"), rows).text


def metrics_of(
    facts: RoundFacts, measured: Mapping[ClientSet, ClientMetrics], prepared: Prepared, epsilon: EpsilonCurve | None
) -> dict[str, float]:
    """All that is recorded as measured in a round: by the server's step, by its evaluation, and epsilon after it.

    Args:
        measured: `own_metrics` of what was evaluated.
    """
    found = {**facts.row.metrics, **summarise(facts.evaluated, prepared.metrics, measured, prepared.local)}
    if prepared.privacy is None or prepared.privacy.metric is None or epsilon is None:
        return found
    return {**found, prepared.privacy.metric: epsilon.at(facts.row.round)}


def timed(clock: VirtualClock | None, clients: pa.RecordBatch) -> tuple[dict[str, float], pa.RecordBatch]:
    """What the clock's next round took in virtual time, and its clients with what their trips did."""
    if clock is None:
        return {}, clients
    step, metrics = clock.next()
    trips = clock.of_clients(step)
    if not clients.num_rows:  # no client that returned has weight
        trips = {name: values[:0] for name, values in trips.items()}
    return metrics, with_virtual(clients, trips)


class RoundLoop:
    """The rounds of an open run, and its state after the last committed one.

    Attributes:
        number: the last committed round; 0 for none.
        server: the state of the federation after it.
    """

    def __init__(self, prepared: Prepared, opening: Opening, *, after_round: int) -> None:
        """Continue after `after_round`, whose state `opening` has."""
        self.number, self.server = after_round, opening.server
        self._prepared, self._executor, self._recorder = prepared, opening.executor, opening.recorder
        self._selection, self._selected = opening.selection, opening.selected
        self._evaluation, self._stopping, self._epsilon = opening.evaluation, opening.stopping, opening.epsilon
        self._prompts, self._wrote = prepared.prompts, -1
        timetable = prepared.timetable
        if timetable is None or not isinstance(self._selection, Oort):
            self._clock = None if timetable is None else VirtualClock(timetable, after_round)
        else:
            self._clock = VirtualClock.going_on(
                timetable, self._steps(self._selection), *self._selected["virtual"][1:].tolist()
            )
        self._rounds: Generator[RoundDone] | None = None
        self._since = self._checkpoint_seconds = self._share = 0.0

    def rounds(self) -> Generator[Round, None, str]:
        """Committed rounds, with checkpoints between them. Returns why the run is over.

        Rounds under way stay so where the caller stops iterating: the next call goes on with them.
        """
        if not self.number:
            self.write()
        self._since = time.perf_counter() - self._checkpoint_seconds
        while (reason := self._reason_to_stop()) is None:
            committed = self._commit(self._next_round())
            every = self._prepared.experiment.tracking.checkpoint_every
            if every and self.number % every == 0:
                self.checkpoint(last=self.number == self._prepared.last_round)
            left = time.perf_counter()
            yield committed
            self._since += time.perf_counter() - left  # the caller's own time is no round's
        return reason

    def checkpoint(self, *, last: bool = False) -> None:
        """Make the committed rounds durable.

        Raises:
            StorageError: the `last` checkpoint cannot be written.
        """
        began = time.perf_counter()
        self._recorder.checkpoint(self.number, self._save, last=last)
        self._checkpoint_seconds += time.perf_counter() - began

    def close(self) -> None:
        """Throw away the rounds that are not committed."""
        if self._rounds is not None:
            self._rounds.close()

    def write(self) -> None:
        """Have the model write, where that is asked for and it has not written yet."""
        if self._prompts is not None and self._wrote != self.number:
            self._read(self.number, self._measure(self._prompts.ranges))

    def works(self) -> Iterator[RoundWork]:
        """The rounds that are left, drawn when the executor gets to them."""
        every, last = self._prepared.experiment.tracking.checkpoint_every, self._prepared.last_round
        for work in islice(self._drawn(), last - self.number):
            number = work.task.round
            ranges = self._evaluation.due(number) + self._selection.ranges(work.task.clients)
            kept = number == last or (every > 0 and number % every == 0)
            yield replace(work.until(last), ranges=ranges, kept=kept)

    def _drawn(self) -> Iterator[RoundWork]:
        """The rounds after the last committed one, without end, and without what is evaluated."""
        prepared = self._prepared
        given = prepared.experiment, prepared.federation, prepared.work
        if prepared.timetable is not None and not self._selection.adaptive:
            yield from (one.work for one in planned_rounds(prepared.timetable, *given, after=self.number))
            return
        for number in count(self.number + 1):
            yield RoundWork(selected_round(self._selection, self._selected, self._measure, number, *given))

    def _steps(self, selection: Oort) -> Iterator[TimedStep]:
        """The round that is about to be committed, and those behind it, in virtual time."""
        while True:
            yield selection.step(self.number + 1, self._selected)

    def _next_round(self) -> RoundDone:
        if self._rounds is None:
            self._rounds = self._executor.rounds(self.works(), self.server)
        return next(self._rounds)

    def _measure(self, ranges: Iterable[EvaluationRange]) -> list[Evaluated]:
        """The model that the next round begins with, over these ranges."""
        return self._executor.evaluate(list(ranges), self.server)

    def _read(self, number: int, evaluated: Iterable[Evaluated]) -> None:
        """Record the text that the model after a round wrote."""
        written = [one.written for one in evaluated if one.written is not None]
        if self._prompts is not None and written:
            texts = self._prompts.read(written)
            self._recorder.generated(GeneratedText(number, self._prompts.texts, tuple(texts)))
            self._wrote = number

    def _commit(self, done: RoundDone) -> Round:
        facts = done.facts
        measured = own_metrics(facts.evaluated, self._prepared.metrics)
        virtual, clients = timed(self._clock, facts.clients)
        metrics = {**metrics_of(facts, measured, self._prepared, self._epsilon), **virtual}
        row = replace(facts.row, seconds=self._seconds(done), metrics=metrics)
        cohort = facts.clients["client"].to_numpy()
        selected = self._selection.after(row.round, self._selected, cohort, facts.evaluated)
        confused = confusion(facts.evaluated, self._prepared.info.classes)
        self._recorder.commit(row, clients, measured, confused, done.server.digest)
        self._read(row.round, facts.evaluated)
        # Only now: an interrupt leaves the last committed round.
        self.number, self.server, self._selected = row.round, done.server, selected
        self._stopping.see(metrics)
        self._stopping.sent(row.wire_up + row.wire_down)
        self._recorder.tell(row)  # a round that people see is one that an interrupt saves
        return Round(row.round, metrics, row, clients)

    def _seconds(self, done: RoundDone) -> dict[str, float]:
        """The phases of a round that is about to be committed, with the time since the commit before."""
        now = time.perf_counter()
        spent = now - self._since
        if done.arrived:  # the wait for a call is that of all its rounds
            self._share, spent = spent / done.arrived, 0.0
        phases = {**done.facts.row.seconds, "checkpoint": self._checkpoint_seconds, "total": self._share + spent}
        self._since, self._checkpoint_seconds = now, 0.0
        return phases

    def _reason_to_stop(self) -> str | None:
        if self.number >= self._prepared.experiment.rounds:
            return "all rounds are done"
        if self.number >= self._prepared.last_round:
            return self._prepared.ending
        return self._stopping.reason(self._recorder.seconds)

    def _save(self, folder: Path) -> None:
        self._executor.save(str(folder.resolve()), self.server)
        save_state(folder, self._selected)
