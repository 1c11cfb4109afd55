"""Synthetic rounds to make runs of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raysim.rounds.rows import RoundRow, client_batch

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
