"""Rounds of a recorded run, computed once more in this process: the state before any of them.

A round is a pure function of the state before it: that comes from the newest usable checkpoint before the round, or
from the start, and from computing the rounds in between again, without clients that the run left out. The run directory
is only read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from raysim.arrays import Int64
from raysim.errors import RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import prepare_job
from raysim.rounds.lease import Lease
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection import State, load_state
from raysim.selection.cohort import draw_round, without
from raysim.tracking import CheckpointFolder, RunDirectory
from raysim.tracking.reading import read_clients

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
        if not self.prepared.selection.adaptive and client is not None:
            self._check_client(self._task(round), client)
        after, selected = self._nearest(before=round)
        self.replayed, left_out = round - 1 - after, self._left_out(after, round)
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
        """The lease of one client of a round."""
        return Lease.of(task, np.flatnonzero(task.clients == client))

    def _drawn(self, number: int, selected: State) -> RoundTask:
        def measure(ranges: Any) -> Any:
            return self.executor.evaluate(list(ranges), self.server)

        return self._task(number, self.prepared.selection.cohort(number, selected, measure))

    def _task(self, number: int, clients: Int64 | None = None) -> RoundTask:
        last = self.prepared.last_round
        if not 1 <= number <= last:
            raise RunError(f"there is no round {number}; the run's rounds are 1 to {last}")
        return draw_round(self.prepared.experiment, self.prepared.federation, self.prepared.work, number, clients)

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
