"""Whole rounds on one worker, without a word to anybody in between: where that is faster than sharing them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from raysim.aggregation import Record
from raysim.arrays import Float32
from raysim.errors import ClientError, DataError
from raysim.execution.clients.state import ClientStates
from raysim.execution.clients.state_store import StateStore, StoredStates
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.server.server import Server
from raysim.rounds.facts import after_step, cohort_facts, empty_batch, empty_row, round_row
from raysim.rounds.faults import CallFailure, judge, left_out, reason_of, to_blame
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.messages import Messages
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.results import Applied, RoundFacts, ServerHandle, Trained
from raysim.rounds.task import RoundTask, RoundWork
from raysim.user_code import naming


@dataclass(slots=True)
class Waiting:
    """What is trained and waits for its step: records and reports, by the step that takes them in.

    Attributes:
        begins: whether no client has been trained yet.
    """

    begins: bool = True
    _parts: dict[int, list[tuple[Record | None, LeaseReport]]] = field(default_factory=dict)

    def add(self, record: Record | None, report: LeaseReport) -> None:
        """Add a report and its record; None where it is of clients that were left out."""
        self._parts.setdefault(report.into, []).append((record, report))

    def take(self, into: int, wall: float) -> Trained:
        """What a step takes in."""
        parts = self._parts.pop(into, [])
        sums = tuple(record for record, _ in parts if record is not None)
        return Trained(sums, tuple(report for _, report in parts), 1, wall, broadcasts=len(sums))


def whole_round(
    worker: ClientWorker,
    server: Server,
    work: RoundWork,
    handle: ServerHandle,
    store: StateStore | None = None,
    waiting: Waiting | None = None,
) -> tuple[RoundFacts, ServerHandle]:
    """Train, apply and evaluate one round on this worker; those who start from one version are one lease.

    Args:
        handle: the server's state and model themselves, which are only read.
        store: what clients keep, where they keep something.
        waiting: what was trained in rounds before, and gets what is trained for rounds behind it.

    Raises:
        ClientError: a client's own code failed.
        RunError: the round cannot be applied, or too few clients answer.
    """
    waiting = Waiting() if waiting is None else waiting
    every_round = server.aggregation.every_round
    messages = Messages(server.aggregation.rule.protocol, server.job.experiment.seed, worker.answer)
    if messages.protocol is not None:
        work = replace(work, task=messages.begin(work.task))
    task, older, began = work.task, handle.kept(work), time.perf_counter()
    for some in work.starts(begins=waiting.begins):
        states = None if store is None else StoredStates(store, handle.version, task.round)
        some = _without_lost(worker, some, work.lost, waiting)
        _train(worker, some, handle.of(work, some), handle.shared, states, waiting)
    waiting.begins = False
    if len(task.clients) or every_round:
        trained = waiting.take(task.round, time.perf_counter() - began)
        empty = every_round or server.job.experiment.systems.asynchronous
        facts = cohort_facts(task, trained, empty=empty, wire_down=server.wire_down)
        opening = messages.end(task, facts.contributed)
        begun = handle.begun(work) if server.mixes else None
        given = handle.state, handle.model, *trained.sums
        state, model, step = server.apply(task.round, facts.contributed, *given, opening=opening, begun=begun)
        down = handle.model.nbytes + (0 if handle.shared is None else handle.shared.nbytes)
        digest = server.digest(state, model)
        handle = ServerHandle(state, model, server.shared(state), task.round, older, digest)
        row = round_row(task, facts, trained, Applied(handle, step.check, step.apply), down)
        row, clients = after_step(row, facts.clients, step)
    else:
        row, clients, handle = empty_row(task), empty_batch(), replace(handle, older=older)
    if not work.ranges:
        return RoundFacts(row, clients, ()), handle
    began = time.perf_counter()
    kept = None if store is None else StoredStates(store, handle.version, task.round)
    with naming(f"round {task.round}"):
        evaluated = tuple(worker.evaluate(work.ranges, handle.model, kept, handle.shared))
    row = replace(row, seconds={**row.seconds, "evaluate": time.perf_counter() - began})
    return RoundFacts(row, clients, evaluated), handle


def _train(
    worker: ClientWorker,
    task: RoundTask,
    model: Float32,
    shared: Float32 | None,
    states: ClientStates | None,
    waiting: Waiting,
) -> None:
    """These clients as one lease, without some that fail where the configuration leaves those out."""
    if not len(task.clients):
        return
    faults = worker.job.experiment.execution.faults
    lease = Lease.of(task, np.arange(len(task.clients)))
    while True:
        try:
            found = worker.train_into(lease, model, shared, states)
        except (ClientError, DataError) as error:
            kind = to_blame(error)
            if error.client is None or getattr(faults, kind) != "drop":
                raise
            verdict = judge(lease, CallFailure(kind, reason_of(error), error, error.client), "drop", 0)
            if verdict.dropped is not None:
                for report in left_out(verdict.dropped, partial(worker.federation.sizes, "train"), reason_of(error)):
                    waiting.add(None, report)
            if not verdict.again:
                return
            lease = verdict.again[0]
        else:
            for record, report in found:
                waiting.add(record, report)
            return


def _without_lost(
    worker: ClientWorker, task: RoundTask, lost: Mapping[tuple[int, int], str], waiting: Waiting
) -> RoundTask:
    """The clients that are not lost; the facts of the others go to what waits."""
    if not lost:
        return task
    whys = [lost.get(key) for key in zip(task.into.tolist(), task.positions.tolist(), strict=True)]
    for index, why in enumerate(whys):
        if why is not None:
            for report in left_out(Lease.of(task, [index]), partial(worker.federation.sizes, "train"), why):
                waiting.add(None, report)
    return task.only(np.array([why is None for why in whys], dtype=np.bool_))


def whole_rounds(
    worker: ClientWorker, server: Server, works: Sequence[RoundWork], handle: ServerHandle
) -> tuple[list[RoundFacts], list[ServerHandle]]:
    """Rounds one after the other, and the server after each; stops before a round that fails, unless it is the first.

    A caller that gets fewer than it asked for begins again with the one that is missing, which raises the error.
    """
    facts: list[RoundFacts] = []
    handles: list[ServerHandle] = []
    for work in works:
        try:
            one, handle = whole_round(worker, server, work, handle)
        except Exception:
            if not facts:
                raise
            break
        facts.append(one)
        handles.append(handle)
    return facts, handles


def evaluated_rounds(
    worker: ClientWorker, rounds: Sequence[tuple[int, Sequence[EvaluationRange]]], models: Sequence[Float32]
) -> list[tuple[tuple[Evaluated, ...], float]]:
    """What the models after several rounds measure over some ranges, and the seconds that each took.

    For algorithms whose clients use the model as it is. Stops before a round that fails, unless it is the first.
    """
    found: list[tuple[tuple[Evaluated, ...], float]] = []
    for (number, ranges), model in zip(rounds, models, strict=False):
        began = time.perf_counter()
        try:
            with naming(f"round {number}"):
                evaluated = tuple(worker.evaluate(ranges, model)) if ranges else ()
        except Exception:  # a metric of the user's own may raise anything; a call that begins here raises it again
            if not found:
                raise
            break
        found.append((evaluated, time.perf_counter() - began))
    return found
