"""`training.engine: auto` made concrete: the engines that can do the work are timed on it, once, by the driver."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from raysim import keyed
from raysim.algorithms import Algorithm
from raysim.data import Federation
from raysim.execution.environment import device_of
from raysim.execution.work import EngineChoice, Float64, Int64, Job, RoundTask
from raysim.training import (
    BatchPlan,
    Block,
    CannotCapture,
    Engine,
    ParameterLayout,
    Shard,
    build_engine,
    resolve_loss,
    row_optimizer,
    torch_threads,
)

MOST_ROWS = 128
"""Clients that train at once: more of them share out nothing that is left to share."""
MOST_VALUES = 1 << 22
"""Values of the matrix that they train in: beyond, it is out of every cache, and larger blocks only cost memory."""
WORTH_TIMING = 2000
"""Client-steps of a whole run below which any engine is done before it is timed."""
CLEARLY = 0.9
"""Rows are chosen where they take less than this share of the sequential time: they change the last bits."""
_AS_GOOD = 1.05
"""Of several numbers of rows that are so close to the fastest, the smallest takes the least memory."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The engine, why it was chosen, and whether it is another one than was asked for."""

    engine: EngineChoice
    reason: str
    replaced: bool = False


def choose_engine(job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask) -> Chosen:
    """The concrete engine for a job whose choice is still open.

    Args:
        job: its engine says device and threads.
        task: a round, to be timed.
    """
    training = job.experiment.training
    asked = training.engine
    sequential = replace(job.engine, name="sequential", rows=1)
    if asked == "sequential":
        return Chosen(sequential, "as configured")
    if asked == "rows" and training.rows is not None:
        return _tried(job, algorithm, replace(job.engine, name="rows", rows=training.rows))
    room = min(MOST_ROWS, max(MOST_VALUES // algorithm.layout.size, 1))
    most = min(len(task.clients), room)
    if asked == "auto":
        total = int(task.steps.sum()) * job.experiment.rounds
        if total < WORTH_TIMING:
            return Chosen(sequential, f"about {total} local steps in all are done before an engine is timed")
        if most < 2:
            return Chosen(sequential, "the model, or the cohort of one, leaves nothing to do at once")
    if not task.steps.any():  # nobody to be timed with
        return _tried(job, algorithm, replace(job.engine, name="rows", rows=max(room, 2)))
    most, device = max(most, 2), device_of(job.engine)
    with torch_threads(job.engine.threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        timing = _Timing(job, federation, algorithm, task)
        try:
            steps, seconds = timing.of(replace(job.engine, name="rows", rows=most))
        except CannotCapture as reason:
            return Chosen(sequential, f"one client at a time: {reason}", replaced=asked == "rows")
        rows, together = _best_rows(np.sort(task.steps)[::-1], steps, seconds)
        alone = float(timing.of(sequential)[1][0]) * int(task.steps.sum())
    speed = f"{1e3 * together:.3g} ms a round in rows of {rows}, {1e3 * alone:.3g} ms one client at a time"
    if asked == "rows" or together < CLEARLY * alone:
        return Chosen(replace(job.engine, name="rows", rows=rows), speed)
    return Chosen(sequential, speed)


def _tried(job: Job, algorithm: Algorithm, choice: EngineChoice) -> Chosen:
    try:
        with torch_threads(choice.threads):
            _build(job, algorithm, choice)
    except CannotCapture as reason:
        return Chosen(replace(choice, name="sequential", rows=1), f"one client at a time: {reason}", replaced=True)
    return Chosen(choice, "as configured")


def _build(job: Job, algorithm: Algorithm, choice: EngineChoice) -> Engine:
    info = job.federation.open().info
    module = job.build_module(info)
    loss = resolve_loss(job.experiment.training, info)
    work = algorithm.work(job.experiment.client)
    layout = ParameterLayout(module)
    return build_engine(choice.name, choice.rows, module, layout, loss, info, work, device_of(choice))


class _Timing:
    """Seconds of a local step of the first k clients of a round, the longest ones."""

    def __init__(self, job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask) -> None:
        self._job, self._federation, self._algorithm = job, federation, algorithm
        longest = np.argsort(-task.steps, kind="stable")[:MOST_ROWS]
        self._clients, self._round = task.clients[longest[task.steps[longest] > 0]], task.round

    def of(self, choice: EngineChoice) -> tuple[Int64, Float64]:
        """Some k up to the number of rows, ascending, and the seconds of a step of so many clients.

        Raises:
            CannotCapture: the engine cannot do it.
        """
        engine = _build(self._job, self._algorithm, choice)
        device, experiment = device_of(choice), self._job.experiment
        clients = np.resize(self._clients, choice.rows)  # a round may have fewer
        shards = {c: Shard.load(self._federation.shard(c), device) for c in set(clients.tolist())}
        blocks = [shards[c] for c in clients.tolist()]
        sizes = np.array([len(shard) for shard in blocks])
        work = self._algorithm.work(experiment.client)
        plan = BatchPlan.draw(experiment.seed, self._round, clients, sizes, work)
        engine.load(Block(blocks, plan, keyed.integers(experiment.seed, keyed.Purpose.MODULE, self._round, clients)))
        config = self._algorithm.local_optimizer(experiment.client)
        optimizer = None if config is None else row_optimizer(config)
        trainable = engine.grad.shape[1]

        def step(k: int) -> None:
            engine.gradients(0, k)
            if optimizer is not None:
                optimizer.step(engine.rows[:k, :trainable], engine.grad[:k], 0.0)

        if optimizer is not None:
            optimizer.start(engine.rows[: choice.rows, :trainable])
        ks = np.unique(np.minimum([1, 2, 4, 8, 16, 32, 64, MOST_ROWS], choice.rows))
        return ks, np.array([_seconds(partial(step, k), device) for k in ks[::-1].tolist()])[::-1]


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    """Of one call: the fastest of a few short series, since everything else on the machine only adds to it."""
    call()
    began = time.perf_counter()
    call()
    repeat = max(1, min(20, int(2e-3 / max(time.perf_counter() - began, 1e-6))))
    found = []
    for _ in range(3):
        began = time.thread_time() if device.type == "cpu" else time.perf_counter()
        for _ in range(repeat):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append((time.thread_time() if device.type == "cpu" else time.perf_counter()) - began)
    return min(found) / repeat


def _best_rows(falling: Int64, ks: Int64, seconds: Float64) -> tuple[int, float]:
    """The number of rows to train a round in, and the seconds that it takes.

    Args:
        falling: local steps of each client, the longest first.
        ks, seconds: what a step of so many clients at once takes.
    """
    options = [k for k in ks.tolist() if k > 1]
    found = {rows: _round_seconds(falling, rows, ks, seconds) for rows in options}
    fastest = min(found.values())
    rows = next(rows for rows in options if found[rows] <= _AS_GOOD * fastest)
    return rows, found[rows]


def _round_seconds(falling: Int64, rows: int, ks: Int64, seconds: Float64) -> float:
    """Clients train in blocks of `rows`; in a block's step s train those with more than s steps."""
    total = 0.0
    for start in range(0, len(falling), rows):
        steps = falling[start : start + rows]
        active = np.count_nonzero(steps[:, None] > np.arange(int(steps[0])), axis=0)
        total += float(np.interp(active, ks, seconds).sum())
    return total
