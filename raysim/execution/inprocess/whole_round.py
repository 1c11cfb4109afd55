"""Whole rounds on one worker, without a word to anybody in between: where that is faster than sharing them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raysim.errors import ClientError, DataError
from raysim.execution.clients.state import ClientStates
from raysim.execution.clients.state_store import StateStore, StoredStates
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.server.server import Server
from raysim.rounds.facts import after_step, cohort_facts, empty_batch, empty_row, round_row
from raysim.rounds.faults import CallFailure, judge, left_out, reason_of, to_blame
from raysim.rounds.lease import Lease
from raysim.rounds.messages import Messages
from raysim.rounds.results import Applied, RoundFacts, ServerHandle, Trained
from raysim.rounds.task import RoundTask, RoundWork
from raysim.user_code import naming


def whole_round(
    worker: ClientWorker, server: Server, work: RoundWork, handle: ServerHandle, store: StateStore | None = None
) -> tuple[RoundFacts, ServerHandle]:
    """Train, apply and evaluate one round on this worker; its cohort is one lease.

    Args:
        handle: the server's state and model themselves, which are only read.
        store: what clients keep, where they keep something.

    Raises:
        ClientError: a client's own code failed.
        RunError: the round cannot be applied, or too few clients answer.
    """
    task = work.task
    every_round = server.aggregation.every_round
    if len(task.clients) or every_round:
        states = None if store is None else StoredStates(store, handle.version, task.round)
        messages = Messages(server.aggregation.rule.protocol, server.job.experiment.seed, worker.answer)
        task = messages.begin(task)
        trained = _train(worker, task, handle, states)
        facts = cohort_facts(task, trained, empty=every_round)
        opening = messages.end(task, facts.contributed)
        state, model, step = server.apply(
            task.round, facts.contributed, handle.state, handle.model, *trained.sums, opening=opening
        )
        down = handle.model.nbytes + (0 if handle.shared is None else handle.shared.nbytes)
        handle = ServerHandle(state, model, server.shared(state), task.round)
        row = round_row(task, facts, trained, Applied(handle, step.check, step.apply), down, server.wire_down)
        row, clients = after_step(row, facts.clients, step)
    else:
        row, clients = empty_row(task), empty_batch()
    if not work.ranges:
        return RoundFacts(row, clients, ()), handle
    began = time.perf_counter()
    kept = None if store is None else StoredStates(store, handle.version, task.round)
    with naming(f"round {task.round}"):
        evaluated = tuple(worker.evaluate(work.ranges, handle.model, kept, handle.shared))
    row = replace(row, seconds={**row.seconds, "evaluate": time.perf_counter() - began})
    return RoundFacts(row, clients, evaluated), handle


def _train(worker: ClientWorker, task: RoundTask, handle: ServerHandle, states: ClientStates | None) -> Trained:
    """The cohort as one lease, without clients that fail where the configuration leaves those out."""
    began = time.perf_counter()
    if not len(task.clients):
        return Trained((), (), 1, 0.0, broadcasts=0)
    faults = worker.job.experiment.execution.faults
    lease, left = Lease.of(task, np.arange(len(task.clients))), []
    while True:
        try:
            total, report = worker.train(lease, handle.model, handle.shared, states)
        except (ClientError, DataError) as error:
            kind = to_blame(error)
            if error.client is None or getattr(faults, kind) != "drop":
                raise
            verdict = judge(lease, CallFailure(kind, reason_of(error), error, error.client), "drop", 0)
            if verdict.dropped is not None:
                samples = worker.federation.sizes("train", verdict.dropped.clients)
                left.append(left_out(verdict.dropped, samples, reason_of(error)))
            if not verdict.again:
                return Trained((), tuple(left), 1, time.perf_counter() - began, broadcasts=1)
            lease = verdict.again[0]
        else:
            return Trained((total,), (report, *left), 1, time.perf_counter() - began, broadcasts=1)


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
