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

from torch import nn

from raysim.aggregation import Record
from raysim.algorithms import Algorithm
from raysim.config.algorithms import CustomAlgorithmConfig
from raysim.errors import ClientError
from raysim.execution.clients.contract import ContractError, check_program
from raysim.execution.preparation.prepare import Prepared
from raysim.replaying import Replay
from raysim.rounds.lease import LeaseReport
from raysim.training import HandedOver
from raysim.user_code import told


@dataclass(frozen=True, slots=True)
class Debugged:
    """What training the client came to.

    Attributes:
        client: its id.
        round: that it was trained in.
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
    loss: Any = None,
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
        loss: that the run was started with, if it was handed over.
        tell: is told what is being done, a line at a time.

    Raises:
        ClientError: the client's own code failed; its `__cause__` is the error itself, with its traceback.
        RunError: there is no such run, round or client of the round.
        bdb.BdbQuit: the user left the debugger.
    """
    say = tell or (lambda text: None)
    replay = Replay(run, model=model, data=data, handed=HandedOver(loss))
    task = replay.before(round, client, say)
    say(f"training client {client} of round {round}")
    executor, server = replay.executor, replay.server
    states = executor.states(server, round)
    lease = replay.lease(task, client)
    train = partial(executor.worker.train, lease, replay.model(lease), server.shared, states)
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
        replay.replayed,
        replay.different(replay.directory.read_environment().get("bits") or {}),
        _broken_contract(replay.prepared, executor.worker.algorithm),
    )


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
