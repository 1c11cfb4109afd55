"""Engines timed on the clients of a round, with the algorithm's own program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from raysim.algorithms import Algorithm
from raysim.arrays import Float64, Int64
from raysim.data import Federation
from raysim.errors import RaysimError
from raysim.execution.preparation.program_run import ProgramRun
from raysim.execution.scheduling.schedule import even_blocks
from raysim.rounds.job import Job
from raysim.rounds.task import RoundTask
from raysim.training import CannotCapture, Engine, EngineChoice
from raysim.training.capture import why_not
from raysim.training.rows import RowsEngine

MOST_ROWS = 128
"""Clients that train at once: with more of them, there is nothing left to share."""
_LONG = 0.1
"""Seconds of a call that is timed once."""
_BATCHES = 8
"""Batches that are timed in a row, where clients have as many."""


@dataclass(frozen=True, slots=True)
class Shortfalls:
    """In what the compiled code of an engine falls short.

    Attributes:
        not_whole: why less than the whole step is compiled; empty where it is whole.
        checked: why torch checks every step anew; empty where it does not.
    """

    not_whole: str = ""
    checked: str = ""

    @classmethod
    def of(cls, engine: Engine) -> Shortfalls:
        """Those of an engine; one that compiles nothing has none."""
        return cls(engine.codes.not_whole, engine.codes.checked) if isinstance(engine, RowsEngine) else cls()

    def __str__(self) -> str:
        """To be added to the reason for an engine."""
        whole = f"; only the gradient is compiled: {self.not_whole}" if self.not_whole else ""
        checks = f"; torch checks every compiled step anew, which takes time: {self.checked}" if self.checked else ""
        return whole + checks


class Timing:
    """Times the algorithm's program with engines, on the clients of a round."""

    def __init__(self, job: Job, federation: Federation, algorithm: Algorithm, task: RoundTask) -> None:
        self.algorithm = algorithm
        self._job, self._federation = job, federation
        falling = np.argsort(-task.steps, kind="stable")
        self._falling = task.clients[falling[task.steps[falling] > 0]]

    def of(self, choice: EngineChoice) -> Measured:
        """What steps and blocks take with an engine.

        A block of k clients is timed with one batch and with several: the difference is for steps, the rest is what a
        block takes anyway. That includes gradients of whole shards, so its clients are long and short ones.

        Raises:
            CannotCapture: the engine cannot do it.
        """
        with _rows_may_fail(choice):
            run = ProgramRun(self._job, self._federation, self.algorithm, choice)
            # Where all rows take every step, however few train, there is but one number to time.
            always_all = isinstance(run.engine, RowsEngine) and not run.engine.shrinks
            tried = [choice.rows] if always_all else [1, 2, 4, 8, 16, 32, 64, MOST_ROWS]
            ks = np.unique(np.minimum(tried, choice.rows))
            pairs = [self._timed(run, k, choice.torch_device) for k in ks.tolist()]
        a_step, a_block = np.array(pairs).T
        return Measured(ks, a_step, a_block, Shortfalls.of(run.engine))

    def once(self, choice: EngineChoice) -> Callable[[], None]:
        """Takes a block of `choice.rows` clients once, and its first steps; the engine is there already.

        Raises:
            CannotCapture: the engine cannot do it.
        """
        run = ProgramRun(self._job, self._federation, self.algorithm, choice)
        return lambda: run.block(self._some(choice.rows, longest=True), _BATCHES)()

    def _timed(self, run: ProgramRun, k: int, device: torch.device) -> tuple[float, float]:
        """Seconds of a step of k clients, and of what their block takes beside its steps."""
        longest, mixed = self._some(k, longest=True), self._some(k, longest=False)
        few, many = run.steps(longest, 1), run.steps(longest, _BATCHES)
        begun = _seconds(run.block(longest, 1), device)
        more = _seconds(run.block(longest, _BATCHES), device) - begun if many > few else 0.0
        a_step = max(0.0, more / max(many - few, 1))
        if not np.array_equal(self._federation.sizes("train", mixed), self._federation.sizes("train", longest)):
            begun = _seconds(run.block(mixed, 1), device)
        return a_step, max(0.0, begun - few * a_step)

    def _some(self, k: int, *, longest: bool) -> Int64:
        """k clients with steps, by falling number of them; a round may have fewer, then some are there again."""
        falling = self._falling
        if longest:
            places = np.arange(k) % min(k, len(falling))
        else:
            places = ((np.arange(k) + 0.5) * len(falling) / k).astype(np.int64)
        return falling[np.sort(places)]


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
class Measured:
    """Seconds of a local step of some k clients at once, and of what a block of them takes beside its steps, either the
    same for any k or for each; and in what the engine's compiled code falls short."""

    ks: Int64
    a_step: Float64
    a_block: float | Float64
    shortfalls: Shortfalls = Shortfalls()

    def best(self, falling: Int64, fixed: int | None) -> tuple[int, float]:
        """The number of rows, unless it is fixed, that does such a round fastest, and the seconds that it takes.

        Where it makes no difference, there are more: one actor may come to train the whole cohort.
        """
        options = [fixed] if fixed else [k for k in self.ks.tolist() if k > 1]
        found = {rows: self.round_seconds(falling, rows) for rows in options}
        rows = min(found, key=lambda rows: (found[rows], -rows))
        return rows, found[rows]

    def round_seconds(self, falling: Int64, rows: int) -> float:
        """Of a round whose clients take these steps, the longest first, and train in blocks of this many rows.

        In a block's step s train those with more than s steps.
        """
        total = 0.0
        for block in even_blocks(len(falling), rows):
            steps = falling[block]
            active = np.count_nonzero(steps[:, None] > np.arange(int(steps[0])), axis=0)
            anyway = np.interp(len(steps), self.ks, np.broadcast_to(self.a_block, self.ks.shape))
            total += float(anyway + np.interp(active, self.ks, self.a_step).sum())
        return total


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    """Of one call: the fastest of a few short series, since everything else on the machine only adds to it; little
    beside a long call, which is timed once."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter

    def series(repeat: int) -> float:
        began = clock()
        for _ in range(repeat):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (clock() - began) / repeat

    call()
    first = series(1)
    if first > _LONG:
        return first
    repeat = max(1, min(20, int(2e-3 / max(first, 1e-6))))
    return min(series(repeat) for _ in range(3))
