"""`training.engine: auto` made concrete: the engines that can do the work are timed on it, once, by the driver."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
import torch

from raysim.algorithms import Algorithm
from raysim.data import Federation
from raysim.data.build import Tell, say_nothing
from raysim.errors import ConfigError
from raysim.execution.clients.local_training import heard
from raysim.execution.preparation.engine_timing import MOST_ROWS, Measured, Shortfalls, Timing
from raysim.execution.preparation.gpu_rows import affordable_rows, release
from raysim.execution.preparation.program_run import build
from raysim.execution.scheduling.round_costs import SHARING
from raysim.machine import cores
from raysim.models import exclusive_torch
from raysim.rounds.environment import pin_gpu_bits
from raysim.rounds.job import Job
from raysim.rounds.task import RoundTask
from raysim.training import CannotCapture, EngineChoice, torch_threads
from raysim.user_code import told

MOST_VALUES = 1 << 22
"""Values of the matrix that they train in: beyond, it is out of every cache, and larger blocks only cost memory."""
WORTH_TIMING = 2000
"""Client-steps of a whole run below which any engine is done before it is timed."""
WORTH_COMPILING = 60.0
"""Seconds of a whole run below which a compilation, of 5 to 20 s, would not be paid back."""
CLEARLY = 0.9
"""Another engine is chosen where it takes less than this share of the time: it changes the last bits."""


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The engine, and how it was chosen.

    Attributes:
        reason: why this one.
        replaced: whether it is another one than was asked for.
        uncompiled: whether compiled steps were asked for and are not possible.
        a_step: measured seconds of a client's local step on it; None where nothing was timed.
        checked: why torch checks every compiled step anew; empty where it does not.
    """

    engine: EngineChoice
    reason: str
    replaced: bool = False
    uncompiled: bool = False
    a_step: float | None = None
    checked: str = ""


def choose_engine(
    job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask, *, tell: Tell = say_nothing
) -> ChosenEngine:
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
        return ChosenEngine(sequential, "as configured")
    if heard(job.experiment, algorithm).solves:
        return ChosenEngine(sequential, "clients solve problems of their own", replaced=training.engine == "rows")
    if training.engine == "auto" and (why := _not_worth_timing(job, algorithm, task)):
        return ChosenEngine(sequential, why)
    idle = not task.steps.any()  # to be timed with
    room, note = _room(job, algorithm), ""
    device = job.engine.torch_device
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "training.engine: this process sees no GPU to try engines on; set training.engine=sequential, or start on "
            "a node with a GPU"
        )
    if device.type == "cuda":
        pin_gpu_bits()
    with exclusive_torch(device), torch_threads(job.engine.threads):
        try:
            timing = Timing(job, federation, algorithm, task)
            if job.engine.device == "cuda" and training.rows is None:
                room, note = affordable_rows(job, timing, None if idle else replace(job.engine, name="rows"), room)
                if room < 2:
                    return ChosenEngine(sequential, note, replaced=training.engine == "rows")
            if idle or (training.rows is not None and training.compile != "auto" and training.engine == "rows"):
                found = _as_configured(job, algorithm, training.rows or max(room, 2))
                return replace(found, reason=f"{found.reason}; {note}") if note else found
            tell("timing the engines on clients of the first round")
            found = _fastest(job, sequential, timing, task, room)
            return replace(found, reason=f"{found.reason}; {note}") if note else found
        except CannotCapture as reason:
            return ChosenEngine(sequential, f"one client at a time: {reason}", replaced=training.engine == "rows")
        except torch.OutOfMemoryError as error:
            why = f"one client at a time: no memory to try rows in ({told(error)[:160]})"
            return ChosenEngine(sequential, why, replaced=training.engine == "rows")
        finally:
            release(device)


def time_step(job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask) -> float | None:
    """Seconds of a client's local step in a round like this on the job's engine; None where this process cannot tell.

    For a plan: a job whose engine is configured was never timed.
    """
    engine, device = job.engine, job.engine.torch_device
    if not task.steps.any() or (device.type == "cuda" and not torch.cuda.is_available()):
        return None
    if device.type == "cuda":
        pin_gpu_bits()
    falling = np.sort(task.steps)[::-1]
    with exclusive_torch(device), torch_threads(engine.threads):
        measured = Timing(job, federation, algorithm, task).of(engine)
    return measured.round_seconds(falling, engine.rows) / int(falling.sum())


def has_compiler() -> bool:
    """Whether `torch.compile` would find a C++ compiler."""
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))


