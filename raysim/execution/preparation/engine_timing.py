"""Engines timed on the clients of a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from raysim import keyed
from raysim.algorithms import Algorithm
from raysim.arrays import Float64, Int64
from raysim.data import Federation
from raysim.errors import RaysimError
from raysim.execution.clients.local_training import local_update
from raysim.execution.clients.loss_contexts import LossContexts
from raysim.execution.scheduling.schedule import even_blocks
from raysim.rounds.job import Job
from raysim.rounds.task import RoundTask
from raysim.training import (
    BatchPlan,
    Block,
    CannotCapture,
    Engine,
    EngineChoice,
    LocalUpdate,
    ParameterLayout,
    Shard,
    Shards,
    build_engine,
    resolve_client_loss,
)
from raysim.training.capture import why_not
from raysim.training.rows import RowsEngine

MOST_ROWS = 128
"""Clients that train at once: with more of them, there is nothing left to share."""
_STEPS = 8
"""Local steps that are timed in a row, where clients take as many."""


def build(job: Job, algorithm: Algorithm, choice: EngineChoice) -> tuple[Engine, LocalUpdate]:
    """An engine for the job, and what it was built to do with gradients.

    Raises:
        CannotCapture: the model, or the work, is not for this engine; says why.
    """
    info = job.federation.open().info
    module = job.build_module(info, choice.torch_device)
    loss = resolve_client_loss(job.experiment.training, info)
    work = algorithm.work(job.experiment.client)
    features, update = algorithm.feature_loss(), local_update(job, algorithm, compiled=choice.compiled)
    return build_engine(choice, module, ParameterLayout(module), loss, info, work, update, features), update


def partly(engine: Engine) -> str:
    """What to add where less than the whole step was compiled."""
    why = engine.codes.not_whole if isinstance(engine, RowsEngine) else ""
    return f"; only the gradient is compiled: {why}" if why else ""


class Timing:
    """Times engines on the clients of a round."""

    def __init__(self, job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask) -> None:
        self.algorithm = algorithm
        self._job, self._federation = job, federation
        longest = np.argsort(-task.steps, kind="stable")[:MOST_ROWS]
        self._clients, self._round = task.clients[longest[task.steps[longest] > 0]], task.round

    def of(self, choice: EngineChoice) -> Measured:
        """What steps and blocks take with an engine.

        Raises:
            CannotCapture: the engine cannot do it.
        """
        device = choice.torch_device
        with _rows_may_fail(choice):
            work = self._work(choice)
            a_block = _seconds(work.load, device)
            # Where all rows take every step, however few train, there is but one number to time.
            always_all = isinstance(work.engine, RowsEngine) and not work.engine.shrinks
            tried = [choice.rows] if always_all else [1, 2, 4, 8, 16, 32, 64, MOST_ROWS]
            ks = np.unique(np.minimum(tried, choice.rows))
            a_step = [_seconds(partial(work.steps, k), device) / int(work.in_a_row[k - 1]) for k in ks.tolist()]
        return Measured(ks, np.array(a_step), a_block, partly(work.engine))

    def once(self, choice: EngineChoice) -> Callable[[], None]:
        """Takes a block of `choice.rows` clients once, and its first steps; the engine is there already.

        Raises:
            CannotCapture: the engine cannot do it.
        """
        work = self._work(choice)

        def once() -> None:
            work.load()
            work.steps(choice.rows)

        return once

    def _work(self, choice: EngineChoice) -> _Work:
        engine, update = build(self._job, self.algorithm, choice)
        optimizer, correct = update.optimizer, update.corrections[0] if update.corrections else None
        device, experiment = choice.torch_device, self._job.experiment
        clients = np.resize(self._clients, choice.rows)  # a round may have fewer
        shards = {c: Shard.load(self._federation.shard(c), device) for c in set(clients.tolist())}
        joined = Shards.join([shards[c] for c in clients.tolist()])
        work = self.algorithm.work(experiment.client)
        keys = keyed.integers(experiment.seed, keyed.Purpose.MODULE, self._round, clients)
        broadcast, losses = engine.rows[0].clone(), torch.zeros(choice.rows, dtype=torch.float64, device=device)
        in_a_row = np.minimum(np.minimum.accumulate(work.count(joined.count)), _STEPS)
        rows = engine.rows[: choice.rows, : engine.grad.shape[1]]
        loss = resolve_client_loss(experiment.training, self._federation.info)
        context = LossContexts(loss, self._federation, device).of(clients)

        def load() -> None:
            plan = BatchPlan.draw(experiment.seed, self._round, clients, joined.count, work)
            engine.load(Block(joined, plan, keys, context=context))
            if optimizer is not None:
                optimizer.start(rows)

        def steps(k: int) -> None:
            count = range(int(in_a_row[k - 1]))
            if engine.take(count, losses[:k], broadcast, 0.0, correct):
                return
            for step in count:
                engine.gradients(step, k)
                if optimizer is not None:
                    optimizer.step(rows[:k], engine.grad[:k], 0.0)

        return _Work(engine, in_a_row, load, steps)


@contextmanager
def _rows_may_fail(choice: EngineChoice) -> Iterator[None]:
    """Whatever fails on rows is a reason to do without them; one client at a time, it is an error."""
    try:
        yield
    except (CannotCapture, RaysimError):
        raise
    except Exception as error:
        if choice.name == "sequential":
            raise
        raise CannotCapture(why_not(error)) from error


@dataclass(frozen=True, slots=True)
class _Work:
    """An engine that can take up a block, and then the first `in_a_row[k - 1]` local steps of its first k clients."""

    engine: Engine
    in_a_row: Int64
    load: Callable[[], None]
    steps: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a local step of some k clients at once, and of taking up a block; a note on the engine."""

    ks: Int64
    a_step: Float64
    a_block: float
    note: str = ""

    def best(self, falling: Int64, fixed: int | None) -> tuple[int, float]:
        """The number of rows, unless it is fixed, that does such a round fastest, and the seconds that it takes.

        Where it makes no difference, there are more: one actor may come to train the whole cohort.
        """
        options = [fixed] if fixed else [k for k in self.ks.tolist() if k > 1]
        found = {rows: self.round_seconds(falling, rows) for rows in options}
        rows = min(found, key=lambda rows: (found[rows], -rows))
        return rows, found[rows]

    def round_seconds(self, falling: Int64, rows: int) -> float:
        """Of a round whose clients take so many steps, the longest first, and train in blocks of so many rows.

        In a block's step s train those with more than s steps.
        """
        total = 0.0
        for block in even_blocks(len(falling), rows):
            steps = falling[block]
            active = np.count_nonzero(steps[:, None] > np.arange(int(steps[0])), axis=0)
            total += self.a_block + float(np.interp(active, self.ks, self.a_step).sum())
        return total


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    """Of one call: the fastest of a few short series, since everything else on the machine only adds to it."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    call()
    began = time.perf_counter()
    call()
    repeat = max(1, min(20, int(2e-3 / max(time.perf_counter() - began, 1e-6))))
    found = []
    for _ in range(3):
        began = clock()
        for _ in range(repeat):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(clock() - began)
    return min(found) / repeat
