"""Where trials run: one at a time in this process, or several at once in processes of a Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from raysim.cluster import Runtime
from raysim.config import Experiment
from raysim.errors import ConfigError, PlacementError, RaysimError, StorageError
from raysim.tuning.hosts import ObjectHosts
from raysim.tuning.trial_run import TrialProgress, TrialRun

PATIENCE = 0.2
"""Seconds of rounds that a trial on another process does between two messages."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a trial reports: rounds that it has done, or why it failed.

    Attributes:
        key: what the trial was started with.
        lost: the process that had it is gone; the trial itself may be fine.
    """

    key: str
    progressed: TrialProgress | None = None
    failed: str | None = None
    lost: bool = False


class Bench(ABC):
    """Runs experiments. Contract: `start` as long as there is `room`, then `wait` for reports; `stop` ends a run early.

    A run is gone once its report says that it has finished or failed, or once it was stopped. Closing ends them all.
    """

    capacity: int
    """Runs at once."""

    @property
    @abstractmethod
    def running(self) -> Sequence[str]:
        """Keys of the runs that are not gone."""

    @property
    def room(self) -> bool:
        """Whether one more may start."""
        return len(self.running) < self.capacity

    @abstractmethod
    def start(self, key: str, experiment: Experiment, directory: str) -> None:
        """Start a run in this run directory."""

    @abstractmethod
    def wait(self) -> Report:
        """The next report of any run."""

    @abstractmethod
    def stop(self, key: str) -> None:
        """End a run where it is."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_bench(experiment: Experiment, model: nn.Module | None, data: Any) -> Bench:
    """The bench for a study's trials.

    Raises:
        ConfigError: several trials at once, and no Ray.
        PlacementError: they can never be placed at once.
    """
    if experiment.execution.executor == "ray":
        return RayBench(experiment, model, data)
    if experiment.tuning.parallel > 1:
        raise ConfigError(
            f"tuning.parallel: {experiment.tuning.parallel} trials at once need execution.executor: ray; or set it to 1"
        )
    return LocalBench(model, data)


class LocalBench(Bench):
    """One trial at a time, here."""

    capacity = 1

    def __init__(self, model: nn.Module | None, data: Any) -> None:
        self._model, self._data = model, data
        self._run: TrialRun | None = None
        self._waiting: tuple[str, Experiment, str] | None = None

    @property
    def running(self) -> Sequence[str]:
        return [] if self._waiting is None else [self._waiting[0]]

    def start(self, key: str, experiment: Experiment, directory: str) -> None:
        self._waiting = key, experiment, directory

    def wait(self) -> Report:
        assert self._waiting is not None, "there is nothing to wait for"
        key, experiment, directory = self._waiting
        try:
            if self._run is None:
                self._run = TrialRun(experiment, directory, self._model, self._data)
            progressed = self._run.advance(0.0)
        except StorageError:  # the disk is the same for every trial
            self._run = self._waiting = None
            raise
        except RaysimError as error:
            self._run = self._waiting = None
            return Report(key, failed=str(error))
        if progressed.finished:
            self._run = self._waiting = None
        return Report(key, progressed)

    def stop(self, key: str) -> None:
        if self._run is not None:
            self._run.close()
        self._run = self._waiting = None

    def close(self) -> None:
        self.stop("")


class RayBench(Bench):
    """Each trial in a process of its own, which the next one takes over.

    Where a trial's share is one actor, that process does the actor's work itself, with the same bits and without
    messages. Otherwise it drives actors on its share of the machine.
    """

    def __init__(self, experiment: Experiment, model: nn.Module | None, data: Any) -> None:
        """Start or attach to Ray, and start the processes.

        Raises:
            PlacementError: `tuning.parallel` trials do not fit at once.
        """
        execution = experiment.execution
        self.capacity = experiment.tuning.parallel
        self._runtime = Runtime.start(execution)
        try:
            cpus = 1.0 if execution.num_cpus == "auto" else float(execution.num_cpus)
            slots = _slots(self._runtime, cpus, execution.num_gpus)
            self._actors = max(1, slots // self.capacity) if execution.actors == "auto" else execution.actors
            if slots < self.capacity * self._actors:
                raise PlacementError(
                    f"tuning.parallel: {self.capacity} trials at once of {self._actors} actors need "
                    f"{self.capacity * self._actors} places, and there are {slots} (an actor takes {cpus:g} CPUs and "
                    f"{execution.num_gpus:g} GPUs); lower tuning.parallel or execution.actors"
                )
            self._alone = self._actors == 1 and execution.clients_per_actor is None
            self._hosts = ObjectHosts(
                self._runtime,
                self.capacity,
                num_cpus=cpus if self._alone else 0.0,
                num_gpus=execution.num_gpus if self._alone else 0.0,
                shared=(model, data),
            )
        except BaseException:
            self._runtime.close()
            raise
        self._at: dict[str, int] = {}

    @property
    def running(self) -> Sequence[str]:
        return list(self._at)

    def start(self, key: str, experiment: Experiment, directory: str) -> None:
        host = next(host for host in range(self.capacity) if host not in self._at.values())
        values = experiment.to_dict()
        values["execution"]["actors"] = self._actors
        if self._alone:
            values["execution"]["executor"] = "inprocess"
        self._at[key] = host
        self._hosts.make(host, TrialRun, Experiment.parse(values), directory)
        self._hosts.call(host, "advance", PATIENCE)

    def wait(self) -> Report:
        answer = self._hosts.wait()
        key = next(key for key, host in self._at.items() if host == answer.host)
        if answer.error is None:
            if answer.value.finished:
                del self._at[key]
            else:
                self._hosts.call(answer.host, "advance", PATIENCE)
            return Report(key, answer.value)
        del self._at[key]
        if not answer.lost and (not isinstance(answer.error, RaysimError) or isinstance(answer.error, StorageError)):
            raise answer.error
        return Report(key, failed=str(answer.error).splitlines()[0], lost=answer.lost)

    def stop(self, key: str) -> None:
        host = self._at.pop(key, None)
        if host is not None:
            self._hosts.end(host, "close")

    def close(self) -> None:
        self._hosts.close()
        self._runtime.close()


def _slots(runtime: Runtime, cpus: float, gpus: float) -> int:
    """Actors that fit at once, counting whole ones on each node."""
    found = 0
    for node in runtime.nodes():
        fitting = int(node.cpus / cpus + 1e-9)
        if gpus > 0:
            by_gpu = int(1 / gpus + 1e-9) * int(node.gpus) if gpus <= 1 else int(node.gpus / gpus)
            fitting = min(fitting, by_gpu)
        found += fitting
    return found
