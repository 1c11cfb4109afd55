"""One trial: a simulation that advances a few rounds at a time, in this process or in another."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from raysim.config import Experiment
from raysim.simulation import Round, Simulation
from raysim.systems.recording import SECONDS
from raysim.tracking import RunDirectory
from raysim.tuning.objective import TrialRound

CLIENT_BYTES = 4
"""Bytes of a parameter as it travels."""


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """Rounds that a trial has done since it was last asked, and whether they were its last."""

    rounds: tuple[TrialRound, ...]
    finished: bool


class TrialRun:
    """A run of the experiment of a trial.

    A trial that is begun again, because the process that had it is gone, starts with an empty folder.
    """

    def __init__(
        self, experiment: Experiment, directory: str, model: nn.Module | None = None, data: Any = None
    ) -> None:
        """Prepare it.

        Raises:
            RaysimError: see `Simulation`.
        """
        shutil.rmtree(directory, ignore_errors=True)
        self._simulation = Simulation(experiment, model=model, data=data, directory=directory)
        self._bytes = CLIENT_BYTES * self._simulation.parameters
        self._rounds: Iterator[Round] = iter(self._simulation)
        self._at = 0.0

    def advance(self, seconds: float) -> TrialProgress:
        """Go on until a round was evaluated and `seconds` are over.

        Raises:
            RaysimError: see `Simulation.__iter__`.
        """
        until = time.monotonic() + seconds
        done: list[TrialRound] = []
        for one in self._rounds:
            row = one.row
            traffic = self._bytes * (row.cohort + row.trained)
            at = one.metrics.get(SECONDS, 0.0)
            sent, took = row.wire_up + row.wire_down, at - self._at
            done.append(TrialRound(one.number, dict(one.metrics), row.steps, row.samples, traffic, sent, took))
            self._at = at
            if len(one.metrics) > 1 and time.monotonic() >= until:
                return TrialProgress(tuple(done), finished=False)
        self.close()
        return TrialProgress(tuple(done), finished=True)

    def close(self) -> None:
        """End it. Only the configuration and the tables stay in its folder: a study has many trials."""
        self._simulation.close()
        run = RunDirectory(self._simulation.directory)
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        Path(run.model).unlink(missing_ok=True)
