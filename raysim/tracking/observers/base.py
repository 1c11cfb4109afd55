"""What an observer is: the calls that tell it how a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, RunSummary

NoteLevel = Literal["info", "warning", "error"]


class Observer(Protocol):
    """Told of a run while it goes on: a display, a tracker, a live page.

    The order of calls: `preparing` for each thing that takes seconds before the run begins, then `start`, then rounds
    and notes, then `finish`, which is called however the run ends. A run that fails before `start` may end without
    `finish`. All calls come from the process that drives the run, one at a time, and the run waits for each of them.

    An observer cannot stop a run: the first call that raises is reported in a warning and in the run's log, and the
    observer gets no further calls. `KeyboardInterrupt` passes. Its constructor may raise: the run is then refused
    before anything is prepared. So a tracker checks its arguments there, and connects in `start`.

    Every method does nothing here; a subclass overrides the ones it needs. A class of your own with
    these methods, `clients` apart, is an observer without being a subclass.

    Example:
        >>> class Accuracies(Observer):
        ...     def round(self, row):
        ...         print(row.round, row.metrics.get("test/accuracy"))
        >>> with Simulation(experiment, progress=["plain", Accuracies()]) as simulation:
        ...     simulation.run()
    """

    def preparing(self, what: str) -> None:
        """Something that may take seconds is about to be done: `building the shards`."""
        return

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """The run begins.

        Args:
            experiment: as resolved, every `auto` made concrete.
            facts: for display, in order: `run` (the run directory), `data`, `model`, `workers`, `engine`.
            after_round: rounds that a resumed run already has; 0 for a new one.
        """
        return

    def round(self, row: RoundRow) -> None:
        """A round was committed. A metric may be NaN, and a round may have none."""
        return

    def clients(self, round: int, values: Mapping[str, Float64]) -> None:
        """How a committed round's clients are distributed, told before the round itself. Need not be there.

        Args:
            round: from 1.
            values: for each quantity what was measured of the clients, `[n]` without NaN: `train/loss` of those that
                trained, and, after an evaluation on the clients' own samples, its metrics, such as `clients/accuracy`.
        """
        return

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """A line worth reading between the rounds."""
        return

    def finish(self, summary: RunSummary) -> None:
        """The run is over: finished, interrupted or failed, as `summary.reason` says."""
        return


METHODS = ("preparing", "start", "round", "note", "finish")
"""The methods that an observer must have; `clients` may be there, too."""
