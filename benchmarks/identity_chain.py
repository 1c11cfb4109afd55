"""What stages cost that change nothing: processor time of a round with them, beside one without any.

    RAYSIM_DATA=… python benchmarks/identity_chain.py A B          # workloads of benchmarks/speed.py; a minute

Both runs are in this process, in rows, and take turns of some rounds each; the figure is the median over the turns of
the ratio of their processor seconds, which other work on the machine hardly changes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers.workloads import WORKLOADS, Federation, prepare

from raysim import Experiment, Simulation

IDENTITY = "raysim.aggregation:UpdateStage"
"""A stage as it stands changes nothing."""
TURNS, ROUNDS, STAGES = 40, 25, 1


def main() -> None:
    """Print the ratio for each workload."""
    for name in sys.argv[1:]:
        ratios = compare(name)
        low, high = np.quantile(ratios, (0.25, 0.75))
        print(
            f"{name}: {STAGES} identity stage costs {100 * (median(ratios) - 1):+.2f} % "
            f"(quartiles {100 * (low - 1):+.2f} to {100 * (high - 1):+.2f} %, {TURNS} turns of {ROUNDS} rounds)"
        )


def compare(name: str) -> list[float]:
    """Ratios of processor seconds, a pair of turns each."""
    with tempfile.TemporaryDirectory() as folder:
        workload = WORKLOADS[name]
        place, _ = prepare(workload, Path(folder))
        federation = Federation.load(place)
        runs = [
            started(workload, federation, f"{folder}/{len(stages)}", stages) for stages in ([], STAGES * [IDENTITY])
        ]
        for run in runs:
            spent(run)  # the first rounds find their memory
        found = []
        for turn in range(TURNS):
            order = (0, 1) if turn % 2 else (1, 0)
            seconds = {which: spent(runs[which]) for which in order}
            found.append(seconds[1] / seconds[0])
        return found


def started(workload: Any, federation: Federation, folder: str, stages: list[str]) -> Iterator[Any]:
    """The rounds of a run."""
    values = {
        "rounds": (TURNS + 2) * ROUNDS,
        "cohort": workload.cohort,
        "data": {"partition": {"name": "natural"}, "test": 0.0, "cache": f"{folder}/shards", "label_histograms": False},
        "model": {"name": workload.model},
        "client": {"optimizer": {"name": "sgd", "lr": workload.lr}, "batch_size": workload.batch},
        "training": {"engine": "rows", "compile": False},
        "aggregation": {"stages": stages},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": folder, "report": False, "clients": False, "checkpoint_every": 0},
    }
    owners = np.repeat(np.arange(workload.clients), np.diff(federation.bounds))
    data = {"x": federation.x, "y": federation.y, "client": owners}
    return iter(Simulation(Experiment.parse(values), data=data))


def spent(run: Iterator[Any]) -> float:
    """Processor seconds of a turn."""
    began = time.process_time()
    for _ in range(ROUNDS):
        next(run)
    return time.process_time() - began


if __name__ == "__main__":
    main()
