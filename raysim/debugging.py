"""One client of one round of a recorded run, trained once more in this process, where its code can be looked at."""

from __future__ import annotations

import bdb
import math
import pdb
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from raysim.aggregation import Record
from raysim.algorithms import Algorithm
from raysim.arrays import Int64
from raysim.config.algorithms import CustomAlgorithmConfig
from raysim.errors import ClientError, RunError
from raysim.execution.clients.contract import ContractError, check_program
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.rounds.environment import bits_fingerprint
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection import Selection, State, load_state
from raysim.selection.cohort import draw_round
from raysim.tracking import CheckpointFolder, RunDirectory
from raysim.tracking.reading import read_clients
from raysim.user_code import told

_SHOWN_CLIENTS = 10


@dataclass(frozen=True, slots=True)
class Debugged:
    """What training the client came to.

    Attributes:
        samples: training samples that it has.
        steps: local steps that it took.
        loss: mean training loss over its steps; NaN where it has no samples.
        dropped: why its update would be left out of the model; None where it would not.
        seconds: that training took.
        replayed: rounds that were computed again before it.
        different: what its bits depend on and is not as the run recorded it.
        contract: what an algorithm of the user's own does that it must not; None where nothing is found.
    """

    client: int
    round: int
    samples: int
    steps: int
    loss: float
    dropped: str | None
    seconds: float
    replayed: int
    different: tuple[str, ...]
    contract: str | None = None


def debug(
    run: str | Path,
    *,
    client: int,
    round: int,
    debugger: bool = False,
    model: nn.Module | None = None,
    data: Any = None,
    tell: Callable[[str], object] | None = None,
) -> Debugged:
    """Train one client of a round as the run did, or was about to when it failed.

    A round is a pure function of the state before it: that comes from the newest usable checkpoint before the round,
    or from the start, and from computing the rounds in between once more, without clients that the run left out.
    Nothing of the run directory is changed.

    Args:
        run: the run directory; the run may be going on, be finished, or have failed.
        client: of the round's cohort.
        round: from 1; it need not have been reached.
        debugger: train under `pdb`: it stops before the first step, and where an error is raised.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.
        tell: is told what is being done, a line at a time.

    Raises:
        ClientError: the client's own code failed; its `__cause__` is the error itself, with its traceback.
        RunError: there is no such run, round or client of the round.
        bdb.BdbQuit: the user left the debugger.
    """
    directory = RunDirectory.open(run)
    experiment = directory.experiment().updated(["execution.executor=inprocess"])
    prepared = prepare_job(experiment, model=model, data=data)
    selection = prepared.selection
    if not selection.adaptive:
        _check_client(prepared, _task(prepared, round), client)
    executor = InProcessExecutor(prepared.job)
    say = tell or (lambda text: None)
    after, handle, selected = _nearest(directory, executor, selection, before=round)
    left_out = _left_out(directory, after, round)
    for number in range(after + 1, round):
        say(f"replaying round {number}")
        drawn = _task(prepared, number, _cohort(selection, number, selected, executor, handle))
        again = _without(drawn, left_out.get(number, set()))
        done = next(executor.rounds(iter([RoundWork(again, selection.ranges(drawn.clients))]), handle))
        handle, selected = done.server, selection.after(number, selected, drawn.clients, done.facts.evaluated)
    task = _task(prepared, round, _cohort(selection, round, selected, executor, handle))
    _check_client(prepared, task, client)
    lease = Lease.of(task, np.flatnonzero(task.clients == client))
    say(f"training client {client} of round {round}")
    states = executor.states(handle, round)
    train = partial(executor.worker.train, lease, handle.model, handle.shared, states)
    report = _under_debugger(train) if debugger else train()[1]
    (facts,) = report.facts.to_pylist()
    return Debugged(
        client,
        round,
        facts["samples"],
        facts["steps"],
        math.nan if facts["loss"] is None else facts["loss"],
        facts["dropped"],
        report.seconds["train"],
        round - 1 - after,
        _different(directory, prepared),
        _broken_contract(prepared, executor.worker.algorithm),
    )