def _not_worth_timing(job: Job, algorithm: Algorithm, task: RoundTask) -> str | None:
    total = int(task.steps.sum()) * job.experiment.rounds
    if total < WORTH_TIMING:
        return f"about {total} local steps in all are done before an engine is timed"
    if min(len(task.clients), _room(job, algorithm)) < 2:
        return "the model is too large, or the cohort too small, to do anything at once"
    return None


def _room(job: Job, algorithm: Algorithm) -> int:
    """Clients at once that may be worth it; how many a GPU's memory holds is measured."""
    samples = algorithm.work(job.experiment.client).poisson or 1  # whose gradients are there at once
    return (
        MOST_ROWS if job.engine.device == "cuda" else min(MOST_ROWS, MOST_VALUES // (samples * algorithm.layout.size))
    )


def _as_configured(job: Job, algorithm: Algorithm, rows: int) -> ChosenEngine:
    """This many rows, compiled if that is asked for and possible.

    Raises:
        CannotCapture: there can be no rows.
    """
    choice = replace(job.engine, name="rows", rows=rows)
    if job.experiment.training.compile is not True:
        build(job, algorithm, choice)
        return ChosenEngine(choice, "as configured")
    compiled = replace(choice, compiled=True)
    try:
        short = Shortfalls.of(build(job, algorithm, compiled)[0])
        return ChosenEngine(compiled, f"as configured{short}", checked=short.checked)
    except CannotCapture as reason:
        build(job, algorithm, choice)
        return ChosenEngine(choice, f"rows as configured, not compiled: {reason}", uncompiled=True)


def _fastest(job: Job, sequential: EngineChoice, timing: Timing, task: RoundTask, room: int) -> ChosenEngine:
    """Of rows, compiled rows and one client at a time, what the configuration leaves open and does a round fastest."""
    training, workers = job.experiment.training, _workers(job)
    falling = np.sort(task.steps)[::-1]
    parts = [(falling, 0.0)] if workers == 1 else [(falling, 0.0), (falling[::workers], SHARING)]

    def fastest(measured: Measured, fixed: int | None) -> tuple[int, float]:
        """Rows and seconds of the round, on one worker or shared among all."""
        found = [(*measured.best(part, fixed), more) for part, more in parts]
        return min(((rows, seconds + more) for rows, seconds, more in found), key=itemgetter(1))

    def chosen(choice: EngineChoice, measured: Measured, reason: str) -> ChosenEngine:
        a_step = measured.round_seconds(falling, choice.rows) / int(falling.sum())
        uncompiled, checked = bool(fault) and training.compile is True, short.checked if choice.compiled else ""
        return ChosenEngine(choice, f"{reason}{short}", uncompiled=uncompiled, a_step=a_step, checked=checked)

    most = training.rows or max(min(len(task.clients), room), 2)
    choice = replace(sequential, name="rows", rows=most)
    measured, fault, short = timing.of(choice), "", Shortfalls()
    rows, seconds = fastest(measured, training.rows)
    times, choice = {"in rows": seconds}, replace(choice, rows=rows)
    long = seconds * job.experiment.rounds > WORTH_COMPILING and timing.algorithm.feature_loss() is None
    if training.compile is True or (training.compile == "auto" and long and has_compiler()):
        try:
            compiled = timing.of(replace(choice, rows=most, compiled=True))
        except CannotCapture as reason:
            fault = f"; rows are not compiled: {reason}"
        else:
            rows, compiled_seconds = fastest(compiled, training.rows)
            times["in compiled rows"], short = compiled_seconds, compiled.shortfalls
            if training.compile is True or compiled_seconds < CLEARLY * seconds:
                choice, seconds = replace(choice, rows=rows, compiled=True), compiled_seconds
                measured = compiled
            else:  # what is not chosen may be slow for a reason that can be helped
                short = Shortfalls(checked=short.checked)
    alone = timing.of(sequential)
    _, alone_seconds = fastest(alone, 1)
    times["one client at a time"] = alone_seconds
    times_told = "a round takes " + ", ".join(f"{1e3 * t:.3g} ms {name}" for name, t in times.items()) + fault
    if training.engine == "rows" or seconds < CLEARLY * alone_seconds:
        return chosen(choice, measured, times_told)
    return chosen(sequential, alone, times_told)


def _workers(job: Job) -> int:
    execution = job.experiment.execution
    if execution.executor == "inprocess":
        return 1
    return max(int(cores()), 1) if execution.actors == "auto" else execution.actors
