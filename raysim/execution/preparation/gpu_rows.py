"""How many clients train at once on a GPU: as many as fit into what an actor has of its memory.

A row takes what can be counted (weights, gradients, the update, the optimiser's state, what a client keeps) and what
passes in a step, activations for the most part, which is measured with a few rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch

from raysim.config.running import ExecutionConfig
from raysim.execution.placement.memory import CUDA_CONTEXT, Skeleton, actor_memory
from raysim.execution.preparation.engine_timing import Timing
from raysim.rounds.job import Job
from raysim.training import EngineChoice

_TRIED = (2, 8)
"""Rows whose steps are measured: what more rows take is for rows, the rest for whatever a step takes anyway."""
_SPARE = 0.1
"""Share of the memory that is left alone: for evaluation, and for gaps between what was freed."""
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What a GPU says of its memory, in bytes.

    Attributes:
        free: what this process may have of it, with what it has already.
        total: all of it.
        passing: the most that some work allocated beyond what was allocated before.
    """

    free: int
    total: int
    passing: int


@dataclass(frozen=True, slots=True)
class RowMemory:
    """Bytes that training takes of a GPU, beside torch's context.

    Attributes:
        fixed: whatever the number of rows.
        counted: of each row, as counted.
        passing: of each row in a step, as measured.
    """

    fixed: int
    counted: int
    passing: int

    @classmethod
    def of(cls, one: int, most: tuple[int, int], passing: dict[int, int]) -> RowMemory:
        """From estimates and measurements.

        Args:
            one: what an actor with one row takes, without what passes.
            most: a number of rows, and the memory of an actor with that many.
            passing: temporary memory in a step, by the number of rows; empty where it is not known.
        """
        counted = ceil((most[1] - one) / max(most[0] - 1, 1))
        few, many = min(passing, default=0), max(passing, default=0)
        a_row = anyway = 0
        if few < many:
            a_row = max(0, ceil((passing[many] - passing[few]) / (many - few)))
            anyway = max(0, passing[few] - few * a_row)
        elif few:
            a_row = ceil(passing[few] / few)
        return cls(max(0, one - counted) + anyway, counted, a_row)

    def rows(self, memory: int, most: int) -> int:
        """How many rows fit into this many bytes, `most` at most; 0 if none does."""
        left = int((1 - _SPARE) * memory) - self.fixed
        return max(0, min(most, left // max(1, self.counted + self.passing)))


def actor_bytes(execution: ExecutionConfig, reading: GpuReading) -> int:
    """Bytes that an actor may take of its GPU, without torch's context: its share, of the smallest class.

    In process there is one, which has the GPU and its context already.
    """
    if execution.executor == "inprocess":
        return reading.free
    shares = [execution.num_gpus, *(one.num_gpus for one in execution.classes.values())]
    share = min((min(one, 1.0) for one in shares if one > 0), default=1.0)
    return int(share * min(reading.free, execution.gpu_memory or reading.total)) - CUDA_CONTEXT


def affordable_rows(job: Job, timing: Timing, rows: EngineChoice | None, most: int) -> tuple[int, str]:
    """How many rows an actor's share of the GPU holds, `most` at most, and a phrase that says why; below 2, why none.

    Args:
        rows: the engine to measure; None where there are no clients to measure it with.

    Raises:
        CannotCapture: the engine cannot do it.
    """
    device, passing, building = job.engine.torch_device, {}, 0
    reading = read_gpu(device, lambda: None)
    for k in _TRIED if rows is not None else ():
        made: list[Callable[[], None]] = []
        choice = replace(rows or job.engine, rows=k)
        try:
            building = max(building, read_gpu(device, partial(_make, made, timing, choice)).passing)
            passing[k] = read_gpu(device, made[0]).passing
        except torch.OutOfMemoryError:  # then what fewer take has to do
            break
    if rows is not None and not passing:
        return 0, f"the GPU's memory does not hold {_TRIED[0]} clients at once"
    memory = actor_bytes(job.experiment.execution, reading)
    if building > memory:
        return 0, f"{memory / _MIB:,.0f} MiB of the GPU do not hold the trial that an engine with rows begins with"
    skeleton = Skeleton.of(job)
    one, all_of_them = (_gpu_bytes(job, skeleton, k) for k in (1, most))
    found = RowMemory.of(one, (most, all_of_them), passing)
    fit = found.rows(memory, most)
    each = f"{found.counted / _MIB:.3g} MiB counted and {found.passing / _MIB:.3g} MiB measured for each"
    if rows is None:
        each = f"{found.counted / _MIB:.3g} MiB counted for each, and no client with steps to measure with"
    room = f"{max(memory, 0) / _MIB:,.0f} MiB of the GPU"
    what = f"{fit} clients at once fit into {room}" if fit > 1 else f"two clients at once do not fit into {room}"
    return fit, f"{what}: {each}"


def read_gpu(device: torch.device, work: Callable[[], None]) -> GpuReading:
    """Do some work, and ask CUDA what it took and what there is. All that is asked of CUDA is asked here."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    passing = torch.cuda.max_memory_allocated(device) - before
    free, total = torch.cuda.mem_get_info(device)
    return GpuReading(free + torch.cuda.memory_reserved(device), total, passing)


def release(device: torch.device) -> None:
    """Give back what this process keeps of the GPU for nothing: actors need it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _make(made: list[Callable[[], None]], timing: Timing, choice: EngineChoice) -> None:
    made.append(timing.once(choice))


def _gpu_bytes(job: Job, skeleton: Skeleton, rows: int) -> int:
    """Bytes of its GPU that an actor with this many rows takes, without torch's context."""
    with_rows = replace(job, engine=replace(job.engine, name="rows", rows=rows))
    return actor_memory(with_rows, skeleton).gpu - CUDA_CONTEXT
