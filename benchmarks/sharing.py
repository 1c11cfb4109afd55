"""What it costs on Ray to share a round over two actors, beyond its arithmetic (`round_costs.SHARING`).

    python benchmarks/sharing.py             # two minutes

Rounds of two clients with a step each, all of them shared, of models of 10,000 and of 200,000 parameters. What a run
learns of them is printed: the time between two shared rounds less what the clients' steps and the server's step are
predicted to take, with rounds ahead, as a run has them, and without.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa

from raysim import Experiment, Simulation
from raysim.execution.scheduling.round_costs import SHARING, RoundCosts

ROUNDS, FIRST = 300, 50
MODELS = {"10,000": {"dimensions": 1000}, "200,000": {"dimensions": 20_000}}
"""Softmax models of ten classes."""


def main() -> None:
    """Print the costs beside the constant."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    for parameters, shape in MODELS.items():
        for ahead in ("auto", 0):
            found = 1e3 * np.array(overheads(shape, ahead)[FIRST:])
            low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
            print(
                f"{parameters} parameters, rounds_ahead={ahead}: median {middle:.1f} ms, tenths {low:.1f} and "
                f"{high:.1f} ms of {len(found)} rounds; SHARING is {1e3 * SHARING:.1f} ms",
                flush=True,
            )


def overheads(shape: dict[str, int], ahead: int | str) -> list[float]:
    """Seconds that each shared round took beyond what was predicted of it."""
    found: list[float] = []
    saw_shared, small = RoundCosts.saw_shared, RoundCosts.small

    def recorded(costs: RoundCosts, clients: pa.RecordBatch, ranges: int, interval: float | None) -> None:
        saw_shared(costs, clients, ranges, interval)
        if interval is not None:
            found.append(costs._overheads[-1])

    patched: Any = RoundCosts
    patched.saw_shared, patched.small = recorded, lambda *given, **named: False
    try:
        with tempfile.TemporaryDirectory() as folder, Simulation(experiment(folder, shape, ahead)) as simulation:
            simulation.run()
    finally:
        patched.saw_shared, patched.small = saw_shared, small
    return found


def experiment(folder: str, shape: dict[str, int], ahead: int | str) -> Experiment:
    """Rounds of two small clients on two actors."""
    return Experiment.parse(
        {
            "rounds": ROUNDS,
            "cohort": 2,
            "data": {
                "source": {"name": "synthetic_virtual", "clients": 100, "samples": 10, **shape},
                "label_histograms": False,
            },
            "model": "softmax",
            "training": {"engine": "sequential"},
            "evaluation": {"every": 0},
            "execution": {"executor": "ray", "actors": 2, "rounds_ahead": ahead},
            "tracking": {"directory": folder, "report": False, "clients": False, "checkpoint_every": 0},
        }
    )


if __name__ == "__main__":
    main()
