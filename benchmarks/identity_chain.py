"""What stages cost that change nothing: processor time of a round with them, beside one without any.

    RAYSIM_DATA=… python benchmarks/identity_chain.py A B          # workloads of benchmarks/speed.py; a minute

Both runs are in this process, in rows, and take turns of some rounds each. Processor seconds are compared at the lower
quartile of the turns, where other work on the machine disturbs them least, and at the median.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers.workloads import WORKLOADS, Federation, prepare

from raysim import Experiment, Simulation

IDENTITY = "raysim.aggregation:UpdateStage"
"""A stage as it stands changes nothing."""
TURNS, ROUNDS, STAGES = 40, 20, 1


def main() -> None:
    """Print the ratio for each workload."""
    for name in sys.argv[1:]:
        plain, staged = compare(name)
        fast, median = (float(np.quantile(staged, q) / np.quantile(plain, q)) for q in (0.25, 0.5))
        print(
            f"{name}: {STAGES} identity stage costs {100 * (fast - 1):+.2f} % at the lower quartile of {TURNS} turns "
            f"of {ROUNDS} rounds, {100 * (median - 1):+.2f} % at the median; {1e3 * np.median(plain) / ROUNDS:.2f} ms "
            "a round without",
            flush=True,
        )


def compare(name: str) -> tuple[list[float], list[float]]:
    """Processor seconds of turns without stages, and with them."""
    with tempfile.TemporaryDirectory() as folder:
        workload = WORKLOADS[name]
        place, _ = prepare(workload, Path(folder))
        federation = Federation.load(place)
        chains: list[list[str]] = [[], STAGES * [IDENTITY]]
        rounds = (TURNS + 2) * ROUNDS
        runs = [
            started(workload, federation, f"{folder}/{len(chain)}", rounds, {"aggregation": {"stages": chain}})
            for chain in chains
        ]
        for run in runs:
            spent(run, ROUNDS)  # the first rounds find their memory
        found: tuple[list[float], list[float]] = ([], [])
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                found[which].append(spent(runs[which], ROUNDS))
        return found


def started(workload: Any, federation: Federation, folder: str, rounds: int, more: dict[str, Any]) -> Iterator[Any]:
    """The rounds of a run in this process, in rows, with these sections beside those of the workload."""
    values = {
        "rounds": rounds,
        "cohort": workload.cohort,
        "data": {"partition": {"name": "natural"}, "test": 0.0, "cache": f"{folder}/shards", "label_histograms": False},
        "model": {"name": workload.model},
        "client": {"optimizer": {"name": "sgd", "lr": workload.lr}, "batch_size": workload.batch},
        "training": {"engine": "rows", "compile": False},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": folder, "report": False, "clients": False, "checkpoint_every": 0},
        **more,
    }
    owners = np.repeat(np.arange(workload.clients), np.diff(federation.bounds))
    data = {"x": federation.x, "y": federation.y, "client": owners}
    return iter(Simulation(Experiment.parse(values), data=data))


def spent(run: Iterator[Any], rounds: int) -> float:
    """Processor seconds of a turn."""
    began = time.process_time()
    for _ in range(rounds):
        next(run)
    return time.process_time() - began


if __name__ == "__main__":
    main()
