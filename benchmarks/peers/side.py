"""What all sides share: the task that they are given, the clock that they are held to, the line that they print."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers.processes import MARK, cpu_seconds, marked
from peers.workloads import Federation, Workload

LAUNCHED = "RAYSIM_BENCHMARK_LAUNCHED"
"""Environment variable: when the process was launched, by the machine's monotonic clock."""

LAST = 20
"""Rounds that the accuracy is averaged over where every round is evaluated: it jumps from round to round."""


@dataclass(frozen=True, slots=True)
class Task:
    """A run of one side."""

    workload: Workload
    folder: str
    """The workload's federation."""
    rounds: int
    """Timed rounds."""
    warmup: int
    """Rounds before them, at least one."""
    variant: str
    """How the side is set up, in the side's own words."""
    cores: int

    @classmethod
    def read(cls) -> Task:
        """The task whose file is the first argument of this process."""
        return cls.from_file(sys.argv[1])

    @classmethod
    def from_file(cls, path: str | Path) -> Task:
        """The task that `to_json` wrote."""
        values = json.loads(Path(path).read_text())
        workload = Workload(**{**values["workload"], "shape": tuple(values["workload"]["shape"])})
        return cls(**{**values, "workload": workload})

    def to_json(self) -> str:
        """As `from_file` takes it."""
        return json.dumps(asdict(self))

    @property
    def all_rounds(self) -> int:
        """Rounds, timed and not."""
        return self.warmup + self.rounds

    def federation(self) -> Federation:
        """The data, in memory."""
        return Federation.load(self.folder)


class Meter:
    """Times the rounds of one run: `round` is called at the end of every one.

    Seconds per round are the whole timed span over its rounds, not a median of rounds: a side may work on several at
    once and deliver them together. Start-up lasts until the end of the first round, whatever a side does when.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._mark = os.environ[MARK]
        self._pids: set[int] = set()
        self._ends: list[float] = []
        self._work: list[tuple[int, int, int]] = []
        self._accuracy: list[float] = []

    def round(self, samples: int, batches: int, steps: int, accuracy: float | None = None) -> None:
        """A round is over; this is what was trained in it, and how good the model is if it was evaluated."""
        self._ends.append(time.perf_counter())
        self._work.append((samples, batches, steps))
        if accuracy is not None:
            self._accuracy.append(accuracy)
        if len(self._ends) == 1:
            self._startup = time.monotonic() - float(os.environ[LAUNCHED])
        if len(self._ends) == self._task.warmup:
            self._mark_start()
        elif len(self._ends) == self._task.all_rounds:
            self._cpu = self._cpu_seconds() - self._cpu_start

    def result(self, *, parameters: int, versions: dict[str, str], accuracy: float | None = None) -> dict[str, Any]:
        """What was measured.

        Args:
            parameters: of the model, trainable.
            versions: of the libraries.
            accuracy: of the final model, where it was evaluated after the timing.
        """
        task = self._task
        starts = [self._start, *self._ends[task.warmup : -1]]
        rounds = [end - start for start, end in zip(starts, self._ends[task.warmup :], strict=True)]
        return {
            "variant": task.variant,
            "rounds": task.rounds,
            "seconds_per_round": (self._ends[-1] - self._start) / task.rounds,
            "median_round_seconds": statistics.median(rounds),
            "cpu_seconds_per_round": self._cpu / task.rounds,
            "startup_seconds": self._startup,
            "round_seconds": [float(f"{seconds:.6g}") for seconds in rounds],
            "work": self._work,
            "parameters": parameters,
            "accuracy": statistics.fmean(self._accuracy[-LAST:]) if self._accuracy else accuracy,
            "accuracy_by_round": self._accuracy,
            "versions": {"python": platform.python_version(), **versions},
        }

    def _mark_start(self) -> None:
        self._cpu_start = self._cpu_seconds()
        self._start = time.perf_counter()  # after the look at /proc, which takes milliseconds

    def _cpu_seconds(self) -> float:
        self._pids.update(marked(self._mark))
        return cpu_seconds(sorted(self._pids))


def say(result: dict[str, Any]) -> None:
    """Print the line; the last line of a side is its result."""
    print("\n" + json.dumps(result), flush=True)
