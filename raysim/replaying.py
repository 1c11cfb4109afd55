"""Rounds of a recorded run, computed once more in this process: the state before any of them.

A round is a pure function of the state before it: that comes from the newest usable checkpoint before the round, or
from the start, and from computing the rounds in between again, without clients that the run left out. The run directory
is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from raysim.arrays import Float32, Int64
from raysim.errors import RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import prepare_job
from raysim.rounds.lease import Lease
from raysim.rounds.plan import Timetable
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection import State, load_state
from raysim.selection.cohort import draw_round, without
from raysim.selection.waves import planned_rounds
from raysim.tracking import CheckpointFolder, RunDirectory
from raysim.tracking.reading import read_clients
from raysim.training import round_rates

Say = Callable[[str], object]
_SHOWN_CLIENTS = 10


class Replay:
    """A run, as far as it is computed again.

    Attributes:
        directory: of the run; it may be going on, be finished, or have failed.
        prepared: its job, in this process.
        executor: of the job.
        server: after the last round that was computed.
        replayed: rounds that were computed again by the last call of `before`.
    """

    def __init__(self, run: str | Path, *, model: nn.Module | None = None, data: Any = None) -> None:
        """Prepare the run's job.

        Args:
            model: the module that the run was started with, if it was handed over.
            data: the arrays that the run was started with, if they were handed over.
        """
        self.directory = RunDirectory.open(run)
        experiment = self.directory.experiment().updated(["execution.executor=inprocess"])
        self.prepared = prepare_job(experiment, model=model, data=data)
        self.executor = InProcessExecutor(self.prepared.job)
        self.server: ServerHandle = self.executor.first()
        self.replayed = 0

    def before(self, round: int, client: int | None, say: Say = lambda text: None) -> RoundTask:
        """Compute what comes before a round; the round's task.

        Args:
            client: of the round's cohort, where the caller wants one of them.
            say: is told what is being done, a line at a time.

        Raises:
            RunError: there is no such round, or no such client in it.
        """
        self._check_round(round)
        planned = self.prepared.timetable is not None
        if not self.prepared.selection.adaptive and client is not None and not planned:
            self._check_client(self._task(round), client)
        after, selected = self._nearest(before=round)
        self.replayed, left_out = round - 1 - after, self._left_out(after, round)
        if self.prepared.timetable is not None:
            return self._planned(self.prepared.timetable, after, round, client, left_out, say)
        for number in range(after + 1, round):
            say(f"replaying round {number}")
            drawn = self._drawn(number, selected)
            again = without(drawn, left_out.get(number, set()))
            work = RoundWork(again, self.prepared.selection.ranges(drawn.clients))
            done = next(self.executor.rounds(iter([work]), self.server))
            self.server = done.server
            selected = self.prepared.selection.after(number, selected, drawn.clients, done.facts.evaluated)
        task = self._drawn(round, selected)
        if client is not None:
            self._check_client(task, client)
        return task

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

    def _planned(
        self,
        timetable: Timetable,
        after: int,
        round: int,
        client: int | None,
        left_out: Mapping[int, set[int]],
        say: Say,
    ) -> RoundTask:
        """`before` where a timetable plans the rounds."""
        given = self.prepared.experiment, self.prepared.federation, self.prepared.work
        planned = planned_rounds(timetable, *given, after=after, left_out=left_out)
        works = [one.work for one in islice(planned, round - after)]
        if client is not None:
            self._check_client(works[-1].task, client)
        for done in self.executor.rounds(iter(works[:-1]), self.server):
            say(f"replayed round {done.facts.row.round}")
            self.server = done.server
        return works[-1].task

    def _drawn(self, number: int, selected: State) -> RoundTask:
        def measure(ranges: Any) -> Any:
            return self.executor.evaluate(list(ranges), self.server)

        return self._task(number, self.prepared.selection.cohort(number, selected, measure))

    def _task(self, number: int, clients: Int64 | None = None) -> RoundTask:
        return draw_round(self.prepared.experiment, self.prepared.federation, self.prepared.work, number, clients)

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

    def _nearest(self, *, before: int) -> tuple[int, State]:
        """Go to the newest usable checkpoint of an earlier round, or to the start: its round, and what the selection
        remembers."""
        directory, selection = self.directory, self.prepared.selection
        with CheckpointFolder(directory, directory.experiment().tracking.checkpoints) as folder:
            for number in reversed([number for number in folder.rounds() if number < before]):
                try:
                    checkpoint = folder.open(number)
                except RunError:  # a damaged one: the rounds from the one before come to the same
                    continue
                self.server = self.executor.load(str(checkpoint.path.resolve()))
                return number, load_state(checkpoint.path, selection)
        self.server = self.executor.first()
        return 0, selection.first()

    def _left_out(self, after: int, before: int) -> dict[int, set[int]]:
        """Clients that the run left out of the rounds in between: why, it may not happen again."""
        found: dict[int, set[int]] = {}
        for batch in read_clients(self.directory, ["client", "dropped"]):
            for row in batch.filter(batch["dropped"].is_valid()).to_pylist():
                if after < row["round"] < before:
                    found.setdefault(row["round"], set()).add(row["client"])
        return found
