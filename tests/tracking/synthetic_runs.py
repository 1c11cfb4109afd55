"""Synthetic rounds to make runs of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, client_batch
from raysim.tracking import EventLog, RunDirectory, RunTables

METRICS = ["train/loss", "test/accuracy", "clients/accuracy/mean"]


def make_row(round: int, **changed: object) -> RoundRow:
    """A plausible round; accuracy is measured every second one."""
    metrics = {"train/loss": 2.0 / round}
    if round % 2 == 0:
        metrics |= {"test/accuracy": 1 - 1 / round, "clients/accuracy/mean": 0.9 - 1 / round}
    values: dict[str, object] = {
        "round": round,
        "cohort": 4,
        "trained": 4,
        "dropped": 0,
        "clamped": 0,
        "samples": 40,
        "steps": 8,
        "transport_up": 100,
        "transport_down": 200,
        "lr": 0.1,
        "seconds": {"train": 0.5, "total": 0.75},
        "metrics": metrics,
    }
    return RoundRow(**(values | changed))


def make_clients(round: int, reason: str | None = None) -> pa.RecordBatch:
    """Four clients of a population of ten; the first is dropped if there is a reason."""
    clients = (np.arange(4) + round) % 10
    return client_batch(
        round=round,
        client=clients,
        samples=10 + clients,
        steps=np.full(4, 2),
        weight=np.full(4, 0.25),
        loss=np.full(4, 1.5, dtype=np.float32),
        seconds=np.full(4, 0.1),
        worker=np.arange(4) % 2,
        dropped=None if reason is None else [reason, None, None, None],
    )


def make_run(
    folder: Path, name: str, *, rounds: int = 3, end: str | None = "all rounds are done", **values: object
) -> Path:
    """A run of a few rounds in a folder; without an end it was killed."""
    run = RunDirectory.create_at(folder / name, Experiment.parse({"rounds": 4, **values}))
    with RunTables(run, METRICS) as tables, EventLog(run.log) as log:
        log.info("started")
        for number in range(1, rounds + 1):
            tables.append(make_row(number), make_clients(number))
        if end is not None:
            log.info("finished", reason=end, rounds=rounds)
    return run.path
