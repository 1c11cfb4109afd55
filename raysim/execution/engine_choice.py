"""`training.engine: auto` made concrete: the engines that can do the work are timed on it, once, by the driver."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from raysim import keyed
from raysim.algorithms import Algorithm
from raysim.data import Federation
from raysim.data.build import Tell, say_nothing
from raysim.errors import ConfigError
from raysim.execution.label_counts import LossContexts
from raysim.execution.scheduling import even_blocks
from raysim.execution.work import Float64, Int64, Job, RoundTask
from raysim.machine import cores
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
    row_optimizer,
    torch_threads,
)
from raysim.training.rows import RowsEngine

MOST_ROWS = 128
"""Clients that train at once: with more of them, there is nothing left to share."""
MOST_VALUES = 1 << 22
"""Values of the matrix that they train in: beyond, it is out of every cache, and larger blocks only cost memory."""
WORTH_TIMING = 2000
"""Client-steps of a whole run below which any engine is done before it is timed."""
WORTH_COMPILING = 60.0
"""Seconds of a whole run below which a compilation, of 5 to 20 s, would not be paid back."""
WORTH_SHARING = 8e-3
"""Seconds of a round that two workers would do no faster than one, for all that they have to tell each other."""
_STEPS = 8
"""Local steps that are timed in a row, where clients take as many."""
CLEARLY = 0.9
"""Another engine is chosen where it takes less than this share of the time: it changes the last bits."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The engine, and how it was chosen.

    Attributes:
        reason: why this one.
        replaced: whether it is another one than was asked for.
        a_step: measured seconds of a client's local step on it; None where nothing was timed.
    """

    engine: EngineChoice
    reason: str
    replaced: bool = False
    a_step: float | None = None


def choose_engine(
    job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask, *, tell: Tell = say_nothing
) -> Chosen:
    """The concrete engine for a job whose choice is still open.

    Args:
        job: its engine says device and threads.
        task: a round, to be timed.
        tell: told where engines are timed.

    Raises:
        ConfigError: what was asked for needs a C++ compiler or a GPU, and there is none.
    """
    training = job.experiment.training
    if training.compile is True and not has_compiler():
        raise ConfigError("training.compile: no C++ compiler is found; install g++ or clang++, or set it to false")
    sequential = replace(job.engine, name="sequential", rows=1)
    if training.engine == "sequential":
        return Chosen(sequential, "as configured")
    if algorithm.solves:
        return Chosen(sequential, "clients solve problems of their own", replaced=training.engine == "rows")
    if training.engine == "auto" and (why := _not_worth_timing(job, algorithm, task)):
        return Chosen(sequential, why)
    nobody = not task.steps.any()  # to be timed with
    device = job.engine.torch_device
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "training.engine: this process sees no GPU to try engines on; set training.engine=sequential, or start on "
            "a node with a GPU"
        )
    with torch_threads(job.engine.threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            if nobody or (training.rows is not None and training.compile != "auto" and training.engine == "rows"):
                rows = training.rows or max(_room(algorithm), 2)
                choice = replace(job.engine, name="rows", rows=rows, compiled=training.compile is True)
                engine = build(job, algorithm, choice, local_update(job, algorithm))
                return Chosen(choice, f"as configured{_partly(engine)}")
            tell("timing the engines on clients of the first round")
            return _fastest(job, sequential, _Timing(job, federation, algorithm, task), task)
        except CannotCapture as reason:
            return Chosen(sequential, f"one client at a time: {reason}", replaced=training.engine == "rows")


def time_step(job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask) -> float | None:
    """Seconds of a client's local step in a round like this on the job's engine; None where this process cannot tell.

    For a plan: a job whose engine is configured was never timed.
    """
    engine, device = job.engine, job.engine.torch_device
    if not task.steps.any() or (device.type == "cuda" and not torch.cuda.is_available()):
        return None
    falling = np.sort(task.steps)[::-1]
    with torch_threads(engine.threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        measured = _Timing(job, federation, algorithm, task).of(engine)
    return measured.round_seconds(falling, engine.rows) / int(falling.sum())


def has_compiler() -> bool:
    """Whether `torch.compile` would find a C++ compiler."""
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))


def local_update(job: Job, algorithm: Algorithm) -> LocalUpdate:
    """What a local step does with gradients."""
    client = job.experiment.client
    config = algorithm.local_optimizer(client)
    optimizer = None if config is None else row_optimizer(config)
    return LocalUpdate(optimizer, client.clip_norm, algorithm, algorithm.takes_steps, algorithm.sees_gradients)


def build(job: Job, algorithm: Algorithm, choice: EngineChoice, update: LocalUpdate) -> Engine:
    """An engine for the job.

    Raises:
        CannotCapture: the model, or the work, is not for this engine; says why.
    """
    info = job.federation.open().info
    module = job.build_module(info)
    loss = resolve_client_loss(job.experiment.training, info)
    work = algorithm.work(job.experiment.client)
    features = algorithm.feature_loss()
    return build_engine(choice, module, ParameterLayout(module), loss, info, work, update, features)


def _partly(engine: Engine) -> str:
    """What to add where less than the whole step was compiled."""
    why = engine.not_whole if isinstance(engine, RowsEngine) and engine.compiled else ""
    return f"; only the gradient is compiled: {why}" if why else ""


def _not_worth_timing(job: Job, algorithm: Algorithm, task: RoundTask) -> str | None:
    total = int(task.steps.sum()) * job.experiment.rounds
    if total < WORTH_TIMING:
        return f"about {total} local steps in all are done before an engine is timed"
    if _most_rows(algorithm, task) < 2:
        return "the model is too large, or the cohort too small, to do anything at once"
    return None


def _most_rows(algorithm: Algorithm, task: RoundTask) -> int:
    return min(len(task.clients), _room(algorithm))


def _room(algorithm: Algorithm) -> int:
    return min(MOST_ROWS, MOST_VALUES // algorithm.layout.size)


def _fastest(job: Job, sequential: EngineChoice, timing: _Timing, task: RoundTask) -> Chosen:
    """Of rows, compiled rows and one client at a time, what the configuration leaves open and does a round fastest."""
    training = job.experiment.training
    falling = np.sort(task.steps)[::-1]
    most = training.rows or max(_most_rows(timing.algorithm, task), 2)
    choice = replace(sequential, name="rows", rows=most)
    measured = timing.of(choice)
    if measured.best(falling, training.rows)[1] > WORTH_SHARING:
        falling = falling[:: _workers(job)]  # one worker's part of the round
    rows, seconds = measured.best(falling, training.rows)
    times, note = {"in rows": seconds}, ""
    chosen = replace(choice, rows=rows)
    long = seconds * job.experiment.rounds > WORTH_COMPILING and timing.algorithm.feature_loss() is None
    if training.compile is True or (training.compile == "auto" and long and has_compiler()):
        compiled = timing.of(replace(choice, compiled=True))
        rows, compiled_seconds = compiled.best(falling, training.rows)
        times["in compiled rows"], note = compiled_seconds, compiled.note
        if training.compile is True or compiled_seconds < CLEARLY * seconds:
            chosen, seconds = replace(choice, rows=rows, compiled=True), compiled_seconds
    alone = timing.of(sequential).round_seconds(falling, 1)
    times["one client at a time"] = alone
    reason = "a worker's part of a round takes " + ", ".join(f"{1e3 * t:.3g} ms {name}" for name, t in times.items())
    if training.engine == "rows" or seconds < CLEARLY * alone:
        reason += note if chosen.compiled else ""
        return Chosen(chosen, reason, a_step=seconds / int(falling.sum()))
    return Chosen(sequential, reason, a_step=alone / int(falling.sum()))


def _workers(job: Job) -> int:
    execution = job.experiment.execution
    if execution.executor == "inprocess":
        return 1
    return max(int(cores()), 1) if execution.actors == "auto" else execution.actors


class _Timing:
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
        update = local_update(self._job, self.algorithm)
        engine, optimizer = build(self._job, self.algorithm, choice, update), update.optimizer
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
            if engine.take(count, losses[:k], broadcast, 0.0):
                return
            for step in count:
                engine.gradients(step, k)
                if optimizer is not None:
                    optimizer.step(rows[:k], engine.grad[:k], 0.0)

        a_block = _seconds(load, device)
        ks = np.unique(np.minimum([1, 2, 4, 8, 16, 32, 64, MOST_ROWS], choice.rows))
        a_step = np.array([_seconds(partial(steps, k), device) / int(in_a_row[k - 1]) for k in ks.tolist()])
        return Measured(ks, a_step, a_block, _partly(engine))


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