def _cohort(
    selection: Selection, number: int, state: State, executor: InProcessExecutor, handle: ServerHandle
) -> Int64:
    return selection.cohort(number, state, lambda ranges: executor.evaluate(list(ranges), handle))


def _task(prepared: Prepared, number: int, clients: Int64 | None = None) -> RoundTask:
    last = prepared.last_round
    if not 1 <= number <= last:
        raise RunError(f"there is no round {number}; the run's rounds are 1 to {last}")
    return draw_round(prepared.experiment, prepared.federation, prepared.work, number, clients)


def _check_client(prepared: Prepared, task: RoundTask, client: int) -> None:
    population = prepared.federation.population
    if not 0 <= client < population:
        raise RunError(f"there is no client {client}; clients are 0 to {population - 1}")
    if client not in task.clients:
        shown = ", ".join(map(str, task.clients[:_SHOWN_CLIENTS].tolist()))
        more = f" and {len(task.clients) - _SHOWN_CLIENTS} more" if len(task.clients) > _SHOWN_CLIENTS else ""
        raise RunError(f"client {client} is not in the cohort of round {task.round}, which is {shown or 'empty'}{more}")


def _nearest(
    directory: RunDirectory, executor: InProcessExecutor, selection: Selection, *, before: int
) -> tuple[int, ServerHandle, State]:
    """The newest usable checkpoint of an earlier round, its server and what the selection remembers; the start where
    there is none."""
    with CheckpointFolder(directory, directory.experiment().tracking.checkpoints) as folder:
        for number in reversed([number for number in folder.rounds() if number < before]):
            try:
                checkpoint = folder.open(number)
            except RunError:  # a damaged one: the rounds from the one before come to the same
                continue
            return number, executor.load(str(checkpoint.path.resolve())), load_state(checkpoint.path, selection)
    return 0, executor.first(), selection.first()


def _left_out(directory: RunDirectory, after: int, before: int) -> dict[int, set[int]]:
    """Clients that the run left out of the rounds in between: why, it may not happen again."""
    found: dict[int, set[int]] = {}
    for batch in read_clients(directory, ["client", "dropped"]):
        for row in batch.filter(batch["dropped"].is_valid()).to_pylist():
            if after < row["round"] < before:
                found.setdefault(row["round"], set()).add(row["client"])
    return found


def _without(task: RoundTask, clients: set[int]) -> RoundTask:
    kept = ~np.isin(task.clients, list(clients))
    return task.only(kept)


def _under_debugger(train: Callable[[], tuple[Record, LeaseReport]]) -> LeaseReport:
    def only_the_report() -> LeaseReport:
        return train()[1]

    try:
        report = pdb.Pdb().runcall(only_the_report)
        if report is None:  # pdb does not report that the user left
            raise bdb.BdbQuit
        return report
    except ClientError as error:
        if isinstance(error.__cause__, bdb.BdbQuit):
            raise error.__cause__ from None
        pdb.post_mortem((error.__cause__ or error).__traceback__)
        raise


def _broken_contract(prepared: Prepared, algorithm: Algorithm) -> str | None:
    """What the program of a user's algorithm does wrong on made-up clients (`check_program`)."""
    experiment = prepared.experiment
    if not isinstance(experiment.algorithm, CustomAlgorithmConfig):
        return None
    try:
        check_program(algorithm, experiment.client, prepared.federation.info)
    except Exception as error:
        what = str(error) if isinstance(error, ContractError) else f"it fails on made-up clients ({told(error)})"
        return f"algorithm {experiment.algorithm.name}: {what}"
    return None


def _different(directory: RunDirectory, prepared: Prepared) -> tuple[str, ...]:
    recorded = directory.read_environment().get("bits") or {}
    here = {**bits_fingerprint(prepared.job), "data": prepared.federation.fingerprint}
    return tuple(
        f"{key} was {recorded[key]!r} and is {value!r} here"
        for key, value in here.items()
        if key in recorded and recorded[key] != value
    )
