"""Rounds of a recorded run, computed once more in this process.

A round is a pure function of the state before it: that comes from the newest usable checkpoint before the round, or
from the start, and from computing the rounds in between again, without clients that the run lost. The run directory
is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from raysim.arrays import Float32
from raysim.config import Experiment
from raysim.errors import RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import prepare_job
from raysim.rounds.environment import bits_fingerprint
from raysim.rounds.faults import NO_WORKER
from raysim.rounds.lease import Lease
from raysim.rounds.ranges import EvaluationRange
from raysim.rounds.results import RoundDone, ServerHandle
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection import State, load_state
from raysim.selection.edges import edge_bits
from raysim.selection.waves import planned_rounds, selected_round
from raysim.systems import trace_bits
from raysim.tracking import CheckpointFolder, RunDirectory
from raysim.tracking.reading import read_clients
from raysim.training import NOTHING, HandedOver, round_rates

_SHOWN_CLIENTS = 10

Say = Callable[[str], object]
"""Is told what is being done, a line at a time."""

Accept = Callable[[int, ServerHandle], bool]
"""Whether the server of a round's checkpoint is to be gone on from."""


class Replay:
    """A run, as far as it is computed again.

    Attributes:
        directory: of the run; it may be going on, be finished, or have failed.
        prepared: its job, in this process.
        executor: of the job.
        number: the last round that was computed, or whose checkpoint was loaded; 0 for the start.
        server: after it.
        replayed: rounds that were computed again by the last call of `before`.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        experiment: Experiment | None = None,
        model: nn.Module | None = None,
        data: Any = None,
        handed: HandedOver = NOTHING,
    ) -> None:
        """Prepare the run's job.

        Args:
            experiment: what the run ran with, where that is not to be read from its configuration.
            model: the module that the run was started with, if it was handed over.
            data: the arrays that the run was started with, if they were handed over.
            handed: the loss and the metrics that it was started with, if they were handed over.
        """
        self.directory = RunDirectory.open(run)
        experiment = experiment or self.directory.experiment()
        here = experiment.updated(["execution.executor=inprocess"])
        self.prepared = prepare_job(here, model=model, data=data, handed=handed)
        self.executor = InProcessExecutor(self.prepared.job)
        self.server: ServerHandle = self.executor.first()
        self.number = self.replayed = 0
        self._selected: State = self.prepared.selection.first()
        self._lost: dict[tuple[int, int], str] | None = None
        self._rounds: Iterator[RoundDone] | None = None
        self._ranges: tuple[EvaluationRange, ...] = ()

    def before(self, round: int, client: int | None, say: Say = lambda text: None) -> RoundTask:
        """Compute what comes before a round; the round's task.

        Args:
            client: of the round's cohort, where the caller wants one of them.

        Raises:
            RunError: there is no such round, or no such client in it.
        """
        self._check_round(round)
        if not self.prepared.selection.adaptive and client is not None:
            self._check_client(next(self._drawn(round)).task, client)
        self.replayed = round - 1 - self.nearest(round - 1)
        self.to(round - 1, say)
        task = next(self._drawn(round)).task
        if client is not None:
            self._check_client(task, client)
        return task

    def nearest(self, number: int, accept: Accept = lambda number, server: True) -> int:
        """Go to the newest usable checkpoint up to a round, to the start, or stay, whichever is nearest; its round."""
        with CheckpointFolder(self.directory, self.prepared.experiment.tracking.checkpoints) as folder:
            least = self.number if self.number <= number else 0
            for found in reversed([one for one in folder.rounds() if least < one <= number]):
                try:
                    checkpoint = folder.open(found)
                except RunError:  # a damaged one: the rounds from the one before come to the same
                    continue
                server = self.executor.load(str(checkpoint.path.resolve()))
                if not accept(found, server):
                    continue
                self.number, self.server, self._rounds = found, server, None
                self._selected = load_state(checkpoint.path, self.prepared.selection)
                return found
        if self.number > number or not self.number:
            self.number, self.server, self._rounds = 0, self.executor.first(), None
            self._selected = self.prepared.selection.first()
        return self.number

    def to(self, number: int, say: Say = lambda text: None) -> None:
        """Compute all rounds up to this one."""
        while self.number < number:
            say(f"replaying round {self.number + 1}")
            self.step()

    def step(self, ranges: tuple[EvaluationRange, ...] = ()) -> RoundDone:
        """Compute the next round, and evaluate these ranges besides those that its selection looks at."""
        self._ranges = ranges
        if self._rounds is None:
            self._rounds = self.executor.rounds(self._works(), self.server)
        done = next(self._rounds)
        self.number, self.server = self.number + 1, done.server
        cohort = done.facts.clients["client"].to_numpy()
        self._selected = self.prepared.selection.after(self.number, self._selected, cohort, done.facts.evaluated)
        return done

    def _works(self) -> Iterator[RoundWork]:
        """The rounds that follow, drawn when they are worked on."""
        for work in self._drawn(self.number + 1):
            ranges = self._ranges + self.prepared.selection.ranges(work.task.clients)
            yield replace(work, ranges=ranges, lost=self._lost_ones())

    def lease(self, task: RoundTask, client: int) -> Lease:
        """The lease of one client of a round; of one that comes twice, its first trip."""
        lease = Lease.of(task, np.flatnonzero(task.clients == client)[:1])
        base = int(task.base[task.clients == client][0])
        rate, _ = round_rates(self.prepared.experiment, self.prepared.work, base + 1)
        return replace(lease, round=base + 1, lr=rate)

    def model(self, lease: Lease) -> Float32:
        """The version of the model that a lease of the round starts from, `[P]`."""
        older: Float32 | None = self.server.older.get(lease.round - 1)
        return self.server.model if older is None else older

    def different(self, recorded: Mapping[str, Any]) -> tuple[str, ...]:
        """What the bits depend on here and is not as it was recorded, each as a phrase."""
        here = {**bits_fingerprint(self.prepared.job), "data": self.prepared.federation.fingerprint}
        here |= trace_bits(self.prepared.experiment.systems) | edge_bits(self.prepared.experiment)
        return tuple(
            f"{key} was {recorded[key]!r} and is {value!r} here"
            for key, value in here.items()
            if key in recorded and recorded[key] != value
        )

    def _drawn(self, first: int) -> Iterator[RoundWork]:
        """Rounds from this one on, without what is evaluated; those of a selection that looks at the model only while
        the replay is at the round before."""
        prepared = self.prepared
        given = prepared.experiment, prepared.federation, prepared.work
        if prepared.timetable is not None and not prepared.selection.adaptive:
            yield from (one.work for one in planned_rounds(prepared.timetable, *given, after=first - 1))
            return

        def measure(ranges: Any) -> Any:
            return self.executor.evaluate(list(ranges), self.server)

        for number in count(first):
            yield RoundWork(selected_round(prepared.selection, self._selected, measure, number, *given))

    def _check_round(self, number: int) -> None:
        last = self.prepared.last_round
        if not 1 <= number <= last:
            raise RunError(f"there is no round {number}; the run's rounds are 1 to {last}")

    def _check_client(self, task: RoundTask, client: int) -> None:
        population = self.prepared.federation.population
        if not 0 <= client < population:
            raise RunError(f"there is no client {client}; clients are 0 to {population - 1}")
        if client not in task.clients:
            shown = ", ".join(map(str, task.clients[:_SHOWN_CLIENTS].tolist()))
            more = f" and {len(task.clients) - _SHOWN_CLIENTS} more" if len(task.clients) > _SHOWN_CLIENTS else ""
            raise RunError(
                f"client {client} is not in the cohort of round {task.round}, which is {shown or 'empty'}{more}"
            )

    def _lost_ones(self) -> dict[tuple[int, int], str]:
        """Why the run lost clients, by round and position there: it may not happen again."""
        if self._lost is None:
            self._lost, before, rows = {}, 0, 0
            for batch in read_clients(self.directory, ["dropped", "worker"]):
                rounds, here = batch["round"].to_numpy(), np.arange(len(batch))
                begins = np.maximum.accumulate(np.where(np.diff(rounds, prepend=before) != 0, here, -rows))
                for row in np.flatnonzero(batch["worker"].to_numpy() == NO_WORKER).tolist():
                    self._lost[int(rounds[row]), int(row - begins[row])] = str(batch["dropped"][row].as_py())
                before, rows = int(rounds[-1]), len(batch) - int(begins[-1])
        return self._lost
