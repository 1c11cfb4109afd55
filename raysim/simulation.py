"""`Simulation`: a run as a user has it in hand, from its opening over its rounds to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from raysim.closing import Closing
from raysim.config import Experiment
from raysim.errors import RunError
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.files import looked_up
from raysim.models import load_weights
from raysim.opening import Opening, open_run
from raysim.round_loop import Round, RoundLoop
from raysim.rounds.rows import RunSummary
from raysim.tracking import (
    CheckpointFolder,
    CheckpointPlace,
    GeneratedText,
    NoteLevel,
    Observing,
    ResultTable,
    RunDirectory,
    open_observers,
    past_run,
    read_generated,
)
from raysim.tracking.report.result_table import TableName, run_table
from raysim.tracking.resuming import ALLOW, may_change, refuse_other_curve
from raysim.training import NOTHING, HandedOver, ParameterLayout

__all__ = ["Round", "Simulation"]


class Simulation:
    """A federation that trains. Iterate it for a `Round` at a time, or `run()` it to the end.

    The end of the last round, or leaving it as a context manager, writes a checkpoint, the model and the report.

    Example:
        >>> from raysim import Experiment, Simulation
        >>> with Simulation(Experiment.parse({"rounds": 2, "execution": {"executor": "inprocess"}})) as simulation:
        ...     for r in simulation:
        ...         print(r.number, r.metrics["test/accuracy"])
    """

    def __init__(
        self,
        experiment: Experiment | str | PathLike[str] | Mapping[str, Any],
        *,
        model: nn.Module | None = None,
        data: Any = None,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        directory: str | Path | None = None,
        progress: Observing = None,
    ) -> None:
        """Prepare data, workers and a run directory; what is wrong with any of them is found out here.

        Args:
            experiment: what to run; the path of its YAML file, or a nested mapping, will do.
            model: a module of your own instead of `experiment.model`; it is not changed.
            data: your own instead of `experiment.data.source`: arrays, data sets, or what `raysim.adapters` makes of
                frames and data sets of Hugging Face; `docs/data.md` has the forms as a table.
            loss: your own instead of `experiment.training.loss`: a function of (output, target), or a loss module.
            metrics: your own beside `experiment.evaluation.metrics`: subclasses of `raysim.training.metrics.Metric`,
                metrics of torchmetrics, or functions of (output, target) that return a value a sample.
            directory: the run directory; by default a new one below `experiment.tracking.directory`.
            progress: who is told how the run goes, besides `experiment.tracking.observers`: `terminal`, `plain`, `json`
                or `quiet`, an `Observer` of your own, or a list of several; by default `quiet`, which prints warnings.

        Raises:
            RaysimError: the configuration, the data, the model or the placement is wrong; one line.
        """
        experiment = Experiment.of(experiment)
        observers = open_observers(progress, experiment.tracking.observers)
        place = CheckpointPlace(experiment.tracking.checkpoints)
        if directory is None:
            looked_up(experiment.tracking.directory)
        else:
            RunDirectory.refuse_taken(directory)
            place.refuse_taken(Path(directory).resolve().name)
        place.prove()
        handed = HandedOver(loss, tuple(metrics))
        prepared = prepare_job(experiment, model=model, data=data, handed=handed, tell=observers.preparing)
        resolved = prepared.experiment

        def create() -> RunDirectory:
            if directory is not None:
                return RunDirectory.create_at(directory, resolved)
            return RunDirectory.create(resolved.tracking.directory, resolved.name, resolved, taken=place.taken)

        notes: list[tuple[str, NoteLevel]] = []
        if handed != NOTHING:
            notes.append(("a loss or metrics were handed over in memory: a resume needs them again", "info"))
        if model is not None or data is not None:
            notes.append(("the model or the data were handed over in memory: a resume needs them again", "info"))
        self._start(prepared, open_run(prepared, create, observers, notes=notes), after_round=0)

    @classmethod
    def resume(
        cls,
        run: str | Path,
        *,
        overrides: Sequence[str] = (),
        model: nn.Module | None = None,
        data: Any = None,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        allow_different_bits: bool = False,
        progress: Observing = None,
    ) -> Self:
        """Continue a run after its newest usable checkpoint, to the bits that it would have come to anyway.

        Args:
            run: the run directory.
            overrides: `key.sub=value`, of what a resume may change: more rounds, stop rules, where it runs.
            model: the module that the run was started with, if it was handed over.
            data: the arrays that the run was started with, if they were handed over.
            loss, metrics: those that the run was started with, if they were handed over.
            allow_different_bits: go on although torch, the device or the processor differ from the recorded ones.
            progress: as for `Simulation`.

        Raises:
            RunError: there is no usable checkpoint, the model or data are others, or the bits would differ.
        """
        directory = RunDirectory.open(run)
        before = directory.experiment()
        experiment, recorded_place = before.updated(overrides), before.tracking.checkpoints
        observers = open_observers(progress, experiment.tracking.observers)
        refuse_other_curve(directory, experiment)
        handed = HandedOver(loss, tuple(metrics))
        prepared = prepare_job(experiment, model=model, data=data, handed=handed, tell=observers.preparing)
        directory.check_same_config(prepared.experiment, ignore=may_change(prepared.experiment))
        place = prepared.experiment.tracking.checkpoints
        CheckpointPlace(place).prove()
        recorded = directory.read_environment().get("bits")
        if recorded is None and not allow_different_bits:
            raise RunError(f"{directory.environment}: missing, so what the run ran on is not known; {ALLOW}")
        self = cls.__new__(cls)
        with CheckpointFolder.found(directory, place, recorded_place) as checkpoints:
            checkpoint, damaged = checkpoints.latest()
            notes = [f"{one.where}: passed over ({one.reason}); continuing after {checkpoint.where}" for one in damaged]
            opening = open_run(
                prepared,
                lambda: directory,
                observers,
                checkpoint=checkpoint,
                recorded_bits={} if allow_different_bits else recorded,
                notes=[(one, "warning") for one in notes],
            )
        self._start(prepared, opening, after_round=checkpoint.round)
        return self

    def _start(self, prepared: Prepared, opening: Opening, *, after_round: int) -> None:
        self.experiment, self._prepared = prepared.experiment, prepared
        self._executor, self._recorder = opening.executor, opening.recorder
        self._loop = RoundLoop(prepared, opening, after_round=after_round)
        self.directory: Path = opening.recorder.run.path
        self._closing = Closing(self._executor, self._recorder, self._loop)

    def __iter__(self) -> Iterator[Round]:
        """Train to the end, a committed round at a time.

        Raises:
            ClientError: a client's own code failed.
            RunError: a round cannot be applied.
        """
        if self._closing.closed:
            raise RunError(f"{self.directory}: this simulation is closed; continue the run with Simulation.resume")
        try:
            reason = yield from self._loop.rounds()
        except KeyboardInterrupt:
            self._closing.finish("interrupted")
            raise
        except GeneratorExit:  # the caller stops iterating, and may begin again
            raise
        except BaseException as error:
            self._closing.abandon(error)
            raise
        self._closing.finish(reason)

    def run(self) -> RunSummary:
        """Train to the end."""
        for _ in self:
            pass
        assert self._closing.summary is not None, "iterating to the end finishes the run"
        return self._closing.summary

    def model(self) -> nn.Module:
        """A module with the current global weights."""
        module = self._prepared.job.build_module(self._prepared.info, share_frozen=False, called=False)
        if self._closing.closed:
            load_weights(module, str(self._recorder.run.model), name=self.experiment.model.name)
        else:
            ParameterLayout(module).unpack(torch.from_numpy(self._executor.fetch(self._loop.server).copy()), module)
        return module

    def close(self) -> None:
        """Finish the run if it is not finished, and release the workers."""
        self._closing.finish("stopped")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._closing.finish("interrupted")
        elif isinstance(error, Exception):
            self._closing.abandon(error)
        self.close()

    @property
    def number(self) -> int:
        """The last committed round; 0 for none."""
        return self._loop.number

    @property
    def saved_round(self) -> int | None:
        """Round of the newest checkpoint, from which a resume goes on; None where there is none."""
        return self._recorder.saved_round or None

    @property
    def generated(self) -> tuple[GeneratedText, ...]:
        """What models of the run wrote so far (`evaluation.generate`), round by round from 0, the first model."""
        return read_generated(self._recorder.run)

    def table(self, name: TableName = "rounds") -> ResultTable:
        """The rounds so far, a row each, or the `clients`, a row for each client of each round."""
        return run_table(self._recorder.run, name)

    def _repr_html_(self) -> str:
        return past_run(self.directory)._repr_html_()

    @property
    def parameters(self) -> int:
        """Trainable values of the model."""
        return self._prepared.parameters
