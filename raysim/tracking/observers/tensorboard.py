"""A run in TensorBoard: curves of all that rounds.parquet has, distributions over clients, the configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.observers.base import Observer
from raysim.tracking.observers.trackers import OVER_CLIENTS, needed, run_path, scalars


class TensorBoardObserver(Observer):
    """Writes an event file, by default into the folder `tensorboard` of the run; `tensorboard --logdir runs` shows it.

    The trials of a study have a folder each below the study's: `tensorboard --logdir STUDY` shows them side by side.
    """

    def __init__(self, folder: str | None = None) -> None:
        """Write into `folder`, or the run's own.

        Raises:
            ConfigError: tensorboard is not installed.
        """
        needed("tensorboard", "tensorboard")
        self._folder = folder
        self._file: Any = None

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """Open the event file; the configuration goes in as a text."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = Path(self._folder) if self._folder is not None else run_path(facts) / "tensorboard"
        self._file = EventFileWriter(str(folder))
        if after_round:  # what another sitting wrote of later rounds does not count
            start = SessionLog(status=SessionLog.START)
            self._file.add_event(Event(wall_time=time.time(), step=after_round + 1, session_log=start))
        indented = "".join(f"    {line}\n" for line in experiment.to_yaml().splitlines())
        self._add(after_round, text_pb("config", indented))

    def round(self, row: RoundRow) -> None:
        """A point for every number of the round."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for name, value in scalars(row).items():
            self._add(row.round, scalar_pb(name, value))

    def clients(self, round: int, values: Mapping[str, Float64]) -> None:
        """A histogram for every quantity."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        for name, found in values.items():
            self._add(round, histogram_pb(OVER_CLIENTS + name, found))

    def finish(self, summary: RunSummary) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _add(self, round: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._file.add_event(Event(wall_time=time.time(), step=round, summary=summary))
